//! Strangers that take what they can: connections, places, file descriptors.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::http2::{Http2, address, connect_from};
use crate::world::{BINARY, Folder, PATIENCE, Server};

/// The binary with so few file descriptors.
fn with_descriptors(folder: &Folder, count: u32, args: &[&str]) -> Command {
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile={count}")).arg(BINARY).args(args).env_clear().current_dir(folder.path(""));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The status and body of an answer, if there is one.
fn ask(url: &str, head: &str, body: &str) -> Option<String> {
    let mut socket = TcpStream::connect(address(url)).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let length = body.len();
    write!(socket, "{head} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\ncontent-type: application/cloudevents+json\r\nauthorization: Bearer {TOKEN}\r\n\r\n{body}").ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    (!answer.is_empty()).then_some(answer)
}

/// Asks until the answer is as it should be. Returns how long that took.
async fn until(what: &str, ask: impl Fn() -> Option<String>, expected: impl Fn(&str) -> bool) -> Duration {
    let (from, mut last) = (Instant::now(), None);
    while from.elapsed() < PATIENCE {
        last = ask();
        if last.as_deref().is_some_and(&expected) {
            return from.elapsed();
        }
        sleep(Duration::from_millis(50)).await; // there is nothing to wait on: the question is when the answer changes
    }
    panic!("{what}: {last:?}");
}

const TOKEN: &str = "planted-token-of-the-backend-5d1f";

const CREDENTIALS: &str = r#"
[[identity]]
name = "backend"
role = "publisher"
token-file = "backend.token"
recipients = ["user:*"]
"#;

fn event(id: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"{id}","source":"/s","type":"t","to":"user:1"}}"#)
}

const POST: &str = "POST /v1/events";

