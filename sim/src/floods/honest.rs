//! Honest readers: a `PushClient` at the hub, a user over SSE at the edge. Each event says when it was published.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use galaxy_push_client::{HandlerError, Item, Publisher, PushClient};
use galaxy_push_proto::v1;
use galaxy_push_testkit::sse::SseParser;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::real::{clock_us, host_and_port};

/// The pause between two events.
const PUBLISH_EVERY: Duration = Duration::from_millis(50);

/// The ids of events begin with this; when they were published follows.
const ID: &str = "honest-";

/// The readers, and how late their events came.
#[derive(Debug)]
pub(super) struct Honest {
    late: Arc<Late>,
    stop: Arc<AtomicBool>,
    publishing: JoinHandle<anyhow::Result<u64>>,
    reading: JoinHandle<anyhow::Result<()>>,
    _client: PushClient,
}

/// How late events came, in microseconds, and how many came, of each reader.
#[derive(Debug, Default)]
struct Late {
    latest_us: AtomicU64,
    at_hub: AtomicU64,
    at_edge: AtomicU64,
    /// When the last one was published that both have.
    last_us: [AtomicU64; 2],
}

impl Honest {
    pub(super) async fn start(hub: &str, edge: &str) -> anyhow::Result<Self> {
        let (late, stop) = (Arc::new(Late::default()), Arc::new(AtomicBool::new(false)));
        let seen = late.clone();
        let client = PushClient::builder("honest").hub(hub).start(move |item: Item| {
            let taken = match &item {
                Item::Event(frame) => {
                    frame.view().event().map_or(Ok(()), |event| seen.received(0, event.id()))
                }
                _ => Ok(()),
            };
            async move { taken.map_err(|error| HandlerError::msg(format!("{error:#}"))) }
        })?;
        let reading = tokio::spawn(read(edge.to_owned(), late.clone()));
        let publisher = Publisher::builder().hub(hub).build()?;
        let publishing = tokio::spawn(publish(publisher, stop.clone()));
        let honest = Self { late, stop, publishing, reading, _client: client };
        for _ in 0..500 {
            if honest.late.last_us.iter().all(|last| last.load(Ordering::Relaxed) > 0) {
                return Ok(honest);
            }
            sleep(Duration::from_millis(10)).await;
        }
        bail!("the honest readers got nothing")
    }

    /// Looks only at what comes from now on.
    pub(super) fn forget(&self) {
        self.late.latest_us.store(0, Ordering::Relaxed);
    }

    /// How late the latest event was, one that is still missing included.
    pub(super) fn latest(&self) -> Duration {
        let now = clock_us();
        let waits = |last: &AtomicU64| now.saturating_sub(last.load(Ordering::Relaxed));
        // The next event is published a moment after the last one.
        let missing = self.late.last_us.iter().map(waits).max().unwrap_or_default();
        let missing = missing.saturating_sub(2 * PUBLISH_EVERY.as_micros() as u64);
        Duration::from_micros(self.late.latest_us.load(Ordering::Relaxed).max(missing))
    }

    /// Ends the traffic; each reader got every event since it began.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        ensure!(!self.reading.is_finished(), "the stream of the honest user ended: {:?}", self.reading.await);
        self.stop.store(true, Ordering::Relaxed);
        let last_us = self.publishing.await??;
        for _ in 0..200 {
            if self.late.last_us.iter().all(|last| last.load(Ordering::Relaxed) >= last_us) {
                return Ok(());
            }
            sleep(Duration::from_millis(10)).await;
        }
        bail!("an honest reader lacks the last event")
    }
}

impl Late {
    fn received(&self, reader: usize, id: &str) -> anyhow::Result<()> {
        let published_us: u64 = id.strip_prefix(ID).context("an event of somebody else")?.parse()?;
        self.latest_us.fetch_max(clock_us().saturating_sub(published_us), Ordering::Relaxed);
        self.last_us[reader].fetch_max(published_us, Ordering::Relaxed);
        [&self.at_hub, &self.at_edge][reader].fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Publishes until it is told to stop; says when it published last.
async fn publish(mut publisher: Publisher, stop: Arc<AtomicBool>) -> anyhow::Result<u64> {
    let mut last_us = 0;
    while !stop.load(Ordering::Relaxed) {
        last_us = clock_us();
        let event = v1::Event {
            id: format!("{ID}{last_us}"),
            to: vec!["all".into()],
            source: "honest".into(),
            r#type: "honest.event".into(),
            data: b"{}"[..].into(),
            data_content_type: "application/json".into(),
            ..v1::Event::default()
        };
        publisher.publish(vec![event]).await?;
        sleep(PUBLISH_EVERY).await;
    }
    Ok(last_us)
}

/// Reads the user's stream until it ends, which it must not.
async fn read(edge: String, late: Arc<Late>) -> anyhow::Result<()> {
    let (host, port) = host_and_port(&edge)?;
    let mut stream = TcpStream::connect((host, port)).await?;
    stream.write_all(b"GET /v1/stream?user=honest HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
    // The chunks' lengths stand on lines of their own, which the format of events ignores.
    let (mut parser, mut bytes) = (SseParser::new(), vec![0_u8; 16 << 10]);
    loop {
        let length = timeout(Duration::from_secs(30), stream.read(&mut bytes)).await??;
        ensure!(length > 0, "the stream ended");
        for event in parser.push(&bytes[..length]) {
            let Some(data) = event.data.filter(|_| !event.event.starts_with("push.")) else { continue };
            let form: serde_json::Value = serde_json::from_str(&data)?;
            late.received(1, form["id"].as_str().unwrap_or_default())?;
        }
    }
}
