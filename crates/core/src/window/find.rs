//! Where a reader that asks for a position starts: the typed outcome of every cursor.
//!
//! ```text
//! the log:      a1 … a520 | a521 … a527 |              floor a520, head a527
//! presented     answer                                  the reader gets
//! a523          Resumed                                 a524 …
//! a520          Resumed: just before the oldest         a521 …
//! a3            Trimmed                                 gap(a3, a520], a521 …
//! a530          Ahead                                   gap(a530, a527], then what is published next
//! x9            EpochChanged: another life of the log   gap(x9, a520], a521 …
//! ```

use std::time::Duration;

use super::{Chunk, Cursor, Epoch, GapReason, Slot, StartFrom, Window};

/// What became of the cursor a reader presented.
///
/// The first thing that a reader is sent, in its `Welcome`. What each means is in the table at the head of this file; the example of
/// [`Window`] shows two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Reading continues with the very next event.
    Resumed,
    /// No position was asked for.
    Fresh,
    /// The position has left the window: a gap, then everything held.
    Trimmed,
    /// The position belongs to another life of the log: a gap, then everything held.
    EpochChanged,
    /// The position is beyond the head: a gap, then from the head.
    Ahead,
}

/// What a reader has missed: the positions in `(from, to]`.
///
/// Built where the range is known: by [`Window::find`] for a presented cursor, by a [`Reader`](crate::reader::Reader) for what it meets on
/// its way, and by a gateway for what its own stream missed. The `proto` crate writes it as a `Gap` frame.
///
/// ```
/// use galaxy_push_core::cursor::{Cursor, Epoch};
/// use galaxy_push_core::window::{GapReason, MissingRange};
///
/// let at = Cursor::start(Epoch(1));
/// let gap = MissingRange::between(GapReason::Lapped, at.plus(3), at.plus(8)).unwrap();
/// assert_eq!((gap.count, gap.to), (Some(5), at.plus(8)));
/// assert_eq!(MissingRange::between(GapReason::Lapped, at.plus(8), at.plus(8)), None, "nothing is missing");
/// let elsewhere = Cursor::start(Epoch(2));
/// assert_eq!(MissingRange::into_another_log(at, elsewhere).reason, GapReason::EpochChanged);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingRange {
    /// Why.
    pub reason: GapReason,
    /// The text of the position the reader held; it may be of a form this build cannot read.
    pub from: String,
    /// The last position missed: reading resumes after it.
    pub to: Cursor,
    /// How many positions were missed, an upper bound for a filtered reader; `None` when nobody can know.
    pub count: Option<u64>,
    /// When this reader should refetch its state. Whoever sends the gap sets it, to spread a herd.
    pub repair_after: Option<Duration>,
}

/// Where reading starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// What became of the cursor.
    pub outcome: Outcome,
    /// The first slot to read.
    pub next: Slot,
    /// The reader's position once the gap, if there is one, is sent.
    pub position: Cursor,
    /// What must be sent first.
    pub gap: Option<MissingRange>,
}

impl MissingRange {
    fn new(reason: GapReason, from: &str, to: Cursor, count: Option<u64>) -> Self {
        Self { reason, from: from.to_owned(), to, count, repair_after: None }
    }

    /// The gap of a reader that stood at `from` and goes on at `to`, or `None` when it has missed nothing. Where positions have
    /// holes it has no count.
    #[must_use]
    pub fn between(reason: GapReason, from: Cursor, to: Cursor) -> Option<Self> {
        let text = from.to_string();
        match to.since(from) {
            Some(0) => None,
            Some(count) => Some(Self::new(reason, &text, to, Some(count))),
            None if to.epoch == from.epoch => to.follows(from).then(|| Self::new(reason, &text, to, None)),
            None => Some(Self::into_another_log(from, to)),
        }
    }

    /// The gap of a reader that stood at `from` and goes on at `to`, with another log in between or behind: nobody can
    /// know how much was missed, and something was although the two may be one position.
    #[must_use]
    pub fn into_another_log(from: Cursor, to: Cursor) -> Self {
        Self::new(GapReason::EpochChanged, &from.to_string(), to, None)
    }
}

