//! What a gateway counts, and the names under which it shows that.
//!
//! Labels hold words of the contract only, never what a user sent. What state counts by itself is in [`Counters`]; here
//! all of it gets its name and its help. Numbers that are looked up when somebody asks are in `scrape`.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use galaxy_push_listener::LogLimiter;
use galaxy_push_proto::{Reason, v1};
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};
use prometheus_client::registry::{Registry, Unit};

use crate::state::close::CloseReason;
use crate::state::counters::{Counters, Label};

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

/// The counters of one gateway.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// What state counts by itself.
    pub(crate) counters: Arc<Counters>,
    connections: Family<Label, Gauge>,
    delivered: Family<Label, Counter>,
    gaps: Family<Label, Counter>,
    refused: Family<Label, Counter>,
    /// Which refusals the log says: of many alike a few.
    refusals: LogLimiter,
    ended: Family<Label, Counter>,
    broken: Counter,
    pub(crate) skipped_client_frames: Counter,
    pub(crate) client_frame_pauses: Counter,
    pub(crate) too_large_closes: Counter,
    pub(crate) render_hits: Counter,
    pub(crate) render_misses: Counter,
    pub(crate) render_bytes: Gauge<i64, AtomicI64>,
}

/// How users may be connected: the label of what is counted by it.
pub(crate) const TRANSPORTS: [&str; 3] = ["sse", "ws_json", "ws_proto"];

/// Counts one connection for as long as it lives.
#[derive(Debug)]
pub(crate) struct Connected(Gauge);

impl Metrics {
    /// A user is connected until the result is dropped.
    pub(crate) fn connected(&self, transport: &'static str) -> Connected {
        let gauge = self.connections.get_or_create_owned(&[("transport", transport)]);
        gauge.inc();
        Connected(gauge)
    }

    /// So many events were given to a transport.
    pub(crate) fn delivered(&self, transport: &'static str, events: u64) {
        if events > 0 {
            self.delivered.get_or_create(&[("transport", transport)]).inc_by(events);
        }
    }

    /// A user was told of a gap.
    pub(crate) fn gap(&self, reason: v1::GapReason) {
        self.gaps.get_or_create(&[("reason", gap_reason(reason))]).inc();
    }

    /// A request was refused for this reason of the contract, if it has one. `why` tells refusals apart in the log.
    /// Whether the log is to say so: then how many like it were left out since it last did.
    pub(crate) fn count_refusal(&self, reason: Option<Reason>, why: &str) -> Option<u64> {
        let reason = refusal_label(reason);
        self.refused.get_or_create(&[("reason", reason)]).inc();
        self.refusals.count(&format!("{reason} {why}"))
    }

    /// A user's WebSocket was ended, because it broke the protocol.
    pub(crate) fn broke_protocol(&self) {
        self.broken.inc();
    }

    /// A connection was ended from this side.
    pub(crate) fn ended(&self, reason: &'static str) {
        self.ended.get_or_create(&[("reason", reason)]).inc();
    }

    /// Shows every label from the start: what is not there cannot be told from what never happened, and the first of its kind
    /// would be no rise.
    fn start_at_zero(&self) {
        for transport in TRANSPORTS {
            self.connections.get_or_create(&[("transport", transport)]).inc_by(0);
            self.delivered.get_or_create(&[("transport", transport)]).inc_by(0);
        }
        for reason in GAP_REASONS {
            self.gaps.get_or_create(&[("reason", gap_reason(reason))]).inc_by(0);
        }
        for reason in Reason::ALL.map(Reason::as_str).into_iter().chain([OTHER]) {
            self.refused.get_or_create(&[("reason", reason)]).inc_by(0);
        }
        for reason in CloseReason::LABELS {
            self.ended.get_or_create(&[("reason", reason)]).inc_by(0);
        }
        for change in Counters::STANDING_CHANGES {
            self.counters.standing(change, 0);
        }
    }

    /// Shows everything in this registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        self.start_at_zero();
        let r = registry;
        r.register("push_connections", "Users' connections now open", self.connections.clone());
        r.register("push_delivered", "Events handed to users' connections", self.delivered.clone());
        r.register_with_unit(
            "push_delivery",
            "From an event's append at the hub to its hand-over to a user who was connected when it came to the gateway",
            Unit::Seconds,
            self.counters.delivery.histogram(),
        );
        r.register("push_edge_gaps", "Gaps told to users, by reason", self.gaps.clone());
        r.register("push_refused", "Users' requests refused, by reason", self.refused.clone());
        r.register("push_ended", "Users' connections ended by the gateway, by reason", self.ended.clone());
        r.register(
            "push_cut_off",
            "Users' connections that a shutdown ended before they had taken everything",
            self.counters.cut_off_so_far().clone(),
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
            self.counters.expired.clone(),
        );
        r.register(
            "push_standing_changes",
            "Standing records that changed something: INVALIDATED, JOINED, LEFT; REPLACED: all memberships at once",
            self.counters.standing_changes().clone(),
        );
        r.register(
            "push_mailbox_overflows",
            "Times a connection could not keep up and went back to scanning the window",
            self.counters.mailbox_overflows.clone(),
        );
        r.register(
            "push_turns_awaited",
            "Times a user's opening or replay waited, because that user had its part of a core",
            self.counters.turns_awaited.clone(),
        );
        r.register("push_render_cache_hits", "Events found rendered already", self.render_hits.clone());
        r.register("push_render_cache_misses", "Events rendered", self.render_misses.clone());
        r.register("push_render_cache_bytes", "Rendered events held", self.render_bytes.clone());
        self.register_upstream(r);
    }

    /// As [`Metrics::register`]: what concerns the stream from the hub.
    fn register_upstream(&self, registry: &mut Registry) {
        let r = registry;
        r.register(
            "push_upstream_entries",
            "Entries appended to the edge window",
            self.counters.upstream_entries.clone(),
        );
        r.register(
            "push_upstream_gaps",
            "Gaps appended to the edge window",
            self.counters.upstream_gaps.clone(),
        );
        r.register_with_unit(
            "push_upstream_clocks_apart",
            "How far apart the clocks of two hubs were, when the stream had gone from one to the other",
            Unit::Seconds,
            self.counters.clocks_apart.clone(),
        );
        r.register(
            "push_upstream_repeats",
            "Frames from the hub left out, because the window holds their position already",
            self.counters.upstream_repeats.clone(),
        );
    }
}

/// A refusal's reason as a label.
pub(crate) fn refusal_label(reason: Option<Reason>) -> &'static str {
    reason.map_or(OTHER, Reason::as_str)
}

/// The reason of a gap as a label.
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
