//! Which segments are still needed, and what must be carried forward before one is not.
//!
//! Pure. Events need a segment as long as the window may hold them, by any of its bounds. What outlives them, keys and
//! standing records, is written once more, into a newer segment, before the old one is taken away: so the disk holds no
//! more than the window, the keys and the records, and some segments.

use std::collections::VecDeque;
use std::time::Duration;

use galaxy_push_core::window::Bounds;

/// What is known of a segment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kept {
    pub(crate) number: u64,
    pub(crate) entries: u64,
    pub(crate) frame_bytes: u64,
    /// When the last of what was published into it was stamped; 0: everything in it was carried there.
    pub(crate) last_unix_ms: u64,
    /// The length of the file.
    pub(crate) file_bytes: u64,
}

/// Keys that were remembered from one time to another lie in this segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
    pub(crate) place: u64,
}

/// The segments, oldest first, and where the keys lie.
#[derive(Debug)]
pub(crate) struct Retention {
    bounds: Bounds,
    segments: VecDeque<Kept>,
    keys: VecDeque<Keys>,
}

impl Retention {
    pub(crate) const fn new(bounds: Bounds) -> Self {
        Self { bounds, segments: VecDeque::new(), keys: VecDeque::new() }
    }

    /// A segment was begun.
    pub(crate) fn begin(&mut self, number: u64, file_bytes: u64) {
        self.segments.push_back(Kept { number, file_bytes, ..Kept::default() });
    }

    /// So many entries, of this time, lie in this segment, and their keys.
    pub(crate) fn add(&mut self, number: u64, entries: u64, unix_ms: u64) {
        let Some(kept) = self.segments.iter_mut().rfind(|kept| kept.number == number) else { return };
        kept.entries += entries;
        kept.last_unix_ms = kept.last_unix_ms.max(unix_ms);
        let at = Duration::from_millis(unix_ms);
        match self.keys.back_mut() {
            Some(last) if last.place == number && last.from <= at => last.to = last.to.max(at),
            _ => self.keys.push_back(Keys { from: at, to: at, place: number }),
        }
    }

    /// So many bytes of frames more lie in this segment.
    pub(crate) fn weigh(&mut self, number: u64, frame_bytes: u64) {
        if let Some(kept) = self.segments.iter_mut().rfind(|kept| kept.number == number) {
            kept.frame_bytes += frame_bytes;
        }
    }

    /// Keys of these times lie in a segment that was not written in this life.
    pub(crate) fn keep_keys(&mut self, keys: Keys) {
        self.keys.push_back(keys);
    }

    /// The last segment that the window has left, with all before it. The newest never is.
    pub(crate) fn left(&self, now_unix_ms: u64) -> Option<u64> {
        let mut newest_first = self.segments.iter().rev();
        let newest = newest_first.next()?;
        let mut later = (newest.entries, newest.frame_bytes);
        for kept in newest_first {
            let is_beyond = later.0 >= self.bounds.events.max(1) || later.1 >= self.bounds.bytes.max(1);
            if is_beyond || self.is_too_old(kept, now_unix_ms) {
                return Some(kept.number);
            }
            later = (later.0 + kept.entries, later.1 + kept.frame_bytes);
        }
        None
    }

    /// The newest segment, if the window has left it too: only by its age can it do that.
    pub(crate) fn newest_left(&self, now_unix_ms: u64) -> Option<u64> {
        let newest = self.segments.back().filter(|newest| self.is_too_old(newest, now_unix_ms));
        newest.map(|newest| newest.number)
    }

    /// What was only carried there has no age, and goes with what lies before it or behind.
    fn is_too_old(&self, kept: &Kept, now_unix_ms: u64) -> bool {
        let age_ms = u64::try_from(self.bounds.age.as_millis()).unwrap_or(u64::MAX);
        kept.last_unix_ms > 0 && now_unix_ms.saturating_sub(kept.last_unix_ms) > age_ms
    }

    /// When the keys that lie in these segments were remembered: from one time to another, each time once.
    pub(crate) fn keys_up_to(&self, number: u64) -> Vec<(Duration, Duration)> {
        let there = self.keys.iter().filter(|keys| keys.place <= number);
        let mut spans: Vec<_> = there.map(|keys| (keys.from, keys.to)).collect();
        spans.sort_unstable();
        spans.dedup_by(|later, earlier| {
            let overlap = later.0 <= earlier.1;
            if overlap {
                earlier.1 = earlier.1.max(later.1);
            }
            overlap
        });
        spans
    }

    /// What these segments held is needed no more, or lies in `to` now. Returns them, and how long their files are together.
    pub(crate) fn leave(
        &mut self,
        number: u64,
        to: u64,
        key_age: Duration,
        now: Duration,
    ) -> (Vec<u64>, u64) {
        self.keys.retain(|keys| now.saturating_sub(keys.to) <= key_age);
        self.keys.iter_mut().filter(|keys| keys.place <= number).for_each(|keys| keys.place = to);
        let those = self.segments.partition_point(|kept| kept.number <= number);
        let left: Vec<_> = self.segments.drain(..those).collect();
        (left.iter().map(|kept| kept.number).collect(), left.iter().map(|kept| kept.file_bytes).sum())
    }

    /// The oldest segment that there is.
    pub(crate) fn first(&self) -> Option<u64> {
        self.segments.front().map(|kept| kept.number)
    }

    /// The files of all segments together, in bytes.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.segments.iter().map(|kept| kept.file_bytes).sum()
    }

    /// The segment before this one was cut at its end.
    pub(crate) fn cut(&mut self, number: u64, end: u64) {
        if let Some(kept) = self.segments.back_mut().filter(|kept| kept.number < number) {
            kept.file_bytes = kept.file_bytes.min(end + super::format::ENDING_BYTES);
        }
    }
}
