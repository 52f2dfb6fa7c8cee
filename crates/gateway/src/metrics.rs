//! What the edge counts. Labels hold words of the contract only, never what a user sent.

use std::sync::atomic::{AtomicI64, AtomicU64};

use galaxy_push_core::cursor::Cursor;
use galaxy_push_listener::LogLimiter;
use galaxy_push_proto::{Failure, Reason, v1};
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};
use prometheus_client::registry::{Registry, Unit};

use crate::connection::Ending;
use crate::delivery::Delivery;
use crate::problem;

/// A failure that has no reason of its own.
const OTHER: &str = "OTHER";

/// Why a user may be told of a gap. What an upstream that is newer says is [`v1::GapReason::Unspecified`].
const GAP_REASONS: [v1::GapReason; 10] = [
    v1::GapReason::Unspecified,
    v1::GapReason::Trimmed,
    v1::GapReason::EpochChanged,
    v1::GapReason::Ahead,
    v1::GapReason::Lapped,
    v1::GapReason::Upstream,
    v1::GapReason::TooLarge,
    v1::GapReason::Collapsed,
    v1::GapReason::Damaged,
    v1::GapReason::CursorUnreadable,
];

/// One label with a value from a fixed set.
type Label = [(&'static str, &'static str); 1];

/// The counters of one gateway.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    connections: Family<Label, Gauge>,
    delivered: Family<Label, Counter>,
    pub(crate) delivery: Delivery,
    gaps: Family<Label, Counter>,
    refused: Family<Label, Counter>,
    /// Which refusals are told, by their reason.
    refusals: LogLimiter,
    ended: Family<Label, Counter>,
    standing: Family<Label, Counter>,
    broken: Counter,
    cut_off: Counter,
    pub(crate) skipped_client_frames: Counter,
    pub(crate) client_frame_pauses: Counter,
    pub(crate) too_large_closes: Counter,
    pub(crate) expired: Counter,
    pub(crate) mailbox_overflows: Counter,
    pub(crate) turns_awaited: Counter,
    pub(crate) render_hits: Counter,
    pub(crate) render_misses: Counter,
    pub(crate) render_bytes: Gauge<i64, AtomicI64>,
    pub(crate) upstream_entries: Counter,
    pub(crate) upstream_gaps: Counter,
    pub(crate) upstream_repeats: Counter,
    /// How far apart the hubs' clocks are, in seconds.
    pub(crate) clocks_apart: Gauge<f64, AtomicU64>,
}

/// So many users that a shutdown cuts off are named in the log.
const CUT_OFF_NAMED: u64 = 100;

/// How a user is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Sse,
    WsJson,
    WsProto,
}

impl Transport {
    const ALL: [Self; 3] = [Self::Sse, Self::WsJson, Self::WsProto];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Sse => "sse",
            Self::WsJson => "ws_json",
            Self::WsProto => "ws_proto",
        }
    }
}

/// Counts one connection for as long as it lives.
#[derive(Debug)]
pub(crate) struct Connected(Gauge);

impl Metrics {
    pub(crate) fn connected(&self, transport: Transport) -> Connected {
        let gauge = self.connections.get_or_create_owned(&[("transport", transport.as_str())]);
        gauge.inc();
        Connected(gauge)
    }

    pub(crate) fn delivered(&self, transport: Transport, events: u64) {
        if events > 0 {
            self.delivered.get_or_create(&[("transport", transport.as_str())]).inc_by(events);
        }
    }

    /// A user was told of a gap.
    pub(crate) fn gap(&self, reason: v1::GapReason) {
        self.gaps.get_or_create(&[("reason", gap_reason(reason))]).inc();
    }

    pub(crate) fn refused(&self, failure: &Failure) {
        let reason = failure.reason.map_or(OTHER, Reason::as_str);
        self.refused.get_or_create(&[("reason", reason)]).inc();
        let why = problem::own_words(failure);
        match self.refusals.count(&format!("{reason} {why}")) {
            Some(left_out) => tracing::info!(reason, code = ?failure.code, why, left_out, "users refused"),
            None => tracing::debug!(reason, why = failure.message, "refused"),
        }
    }

    /// Standing records did something.
    pub(crate) fn standing(&self, change: &'static str, count: u64) {
        self.standing.get_or_create(&[("change", change)]).inc_by(count);
    }

    /// A user's WebSocket was ended, because it broke the protocol.
    pub(crate) fn broke_protocol(&self) {
        self.broken.inc();
    }

    /// A shutdown ended a connection that had not taken everything. Of many the first are named, and all counted.
    pub(crate) fn cut_off(&self, connection: &str, position: Cursor, left: u64) {
        if self.cut_off.inc() < CUT_OFF_NAMED {
            tracing::warn!(connection, %position, left,
                "cut off by the shutdown: this user has not taken everything, and at most so many events are left for it");
        }
    }

    /// How many those were.
    pub(crate) fn cut_off_so_far(&self) -> u64 {
        self.cut_off.get()
    }

