//! Which of several hubs the next stream is opened at, when they may hold different logs.
//!
//! Several hubs are several doors to one log. Before each try they are asked which log they hold, and the link goes to one
//! that holds its own. It goes over to another log only when its own is nowhere any more: at once when every hub answers
//! and none holds it, else when no hub has held it for [`Config::leave_log_after`](super::Config::leave_log_after). That
//! time begins when a hub was looked for in vain, and not while nobody asked: a link that waits may wait for long. It takes what was its last door for that if it can, because a hub that was restarted without its log is the likeliest
//! heir of it; and it stays there, because the gap is sent by then.
//!
//! A hub that answers, and then does not let the client in, is left alone until the wait is over that such a refusal asks
//! for: the others are tried at once. The client waits only where none is left.
//!
//! Of those that hold its log, one that can reach its store is preferred to one that cannot.
//!
//! With one hub there is nothing to choose, and nobody is asked.
//!
//! ```text
//! this client follows log a, and asks hubs 0, 1 and 2:
//!   a, b, silent          hub 0: it holds the log
//!   a but stale, b, a     hub 2: it holds the log and reaches its store
//!   b, b, silent          wait: hub 2 may hold log a; after 30 s without it, go over to b
//!   b, b, c               go over at once, to the hub of the last stream if it answers: log a is nowhere
//!   mute, b, silent       hub 0: an older hub that does not say counts as one of the log
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::{Action, Course, Door, Failure, Link, State};
use crate::backoff::Cause;
use crate::cursor::Cursor;

/// What is remembered between tries: for how long the log was looked for in vain, and which hubs to leave alone.
#[derive(Debug, Default)]
pub(super) struct Doors {
    /// Since when hubs were asked and none was found that holds the log that is followed.
    pub(super) lost_since: Option<Duration>,
    /// Hubs that did not let this client in, each until when it is left alone.
    closed: Vec<Closed>,
}

/// A hub that refused this client or did not accept its connection, and until when it is left alone.
#[derive(Debug)]
struct Closed {
    hub: usize,
    wait: Duration,
    until: Duration,
    failure: Arc<Failure>,
}

/// Where to go.
enum Choice {
    /// To this hub.
    Hub(usize),
    /// Nowhere, for this reason.
    Wait(Failure),
}

impl Doors {
    /// A new round begins, in which those are tried again that have been left alone for long enough.
    pub(super) fn begin_round(&mut self, now: Duration) {
        self.closed.retain(|closed| closed.until > now);
    }
}

impl Link {
    /// Asks the hubs which log they hold, if there are several.
    pub(super) fn ask(&self, now: Duration) -> Action {
        let epoch = self.received.map(|received| received.epoch.to_string().into());
        Action::AskHubs { hub: self.status.hub, epoch, until: now + self.config.connect_deadline }
    }

    /// Notes what hubs have said; `None`: nothing yet.
    pub(super) fn note_doors(&mut self, said: Vec<Option<Door>>) {
        let followed = self.received.map(|received| received.epoch.to_string());
        let is_own = |door: &Door| {
            *door == Door::Mute || door.epoch().is_some_and(|epoch| Some(epoch) == followed.as_deref())
        };
        if said.iter().flatten().any(is_own) {
            self.doors.lost_since = None;
        }
        self.status.doors.resize(self.config.hubs, Door::Unasked);
        for (door, said) in self.status.doors.iter_mut().zip(said) {
            *door = said.unwrap_or_else(|| std::mem::take(door));
        }
    }

    /// The hubs were asked before a try: goes to one of them, or waits.
    pub(super) fn choose_hub(&mut self, said: Vec<Option<Door>>, now: Duration, random: u64) {
        // Who has not answered by now does not count with what it said before.
        let present: Vec<_> = said.iter().map(|door| door.clone().unwrap_or_default()).collect();
        self.note_doors(said);
        let somebody_is_silent = !present.iter().all(Door::is_there);
        match self.choose(&present, now) {
            Choice::Hub(hub) => {
                self.status.hub = hub;
                self.course = Course::Dial;
            }
            Choice::Wait(failure) if !self.doors.closed.is_empty() => {
                let leaves_log_at = self.leaves_log_at(&failure, now).filter(|_| somebody_is_silent);
                self.wait_for_the_closed(somebody_is_silent, leaves_log_at, now, random);
            }
            Choice::Wait(failure) => self.course = Course::Fail(failure),
        }
        self.go_on(now, random);
    }