/// The fault: one refused request each over HTTP/2, and the connections kept every publisher out.
#[tokio::test]
async fn strangers_do_not_lock_publishers_out() {
    let folder = Folder::new("strangers");
    folder.write("credentials.toml", CREDENTIALS);
    folder.write("backend.token", TOKEN);
    let args = [
        "hub",
        "--hub-addr",
        "127.0.0.1:0",
        "--admin-addr",
        "127.0.0.1:0",
        "--hub-credentials",
        "credentials.toml",
    ];
    let hub = Server::start(with_descriptors(&folder, 160, &args));
    let mut strangers = Vec::new();
    for number in 0..140_u8 {
        let mut stranger = Http2::new(connect_from([127, 0, 1, number % 20], &hub.hub));
        stranger.call(1, "/push.v1.Publisher/Head");
        strangers.push(stranger);
    }
    let took =
        until("a publish", || ask(&hub.hub, POST, &event("a")), |answer| answer.contains(" 200 ")).await;
    assert!(took < Duration::from_secs(10), "{took:?}");
    let took = until("a probe", || ask(&hub.hub, "GET /livez", ""), |answer| answer.contains(" 200 ")).await;
    assert!(took < Duration::from_secs(10), "{took:?}");
    let metrics = ask(&hub.admin, "GET /metrics", "").unwrap();
    for line in [
        "push_places_max{listener=\"hub\",kind=\"stranger\"}",
        "push_places{listener=\"hub\",kind=\"known\"}",
        "process_max_fds 160",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let idle = r#"push_places{listener="hub",kind="stranger"} 0"#;
    until("their places are free", || ask(&hub.admin, "GET /metrics", ""), |metrics| metrics.contains(idle))
        .await;
    drop(strangers);
    hub.process.signal("TERM");
    let log = hub.process.end().stderr;
    assert_eq!(log.matches("every place is taken").count(), 1, "{log}");
}

/// The fault: idle strangers took a gateway's way to its hub, and its probes.
#[tokio::test]
async fn idle_strangers_take_no_descriptor_from_upstream_and_probes() {
    let folder = Folder::new("descriptors");
    let hub_args = ["hub", "--hub-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"];
    let hub = Server::start(folder.command(&hub_args));
    let args = ["gateway", "--hub", &hub.hub, "--edge-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"];
    let gateway = Server::start(with_descriptors(&folder, 64, &args));
    let ready = |answer: &str| answer.contains(" 200 ") && answer.contains("[+]hub");
    let readyz = || ask(&gateway.admin, "GET /readyz?verbose", "");
    until("the gateway begins", readyz, ready).await;

    let strangers: Vec<_> = (0..64).map(|_| TcpStream::connect(address(&gateway.edge)).unwrap()).collect();
    assert!(ask(&gateway.admin, "GET /livez", "").unwrap().contains(" 200 "), "at once");
    let hub_at = hub.hub.split("//").nth(1).unwrap().to_owned();
    drop(hub);
    until("the hub is gone", readyz, |answer| answer.contains("[-]hub")).await;
    let hub = Server::start(folder.command(&["hub", "--hub-addr", &hub_at, "--admin-addr", "127.0.0.1:0"]));
    let streams: Vec<_> = (0..40)
        .map(|user| {
            let mut socket = TcpStream::connect(address(&gateway.edge)).unwrap();
            write!(socket, "GET /v1/stream?user={user} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
            socket
        })
        .collect();
    until("the hub is back", readyz, ready).await;
    let livez = || ask(&gateway.edge, "GET /livez", "");
    until("probes at the edge, at the limit", livez, |answer| answer.contains(" 200 ")).await;
    // Any other status would end it for good.
    let event_source = || {
        let mut socket = TcpStream::connect(address(&gateway.edge)).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let head = "host: localhost\r\naccept: text/event-stream";
        write!(socket, "GET /v1/stream?user=1 HTTP/1.1\r\n{head}\r\n\r\n").ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?; // to its end: the connection is closed behind it
        Some(answer)
    };
    let sent_away = |answer: &str| {
        answer.contains(" 200 ") && answer.contains("\nretry: ") && answer.contains("event: push.goodbye\n")
    };
    until("an EventSource, at the limit", event_source, sent_away).await;
    let published = ask(&gateway.edge, POST, &event("a"));
    assert!(published.as_ref().is_some_and(|answer| answer.contains(" 200 ")), "{published:?}");
    drop((strangers, streams, hub));
    gateway.process.signal("TERM");
    let log = gateway.process.end().stderr;
    assert!(log.contains("file descriptors") && log.contains("\"limit\":64"), "{log}");
    assert!(!log.contains("cannot accept connections"), "{log}");
}

/// The fault: one publisher's idle streams took every place of the known.
#[tokio::test]
async fn one_publisher_does_not_take_the_places_of_others() {
    const OTHER: &str = "planted-token-of-another-81c2";
    let folder = Folder::new("shares");
    let other = CREDENTIALS.replace("backend", "other");
    folder.write("credentials.toml", [CREDENTIALS, &other].concat());
    folder.write("backend.token", TOKEN);
    folder.write("other.token", OTHER);
    let mut args = vec!["hub", "--hub-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"];
    args.extend(["--hub-credentials", "credentials.toml"]);
    let hub = Server::start(with_descriptors(&folder, 160, &args));
    let metrics = || ask(&hub.admin, "GET /metrics", "");
    let figure = |name: &str, metrics: &str| -> usize {
        let name = format!("{name}{{listener=\"hub\",kind=\"known\"}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap();
        value.trim_end_matches(".0").parse().unwrap()
    };
    let most = figure("push_places_max", &metrics().unwrap());
    let stream = |token: &str, from: usize| {
        let mut peer = Http2::new(connect_from([127, 0, 3, from as u8], &hub.hub));
        let bearer = format!("Bearer {token}");
        assert!(peer.call_with(1, "/push.v1.Publisher/PublishStream", &[("authorization", &bearer)]));
        peer
    };
    let taken = |count: usize| move |metrics: &str| figure("push_places", metrics) == count;
    let mut open: Vec<_> = (0..most / 2).map(|number| stream(TOKEN, number)).collect();
    until("half of the places", metrics, taken(most / 2)).await;
    open.extend((0..4).map(|number| stream(TOKEN, 100 + number)));
    open.push(stream(OTHER, 200));
    until("one more", metrics, taken(most / 2 + 1)).await;
    let published = ask(&hub.hub, POST, &event("a"));
    assert!(
        published.as_ref().is_some_and(|answer| answer.contains(" 200 ")),
        "single publishes need no place"
    );
    assert!(taken(most / 2 + 1)(&metrics().unwrap()));
    drop(open);
}

/// The fault: answers that nobody took were under way for ever, and the admin listener has few places.
#[tokio::test]
async fn who_takes_no_answer_does_not_lock_probes_out() {
    let folder = Folder::new("untaken");
    let hub =
        Server::start(folder.command(&["hub", "--hub-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"]));
    let mut crowding = Vec::new();
    for number in 0..64_u8 {
        let mut peer = Http2::without_window(connect_from([127, 0, 2, number % 20], &hub.admin));
        assert!(peer.get(1, ["/livez", "/metrics"][usize::from(number % 2)]));
        crowding.push(peer);
    }
    let took =
        until("a probe", || ask(&hub.admin, "GET /livez", ""), |answer| answer.contains(" 200 ")).await;
    assert!(took < Duration::from_secs(4), "{took:?}");
    let metrics = || ask(&hub.admin, "GET /metrics", "");
    let left = r#"push_places{listener="admin",kind="known"} 1"#;
    until("they are let go", metrics, |metrics| metrics.contains(left)).await;
    drop(crowding);
}

#[test]
fn the_soft_limit_of_descriptors_is_raised_and_said() {
    let folder = Folder::new("raised");
    let mut command = Command::new("prlimit");
    command.args([
        "--nofile=100:1000",
        BINARY,
        "hub",
        "--hub-addr",
        "127.0.0.1:0",
        "--admin-addr",
        "127.0.0.1:0",
    ]);
    command
        .env_clear()
        .current_dir(folder.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let hub = Server::start(command);
    assert!(ask(&hub.admin, "GET /metrics", "").unwrap().contains("\nprocess_max_fds 1000"));
    let line = hub.process.stderr.find("file descriptors");
    assert!(line.contains("\"limit\":1000") && line.contains("\"raised_from\":100"), "{line}");
}
