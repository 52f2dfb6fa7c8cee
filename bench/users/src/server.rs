//! The process that is measured.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Ticks a second of the times in `/proc`, on every Linux that is in use.
const TICKS: u64 = 100;

pub struct Server {
    child: Child,
    hub: SocketAddr,
    pub edge: SocketAddr,
    /// That of the last event published.
    pub cursor: String,
}

impl Server {
    pub async fn start(binary: &str) -> Self {
        let addresses =
            ["--hub-addr", "127.0.0.1:0", "--edge-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"];
        let mut child = Command::new(binary)
            .arg("serve")
            .args(addresses)
            .args(["--ready-json", "--log-level", "warn"])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let stdout = child.stdout.take().expect("it is piped");
        let ready =
            BufReader::new(stdout).lines().next_line().await.expect("it speaks").expect("it is ready");
        let address = |name: &str| {
            let url = text(&ready, name).expect("it says where it listens");
            url.trim_start_matches("http://").parse().expect("an address")
        };
        Self { hub: address("hub"), edge: address("edge"), child, cursor: String::new() }
    }

    /// Events with these numbers, for everybody.
    pub async fn publish(&mut self, first: u64, count: u64) {
        let event = |number| {
            format!(
                r#"{{"specversion":"1.0","id":"{number}","source":"bench","type":"t","to":"all","data":{{"n":{number},"text":"{}"}}}}"#,
                "x".repeat(150)
            )
        };
        let events: Vec<_> = (first..first + count).map(event).collect();
        let body = format!("[{}]", events.join(","));
        let request = format!(
            "POST /v1/events HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/cloudevents-batch+json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(self.hub).await.expect("the hub listens");
        stream.write_all(request.as_bytes()).await.expect("it is written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it is answered");
        assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
        let last = answer.rfind(r#""cursor""#).expect("an answer has cursors");
        self.cursor = text(&answer[last..], "cursor").expect("a cursor").to_owned();
    }

    pub fn resident_bytes(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") << 10
    }

    pub fn processor_time(&self) -> Duration {
        let stat = self.proc("stat");
        // The second field is the program's name, in parentheses; it may hold spaces.
        let (_, fields) = stat.rsplit_once(')').expect("a stat line");
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().expect("ticks"))
            .sum();
        Duration::from_millis(ticks * 1_000 / TICKS)
    }

    fn proc(&self, file: &str) -> String {
        let id = self.child.id().expect("it runs");
        std::fs::read_to_string(format!("/proc/{id}/{file}")).expect("it runs")
    }
}

/// The text of this name in JSON.
fn text<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let rest = &json[json.find(&format!("\"{name}\""))? + name.len() + 2..];
    let rest = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    rest.split('"').next()
}
