//! What a hub says about the stream itself, read: `Welcome`, `FellBehind` and `Goodbye`.
//!
//! Built by [`Item`](super::Item) as a frame arrives. Each keeps its frame, because a gateway passes frames on and does not
//! write them anew. What a newer contract adds is passed over.

use std::time::Duration;

use super::frame::Frame;
use crate::window::Outcome;
use crate::wire::{Fields, Malformed, Value, read_duration, read_text};

/// A stream began. What the texts hold is opaque: compare them, and send them back.
///
/// ```
/// use galaxy_push_core::link::Welcome;
/// use galaxy_push_core::window::Outcome;
///
/// /// Whether what the application holds is still good.
/// fn goes_on(welcome: &Welcome) -> bool {
///     match welcome.outcome {
///         Some(Outcome::Resumed) => true,
///         Some(Outcome::Fresh) => false, // nothing was held
///         _ => false,                    // a gap follows, and says what is missing
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Welcome {
    /// The frame, to keep or pass on. Its cursor is the presented one, or where a fresh reader starts.
    pub frame: Frame,
    /// How the cursor was met; `None` for an outcome of a newer contract.
    pub outcome: Option<Outcome>,
    /// The present life of the log.
    pub epoch: String,
    /// The last position of the log.
    pub head: String,
    /// The position just before the oldest event held.
    pub oldest: String,
    /// Rises each time a subscription for this gateway id is accepted.
    pub generation: u64,
    /// The hub's name for this stream, in its log and status.
    pub connection_id: String,
}

impl Welcome {
    pub(super) fn read(frame: Frame) -> Result<Self, Malformed> {
        let mut welcome = Self {
            frame,
            outcome: None,
            epoch: String::new(),
            head: String::new(),
            oldest: String::new(),
            generation: 0,
            connection_id: String::new(),
        };
        for field in Fields::of(welcome.frame.view().body()) {
            match field? {
                (1, Value::Varint(number)) => welcome.outcome = outcome_of(number),
                (2, Value::Bytes(epoch)) => welcome.epoch = read_text(epoch)?,
                (3, Value::Bytes(head)) => welcome.head = read_text(head)?,
                (4, Value::Bytes(oldest)) => welcome.oldest = read_text(oldest)?,
                (5, Value::Varint(generation)) => welcome.generation = generation,
                (8, Value::Bytes(id)) => welcome.connection_id = read_text(id)?,
                _ => {}
            }
        }
        Ok(welcome)
    }
}

/// The stream lags by a quarter of the window or more. If it goes on so, the reader's position leaves the window, and a [`Gap`](super::Gap)
/// follows. A `CaughtUp` follows once the lag is gone.
///
/// ```
/// fn warn(behind: &galaxy_push_core::link::FellBehind) -> String {
///     format!("{} positions behind, the next is {:?} old", behind.events, behind.lag)
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FellBehind {
    /// The frame, to keep or pass on.
    pub frame: Frame,
    /// How many positions it lags.
    pub events: u64,
    /// How long ago the hub took the next event that this reader has to read.
    pub lag: Option<Duration>,
}

impl FellBehind {
    pub(super) fn read(frame: Frame) -> Result<Self, Malformed> {
        let mut behind = Self { frame, events: 0, lag: None };
        for field in Fields::of(behind.frame.view().body()) {
            match field? {
                (1, Value::Varint(events)) => behind.events = events,
                (2, Value::Bytes(lag)) => behind.lag = read_duration(lag),
                _ => {}
            }
        }
        Ok(behind)
    }
}

/// Why a hub ends a stream.
///
/// ```
/// use galaxy_push_core::link::{Goodbye, GoodbyeReason};
///
/// /// What an operator should do about it.
/// fn advice(goodbye: &Goodbye) -> &'static str {
///     match goodbye.reason {
///         Some(GoodbyeReason::Draining) => "nothing: another hub answers",
///         Some(GoodbyeReason::Replaced) => "find the other process with this gateway id",
///         Some(GoodbyeReason::SessionEnded) => "renew the token",
///         Some(GoodbyeReason::Slow) => "make the handler faster",
///         _ => "look at the hub's log",
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GoodbyeReason {
    /// It shuts down: another process will answer.
    Draining,
    /// A newer subscription took over.
    Replaced,
    /// The token has ended or the session was invalidated.
    SessionEnded,
    /// The reader was too slow.
    Slow,
}

/// The hub ends the stream and says why. The client comes back by itself: this item is for the application's own log or state.
///
/// See [`GoodbyeReason`] for an example.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Goodbye {
    /// The frame, to keep or pass on.
    pub frame: Frame,
    /// Why; `None` for a reason of a newer contract.
    pub reason: Option<GoodbyeReason>,
    /// How long to wait before coming back.
    pub retry_after: Option<Duration>,
    /// Whether coming back with the last cursor is of use.
    pub reconnect: bool,
}

impl Goodbye {
    pub(super) fn read(frame: Frame) -> Result<Self, Malformed> {
        let mut goodbye = Self { frame, reason: None, retry_after: None, reconnect: false };
        for field in Fields::of(goodbye.frame.view().body()) {
            match field? {
                (1, Value::Varint(number)) => goodbye.reason = goodbye_reason_of(number),
                (2, Value::Bytes(duration)) => goodbye.retry_after = read_duration(duration),
                (3, Value::Varint(reconnect)) => goodbye.reconnect = reconnect != 0,
                _ => {}
            }
        }
        Ok(goodbye)
    }
}

fn outcome_of(number: u64) -> Option<Outcome> {
    Some(match number {
        1 => Outcome::Resumed,
        2 => Outcome::Fresh,
        3 => Outcome::Trimmed,
        4 => Outcome::EpochChanged,
        5 => Outcome::Ahead,
        _ => return None,
    })
}

fn goodbye_reason_of(number: u64) -> Option<GoodbyeReason> {
    Some(match number {
        1 => GoodbyeReason::Draining,
        2 => GoodbyeReason::Replaced,
        3 => GoodbyeReason::SessionEnded,
        4 => GoodbyeReason::Slow,
        _ => return None,
    })
}
