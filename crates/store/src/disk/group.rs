//! What is written and made durable together: the bytes of one group, and what it will change once it is durable.
//!
//! Pure. The [`stage`](super::stage) fills it, the [`engine`](super::engine) sends it to the disk, [`visible`](super::visible) takes
//! over what it changes, and [`Group::deliver`] hands it to the sink and answers publishers. It gives no positions and knows no files.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use galaxy_push_core::cursor::{Cursor, Seq};
use galaxy_push_core::frame::{LogKind, put_log_frame};
use galaxy_push_core::window::Traits;

use super::format::GROUP_HEAD_BYTES;
use super::record::{Context, Known as KnownRecord, put_entry};
use crate::batch::Item;
use crate::dedup::{Content, Key};
use crate::standing::Change;
use crate::{Appended, Committed, Error, Sink};

/// To whom an answer goes.
pub(crate) trait Reply: Send {
    fn answer(self, answer: Result<Vec<Appended>, Error>);
}

/// What is written and made durable together.
#[derive(Debug)]
pub(crate) struct Group<R> {
    /// The records, behind room for the head.
    pub(crate) body: Vec<u8>,
    /// The last position before it.
    pub(crate) after: Seq,
    pub(crate) positions: u32,
    pub(crate) frame_bytes: u64,
    /// When the first and the last of what leaves a trace came, by the clock of the log.
    pub(crate) times: Option<(u64, u64)>,
    /// How many keys of whom it will have remembered; they are already, for now.
    pub(crate) keys: Vec<(Arc<str>, usize)>,
    pub(crate) changes: Vec<Changed>,
    /// To whom the results go, batch by batch.
    pub(crate) answers: Vec<(R, Vec<Appended>)>,
    pub(super) entries: Vec<Placed>,
    /// What the sink is handed: reused.
    committed: Vec<Committed>,
    /// The frames of what is for live readers only, and is not written.
    live: Vec<u8>,
    /// The context that the next record would have without one of its own.
    context: Option<Whose>,
}

/// What a standing record changes, in whose share, and when that was by the wall clock.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) change: Change,
    pub(crate) share: Option<Arc<str>>,
    pub(crate) wall_unix_ms: u64,
}

/// An entry, and where in the body its frame lies; or, of an ephemeral one, in what is not written.
#[derive(Debug)]
pub(super) struct Placed {
    kind: LogKind,
    pub(super) traits: Traits,
    cursor: Cursor,
    frame: Range<usize>,
    appended_unix_ms: u64,
}

/// Whose the records of a batch are, and when they were taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Whose {
    pub(super) publisher: Arc<str>,
    pub(super) share: Option<Arc<str>>,
    pub(super) wall_unix_ms: u64,
    pub(super) stamp_unix_ms: u64,
}

/// The most bytes of a group, unless one batch alone is larger.
const GROUP_BYTES_MAX: usize = 4 << 20;

impl<R> Default for Group<R> {
    fn default() -> Self {
        Self {
            body: Vec::new(),
            after: Seq::ZERO,
            positions: 0,
            frame_bytes: 0,
            times: None,
            keys: Vec::new(),
            changes: Vec::new(),
            answers: Vec::new(),
            entries: Vec::new(),
            committed: Vec::new(),
            live: Vec::new(),
            context: None,
        }
    }
}

impl<R> Group<R> {
    /// An empty group behind this position, in the memory of an empty one.
    pub(crate) fn after(mut self, after: Seq) -> Self {
        self.body.resize(GROUP_HEAD_BYTES, 0);
        Self { after, ..self }
    }

    pub(super) fn count_key(&mut self, publisher: &Arc<str>) {
        match self.keys.last_mut() {
            Some((last, keys)) if last == publisher => *keys += 1,
            _ => self.keys.push((publisher.clone(), 1)),
        }
    }

