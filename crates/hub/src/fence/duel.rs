//! What is remembered of one gateway id: which instances had it, how it changed hands, and how long whoever comes is held
//! off in a duel.
//!
//! Pure, and about one gateway id; `fence.rs` keeps one for each id that changed hands of late. It decides nothing about
//! who has the stream.
//!
//! What is counted are *returns*: an instance takes the id back that it lost a moment ago, or comes again although the
//! stream it has is alive, which is what two processes with one instance id look like. A restart or a rolling update,
//! however often, is no return, because each process has an instance id of its own.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use super::Claim;

/// So many returns within [`WITHIN`] are a duel.
const RETURNS: usize = 5;

/// Returns are counted over this time, and for this long it is remembered of an instance that it had the id.
const WITHIN: Duration = Duration::from_secs(60);

/// How long the first one to be held off must stay away.
pub(super) const HOLD_OFF_FIRST: Duration = Duration::from_secs(60);

/// Each time it doubles, up to this.
const HOLD_OFF_MAX: Duration = Duration::from_secs(600);

/// How long an instance that is held off from itself must stay away, each time. One process alone may look like two when its
/// path breaks and only it notices; by then HTTP/2's own pings have ended the stream it left behind.
const HOLD_OFF_OWN: Duration = Duration::from_secs(15);

/// A duel is forgotten when nobody came for this long after whoever was held off might have.
const QUIET: Duration = Duration::from_secs(300);

/// Of how many instances is remembered that they had the id: of more than these that share one, no return is seen. Some
/// 40 bytes each.
const INSTANCES_MAX: usize = 128;

/// What is remembered of one gateway id.
#[derive(Debug, Default)]
pub(super) struct Duel {
    /// Who had the id and has it no longer, the latest last.
    former: VecDeque<Former>,
    /// The latest returns of instances that had lost the id, at most [`RETURNS`].
    returns: VecDeque<Duration>,
    /// The latest of instances to themselves, at most [`RETURNS`].
    own_returns: VecDeque<Duration>,
    held_off: Option<HeldOff>,
    /// Until when an instance is held off from itself, the latest time.
    own_held_off: Option<Duration>,
    happenings: Happenings,
}

/// An instance that had the id.
#[derive(Debug)]
struct Former {
    /// Its name, as a number; one stands for every old client.
    instance: u64,
    /// Its highest: a lower one that comes later is a late duplicate.
    attempt: u64,
    /// When it had the id last.
    until: Duration,
    /// It did not leave by itself: another instance took the id.
    lost: bool,
}

/// The latest refusal for another instance.
#[derive(Clone, Copy, Debug)]
struct HeldOff {
    wait: Duration,
    until: Duration,
}

/// How often the id changed hands or was refused since it was quiet, and how much of that was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Happenings {
    /// How often.
    pub(crate) count: u64,
    /// How often no line was written.
    pub(crate) untold: u64,
    latest: Duration,
}

impl Duel {
    /// Whether the id is being fought over.
    pub(super) fn is_on(&self, now: Duration) -> bool {
        recent(&self.returns, now) + recent(&self.own_returns, now) >= RETURNS || self.holds_off(now)
    }

    /// Whether somebody was held off of late.
    fn holds_off(&self, now: Duration) -> bool {
        self.held_off.is_some_and(|held| held.is_on(now)) || self.holds_off_itself(now)
    }

    fn holds_off_itself(&self, now: Duration) -> bool {
        self.own_held_off.is_some_and(|until| now < until + QUIET)
    }

    /// Whether it is, once this other instance has taken the id, too.
    pub(super) fn is_on_with(&self, instance: &str, now: Duration) -> bool {
        let this_one = usize::from(self.lost_it(instance, now));
        recent(&self.returns, now) + recent(&self.own_returns, now) + this_one >= RETURNS
            || self.holds_off(now)
    }

    /// Whether the instance that has the id fights with itself, once it has come again, too. A fight with others is none
    /// of that: in it, whoever has the id may always come again.
    pub(super) fn is_on_with_itself(&self, now: Duration) -> bool {
        recent(&self.own_returns, now) + 1 >= RETURNS || self.holds_off_itself(now)
    }

    /// `newer`, another instance, has taken the id from `older`.
    pub(super) fn changed_hands(&mut self, older: &Claim, newer: &Claim, now: Duration) {
        if self.lost_it(&newer.instance, now) {
            count(&mut self.returns, now);
        }
        self.remember(older, now, true);
    }

