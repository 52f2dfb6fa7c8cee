//! A client's whole policy, without I/O: when to dial, wait, read, deliver and give up.
//!
//! Called only by the client's driver, which performs one [`Action`] at a time and reports how it went as an [`Input`]. Knows no sockets, no
//! tasks and no clock: each step is given the time and a random number, so tests own both.
//!
//! ```text
//! AskHubs ─► Dial ─► Subscribe ─► Read ─► Deliver ─► Read … ─► (the stream ends) ─► Wait ─► Dial …
//!                                            └─ the handler fails ─► Pause ─► Deliver …, or DeadLetter
//! ```
//!
//! `AskHubs` is left out where there is only one hub. With a cursor store, `Load` comes before the first dial, and a `Save` wherever one is
//! due. In the stream form nothing is delivered to a handler: items go out with [`Link::drain_deliveries`], and acks come in while it reads
//! and waits.
//!
//! # What each input does
//!
//! What an input does depends on the action that the link asked for last: that is the row. (`Course` says where the link goes on once
//! nothing is left to deliver or to save, `Phase` how far the present stream is, and [`State`] is for whoever watches.) "Go on" means: the
//! first of an end that was asked for, an item to deliver, a save that is due, and what the network needs. "Commit" means: move the cursor
//! past the items that have their outcome.
//!
//! | action | the answer it waits for | `TimerFired` | `Failed` |
//! |---|---|---|---|
//! | `AskHubs` | `Doors`: choose a hub and `Dial`, or `Wait` | choose by what was said so far | ignored |
//! | `Dial` | `Connected`: `Subscribe` | the try ends | the try ends |
//! | `Subscribe` | `Subscribed`: `Read` | the try ends | the try ends |
//! | `Read` | `Received`: take in the frames, go on | one more look of 100 ms, then the stream ends | deliver what came before, then the stream ends |
//! | `Load` | `Loaded`: start there | as `LoadFailed`: `Wait`, and after 5 of them a gap | ignored |
//! | `Save` | `Saved`: go on | as `SaveFailed`: go on, save again later | ignored |
//! | `Deliver` | `Handled`: commit, go on. `HandlerFailed`: commit those before the one that failed, then `Pause` or `DeadLetter` | ignored | ignored |
//! | `DeadLetter` | `DeadLettered`: commit, go on. `DeadLetterFailed`: again after a wait | ignored | ignored |
//! | `Await`, `Pause`, `Wait` | none | go on | ignored |
//! | `Finish` | none: every input is ignored | | |
//!
//! Three inputs come at any time. `Acks` are noted at once, and `Read`, `Await` and `Wait` go on with them. `Doors` are noted, and end a
//! `Read` at a hub that cannot reach its store when another one can. `Stop` is answered by `Finish`, or by one last `Save` before it.
//! An input that answers nothing is ignored: it came too late.
//!
//! # What holds at every step
//!
//! - Each item has exactly one outcome: handled, or given up and accepted as a dead letter. An item that fails comes back.
//! - The cursor moves only past items that have their outcome, and never back but across a [`Gap`].
//! - No position that has its outcome is handed over again, across streams too, nor when a log comes back that was left for another one.
//! - A cursor is used to resume only once the standing records that belong to it have come, if they were asked for (`standing`):
//!   after `Welcome TRIMMED a9` not before the last `Standing` behind it.
//! - A stream proves health by a record or a `Progress` at least [`Config::healthy_after`] after it became live. Only that resets the backoff:
//!   a dial or a `Welcome` proves nothing.
//! - Nothing but [`Input::Stop`] ends it, and that ends it at once, but for one last save.
//!
//! # Its four cursors
//!
//! `received` is the last position that came, `resume` where the next stream begins, `status.cursor` up to where every item has its outcome,
//! `store.held` what the application's store has. Within one log `store.held` ≤ `status.cursor` ≤ `resume` ≤ `received`; with
//! [`Order::BeforeHandler`] it is `store.held` that goes ahead of `status.cursor`, by what may be lost:
//!
//! ```text
//! a read brings a1 a2 a3, saved every call      received   resume   status.cursor   store.held
//! one by one     it returns from a1, saved         a3        a1          a1             a1
//! stream form    all are out, a1 acked, saved      a3        a3          a1             a1       the next stream brings a4
//! before it      saved, then it is at a1           a3        a0          a0             a1       a crash here loses a1
//! ```
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use galaxy_push_core::link::{Action, Config, Failure, Input, Link};
//!
//! let (mut link, now, random) = (Link::try_new(Config::default())?, Duration::ZERO, 0);
//! assert!(matches!(link.start(now), Action::Dial { hub: 0, .. }));
//! assert!(matches!(link.step(Input::Connected, now, random), Action::Subscribe { attempt: 1, .. }));
//! let refused = Failure::Unreachable("connection refused".into());
//! assert!(matches!(link.step(Input::Failed(refused), now, random), Action::Wait { .. }));
//! assert_eq!(link.status().failures, 1);
//! assert_eq!(link.step(Input::Stop, now, random), Action::Finish);
//! # Ok::<(), galaxy_push_core::backoff::ConfigError>(())
//! ```
//!
//! | file | what it decides |
//! |---|---|
//! | `action`, `config`, `delivery`, `door`, `failure`, `frame`, `item`, `control`, `status`, `stream_end` | nothing: values that go in and out |
//! | `receive`, `standing` | what a frame is, and which cursor may be resumed from |
//! | `outcomes`, `batch`, `flight` | how items reach the application, and what moves the cursor |
//! | `storing` | when the cursor is saved |
//! | `doors`, `stale` | which hub, and when to leave it |
//! | `reconnect` | what the end of a stream means, and when the next begins |

