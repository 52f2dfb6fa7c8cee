//! The window: the ordered entries still held, each encoded once, bounded by age, count *and* bytes.
//!
//! The hub keeps one over its log; each gateway keeps one, whose entries have the cursors that the hub gave them. Entries are framed
//! messages that lie one after another in chunks; a reader is a [`Slot`], the number of the entry it reads next, and nothing in here
//! knows how many readers there are. An entry leaves the moment it is outside any one bound, whether or not somebody
//! has read it: whoever still wanted it finds its slot below [`Window::oldest`] and gets a gap.
//!
//! An epoch can come back: where two hubs that should share one log hold two, a gateway may go from one to the other and back.
//!
//! ```text
//! the window     a1 a2 a3   gap to b1   b2   gap to a3   a4 a5
//! who comes with a2 may have missed a3 and b2, or may know a4 from another gateway already
//! ```
//!
//! So who presents a position of log a, up to where that log was at its return, gets a gap first: see [`Window::find`].
//!
//! The bounds are exact and logical. Memory follows in whole chunks: at most [`Bounds::bytes`] + one chunk of frames,
//! 32 bytes an entry of index (up to 64 in the open chunk, whose index doubles as it grows), and what stalled readers pin (a sealed
//! chunk each).
//!
//! ```text
//!             oldest                                          end
//!               │                                              │
//!   slots   …   17      18      19      20      21      22     23      numbers of entries, in this process only
//!   entries     a527    a528    a528    gap     b4      b5
//!   floor = a526                │       to b3                  head = b5
//!                               └ an ephemeral event: it has the position of the entry before it
//! ```
//!
//! A reader of slot 17 or later reads on. One of slot 16 or earlier was too slow: what it wanted is gone, and it gets a gap up to the floor.
//!
//! | what | costs |
//! |---|---|
//! | [`Window::append`], [`Window::trim`] | constant for each entry, amortised |
//! | [`Window::get`], [`Window::entries`], [`Window::find`] | logarithmic in the number of chunks, then constant for each entry |
//! | [`Window::bytes`] | nothing is copied where the chunk is sealed; at most 256 KiB where it is open |

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use crate::cursor::{Cursor, Epoch, StartFrom};
pub use crate::frame::GapReason;
use crate::log_clock::Offset;

mod chunk;
mod clocks;
mod find;
#[cfg(test)]
mod tests;
mod turns;

use chunk::Chunk;
use clocks::Clocks;
pub use find::{MissingRange, Outcome, Start};
use turns::Turns;

/// How large a chunk of frames grows before it is sealed, in bytes.
///
/// A sealed chunk is shared without copying, and large ones make large HTTP/2 DATA frames; but a stalled reader may
/// pin one, so this is part of the memory formula.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// The number of an entry since this window began: a reader's place in it. Means nothing in another process.
///
/// Slots have no holes, so their difference is a count of entries. A gap and an ephemeral event have one too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u64);

impl Slot {
    /// The slot after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// How many slots lie in `earlier..self`; 0 when `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The slot `count` further on.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

/// What is held: an entry stays while it is within the age **and** the count **and** the bytes.
///
/// An age above what the hub's publishers expect costs memory only where events come that fast: the other two bounds end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The longest time since the append.
    pub age: Duration,
    /// The most entries.
    pub events: u64,
    /// The most bytes of frames, their 5-byte prefixes included.
    pub bytes: u64,
}

impl Default for Bounds {
    /// 10 minutes, 1,048,576 events, 256 MiB.
    fn default() -> Self {
        Self { age: Duration::from_secs(600), events: 1 << 20, bytes: 256 << 20 }
    }
}

/// What a reader must know of an entry before it sends it.
///
/// A set of flags in one byte.
///
/// ```
/// use galaxy_push_core::window::Traits;
///
/// let traits = Traits::PLAIN.with(Traits::EXPIRES).with(Traits::CONTINUES);
/// assert!(traits.has(Traits::EXPIRES) && !traits.has(Traits::GAP));
/// assert_eq!(Traits::from_bits(traits.bits()), traits);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits(u8);