    /// The instance that has the id has taken it from its own stream, which was alive.
    pub(super) fn came_again(&mut self, now: Duration) {
        count(&mut self.own_returns, now);
    }

    /// The stream of this claim has ended by itself.
    pub(super) fn left(&mut self, claim: &Claim, now: Duration) {
        self.remember(claim, now, false);
    }

    /// The highest attempt of this instance, if it had the id of late.
    pub(super) fn highest_attempt(&self, instance: &str, now: Duration) -> Option<u64> {
        let former = self.former.iter().find(|former| former.instance == number(instance))?;
        former.is_recent(now).then_some(former.attempt)
    }

    /// How long whoever comes now must stay away; `own`: from the stream of the same instance. For another one it doubles
    /// each time somebody comes after the time is up; whoever comes earlier is told what is left of it.
    pub(super) fn hold_off(&mut self, own: bool, now: Duration) -> Duration {
        if own {
            self.own_held_off = Some(now + HOLD_OFF_OWN);
            return HOLD_OFF_OWN;
        }
        let before = self.held_off.filter(|held| held.is_on(now));
        let (wait, until) = match before {
            Some(held) if now < held.until => (held.wait, held.until),
            Some(held) => {
                let wait = (held.wait * 2).min(HOLD_OFF_MAX);
                (wait, now + wait)
            }
            None => (HOLD_OFF_FIRST, now + HOLD_OFF_FIRST),
        };
        self.held_off = Some(HeldOff { wait, until });
        until - now
    }

    /// How long whoever comes now would be told to stay away, if it would.
    pub(super) fn held_off_for(&self, now: Duration) -> Duration {
        let until = self.held_off.map(|held| held.until).max(self.own_held_off);
        until.map_or(Duration::ZERO, |until| until.saturating_sub(now))
    }

    /// Something happened to the id. Returns how often by now, if that is to be told: the first time, the second, the
    /// fourth, and so on.
    pub(super) fn happened(&mut self, now: Duration) -> Option<u64> {
        let happenings = &mut self.happenings;
        happenings.count += 1;
        happenings.latest = now;
        if happenings.count.is_power_of_two() {
            return Some(happenings.count);
        }
        happenings.untold += 1;
        None
    }

    pub(super) const fn happenings(&self) -> Happenings {
        self.happenings
    }

    /// Whether there is anything left to remember.
    pub(super) fn is_forgotten(&self, now: Duration) -> bool {
        let told = self.happenings.count > 0 && is_recent(self.happenings.latest, now);
        !told
            && !self.holds_off(now)
            && recent(&self.returns, now) + recent(&self.own_returns, now) == 0
            && !self.former.iter().any(|former| former.is_recent(now))
    }

    fn remember(&mut self, claim: &Claim, now: Duration, lost: bool) {
        let (instance, attempt) = (number(&claim.instance), claim.attempt);
        self.former.retain(|former| former.instance != instance);
        self.former.push_back(Former { instance, attempt, until: now, lost });
        if self.former.len() > INSTANCES_MAX {
            self.former.pop_front();
        }
    }

    fn lost_it(&self, instance: &str, now: Duration) -> bool {
        let instance = number(instance);
        let lost = |former: &Former| former.lost && former.instance == instance && former.is_recent(now);
        self.former.iter().any(lost)
    }
}

impl Former {
    fn is_recent(&self, now: Duration) -> bool {
        is_recent(self.until, now)
    }
}

impl HeldOff {
    fn is_on(&self, now: Duration) -> bool {
        now < self.until + QUIET
    }
}

/// What stands for an instance: its name may have 255 bytes, and there is a lot to remember of an id with many.
fn number(instance: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    instance.hash(&mut hasher);
    hasher.finish()
}

fn is_recent(at: Duration, now: Duration) -> bool {
    now.saturating_sub(at) <= WITHIN
}

fn recent(returns: &VecDeque<Duration>, now: Duration) -> usize {
    returns.iter().filter(|at| is_recent(**at, now)).count()
}

