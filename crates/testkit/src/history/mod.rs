//! The history: one record per thing observed, in the order it was observed.
//!
//! Written by test harnesses through a [`Recorder`], saved as NDJSON, read by the checker. Positions are structured
//! ([`Position`]), never cursor text: the harness parses, so the checker needs no product code. Nothing here judges.

mod file;
mod frames;
mod handling;
mod publish;
mod recorder;

pub use file::{Error, read, write};
pub use frames::{
    Claim, Close, Cursor, Event, Follows, Gap, GapReason, Goodbye, GoodbyeReason, Grant, Hop, Mark, Missed,
    Open, Outcome, Pause, Standing, Subscribed, Token, Ungrant, Welcome,
};
pub use handling::{Form, Handled, Handler, How, Stored};
pub use publish::{
    Damaged, Hash, Kept, LogKnown, LogLine, LogRecord, Measured, PubAck, PubCall, Says, Uncounted,
};
pub use recorder::{DEFAULT_CAP, Full, Recorder};

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A short text shared by many records: a process, an epoch, a reader, an event id.
pub type Name = Arc<str>;

/// Names one stream (a gRPC stream, a WebSocket or an SSE response) within a history. Never used twice.
pub type StreamId = u64;

/// Names one publish call for one event within a history. A retry is a call of its own. Never used twice.
pub type CallId = u64;

/// One thing observed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// When, in microseconds of the harness's clock.
    pub at_us: u64,
    /// The process that observed it: the reader for frames, the publisher for publishes.
    pub process: Name,
    /// What.
    pub what: What,
}

/// A place in a log, as read from a cursor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The life of the log.
    pub epoch: Name,
    /// The place in it. 0 is before the first event.
    pub seq: u64,
}

/// How strictly a history is to be judged. Recorded first, so that a saved history is judged the same way again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// How long after the last fault healed (and the last publish) every stream has reached the head, in microseconds.
    pub live_within_us: u64,
    /// How long a publish is recognised when it is repeated, in microseconds.
    pub dedup_us: u64,
    /// After how many later events of the epoch a repeated publish is no longer recognised.
    pub dedup_events: u64,
    /// Whether a batch lies contiguously in the log or not at all. False for stores in which others may interleave.
    pub batches_contiguous: bool,
    /// How long a taken-over stream may still be fed, in microseconds. Zero unless several hubs share a log.
    pub fence_grace_us: u64,
    /// How far a wall clock may be from the truth, in microseconds: around the time of whatever is judged by wall clocks
    /// nothing is certain for so long.
    #[serde(skip_serializing_if = "is_zero")]
    pub clock_skew_us: u64,
    /// How long a hub that leaves in order may take to hand over what it has, in microseconds; zero: that is not judged.
    #[serde(skip_serializing_if = "is_zero")]
    pub drain_us: u64,
    /// Over how long the readers of one gap are told to spread their repairs, in microseconds, by hubs and gateways alike; zero:
    /// that is not judged.
    #[serde(skip_serializing_if = "is_zero")]
    pub repair_spread_us: u64,
    /// How much longer than others all messages to a reader may be on their way, in microseconds. It knows its hub's clock by the
    /// quickest of them, so an event may seem younger to it by so much.
    #[serde(skip_serializing_if = "is_zero")]
    pub transit_us: u64,
    /// Whether the log outlives its hub: `log` lines are written when what they tell of is durable, each life of the hub goes on
    /// in the same epoch, and nothing is acknowledged or delivered that a crash could still take back.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub durable: bool,
    /// Whether the log lets go of what it holds within seconds. A standing record that nobody acknowledged may be gone then, before
    /// anybody has written it elsewhere.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keeps_little: bool,
    /// Whether the harness tells what happens at gateways: where they missed something (`missed`), and every fault that may
    /// end a user's stream, with the names of whom it strikes as words of its detail. Then users are judged by it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub edges: bool,
    /// The hub's window, if the harness knows it and writes `log` lines at the time of the append: then a gap over what
    /// it must still have held is told as needless.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowRule>,
    /// The windows of gateways that hold something else than the hub, by the name of the gateway.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub edge_windows: BTreeMap<Name, WindowRule>,
    /// What is due when; without it promises about time are not judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timing: Option<TimingRule>,
}

/// What is due when, in microseconds: what the system promises, and what the harness's network needs. Zero: not judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimingRule {
    /// What is appended has come to every reader that has everything and that nothing befalls.
    pub deliver_us: u64,
    /// How long a reader with a handler may take over each item, beside that.
    #[serde(skip_serializing_if = "is_zero")]
    pub handle_us: u64,
    /// A gateway's stream on which nothing was sent for so long is sent `Progress`.
    pub progress_us: u64,
    /// The same at users.
    pub edge_progress_us: u64,
    /// A session that has ended is over at its connections.
    pub session_end_us: u64,
    /// How many gateways a second a hub that leaves may tell to come back: no time, but what decides one.
    pub returns_per_second: u64,
}

/// The bounds of a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowRule {
    /// It holds an event for this long, in microseconds.
    pub age_us: u64,
    /// It holds so many.
    pub events: u64,
    /// It holds so many bytes.
    pub bytes: u64,
    /// What no event of this history exceeds, with all that is stored beside it.
    pub event_bytes_max: u64,
}

