//! The rule for an id that is fought over: which instances had it, how it changed hands, who gives way, and how long whoever comes is
//! held off.
//!
//! Pure, and about one id. A hub that is the only door to its log keeps one for each id that changed hands of late; where several hubs
//! serve one log it is part of the register, so that all of them judge alike. Times are by one clock of whoever judges: where hubs share
//! it, that of the log.
//!
//! What are counted are *returns*: an instance takes the id back that it lost a moment ago, or comes again although the
//! stream it has is alive, which is what two processes with one instance id look like. A restart or a rolling update,
//! however often, is no return, because each process has an instance id of its own.

use std::collections::VecDeque;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

/// So many returns within [`WITHIN`] make an id flap.
pub(crate) const RETURNS: usize = 5;

/// Returns are counted over this time, and for this long it is remembered of an instance that it had the id.
const WITHIN: Duration = Duration::from_secs(60);

/// How long the first one to be held off must stay away.
pub const HOLD_OFF_FIRST: Duration = Duration::from_secs(60);

/// Each time it doubles, up to this.
const HOLD_OFF_MAX: Duration = Duration::from_secs(600);

/// How long an instance that is held off from itself must stay away, each time. One process alone may look like two when its
/// path breaks and only it notices; by then HTTP/2's own pings have ended the stream it left behind.
const HOLD_OFF_OWN: Duration = Duration::from_secs(15);

/// A flapping is forgotten when nobody came for this long after whoever was held off might have.
const QUIET: Duration = Duration::from_secs(300);

/// Of how many instances is remembered that they had the id: of more than these that share one, no return is seen. Some
/// 40 bytes each.
pub(crate) const FORMER_MAX: usize = 128;

/// What is remembered of one id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnershipFlap {
    /// Who had the id and has it no longer, the latest last.
    pub(crate) former: VecDeque<Former>,
    /// The latest returns of instances that had lost the id, at most [`RETURNS`].
    pub(crate) returns: VecDeque<Duration>,
    /// The latest of instances to themselves, at most [`RETURNS`].
    pub(crate) own_returns: VecDeque<Duration>,
    pub(crate) held_off: Option<HeldOff>,
    /// Until when an instance is held off from itself, the latest time.
    pub(crate) own_held_off: Option<Duration>,
}

/// An instance that had the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Former {
    /// Its name, as a number; one stands for every old client.
    pub(crate) instance: u64,
    /// Its highest: a lower one that comes later is a late duplicate.
    pub(crate) attempt: u64,
    /// When it had the id last.
    pub(crate) until: Duration,
    /// It did not leave by itself: another instance took the id.
    pub(crate) lost: bool,
}

/// The latest refusal for another instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeldOff {
    pub(crate) wait: Duration,
    pub(crate) until: Duration,
}

/// The stream that has an id, as whoever judges knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incumbent<'a> {
    /// Its instance; empty for a client that does not say.
    pub instance: &'a str,
    /// Whether a ping would have been answered now, and the newcomer is no repeat of what it came by.
    pub would_answer: bool,
    /// Whether it has shown that it is alive, or failed to; `None`: it must be asked.
    pub is_alive: Option<bool>,
}

/// What becomes of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeoverDecision {
    /// The newcomer has the id.
    Replace(TakeoverKind),
    /// Whether the incumbent is alive decides.
    ProbeFirst,
    /// The incumbent stays, and the newcomer is held off: see [`OwnershipFlap::hold_off`].
    Keep,
}

/// How it comes that an older stream gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeoverKind {
    /// The same instance came back.
    Reconnect,
    /// The same instance came although its stream was alive: the hub did not see it leave, or there are two of it.
    ReconnectWhileAlive,
    /// Another instance came.
    OtherInstance,
    /// Another instance came, of a flapping id, and one of the two has no name: the last wins.
    FlapUnnamed,
    /// Another instance came, of a flapping id, and the incumbent did not answer.
    Unresponsive,
}

impl OwnershipFlap {
    /// Who gives way, where `newer` asks for the id that this one has.
    #[must_use]
    pub fn judge(&self, older: &Incumbent<'_>, newer: &str, now: Duration) -> TakeoverDecision {
        let if_silent = if is_same(older.instance, newer) {
            match (older.would_answer, self.is_on_with_itself(now)) {
                (false, _) => return TakeoverDecision::Replace(TakeoverKind::Reconnect),
                (true, false) => return TakeoverDecision::Replace(TakeoverKind::ReconnectWhileAlive),
                (true, true) => TakeoverKind::Reconnect,
            }
        } else {
            let named = !newer.is_empty() && !older.instance.is_empty();
            match (self.is_on_with(newer, now), named) {
                (false, _) => return TakeoverDecision::Replace(TakeoverKind::OtherInstance),
                (true, false) => return TakeoverDecision::Replace(TakeoverKind::FlapUnnamed),
                (true, true) => TakeoverKind::Unresponsive,
            }
        };
        match older.is_alive {
            None => TakeoverDecision::ProbeFirst,
            Some(true) => TakeoverDecision::Keep,
            Some(false) => TakeoverDecision::Replace(if_silent),
        }
    }

