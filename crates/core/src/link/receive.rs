//! What arrives on a stream: bytes become items, and each frame's place in the log is checked.
//!
//! A part of [`Link`], apart from it because it asks *what* came and not *when* to do what.

use std::time::Duration;

use bytes::Bytes;

use super::standing::PendingStanding;
use super::{Config, Course, Failure, Frame, Item, Link, State};
use crate::backoff::Cause;
use crate::cursor::Cursor;
use crate::frame::{Deframer, FrameView, GapView, Kind, message};
use crate::window::GapReason;
use crate::wire::{Fields, Malformed, Value, read_duration};

/// What is known of the present stream. A new one begins with each `Subscribe`.
#[derive(Debug)]
pub(super) struct StreamState {
    deframer: Deframer,
    pub(super) phase: Phase,
    /// Whether it began as it must. A goodbye may come before that, and nothing else.
    welcomed: bool,
    /// When it first caught up; `FellBehind` does not take that back.
    live_since: Option<Duration>,
    /// The read deadline has passed once.
    pub(super) last_look: bool,
    /// How many bytes the connection has read of a frame that is not whole yet, since the read deadline began.
    pub(super) arriving: u64,
    /// A goodbye came, and the time in which it is read on has begun.
    pub(super) lingers: bool,
    /// The moment the `Welcome` must have come.
    pub(super) welcome_by: Duration,
    pub(super) standing: PendingStanding,
}

/// `Welcoming` until the `Welcome`, `Streaming` after it, `Closing` after a `Goodbye`: then frames are still read for 1 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Welcoming,
    Streaming,
    Closing(Goodbye),
}

/// What the server's `Goodbye` means for the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Goodbye {
    cause: Cause,
    retry_after: Option<Duration>,
}

/// Whether a frame is news to this process.
///
/// ```text
/// received a7   event a8      New
/// received a7   event a7      Duplicate: dropped and counted
/// received a7   progress a7   New: it repeats the position, and commits
/// received a7   progress a5   Duplicate: the hub replays what this process has; its cursor is shown as a7
/// received a7   gap to b3     New: another log, across a gap
/// received a7   event b3      neither: the hub broke the contract, and the stream ends
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
enum Freshness {
    /// After everything received, where the last frame was, or nowhere.
    New,
    /// At or before a position already received.
    Duplicate,
}

impl Link {
    pub(super) fn receive(&mut self, bytes: Bytes, now: Duration, random: u64) {
        self.status.counters.bytes += bytes.len() as u64;
        self.stream.deframer.push(bytes);
        match self.receive_messages(now) {
            Ok(()) => self.read_on(now),
            // What came before the fault is good: it is handled first.
            Err(failure) => self.course = Course::Fail(failure),
        }
        self.go_on(now, random);
    }

    fn receive_messages(&mut self, now: Duration) -> Result<(), Failure> {
        while let Some(framed) = self.stream.deframer.next_message().map_err(Failure::Unsplittable)? {
            self.receive_message(framed, now)?;
        }
        Ok(())
    }

    /// Takes in one frame: checks it against the contract, learns what it says of the stream, and queues it for the handler unless it is a
    /// duplicate or of a kind that no handler is given.
    fn receive_message(&mut self, framed: Bytes, now: Duration) -> Result<(), Failure> {
        let malformed = |Malformed| Failure::Protocol("a frame that is not a PushEvent");
        let view = FrameView::read(message(&framed)).map_err(malformed)?;
        self.note(&view, now)?;
        self.note_store(&view, now);
        // Before `freshness` moves it: should the stream break before its standing records are whole, this is where it goes back to.
        let (kind, before) = (view.kind(), self.received);
        // Before the welcome no cursor means anything yet.
        let freshness = if self.stream.welcomed { self.freshness(&view)? } else { Freshness::Duplicate };
        // In this order: `may_resume_from` also learns from the frame which standing records are to come, from a duplicate as well.
        let commits = self.may_resume_from(&view, before) && freshness == Freshness::New;
        self.show_epoch();
        if is_record(kind) {
            if freshness == Freshness::Duplicate {
                self.status.counters.duplicates += 1;
                return Ok(());
            }
            self.status.counters.records += 1;
        }
        if matches!(kind, Kind::Subscribed | Kind::Unknown) || !self.stream.welcomed {
            if commits && !view.cursor().is_empty() {
                self.batch.note_tail(view.cursor());
            }
        } else if let Some(item) =
            Item::of(kind, self.at_own_position(kind, freshness, Frame::of_read(framed, commits)))
        {
            let item = item.map_err(|error| {
                self.received = before; // it was not: the next stream brings it again, and what it would have passed over
                malformed(error)
            })?;
            self.batch.push(match (item, self.received) {
                // In a log that was left before, the gap ends where this process had come to, which may be beyond what the hub says.
                (Item::Gap(gap), Some(received)) if freshness == Freshness::New => {
                    Item::Gap(Box::new(gap.leading_to(received)))
                }
                (item, _) => item,
            });
        }
        Ok(())
    }

    /// A hub that replays what the handler had says where it is in that; to the handler it says where the handler is, or one that kept
    /// the cursor would be led back.
    fn at_own_position(&self, kind: Kind, freshness: Freshness, frame: Frame) -> Frame {
        let is_mark = matches!(kind, Kind::Progress | Kind::CaughtUp | Kind::FellBehind | Kind::Goodbye);
        match self.received {
            Some(received) if is_mark && freshness == Freshness::Duplicate => frame.at(received),
            _ => frame,
        }
    }

