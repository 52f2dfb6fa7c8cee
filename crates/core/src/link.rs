//! A client's whole policy, without I/O: when to dial, wait, read, deliver and give up.
//!
//! Called only by the client's driver, which performs one [`Action`] at a time and reports how it went as an
//! [`Input`]. Knows no sockets, no tasks and no clock: each step is given the time and a random number, so tests own
//! both.
//!
//! ```text
//! Ask ─► Dial ─► Subscribe ─► Read ─► Deliver ─► Read … ─► (the stream ends) ─► Wait ─► Dial …
//!                                       └─ the handler fails ─► Pause ─► Deliver …, or DeadLetter
//! ```
//!
//! `Ask` is left out where there is only one hub. With a cursor store, `Load` comes before the first dial, and a `Save` wherever one is due. In the stream form nothing
//! is delivered: items go out with [`Link::take_handed`], and verdicts come in while it reads and waits.
//!
//! What holds at every step:
//! - Each item has exactly one outcome: handled, or given up and taken as a dead letter. An item that fails comes back.
//! - The cursor moves only past items that have their outcome, and never back but across a [`Gap`].
//! - No position is handed over twice, across streams too, nor when a log comes back that was left for another one.
//! - No cursor is resumed from before the standing records that belong to it have come, if they were asked for.
//! - A stream proves health by a record or a `Progress` at least [`Config::healthy_after`] after it became live. Only
//!   that resets the backoff: a dial or a `Welcome` proves nothing.
//! - Nothing but [`Input::Stop`] ends it, and that ends it at once, but for one last save.

mod action;
mod batch;
mod config;
mod delivery;
mod door;
mod doors;
mod end;
mod ends;
mod failure;
mod flight;
mod handing;
mod item;
mod receive;
mod stale;
mod standing;
mod status;
mod storing;
#[cfg(test)]
mod tests;
mod told;

use std::time::Duration;

pub use action::{Action, Input};
pub use batch::Batch;
pub use config::{Config, Handing, IN_FLIGHT_OVERHEAD, Order, RetryPolicy, Storing};
pub use delivery::{DeadLetter, Handed, Verdict};
pub use door::Door;
pub use end::{End, EndCounts};
pub use failure::{Failure, ServerStatus, Waited, code_name};
pub use item::{Frame, Gap, Item};
pub use status::{Counters, HandlerTrouble, State, Status, StoreTrouble};
pub use told::{FellBehind, Goodbye, GoodbyeReason, Welcome};

use crate::backoff::{Backoff, ConfigError};
use crate::cursor::{Ask, Cursor, Epochs};
use doors::Doors;
use flight::Flight;
use receive::{Phase, Stream};
use stale::Stale;
use storing::Store;

/// How long to read on after a `Goodbye`, for the status that says why.
const GOODBYE_LINGER: Duration = Duration::from_secs(1);

/// When a read deadline passes, the driver looks this much longer. After a pause of the whole process the timer and
/// the bytes that arrived meanwhile become ready together, and a peer whose bytes wait in a buffer is not dead.
const LAST_LOOK: Duration = Duration::from_millis(100);

/// A line that brings fewer bytes than this brings answers to pings and the like, and nothing of the stream.
const LEAST_BYTES_A_SECOND: u64 = 64;

/// The state machine. See the module's head.
#[derive(Debug)]
pub struct Link {
    config: Config,
    backoff: Backoff,
    handler_backoff: Backoff,
    action: Action,
    course: Course,
    stream: Stream,
    /// The last position received, whether or not it is handled yet; `None` while nothing is known.
    passed: Option<Cursor>,
    /// How far it came in the logs it was in before.
    left: Epochs,
    doors: Doors,
    stale: Stale,
    /// The hub that is being dialed or subscribed to, until it welcomes the stream.
    dialed: Option<usize>,
    /// Where the next stream begins: after what is handled, or in the stream form after what went out.
    resume: String,
    /// What was received and is not handed over.
    batch: Batch,
    /// Offer one item of the batch at a time, to find the one at fault.
    narrow: bool,
    /// How often the first item of the batch failed by itself.
    blamed: u32,
    /// A failed item waits until then.
    pause: Option<Duration>,
    flight: Flight,
    /// The item in flight that is being given up.
    dead: Option<u64>,
    handed: Vec<Handed>,
    store: Store,
    stopping: bool,
    status: Status,
}

/// Where the link is heading once nothing is left to hand over or to save.
#[derive(Debug)]
enum Course {
    /// To the store if that was not asked yet, to the hubs otherwise.
    Begin,
    /// To the hub that was chosen.
    Dial,
    /// On with the stream.
    Read(Clock),
    /// To the end of the stream, which failed after what it brought last.
    Fail(Failure),
    /// To the next try.
    Wait { until: Duration },
}

