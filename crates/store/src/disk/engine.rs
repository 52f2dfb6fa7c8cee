//! The disk store without its threads: what is staged, written and committed, one step after the other.
//!
//! The [`writer`](super::writer) takes the steps, tests take them on a disk that breaks. The order is: [`Engine::stage`] as
//! batches come; [`Engine::seal`] once nothing is on its way; the [`Job`] is run by [`Segments`](super::segments::Segments);
//! [`Engine::done`] with its outcome. Staging may go on meanwhile: that is the next group.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use galaxy_push_core::cursor::Seq;

use super::Options;
use super::format::{GROUP_HEAD_BYTES, GROUPS_START, SegmentHead, unmask};
use super::record::{Context, Known, put_standing};
use super::retention::Retention;
use super::segments::{ENDING_BYTES, Job, Outcome};
use super::stage::{Group, Place, Stager};
use super::visible::Visible;
use crate::{Appended, Batch, Error, Refused, Sink};

/// To whom an answer goes.
pub(crate) trait Reply: Send {
    fn answer(self, answer: Result<Vec<Appended>, Error>);
}

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
    flying: Option<Flight<R>>,
    /// Durable, and nobody told yet.
    landed: Option<Flight<R>>,
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
    /// What it carries forward, from this segment and all before it.
    carries: Option<u64>,
    /// Where the next one goes if only the segment was begun.
    begun: Place,
}

