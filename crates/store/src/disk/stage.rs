//! Gives positions, and puts what is appended together into groups, each of which is written and made durable at once.
//!
//! Pure. A position is given here, but nobody is told before its group is durable: until then what a group changes lies
//! beside the state that readers see, so that a group that cannot be written leaves nothing behind.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::RandomState;
use galaxy_push_core::cursor::{Cursor, Seq};
use galaxy_push_core::frame::{LogKind, put_log_frame};
use galaxy_push_core::window::Traits;

use super::engine::Reply;
use super::format::{GROUP_HEAD_BYTES, GroupHead, Sums};
use super::record::{Context, Known as KnownRecord, put_entry};
use super::visible::Visible;
use crate::batch::Item;
use crate::dedup::{Content, Dedup, Key};
use crate::standing::Change;
use crate::{Appended, Batch, Committed, Refused, Sink};

/// Where the next group goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The last position given.
    pub(crate) head: Cursor,
    /// The number of the last group.
    pub(crate) group: u64,
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    /// The length of the segment's file. 0: nothing can be written behind what an earlier life left there.
    pub(crate) segment_bytes: u64,
    /// The first segment that is needed.
    pub(crate) oldest: u64,
    /// The latest stamp.
    pub(crate) stamp_unix_ms: u64,
}

impl Place {
    /// In a segment of this length.
    pub(crate) const fn in_length(self, segment_bytes: u64) -> Self {
        Self { segment_bytes, ..self }
    }
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
    entries: Vec<Placed>,
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
struct Placed {
    kind: LogKind,
    traits: Traits,
    cursor: Cursor,
    frame: Range<usize>,
    appended_unix_ms: u64,
}

/// Whose the records of a batch are, and when they were taken.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Whose {
    publisher: Arc<str>,
    share: Option<Arc<str>>,
    wall_unix_ms: u64,
    stamp_unix_ms: u64,
}

/// What of a batch was published before.
enum Before {
    /// All of its records together; the position of the last.
    Whole(Option<Seq>),
    /// Each by itself.
    Items(Vec<Said>),
}

/// Whether an item was published before.
#[derive(Clone, Copy)]
enum Said {
    Never,
    /// With this position.
    Before(Option<Seq>),
    /// By the item with this index, in the same batch.
    Above(usize),
}

/// Stages batches. `R` is whatever says to whom an answer goes.
#[derive(Debug)]
pub(crate) struct Stager<R> {
    pub(crate) sums: Sums,
    /// Where the next group goes, if all before it are durable.
    pub(crate) at: Place,
    /// Gathers.
    pub(crate) open: Option<Group<R>>,
    /// What the groups that are not durable yet will change, in order.
    changes: Vec<(Change, Option<Arc<str>>)>,
    /// A group that is over, for its memory.
    spare: Option<Group<R>>,
}

/// The most bytes of a group, unless one batch alone is larger.
const GROUP_BYTES_MAX: usize = 4 << 20;

/// Memory beyond this is not kept for the next group, in bytes.
const SPARE_BYTES_MAX: usize = 8 << 20;

impl<R> Stager<R> {
    pub(crate) fn new(sums: Sums, at: Place) -> Self {
        Self { sums, at, open: None, changes: Vec::new(), spare: None }
    }

