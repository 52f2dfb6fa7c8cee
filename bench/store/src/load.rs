//! Publishers at the store's trait, as cheap as they can be: what is measured is to be the store.
//!
//! One thread has so many batches under way and takes their answers in order, as a connection that publishes without waiting
//! does. Each event has a key of its own; the payloads are a few thousand that come again and again, so that they lie in the
//! cache as those that were just received do. Answers are timed one in seven.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, ready};
use futures_util::{FutureExt as _, poll};
use galaxy_push_core::Now;
use galaxy_push_core::cursor::{Cursor, Epoch};
use galaxy_push_core::window::{Bounds, Window};
use galaxy_push_proto::v1;
use galaxy_push_store::disk::Options;
use galaxy_push_store::{Appended, Batch, Committed, DiskStore, Error, Key, Sink, Store};

use crate::EVENT_BYTES;
use crate::paced::Paced;

/// One answer in so many is timed: no power of two, so that it is not always the one at the same place of something.
const TIMED: u64 = 7;

/// A window, as a hub has one.
pub struct Readers {
    window: Mutex<Option<Window>>,
    bounds: Bounds,
}

impl Readers {
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { window: Mutex::default(), bounds })
    }

    /// How many entries and bytes are held.
    pub fn held(&self) -> (u64, u64) {
        self.window.lock().unwrap().as_ref().map_or((0, 0), |window| (window.len(), window.held_bytes()))
    }
}

impl Sink for Readers {
    fn begin(&self, base: Cursor) {
        *self.window.lock().unwrap() = Some(Window::new(base, self.bounds));
    }

    fn committed(&self, batches: &[Committed]) {
        let mut window = self.window.lock().unwrap();
        let Some(window) = &mut *window else { return };
        for each in batches {
            let at = Duration::from_millis(each.appended_unix_ms);
            window.append(each.cursor, each.traits, &each.frame, at);
        }
    }

    fn damaged(&self, _: Cursor, _: Cursor) {}
}

/// Batches without end.
pub struct Source {
    pool: Vec<Batch>,
    publisher: Arc<str>,
    next: u64,
    begun: Instant,
    /// Where the id of an event lies, if that is to be the one of its key: whoever reads a log of brokers takes the key from it.
    id_at: Option<usize>,
}

impl Source {
    /// The same, each event with the id of its key in it.
    pub fn with_ids(batch: usize) -> Self {
        let mut source = Self::new(batch);
        let (first, id) = (&source.pool[0].items[0].event, format!("{:016x}", 0));
        source.id_at = first.windows(id.len()).position(|bytes| bytes == id.as_bytes());
        source
    }

    /// Of so many events each.
    pub fn new(batch: usize) -> Self {
        let publisher: Arc<str> = Arc::default();
        let now = Now { mono: Duration::ZERO, unix_ms: 1_700_000_000_000 };
        let made = |n: usize| {
            let events: Vec<_> = (0..batch).map(|each| event(n * batch + each)).collect();
            Batch::encode(&events, &publisher, now)
        };
        let pool = (0..2_048_usize.div_ceil(batch)).map(made).collect();
        Self { pool, publisher, next: 0, begun: Instant::now(), id_at: None }
    }

    pub fn next(&mut self) -> Batch {
        let made = &self.pool[self.next as usize % self.pool.len()];
        let since = self.begun.elapsed();
        let (mono, unix_ms) = (since, 1_700_000_000_000 + since.as_millis() as u64);
        let mut batch = Batch { now: Now { mono, unix_ms }, stamp_unix_ms: unix_ms, ..made.clone() };
        let mut id = [b'0'; 16];
        for (index, item) in batch.items.iter_mut().enumerate() {
            let Some((key, _)) = &mut item.key else { continue };
            let (number, mut rest) = (self.next * 1_024 + index as u64, &mut id[..]);
            std::io::Write::write_fmt(&mut rest, format_args!("{number:016x}")).expect("it is short");
            *key = Key::new(&self.publisher, "/bench", std::str::from_utf8(&id).expect("it is ASCII"));
            if let Some(at) = self.id_at {
                let mut event = item.event.to_vec();
                event[at..at + id.len()].copy_from_slice(&id);
                item.event = event.into();
            }
        }
        self.next += 1;
        batch
    }
}