/// The most bytes of a group, unless one batch alone is larger.
const GROUP_BYTES_MAX: usize = 4 << 20;

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
            flying: None,
            landed: None,
            left: Vec::new(),
            dead: None,
        }
    }

    /// What readers and publishers may know.
    pub(crate) fn visible(&self) -> Arc<Mutex<Visible>> {
        self.visible.clone()
    }

    /// How many entries are durable and not told of yet.
    pub(crate) fn landed_entries(&self) -> u32 {
        self.landed.as_ref().map_or(0, |flight| flight.group.positions)
    }

    /// Whether everything that is durable has been told.
    pub(crate) const fn is_settled(&self) -> bool {
        self.landed.is_none()
    }

    /// Adds a batch to the group that gathers, or refuses it at once.
    pub(crate) fn stage(&mut self, batch: Batch, reply: R) {
        if let Some(reason) = &self.dead {
            return reply.answer(Err(Refused::Unavailable(reason.clone()).into()));
        }
        let staged = self.stager.stage(batch, reply, &mut lock(&self.visible));
        if let Err((reply, refused)) = staged {
            reply.answer(Err(refused.into()));
        }
    }

    /// Whether the group that gathers should take no more.
    pub(crate) fn is_full(&self) -> bool {
        self.stager.open.as_ref().is_some_and(|group| group.body.len() >= GROUP_BYTES_MAX)
    }

    /// Whether something gathers.
    pub(crate) const fn is_gathering(&self) -> bool {
        self.stager.open.is_some()
    }

    /// Whether what has landed must be visible before the next group is sealed: it carries something forward.
    fn must_settle(&self) -> bool {
        self.retention.left(self.stager.at.stamp_unix_ms).is_some()
    }

    fn fits(&self, body_bytes: usize) -> bool {
        let at = &self.stager.at;
        at.segment > 0 && at.offset + room_of(body_bytes) + ENDING_BYTES <= at.segment_bytes
    }

    /// Takes the group that gathers and makes it ready for the disk, which nothing else may be on its way to. `None`: there is
    /// nothing to write, and whoever waited has been answered.
    pub(crate) fn seal(&mut self) -> Option<Job> {
        let mut group = self.stager.open.take()?;
        if group.is_empty() || self.must_settle() {
            self.settle();
        }
        if group.is_empty() {
            self.commit(group, &Bytes::new(), self.stager.at.segment);
            return None;
        }
        let left = self.retention.left(self.stager.at.stamp_unix_ms);
        if let Some(left) = left {
            self.carry(left, &mut group);
        }
        let begin = (!self.fits(group.body.len())).then(|| self.begin(group.body.len(), group.after));
        let begun = self.place_before(&group);
        let offset = self.stager.at.offset;
        if let Some(left) = left {
            self.stager.at.oldest = left + 1;
        }
        let mask = self.stager.seal(&mut group);
        let bytes = Bytes::from(std::mem::take(&mut group.body));
        let body = unmasked(&bytes, mask);
        let next = self.stager.at;
        let (begins, ends) = begin.map_or((None, 0), |head| (Some(head.number), head.previous_end));
        self.flying = Some(Flight { group, body, next, begins, ends, carries: left, begun });
        Some(Job { begin, offset, bytes })
    }

    /// Where the stager stood before this group was staged, but for the segment.
    fn place_before(&self, group: &Group<R>) -> Place {
        let head = galaxy_push_core::cursor::Cursor { seq: group.after, ..self.stager.at.head };
        Place { head, ..self.stager.at }
    }

    /// Begins another segment, large enough for a body of so many bytes.
    fn begin(&mut self, body_bytes: usize, after: Seq) -> SegmentHead {
        let at = &mut self.stager.at;
        let room = GROUPS_START + room_of(body_bytes) + ENDING_BYTES;
        let head = SegmentHead {
            number: at.segment + 1,
            bytes: self.segment_bytes.max(room),
            after,
            after_group: at.group,
            previous_end: at.offset,
            stamped_unix_ms: at.stamp_unix_ms,
            ..self.identity
        };
        (at.segment, at.offset, at.segment_bytes) = (head.number, GROUPS_START, head.bytes);
        head
    }

    /// The keys and standing records that lie in this segment or before it and still count, once more: first in the group, so
    /// that what it changes itself comes after them.
    fn carry(&self, left: u64, group: &mut Group<R>) {
        let visible = lock(&self.visible);
        group.put_first(|out| {
            let put_context = |out: &mut Vec<u8>, publisher: &str, share: Option<&str>| {
                let stamp_unix_ms = self.durable.stamp_unix_ms;
                Context { publisher, share, wall_unix_ms: 0, stamp_unix_ms }.put(out);
            };
            for keys in self.retention.keys_up_to(left) {
                let mut last = None;
                for (publisher, known) in visible.published.between(keys.from, keys.to) {
                    if last != Some(publisher) {
                        put_context(out, publisher, None);
                        last = Some(publisher);
                    }
                    let at_unix_ms = u64::try_from(known.at.as_millis()).unwrap_or(u64::MAX);
                    let seq = known.value.unwrap_or_default().0;
                    Known { text: known.text, content: known.content, seq, at_unix_ms, carried: true }
                        .put(out);
                }
            }
            for (kind, message, share) in visible.standing.kept_up_to(left) {
                put_context(out, "", share.map(|share| &**share));
                put_standing(out, kind, message);
            }
        });
    }

    /// The group on its way has come to this. If it is durable, [`Engine::settle`] tells of it; else it is given up, and what
    /// gathered meanwhile with it.
    pub(crate) fn done(&mut self, outcome: Outcome) {
        self.settle();
        let Some(flight) = self.flying.take() else { return };
        match outcome {
            Outcome::Durable => {
                self.durable = flight.next;
                self.landed = Some(flight);
            }
            Outcome::Full { begun, error } => {
                if begun {
                    self.begun(&flight);
                    self.durable = flight.begun;
                }
                let refused = Refused::Unavailable(format!("the disk is full: {error}"));
                self.give_up(flight.group, &Error::Refused(refused.clone()), &refused);
            }
            Outcome::Failed(error) => {
                let reason = died(&error);
                self.dead = Some(reason.clone());
                let unknown = Error::Unknown(reason.clone());
                self.give_up(flight.group, &unknown, &Refused::Unavailable(reason));
            }
        }
    }

    /// Tells of what has become durable: makes it visible, hands it to the sink, and answers. Returns the segments that are not
    /// needed any more.
    pub(crate) fn settle(&mut self) -> Vec<u64> {
        let Some(flight) = self.landed.take() else { return Vec::new() };
        self.begun(&flight);
        let segment = flight.next.segment;
        if let Some(up_to) = flight.carries {
            let mut visible = lock(&self.visible);
            visible.standing.moved_up_to(up_to, segment);
            self.left.extend(self.retention.leave(up_to, segment, self.dedup_age, visible.now));
        }
        self.commit(flight.group, &flight.body, segment);
        std::mem::take(&mut self.left)
    }

    /// Why the store can go on no longer.
    pub(crate) fn dead(&self) -> Option<&str> {
        self.dead.as_deref()
    }

    fn begun(&mut self, flight: &Flight<R>) {
        if let Some(number) = flight.begins {
            self.retention.cut(number, flight.ends);
            self.retention.begin(number, flight.next.segment_bytes);
        }
    }

    /// Makes it visible, hands it to the sink, and then answers.
    fn commit(&mut self, mut group: Group<R>, body: &Bytes, segment: u64) {
        self.stager.forget(&group);
        lock(&self.visible).commit(&mut group, segment);
        if let Some((from, to)) = group.times {
            // What is for live readers only takes no room on the disk, but its key may.
            self.retention.add(segment, 0, from);
            self.retention.add(segment, group.positions.into(), to);
        }
        self.retention.weigh(segment, group.frame_bytes);
        let committed = group.committed(body);
        if !committed.is_empty() {
            self.sink.committed(&committed);
        }
        for (reply, results) in group.answers {
            reply.answer(Ok(results));
        }
    }

    fn give_up(&mut self, group: Group<R>, error: &Error, refused: &Refused) {
        let gathering = self.stager.abort(self.durable);
        group.answers.into_iter().for_each(|(reply, _)| reply.answer(Err(error.clone())));
        for (reply, _) in gathering.into_iter().flat_map(|group| group.answers) {
            reply.answer(Err(refused.clone().into()));
        }
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

/// How much room a body of so many bytes takes at most.
const fn room_of(body_bytes: usize) -> u64 {
    (body_bytes + 2 * GROUP_HEAD_BYTES) as u64
}

fn died(error: &io::Error) -> String {
    format!("the disk failed, and what was being written may be there or not: {error}")
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<R> std::fmt::Debug for Engine<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}