/// The kinds of record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum What {
    /// How to judge this history.
    Rules(Rules),

    /// A publish of one event begins.
    PubCall(PubCall),
    /// It was accepted.
    PubAck(PubAck),
    /// The hub itself refused it: the event must never be in the log. A broken connection or a timeout is
    /// `pub_unknown`, whatever status a library makes of it.
    PubNack(CallId),
    /// No answer came (timeout, reset): the event may be in the log.
    PubUnknown(CallId),

    /// One entry of the log, dumped from the store: the truth. May be written at any time, in any order.
    Log(LogLine),
    /// What a standing record of the log says.
    LogRecord(LogRecord),
    /// A standing record that is not one of the log, though it lies among its messages.
    Uncounted(Uncounted),
    /// Which part of an epoch's log the `log` lines tell whole. Without it: all of it.
    LogKnown(LogKnown),
    /// What is left of the log on its disk when a hub begins to read it.
    Kept(Kept),
    /// The harness has damaged this part of the log.
    Damaged(Damaged),
    /// The end of the log as the harness reads it. The last one names the epoch and position live readers must reach.
    Head(Position),

    /// A stream was asked for.
    Open(Open),
    /// The first frame.
    Welcome(Welcome),
    /// The instance that opened a stream.
    Claim(Claim),
    /// The token that a user presents on a stream, from here on.
    Token(Token),
    /// Standing records sent at the start of a stream, or after a gap.
    Standing(Standing),
    /// An event, or a standing record sent in its place in the log.
    Event(Event),
    /// The reader was told of a hole.
    Gap(Gap),
    /// Everything up to here was delivered.
    Progress(Mark),
    /// The replay is over.
    CaughtUp(Mark),
    /// The reader lags.
    FellBehind(Mark),
    /// The last frame.
    Goodbye(Goodbye),
    /// Topics were added by a frame; they count from its cursor.
    Subscribed(Subscribed),
    /// The stream ended, as its reader saw it.
    Close(Close),
    /// The reader of a stream does something else for a while.
    Pause(Pause),
    /// A recipient was added without a frame of its own (a membership).
    Grant(Grant),
    /// A recipient was taken away.
    Ungrant(Ungrant),
    /// This reader stays away on purpose: it is not expected to reconnect.
    Left(Name),

    /// How a reader hands over its items. Said at the start of each life of its process; without: one by one, and D is 1.
    Handler(Handler),
    /// An item has its outcome.
    Handled(Handled),
    /// A reader's cursor store holds another cursor.
    Stored(Stored),
    /// It could not be written, or did not say so in time.
    StoreFailed(Name),
    /// The reader met a frame of a kind, or with a word, that it does not know, and went on.
    UnknownFrame(Name),

    /// What the recording process holds of something that has a bound.
    Measured(Measured),

    /// The recording gateway follows another log from here on.
    Follows(Follows),
    /// The recording gateway's stream from the hub has come to the head of the log, or is no longer there.
    Upstream {
        /// Whether it is there.
        live: bool,
    },

    /// The recording gateway was told of a gap by its hub.
    Missed(Missed),

    /// The recording process was started.
    Start,
    /// The recording process ended without a word.
    Crash,
    /// A fault begins.
    FaultStart(Fault),
    /// It ends.
    FaultStop(Fault),
    /// The last fault is over.
    Healed,
    /// The history is complete.
    End,
}

/// A fault the harness injects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Its kind, such as `partition`.
    pub kind: Name,
    /// Whom it strikes and how.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Default for Rules {
    /// What DESIGN.md promises of one hub: 15 s to be live (backoff cap 10 s + 5 s), dedup for 2 min or 1,000,000 ids.
    fn default() -> Self {
        Self {
            live_within_us: 15_000_000,
            dedup_us: 120_000_000,
            dedup_events: 1_000_000,
            batches_contiguous: true,
            fence_grace_us: 0,
            clock_skew_us: 0,
            drain_us: 0,
            repair_spread_us: 0,
            transit_us: 0,
            durable: false,
            keeps_little: false,
            edges: false,
            window: None,
            edge_windows: BTreeMap::new(),
            timing: None,
        }
    }
}

impl Position {
    /// The place `seq` of `epoch`.
    #[must_use]
    pub fn new(epoch: impl Into<Name>, seq: u64) -> Self {
        Self { epoch: epoch.into(), seq }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.seq)
    }
}

impl What {
    /// Whether this is a frame of a stream.
    #[must_use]
    pub const fn is_frame(&self) -> bool {
        matches!(
            self,
            Self::Welcome(_)
                | Self::Standing(_)
                | Self::Event(_)
                | Self::Gap(_)
                | Self::Progress(_)
                | Self::CaughtUp(_)
                | Self::FellBehind(_)
                | Self::Goodbye(_)
                | Self::Subscribed(_)
        )
    }

    /// The stream this record is about, if it is about one.
    #[must_use]
    pub fn stream(&self) -> Option<StreamId> {
        Some(match self {
            Self::Open(open) => open.stream,
            Self::Welcome(welcome) => welcome.stream,
            Self::Claim(claim) => claim.stream,
            Self::Token(token) => token.stream,
            Self::Standing(standing) => standing.stream,
            Self::Event(event) => event.stream,
            Self::Gap(gap) => gap.stream,
            Self::Progress(mark) | Self::CaughtUp(mark) | Self::FellBehind(mark) => mark.stream,
            Self::Goodbye(goodbye) => goodbye.stream,
            Self::Subscribed(subscribed) => subscribed.stream,
            Self::Close(close) => close.stream,
            Self::Grant(grant) => grant.stream,
            Self::Ungrant(ungrant) => ungrant.stream,
            Self::Pause(pause) => pause.stream,
            _ => return None,
        })
    }
}
