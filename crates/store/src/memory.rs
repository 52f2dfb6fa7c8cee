//! The store that keeps nothing but the order and the standing records: events live in the hub's window, nowhere else.
//!
//! For development, and where a gap after a hub restart is acceptable. An acknowledgement means "held in this hub's
//! window"; when the process ends the log ends, and the next one begins a new epoch, so readers are told.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{self, BoxFuture, FutureExt as _};
use galaxy_push_core::cursor::{Cursor, Epoch, Seq};
use galaxy_push_core::frame::{LOG_FRAME_OVERHEAD_BYTES, LogKind, put_log_frame};
use galaxy_push_core::window::Traits;

use crate::batch::Batch;
use crate::dedup::{Bounds, Content, Dedup, Key, Known};
use crate::standing::{self, Standing};
use crate::{Appended, Committed, Error, Maker, Refused, Sink, Store};

/// Orders events in memory.
pub struct MemoryStore {
    sink: Arc<dyn Sink>,
    log: Mutex<Log>,
}

/// Under one lock, together with the call to the sink: so the sink's order is the log's, and nothing comes between the
/// events of a batch.
struct Log {
    head: Cursor,
    /// The position each remembered event got; an ephemeral one has none.
    published: Dedup<Option<Seq>>,
    standing: Standing,
    /// The latest time seen. Batches are stamped before the lock is taken, so they may arrive a little out of order.
    now: Duration,
}

impl MemoryStore {
    /// An empty log in this epoch, which must never have been used before: draw it at random. It holds the default
    /// number of standing records.
    #[must_use]
    pub fn new(epoch: Epoch, dedup: Bounds, sink: Arc<dyn Sink>) -> Self {
        Self::with_records(epoch, dedup, standing::RECORDS_MAX, sink)
    }

    /// As [`MemoryStore::new`], with room for so many standing records of each kind.
    #[must_use]
    pub fn with_records(epoch: Epoch, dedup: Bounds, records_max: usize, sink: Arc<dyn Sink>) -> Self {
        let head = Cursor::start(epoch);
        sink.begin(head);
        let (published, standing) = (Dedup::new(dedup), Standing::new(records_max));
        Self { sink, log: Mutex::new(Log { head, published, standing, now: Duration::ZERO }) }
    }

    /// Makes a memory store for a hub.
    #[must_use]
    pub fn maker(epoch: Epoch, dedup: Bounds) -> Maker {
        Self::maker_with_records(epoch, dedup, standing::RECORDS_MAX)
    }

    /// As [`MemoryStore::maker`], with room for so many standing records.
    #[must_use]
    pub fn maker_with_records(epoch: Epoch, dedup: Bounds, records_max: usize) -> Maker {
        Box::new(move |sink| Ok(Arc::new(Self::with_records(epoch, dedup, records_max, sink))))
    }

