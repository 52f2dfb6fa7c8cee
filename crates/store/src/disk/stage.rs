//! Gives positions, and puts what is appended together into groups, each of which is written and made durable at once.
//!
//! Pure. A position is given here, but nobody is told before its group is durable: until then what a group changes lies
//! beside the state that readers see, so that a group that cannot be written leaves nothing behind.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use foldhash::fast::RandomState;
use galaxy_push_core::cursor::{Cursor, Seq};
use galaxy_push_core::frame::put_log_frame;
use galaxy_push_core::window::Traits;

use super::format::{GROUP_HEAD_BYTES, GroupHead, Sums};
use super::record::{Context, Known as KnownRecord, put_entry};
use super::visible::Visible;
use crate::batch::Item;
use crate::dedup::{Content, Key};
use crate::standing::Change;
use crate::{Appended, Batch, Committed, Refused};

/// Where the next group goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The last position given.
    pub(crate) head: Cursor,
    /// The number of the last group.
    pub(crate) group: u64,
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    /// The length of the segment's file.
    pub(crate) segment_bytes: u64,
    /// The first segment that is needed.
    pub(crate) oldest: u64,
    /// The latest stamp.
    pub(crate) stamp_unix_ms: u64,
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
    pub(crate) batches: Vec<Staged<R>>,
}

/// A batch with its positions.
#[derive(Debug)]
pub(crate) struct Staged<R> {
    /// To whom the results go.
    pub(crate) reply: R,
    pub(crate) results: Vec<Appended>,
    pub(crate) committed: Vec<Committed>,
    pub(crate) keys: Vec<(Key, Content, Option<Seq>)>,
    pub(crate) changes: Vec<Change>,
    pub(crate) share: Option<Arc<str>>,
    pub(crate) wall_unix_ms: u64,
    pub(crate) stamp_unix_ms: u64,
    /// The same, but never before what was appended earlier.
    pub(crate) at_unix_ms: u64,
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
    /// What the groups that are not committed yet will have remembered. Looked up only, never iterated.
    fresh: HashMap<Key, (Content, Option<Seq>), RandomState>,
    /// What they will change, in order.
    changes: Vec<(Change, Option<Arc<str>>)>,
}

impl<R> Stager<R> {
    pub(crate) fn new(sums: Sums, at: Place) -> Self {
        Self { sums, at, open: None, fresh: HashMap::default(), changes: Vec::new() }
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
        let said = match self.said_before(&batch, visible) {
            Ok(said) => said,
            Err(refused) => return Err((reply, refused)),
        };
        let items = match said {
            Before::Whole(seq) => {
                let cursor = seq.map(|seq| Cursor { seq, ..self.at.head });
                let results = vec![Appended { cursor, duplicate: true }; batch.items.len()];
                let staged = Staged { results, ..Staged::new(&batch, reply, self.at.stamp_unix_ms) };
                self.open().batches.push(staged);
                return Ok(());
            }
            Before::Items(items) => items,
        };
        let changes = batch.items.iter().filter_map(|item| item.change.as_ref());
        let under_way = self.changes.iter().map(|(change, share)| (change, share.as_ref()));
        let (share, wall) = (batch.publisher.as_ref(), batch.now.unix_ms);
        if let Err(full) = visible.standing.check_behind(under_way, changes, share, wall) {
            return Err((reply, Refused::StandingFull(full)));
        }
        self.append(batch, items, reply);
        Ok(())
    }

    fn open(&mut self) -> &mut Group<R> {
        self.open.get_or_insert_with(|| Group::new(self.at.head.seq))
    }

    fn append(&mut self, batch: Batch, said: Vec<Said>, reply: R) {
        let mut staged = Staged::new(&batch, reply, self.at.stamp_unix_ms);
        self.open();
        let is_last = |(said, item): &(&Said, &Item)| {
            matches!(said, Said::Never) && !item.traits.has(Traits::EPHEMERAL)
        };
        let last = said.iter().zip(&batch.items).rposition(|each| is_last(&each));
        let mut context: Option<Arc<str>> = None;
        for (index, (item, said)) in batch.items.into_iter().zip(said).enumerate() {
            match said {
                Said::Before(seq) => {
                    let cursor = seq.map(|seq| Cursor { seq, ..self.at.head });
                    staged.results.push(Appended { cursor, duplicate: true });
                    continue;
                }
                Said::Above(first) => {
                    let cursor = staged.results.get(first).and_then(|first| first.cursor);
                    staged.results.push(Appended { cursor, duplicate: true });
                    continue;
                }
                Said::Never => {}
            }
            let publisher = item.key.as_ref().map(|(key, _)| key.publisher());
            if context.is_none() || publisher.is_some_and(|publisher| context.as_ref() != Some(publisher)) {
                let publisher = publisher.cloned().unwrap_or_default();
                self.put_context(&staged, &publisher);
                context = Some(publisher);
            }
            self.put(item, index, last, &mut staged);
        }
        if let Some((key, content)) = batch.key {
            let seq = staged.results.last().and_then(|last| last.cursor).map(|cursor| cursor.seq);
            self.put_context(&staged, &key.publisher().clone());
            self.put_key(key, content, seq, &mut staged);
        }
        if let Some((_, before_the_last)) = staged.committed.split_last_mut() {
            before_the_last.iter_mut().for_each(|each| each.traits = each.traits.with(Traits::CONTINUES));
        }
        if let Some(group) = &mut self.open {
            group.batches.push(staged);
        }
    }

