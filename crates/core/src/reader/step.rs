//! What a reader says is to be done next. Whoever drives one (a hub stream, an edge connection) does it.

use std::ops::Range;
use std::time::Duration;

use crate::cursor::{Cursor, Epoch};
use crate::window::{MissingRange, Outcome, Slot};

/// A frame about the stream itself. Whoever encodes it adds what only it knows (generation, limits, …).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Always first.
    Welcome {
        /// The presented cursor, echoed; for an empty request the head, for `oldest` the floor.
        cursor: String,
        /// What became of it.
        outcome: Outcome,
        /// The log's present life.
        epoch: Epoch,
        /// The last position known.
        head: Cursor,
        /// Just before the oldest held.
        oldest: Cursor,
    },
    /// What was missed; its cursor is [`MissingRange::to`].
    Gap(MissingRange),
    /// The replay is over, or the reader is back after falling behind.
    CaughtUp {
        /// The reader's position.
        cursor: Cursor,
    },
    /// Everything up to here was delivered.
    Progress {
        /// The position scanned to.
        cursor: Cursor,
    },
    /// The reader lags.
    FellBehind {
        /// The reader's position.
        cursor: Cursor,
        /// How many entries lie before it.
        events: u64,
        /// How old the next of them is.
        lag: Duration,
    },
}

/// The one thing to do next.
///
/// Whoever drives a reader sends what a `Control` or `Send` names and steps again at once. After `Again` it releases the lock first. After
/// `WaitUntil` it sleeps until the window grows or the time comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this frame.
    Control(Control),
    /// Send the frames of these slots, which lie in one chunk: see [`Window::bytes`](crate::window::Window::bytes).
    Send(Range<Slot>),
    /// Nothing to send yet, but more to look at: give the lock back and call again.
    Again,
    /// Nothing to do until the window has grown, or until this time.
    WaitUntil(Duration),
}

/// What a reader left out, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Omitted {
    /// Events past their `ttl`.
    pub expired: u64,
    /// Events larger than the peer accepts: a gap stands in their place, or nothing if they were ephemeral.
    pub too_large: u64,
}