mod action;
mod batch;
mod config;
mod control;
mod delivery;
mod door;
mod doors;
mod failure;
mod flight;
mod frame;
mod item;
mod outcomes;
mod receive;
mod reconnect;
mod stale;
mod standing;
mod status;
mod storing;
mod stream_end;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use action::{Action, Input};
pub use batch::Batch;
pub use config::{Config, DeliveryMode, IN_FLIGHT_OVERHEAD, Order, RetryPolicy, Storing};
pub use control::{FellBehind, Goodbye, GoodbyeReason, Welcome};
pub use delivery::{AckResult, DeadLetter, Delivery};
pub use door::Door;
pub use failure::{Failure, ServerStatus, Waited, code_name};
pub use frame::Frame;
pub use item::{Gap, Item};
pub use status::{Counters, HandlerTrouble, State, Status, StoreTrouble};
pub use stream_end::{StreamEnd, StreamEndCounts};

use crate::backoff::{Backoff, ConfigError};
use crate::cursor::{Cursor, Epochs, StartFrom};
use doors::Doors;
use flight::Flight;
use receive::{Phase, StreamState};
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
///
/// Owns at most one message that is not whole yet, the batch that one read brought, and in the stream form the items in flight.
#[derive(Debug)]
pub struct Link {
    config: Config,
    backoff: Backoff,
    handler_backoff: Backoff,
    action: Action,
    course: Course,
    stream: StreamState,
    /// The last position received, whether or not it is handled yet; `None` while nothing is known.
    received: Option<Cursor>,
    /// How far it came in the logs it was in before.
    left: Epochs,
    doors: Doors,
    stale: Stale,
    /// The hub that is being dialed or subscribed to, until it welcomes the stream.
    dialed: Option<usize>,
    /// Where the next stream begins: after what is handled, or in the stream form after what went out.
    resume: String,
    /// What was received and is not delivered.
    batch: Batch,
    /// Offer one item of the batch at a time, to find the one at fault.
    one_by_one: bool,
    /// How often the first item of the batch failed by itself.
    solo_failures: u32,
    /// A failed item waits until then.
    pause: Option<Duration>,
    flight: Flight,
    /// The item in flight that is being given up.
    giving_up: Option<u64>,
    outgoing: Vec<Delivery>,
    store: Store,
    stopping: bool,
    status: Status,
}