fn count(returns: &mut VecDeque<Duration>, now: Duration) {
    returns.push_back(now);
    if returns.len() > RETURNS {
        returns.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn claim(instance: &str, attempt: u64) -> Claim {
        Claim { instance: instance.trim_matches('_').to_owned(), attempt, ..Claim::default() }
    }

    /// The names take the id one after another, every `every` seconds; says after which of them it is a duel.
    fn fight(names: &str, every: u64) -> Option<usize> {
        let mut duel = Duel::default();
        let names: Vec<_> = names.split(' ').map(|name| claim(name, 1)).collect();
        for (i, pair) in names.windows(2).enumerate() {
            let now = s(every * (i as u64 + 1));
            if duel.is_on_with(&pair[1].instance, now) {
                return Some(i + 1);
            }
            duel.changed_hands(&pair[0], &pair[1], now);
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
        let round: Vec<_> = (0..30).map(|i| format!("i{i}")).collect();
        let rounds = [&round[..], &round[..]].concat().join(" ");
        assert_eq!(fight(&rounds, 1), Some(34), "thirty that share one id");
        assert_eq!(fight("_ _ _ _ _ _ _ _ _", 5), Some(6), "old clients have one name: all but the first");
    }

    #[test]
    fn an_instance_that_comes_again_to_its_living_stream_fights_with_itself() {
        let mut duel = Duel::default();
        for i in 1..5 {
            assert!(!duel.is_on_with_itself(s(10 * i)), "{i}");
            duel.came_again(s(10 * i));
        }
        assert!(duel.is_on_with_itself(s(50)), "the fifth");
        assert!(!duel.is_on_with_itself(s(71)), "no longer five in a minute");
        assert_eq!((duel.hold_off(true, s(50)), duel.held_off_for(s(55))), (s(15), s(10)));
        assert!(duel.is_on_with_itself(s(50 + 15 + 299)) && duel.is_on_with("b", s(50 + 15 + 299)));
        assert!(!duel.is_on_with_itself(s(50 + 15 + 300)), "five quiet minutes");
    }

    #[test]
    fn a_fight_with_others_is_none_with_itself() {
        let mut duel = Duel::default();
        for pair in [("a", "b"), ("b", "a")].repeat(4) {
            duel.changed_hands(&claim(pair.0, 1), &claim(pair.1, 1), s(1));
        }
        duel.hold_off(false, s(2));
        assert!(duel.is_on_with("b", s(3)) && !duel.is_on_with_itself(s(3)));
    }

    #[test]
    fn the_highest_attempt_of_each_instance_is_remembered_for_a_minute() {
        let mut duel = Duel::default();
        duel.changed_hands(&claim("a", 7), &claim("b", 1), s(10));
        duel.left(&claim("b", 3), s(20));
        assert_eq!((duel.highest_attempt("a", s(70)), duel.highest_attempt("b", s(70))), (Some(7), Some(3)));
        assert_eq!((duel.highest_attempt("a", s(71)), duel.highest_attempt("c", s(71))), (None, None));
        for i in 0..2 * INSTANCES_MAX {
            duel.left(&claim(&format!("i{i}"), 1), s(71));
        }
        assert_eq!(duel.former.len(), INSTANCES_MAX);
    }

    #[test]
    fn who_left_by_itself_has_not_lost_the_id() {
        let mut duel = Duel::default();
        duel.left(&claim("a", 1), s(1));
        assert!(!duel.lost_it("a", s(2)));
    }

    #[test]
    fn lines_about_it_are_damped() {
        let mut duel = Duel::default();
        let told: Vec<_> = (0..20).filter_map(|i| duel.happened(s(i))).collect();
        assert_eq!(told, [1, 2, 4, 8, 16]);
        assert_eq!((duel.happenings().count, duel.happenings().untold), (20, 15));
        assert!(!duel.is_forgotten(s(79)) && duel.is_forgotten(s(80)), "the summary comes a minute later");
    }

    #[test]
    fn whoever_is_held_off_waits_twice_as_long_each_time() {
        let (mut duel, mut now) = (Duel::default(), s(1_000));
        for wait in [60, 120, 240, 480, 600, 600] {
            assert_eq!(duel.hold_off(false, now), s(wait));
            assert_eq!(duel.hold_off(false, now + s(7)), s(wait - 7), "too early: what is left");
            now += s(wait);
        }
        now += s(299);
        assert!(duel.is_on(now) && duel.is_on_with("z", now) && !duel.is_forgotten(now));
        now += s(1);
        assert!(!duel.is_on(now) && duel.is_forgotten(now), "five quiet minutes");
        assert_eq!(duel.hold_off(false, now), s(60));
    }

    #[test]
    fn what_happened_a_minute_ago_is_forgotten() {
        let mut duel = Duel::default();
        assert!(duel.is_forgotten(s(0)));
        duel.changed_hands(&claim("a", 1), &claim("b", 1), s(10));
        duel.changed_hands(&claim("b", 1), &claim("a", 1), s(20));
        assert!(!duel.is_forgotten(s(80)));
        assert!(duel.is_forgotten(s(81)));
    }
}