    /// A connection was ended from this side.
    pub(crate) fn ended(&self, reason: &'static str) {
        self.ended.get_or_create(&[("reason", reason)]).inc();
    }

    /// Shows every label from the start: what is not there cannot be told from what never happened, and the first of its kind
    /// would be no rise.
    fn start_at_zero(&self) {
        for transport in Transport::ALL {
            self.connections.get_or_create(&[("transport", transport.as_str())]).inc_by(0);
            self.delivered.get_or_create(&[("transport", transport.as_str())]).inc_by(0);
        }
        for reason in GAP_REASONS {
            self.gaps.get_or_create(&[("reason", gap_reason(reason))]).inc_by(0);
        }
        for reason in Reason::ALL.map(Reason::as_str).into_iter().chain([OTHER]) {
            self.refused.get_or_create(&[("reason", reason)]).inc_by(0);
        }
        for reason in Ending::REASONS {
            self.ended.get_or_create(&[("reason", reason)]).inc_by(0);
        }
        for change in ["INVALIDATED", "JOINED", "LEFT", "REPLACED"] {
            self.standing.get_or_create(&[("change", change)]).inc_by(0);
        }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        self.start_at_zero();
        let r = registry;
        r.register("push_connections", "Users' connections now open", self.connections.clone());
        r.register("push_delivered", "Events handed to users' connections", self.delivered.clone());
        r.register_with_unit(
            "push_delivery",
            "From an event's append at the hub to its hand-over to a user who was connected when it came to the gateway",
            Unit::Seconds,
            self.delivery.histogram(),
        );
        r.register("push_edge_gaps", "Gaps told to users, by reason", self.gaps.clone());
        r.register("push_refused", "Users' requests refused, by reason", self.refused.clone());
        r.register("push_ended", "Users' connections ended by the gateway, by reason", self.ended.clone());
        r.register(
            "push_cut_off",
            "Users' connections that a shutdown ended before they had taken everything",
            self.cut_off.clone(),
        );
        r.register("push_protocol_breaches", "WebSockets that broke the protocol", self.broken.clone());
        r.register(
            "push_client_frames_skipped",
            "Frames of users that are of no kind this gateway knows",
            self.skipped_client_frames.clone(),
        );
        r.register(
            "push_client_frame_pauses",
            "Times the next frame of a user had to wait, because its frames come faster than they are read",
            self.client_frame_pauses.clone(),
        );
        r.register(
            "push_too_large_closes",
            "WebSockets that their users closed with 1009, because an event was larger than they take",
            self.too_large_closes.clone(),
        );
        r.register(
            "push_expired",
            "Events left out of users' connections, because they expired before they could be sent",
            self.expired.clone(),
        );
        r.register(
            "push_standing_changes",
            "Standing records that changed something: INVALIDATED, JOINED, LEFT; REPLACED: all memberships at once",
            self.standing.clone(),
        );
        r.register(
            "push_mailbox_overflows",
            "Times a connection could not keep up and went back to scanning the window",
            self.mailbox_overflows.clone(),
        );
        r.register(
            "push_turns_awaited",
            "Times a user's opening or replay waited, because that user had its part of a core",
            self.turns_awaited.clone(),
        );
        r.register("push_render_cache_hits", "Events found rendered already", self.render_hits.clone());
        r.register("push_render_cache_misses", "Events rendered", self.render_misses.clone());
        r.register("push_render_cache_bytes", "Rendered events held", self.render_bytes.clone());
        self.register_upstream(r);
    }

    fn register_upstream(&self, registry: &mut Registry) {
        let r = registry;
        r.register(
            "push_upstream_entries",
            "Entries appended to the edge window",
            self.upstream_entries.clone(),
        );
        r.register("push_upstream_gaps", "Gaps appended to the edge window", self.upstream_gaps.clone());
        r.register_with_unit(
            "push_upstream_clocks_apart",
            "How far apart the clocks of two hubs were, when the stream had gone from one to the other",
            Unit::Seconds,
            self.clocks_apart.clone(),
        );
        r.register(
            "push_upstream_repeats",
            "Frames from the hub left out, because the window holds their position already",
            self.upstream_repeats.clone(),
        );
    }
}

const fn gap_reason(reason: v1::GapReason) -> &'static str {
    match reason {
        v1::GapReason::Unspecified => "UNSPECIFIED",
        v1::GapReason::Trimmed => "TRIMMED",
        v1::GapReason::EpochChanged => "EPOCH_CHANGED",
        v1::GapReason::Ahead => "AHEAD",
        v1::GapReason::Lapped => "LAPPED",
        v1::GapReason::Upstream => "UPSTREAM",
        v1::GapReason::TooLarge => "TOO_LARGE",
        v1::GapReason::Collapsed => "COLLAPSED",
        v1::GapReason::Damaged => "DAMAGED",
        v1::GapReason::CursorUnreadable => "CURSOR_UNREADABLE",
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}