    /// Adds a batch to the open group; or refuses it, and gives the way to answer back.
    pub(crate) fn stage(
        &mut self,
        batch: Batch,
        reply: R,
        visible: &mut Visible,
    ) -> Result<(), (R, Refused)> {
        self.at.stamp_unix_ms = self.at.stamp_unix_ms.max(batch.stamp_unix_ms);
        visible.clock(batch.now.mono, self.at.stamp_unix_ms);
        let said = match Self::said_before(&batch, visible) {
            Ok(said) => said,
            Err(refused) => return Err((reply, refused)),
        };
        let items = match said {
            Before::Whole(seq) => {
                let cursor = seq.map(|seq| Cursor { seq, ..self.at.head });
                let results = vec![Appended { cursor, duplicate: true }; batch.items.len()];
                self.open().answers.push((reply, results));
                return Ok(());
            }
            Before::Items(items) => items,
        };
        let mut changes = batch.items.iter().filter_map(|item| item.change.as_ref()).peekable();
        if changes.peek().is_some() {
            let under_way = self.changes.iter().map(|(change, share)| (change, share.as_ref()));
            let (share, wall) = (batch.publisher.as_ref(), batch.now.unix_ms);
            if let Err(full) = visible.standing.check_behind(under_way, changes, share, wall) {
                return Err((reply, Refused::StandingFull(full)));
            }
        }
        self.append(batch, items, reply, &mut visible.published);
        Ok(())
    }

    fn open(&mut self) -> &mut Group<R> {
        let Self { open, spare, at, .. } = self;
        open.get_or_insert_with(|| spare.take().unwrap_or_default().after(at.head.seq))
    }

    fn append(&mut self, batch: Batch, said: Vec<Said>, reply: R, published: &mut Dedup<Option<Seq>>) {
        self.open();
        let Self { open: Some(group), at, changes, .. } = self else { return };
        let is_last = |(said, item): &(&Said, &Item)| {
            matches!(said, Said::Never) && !item.traits.has(Traits::EPHEMERAL)
        };
        let last = said.iter().zip(&batch.items).rposition(|each| is_last(&each));
        let (wall_unix_ms, stamp_unix_ms) = (batch.now.unix_ms, batch.stamp_unix_ms);
        let whose = |publisher| {
            let share = batch.publisher.clone();
            Whose { publisher, share, wall_unix_ms, stamp_unix_ms }
        };
        let now = Duration::from_millis(at.stamp_unix_ms);
        let mut remember = |group: &mut Group<R>, key: Key, content, seq| {
            group.count_key(key.publisher());
            published.remember_for_now(key, content, seq, now);
        };
        let (first, mut results) = (group.entries.len(), Vec::with_capacity(batch.items.len()));
        for (index, (item, said)) in batch.items.into_iter().zip(said).enumerate() {
            let before = match said {
                Said::Before(seq) => Some(seq.map(|seq| Cursor { seq, ..at.head })),
                Said::Above(above) => Some(results.get(above).and_then(|above: &Appended| above.cursor)),
                Said::Never => None,
            };
            if let Some(cursor) = before {
                results.push(Appended { cursor, duplicate: true });
                continue;
            }
            let publisher = item.key.as_ref().map(|(key, _)| key.publisher());
            group.put_context(publisher, &whose);
            let ephemeral = item.traits.has(Traits::EPHEMERAL);
            if !ephemeral {
                at.head = at.head.next();
            }
            group.put_entry(&item, at.head, last != Some(index), stamp_unix_ms);
            let cursor = (!ephemeral).then_some(at.head);
            results.push(Appended { cursor, duplicate: false });
            if let Some((key, content)) = item.key {
                if ephemeral {
                    group.put_key(&key, content, None, at.stamp_unix_ms);
                }
                remember(group, key, content, cursor.map(|cursor| cursor.seq));
            }
            if let Some(change) = item.change {
                let share = batch.publisher.clone();
                changes.push((change.clone(), share.clone()));
                group.changes.push(Changed { change, share, wall_unix_ms });
            }
        }
        if let Some((key, content)) = batch.key {
            let seq = results.last().and_then(|last| last.cursor).map(|cursor| cursor.seq);
            group.put_context(Some(key.publisher()), &whose);
            group.put_key(&key, content, seq, at.stamp_unix_ms);
            remember(group, key, content, seq);
        }
        if let Some((_, before_the_last)) = group.entries[first..].split_last_mut() {
            before_the_last.iter_mut().for_each(|each| each.traits = each.traits.with(Traits::CONTINUES));
            let (from, _) = group.times.unwrap_or((at.stamp_unix_ms, 0));
            group.times = Some((from, at.stamp_unix_ms));
        }
        group.answers.push((reply, results));
    }

