//! The clock by which a hub stamps its log, as a reader knows it.
//!
//! A hub's clock never steps, but nobody else has it: a reader sees stamps on frames that were some time on their way. The
//! one that was least long is nearest to the truth, so an estimate is never ahead of the hub's clock, and behind it by no
//! more than the least transit. No wall clock is asked, neither the reader's nor, after its start, the hub's.
//!
//! # One timeline
//!
//! ```text
//! the hub stamps      10:00:00.000          10:00:05.000          10:00:10.000
//! the frame travels          900 ms                 30 ms                500 ms
//! the reader hears it        │ offset − 900 ms      │ offset − 30 ms     │ offset − 500 ms
//! the estimate               │ 900 ms behind        │ 30 ms behind       │ still 30 ms behind: the nearest counts
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How long a frame counts: two quartz clocks drift apart by some milliseconds meanwhile.
const COUNTS_FOR: Duration = Duration::from_secs(600);

/// Frames of one such span count as one, the nearest of them: at most 41 are held.
const SPAN: Duration = Duration::from_secs(15);

/// What the hub's clock said beside the reader's own monotonic clock: the difference, in milliseconds.
///
/// A greater offset is nearer to the truth, because transit only ever makes a stamp look older.
///
/// ```
/// use std::time::Duration;
/// use galaxy_push_core::log_clock::Offset;
///
/// let second = Duration::from_secs;
/// let offset = Offset::of(1_700_000_000_000, second(5));            // the hub said so when this process was 5 s old
/// assert_eq!(offset.unix_ms(second(6)), 1_700_000_001_000);
/// assert_eq!(offset.age(1_699_999_999_000, second(6)), second(2));
/// assert_eq!(offset.age(1_800_000_000_000, second(6)), Duration::ZERO, "a stamp from the future is no age below zero");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offset(i64);

impl Offset {
    /// The difference if the hub's clock says `unix_ms` at this moment of the reader's.
    #[must_use]
    pub fn of(unix_ms: u64, now: Duration) -> Self {
        Self(signed(u128::from(unix_ms)).saturating_sub(signed(now.as_millis())))
    }

    /// The difference, in milliseconds: for whoever keeps it as a number.
    #[must_use]
    pub const fn to_ms(self) -> i64 {
        self.0
    }

    /// As [`Offset::to_ms`] gave it.
    #[must_use]
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// What the hub's clock says at this moment of the reader's, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn unix_ms(self, now: Duration) -> u64 {
        u64::try_from(self.0.saturating_add(signed(now.as_millis()))).unwrap_or(0)
    }

    /// How old something stamped `unix_ms` is at this moment; zero if that is yet to come.
    #[must_use]
    pub fn age(self, unix_ms: u64, now: Duration) -> Duration {
        Duration::from_millis(self.unix_ms(now).saturating_sub(unix_ms))
    }
}

fn signed(ms: u128) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// One stream's estimate. [`LogClock::begin`] with each `Welcome`, [`LogClock::observe`] with each stamp that was read from
/// the hub's clock just before it was sent.
///
/// Holds at most 42 samples, whatever the rate of frames.
#[derive(Clone, Debug, Default)]
pub struct LogClock {
    /// The nearest of each span, oldest first, as far as nothing nearer came later.
    samples: VecDeque<(Duration, Offset)>,
}

impl LogClock {
    /// A stream begins, perhaps with another hub: what was known counts no longer.
    pub fn begin(&mut self) {
        self.samples.clear();
    }

    /// A frame of the present moment came; 0 says that it has no stamp.
    ///
    /// Only stamps of *this* moment may come here: `Welcome`, `Progress`, `CaughtUp` and live events. A replayed event was stamped long ago
    /// and would make the hub's clock look late.
    pub fn observe(&mut self, unix_ms: u64, now: Duration) {
        if unix_ms == 0 {
            return;
        }
        let offset = Offset::of(unix_ms, now);
        while self.samples.front().is_some_and(|(at, _)| now.saturating_sub(*at) > COUNTS_FOR) {
            self.samples.pop_front();
        }
        if self.samples.back().is_some_and(|(at, last)| offset <= *last && now.saturating_sub(*at) < SPAN) {
            return;
        }
        // What is no nearer than a later one never counts again.
        while self.samples.back().is_some_and(|(_, before)| *before <= offset) {
            self.samples.pop_back();
        }
        self.samples.push_back((now, offset));
    }

    /// The estimate; `None` before the first stamp of this stream.
    #[must_use]
    pub fn offset(&self) -> Option<Offset> {
        self.samples.front().map(|(_, offset)| *offset)
    }
}