impl Traits {
    /// An event without anything special.
    pub const PLAIN: Self = Self(0);
    /// For live readers only; holds no position of its own.
    pub const EPHEMERAL: Self = Self(1);
    /// The event carries a `ttl`.
    pub const EXPIRES: Self = Self(2);
    /// A `Gap` from upstream: delivered to every reader, whatever it filters.
    pub const GAP: Self = Self(4);
    /// More of the same batch follows: no Progress may fall behind this entry.
    pub const CONTINUES: Self = Self(8);
    /// A standing record: never hidden by a filter, sent only to peers that know its kind.
    pub const STANDING: Self = Self(16);
    /// The positions behind the entry before, up to this one's, are lost: what kept them is damaged. Such an entry has no frame
    /// and is never sent: each reader gets a gap of its own, whatever it filters. [`Window::lose`] appends it, over a store
    /// that keeps anything; a gateway's window never has one.
    pub const DAMAGED: Self = Self(32);

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` holds.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// As a store keeps them beside the entry.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// As [`Traits::bits`] gave them.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// Whether nothing holds that a sender must look at: such a frame may go out as it lies.
    pub(crate) const fn is_plain(self) -> bool {
        self.0 & !Self::CONTINUES.0 == 0
    }
}

/// One entry, borrowed from the window.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its number.
    pub slot: Slot,
    /// Its position; for an ephemeral event the position before it, for a gap and for what is lost the last position missed.
    pub cursor: Cursor,
    /// When it was appended, on the caller's monotonic clock.
    pub at: Duration,
    /// What a reader must know before it sends it.
    pub traits: Traits,
    /// The framed message; empty for what is lost ([`Traits::DAMAGED`]).
    pub frame: &'a [u8],
}

/// The window. See the module's head for its picture and its costs.
///
/// Not shared by itself: whoever owns it puts a lock around it, appends under the lock, and wakes its readers after the lock is released.
///
/// ```
/// use std::time::Duration;
/// use galaxy_push_core::cursor::{Cursor, Epoch, StartFrom};
/// use galaxy_push_core::window::{Bounds, Outcome, Traits, Window};
///
/// let start = Cursor::start(Epoch(1));
/// let mut window = Window::new(start, Bounds { events: 2, ..Bounds::default() });
/// for number in 1..=3 {
///     window.append(start.plus(number), Traits::PLAIN, b"a framed message", Duration::from_secs(number));
/// }
/// assert_eq!((window.len(), window.floor(), window.head()), (2, start.plus(1), start.plus(3)));
///
/// let resumed = window.find(StartFrom::At(start.plus(1)), "");
/// assert_eq!(resumed.outcome, Outcome::Resumed, "just before the oldest held still counts");
/// let trimmed = window.find(StartFrom::At(start), "");
/// assert_eq!((trimmed.outcome, trimmed.gap.unwrap().count), (Outcome::Trimmed, Some(1)));
/// ```
#[derive(Debug)]
pub struct Window {
    bounds: Bounds,
    chunk_bytes: usize,
    chunks: VecDeque<Chunk>,
    oldest: Slot,
    end: Slot,
    floor: Cursor,
    head: Cursor,
    held_bytes: u64,
    turns: Turns,
    clocks: Clocks,
}

impl Window {
    /// An empty window that continues after `base`.
    #[must_use]
    pub fn new(base: Cursor, bounds: Bounds) -> Self {
        Self::with_chunk_bytes(base, bounds, CHUNK_BYTES)
    }

    /// An empty window with chunks of another size, in bytes.
    #[must_use]
    pub fn with_chunk_bytes(base: Cursor, bounds: Bounds, chunk_bytes: usize) -> Self {
        let (oldest, end) = (Slot::default(), Slot::default());
        let (chunks, turns, clocks) = (VecDeque::new(), Turns::default(), Clocks::default());
        Self {
            bounds,
            chunk_bytes,
            chunks,
            oldest,
            end,
            floor: base,
            head: base,
            held_bytes: 0,
            turns,
            clocks,
        }
    }