    /// A hub did not let this client in: it is left alone for so long. If no other is left, says how long to wait: until the
    /// first of them can be tried again, reckoned from the last.
    pub(super) fn close(
        &mut self,
        hub: usize,
        failure: Arc<Failure>,
        wait: Duration,
        now: Duration,
    ) -> Option<Duration> {
        self.doors.closed.push(Closed { hub, wait, until: now + wait, failure });
        let all = self.doors.closed.len() >= self.config.hubs;
        self.doors.closed.iter().map(|closed| closed.wait).min().filter(|_| all)
    }

    /// All that could be gone to have refused. A hub that is silent may come back sooner than they think better of it.
    fn wait_for_the_closed(
        &mut self,
        somebody_is_silent: bool,
        leaves_log_at: Option<Duration>,
        now: Duration,
        random: u64,
    ) {
        let soonest = self.doors.closed.iter().min_by_key(|closed| closed.until);
        let Some((mut until, failure)) = soonest.map(|closed| (closed.until, closed.failure.clone())) else {
            return;
        };
        if somebody_is_silent {
            until = until.min(now + self.backoff.delay(Cause::Lost, None, random));
            until = until.min(leaves_log_at.unwrap_or(Duration::MAX));
            self.status.failures = self.backoff.failures();
        }
        let state = if failure.cause() == Cause::Refused { State::Refused } else { State::BackingOff };
        self.status.last_error = Some(failure);
        self.show(state, now);
        self.course = Course::Wait { until };
    }

    /// The hub to go to, by what each has said. Without a log of its own the client takes the first hub that answers, one that reaches its
    /// store before one that does not. With one, see the timeline at the head of this file.
    fn choose(&mut self, doors: &[Door], now: Duration) -> Choice {
        let hubs = self.config.hubs.max(1);
        let in_turn = || (0..hubs).map(|turn| (self.status.hub + turn) % hubs);
        // One that did not let the client in answers all the same: it is not gone to, and it is not silent.
        let may_enter = |hub: &usize| self.doors.closed.iter().all(|closed| closed.hub != *hub);
        let is = |hub: &usize, wanted: &dyn Fn(&Door) -> bool| doors.get(*hub).is_some_and(wanted);
        let first = |wanted: &dyn Fn(&Door) -> bool| in_turn().filter(may_enter).find(|hub| is(hub, wanted));
        let silence = || match in_turn().find_map(|hub| doors.get(hub)) {
            Some(Door::Silent(failure)) => Failure::clone(failure),
            _ => Failure::TimedOut(super::Waited::Connect),
        };
        let Some(Cursor { epoch, .. }) = self.received else {
            let any = first(&|door| door.answers() && !door.is_stale()).or_else(|| first(&Door::answers));
            return any.map_or_else(|| Choice::Wait(silence()), Choice::Hub);
        };
        let epoch = epoch.to_string();
        let holds_it = |door: &Door| door.epoch() == Some(&epoch);
        let own = first(&|door| holds_it(door) && !door.is_stale());
        let own = own.or_else(|| first(&holds_it)).or_else(|| first(&|door| *door == Door::Mute));
        if let Some(hub) = own {
            return Choice::Hub(hub);
        }
        // A hub that is mute or silent may hold the log: only when every hub names another one it is nowhere.
        let is_nowhere = doors.iter().all(|door| door.epoch().is_some_and(|held| held != epoch));
        let silent = doors.iter().filter(|door| !door.answers()).count();
        let heir = self.status.door.filter(|hub| may_enter(hub) && is(hub, &Door::answers));
        // Noted before it is known whether anybody answers: the time runs from when the log was first looked for in vain.
        let since = *self.doors.lost_since.get_or_insert(now);
        let Some(heir) = heir.or_else(|| first(&Door::answers)) else { return Choice::Wait(silence()) };
        if is_nowhere || now >= since + self.config.leave_log_after {
            Choice::Hub(heir)
        } else {
            Choice::Wait(Failure::OtherLog { silent })
        }
    }

    /// When to try again at the latest that waits for a hub with its own log: it must not wait beyond the time to leave it.
    pub(super) fn leaves_log_at(&self, failure: &Failure, now: Duration) -> Option<Duration> {
        let since = self.doors.lost_since.filter(|_| matches!(failure, Failure::OtherLog { .. }))?;
        Some((since + self.config.leave_log_after).max(now))
    }
}
