//! Gives positions, and puts what is appended together into groups, each of which is written and made durable at once.
//!
//! Pure. A position is given here, but nobody is told before its group is durable: until then what a group changes lies
//! beside the state that readers see, so that a group that cannot be written leaves nothing behind.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use galaxy_push_core::cursor::{Cursor, Seq};
use galaxy_push_core::window::Traits;

use super::format::{GroupHead, Sums};
use super::group::{Changed, Group, Whose};
use super::visible::Visible;
use crate::batch::Item;
use crate::dedup::{Content, Dedup, Key};
use crate::standing::Change;
use crate::{Appended, Batch, Refused};

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
            // What is on its way counts as well: it is not among the records before it is durable, and will want its room then.
            let in_flight = self.changes.iter().map(|(change, share)| (change, share.as_ref()));
            let (share, wall) = (batch.publisher.as_ref(), batch.now.unix_ms);
            if let Err(full) = visible.standing.check_behind(in_flight, changes, share, wall) {
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
            // Now, and not once it is durable: the very next batch may repeat it.
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
            let (known, answer) = match visible.published.get(key, visible.now) {
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
            said.push(answer);
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
        // The stamp stays: the clock of the log has been told of it, and never goes back.
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
