//! The disk store without its threads: what is staged, written and committed, one step after the other.
//!
//! The [`writer`](super::writer) takes the steps, tests take them on a disk that breaks. The order is: [`Engine::stage`] as
//! batches come; [`Engine::seal`] once nothing is on its way; the [`Job`] is run by [`Segments`](super::segments::Segments);
//! [`Engine::done`] with its outcome; [`Landed::deliver`] of what became durable. Staging may go on meanwhile: that is the next
//! group. Between two of these groups comes, when a segment is needed no more, one that lets it go (`release`).

mod outcome;
mod release;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use galaxy_push_core::cursor::Seq;

use super::Options;
use super::format::{ENDING_BYTES, GROUP_HEAD_BYTES, GROUPS_START, LENGTH_STEP, SegmentHead, unmask};
use super::group::{Group, Reply};
use super::lock::lock;
use super::retention::Retention;
use super::segments::{Begin, Job};
use super::space::AROUND_RECORD_BYTES;
use super::stage::{Place, Stager};
use super::visible::Visible;
use crate::{Batch, Refused, Sink};

/// What the steps work on.
pub(crate) struct Engine<R> {
    stager: Stager<R>,
    /// Where the next group went, had nothing been staged since.
    durable: Place,
    retention: Retention,
    visible: Arc<Mutex<Visible>>,
    sink: Arc<dyn Sink>,
    /// Who the store is: for the heads of segments.
    identity: SegmentHead,
    segment_bytes: u64,
    dedup_age: std::time::Duration,
    /// The latest time by the clock of the log that was told, in milliseconds since the Unix epoch: it goes on where nothing is
    /// stamped.
    now_unix_ms: u64,
    /// Letting a segment go is worth a try: not right after there was no room for it.
    may_release: bool,
    /// So many bytes were wanted when there was no room, and neither has a batch become durable nor as much been freed since.
    lacks: Option<u64>,
    /// So many bytes were freed by letting segments go since publishers had their turn.
    freed: u64,
    flying: Option<Flight<R>>,
    /// Durable, and nobody told yet, in order. Few: while nobody tells, little is staged.
    landed: VecDeque<Landed<R>>,
    /// Segments that are not needed any more, until somebody asks.
    left: Vec<u64>,
    dead: Option<String>,
}

/// A group on its way to the disk.
struct Flight<R> {
    group: Group<R>,
    /// What is written, without a mask: the frames that readers are handed lie in it.
    body: Bytes,
    /// Where the next one goes once this one is durable.
    next: Place,
    begins: Option<u64>,
    /// Where the segment before that one ends.
    ends: u64,
    /// The segment that it lets go of: nobody waits for it.
    releases: Option<u64>,
    /// Where the next one goes if only the segment was begun.
    fallback: Place,
    /// How much room it wants.
    wants: u64,
}

/// What has become of a group: all that is left is to tell of it.
pub(crate) struct Landed<R> {
    group: Group<R>,
    body: Bytes,
    /// Entries that a sync has made durable; `None`: there was nothing to write.
    pub(crate) synced: Option<u32>,
}

impl<R: Reply> Landed<R> {
    /// Hands it to the sink, and then answers. Whoever has taken several tells of them in their order.
    pub(crate) fn deliver(self, sink: &dyn Sink) -> Group<R> {
        self.group.deliver(self.body, sink)
    }
}

/// So many batches are staged under one lock: others may want it.
const STAGED_AT_ONCE: usize = 16;

/// Some hundred ids and records, unless segments are very short.
const RESERVE_BYTES_MIN: u64 = 16 << 10;

impl<R: Reply> Engine<R> {
    pub(crate) fn new(
        stager: Stager<R>,
        retention: Retention,
        visible: Arc<Mutex<Visible>>,
        sink: Arc<dyn Sink>,
        identity: SegmentHead,
        options: &Options,
    ) -> Self {
        Self {
            durable: stager.at,
            stager,
            retention,
            visible,
            sink,
            identity,
            segment_bytes: options.segment_bytes,
            dedup_age: options.dedup.age,
            now_unix_ms: 0,
            may_release: true,
            lacks: None,
            freed: 0,
            flying: None,
            landed: VecDeque::new(),
            left: Vec::new(),
            dead: None,
        }
    }

    /// What readers and publishers may know.
    pub(crate) fn visible(&self) -> Arc<Mutex<Visible>> {
        self.visible.clone()
    }

