//! A stretch of the window in one piece of memory: frames one behind another, and an index of where each ends.
//!
//! The last chunk is open and grows; reading it copies. Sealed chunks never change and are shared. A chunk belongs to
//! one epoch, so an entry's index needs only its sequence number.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use super::{Entry, Slot, Traits};
use crate::cursor::{Cursor, Epoch, Seq};

/// Frames of one epoch, one behind another, and an index with one [`Mark`] for each.
#[derive(Debug)]
pub(super) struct Chunk {
    epoch: Epoch,
    first: Slot,
    index: Vec<Mark>,
    frames: Frames,
    /// Every trait that any entry has.
    traits: Traits,
    /// The largest frame, so that one comparison clears a whole chunk for a peer's limit.
    largest: usize,
}

/// Open frames are still appended to, so reading copies them. Sealed ones are shared by reference count.
#[derive(Debug)]
enum Frames {
    Open(Vec<u8>),
    Sealed(Bytes),
}

/// One entry of the index, 32 bytes. `end` is where the frame ends in the chunk; it begins where the one before it ends.
#[derive(Clone, Copy, Debug)]
struct Mark {
    seq: Seq,
    at: Duration,
    end: u32,
    traits: Traits,
}

impl Chunk {
    pub(super) fn new(epoch: Epoch, first: Slot) -> Self {
        let (index, frames) = (Vec::new(), Frames::Open(Vec::new()));
        Self { epoch, first, index, frames, traits: Traits::PLAIN, largest: 0 }
    }

    /// Takes the room that a chunk before it needed: it will most likely need as much, and need not grow step by step.
    pub(super) fn reserve_like(&mut self, before: &Self, chunk_bytes: usize) {
        if let Frames::Open(frames) = &mut self.frames {
            frames.reserve(before.as_slice().len().min(chunk_bytes));
        }
        self.index.reserve(before.index.len());
    }

    /// Whether a frame of this length still goes in. A chunk that holds nothing takes any.
    pub(super) fn takes(&self, epoch: Epoch, length: usize, chunk_bytes: usize) -> bool {
        let fits = self.index.is_empty() || self.as_slice().len() + length <= chunk_bytes;
        self.epoch == epoch && fits && matches!(self.frames, Frames::Open(_))
    }

    pub(super) fn push(&mut self, seq: Seq, traits: Traits, frame: &[u8], at: Duration) {
        let Frames::Open(frames) = &mut self.frames else { unreachable!("`takes` admits only open chunks") };
        frames.extend_from_slice(frame);
        self.index.push(Mark { seq, at, end: frames.len() as u32, traits });
        self.traits = self.traits.with(traits);
        self.largest = self.largest.max(frame.len());
    }

    /// What is lost at its end is no younger than what follows, which was appended at this time. Losses in a row lie in one chunk,
    /// because they have no bytes.
    pub(super) fn followed_at(&mut self, at: Duration) {
        if self.traits.has(Traits::DAMAGED) {
            let lost = self.index.iter_mut().rev().take_while(|mark| mark.traits.has(Traits::DAMAGED));
            lost.for_each(|mark| mark.at = mark.at.min(at));
        }
    }

    pub(super) fn seal(&mut self) {
        if let Frames::Open(frames) = &mut self.frames {
            // A stalled reader may pin a sealed chunk for as long as it stalls, so it keeps no room to grow.
            frames.shrink_to_fit();
            self.index.shrink_to_fit();
            self.frames = Frames::Sealed(Bytes::from(std::mem::take(frames)));
        }
    }

    pub(super) const fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) const fn first(&self) -> Slot {
        self.first
    }

    pub(super) fn end(&self) -> Slot {
        self.first.plus(self.index.len() as u64)
    }

    pub(super) fn last_seq(&self) -> Seq {
        self.index.last().map_or(Seq::ZERO, |mark| mark.seq)
    }

    /// The first slot whose position is after `seq`.
    pub(super) fn slot_after(&self, seq: Seq) -> Slot {
        self.first.plus(self.index.partition_point(|mark| mark.seq <= seq) as u64)
    }

    pub(super) fn entry(&self, slot: Slot) -> Entry<'_> {
        let i = self.at(slot);
        let mark = self.index[i];
        let frame = &self.as_slice()[self.start_of(i)..mark.end as usize];
        Entry {
            slot,
            cursor: Cursor { epoch: self.epoch, seq: mark.seq },
            at: mark.at,
            traits: mark.traits,
            frame,
        }
    }

    pub(super) fn is_plain(&self, message_max: usize) -> bool {
        self.traits.is_plain() && self.largest.saturating_sub(crate::frame::PREFIX_BYTES) <= message_max
    }

    /// The end of the longest run from `from` of at most `bytes_max` bytes, but of one entry at least.
    pub(super) fn within(&self, from: Slot, bytes_max: usize) -> Slot {
        let i = self.at(from);
        // The ends rise, so the longest run that fits is found by bisection and not by adding lengths up.
        let limit = self.start_of(i) + bytes_max;
        let fit = self.index[i..].partition_point(|mark| mark.end as usize <= limit);
        from.plus(fit.max(1) as u64)
    }

    pub(super) fn bytes(&self, slots: Range<Slot>) -> Bytes {
        let range = self.start_of(self.at(slots.start))..self.start_of(self.at(slots.end));
        match &self.frames {
            Frames::Sealed(frames) => frames.slice(range),
            Frames::Open(frames) => Bytes::copy_from_slice(&frames[range]),
        }
    }

    const fn at(&self, slot: Slot) -> usize {
        slot.since(self.first) as usize
    }

    fn start_of(&self, i: usize) -> usize {
        if i == 0 { 0 } else { self.index[i - 1].end as usize }
    }

    fn as_slice(&self) -> &[u8] {
        match &self.frames {
            Frames::Open(frames) => frames,
            Frames::Sealed(frames) => frames,
        }
    }
}