/// An event of `EVENT_BYTES` bytes of data.
pub fn event(n: usize) -> v1::Event {
    v1::Event {
        to: vec!["all".to_owned()],
        id: format!("{n:016x}"),
        source: "/bench".to_owned(),
        r#type: "t".to_owned(),
        data: vec![b'x'; EVENT_BYTES].into(),
        ..v1::Event::default()
    }
}

/// Where a store keeps its files.
#[derive(Clone, Copy)]
pub enum Disk<'a> {
    /// A folder in this one, which goes with the store.
    Real(&'a Path),
    Paced(Paced),
}

/// A store with a window behind it.
pub struct Opened {
    pub store: DiskStore,
    _scratch: Option<tempfile::TempDir>,
}

impl Opened {
    pub fn new(disk: Disk<'_>) -> Self {
        let (options, sink) = (Options::default(), Readers::new(Bounds::default()));
        match disk {
            Disk::Real(dir) => {
                let scratch = tempfile::tempdir_in(dir).expect("a scratch directory");
                let folder = scratch.path().join("data");
                let store = DiskStore::open(&folder, options, Epoch(1), 2, sink).expect("it opens");
                Self { store, _scratch: Some(scratch) }
            }
            Disk::Paced(paced) => {
                let store =
                    DiskStore::open_in(Arc::new(paced), options, Epoch(1), 2, sink).expect("it opens");
                Self { store, _scratch: None }
            }
        }
    }
}

/// What publishers got.
#[derive(Default)]
pub struct Got {
    pub events: u64,
    pub seconds: f64,
    /// How long answers took, in microseconds.
    pub waits_us: Vec<f64>,
}

/// What an append comes to.
pub type Answer<'a> = BoxFuture<'a, Result<Vec<Appended>, Error>>;

/// Publishes for so long with so many batches under way.
pub fn publish(store: &dyn Store, source: &mut Source, under_way: usize, span: Duration) -> Got {
    let (mut got, started) = (Got::default(), Instant::now());
    futures_executor::block_on(async {
        let mut answers = VecDeque::<(Answer<'_>, usize, Option<Instant>)>::with_capacity(under_way);
        let mut sent = 0_u64;
        loop {
            while answers.len() < under_way && started.elapsed() < span {
                let batch = source.next();
                let (events, asked) = (batch.items.len(), sent.is_multiple_of(TIMED).then(Instant::now));
                sent += 1;
                let mut answer = store.append(batch);
                // The first poll hands it over.
                let answer = match poll!(&mut answer) {
                    Poll::Ready(answered) => ready(answered).boxed(),
                    Poll::Pending => answer,
                };
                answers.push_back((answer, events, asked));
            }
            let Some((answer, events, asked)) = answers.pop_front() else { break };
            let appended = answer.await.expect("a disk that works takes it");
            assert!(appended.iter().all(|each| !each.duplicate), "a duplicate costs no sync");
            got.events += events as u64;
            got.waits_us.extend(asked.map(|asked| asked.elapsed().as_secs_f64() * 1e6));
        }
    });
    got.seconds = started.elapsed().as_secs_f64();
    got
}

/// Publishes for so long, one batch at a time: how long each answer took, in microseconds.
pub fn publish_timed(store: &dyn Store, source: &mut Source, span: Duration) -> Vec<f64> {
    let (mut waits_us, started) = (Vec::new(), Instant::now());
    while started.elapsed() < span {
        let (batch, asked) = (source.next(), Instant::now());
        futures_executor::block_on(store.append(batch)).expect("a store that works takes it");
        waits_us.push(asked.elapsed().as_secs_f64() * 1e6);
    }
    waits_us
}
