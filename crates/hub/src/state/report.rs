//! What a gateway last said of itself, as the fence keeps it beside the gateway's stream.
//!
//! `surface/push/report.rs` reads reports off the wire; `app/status.rs` and `app/scrape.rs` show them. A report moves nothing: neither the
//! stream nor anybody's cursor depends on it.

use std::collections::BTreeMap;
use std::time::Duration;

use galaxy_push_core::Now;
use galaxy_push_core::cursor::{Ask, Cursor};
use galaxy_push_core::window::Window;

/// The latest report of a gateway that has a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reported {
    /// When it came, on the log's monotonic clock.
    pub(crate) at: Duration,
    /// Everything up to here is handled; `None`: nothing yet, or a position that this build cannot read.
    pub(crate) handled: Option<Cursor>,
    /// Users' connections at the gateway.
    pub(crate) connections: u64,
    pub(crate) counts: BTreeMap<String, u64>,
}

/// How many entries come after what was handled, and how old the oldest of them is that is still held.
pub(crate) fn lag(window: &Window, handled: Cursor, now: Now) -> (u64, Duration) {
    let start = window.find(Ask::At(handled), "");
    let gone = start.gap.and_then(|gap| gap.count).unwrap_or(0);
    let age = window.appended_at(start.next).map_or(Duration::ZERO, |at| now.mono.saturating_sub(at));
    (gone + window.end().since(start.next), age)
}