    /// What of the batch was published before: its records all together, or events each by itself.
    fn said_before(batch: &Batch, visible: &mut Visible) -> Result<Before, Refused> {
        if let Some((key, content)) = &batch.key {
            return match visible.published.get(key, visible.now) {
                Some((same, seq)) if same == *content => Ok(Before::Whole(seq)),
                Some(_) => Err(Refused::IdReused { item: None }),
                None => Ok(Before::Items(vec![Said::Never; batch.items.len()])),
            };
        }
        let is_alone = batch.items.len() == 1;
        let mut here = HashMap::<&Key, (Content, usize), RandomState>::default(); // looked up only, never iterated
        let mut said = Vec::with_capacity(batch.items.len());
        for (index, item) in batch.items.iter().enumerate() {
            let Some((key, content)) = &item.key else {
                said.push(Said::Never);
                continue;
            };
            let (known, verdict) = match visible.published.get(key, visible.now) {
                Some((known, seq)) => (Some(known), Said::Before(seq)),
                None if is_alone => (None, Said::Never), // nothing else can be the same
                None => match here.entry(key) {
                    Entry::Occupied(above) => (Some(above.get().0), Said::Above(above.get().1)),
                    Entry::Vacant(new) => {
                        new.insert((*content, index));
                        (None, Said::Never)
                    }
                },
            };
            if known.is_some_and(|known| known != *content) {
                return Err(Refused::IdReused { item: Some(index) });
            }
            said.push(verdict);
        }
        Ok(Before::Items(said))
    }

    /// Puts the head before a group that is full enough. Returns its mask.
    pub(crate) fn seal(&mut self, group: &mut Group<R>) -> u8 {
        self.at.group += 1;
        let head = GroupHead {
            segment: self.at.segment,
            offset: self.at.offset,
            number: self.at.group,
            after: group.after,
            oldest: self.at.oldest,
            positions: group.positions,
            body_bytes: 0,
            flags: 0,
            mask: 0,
        };
        let mask = head.seal(&mut group.body, &self.sums);
        self.at.offset += group.body.len() as u64;
        mask
    }

    /// What a group has changed is visible now.
    pub(crate) fn forget(&mut self, group: &Group<R>) {
        self.changes.drain(..group.changes.len().min(self.changes.len()));
    }

    /// The next group goes to this place. What is staged stays staged.
    pub(crate) fn stand(&mut self, place: Place) {
        let Place { head, stamp_unix_ms, .. } = self.at;
        self.at = Place { head, stamp_unix_ms, ..place };
    }

    /// Nothing of what was staged since `durable` was written, nor will be. Returns what was gathering.
    pub(crate) fn abort(&mut self, durable: Place) -> Option<Group<R>> {
        self.at = Place { stamp_unix_ms: self.at.stamp_unix_ms, ..durable };
        self.changes.clear();
        self.open.take()
    }

    /// A group is over: the next one takes its memory.
    pub(crate) fn reuse(&mut self, group: Group<R>) {
        if group.body.capacity() <= SPARE_BYTES_MAX {
            self.spare = Some(group);
        }
    }
}

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

    fn count_key(&mut self, publisher: &Arc<str>) {
        match self.keys.last_mut() {
            Some((last, keys)) if last == publisher => *keys += 1,
            _ => self.keys.push((publisher.clone(), 1)),
        }
    }

    /// Says whose the records behind it are, unless the last context says so. `publisher`: whose keys they have, if any.
    fn put_context(&mut self, publisher: Option<&Arc<str>>, whose: &impl Fn(Arc<str>) -> Whose) {
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
    fn put_entry(&mut self, item: &Item, cursor: Cursor, continues: bool, stamp_unix_ms: u64) {
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
    fn put_key(&mut self, key: &Key, content: Content, seq: Option<Seq>, at_unix_ms: u64) {
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
    pub(crate) fn tell(mut self, body: Bytes, sink: &dyn Sink) -> Self
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
