//! What state counts by itself: a handle for each number, without its name.
//!
//! The routes, the edge, its writer and the connections count. `app/metrics.rs` gives the numbers their names and shows them.

use std::sync::atomic::AtomicU64;

use galaxy_push_core::cursor::Cursor;
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};

use super::latency::DeliveryLatency;

/// So many users that a shutdown cuts off are named in the log.
const CUT_OFF_NAMED: u64 = 100;

/// One label with a value from a fixed set.
pub(crate) type Label = [(&'static str, &'static str); 1];

/// The numbers of one gateway's state.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// How soon live events are delivered.
    pub(crate) delivery: DeliveryLatency,
    /// Events that expired before they could be sent.
    pub(crate) expired: Counter,
    /// Times a mailbox was full.
    pub(crate) mailbox_overflows: Counter,
    /// Times an opening or a replay waited for its user's turn.
    pub(crate) turns_awaited: Counter,
    /// Entries appended to the edge window.
    pub(crate) upstream_entries: Counter,
    /// Gaps among them.
    pub(crate) upstream_gaps: Counter,
    /// Frames of the hub whose position the window held already.
    pub(crate) upstream_repeats: Counter,
    /// How far apart the hubs' clocks are, in seconds.
    pub(crate) clocks_apart: Gauge<f64, AtomicU64>,
    standing: Family<Label, Counter>,
    cut_off: Counter,
}

impl Counters {
    /// What a standing record may do: each label of [`Counters::standing`].
    pub(crate) const STANDING_CHANGES: [&str; 4] = ["INVALIDATED", "JOINED", "LEFT", "REPLACED"];

    /// Standing records did something.
    pub(crate) fn standing(&self, change: &'static str, count: u64) {
        self.standing.get_or_create(&[("change", change)]).inc_by(count);
    }

    /// The family behind [`Counters::standing`].
    pub(crate) fn standing_changes(&self) -> &Family<Label, Counter> {
        &self.standing
    }

    /// A shutdown closed a connection that had not received everything. Of many the first are named in the log, and all
    /// are counted. `left`: how many events it has not received, at most.
    pub(crate) fn cut_off(&self, connection: &str, position: Cursor, left: u64) {
        if self.cut_off.inc() < CUT_OFF_NAMED {
            tracing::warn!(connection, %position, left,
                "cut off by the shutdown: this user has not taken everything, and at most so many events are left for it");
        }
    }

    /// How many connections a shutdown has cut off so far.
    pub(crate) fn cut_off_so_far(&self) -> &Counter {
        &self.cut_off
    }
}
