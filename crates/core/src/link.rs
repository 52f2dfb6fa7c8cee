//! A client's whole policy, without I/O: when to dial, wait, read, deliver and give up.
//!
//! Called only by the client's driver, which performs one [`Action`] at a time and reports how it went as an
//! [`Input`]. Knows no sockets, no tasks and no clock: each step is given the time and a random number, so tests own
//! both.
//!
//! ```text
//! Dial ─► Subscribe ─► Read ─► Deliver ─► Read … ─► (the stream ends) ─► Wait ─► Dial …
//!                                └─ the handler fails ─► Pause ─► Deliver …
//! ```
//!
//! What holds at every step:
//! - The cursor moves only past items the handler finished, and never back but across a [`Gap`].
//! - No position is handed over twice, across streams too.
//! - A stream proves health by a record or a `Progress` at least [`Config::healthy_after`] after it became live. Only
//!   that resets the backoff: a dial or a `Welcome` proves nothing.
//! - Nothing but [`Input::Stop`] ends it, and that ends it at once.

mod failure;
mod item;
mod receive;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use failure::{Failure, ServerStatus, Waited, code_name};
pub use item::{Batch, Frame, Gap, Item};
pub use status::{Counters, HandlerTrouble, State, Status};

use crate::backoff::{self, Backoff, Cause};
use crate::cursor::{Cursor, OLDEST};
use receive::{Phase, Stream};

/// How long to read on after a `Goodbye`, for the status that says why.
const GOODBYE_LINGER: Duration = Duration::from_secs(1);

/// When a read deadline passes, the driver looks this much longer. After a pause of the whole process the timer and
/// the bytes that arrived meanwhile become ready together, and a peer whose bytes wait in a buffer is not dead.
const LAST_LOOK: Duration = Duration::from_millis(100);

/// The policy's settings.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// How many hubs there are to rotate through; at least 1.
    pub hubs: usize,
    /// The cursor of the first subscribe: empty for the head, `oldest`, or a stored cursor.
    pub start: String,
    /// How long a connection may take to come about; 5 s.
    pub connect_deadline: Duration,
    /// How long a `Welcome` may take from then on; 5 s.
    pub welcome_deadline: Duration,
    /// How long a stream may be silent while the link waits to read; 15 s. Runs neither while the handler works nor
    /// while it is waited for.
    pub silence_deadline: Duration,
    /// How long a stream must have been live before a record or `Progress` proves health; 10 s.
    pub healthy_after: Duration,
    /// The largest message taken, in bytes without its prefix; 4 MiB.
    pub max_receive_bytes: usize,
    /// The waits between tries, and between calls of a failing handler.
    pub backoff: backoff::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hubs: 1,
            start: String::new(),
            connect_deadline: Duration::from_secs(5),
            welcome_deadline: Duration::from_secs(5),
            silence_deadline: Duration::from_secs(15),
            healthy_after: Duration::from_secs(10),
            max_receive_bytes: 4 << 20,
            backoff: backoff::Config::default(),
        }
    }
}

/// How an action went. An input that answers no outstanding action is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// `Dial`: the connection stands.
    Connected,
    /// `Subscribe`: the response began, and it is a stream.
    Subscribed,
    /// `Read`: the next bytes of the stream's body.
    Received(Bytes),
    /// `Dial`, `Subscribe` or `Read`: it failed, or the stream ended.
    Failed(Failure),
    /// `Deliver`: every item is finished.
    Handled,
    /// `Deliver`: the handler failed or panicked on the first item that is not marked as done.
    HandlerFailed(Arc<str>),
    /// The action's `until` has come.
    TimerFired,
    /// The owner wants it to end. Always answered by `Finish`.
    Stop,
}

