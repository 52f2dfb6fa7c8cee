//! What a gateway last said of itself, as the ownership table keeps it beside the gateway's stream.
//!
//! `surface/push/report.rs` reads reports off the wire; `app/status.rs` and `app/scrape.rs` show them. A report moves nothing: neither the
//! stream nor anybody's cursor depends on it.

use std::collections::BTreeMap;
use std::time::Duration;

use galaxy_push_core::cursor::{Cursor, StartFrom};
use galaxy_push_core::window::{Slot, Window};

/// What a gateway last said of itself.
///
/// Gateways report every few seconds, and only what has changed. The hub keeps the latest report of each stream: 8 KiB at most, because
/// a report names at most 64 counters of 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// When it came, on the log's monotonic clock.
    pub(crate) received_at: Duration,
    /// Everything up to this position is handled. `None`: nothing yet, or a position that this build cannot read.
    pub handled: Option<Cursor>,
    /// How many users' connections the gateway has.
    pub connections: u64,
    /// The gateway's own counters, by names it chose itself.
    pub counts: BTreeMap<String, u64>,
}

/// How far a reader is behind the head of the log.
///
/// ```text
/// log:      1  2  3  4  5      head = 5
/// handled:     ^               the reader has handled up to 2
/// lag:            3  4  5      events = 3, age = how long ago 3 was appended
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lag {
    /// How many entries come after the reader's position, including those that are not for this reader.
    pub events: u64,
    /// How old the oldest of them is that is still held; zero if there is none.
    pub age: Duration,
}

impl Lag {
    /// The lag of a reader whose next entry is the one in this slot. What has left the window counts by its number, not by its age.
    pub(crate) fn of_slot(window: &Window, next: Slot, now: Duration) -> Self {
        let age =
            window.appended_at(next.max(window.oldest())).map_or(Duration::ZERO, |at| now.saturating_sub(at));
        Self { events: window.end().since(next), age }
    }

    /// The lag of a reader that has handled everything up to this position. In another epoch that is everything held.
    pub(crate) fn of_cursor(window: &Window, handled: Cursor, now: Duration) -> Self {
        let start = window.find(StartFrom::At(handled), "");
        let gone = start.gap.and_then(|gap| gap.count).unwrap_or(0);
        let age = window.appended_at(start.next).map_or(Duration::ZERO, |at| now.saturating_sub(at));
        Self { events: gone + window.end().since(start.next), age }
    }
}
