//! Two instances that keep taking one gateway id from each other: when that is a duel, and how long the one that comes
//! is held off.
//!
//! Pure, and about one gateway id; `fence.rs` keeps one for each id that changed hands of late. It decides nothing about
//! who has the stream.
//!
//! What is counted are *returns*: an instance takes the id back that it lost a moment ago. A restart or a rolling
//! update, however often, is no return, because each process has an instance id of its own.

use std::collections::VecDeque;
use std::time::Duration;

/// So many returns within [`WITHIN`] are a duel.
const RETURNS: usize = 5;

/// Returns are counted over this time, and for this long an instance is remembered to have lost the id.
const WITHIN: Duration = Duration::from_secs(60);

/// How long the first one to be held off must stay away.
const HOLD_OFF_FIRST: Duration = Duration::from_secs(60);

/// Each time it doubles, up to this.
const HOLD_OFF_MAX: Duration = Duration::from_secs(600);

/// A duel is forgotten when nobody came for this long after whoever was held off might have.
const QUIET: Duration = Duration::from_secs(300);

/// Of how many instances is remembered that they lost the id. With more than these on one id, the latest are enough
/// to see a duel.
const LOSERS_MAX: usize = 8;

/// What is remembered of one gateway id.
#[derive(Debug, Default)]
pub(super) struct Duel {
    /// Who lost the id, and when, the latest last. An empty name stands for every old client.
    losers: VecDeque<(String, Duration)>,
    /// The latest returns, at most [`RETURNS`].
    returns: VecDeque<Duration>,
    held_off: Option<HeldOff>,
}

/// The latest refusal.
#[derive(Clone, Copy, Debug)]
struct HeldOff {
    wait: Duration,
    until: Duration,
}

impl Duel {
    /// Whether the id is being fought over.
    pub(super) fn is_on(&self, now: Duration) -> bool {
        self.recent_returns(now) >= RETURNS || self.is_held_off(now)
    }

    /// Whether it is, once this instance has taken the id, too.
    pub(super) fn is_on_with(&self, instance: &str, now: Duration) -> bool {
        let this_one = usize::from(self.lost_it(instance, now));
        self.recent_returns(now) + this_one >= RETURNS || self.is_held_off(now)
    }

    /// `newer` has taken the id from `older`.
    pub(super) fn changed_hands(&mut self, older: &str, newer: &str, now: Duration) {
        if self.lost_it(newer, now) {
            self.returns.push_back(now);
            if self.returns.len() > RETURNS {
                self.returns.pop_front();
            }
        }
        self.losers.retain(|(loser, _)| loser != older);
        self.losers.push_back((older.to_owned(), now));
        if self.losers.len() > LOSERS_MAX {
            self.losers.pop_front();
        }
    }

    /// How long whoever comes now must stay away. It doubles each time somebody comes after the time is up; whoever
    /// comes earlier is told what is left of it.
    pub(super) fn hold_off(&mut self, now: Duration) -> Duration {
        let wait = match self.held_off.filter(|_| self.is_held_off(now)) {
            Some(held) if now < held.until => return held.until - now,
            Some(held) => (held.wait * 2).min(HOLD_OFF_MAX),
            None => HOLD_OFF_FIRST,
        };
        self.held_off = Some(HeldOff { wait, until: now + wait });
        wait
    }

    /// How long whoever comes now would be told to stay away, if it would.
    pub(super) fn held_off_for(&self, now: Duration) -> Duration {
        self.held_off.map_or(Duration::ZERO, |held| held.until.saturating_sub(now))
    }

    /// Whether there is anything left to remember.
    pub(super) fn is_forgotten(&self, now: Duration) -> bool {
        let recent = |at: &Duration| now.saturating_sub(*at) <= WITHIN;
        !self.is_held_off(now)
            && !self.returns.iter().any(recent)
            && !self.losers.iter().any(|(_, at)| recent(at))
    }

    fn is_held_off(&self, now: Duration) -> bool {
        self.held_off.is_some_and(|held| now < held.until + QUIET)
    }

    fn recent_returns(&self, now: Duration) -> usize {
        self.returns.iter().filter(|at| now.saturating_sub(**at) <= WITHIN).count()
    }

    fn lost_it(&self, instance: &str, now: Duration) -> bool {
        self.losers.iter().any(|(loser, at)| loser == instance && now.saturating_sub(*at) <= WITHIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// The names take the id one after another, every `every` seconds; says after which of them it is a duel.
    fn fight(names: &str, every: u64) -> Option<usize> {
        let mut duel = Duel::default();
        let names: Vec<_> = names.split(' ').collect();
        for (i, pair) in names.windows(2).enumerate() {
            let now = s(every * (i as u64 + 1));
            if duel.is_on_with(pair[1], now) {
                return Some(i + 1);
            }
            duel.changed_hands(pair[0], pair[1], now);
            assert!(!duel.is_on(now));
        }
        None
    }

    #[test]
    fn only_returns_make_a_duel() {
        assert_eq!(fight("a b a b a b a", 10), Some(6), "the fifth return");
        assert_eq!(fight("a b a b a b a", 16), None, "never five in a minute");
        assert_eq!(fight("a b c d e f g h i j k l", 1), None, "restarts");
        assert_eq!(fight("a b c a b c a b c", 5), Some(7), "three can duel, too");
        assert_eq!(fight("_ _ _ _ _ _ _ _ _", 5), Some(6), "old clients have one name: all but the first");
    }

    #[test]
    fn whoever_is_held_off_waits_twice_as_long_each_time() {
        let (mut duel, mut now) = (Duel::default(), s(1_000));
        for wait in [60, 120, 240, 480, 600, 600] {
            assert_eq!(duel.hold_off(now), s(wait));
            assert_eq!(duel.hold_off(now + s(7)), s(wait - 7), "too early: what is left");
            now += s(wait);
        }
        now += s(299);
        assert!(duel.is_on(now) && duel.is_on_with("z", now) && !duel.is_forgotten(now));
        now += s(1);
        assert!(!duel.is_on(now) && duel.is_forgotten(now), "five quiet minutes");
        assert_eq!(duel.hold_off(now), s(60));
    }

    #[test]
    fn what_happened_a_minute_ago_is_forgotten() {
        let mut duel = Duel::default();
        assert!(duel.is_forgotten(s(0)));
        duel.changed_hands("a", "b", s(10));
        duel.changed_hands("b", "a", s(20));
        assert!(!duel.is_forgotten(s(80)));
        assert!(duel.is_forgotten(s(81)));
        assert!(duel.losers.len() <= LOSERS_MAX);
    }
}
