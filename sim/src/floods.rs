//! What no honest peer sends, in masses, against both listeners of a real process: they cut it off, or it costs nothing.
//!
//! Meanwhile honest readers, a `PushClient` at the hub and an SSE user at the edge, get an event every 50 ms; how late the
//! latest was says what the flood cost them. Run by `galaxy-push-chaos floods`.

mod honest;
mod raw;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use self::honest::Honest;
use self::raw::{Flood, Outcome};
use crate::measure;
use crate::real::{self, Process, host_and_port};

/// Frames of a flood, or pairs of frames.
const FRAMES: u32 = 20_000;

/// What a flood may leave in memory.
const BYTES_MAX: u64 = 64 << 20;

/// An honest reader has every event this soon, flood or not.
const LATE_MAX: Duration = Duration::from_secs(1);

/// Whoever does not finish the head of a request is cut off after 5 s.
const SLOW_HEAD: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(8));

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the process's log goes.
    pub out: PathBuf,
}

/// Floods both listeners; returns a table, as Markdown.
///
/// # Errors
///
/// When a flood costs too much, or honest readers pay for it.
pub async fn run(options: &Options, tell: fn(&str)) -> anyhow::Result<String> {
    std::fs::create_dir_all(&options.out)?;
    let arguments = ["serve", "--hub-addr", "127.0.0.1:0", "--edge-addr", "127.0.0.1:0"];
    let server = Process::start(&real::binary()?, &arguments, &options.out.join("serve.log"))?;
    let honest = Honest::start(&server.urls.hub, &server.urls.edge).await?;
    let mut table = String::from(
        "| what is sent | listener | frames written before the end | cut off | memory | processor | latest honest event |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for (listener, url) in [("hub", &server.urls.hub), ("edge", &server.urls.edge)] {
        let (host, port) = host_and_port(url)?;
        for flood in Flood::ALL {
            let row = flooded(&server, &honest, flood, listener, (&host, port)).await?;
            tell(&row);
            table += &format!("{row}\n");
        }
    }
    let (hub, edge) = (host_and_port(&server.urls.hub)?, host_and_port(&server.urls.edge)?);
    let heads = SlowHead::ALL.iter().flat_map(|head| [("hub", head, &hub), ("edge", head, &edge)]);
    honest.forget();
    let rows = heads.map(|(listener, head, (host, port))| slow_head(&honest, *head, listener, (host, *port)));
    for row in try_join_all(rows).await? {
        tell(&row);
        table += &format!("{row}\n");
    }
    honest.end().await?;
    Ok(table)
}

async fn flooded(
    server: &Process,
    honest: &Honest,
    flood: Flood,
    listener: &str,
    (host, port): (&str, u16),
) -> anyhow::Result<String> {
    let (memory, time) = (measure::resident_bytes(server.id())?, measure::processor_time(server.id())?);
    honest.forget();
    let outcome = flood.send(host, port, FRAMES).await?;
    let held = measure::resident_bytes(server.id())?.saturating_sub(memory);
    sleep(Duration::from_millis(300)).await; // an event that the flood delayed is due by now
    let time = measure::processor_time(server.id())?.saturating_sub(time);
    let late = honest.latest();
    let what = flood.what();
    ensure!(held < BYTES_MAX, "{what} at the {listener}: {} MiB more in memory", held >> 20);
    ensure!(late < LATE_MAX, "{what} at the {listener}: an honest reader waited {late:?} for an event");
    Ok(format!(
        "| {what} | {listener} | {} | {} | {:+.1} MiB | {:.2} s | {} ms |",
        outcome.sent,
        cut(&outcome),
        held as f64 / f64::from(1 << 20),
        time.as_secs_f64(),
        late.as_millis()
    ))
}

fn cut(outcome: &Outcome) -> String {
    match (outcome.goaway, outcome.closed) {
        (Some(code), true) => format!("GOAWAY {code}"),
        (None, true) => "closed".to_owned(),
        (_, false) if outcome.resets > 0 => format!("no; {} streams reset", outcome.resets),
        (_, false) => "no".to_owned(),
    }
}

/// Ways to begin a request and not to go on.
#[derive(Clone, Copy, Debug)]
enum SlowHead {
    /// A byte of an HTTP/1 head each 250 ms.
    Dripping,
    /// The preface of HTTP/2, and nothing more.
    PrefaceOnly,
    /// Nothing at all.
    Silent,
}

impl SlowHead {
    const ALL: [Self; 3] = [Self::Dripping, Self::PrefaceOnly, Self::Silent];

    const fn what(self) -> &'static str {
        match self {
            Self::Dripping => "an HTTP/1 head, a byte each 250 ms (slowloris)",
            Self::PrefaceOnly => "the preface of HTTP/2 and no request",
            Self::Silent => "a connection and no byte",
        }
    }
}

async fn slow_head(
    honest: &Honest,
    head: SlowHead,
    listener: &str,
    (host, port): (&str, u16),
) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect((host, port)).await?;
    let started = Instant::now();
    let mut drops =
        b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx-slow: ".iter().chain(std::iter::repeat(&b'x'));
    if let SlowHead::PrefaceOnly = head {
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00").await?;
    }
    let mut answer = [0_u8; 1024];
    while started.elapsed() < SLOW_HEAD.1 {
        if let (SlowHead::Dripping, Some(byte)) = (head, drops.next())
            && stream.write_all(&[*byte]).await.is_err()
        {
            break;
        }
        if let Ok(Ok(0) | Err(_)) = timeout(Duration::from_millis(250), stream.read(&mut answer)).await {
            break;
        }
    }
    let (after, late, what) = (started.elapsed(), honest.latest(), head.what());
    ensure!(
        (SLOW_HEAD.0..SLOW_HEAD.1).contains(&after),
        "{what} at the {listener}: cut off after {after:?}, not after 5 s"
    );
    ensure!(late < LATE_MAX, "{what} at the {listener}: an honest reader waited {late:?} for an event");
    let (after, late) = (after.as_secs_f64(), late.as_millis());
    Ok(format!("| {what} | {listener} | | after {after:.1} s | | | {late} ms |"))
}