/// Where the link is heading once nothing is left to hand over or to save. [`Link::go_on`] reads it in one place.
#[derive(Debug)]
enum Course {
    /// To the store if that was not asked yet, to the hubs otherwise.
    Begin,
    /// To the hub that was chosen.
    Dial,
    /// On with the stream.
    Read(Deadline),
    /// To the end of the stream, which failed after what it brought last.
    Fail(Failure),
    /// To the next try.
    Wait { until: Duration },
}

/// A deadline that stands still while something else goes on.
///
/// ```text
/// read, 15 s of silence allowed        Running(now + 15 s)
/// after 4 s bytes come, a handler runs Paused(15 s)         reading is what restarts it
/// the handler took 60 s, read again    Running(now + 15 s)  the 60 s count for nothing
/// ```
#[derive(Clone, Copy, Debug)]
enum Deadline {
    Paused(Duration),
    Running(Duration),
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
        let in_flight_bytes = match config.delivery_mode {
            DeliveryMode::Stream { in_flight_bytes } => in_flight_bytes,
            _ => 0,
        };
        Ok(Self {
            store: Store::try_new(config.storing.clone(), backoff.clone())?,
            handler_backoff: backoff.clone(),
            backoff,
            action: Action::Wait { until: Duration::ZERO },
            course: Course::Begin,
            stream: StreamState::new(&config),
            received: Cursor::parse(&config.start).ok(),
            left: Epochs::default(),
            doors: Doors::default(),
            stale: Stale::default(),
            dialed: None,
            resume: config.start.clone(),
            batch: Batch::empty(),
            one_by_one: false,
            solo_failures: 0,
            pause: None,
            flight: Flight::new(in_flight_bytes),
            giving_up: None,
            outgoing: Vec::new(),
            stopping: false,
            status: Status { cursor: config.start.clone(), ..Status::default() },
            config,
        })
    }

    /// The first action: a dial, or a load, at once.
    ///
    /// Call it once, before the first [`step`](Self::step).
    pub fn start(&mut self, now: Duration) -> Action {
        self.go_on(now, 0);
        self.action.clone()
    }

    /// Takes how the last action went, and answers with the next one. `random` is uniform over all of `u64`; `now` never falls.
    ///
    /// An action that comes back unchanged, after acks, is simply performed again. Costs no more than the items that the input brings.
    pub fn step(&mut self, input: Input, now: Duration, random: u64) -> Action {
        match (&self.action, input) {
            (Action::Finish, _) => {}
            (_, Input::Stop) => self.stop(now),
            (_, Input::Acks(acks)) => self.apply_acks(acks, now, random),
            (Action::AskHubs { .. }, Input::Doors(said)) => self.choose_hub(said, now, random),
            (Action::AskHubs { .. }, Input::TimerFired) => self.choose_hub(Vec::new(), now, random),
            (_, Input::Doors(said)) => self.leave_stale_hub(said, now, random),
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
            (Action::Read { .. }, Input::ReadTimedOut { arriving }) => self.read_timer(arriving, now, random),
            (
                Action::Dial { .. } | Action::Subscribe { .. } | Action::Read { .. },
                Input::Failed(failure),
            ) => {
                self.fail(failure, now, random);
            }
            (Action::Deliver, Input::Handled) => self.handler_succeeded(now, random),
            (Action::Deliver, Input::HandlerFailed(error)) => self.handler_failed(error, now, random),
            (Action::DeadLetter, Input::DeadLettered) => self.dead_letter_accepted(now, random),
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
            ) => self.store_answered(input, now, random),
            (Action::Wait { .. } | Action::Pause { .. } | Action::Await { .. }, Input::TimerFired) => {
                self.go_on(now, random);
            }
            _ => {}
        }
        self.action.clone()
    }

    /// The items to deliver, while the action is [`Action::Deliver`]. What the handler marks as done commits with the next step.
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
        // The deadline of a read is the hub's: what this process does meanwhile counts for nothing.
        if let Course::Read(deadline) = &mut self.course {
            deadline.stop(now);
        }
        self.ask_if_stale(now, random);
        self.action = loop {
            if self.stopping {
                break self.finish(now);
            }
            if let Some(action) = self.next_delivery(now).or_else(|| self.save_due(now)) {
                break action;
            }
            // Taken out: an arm that puts nothing back leaves `Begin`, from where a link without a stream starts.
            match std::mem::replace(&mut self.course, Course::Begin) {
                Course::Begin if !self.store.loaded => break self.load(now),
                // What is no cursor is the same to every hub, and may be too long to be sent at all.
                Course::Begin if StartFrom::parse(&self.resume).is_err() => self.report_unreadable_cursor(),
                Course::Begin if self.config.hubs > 1 => break self.ask_doors(now),
                Course::Begin | Course::Dial => break self.dial(now),
                Course::Read(deadline) => break self.read(deadline, now),
                Course::Fail(failure) => self.end_stream(failure, now, random),
                Course::Wait { until } if now >= until => self.doors.begin_round(now),
                Course::Wait { until } => {
                    self.course = Course::Wait { until };
                    break Action::Wait { until: until.min(self.next_wake(now)) };
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
        // With each try, whatever comes of it: by the number the hub tells a late copy of an earlier subscribe from this one.
        self.status.attempt += 1;
        self.stream = StreamState::new(&self.config);
        self.stream.welcome_by = now + self.config.welcome_deadline;
        self.action = Action::Subscribe {
            cursor: self.resume.clone(),
            attempt: self.status.attempt,
            until: self.stream.welcome_by,
        };
    }

    /// Reads on, with a deadline that starts when reading does: the time a handler takes counts for nothing.
    fn read_on(&mut self, now: Duration) {
        (self.stream.last_look, self.stream.arriving) = (false, 0);
        self.course = Course::Read(Deadline::Paused(match self.stream.phase {
            Phase::Welcoming => self.stream.welcome_by.saturating_sub(now),
            Phase::Streaming => self.config.silence_deadline,
            Phase::Closing(_) => self.linger(now),
        }));
    }

    /// How long is read on after a goodbye: what comes then does not prolong it.
    fn linger(&mut self, now: Duration) -> Duration {
        match self.course {
            Course::Read(deadline) if self.stream.lingers => deadline.until(now).saturating_sub(now),
            _ => {
                self.stream.lingers = true;
                GOODBYE_LINGER
            }
        }
    }

    fn read(&mut self, deadline: Deadline, now: Duration) -> Action {
        let until = deadline.until(now);
        self.course = Course::Read(Deadline::Running(until));
        Action::Read { until: until.min(self.next_wake(now)) }
    }

    /// The read deadline has passed, or something else is due. `arriving` counts bytes of a frame that is not whole yet.
    ///
    /// ```text
    /// 15 s without a byte                   one more look of 100 ms, in which buffered bytes are read; then the stream ends
    /// 15 s with 2,000 bytes of a large frame on a slow line: 64 a second are enough; 15 s more
    /// a save or an item in flight is due    go on; the deadline goes on too
    /// ```
    fn read_timer(&mut self, arriving: u64, now: Duration, random: u64) {
        // What came before an earlier wake counts as well.
        self.stream.arriving = self.stream.arriving.saturating_add(arriving);
        // `<=`: the timer fires at that very time, and would fire again at once if that did not count as silence.
        let silent = matches!(self.course, Course::Read(deadline) if deadline.until(now) <= now);
        if !silent {
            return self.go_on(now, random); // a save or an item in flight is due
        }
        let alive = LEAST_BYTES_A_SECOND.saturating_mul(self.config.silence_deadline.as_secs().max(1));
        if self.stream.phase == Phase::Streaming && self.stream.arriving >= alive {
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
        self.course = Course::Read(Deadline::Paused(LAST_LOOK));
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

impl Deadline {
    fn until(self, now: Duration) -> Duration {
        match self {
            Self::Paused(left) => now + left,
            Self::Running(until) => until,
        }
    }

    fn stop(&mut self, now: Duration) {
        *self = Self::Paused(self.until(now).saturating_sub(now));
    }
}