    /// Adds a batch to the group that gathers, or refuses it at once.
    #[cfg(test)]
    pub(crate) fn stage(&mut self, batch: Batch, reply: R) {
        self.stage_some(&mut VecDeque::from([(batch, reply)]));
    }

    /// Adds some of these batches to the group that gathers, or refuses them at once.
    pub(crate) fn stage_some(&mut self, waiting: &mut VecDeque<(Batch, R)>) {
        let mut refusals = Vec::new();
        {
            let mut visible = lock(&self.visible);
            for _ in 0..STAGED_AT_ONCE {
                if self.stager.open.as_ref().is_some_and(Group::takes_no_more) {
                    break;
                }
                let Some((batch, reply)) = waiting.pop_front() else { break };
                refusals.extend(match &self.dead {
                    Some(reason) => Some((reply, Refused::Unavailable(reason.clone()))),
                    None => self.stager.stage(batch, reply, &mut visible).err(),
                });
            }
        }
        refusals.into_iter().for_each(|(reply, refused)| reply.answer(Err(refused.into())));
    }

    /// Whether the group that gathers should take no more.
    pub(crate) fn takes_no_more(&self) -> bool {
        self.stager.open.as_ref().is_some_and(Group::takes_no_more)
    }

    /// How long what gathers is so far, in bytes; `None`: nothing does.
    pub(crate) fn gathering_bytes(&self) -> Option<usize> {
        self.stager.open.as_ref().map(|group| group.body.len())
    }

    /// Whether a group is on its way to the disk.
    pub(crate) const fn is_flying(&self) -> bool {
        self.flying.is_some()
    }

    /// Takes the group that gathers, or one that lets a segment go, and makes it ready for the disk. `None`: there is nothing to
    /// write, or another group is on its way; there may be something to tell.
    pub(crate) fn seal(&mut self) -> Option<Job> {
        if self.flying.is_some() {
            return None;
        }
        if let Some(number) = self.to_let_go().filter(|_| !self.lets_in()) {
            let group = self.carry(number);
            return Some(self.fly(group, Some(number)));
        }
        let group = self.stager.open.take()?;
        self.freed = 0;
        if group.is_empty() {
            // Duplicates, whose answers come behind those that they repeat.
            self.landed.push_back(Landed { group, body: Bytes::new(), synced: None });
            return None;
        }
        Some(self.fly(group, None))
    }

    fn fly(&mut self, mut group: Group<R>, releases: Option<u64>) -> Job {
        let at = &self.stager.at;
        // The newest segment is left for another one.
        let leaves = releases == Some(at.segment);
        let kept_bytes = self.reserve_bytes(&group);
        let good_bytes = least_length(&group, kept_bytes);
        let reserve_bytes = if releases.is_none() { kept_bytes } else { 0 };
        let may_cut = leaves && at.segment_bytes > 0;
        let begin = (leaves || !self.fits(&group, reserve_bytes)).then(|| {
            let length = least_length(&group, reserve_bytes);
            let head = self.begin(length, group.after);
            Begin { head, least_bytes: length, good_bytes, is_short: self.lacks.is_some(), may_cut }
        });
        let wants = begin.map_or(room_of(&group), |begin| begin.least_bytes);
        let fallback = self.place_before(&group);
        let (segment, offset) = (self.stager.at.segment, self.stager.at.offset);
        if let Some(number) = releases {
            self.stager.at.oldest = number + 1;
        }
        let mask = self.stager.seal(&mut group);
        let bytes = Bytes::from(std::mem::take(&mut group.body));
        let (body, next) = match releases {
            None => (unmasked(&bytes, mask), self.stager.at),
            // Readers are handed nothing of it, and what gathers comes behind it.
            Some(_) => (Bytes::new(), self.staged_less(self.stager.at)),
        };
        let (begins, ends) =
            begin.map_or((None, 0), |Begin { head, .. }| (Some(head.number), head.previous_end));
        self.flying = Some(Flight { group, body, next, begins, ends, releases, fallback, wants });
        // Where there may be no room, what is needed no more makes some now.
        let is_tight = self.lacks.is_some() || releases.is_some() || begins.is_some();
        let remove = if is_tight { self.take_left() } else { Vec::new() };
        Job {
            remove,
            begin,
            segment,
            offset,
            bytes,
            #[cfg(test)]
            is_release: releases.is_some(),
        }
    }

    /// Whether the segment that is written has room for this group, and so much behind it.
    fn fits(&self, group: &Group<R>, reserve_bytes: u64) -> bool {
        let at = &self.stager.at;
        at.segment > 0 && at.offset + room_of(group) + reserve_bytes <= at.segment_bytes
    }

