//! Where a reader that asks for a position starts: the typed outcome of every cursor.

use std::time::Duration;

use super::{Ask, Cursor, Epoch, Slot, Window};

/// What became of the cursor a reader presented.
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

/// Why a reader missed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the contract's")]
pub enum GapReason {
    Trimmed,
    EpochChanged,
    Ahead,
    Lapped,
    Upstream,
    TooLarge,
    Collapsed,
    Damaged,
    CursorUnreadable,
}

/// What a reader has missed: the positions in `(from, to]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
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
    /// The position passed once the gap, if any, is told.
    pub passed: Cursor,
    /// What must be told first.
    pub gap: Option<Gap>,
}

impl Gap {
    fn new(reason: GapReason, from: &str, to: Cursor, count: Option<u64>) -> Self {
        Self { reason, from: from.to_owned(), to, count, repair_after: None }
    }

    /// The gap of a reader that stood at `from` and goes on at `to`, or `None` when it has missed nothing.
    #[must_use]
    pub fn between(reason: GapReason, from: Cursor, to: Cursor) -> Option<Self> {
        let text = from.to_string();
        match to.since(from) {
            Some(0) => None,
            Some(count) => Some(Self::new(reason, &text, to, Some(count))),
            None => Some(Self::new(GapReason::EpochChanged, &text, to, None)),
        }
    }
}

impl Window {
    /// Answers a presented cursor. `text` is the cursor as it was sent, for the gap's `from`.
    #[must_use]
    pub fn find(&self, ask: Ask, text: &str) -> Start {
        let oldest = |outcome, gap| Start { outcome, next: self.oldest, passed: self.floor, gap };
        match ask {
            Ask::Head => Start { outcome: Outcome::Fresh, next: self.end, passed: self.head, gap: None },
            Ask::Oldest => oldest(Outcome::Fresh, None),
            Ask::At(cursor) if cursor.follows(self.head) => Start {
                outcome: Outcome::Ahead,
                next: self.end,
                passed: self.head,
                gap: Some(Gap::new(GapReason::Ahead, text, self.head, None)),
            },
            Ask::At(cursor) if self.floor.follows(cursor) => {
                oldest(Outcome::Trimmed, Gap::between(GapReason::Trimmed, cursor, self.floor))
            }
            Ask::At(cursor) if self.knows(cursor.epoch) => {
                Start { outcome: Outcome::Resumed, next: self.slot_after(cursor), passed: cursor, gap: None }
            }
            Ask::At(_) | Ask::Foreign => {
                oldest(Outcome::EpochChanged, Some(Gap::new(GapReason::EpochChanged, text, self.floor, None)))
            }
            Ask::Unreadable => oldest(
                Outcome::EpochChanged,
                Some(Gap::new(GapReason::CursorUnreadable, "", self.floor, None)),
            ),
        }
    }

    /// Whether every position of this epoch from the floor on is known here.
    fn knows(&self, epoch: Epoch) -> bool {
        epoch == self.head.epoch
            || epoch == self.floor.epoch
            || self.chunks.iter().any(|chunk| chunk.epoch() == epoch)
    }

    /// The first slot held whose entry comes after `cursor`: in its epoch, or in the epochs that followed it.
    fn slot_after(&self, cursor: Cursor) -> Slot {
        let reached = |chunk: &&super::Chunk| chunk.epoch() == cursor.epoch;
        match self.chunks.iter().find(|chunk| reached(chunk) && chunk.last_seq() > cursor.seq) {
            Some(chunk) => chunk.slot_after(cursor.seq).max(self.oldest),
            None => self.chunks.iter().rfind(reached).map_or_else(
                || {
                    if cursor.epoch == self.floor.epoch && cursor.epoch != self.head.epoch {
                        self.oldest
                    } else {
                        self.end
                    }
                },
                super::Chunk::end,
            ),
        }
    }
}