    /// Reads or trims the log under its lock. After a panic in an append this still works, while [`Self::commit`] refuses.
    fn with_state<T>(&self, f: impl FnOnce(&mut Log) -> T) -> T {
        f(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn commit(&self, batch: Batch) -> Result<Vec<Appended>, Error> {
        // A panic in here may have given out positions that the sink never saw: going on could hide a hole.
        let broken = |_| Refused::Unavailable("an earlier append did not finish; restart the hub".to_owned());
        let mut log = self.log.lock().map_err(broken)?;
        log.now = log.now.max(batch.now.mono);
        if let Some(seq) = log.known(&batch)? {
            let cursor = seq.map(|seq| Cursor { seq, ..log.head });
            return Ok(vec![Appended { cursor, duplicate: true }; batch.items.len()]);
        }
        let changes = batch.items.iter().filter_map(|item| item.change.as_ref());
        log.standing
            .check(changes, batch.publisher.as_ref(), batch.now.unix_ms)
            .map_err(Refused::StandingFull)?;
        let mut committed = Vec::with_capacity(batch.items.len());
        let mut results = Vec::with_capacity(batch.items.len());
        let now = log.now;
        // All frames of a batch lie in one piece of memory.
        let frame_bytes = batch.items.iter().map(|item| item.event.len() + LOG_FRAME_OVERHEAD_BYTES).sum();
        let (mut frames, mut lengths) =
            (Vec::with_capacity(frame_bytes), Vec::with_capacity(batch.items.len()));
        for item in batch.items {
            let ephemeral = item.traits.has(Traits::EPHEMERAL);
            let known = item.key.as_ref().and_then(|(key, content)| {
                match log.published.look_up(key, *content, now) {
                    Known::Same(seq) => Some(seq),
                    // `Other` was refused before anything changed.
                    Known::No | Known::Other => None,
                }
            });
            let seq = known.unwrap_or_else(|| (!ephemeral).then(|| log.head.next().seq));
            let cursor = seq.map(|seq| Cursor { seq, ..log.head });
            results.push(Appended { cursor, duplicate: known.is_some() });
            if known.is_some() {
                continue;
            }
            if let Some((key, content)) = item.key {
                log.published.remember(key, content, seq, now);
            }
            if let Some(change) = &item.change {
                log.standing.apply(change, batch.publisher.as_ref(), batch.now.unix_ms);
            }
            log.head = cursor.unwrap_or(log.head);
            let (kind, traits, appended_unix_ms) = (item.kind, item.traits, batch.stamp_unix_ms);
            let start = frames.len();
            put_log_frame(&mut frames, kind, cursor, &item.event, appended_unix_ms);
            lengths.push(frames.len() - start);
            let frame = Bytes::new(); // cut off the others below
            committed.push(Committed { kind, cursor: log.head, traits, frame, appended_unix_ms });
        }
        let mut frames = Bytes::from(frames);
        for (each, length) in committed.iter_mut().zip(lengths) {
            each.frame = frames.split_to(length);
        }
        if let Some((key, content)) = batch.key {
            let last = results.last().and_then(|last: &Appended| last.cursor).map(|cursor| cursor.seq);
            log.published.remember(key, content, last, now);
        }
        if let Some((_, before_the_last)) = committed.split_last_mut() {
            before_the_last.iter_mut().for_each(|event| event.traits = event.traits.with(Traits::CONTINUES));
            // Under the log's lock: the sink is handed batches in the order of their positions.
            self.sink.committed(&committed);
        }
        Ok(results)
    }
}

impl Log {
    /// The position of the records of this batch, if they were published before. Events are known each by itself.
    fn known(&mut self, batch: &Batch) -> Result<Option<Option<Seq>>, Refused> {
        if let Some((key, content)) = &batch.key {
            return match self.published.look_up(key, *content, self.now) {
                Known::Same(seq) => Ok(Some(seq)),
                Known::Other => Err(Refused::IdReused { item: None }),
                Known::No => Ok(None),
            };
        }
        let mut here = HashMap::<&Key, Content>::new(); // looked up only, never iterated
        for (index, item) in batch.items.iter().enumerate() {
            let Some((key, content)) = &item.key else { continue };
            let before = here.insert(key, *content);
            if before.is_some_and(|before| before != *content)
                || self.published.look_up(key, *content, self.now) == Known::Other
            {
                return Err(Refused::IdReused { item: Some(index) });
            }
        }
        Ok(None)
    }
}

impl Store for MemoryStore {
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<Vec<Appended>, Error>> {
        future::lazy(move |_| self.commit(batch)).boxed()
    }

    fn head(&self) -> BoxFuture<'_, Result<Cursor, Error>> {
        future::lazy(move |_| Ok(self.with_state(|log| log.head))).boxed()
    }

    fn dedup_horizon(&self, now: Duration) -> Duration {
        self.with_state(|log| log.published.horizon(now))
    }

    fn trim(&self, now: Duration) {
        self.with_state(|log| {
            log.now = log.now.max(now);
            log.published.trim(log.now);
        });
    }

    fn standing(
        &self,
        after: Option<&standing::Key>,
        bytes_max: usize,
        bytes_each: usize,
        now_unix_ms: u64,
    ) -> standing::Page {
        self.with_state(|log| log.standing.page(after, bytes_max, bytes_each, now_unix_ms))
    }

    fn standing_count(&self, now_unix_ms: u64) -> standing::Count {
        self.with_state(|log| log.standing.count(now_unix_ms))
    }

    fn standing_fill(&self, kind: LogKind, publisher: Option<&str>, now_unix_ms: u64) -> standing::Fill {
        self.with_state(|log| log.standing.fill(kind, publisher, now_unix_ms))
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}