    /// How much of a segment is kept for letting segments go, once this group is durable: on a disk that is full there is no other
    /// room for it. As much as all standing records take, for they may be carried out of the oldest segment one after the other, and
    /// never end; ids do, in time.
    fn reserve_bytes(&self, group: &Group<R>) -> u64 {
        let (records, bytes) = lock(&self.visible).standing.size();
        let put = |count: u64, bytes: u64| bytes + count * AROUND_RECORD_BYTES;
        let new = group.changes.iter().map(|changed| {
            let share = changed.share.as_deref().map_or(0, str::len);
            put(1, (changed.change.bytes() + share) as u64)
        });
        let records = put(records, bytes) + new.sum::<u64>();
        let least = (self.segment_bytes / 64).max(RESERVE_BYTES_MIN);
        (least + records).min(self.segment_bytes / 4)
    }

    /// This place, but for what is staged and not on its way.
    fn staged_less(&self, place: Place) -> Place {
        let Place { head, stamp_unix_ms, .. } = self.durable;
        Place { head, stamp_unix_ms, ..place }
    }

    /// Where the stager stood before this group was staged, but for the segment.
    fn place_before(&self, group: &Group<R>) -> Place {
        let head = galaxy_push_core::cursor::Cursor { seq: group.after, ..self.stager.at.head };
        Place { head, ..self.stager.at }
    }

    /// Begins another segment, of this length at least.
    fn begin(&mut self, least_bytes: u64, after: Seq) -> SegmentHead {
        let at = &mut self.stager.at;
        let head = SegmentHead {
            number: at.segment + 1,
            bytes: self.segment_bytes.max(least_bytes),
            after,
            after_group: at.group,
            previous_end: at.offset,
            stamped_unix_ms: at.stamp_unix_ms,
            ..self.identity
        };
        (at.segment, at.offset) = (head.number, GROUPS_START);
        head
    }

    /// What is durable and was not taken yet: the oldest first.
    pub(crate) fn take_landed(&mut self) -> Option<Landed<R>> {
        self.landed.pop_front()
    }

    /// The first segment that is needed.
    #[cfg(test)]
    pub(crate) fn first_segment(&self) -> Option<u64> {
        self.retention.first()
    }

    /// The segments that are not needed any more.
    pub(crate) fn take_left(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.left)
    }

    /// Tells of everything that has become durable. Returns the segments that are not needed any more.
    #[cfg(test)]
    pub(crate) fn settle(&mut self) -> Vec<u64> {
        while let Some(landed) = self.take_landed() {
            let group = landed.deliver(&*self.sink);
            self.reuse(group);
        }
        self.take_left()
    }

    /// A group was told of: the next one takes its memory.
    pub(crate) fn reuse(&mut self, group: Group<R>) {
        self.stager.reuse(group);
    }

    /// To whom [`Landed::deliver`] tells.
    pub(crate) fn sink(&self) -> Arc<dyn Sink> {
        self.sink.clone()
    }

    /// The segment in which the last group became durable, or will the next one.
    pub(crate) const fn segment(&self) -> u64 {
        self.durable.segment
    }

    /// Why the store can go on no longer.
    pub(crate) fn dead(&self) -> Option<&str> {
        self.dead.as_deref()
    }

    /// There was no room for the last batches, and as much was not freed since.
    pub(crate) const fn lacks_room(&self) -> bool {
        self.lacks.is_some()
    }

    /// Where the last group ended.
    pub(crate) const fn end_offset(&self) -> u64 {
        self.durable.offset
    }

    /// The files of all segments together, in bytes.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.retention.disk_bytes()
    }
}

/// A group as it is written, without the mask of its body.
fn unmasked(group: &Bytes, mask: u8) -> Bytes {
    if mask == 0 {
        return group.clone();
    }
    let mut plain = group.to_vec();
    unmask(&mut plain[GROUP_HEAD_BYTES..], mask);
    plain.into()
}

/// How long a segment must be for this group, and so much behind it.
fn least_length<R>(group: &Group<R>, reserve_bytes: u64) -> u64 {
    (GROUPS_START + room_of(group) + reserve_bytes).next_multiple_of(LENGTH_STEP)
}

/// How much room a group takes at most, with the end of a segment behind it.
const fn room_of<R>(group: &Group<R>) -> u64 {
    (group.body.len() + 2 * GROUP_HEAD_BYTES) as u64 + ENDING_BYTES
}

impl<R> std::fmt::Debug for Engine<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}