    /// Says whose the records behind it are, unless the last context says so. `publisher`: whose keys they have, if any.
    pub(super) fn put_context(&mut self, publisher: Option<&Arc<str>>, whose: &impl Fn(Arc<str>) -> Whose) {
        let publisher = match (publisher, &self.context) {
            (Some(publisher), _) => publisher.clone(),
            (None, Some(context)) => context.publisher.clone(),
            (None, None) => Arc::default(),
        };
        let whose = whose(publisher);
        if self.context.as_ref() != Some(&whose) {
            let Whose { publisher, share, wall_unix_ms, stamp_unix_ms } = &whose;
            let (wall_unix_ms, stamp_unix_ms) = (*wall_unix_ms, *stamp_unix_ms);
            Context { publisher, share: share.as_deref(), wall_unix_ms, stamp_unix_ms }.put(&mut self.body);
            self.context = Some(whose);
        }
    }

    /// Frames an item, once: what is written is what readers are handed. `continues`: an entry of its batch is written behind it.
    pub(super) fn put_entry(&mut self, item: &Item, cursor: Cursor, continues: bool, stamp_unix_ms: u64) {
        let Item { kind, traits, ref event, .. } = *item;
        let frame = if traits.has(Traits::EPHEMERAL) {
            let start = self.live.len();
            put_log_frame(&mut self.live, kind, None, event, stamp_unix_ms);
            start..self.live.len()
        } else {
            let written = if continues { traits.with(Traits::CONTINUES) } else { traits };
            let content = item.key.as_ref().map(|(_, content)| *content);
            let frame = put_entry(&mut self.body, kind, written, content, |out| {
                put_log_frame(out, kind, Some(cursor), event, stamp_unix_ms);
            });
            self.frame_bytes += frame.len() as u64;
            self.positions += 1;
            frame
        };
        self.entries.push(Placed { kind, traits, cursor, frame, appended_unix_ms: stamp_unix_ms });
    }

    /// Writes a key that no entry shows.
    pub(super) fn put_key(&mut self, key: &Key, content: Content, seq: Option<Seq>, at_unix_ms: u64) {
        let seq = seq.unwrap_or_default().0;
        KnownRecord { text: key.text(), content, seq, at_unix_ms, carried: false }.put(&mut self.body);
    }

    /// Whether it should take no more.
    pub(crate) const fn takes_no_more(&self) -> bool {
        self.body.len() >= GROUP_BYTES_MAX
    }

    /// Whether there is anything to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.body.len() == GROUP_HEAD_BYTES
    }

    /// The last position in it, if there is one.
    pub(crate) fn head(&self) -> Option<Cursor> {
        self.entries.last().map(|last| last.cursor)
    }

    /// Hands it to the sink, and then answers. `body` is what was written, without a mask: readers are handed slices of it.
    /// Returns an empty group.
    pub(crate) fn deliver(mut self, body: Bytes, sink: &dyn Sink) -> Self
    where
        R: Reply,
    {
        let live = Bytes::from(std::mem::take(&mut self.live));
        self.committed.extend(self.entries.drain(..).map(|placed| {
            let Placed { kind, traits, cursor, frame, appended_unix_ms } = placed;
            let frame = if traits.has(Traits::EPHEMERAL) { live.slice(frame) } else { body.slice(frame) };
            Committed { kind, cursor, traits, frame, appended_unix_ms }
        }));
        if !self.committed.is_empty() {
            // Before the answers: a publisher that has its answer must find its event in the window.
            sink.committed(&self.committed);
            self.committed.clear();
        }
        self.answers.drain(..).for_each(|(reply, results)| reply.answer(Ok(results)));
        // Unless somebody still looks at it.
        self.body = if body.is_unique() { body.into() } else { Vec::new() };
        self.body.clear();
        self.keys.clear();
        self.changes.clear();
        let Self { body, keys, changes, answers, entries, committed, .. } = self;
        Self { body, keys, changes, answers, entries, committed, ..Self::default() }
    }
}