/// A deadline that stands still while something else goes on.
#[derive(Clone, Copy, Debug)]
enum Clock {
    Left(Duration),
    Until(Duration),
}

impl Link {
    /// Starts stopped at the first action: call [`start`](Self::start), then [`step`](Self::step) with what it answers.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when the delays, or the settings of the store, contradict each other.
    pub fn try_new(config: Config) -> Result<Self, ConfigError> {
        let config = config.reckonable();
        let backoff = Backoff::try_new(config.backoff.clone())?;
        let in_flight_bytes = match config.handing {
            Handing::Stream { in_flight_bytes } => in_flight_bytes,
            _ => 0,
        };
        Ok(Self {
            store: Store::try_new(config.storing.clone(), backoff.clone())?,
            handler_backoff: backoff.clone(),
            backoff,
            action: Action::Wait { until: Duration::ZERO },
            course: Course::Begin,
            stream: Stream::new(&config),
            passed: Cursor::parse(&config.start).ok(),
            left: Epochs::default(),
            doors: Doors::default(),
            stale: Stale::default(),
            dialed: None,
            resume: config.start.clone(),
            batch: Batch::default(),
            narrow: false,
            blamed: 0,
            pause: None,
            flight: Flight::new(in_flight_bytes),
            dead: None,
            handed: Vec::new(),
            stopping: false,
            status: Status { cursor: config.start.clone(), ..Status::default() },
            config,
        })
    }

    /// The first action: a dial, or a load, at once.
    pub fn start(&mut self, now: Duration) -> Action {
        self.go_on(now, 0);
        self.action.clone()
    }