    /// Gives one item its position, and writes it into the open group.
    fn put(&mut self, item: Item, index: usize, last: Option<usize>, staged: &mut Staged<R>) {
        let Some(group) = &mut self.open else { return };
        let ephemeral = item.traits.has(Traits::EPHEMERAL);
        let cursor = if ephemeral { self.at.head } else { self.at.head.next() };
        if !ephemeral {
            let traits = if last == Some(index) { item.traits } else { item.traits.with(Traits::CONTINUES) };
            let content = item.key.as_ref().map(|(_, content)| *content);
            let stamp = staged.stamp_unix_ms;
            let frame = put_entry(&mut group.body, item.kind, traits, content, |out| {
                put_log_frame(out, item.kind, Some(cursor), &item.event, stamp);
            });
            group.frame_bytes += frame.len() as u64;
            group.positions += 1;
            self.at.head = cursor;
        }
        let seq = (!ephemeral).then_some(cursor.seq);
        staged.results.push(Appended { cursor: seq.map(|_| cursor), duplicate: false });
        match item.key {
            Some((key, content)) if ephemeral => self.put_key(key, content, None, staged),
            Some((key, content)) => self.remember(key, content, seq, staged),
            None => {}
        }
        if let Some(change) = item.change {
            self.changes.push((change.clone(), staged.share.clone()));
            staged.changes.push(change);
        }
        staged.committed.push(Committed {
            kind: item.kind,
            cursor,
            traits: item.traits,
            event: item.event,
            appended_unix_ms: staged.stamp_unix_ms,
        });
    }

    fn put_context(&mut self, staged: &Staged<R>, publisher: &str) {
        let Some(group) = &mut self.open else { return };
        let (wall_unix_ms, stamp_unix_ms) = (staged.wall_unix_ms, staged.stamp_unix_ms);
        Context { publisher, share: staged.share.as_deref(), wall_unix_ms, stamp_unix_ms }
            .put(&mut group.body);
    }

    /// Writes a key that no entry shows.
    fn put_key(&mut self, key: Key, content: Content, seq: Option<Seq>, staged: &mut Staged<R>) {
        let Some(group) = &mut self.open else { return };
        let at_unix_ms = staged.at_unix_ms;
        let seq_or_0 = seq.unwrap_or_default().0;
        KnownRecord { text: key.text(), content, seq: seq_or_0, at_unix_ms, carried: false }
            .put(&mut group.body);
        self.remember(key, content, seq, staged);
    }

    fn remember(&mut self, key: Key, content: Content, seq: Option<Seq>, staged: &mut Staged<R>) {
        self.fresh.insert(key.clone(), (content, seq));
        staged.keys.push((key, content, seq));
    }

    /// What of the batch was published before: its records all together, or events each by itself.
    fn said_before(&self, batch: &Batch, visible: &mut Visible) -> Result<Before, Refused> {
        if let Some((key, content)) = &batch.key {
            return match self.fresh_or_known(key, visible) {
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
            let (known, verdict) = match self.fresh_or_known(key, visible) {
                Some((known, seq)) => (Some(known), Said::Before(seq)),
                None if is_alone => (None, Said::Never),
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

    fn fresh_or_known(&self, key: &Key, visible: &mut Visible) -> Option<(Content, Option<Seq>)> {
        if let Some(fresh) = self.fresh.get(key) {
            return Some(*fresh);
        }
        visible.published.get(key, visible.now)
    }

    /// Takes the open group: it is full enough, or the disk is free. `head` says where it goes.
    pub(crate) fn seal(&mut self, group: &mut Group<R>) {
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
        head.seal(&mut group.body, &self.sums);
        self.at.offset += group.body.len() as u64;
    }

    /// What a group has changed is visible now.
    pub(crate) fn forget(&mut self, group: &Group<R>) {
        for staged in &group.batches {
            for (key, ..) in &staged.keys {
                self.fresh.remove(key);
            }
        }
        let changes = group.batches.iter().map(|staged| staged.changes.len()).sum::<usize>();
        self.changes.drain(..changes.min(self.changes.len()));
    }

    /// Nothing of what was staged since `durable` was written, nor will be. Returns what was gathering.
    pub(crate) fn abort(&mut self, durable: Place) -> Option<Group<R>> {
        self.at = Place { stamp_unix_ms: self.at.stamp_unix_ms, ..durable };
        self.fresh.clear();
        self.changes.clear();
        self.open.take()
    }
}

impl<R> Group<R> {
    fn new(after: Seq) -> Self {
        let body = vec![0; GROUP_HEAD_BYTES];
        Self { body, after, positions: 0, frame_bytes: 0, batches: Vec::new() }
    }

    /// Puts records before all others.
    pub(crate) fn put_first(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        let mut body = vec![0; GROUP_HEAD_BYTES];
        put(&mut body);
        body.extend_from_slice(&self.body[GROUP_HEAD_BYTES..]);
        self.body = body;
    }

    /// Whether there is anything to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.body.len() == GROUP_HEAD_BYTES
    }
}

impl<R> Staged<R> {
    fn new(batch: &Batch, reply: R, at_unix_ms: u64) -> Self {
        let items = batch.items.len();
        Self {
            reply,
            results: Vec::with_capacity(items),
            committed: Vec::with_capacity(items),
            keys: Vec::with_capacity(items),
            changes: Vec::new(),
            share: batch.publisher.clone(),
            wall_unix_ms: batch.now.unix_ms,
            stamp_unix_ms: batch.stamp_unix_ms,
            at_unix_ms,
        }
    }
}
