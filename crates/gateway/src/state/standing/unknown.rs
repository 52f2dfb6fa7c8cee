//! Where in the window it is not known who belonged to which topic.
//!
//! Part of [`Memberships`](super::Memberships). A gateway that begins, or resyncs with the log, is told what holds, but not
//! since when: a membership may have begun with a record that is replayed, or before. Nor is it told what held meanwhile
//! and has expired. So everything from where delivery was paused until the log was read to its end is unknown, but for what
//! records in there say.

use std::collections::VecDeque;
use std::ops::Range;

use galaxy_push_core::window::Slot;

/// The most ranges. Beyond it the two oldest become one, and what lies between counts as unknown, too.
const RANGES_MAX: usize = 64;

/// Ranges of slots, in their order and apart from each other.
#[derive(Clone, Debug, Default)]
pub(super) struct UnknownRanges(VecDeque<Range<Slot>>);

impl UnknownRanges {
    /// Adds a range behind all others.
    pub(super) fn add(&mut self, range: Range<Slot>) {
        if range.is_empty() {
            return;
        }
        self.0.push_back(range);
        if self.0.len() > RANGES_MAX
            && let Some(oldest) = self.0.pop_front()
            && let Some(next) = self.0.front_mut()
        {
            next.start = oldest.start;
        }
    }

    /// Adds everything before this slot.
    pub(super) fn add_all_before(&mut self, slot: Slot) {
        let mut all = Slot::default()..slot;
        while let Some(first) = self.0.front()
            && first.start <= all.end
        {
            all.end = all.end.max(first.end);
            self.0.pop_front();
        }
        self.0.push_front(all);
    }

    /// Whether some range ends before the oldest slot that is held.
    pub(super) fn any_before(&self, oldest: Slot) -> bool {
        self.0.front().is_some_and(|first| first.end <= oldest)
    }

    /// Forgets the ranges that end before the oldest slot that is held.
    pub(super) fn forget_before(&mut self, oldest: Slot) {
        self.0.retain(|range| range.end > oldest);
    }

    /// Whether this slot lies in one of them.
    pub(super) fn contains(&self, slot: Slot) -> bool {
        self.0.iter().any(|range| range.contains(&slot))
    }
}