impl Window {
    /// Answers a presented cursor. `text` is the cursor as it was sent, for the gap's `from`.
    ///
    /// Where an epoch came back the window is cut: whoever presents a position from before that gets a gap and goes on
    /// behind it. Every position that its log had reached by then is among them, because somebody may have had it before, at
    /// another window perhaps: a gap that tells of nothing is better than silence about everything in between.
    ///
    /// ```text
    /// the window:   a1 a2 a3  gap to b1  b2  gap to a3  a4 a5      its upstream went from log a to b and back
    /// who presents a2:        EpochChanged, gap(a2, a3], then a4 …  a3 and b2 may be missing, and a4 may be known from elsewhere
    /// who presents a5:        Resumed                               that position is of the second stretch
    /// ```
    #[must_use]
    pub fn find(&self, ask: StartFrom, text: &str) -> Start {
        let (first, base) = self.uncut();
        let with_gap = |outcome, gap| Start { outcome, next: first, position: base, gap };
        let changed = || {
            with_gap(
                Outcome::EpochChanged,
                Some(MissingRange::new(GapReason::EpochChanged, text, base, None)),
            )
        };
        match ask {
            StartFrom::Head => {
                Start { outcome: Outcome::Fresh, next: self.end, position: self.head, gap: None }
            }
            StartFrom::Oldest => {
                Start { outcome: Outcome::Fresh, next: self.oldest, position: self.floor, gap: None }
            }
            StartFrom::At(cursor) if cursor.follows(self.head) => Start {
                outcome: Outcome::Ahead,
                next: self.end,
                position: self.head,
                gap: Some(MissingRange::new(GapReason::Ahead, text, self.head, None)),
            },
            StartFrom::At(cursor) if self.is_before_return(cursor) && cursor.follows(base) => Start {
                outcome: Outcome::EpochChanged,
                next: self.slot_after(cursor),
                position: cursor,
                gap: Some(MissingRange::into_another_log(cursor, cursor)),
            },
            StartFrom::At(cursor) if self.is_before_return(cursor) => changed(),
            StartFrom::At(cursor) if base.follows(cursor) => {
                with_gap(Outcome::Trimmed, MissingRange::between(GapReason::Trimmed, cursor, base))
            }
            StartFrom::At(cursor) if self.knows(cursor.epoch) => Start {
                outcome: Outcome::Resumed,
                next: self.slot_after(cursor),
                position: cursor,
                gap: None,
            },
            StartFrom::At(_) | StartFrom::Foreign => changed(),
            StartFrom::Unreadable => {
                let gap = MissingRange::new(GapReason::CursorUnreadable, "", base, None);
                with_gap(Outcome::EpochChanged, Some(gap))
            }
        }
    }

    /// Whether this window alone cannot tell what became of a position: it lies beyond the head, or in an epoch in which
    /// the window has not been.
    #[must_use]
    pub fn is_beyond(&self, cursor: Cursor) -> bool {
        cursor.follows(self.head) || !self.knows(cursor.epoch) && !self.turns.has_left(cursor.epoch)
    }

    /// Whether the log turned into another one at `slot` or after it, and that is not held any more. What a reader that
    /// stood there has missed lies in two logs, whatever its position and the floor say.
    #[must_use]
    pub fn turned_unseen(&self, slot: Slot) -> bool {
        self.turns.trimmed_since(slot)
    }

    /// The first slot from which on every epoch occurs once, and the position before it.
    fn uncut(&self) -> (Slot, Cursor) {
        match self.turns.back() {
            Some(back) if back.slot >= self.oldest => (back.slot.next(), back.at),
            _ => (self.oldest, self.floor),
        }
    }

    /// Whether a position may have been reached before its epoch came back, here or elsewhere.
    pub(crate) fn is_before_return(&self, cursor: Cursor) -> bool {
        let back = self.turns.back().filter(|back| back.at.epoch == cursor.epoch);
        back.is_some_and(|back| !cursor.follows(back.upto))
    }

    /// Whether every position of this epoch is known here, from the cut or the floor on.
    fn knows(&self, epoch: Epoch) -> bool {
        let (_, base) = self.uncut();
        epoch == self.head.epoch
            || epoch == base.epoch
            || self.uncut_chunks().any(|chunk| chunk.epoch() == epoch)
    }

    fn uncut_chunks(&self) -> impl DoubleEndedIterator<Item = &Chunk> {
        let (first, _) = self.uncut();
        self.chunks.range(self.chunks.partition_point(|chunk| chunk.end() <= first)..)
    }

    /// The first slot held whose entry comes after `cursor`: in its epoch, or in the epochs that followed it.
    fn slot_after(&self, cursor: Cursor) -> Slot {
        let (first, base) = self.uncut();
        let reached = |chunk: &&Chunk| chunk.epoch() == cursor.epoch;
        match self.uncut_chunks().find(|chunk| reached(chunk) && chunk.last_seq() > cursor.seq) {
            Some(chunk) => chunk.slot_after(cursor.seq).max(first),
            None => self.uncut_chunks().rfind(reached).map_or_else(
                || {
                    if cursor.epoch == base.epoch && cursor.epoch != self.head.epoch {
                        first
                    } else {
                        self.end
                    }
                },
                Chunk::end,
            ),
        }
    }
}
