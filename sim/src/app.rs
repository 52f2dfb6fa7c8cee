//! An application around `PushClient`. Its handler fails and dawdles now and then; its process is killed and started
//! again, and then goes on from the cursor that its client last showed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use galaxy_push_client::{HandlerError, Item, PushClient};
use galaxy_push_proto::{json, v1};
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{Close, Cursor, Hop, Name, Open, What};
use prost::Message as _;
use tokio::time::sleep;

use crate::frames::{self, StreamLog};
use crate::net;
use crate::rng::{Rng, now_us};

/// What outlives the process: the cursor it stored.
pub type Disk = Arc<Mutex<String>>;

/// Runs until it is killed.
///
/// # Errors
///
/// When the client cannot be built.
pub async fn run(
    name: String,
    hub: String,
    disk: Disk,
    recorder: Recorder,
    mut rng: Rng,
) -> anyhow::Result<()> {
    recorder.record(now_us(), What::Start);
    let stored = disk.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let dialed = Arc::new(AtomicU64::new(0));
    let mut jitter = Rng::new(rng.draw(), "jitter");
    let dialing = dialed.clone();
    let mut journal = Journal::new(&name, recorder, dialed);
    let handler = move |item: Item| {
        let (fails, pause) = (rng.percent(3), rng.between(Duration::ZERO, Duration::from_millis(20)));
        let done = journal.take(&item, fails);
        async move {
            sleep(pause).await;
            if fails {
                return Err(HandlerError::msg("not today"));
            }
            let done = done.map_err(|error| HandlerError::msg(format!("{error:#}")))?;
            done.into_iter().for_each(|(recorder, what)| recorder.record(now_us(), what));
            Ok(())
        }
    };
    let client = PushClient::builder(name)
        .hub(&format!("http://{hub}:{}", net::PORT))
        .cursor(if stored.is_empty() { "oldest" } else { &stored })
        .connector(move |host, port| {
            dialing.store(now_us(), Ordering::Relaxed);
            net::connect(host, port)
        })
        .random(move || jitter.draw())
        .start(handler)?;
    let mut status = client.status();
    while status.changed().await.is_ok() {
        disk.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&status.borrow_and_update().cursor);
    }
    Ok(())
}

/// Writes down what the handler is given: its items are the frames of a stream, and a `Welcome` begins another one.
struct Journal {
    reader: Name,
    recorder: Recorder,
    stream: Option<StreamLog>,
    /// When the last connection was begun: before anything on its stream was sent.
    dialed: Arc<AtomicU64>,
    /// What the handler failed on: it comes again, and is the same frame.
    failed: Option<Bytes>,
    /// The cursor of the last item that it finished.
    finished: String,
}

/// What to write down once an item is finished.
type Done = Option<(Recorder, What)>;

impl Journal {
    fn new(name: &str, recorder: Recorder, dialed: Arc<AtomicU64>) -> Self {
        let reader = Name::from(name);
        Self { reader, recorder, stream: None, dialed, failed: None, finished: String::new() }
    }

    fn take(&mut self, item: &Item, fails: bool) -> anyhow::Result<Done> {
        let framed = item.frame().framed().clone();
        let again = self.failed.take().is_some_and(|failed| failed == framed);
        if !again {
            self.receive(item)?;
        }
        if fails {
            self.failed = Some(framed);
            return Ok(None);
        }
        if !item.cursor().is_empty() {
            item.cursor().clone_into(&mut self.finished);
        }
        Ok(match (item, frames::cursor(item.cursor())) {
            (Item::Event(_) | Item::Gap(_), Cursor::At(position)) => {
                Some((self.recorder.clone(), What::Handled { reader: self.reader.clone(), position }))
            }
            _ => None,
        })
    }

    fn receive(&mut self, item: &Item) -> anyhow::Result<()> {
        let frame = v1::PushEvent::decode(item.frame().message())?;
        if let Some(v1::push_event::Kind::Welcome(welcome)) = &frame.kind {
            self.begin(&frame.cursor, welcome.outcome());
        }
        let form = serde_json::from_slice(&json::frame(&frame, json::View::Full)).context("the JSON form")?;
        self.stream.as_ref().context("a frame before any welcome")?.frame(&form)
    }

    /// The client does not show what it presents, but the hub echoes it, unless it was asked for none.
    fn begin(&mut self, echo: &str, outcome: v1::Outcome) {
        if let Some(stream) = self.stream.take() {
            stream.record(What::Close(Close { stream: stream.stream, code: "ended".into() }));
        }
        let stream = StreamLog::new(&self.recorder, now_us);
        let presented = match (outcome, self.finished.as_str()) {
            (v1::Outcome::Fresh, "") => Cursor::Oldest,
            (v1::Outcome::Fresh, finished) => frames::cursor(finished),
            _ => frames::cursor(echo),
        };
        self.recorder.record(
            self.dialed.load(Ordering::Relaxed),
            What::Open(Open {
                stream: stream.stream,
                hop: Hop::Gateway,
                reader: self.reader.clone(),
                recipients: Vec::new(),
                presented,
                standing: false,
                collapses: false,
            }),
        );
        self.stream = Some(stream);
    }
}
