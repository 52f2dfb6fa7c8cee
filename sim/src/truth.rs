//! What a store has acknowledged: the truth of a log that leaves no second trace to be read.
//!
//! It is taken at the store's door: of each batch what was handed in, and where the answer says that it lies. What the store
//! then hands on to the hub's window is no part of it, so a window that is handed something else, in another order, twice or not
//! at all is judged by what was acknowledged. The answer counts whether or not the publisher ever got it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use galaxy_push_core::cursor::Cursor;
use galaxy_push_core::frame::LogKind;
use galaxy_push_proto::v1;
use galaxy_push_proto::v1::push_event::Kind;
use galaxy_push_store::batch::Item;
use galaxy_push_store::{Appended, Batch, Error, Maker, Sink, Store, standing};
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{LogLine, What};
use prost::Message as _;

use crate::log_lines::{log_line, place, record_standing};
use crate::rng::{UNIX_MS_START, now_us};

/// How many of the latest entries are kept to be summed up: more than any world publishes.
const KEPT: usize = 1 << 18;

/// What stands before each message of a gRPC stream.
const HEADER_BYTES: usize = 5;

/// Writes down what is acknowledged. Clones write down the same log.
#[derive(Clone, Debug)]
pub struct Truth {
    recorder: Recorder,
    entries: Arc<Mutex<VecDeque<Size>>>,
}

/// How large an entry is, and where.
#[derive(Clone, Copy, Debug)]
struct Size {
    cursor: Cursor,
    bytes: u64,
}

impl Truth {
    /// The truth of a log that begins.
    #[must_use]
    pub fn new(recorder: Recorder) -> Self {
        Self { recorder, entries: Arc::default() }
    }

    /// The log begins behind this place.
    pub fn begins(&self, base: Cursor) {
        self.recorder.record(now_us(), What::Head(place(base)));
    }

    /// The store has answered so for these items.
    pub fn acknowledged(&self, items: &[Item], answers: &[Appended]) {
        let appended = items.iter().zip(answers).filter(|(_, answer)| !answer.duplicate);
        let mut last = None;
        for (item, cursor) in appended.filter_map(|(item, answer)| Some((item, answer.cursor?))) {
            self.entry(item, cursor);
            last = Some(cursor);
        }
        if let Some(last) = last {
            self.recorder.record(now_us(), What::Head(place(last)));
        }
    }

    /// How many entries lie behind the first place up to the second, and how many bytes these are at the least.
    #[must_use]
    pub fn between(&self, after: Cursor, upto: Cursor) -> (u64, u64) {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let newest_first = entries.iter().rev().skip_while(|entry| entry.cursor != upto);
        let held = newest_first.take_while(|entry| entry.cursor != after);
        held.fold((0, 0), |(count, bytes), entry| (count + 1, bytes + entry.bytes))
    }

    fn entry(&self, item: &Item, cursor: Cursor) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push_back(Size { cursor, bytes: item.event.len() as u64 });
        if entries.len() > KEPT {
            entries.pop_front();
        }
        drop(entries);
        if item.kind != LogKind::Event {
            return record_standing(&self.recorder, place(cursor), item.kind, &item.event, now_us());
        }
        let Ok(event) = v1::Event::decode(item.event.clone()) else { return };
        let line = log_line(place(cursor), &event, now_us());
        let line = LogLine { bytes: frame_bytes(cursor, event), ..line };
        self.recorder.record(now_us(), What::Log(line));
    }
}

/// How long the frame of an event is.
fn frame_bytes(cursor: Cursor, event: v1::Event) -> u64 {
    let frame = v1::PushEvent {
        cursor: cursor.to_string(),
        appended_unix_ms: UNIX_MS_START,
        kind: Some(Kind::Event(event)),
    };
    (HEADER_BYTES + frame.encoded_len()) as u64
}

/// A store whose acknowledgements are written down.
struct Witnessed {
    store: Arc<dyn Store>,
    truth: Truth,
}

/// Opens a store in one process, and writes down what it acknowledges. It must be a new log, and have no other door.
#[must_use]
pub fn witnessed(maker: Maker, base: Cursor, truth: Truth) -> Maker {
    Box::new(move |sink: Arc<dyn Sink>| {
        truth.begins(base);
        Ok(Arc::new(Witnessed { store: maker(sink)?, truth }))
    })
}

impl Store for Witnessed {
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<Vec<Appended>, Error>> {
        async move {
            let items = batch.items.clone();
            let appended = self.store.append(batch).await?;
            self.truth.acknowledged(&items, &appended);
            Ok(appended)
        }
        .boxed()
    }

    fn head(&self) -> BoxFuture<'_, Result<Cursor, Error>> {
        self.store.head()
    }

    fn dedup_horizon(&self, now: Duration) -> Duration {
        self.store.dedup_horizon(now)
    }

    fn trim(&self, now: Duration) {
        self.store.trim(now);
    }

    fn standing(
        &self,
        after: Option<&standing::Key>,
        bytes_max: usize,
        bytes_each: usize,
        now_unix_ms: u64,
    ) -> standing::Page {
        self.store.standing(after, bytes_max, bytes_each, now_unix_ms)
    }

    fn standing_count(&self, now_unix_ms: u64) -> standing::Count {
        self.store.standing_count(now_unix_ms)
    }

    fn standing_fill(&self, kind: LogKind, publisher: Option<&str>, now_unix_ms: u64) -> standing::Fill {
        self.store.standing_fill(kind, publisher, now_unix_ms)
    }
}
