//! How tries and streams end, and when the next one begins.
//!
//! A part of [`Link`]: it knows what an end means, not what came before it.

use std::sync::Arc;
use std::time::Duration;

use super::receive::{Phase, StreamState};
use super::{Action, Course, Failure, Gap, Item, Link, State, StreamEnd, Waited};
use crate::backoff::Cause;
use crate::cursor::OLDEST;

impl Link {
    /// A try or a stream has ended: decides when the next one begins, and where.
    ///
    /// ```text
    /// hub 0 refuses the token, hub 1 is up     hub 1 at once; hub 0 is left alone for 30 to 60 s
    /// hub 0 breaks the connection              hub 1 after a wait that grows with each failure
    /// another process has the gateway id       the same hub after 5 to 10 s: the rival is met at every hub
    /// hub 0 cannot read the cursor             a Gap for the handler, then "oldest", at once
    /// ```
    pub(super) fn end_stream(&mut self, failure: Failure, now: Duration, random: u64) {
        let readable = self.resume.is_empty() || self.resume == OLDEST;
        if failure.is_cursor_malformed() && !readable {
            self.status.last_error = Some(Arc::new(failure));
            return self.report_unreadable_cursor();
        }
        let (goodbye, (cause, retry_after)) = match self.stream.phase {
            Phase::Closing(goodbye) => (true, goodbye.followed_by(&failure)),
            _ => (false, (failure.cause(), failure.retry_after())),
        };
        let end = StreamEnd::of(&failure, cause, goodbye);
        let leaves_log_at = self.leaves_log_at(&failure, now);
        let failure = Arc::new(failure);
        // `dialed` is empty once a hub has welcomed the stream: that one did let it in.
        // Nobody need wait for another hub because this one did not let it in.
        let was_closed =
            self.dialed.take().filter(|_| is_closed(&failure, cause) && !goodbye && self.config.hubs > 1);
        self.status.last_end = Some(end);
        self.status.last_error = Some(failure.clone());
        // Before the state of the stream goes: that says whether standing records were still to come.
        self.forget_position_without_standing();
        self.stream = StreamState::new(&self.config);
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

    /// A broken cursor store must not wedge the client: the handler gets a gap of unknown size, then the
    /// stream starts over from the oldest event held.
    pub(super) fn report_unreadable_cursor(&mut self) {
        self.status.counters.unreadable_cursors += 1;
        self.status.counters.gaps += 1;
        self.forget_position_without_standing();
        // What was handed over does not come again; what was missed behind it, this gap tells. A place that the process began
        // with, and no hub has welcomed, says nothing of what was handed over.
        let welcomed = self.status.counters.streams > 0;
        self.received.take().filter(|_| welcomed).into_iter().for_each(|received| self.left.leave(received));
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