    /// `newer` has taken the id from `older`, which had it with this attempt.
    pub fn took(&mut self, older: &str, attempt: u64, newer: &str, how: TakeoverKind, now: Duration) {
        match how {
            TakeoverKind::Reconnect => {}
            TakeoverKind::ReconnectWhileAlive => self.came_again(now),
            TakeoverKind::OtherInstance | TakeoverKind::FlapUnnamed | TakeoverKind::Unresponsive => {
                self.changed_hands(older, attempt, newer, now)
            }
        }
    }

    /// Whether the id is being fought over.
    #[must_use]
    pub fn is_on(&self, now: Duration) -> bool {
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
    fn is_on_with(&self, instance: &str, now: Duration) -> bool {
        let this_one = usize::from(self.lost_it(instance, now));
        recent(&self.returns, now) + recent(&self.own_returns, now) + this_one >= RETURNS
            || self.holds_off(now)
    }

    /// Whether the instance that has the id fights with itself, once it has come again, too. A fight with others is none
    /// of that: in it, whoever has the id may always come again.
    fn is_on_with_itself(&self, now: Duration) -> bool {
        recent(&self.own_returns, now) + 1 >= RETURNS || self.holds_off_itself(now)
    }

    /// `newer`, another instance, has taken the id from `older`.
    fn changed_hands(&mut self, older: &str, attempt: u64, newer: &str, now: Duration) {
        if self.lost_it(newer, now) {
            count(&mut self.returns, now);
        }
        self.remember(older, attempt, now, true);
    }

    /// The instance that has the id has taken it from its own stream, which was alive.
    fn came_again(&mut self, now: Duration) {
        count(&mut self.own_returns, now);
    }

    /// The stream that this instance had has ended by itself.
    pub fn left(&mut self, instance: &str, attempt: u64, now: Duration) {
        self.remember(instance, attempt, now, false);
    }

    /// The highest attempt of this instance, if it had the id of late.
    #[must_use]
    pub fn highest_attempt(&self, instance: &str, now: Duration) -> Option<u64> {
        let instance = number(instance);
        let former = self.former.iter().find(|former| former.instance == instance)?;
        former.is_recent(now).then_some(former.attempt)
    }

    /// How long whoever comes now must stay away; `own`: from the stream of the same instance. For another one it doubles
    /// each time somebody comes after the time is up; whoever comes earlier is told what is left of it.
    pub fn hold_off(&mut self, own: bool, now: Duration) -> Duration {
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
    #[must_use]
    pub fn held_off_for(&self, now: Duration) -> Duration {
        let until = self.held_off.map(|held| held.until).max(self.own_held_off);
        until.map_or(Duration::ZERO, |until| until.saturating_sub(now))
    }

    /// Whether nothing is left to remember.
    #[must_use]
    pub fn is_forgotten(&self, now: Duration) -> bool {
        !self.holds_off(now)
            && recent(&self.returns, now) + recent(&self.own_returns, now) == 0
            && !self.former.iter().any(|former| former.is_recent(now))
    }

    /// Until when it is fought over, if nothing more happens.
    #[must_use]
    pub fn is_on_until(&self, now: Duration) -> Duration {
        let returned = self.returns.iter().chain(&self.own_returns).copied().filter(|at| is_recent(*at, now));
        let mut returned: Vec<_> = returned.collect();
        returned.sort_unstable();
        // The fifth from the end is the first whose going ends it.
        let counted = returned.len().checked_sub(RETURNS).map(|first| returned[first] + WITHIN);
        let held_off = self.held_off.map(|held| held.until + QUIET);
        let own = self.own_held_off.map(|until| until + QUIET);
        counted.max(held_off).max(own).unwrap_or_default()
    }

    /// What one hub wrote, as another takes it by its own clock: nothing has happened later than now, and nobody is held off for longer
    /// than he may be. What no longer matters is gone.
    pub fn read_at(&mut self, now: Duration) {
        for at in self.returns.iter_mut().chain(&mut self.own_returns) {
            *at = (*at).min(now);
        }
        self.returns.retain(|at| is_recent(*at, now));
        self.own_returns.retain(|at| is_recent(*at, now));
        for former in &mut self.former {
            former.until = former.until.min(now);
        }
        self.former.retain(|former| former.is_recent(now));
        if let Some(held) = &mut self.held_off {
            held.wait = held.wait.clamp(HOLD_OFF_FIRST, HOLD_OFF_MAX);
            held.until = held.until.min(now + held.wait);
        }
        self.held_off.take_if(|held| !held.is_on(now));
        self.own_held_off = self.own_held_off.map(|until| until.min(now + HOLD_OFF_OWN));
        self.own_held_off.take_if(|until| now >= *until + QUIET);
    }

    fn remember(&mut self, instance: &str, attempt: u64, now: Duration, lost: bool) {
        let instance = number(instance);
        self.former.retain(|former| former.instance != instance);
        self.former.push_back(Former { instance, attempt, until: now, lost });
        if self.former.len() > FORMER_MAX {
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

fn is_same(one: &str, other: &str) -> bool {
    !one.is_empty() && one == other
}

/// What stands for an instance: its name may have 255 bytes, and there is a lot to remember of an id with many. The same in every
/// build, for hubs of different ones may share it.
fn number(instance: &str) -> u64 {
    let hash = Sha256::digest(instance.as_bytes());
    hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
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
mod tests;