    /// Appends a framed message and trims to the bounds. Never waits for a reader, because it knows none.
    ///
    /// `cursor` is the entry's own position and follows the head, except for an ephemeral event, which takes the head's,
    /// and a gap, which may open another epoch.
    pub fn append(&mut self, cursor: Cursor, traits: Traits, frame: &[u8], now: Duration) {
        debug_assert!(
            cursor.follows(self.head) || traits.has(Traits::EPHEMERAL) || traits.has(Traits::GAP),
            "positions rise: {cursor} after {}",
            self.head
        );
        if cursor.epoch != self.head.epoch {
            // Before the entry itself lies in a chunk of that epoch, or every turn would look like a return.
            let held = self.chunks.iter().any(|chunk| chunk.epoch() == cursor.epoch);
            self.turns.turn(self.head, cursor, self.end, held);
        }
        if let Some(last) = self.chunks.back_mut() {
            last.followed_at(now);
        }
        let chunk = match self.chunks.back_mut() {
            Some(chunk) if chunk.takes(cursor.epoch, frame.len(), self.chunk_bytes) => chunk,
            last => {
                let mut chunk = Chunk::new(cursor.epoch, self.end);
                if let Some(last) = last {
                    last.seal();
                    chunk.reserve_like(last, self.chunk_bytes);
                }
                self.chunks.push_back(chunk);
                let last = self.chunks.len() - 1;
                &mut self.chunks[last]
            }
        };
        chunk.push(cursor.seq, traits, frame, now);
        self.end = self.end.next();
        self.head = cursor;
        self.held_bytes += frame.len() as u64;
        // Behind the push: an entry that alone exceeds a bound does not stay either, and readers are told of it by a gap.
        self.trim(now);
    }

    /// Says that the positions behind the head up to `to` are lost, because what kept them is damaged. That lies in its place
    /// as an entry without a frame ([`Traits::DAMAGED`]), for which each reader gets a gap when it comes there.
    ///
    /// When it was appended nobody knows. It counts as appended at `now` until an entry follows, and then no later than that entry.
    /// So it stays for as long as what was lost might have stayed, and no entry behind it stays longer because of it.
    pub fn lose(&mut self, to: Cursor, now: Duration) {
        self.append(to, Traits::DAMAGED, &[], now);
    }

    /// Says that the log is known up to `to` without an entry: upstream had nothing for this window there.
    ///
    /// A position at or before the head changes nothing: the head never falls.
    pub fn advance(&mut self, to: Cursor) {
        if to.follows(self.head) {
            self.head = to;
        }
    }

    /// Says how far the log reached when the stream began that fills this window from here on. Should that turn out to lead
    /// back into an epoch that was left, everything up to there may be held by a reader from before.
    pub fn log_reached(&mut self, to: Cursor) {
        self.turns.reached(to);
    }

    /// Drops what is outside a bound at `now`. Call it before looking, so that age trims on an idle log too.
    pub fn trim(&mut self, now: Duration) {
        // The oldest lies in the first chunk, so that nothing is searched for at each append.
        while let Some(first) =
            self.chunks.front().filter(|_| !self.is_empty()).map(|chunk| chunk.entry(self.oldest))
        {
            // `>` here and below: what equals a bound is within it.
            let too_old = now.saturating_sub(first.at) > self.bounds.age;
            if !too_old && self.len() <= self.bounds.events && self.held_bytes <= self.bounds.bytes {
                break;
            }
            let (slot, cursor, length) = (first.slot, first.cursor, first.frame.len() as u64);
            // The floor has not moved yet: it is the position before this entry, so this is the entry that led into another log.
            if cursor.epoch != self.floor.epoch {
                self.turns.trimmed(slot);
            }
            (self.floor, self.held_bytes) = (cursor, self.held_bytes - length);
            self.oldest = self.oldest.next();
            if self.chunks.front().is_some_and(|chunk| chunk.end() <= self.oldest) {
                self.chunks.pop_front();
            }
        }
    }

    /// What is appended from here on comes on another stream, perhaps stamped by another life of the hub: what is held
    /// keeps the clock that it came under.
    pub fn begin_clock(&mut self) {
        self.clocks.begin(self.oldest, self.end);
    }

    /// Says what the clock that stamps the log says, beside the caller's own; `None`: it is not known.
    pub fn set_clock(&mut self, clock: Option<Offset>) {
        self.clocks.present = clock;
    }

    /// How the clock that stamps the log is known to stand.
    #[must_use]
    pub const fn clock(&self) -> Option<Offset> {
        self.clocks.present
    }