    /// Learns what a frame says about the stream itself.
    fn note(&mut self, view: &FrameView<'_>, now: Duration) -> Result<(), Failure> {
        let counters = &mut self.status.counters;
        match (view.kind(), self.stream.phase) {
            (Kind::Goodbye, _) => {
                counters.goodbyes += 1;
                self.stream.phase = Phase::Closing(Goodbye::read(view.body()));
            }
            (Kind::Unknown | Kind::Subscribed, _) => counters.unknown += 1,
            (Kind::Welcome, Phase::Welcoming) => {
                counters.streams += 1;
                (self.status.door, self.doors.lost_since) = (Some(self.status.hub), None);
                self.dialed = None;
                (self.stream.phase, self.stream.welcomed) = (Phase::Streaming, true);
                self.show(State::CatchingUp, now);
            }
            _ if !self.stream.welcomed => {
                return Err(Failure::Protocol("a stream that does not begin with a welcome"));
            }
            (Kind::Welcome, _) => return Err(Failure::Protocol("a second welcome on one stream")),
            (Kind::CaughtUp, _) => {
                self.stream.live_since.get_or_insert(now);
                self.show(State::Live, now);
            }
            (Kind::FellBehind, _) => {
                counters.fell_behind += 1;
                self.show(State::CatchingUp, now);
            }
            (Kind::Gap, _) => counters.gaps += 1,
            (Kind::Progress, _) => {
                counters.progress += 1;
                self.note_health(now);
            }
            (kind, _) if is_record(kind) => self.note_health(now),
            _ => {}
        }
        Ok(())
    }

    fn note_health(&mut self, now: Duration) {
        let live_for = self.stream.live_since.map(|since| now.saturating_sub(since));
        if live_for.is_some_and(|live| live >= self.config.healthy_after) {
            self.backoff.reset();
            self.status.failures = 0;
        }
    }

    fn show_epoch(&mut self) {
        let epoch = self.received.map(|received| received.epoch);
        if epoch != self.status.epoch {
            self.status.epoch = epoch;
        }
    }

    /// Compares a frame's cursor with what this process has received, and remembers it.
    fn freshness(&mut self, frame: &FrameView<'_>) -> Result<Freshness, Failure> {
        if frame.cursor().is_empty() {
            return Ok(Freshness::New); // It has no position that could be old, and commits nothing.
        }
        let new = Cursor::parse(frame.cursor()).ok();
        // A cursor that this build cannot read is trusted: to a client it is opaque.
        let (Some(position), Some(received)) = (new, self.received) else {
            self.received.into_iter().for_each(|received| self.left.leave(received));
            self.received = new.map(|position| self.left.goes_on(position));
            let repeats = self.received != new && is_record(frame.kind());
            return Ok(if repeats { Freshness::Duplicate } else { Freshness::New });
        };
        let gap = frame.gap().map(GapView::reason);
        if position.epoch != received.epoch && gap.is_none() {
            return Err(Failure::Protocol("another epoch without a gap"));
        }
        // Only where the reader was ahead of the log does a position move back.
        let moves = position.epoch != received.epoch
            || position.follows(received)
            || gap == Some(Some(GapReason::Ahead));
        if position.epoch != received.epoch {
            self.status.counters.log_changes += 1;
            self.left.leave(received);
            self.received = Some(self.left.goes_on(position));
        } else if moves {
            self.received = new;
        }
        // A control frame repeats the last position; a record never does.
        let repeats = position == received && !is_record(frame.kind());
        Ok(if moves || repeats { Freshness::New } else { Freshness::Duplicate })
    }
}

fn is_record(kind: Kind) -> bool {
    matches!(kind, Kind::Event | Kind::SessionInvalidation | Kind::Membership)
}

impl StreamState {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            deframer: Deframer::new(config.max_receive_bytes),
            phase: Phase::Welcoming,
            welcomed: false,
            live_since: None,
            last_look: false,
            arriving: 0,
            lingers: false,
            welcome_by: Duration::ZERO,
            standing: PendingStanding::default(),
        }
    }
}

impl Goodbye {
    /// Reads a `Goodbye`. A malformed one is a goodbye all the same.
    ///
    /// `reconnect: false` counts as a refusal, not as an end: a gateway that stopped for good would need a person to
    /// start it again, and asking once a minute costs nobody anything. A server that drains or sheds a slow reader is
    /// always worth coming back to, so there a `false` that a simple server never set is overlooked.
    fn read(body: &[u8]) -> Self {
        const DRAINING: u64 = 1;
        const REPLACED: u64 = 2;
        const SLOW: u64 = 4;
        let (mut reason, mut reconnect, mut retry_after) = (0, false, None);
        for field in Fields::of(body).map_while(Result::ok) {
            match field {
                (1, Value::Varint(number)) => reason = number,
                (2, Value::Bytes(duration)) => retry_after = read_duration(duration),
                (3, Value::Varint(flag)) => reconnect = flag != 0,
                _ => {}
            }
        }
        let cause = match reason {
            REPLACED => Cause::Conflict,
            DRAINING | SLOW => Cause::Lost,
            _ if reconnect => Cause::Lost,
            _ => Cause::Refused,
        };
        Self { cause, retry_after }
    }

    /// The wait after a goodbye and the end of its stream. A status that says more than "lost" has the last word.
    pub(super) fn followed_by(self, end: &Failure) -> (Cause, Option<Duration>) {
        let cause = match end.cause() {
            Cause::Lost => self.cause,
            said => said,
        };
        (cause, end.retry_after().or(self.retry_after))
    }
}
