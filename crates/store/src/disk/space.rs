//! How much room there is on the disk, and how much the log may still need.
//!
//! The need is the most that the log may take up by its bounds, less what it takes up already; but never less than what the
//! next segments need, which are begun before the oldest one goes.
//!
//! Each id and each standing record lies in the log once besides the frames of the window: it is carried on when its segment
//! goes, and what was carried meanwhile goes with the segment that it was carried to. While a segment goes, what is carried out of
//! it lies there twice: as much as one segment holds.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Options;
use super::files::Files;
use super::format::ENTRY_BYTES_MIN;

/// What an entry takes besides its frame, at most.
const AROUND_ENTRY_BYTES: u64 = 180;
/// What a key that is carried forward takes besides its text, and a standing record besides its message.
const AROUND_KEY_BYTES: u64 = 37;
pub(super) const AROUND_RECORD_BYTES: u64 = 40;
/// No standing record is longer.
const RECORD_BYTES_MAX: u64 = 1 << 10;
/// A group that was nearly full when the largest batch came.
const GROUP_BYTES: u64 = 8 << 20;
/// Besides what the window holds: the one that is written, the one before it, one that is half in the window, and what is carried
/// out of one that is to go.
const SEGMENTS_BESIDES: u64 = 4;

#[derive(Debug)]
pub(crate) struct Space {
    /// The most that the log may take up.
    most_bytes: u64,
    /// What must always be free.
    least_bytes: u64,
    seen: Mutex<Seen>,
}

/// What a look at the disk saw.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// `None`: nobody knows.
    free_bytes: Option<u64>,
    at: Instant,
}

impl Space {
    pub(crate) fn of(options: &Options) -> Self {
        Self {
            most_bytes: most_bytes(options, GROUP_BYTES),
            least_bytes: options.segment_bytes.saturating_mul(2).saturating_add(GROUP_BYTES),
            seen: Mutex::new(Seen { free_bytes: None, at: Instant::now() }),
        }
    }

    /// Asks the system. What it does not say is not known.
    pub(crate) fn measure(&self, files: &dyn Files) {
        let seen = Seen { free_bytes: files.free_bytes().ok().flatten(), at: Instant::now() };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }

    /// What was free at the last look, and how long ago that was.
    pub(crate) fn free_bytes(&self) -> (Option<u64>, Duration) {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.free_bytes, seen.at.elapsed())
    }

    /// What the log may still need, if it takes up so much.
    pub(crate) fn needed_bytes(&self, disk_bytes: u64) -> u64 {
        self.most_bytes.saturating_sub(disk_bytes).max(self.least_bytes)
    }
}

/// The most that the log may take up by its bounds, with groups of at most so many bytes.
pub(crate) fn most_bytes(options: &Options, group_bytes: u64) -> u64 {
    let (window, dedup) = (options.window, options.dedup);
    let entries = window.events.min(window.bytes / ENTRY_BYTES_MIN);
    let records = 2 * options.records_max as u64;
    let most = [
        window.bytes,
        entries.saturating_mul(AROUND_ENTRY_BYTES),
        // A group that is longer has a segment of its own.
        options.segment_bytes.max(group_bytes).saturating_mul(SEGMENTS_BESIDES),
        group_bytes,
        dedup.bytes as u64,
        (dedup.ids as u64).saturating_mul(AROUND_KEY_BYTES),
        records.saturating_mul(RECORD_BYTES_MAX + AROUND_RECORD_BYTES),
    ];
    most.into_iter().fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use galaxy_push_core::window::Bounds;

    use super::*;

    /// The arithmetic of docs/operations.md.
    #[test]
    fn the_default_settings_need_some_gibibyte_at_most() {
        let space = Space::of(&Options::of(Bounds::default()));
        assert_eq!(space.most_bytes >> 20, 1_066);
        assert_eq!(space.needed_bytes(24 << 20), space.most_bytes - (24 << 20));
        assert_eq!(space.needed_bytes(space.most_bytes), (72 << 20), "two segments and a group");
    }

    #[test]
    fn bounds_without_an_end_need_no_more_than_there_is_in_the_world() {
        let space =
            Space::of(&Options::of(Bounds { events: u64::MAX, bytes: u64::MAX, ..Bounds::default() }));
        assert_eq!((space.needed_bytes(0), space.free_bytes().0), (u64::MAX, None));
    }

    #[test]
    fn what_a_disk_does_not_say_is_not_known() {
        let space = Space::of(&Options::default());
        space.measure(&super::super::simulated::Disk::default());
        assert_eq!(space.free_bytes().0, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_free_is_as_old_as_the_look_at_it() {
        let (space, disk) = (Space::of(&Options::default()), super::super::simulated::Disk::default());
        let ago = || space.free_bytes().1.as_secs();
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(ago(), 3);
        space.measure(&disk);
        assert_eq!(ago(), 0);
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(ago(), 7, "a disk that does not answer");
    }
}
