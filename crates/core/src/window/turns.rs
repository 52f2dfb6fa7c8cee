//! Where the log of a window turned into another one, and where it turned back.
//!
//! A window whose upstream goes from log A to log B and back to A holds two stretches of A. A reader's position tells
//! only that it is in A, not in which stretch; so where an epoch comes back the window is cut for whoever presents one.
//! Readers that are in the window go on: they have slots, which never repeat.
//!
//! ```text
//! entries   a1 a2 a3 | gap to b1 | b2 b3 | gap to a3 | a4
//! turn               left a3              left b3; back: a is known, so the window is cut here
//! presented                               a2: EPOCH_CHANGED, because b2 and b3 lie between it and what follows
//! ```

use super::Slot;
use crate::cursor::{Cursor, Epoch, Epochs};

/// The turns that matter to readers.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    /// The epochs the window has left; remembered when nothing of them is held any more.
    left: Epochs,
    /// The last turn into an epoch that had been left before, or may have been.
    back: Option<Turn>,
    /// The newest turn that is not held any more.
    trimmed: Option<Slot>,
    /// How far the log reached when the stream began that fills the window now.
    reached: Option<Cursor>,
}

/// The entry that leads into another epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) slot: Slot,
    /// The position where reading goes on.
    pub(super) at: Cursor,
    /// The last position that somebody may have had before, from elsewhere: the window itself may have been behind.
    pub(super) upto: Cursor,
}

impl Turns {
    /// The log reaches to this position, whatever of it the window will hold.
    pub(super) fn reached(&mut self, to: Cursor) {
        self.reached = Some(to);
    }

    /// The entry at `slot` leads from one position to another, in another epoch. `held`: entries of that one are held.
    pub(super) fn turn(&mut self, from: Cursor, at: Cursor, slot: Slot, held: bool) {
        // Once an epoch was forgotten, this may be it.
        if held || self.left.contains(at.epoch) || self.left.has_forgotten() {
            let upto = self.reached.filter(|reached| reached.follows(at)).unwrap_or(at);
            self.back = Some(Turn { slot, at, upto });
        }
        self.left.leave(from);
    }

    /// The entry at `slot`, which led into another epoch, is not held any more.
    pub(super) fn trimmed(&mut self, slot: Slot) {
        self.trimmed = Some(slot);
    }

    /// The last turn into an epoch that had been left before, or may have been.
    pub(super) const fn back(&self) -> Option<Turn> {
        self.back
    }

    /// Whether the window has left this epoch at least once, as far as it remembers.
    pub(super) fn has_left(&self, epoch: Epoch) -> bool {
        self.left.contains(epoch)
    }

    /// Whether a turn at `slot` or after it is not held any more.
    pub(super) fn trimmed_since(&self, slot: Slot) -> bool {
        self.trimmed.is_some_and(|turn| turn >= slot)
    }
}