/// What the driver does next; exactly one at a time. Times are on the clock the driver passes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Drop any connection and open a new one to this hub.
    Dial {
        /// Index into the configured hubs.
        hub: usize,
        /// The deadline.
        until: Duration,
    },
    /// Subscribe on the connection.
    Subscribe {
        /// Where to resume.
        cursor: String,
        /// Rises with every subscribe of this instance.
        attempt: u64,
        /// The deadline.
        until: Duration,
    },
    /// Wait for bytes, taking those that are there already before looking at the time.
    Read {
        /// The deadline.
        until: Duration,
    },
    /// Hand [`Link::batch_mut`] to the handler.
    Deliver,
    /// Drop any connection and wait.
    Wait {
        /// When to go on.
        until: Duration,
    },
    /// Keep the connection and wait, before the handler is called again.
    Pause {
        /// When to go on.
        until: Duration,
    },
    /// Never step again.
    Finish,
}

/// The state machine. See the module's head.
#[derive(Debug)]
pub struct Link {
    config: Config,
    backoff: Backoff,
    handler_backoff: Backoff,
    action: Action,
    stream: Stream,
    /// The last position received, whether or not it is handled yet; `None` while nothing is known.
    passed: Option<Cursor>,
    batch: Batch,
    /// What follows once the batch is handled.
    next: Next,
    status: Status,
}

#[derive(Debug)]
enum Next {
    Read,
    Redial,
    Fail(Failure),
}

impl Link {
    /// Starts stopped at the first dial: call [`step`](Self::step) with what the first action answers.
    ///
    /// # Errors
    ///
    /// [`backoff::ConfigError`] when the delays contradict each other.
    pub fn try_new(config: Config) -> Result<Self, backoff::ConfigError> {
        let backoff = Backoff::try_new(config.backoff.clone())?;
        Ok(Self {
            handler_backoff: backoff.clone(),
            backoff,
            action: Action::Wait { until: Duration::ZERO },
            stream: Stream::new(&config),
            passed: Cursor::parse(&config.start).ok(),
            batch: Batch::default(),
            next: Next::Read,
            status: Status { cursor: config.start.clone(), ..Status::default() },
            config,
        })
    }

    /// The first action: a dial, at once.
    pub fn start(&mut self, now: Duration) -> Action {
        self.dial(now);
        self.action.clone()
    }

    /// Takes how the last action went, answers with the next one. `random` is uniform over all of `u64`.
    pub fn step(&mut self, input: Input, now: Duration, random: u64) -> Action {
        match (&self.action, input) {
            (Action::Finish, _) => {}
            (_, Input::Stop) => self.stop(now),
            (Action::Dial { .. }, Input::Connected) => self.subscribe(now),
            (Action::Dial { .. }, Input::TimerFired) => {
                self.fail(Failure::TimedOut(Waited::Connect), now, random);
            }
            (Action::Subscribe { .. }, Input::Subscribed) => self.read(now),
            (Action::Subscribe { .. }, Input::TimerFired) => {
                self.fail(Failure::TimedOut(Waited::Welcome), now, random);
            }
            (Action::Read { .. }, Input::Received(bytes)) => self.receive(bytes, now, random),
            (Action::Read { .. }, Input::TimerFired) => self.silent(now, random),
            (
                Action::Dial { .. } | Action::Subscribe { .. } | Action::Read { .. },
                Input::Failed(failure),
            ) => {
                self.fail(failure, now, random);
            }
            (Action::Deliver, Input::Handled) => self.handled(now, random),
            (Action::Deliver, Input::HandlerFailed(error)) => self.handler_failed(error, now, random),
            (Action::Wait { .. }, Input::TimerFired) => self.dial(now),
            (Action::Pause { .. }, Input::TimerFired) => self.action = Action::Deliver,
            _ => {}
        }
        self.action.clone()
    }

    /// The items to deliver. What its handler marks as done commits with the next step.
    pub fn batch_mut(&mut self) -> &mut Batch {
        &mut self.batch
    }

