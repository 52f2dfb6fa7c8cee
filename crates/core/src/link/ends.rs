//! How tries and streams end, and when the next one begins.
//!
//! The fourth part of [`Link`]: it asks what an end means, not what came before.

use std::sync::Arc;
use std::time::Duration;

use super::receive::{Phase, Stream};
use super::{Action, Course, End, Failure, Gap, Item, Link, State, Waited};
use crate::backoff::Cause;
use crate::cursor::OLDEST;

impl Link {
    /// A try or a stream has ended: decides when the next one begins, and where.
    pub(super) fn ended(&mut self, failure: Failure, now: Duration, random: u64) {
        let readable = self.resume.is_empty() || self.resume == OLDEST;
        if failure.is_cursor_malformed() && !readable {
            self.status.last_error = Some(Arc::new(failure));
            return self.tell_cursor_unreadable();
        }
        let (goodbye, (cause, retry_after)) = match self.stream.phase {
            Phase::Closing(goodbye) => (true, goodbye.followed_by(&failure)),
            _ => (false, (failure.cause(), failure.retry_after())),
        };
        let end = End::of(&failure, cause, goodbye);
        let leaves_log_at = self.leaves_log_at(&failure, now);
        let failure = Arc::new(failure);
        // Nobody need wait for another hub because this one did not let it in.
        let was_closed =
            self.dialed.take().filter(|_| is_closed(&failure, cause) && !goodbye && self.config.hubs > 1);
        self.status.last_end = Some(end);
        self.status.last_error = Some(failure.clone());
        self.forget_place_without_standing();
        self.stream = Stream::new(&self.config);
        self.forget_stale();
        let counters = &mut self.status.counters;
        counters.ends.count(end);
        let state = match cause {
            Cause::Lost => {
                counters.lost += 1;
                State::BackingOff
            }
            Cause::Conflict => {
                counters.conflicts += 1;
                State::Conflicted
            }
            Cause::Refused => {
                counters.refusals += 1;
                State::Refused
            }
        };
        if cause != Cause::Conflict {
            // A rival is met at every hub; whatever else is wrong may be wrong with this one only.
            self.status.hub = (self.status.hub + 1) % self.config.hubs.max(1);
        }
        self.show(state, now);
        let wait = self.backoff.delay(cause, retry_after, random);
        self.status.failures = self.backoff.failures();
        self.course = match was_closed.map(|hub| self.close(hub, failure, wait, now)) {
            Some(None) => Course::Begin,
            Some(Some(wait)) => Course::Wait { until: now + wait },
            None => Course::Wait { until: leaves_log_at.unwrap_or(Duration::MAX).min(now + wait) },
        };
    }

    /// A broken cursor store must not wedge the client: the handler is told that anything may be missing, then the
    /// stream starts over from the oldest event held.
    pub(super) fn tell_cursor_unreadable(&mut self) {
        self.status.counters.unreadable_cursors += 1;
        self.status.counters.gaps += 1;
        self.forget_place_without_standing();
        // What was handed over does not come again; what was missed behind it, this gap tells. A place that the process began
        // with, and no hub has welcomed, says nothing of what was handed over.
        let welcomed = self.status.counters.streams > 0;
        self.passed.take().filter(|_| welcomed).into_iter().for_each(|passed| self.left.leave(passed));
        self.batch.push(Item::Gap(Box::new(Gap::cursor_unreadable(&self.resume))));
        self.course = Course::Begin;
    }

    /// Ends it all, but for one last save if the store is owed one.
    pub(super) fn stop(&mut self, now: Duration) {
        self.commit(now);
        self.stopping = true;
        self.action = self.finish(now);
    }

    pub(super) fn finish(&mut self, now: Duration) -> Action {
        if let Some(save) = self.save_last(now) {
            return save;
        }
        self.show(State::Stopped, now);
        Action::Finish
    }
}

/// Whether a hub did not let the client in, by a refusal or by not taking its connection.
fn is_closed(failure: &Failure, cause: Cause) -> bool {
    cause == Cause::Refused || matches!(failure, Failure::Unreachable(_) | Failure::TimedOut(Waited::Connect))
}
