//! What a hub remembers of one gateway id that changed hands of late.
//!
//! Three things: what this hub counted itself, what the register of a shared log said last, and how much was logged of all
//! that. `ownership.rs` keeps one record for each such id. Who gives way is decided by the rule, which is the store's, because
//! hubs may share it ([`galaxy_push_store::fence::OwnershipFlap`]).
//!
//! Pure, and about one gateway id.

use std::time::Duration;

use galaxy_push_store::fence;

/// When nothing has happened to an id for this long, one line sums up what was not logged.
const QUIET: Duration = Duration::from_secs(60);

/// What is remembered of one gateway id.
#[derive(Debug, Default)]
pub(super) struct FlapRecord {
    /// What happened at this hub.
    pub(super) rule: fence::OwnershipFlap,
    /// What the register said of it when somebody came last.
    register: RegisterView,
    events: FlapEvents,
}

/// Whether an id flaps by the register, in this hub's monotonic time: the register itself counts in the log's time.
#[derive(Clone, Copy, Debug, Default)]
struct RegisterView {
    is_on_until: Duration,
    held_off_until: Duration,
}

/// How often the id changed hands or was refused since it was quiet last, and how much of that was logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FlapEvents {
    /// How often.
    pub(crate) count: u64,
    /// How often no line was written.
    pub(crate) unlogged: u64,
    latest: Duration,
}

impl FlapRecord {
    /// Whether the id flaps, by what this hub counted or by the register.
    pub(super) fn is_on(&self, now: Duration) -> bool {
        self.rule.is_on(now) || now < self.register.is_on_until
    }

    /// How long a newcomer would be told to stay away now, if it were held off.
    pub(super) fn held_off_for(&self, now: Duration) -> Duration {
        self.rule.held_off_for(now).max(self.register.held_off_until.saturating_sub(now))
    }

    /// Takes over what the register says. Its times are of the log's clock, which shows `at` when this hub's monotonic
    /// clock shows `now`:
    ///
    /// ```text
    /// register: held off until 1,000,060 s    at = 1,000,010 s    now = 5 s    so: held off until 55 s
    /// ```
    pub(super) fn mirror(&mut self, register: &fence::OwnershipFlap, at: Duration, now: Duration) {
        self.register = RegisterView {
            is_on_until: now + register.is_on_until(at).saturating_sub(at),
            held_off_until: now + register.held_off_for(at),
        };
    }

    /// Counts a takeover or a refusal. Returns how many there were by now, if this one is to be logged: the first, the
    /// second, the fourth and so on, so that a flapping id does not fill the log.
    pub(super) fn record_event(&mut self, now: Duration) -> Option<u64> {
        let events = &mut self.events;
        events.count += 1;
        events.latest = now;
        if events.count.is_power_of_two() {
            return Some(events.count);
        }
        events.unlogged += 1;
        None
    }

    /// How often something happened to the id, and how much of it was not logged.
    pub(super) const fn events(&self) -> FlapEvents {
        self.events
    }

    /// Whether there is anything left to remember.
    pub(super) fn is_forgotten(&self, now: Duration) -> bool {
        let told = self.events.count > 0 && now.saturating_sub(self.events.latest) <= QUIET;
        !told && self.rule.is_forgotten(now) && now >= self.register.is_on_until
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::s;
    use super::*;

    #[test]
    fn lines_about_it_are_rate_limited() {
        let mut record = FlapRecord::default();
        let told: Vec<_> = (0..20).filter_map(|i| record.record_event(s(i))).collect();
        assert_eq!(told, [1, 2, 4, 8, 16]);
        assert_eq!((record.events().count, record.events().unlogged), (20, 15));
        assert!(
            !record.is_forgotten(s(79)) && record.is_forgotten(s(80)),
            "the summary comes a minute later"
        );
    }

    /// Its times are of another clock.
    #[test]
    fn what_the_register_says_shows_for_as_long_as_it_holds() {
        let (mut register, mut record) = (fence::OwnershipFlap::default(), FlapRecord::default());
        register.hold_off(false, s(1_000_000));
        record.mirror(&register, s(1_000_010), s(5));
        assert_eq!((record.held_off_for(s(5)), record.held_off_for(s(56))), (s(50), s(0)));
        assert!(record.is_on(s(354)) && !record.is_forgotten(s(354)));
        assert!(!record.is_on(s(355)) && record.is_forgotten(s(355)));
    }
}
