//! By which clock each entry was stamped: one for each stream that the window was filled by, the latest few.
//!
//! Another stream may come from another life of the hub, whose clock began elsewhere. What was held by then keeps the clock
//! that it came under.

use std::collections::VecDeque;

use super::Slot;
use crate::log_clock::Offset;

/// The most clocks of earlier streams that are kept; with more, those of the oldest entries are not known any more.
const EARLIER_MAX: usize = 16;

/// ```text
/// slots      0 ……… 40 ……… 90 ……… end
/// stream     the first   the second   the third, open now
/// earlier    (40, +3 s)  (90, −1 s)   present: None until its first stamp
/// ```
#[derive(Debug, Default)]
pub(super) struct Clocks {
    /// The first slot that is no longer of the stream, and how its clock stood; oldest first.
    earlier: VecDeque<(Slot, Option<Offset>)>,
    pub(super) present: Option<Offset>,
    /// Of the entries before this slot the clock was dropped.
    known_from: Slot,
}

impl Clocks {
    /// What is appended from `end` on is of another stream, whose clock is not known yet.
    pub(super) fn begin(&mut self, oldest: Slot, end: Slot) {
        while self.earlier.front().is_some_and(|(before, _)| *before <= oldest) {
            self.earlier.pop_front();
        }
        let before = self.earlier.back().map_or(oldest, |(before, _)| *before);
        if end > before {
            self.earlier.push_back((end, self.present));
        }
        if self.earlier.len() > EARLIER_MAX
            && let Some((before, _)) = self.earlier.pop_front()
        {
            self.known_from = before;
        }
        self.present = None;
    }

    /// The clock that stamped the entry of this slot, if it is known.
    pub(super) fn of(&self, slot: Slot) -> Option<Offset> {
        if slot < self.known_from {
            return None;
        }
        let earlier = self.earlier.get(self.earlier.partition_point(|(before, _)| *before <= slot));
        earlier.map_or(self.present, |(_, clock)| *clock)
    }
}
