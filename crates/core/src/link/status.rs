//! What a client shows of itself. Written by the link, published by its driver.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Door, Failure, StreamEnd, StreamEndCounts};
use crate::cursor::Epoch;

/// Where a client stands.
///
/// ```
/// assert_eq!(galaxy_push_core::link::State::CatchingUp.to_string(), "catching up");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Dialing, or waiting for the `Welcome` of a stream.
    #[default]
    Connecting,
    /// Reading what it missed; also after `FellBehind`.
    CatchingUp,
    /// At the head.
    Live,
    /// Waiting before the next try.
    BackingOff,
    /// Waiting because another process uses the same gateway id.
    Conflicted,
    /// Waiting because the hub refused: somebody must change a setting.
    Refused,
    /// Stopped for good, as asked.
    Stopped,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting",
            Self::CatchingUp => "catching up",
            Self::Live => "live",
            Self::BackingOff => "backing off",
            Self::Conflicted => "conflicted",
            Self::Refused => "refused",
            Self::Stopped => "stopped",
        })
    }
}

/// A client's state, as of its last step.
///
/// A snapshot: it is cloned for whoever watches. Durations are since the client started.
///
/// ```
/// use galaxy_push_core::link::{Door, State, Status};
///
/// let mut status = Status::default();
/// assert!(status.state == State::Connecting && status.cursor.is_empty() && !status.is_split());
/// status.doors = vec![Door::Holds("log-a".into()), Door::Holds("log-b".into())];
/// assert!(status.is_split(), "what one hub acknowledges, the readers of the other do not see");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Where it stands.
    pub state: State,
    /// Since when, on the clock the link is driven by.
    pub since: Duration,
    /// The cursor it would resume from: everything up to it was handled.
    pub cursor: String,
    /// The number of the latest subscribe.
    pub attempt: u64,
    /// How many tries and streams in a row have ended without proof of health; the waits grow with it.
    pub failures: u32,
    /// Which of the configured hubs it uses or tries next, counted from 0.
    pub hub: usize,
    /// The hub of the last stream that was welcomed.
    pub door: Option<usize>,
    /// The log that it follows; `None` while nothing of one was received, or its cursors are of a form this build cannot read.
    pub epoch: Option<Epoch>,
    /// What each hub said last when it was asked which log it holds. Empty where there is one hub: nobody is asked then.
    pub doors: Vec<Door>,
    /// Since when the hub of the stream says that it cannot reach its store, on the clock the link is driven by: the log may go
    /// on elsewhere. `None`: it can, as far as it says.
    pub stale_since: Option<Duration>,
    /// Why the last try or stream ended; kept while the next one is well.
    pub last_error: Option<Arc<Failure>>,
    /// The same in one word of a fixed list; absent while only a cursor could not be read.
    pub last_end: Option<StreamEnd>,
    /// Set while the handler fails on one and the same item; in the stream form, while any item in flight has failed.
    pub handler: Option<HandlerTrouble>,
    /// What the cursor store is known to hold; empty without one.
    pub stored: String,
    /// Set while the cursor store fails.
    pub store: Option<StoreTrouble>,
    /// Since when the handler has been at work on what it was given last, on the clock the link is driven by; `None`
    /// while it is not.
    pub handling_since: Option<Duration>,
    /// In the stream form: items in flight, which are out or wait for one before them.
    pub in_flight_items: usize,
    /// What they hold, in bytes.
    pub in_flight_bytes: usize,
    /// What happened so far.
    pub counters: Counters,
}

impl Status {
    /// Whether the hubs hold different logs, as far as they say: what is published to one is not seen by the readers of
    /// another, although each of them acknowledges it.
    #[must_use]
    pub fn is_split(&self) -> bool {
        let mut held = self.doors.iter().filter_map(Door::epoch);
        let followed = self.epoch.filter(|_| matches!(self.state, State::CatchingUp | State::Live));
        match followed.map(|epoch| epoch.to_string()) {
            Some(followed) => held.any(|epoch| epoch != followed),
            None => held.next().is_some_and(|first| held.any(|epoch| epoch != first)),
        }
    }
}

/// A handler that keeps failing.
///
/// ```
/// use galaxy_push_core::link::{HandlerTrouble, Status, StoreTrouble};
///
/// /// What to show an operator.
/// fn troubles(status: &Status) -> Vec<String> {
///     let handler = status.handler.as_ref().map(|HandlerTrouble { cursor, failures, error, .. }| {
///         format!("the handler failed {failures} times at {cursor}: {error}")
///     });
///     let store = status.store.as_ref().map(|StoreTrouble { failures, error, .. }| {
///         format!("the cursor store failed {failures} times: {error}")
///     });
///     handler.into_iter().chain(store).collect()
/// }
/// # assert!(troubles(&Status::default()).is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandlerTrouble {
    /// What it said last.
    pub error: Arc<str>,
    /// How often in a row.
    pub failures: u32,
    /// Since when, on the clock the link is driven by.
    pub since: Duration,
    /// The cursor of the item; empty on an ephemeral event.
    pub cursor: String,
    /// What the dead-letter callback said, if it failed too.
    pub dead_letter_error: Option<Arc<str>>,
}

/// A cursor store that fails.
///
/// See [`HandlerTrouble`] for an example.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreTrouble {
    /// What it said last.
    pub error: Arc<str>,
    /// How often in a row.
    pub failures: u32,
    /// Since when, on the clock the link is driven by.
    pub since: Duration,
}

/// What happened since the client started. Each only rises.
///
/// They begin at 0 with the process: what outlives it is the cursor alone.
///
/// ```
/// use galaxy_push_core::link::Counters;
///
/// let counters = Counters::default();
/// assert_eq!(counters.lost + counters.conflicts + counters.refusals, counters.ends.iter().map(|(_, count)| count).sum::<u64>());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Connections tried.
    pub dials: u64,
    /// Streams that were welcomed.
    pub streams: u64,
    /// Bytes of stream bodies received.
    pub bytes: u64,
    /// Events and standing records handed to the handler, repeats after a failed call not counted again.
    pub records: u64,
    /// Items, of every kind, that the handler finished.
    pub handled: u64,
    /// Gaps handed to the handler, the client's own included.
    pub gaps: u64,
    /// Times the stream went on in another log.
    pub log_changes: u64,
    /// Cursors the hub could not read.
    pub unreadable_cursors: u64,
    /// `Progress` frames.
    pub progress: u64,
    /// `FellBehind` frames.
    pub fell_behind: u64,
    /// `Goodbye` frames.
    pub goodbyes: u64,
    /// Records dropped because their position had been received already.
    pub duplicates: u64,
    /// Frames of a kind this build does not know, skipped.
    pub unknown: u64,
    /// Tries and streams that ended, by why: the sum of the three that follow, which say what the next try waited for.
    pub ends: StreamEndCounts,
    /// Tries and streams that ended otherwise than by a conflict or a refusal.
    pub lost: u64,
    /// Tries and streams that ended because another process uses the same gateway id.
    pub conflicts: u64,
    /// Tries and streams that the hub refused.
    pub refusals: u64,
    /// Calls of the handler that failed or panicked, and deliveries that were dropped or failed.
    pub handler_failures: u64,
    /// Items given up and accepted by the dead-letter callback. Not among those handled.
    pub dead_letters: u64,
    /// Calls of the dead-letter callback that failed or panicked.
    pub dead_letter_failures: u64,
    /// Cursors stored.
    pub saves: u64,
    /// Loads and saves of the cursor store that failed or took too long.
    pub store_failures: u64,
}