    /// Takes how the last action went, answers with the next one. `random` is uniform over all of `u64`.
    ///
    /// An action that comes back unchanged, after verdicts, is simply performed again.
    pub fn step(&mut self, input: Input, now: Duration, random: u64) -> Action {
        match (&self.action, input) {
            (Action::Finish, _) => {}
            (_, Input::Stop) => self.stop(now),
            (_, Input::Verdicts(verdicts)) => self.judged(verdicts, now, random),
            (Action::Ask { .. }, Input::Doors(said)) => self.asked(said, now, random),
            (Action::Ask { .. }, Input::TimerFired) => self.asked(Vec::new(), now, random),
            (_, Input::Doors(said)) => self.heard(said, now, random),
            (Action::Dial { .. }, Input::Connected) => self.subscribe(now),
            (Action::Dial { .. }, Input::TimerFired) => {
                self.fail(Failure::TimedOut(Waited::Connect), now, random);
            }
            (Action::Subscribe { .. }, Input::Subscribed) => {
                self.read_on(now);
                self.go_on(now, random);
            }
            (Action::Subscribe { .. }, Input::TimerFired) => {
                self.fail(Failure::TimedOut(Waited::Welcome), now, random);
            }
            (Action::Read { .. }, Input::Received(bytes)) => self.receive(bytes, now, random),
            (Action::Read { .. }, Input::TimerFired) => self.read_timer(0, now, random),
            (Action::Read { .. }, Input::ReadInVain { taken }) => self.read_timer(taken, now, random),
            (
                Action::Dial { .. } | Action::Subscribe { .. } | Action::Read { .. },
                Input::Failed(failure),
            ) => {
                self.fail(failure, now, random);
            }
            (Action::Deliver, Input::Handled) => self.handled(now, random),
            (Action::Deliver, Input::HandlerFailed(error)) => self.handler_failed(error, now, random),
            (Action::DeadLetter, Input::DeadLettered) => self.dead_lettered(now, random),
            (Action::DeadLetter, Input::DeadLetterFailed(error)) => {
                self.dead_letter_failed(error, now, random);
            }
            (
                Action::Load { .. } | Action::Save { .. },
                input @ (Input::Loaded(_)
                | Input::LoadFailed(_)
                | Input::Saved
                | Input::SaveFailed(_)
                | Input::TimerFired),
            ) => self.stored(input, now, random),
            (Action::Wait { .. } | Action::Pause { .. } | Action::Await { .. }, Input::TimerFired) => {
                self.go_on(now, random);
            }
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

    /// The one place that decides what is done next, by what there is to do: first an end that was asked for, then what
    /// the application is owed, then the store, then the network.
    fn go_on(&mut self, now: Duration, random: u64) {
        if let Course::Read(clock) = &mut self.course {
            clock.stop(now);
        }
        self.ask_if_stale(now, random);
        self.action = loop {
            if self.stopping {
                break self.finish(now);
            }
            if let Some(action) = self.hand_over(now).or_else(|| self.save_due(now)) {
                break action;
            }
            match std::mem::replace(&mut self.course, Course::Begin) {
                Course::Begin if !self.store.loaded => break self.load(now),
                // What is no cursor is the same to every hub, and may be too long to be sent at all.
                Course::Begin if Ask::parse(&self.resume).is_err() => self.tell_cursor_unreadable(),
                Course::Begin if self.config.hubs > 1 => break self.ask_doors(now),
                Course::Begin | Course::Dial => break self.dial(now),
                Course::Read(clock) => break self.read(clock, now),
                Course::Fail(failure) => self.ended(failure, now, random),
                Course::Wait { until } if now >= until => self.doors.begin_round(now),
                Course::Wait { until } => {
                    self.course = Course::Wait { until };
                    break Action::Wait { until: until.min(self.wakes(now)) };
                }
            }
        };
    }

    fn ask_doors(&mut self, now: Duration) -> Action {
        self.show(State::Connecting, now);
        self.ask(now)
    }

    fn dial(&mut self, now: Duration) -> Action {
        self.status.counters.dials += 1;
        self.dialed = Some(self.status.hub);
        self.show(State::Connecting, now);
        Action::Dial { hub: self.status.hub, until: now + self.config.connect_deadline }
    }

    fn subscribe(&mut self, now: Duration) {
        self.status.attempt += 1;
        self.stream = Stream::new(&self.config);
        self.stream.welcome_by = now + self.config.welcome_deadline;
        self.action = Action::Subscribe {
            cursor: self.resume.clone(),
            attempt: self.status.attempt,
            until: self.stream.welcome_by,
        };
    }

    /// Reads on, with a deadline that starts when reading does: the time a handler takes counts for nothing.
    fn read_on(&mut self, now: Duration) {
        (self.stream.last_look, self.stream.taken) = (false, 0);
        self.course = Course::Read(Clock::Left(match self.stream.phase {
            Phase::Welcoming => self.stream.welcome_by.saturating_sub(now),
            Phase::Streaming => self.config.silence_deadline,
            Phase::Closing(_) => self.linger(now),
        }));
    }

    /// How long is read on after a goodbye: what comes then does not prolong it.
    fn linger(&mut self, now: Duration) -> Duration {
        match self.course {
            Course::Read(clock) if self.stream.lingers => clock.until(now).saturating_sub(now),
            _ => {
                self.stream.lingers = true;
                GOODBYE_LINGER
            }
        }
    }

    fn read(&mut self, clock: Clock, now: Duration) -> Action {
        let until = clock.until(now);
        self.course = Course::Read(Clock::Until(until));
        Action::Read { until: until.min(self.wakes(now)) }
    }

    fn read_timer(&mut self, taken: u64, now: Duration, random: u64) {
        // What came before an earlier wake counts as well.
        self.stream.taken = self.stream.taken.saturating_add(taken);
        let silent = matches!(self.course, Course::Read(clock) if clock.until(now) <= now);
        if !silent {
            return self.go_on(now, random); // a save or an item in flight is due
        }
        let alive = LEAST_BYTES_A_SECOND.saturating_mul(self.config.silence_deadline.as_secs().max(1));
        if self.stream.phase == Phase::Streaming && self.stream.taken >= alive {
            self.read_on(now); // a large frame is under way
            return self.go_on(now, random);
        }
        let waited = match self.stream.phase {
            Phase::Closing(_) => return self.fail(Failure::Goodbye, now, random),
            Phase::Welcoming => Waited::Welcome,
            Phase::Streaming => Waited::Sign,
        };
        if self.stream.last_look {
            return self.fail(Failure::TimedOut(waited), now, random);
        }
        self.stream.last_look = true;
        self.course = Course::Read(Clock::Left(LAST_LOOK));
        self.go_on(now, random);
    }

    fn fail(&mut self, failure: Failure, now: Duration, random: u64) {
        self.course = Course::Fail(failure);
        self.go_on(now, random);
    }

    fn show(&mut self, state: State, now: Duration) {
        if self.status.state != state {
            self.status.state = state;
            self.status.since = now;
        }
    }
}

impl Clock {
    fn until(self, now: Duration) -> Duration {
        match self {
            Self::Left(left) => now + left,
            Self::Until(until) => until,
        }
    }

    fn stop(&mut self, now: Duration) {
        *self = Self::Left(self.until(now).saturating_sub(now));
    }
}