/// The clocks of several hubs, each as it was known last. Those on one log are to agree within [`APART_MAX`].
///
/// Asked by a gateway whose client goes from hub to hub: it warns when two of them are further apart than that.
#[derive(Clone, Debug, Default)]
pub struct HubClocks {
    /// When each was known, and what it was. At most one for each hub.
    known: BTreeMap<usize, (Duration, Offset)>,
    apart: Duration,
}

/// Hubs on one log that are further apart are said to be: a `ttl` counts differently at each of them.
pub const APART_MAX: Duration = Duration::from_secs(1);

impl HubClocks {
    /// The clock of this hub is known at this moment. Compared with those of others that were known not long ago: beyond that
    /// the reader's own clock may have drifted.
    pub fn note(&mut self, hub: usize, offset: Offset, now: Duration) {
        self.known.insert(hub, (now, offset));
        let fresh = |at: Duration| now.saturating_sub(at) <= COUNTS_FOR;
        let others = self.known.iter().filter(|(other, (at, _))| **other != hub && fresh(*at));
        let apart = others.map(|(_, (_, other))| other.0.abs_diff(offset.0)).max();
        self.apart = apart.map_or(self.apart, Duration::from_millis);
    }

    /// How far apart two of them were at most when they were compared last.
    #[must_use]
    pub const fn apart(&self) -> Duration {
        self.apart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_of_hubs_are_compared_while_both_are_fresh() {
        let mut clocks = HubClocks::default();
        let at =
            |hub_ahead_ms: u64, seconds: u64| Offset::of(HUB + hub_ahead_ms + seconds * 1_000, secs(seconds));
        clocks.note(0, at(0, 10), secs(10));
        clocks.note(0, at(5_000, 20), secs(20));
        assert_eq!(clocks.apart(), Duration::ZERO, "a hub that was started anew is compared with no other");
        clocks.note(1, at(3_500, 30), secs(30));
        assert_eq!(clocks.apart(), Duration::from_millis(1_500));
        clocks.note(1, at(5_000, 700), secs(700));
        assert_eq!(clocks.apart(), Duration::from_millis(1_500), "nothing new is known");
        clocks.note(0, at(5_100, 710), secs(710));
        assert_eq!(clocks.apart(), Duration::from_millis(100));
    }

    const HUB: u64 = 1_700_000_000_000;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// A stamp of the hub's clock, `transit` ms on its way, heard when the reader's clock says `at`.
    fn observe(clock: &mut LogClock, at: Duration, transit: u64) {
        clock.observe(HUB + at.as_millis() as u64 - transit, at);
    }

    fn behind_by(clock: &LogClock, at: Duration) -> u64 {
        HUB + at.as_millis() as u64 - clock.offset().unwrap().unix_ms(at)
    }

    #[test]
    fn the_least_transit_of_the_last_ten_minutes_counts() {
        let mut clock = LogClock::default();
        assert_eq!(clock.offset(), None);
        clock.observe(0, secs(1));
        assert_eq!(clock.offset(), None, "an older hub does not stamp");
        for (at, transit, behind) in [(1, 900, 900), (2, 30, 30), (3, 500, 30), (500, 40, 30), (602, 90, 30)]
        {
            observe(&mut clock, secs(at), transit);
            assert_eq!(behind_by(&clock, secs(at)), behind, "at {at}");
        }
        observe(&mut clock, secs(603), 90);
        assert_eq!(behind_by(&clock, secs(603)), 40, "the nearest is too old");
        assert_eq!(behind_by(&clock, secs(5_000)), 40, "the last that is known is better than nothing");
        observe(&mut clock, secs(5_001), 2_000);
        assert_eq!(behind_by(&clock, secs(5_001)), 2_000);
        clock.begin();
        assert_eq!(clock.offset(), None);
    }

    #[test]
    fn what_is_held_has_a_bound() {
        let mut clock = LogClock::default();
        for tenth in 0..60_000 {
            // Each is a little further away than the one before: none makes another needless.
            observe(&mut clock, Duration::from_millis(tenth * 100), tenth);
            assert!(clock.samples.len() <= 42, "{}", clock.samples.len());
        }
    }

    #[test]
    fn an_age_is_never_negative() {
        let offset = Offset::of(HUB, secs(5));
        assert_eq!(offset.age(HUB - 7_000, secs(6)), secs(8));
        assert_eq!(offset.age(HUB + 7_000, secs(6)), Duration::ZERO);
        assert_eq!(Offset::of(5, secs(100)).unix_ms(secs(1)), 0);
    }
}