    /// What the client shows of itself.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    fn dial(&mut self, now: Duration) {
        self.status.counters.dials += 1;
        self.show(State::Connecting, now);
        self.action = Action::Dial { hub: self.status.hub, until: now + self.config.connect_deadline };
    }

    fn subscribe(&mut self, now: Duration) {
        self.status.attempt += 1;
        self.stream = Stream::new(&self.config);
        self.stream.welcome_by = now + self.config.welcome_deadline;
        self.action = Action::Subscribe {
            cursor: self.status.cursor.clone(),
            attempt: self.status.attempt,
            until: self.stream.welcome_by,
        };
    }

    /// Reads on. The deadline starts here, so the time a handler took counts for nothing.
    fn read(&mut self, now: Duration) {
        self.stream.last_look = false;
        let until = match self.stream.phase {
            Phase::Welcoming => self.stream.welcome_by,
            Phase::Streaming => now + self.config.silence_deadline,
            Phase::Closing(_) => now + GOODBYE_LINGER,
        };
        self.action = Action::Read { until };
    }

    fn silent(&mut self, now: Duration, random: u64) {
        let waited = match self.stream.phase {
            Phase::Closing(_) => return self.fail(Failure::Goodbye, now, random),
            Phase::Welcoming => Waited::Welcome,
            Phase::Streaming => Waited::Sign,
        };
        if self.stream.last_look {
            return self.fail(Failure::TimedOut(waited), now, random);
        }
        self.stream.last_look = true;
        self.action = Action::Read { until: now + LAST_LOOK };
    }

    fn deliver_or_go_on(&mut self, now: Duration, random: u64) {
        if self.batch.is_empty() { self.handled(now, random) } else { self.action = Action::Deliver }
    }

    fn handled(&mut self, now: Duration, random: u64) {
        self.batch.finish_all();
        self.commit();
        self.status.handler = None;
        self.handler_backoff.reset();
        match std::mem::replace(&mut self.next, Next::Read) {
            Next::Read => self.read(now),
            Next::Redial => self.dial(now),
            Next::Fail(failure) => self.fail(failure, now, random),
        }
    }

    /// The same item again, after a growing wait and for ever: no item is skipped silently. This is the one place
    /// that decides so, where a limit of tries and a dead letter would go.
    fn handler_failed(&mut self, error: Arc<str>, now: Duration, random: u64) {
        if self.commit() > 0 {
            self.status.handler = None;
            self.handler_backoff.reset();
        }
        self.status.counters.handler_failures += 1;
        let wait = self.handler_backoff.delay(Cause::Lost, None, random);
        let since = self.status.handler.as_ref().map_or(now, |trouble| trouble.since);
        let failures = self.handler_backoff.failures();
        self.status.handler = Some(HandlerTrouble { error, failures, since });
        self.action = Action::Pause { until: now + wait };
    }

    /// Moves the cursor past what the handler finished; returns how many items that were.
    fn commit(&mut self) -> usize {
        let (handled, cursor) = self.batch.settle();
        self.status.counters.handled += handled as u64;
        if let Some(cursor) = cursor {
            self.status.cursor = cursor;
        }
        handled
    }

    /// A try or a stream has ended: decides when the next one begins, and where.
    fn fail(&mut self, failure: Failure, now: Duration, random: u64) {
        let readable = self.status.cursor.is_empty() || self.status.cursor == OLDEST;
        if failure.is_cursor_malformed() && !readable {
            return self.tell_cursor_unreadable(failure);
        }
        let (cause, retry_after) = match self.stream.phase {
            Phase::Closing(goodbye) => goodbye.followed_by(&failure),
            _ => (failure.cause(), failure.retry_after()),
        };
        self.status.last_error = Some(Arc::new(failure));
        self.stream = Stream::new(&self.config);
        let counters = &mut self.status.counters;
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
        self.action = Action::Wait { until: now + self.backoff.delay(cause, retry_after, random) };
    }

    /// A broken cursor store must not wedge the client: the handler is told that anything may be missing, then the
    /// stream starts over from the oldest event held.
    fn tell_cursor_unreadable(&mut self, failure: Failure) {
        self.status.counters.unreadable_cursors += 1;
        self.status.counters.gaps += 1;
        self.status.last_error = Some(Arc::new(failure));
        self.passed = None;
        self.batch.push(Item::Gap(Box::new(Gap::cursor_unreadable(&self.status.cursor))));
        self.next = Next::Redial;
        self.action = Action::Deliver;
    }

    fn stop(&mut self, now: Duration) {
        self.commit();
        self.show(State::Stopped, now);
        self.action = Action::Finish;
    }

    fn show(&mut self, state: State, now: Duration) {
        if self.status.state != state {
            self.status.state = state;
            self.status.since = now;
        }
    }
}