    /// How long ago the log took an entry that it stamped `unix_ms`; 0: it did not say. Then, or while the clock of the log
    /// is not known, its age counts from its arrival in this window.
    #[must_use]
    pub fn age(&self, entry: &Entry<'_>, unix_ms: u64, now: Duration) -> Duration {
        match self.clocks.of(entry.slot).filter(|_| unix_ms > 0) {
            Some(clock) => clock.age(unix_ms, now),
            None => now.saturating_sub(entry.at),
        }
    }

    /// The position of the entry before this one, if it is held; else the floor.
    #[must_use]
    pub fn before(&self, slot: Slot) -> Cursor {
        let before = slot.0.checked_sub(1).and_then(|before| self.get(Slot(before)));
        before.map_or(self.floor, |entry| entry.cursor)
    }

    /// The bounds.
    #[must_use]
    pub const fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The last position known.
    #[must_use]
    pub const fn head(&self) -> Cursor {
        self.head
    }

    /// The position just before the oldest entry held: reading from it gives everything held.
    #[must_use]
    pub const fn floor(&self) -> Cursor {
        self.floor
    }

    /// The slot of the oldest entry held; equals [`Window::end`] when none is.
    #[must_use]
    pub const fn oldest(&self) -> Slot {
        self.oldest
    }

    /// The slot the next entry will get.
    #[must_use]
    pub const fn end(&self) -> Slot {
        self.end
    }

    /// How many entries are held.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.end.since(self.oldest)
    }

    /// Whether no entry is held.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of the frames held.
    #[must_use]
    pub const fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// When the entry at `slot` was appended, if it is held.
    #[must_use]
    pub fn appended_at(&self, slot: Slot) -> Option<Duration> {
        self.get(slot).map(|entry| entry.at)
    }

    /// One entry, if it is held.
    #[must_use]
    pub fn get(&self, slot: Slot) -> Option<Entry<'_>> {
        if slot < self.oldest || slot >= self.end {
            return None;
        }
        Some(self.chunk_of(slot)?.entry(slot))
    }

    /// The entries of `slots` that are held, oldest first.
    ///
    /// The entries borrow the window, so the lock is held while they are looked at: take as many slots as that may last.
    pub fn entries(&self, slots: Range<Slot>) -> impl Iterator<Item = Entry<'_>> {
        let (start, end) = (slots.start.max(self.oldest), slots.end.min(self.end));
        let first = self.chunks.partition_point(|chunk| chunk.end() <= start);
        self.chunks.range(first..).take_while(move |chunk| chunk.first() < end).flat_map(move |chunk| {
            let (from, to) = (start.max(chunk.first()), end.min(chunk.end()));
            (from.0..to.0).map(move |slot| chunk.entry(Slot(slot)))
        })
    }

    /// The longest run from `from` that may be sent as it lies: within one chunk, plain entries only, no message
    /// larger than `message_max`, and at most `bytes_max` in all unless the first alone is larger.
    ///
    /// Empty when the chunk holds anything a sender must look at one by one.
    pub(crate) fn plain_run(&self, from: Slot, message_max: usize, bytes_max: usize) -> Range<Slot> {
        match self.chunk_of(from) {
            Some(chunk) if chunk.is_plain(message_max) => from..chunk.within(from, bytes_max),
            _ => from..from,
        }
    }

    /// The frames of `slots` as one piece of bytes: a slice of a sealed chunk, else a copy.
    ///
    /// Empty when any of them is no longer held, or when they span chunks: take the ranges a
    /// [`Reader`](crate::reader::Reader) gives, under the same lock.
    #[must_use]
    pub fn bytes(&self, slots: Range<Slot>) -> Bytes {
        match self.chunk_of(slots.start) {
            Some(chunk)
                // A chunk goes as a whole, `oldest` entry by entry: the frames before it may still be there, and do not count.
                if slots.start >= self.oldest && slots.start < slots.end && slots.end <= chunk.end() =>
            {
                chunk.bytes(slots)
            }
            _ => Bytes::new(),
        }
    }

    /// Whether two slots lie in different chunks, so that their frames are not one piece of bytes.
    pub(crate) fn bytes_are_apart(&self, first: Slot, second: Slot) -> bool {
        self.chunk_of(first).is_none_or(|chunk| second >= chunk.end())
    }

    fn chunk_of(&self, slot: Slot) -> Option<&Chunk> {
        self.chunks.get(self.chunks.partition_point(|chunk| chunk.end() <= slot))
    }
}
