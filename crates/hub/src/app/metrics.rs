//! What the hub counts, under names that begin with `push_`.
//!
//! Counters are kept where things happen, and shown from the start with 0: a label that is missing cannot be told from one
//! that never counted. What can be read off the hub at a scrape is read then (`scrape.rs`). No label has a value that a
//! peer chose, so peers cannot make the number of series grow.

use galaxy_push_core::window::{GapReason, Outcome};
use galaxy_push_proto::{Failure, Reason};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tonic::Code;

use crate::state::log::AppendCounters;
use crate::state::ownership::TakeoverKind;

/// A failure that has no reason of its own.
const OTHER: &str = "OTHER";

/// One label with a value from a fixed list.
macro_rules! label {
    ($($type:ident { $name:ident }),+) => {$(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(crate) struct $type {
            pub(crate) $name: &'static str,
        }
    )+};
}

label!(ByOutcome { outcome }, ByReason { reason }, ByKind { kind }, ByClass { class }, ByBound { bound });

/// The hub's counters. Cheap to clone: clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) streams: Gauge,
    pub(crate) appended: AppendCounters,
    pub(crate) bytes_sent: Counter,
    pub(crate) subscribes: Family<ByOutcome, Counter>,
    pub(crate) takeovers: Family<ByKind, Counter>,
    pub(crate) held_off: Counter,
    pub(crate) peers_refused: Family<ByReason, Counter>,
    pub(crate) publish_refused: Family<ByReason, Counter>,
    pub(crate) publish_duplicates: Counter,
    pub(crate) gaps: Family<ByReason, Counter>,
    pub(crate) gaps_to_untold_readers: Counter,
    pub(crate) standing_frames: Counter,
    pub(crate) frames_skipped: Family<ByReason, Counter>,
    pub(crate) reports: Family<ByOutcome, Counter>,
}

impl Metrics {
    /// Adds everything to a registry that puts no prefix before the names.
    pub(crate) fn register(&self, registry: &mut Registry) {
        self.start_at_zero();
        let m = self.clone();
        let r = registry;
        r.register("push_streams", "Open gateway streams", m.streams);
        r.register(
            "push_events_appended",
            "Events and standing records appended to the log",
            m.appended.events,
        );
        r.register("push_bytes_appended", "Bytes of frames appended to the log", m.appended.bytes);
        r.register("push_bytes_sent", "Bytes of frames handed to gateway streams", m.bytes_sent);
        r.register("push_subscribes", "Subscribe requests, by what became of the cursor", m.subscribes);
        r.register(
            "push_takeovers",
            "Streams that gave way to a newer one of the same gateway id: quiet is the same instance coming back, \
             rival is two instances with one id, unanswered is one that kept silent in a duel",
            m.takeovers,
        );
        r.register(
            "push_held_off",
            "Subscribe requests refused because the gateway id is fought over and its stream alive",
            m.held_off,
        );
        r.register(
            "push_peers_refused",
            "Requests refused for who made them: unauthenticated is nobody known, denied is somebody known but not for this",
            m.peers_refused,
        );
        r.register(
            "push_publish_refused",
            "Publish requests refused before append, by reason",
            m.publish_refused,
        );
        r.register(
            "push_publish_duplicates",
            "Events, and requests for standing records, published again inside the dedup window",
            m.publish_duplicates,
        );
        r.register("push_gaps", "Gap frames sent, by reason", m.gaps);
        r.register(
            "push_gaps_to_untold_readers",
            "Gap frames sent to clients that name neither features nor an instance, and most likely skip them",
            m.gaps_to_untold_readers,
        );
        r.register("push_standing_frames", "Standing frames sent", m.standing_frames);
        r.register("push_frames_skipped", "Frames a reader was entitled to and not sent", m.frames_skipped);
        r.register(
            "push_reports",
            "Reports of gateways about themselves: taken; stale, from an instance that has no stream; refused",
            m.reports,
        );
    }

    /// Shows every label from the start: what is not there cannot be told from what never happened, and the first of its kind
    /// would be no rise.
    fn start_at_zero(&self) {
        for outcome in ["resumed", "fresh", "trimmed", "epoch_changed", "ahead", "refused"] {
            self.subscribes.get_or_create(&ByOutcome { outcome }).inc_by(0);
        }
        for kind in ["quiet", "rival", "unanswered"] {
            self.takeovers.get_or_create(&ByKind { kind }).inc_by(0);
        }
        for reason in ["unauthenticated", "denied"] {
            self.peers_refused.get_or_create(&ByReason { reason }).inc_by(0);
        }
        for reason in Reason::ALL.map(Reason::as_str).into_iter().chain([OTHER]) {
            self.publish_refused.get_or_create(&ByReason { reason }).inc_by(0);
        }
        for reason in ["trimmed", "epoch_changed", "ahead", "lapped", "too_large", "damaged", "other"] {
            self.gaps.get_or_create(&ByReason { reason }).inc_by(0);
        }
        for reason in ["expired", "too_large"] {
            self.frames_skipped.get_or_create(&ByReason { reason }).inc_by(0);
        }
        for outcome in ["taken", "stale", "refused"] {
            self.reports.get_or_create(&ByOutcome { outcome }).inc_by(0);
        }
    }

    /// A subscribe was accepted, with this outcome for its cursor.
    pub(crate) fn subscribed(&self, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Resumed => "resumed",
            Outcome::Fresh => "fresh",
            Outcome::Trimmed => "trimmed",
            Outcome::EpochChanged => "epoch_changed",
            Outcome::Ahead => "ahead",
        };
        self.subscribes.get_or_create(&ByOutcome { outcome }).inc();
    }

    /// A subscribe was refused, for whatever reason.
    pub(crate) fn subscribe_refused(&self) {
        self.subscribes.get_or_create(&ByOutcome { outcome: "refused" }).inc();
    }

    /// A report was `taken`; or `stale`, of an instance without a stream; or `refused`.
    pub(crate) fn report(&self, outcome: &'static str) {
        self.reports.get_or_create(&ByOutcome { outcome }).inc();
    }

    /// A request was refused for who made it: nobody known, or somebody known but not for this.
    pub(crate) fn peer_refused(&self, failure: &Failure) {
        let reason = if failure.code == Code::Unauthenticated { "unauthenticated" } else { "denied" };
        self.peers_refused.get_or_create(&ByReason { reason }).inc();
    }

    /// A stream gave way. Operators see three kinds: `quiet` is the everyday reconnect, the others are mistakes.
    pub(crate) fn took_over(&self, how: TakeoverKind) {
        let kind = match how {
            TakeoverKind::Reconnect | TakeoverKind::ReconnectWhileAlive => "quiet",
            TakeoverKind::OtherInstance | TakeoverKind::FlapUnnamed => "rival",
            TakeoverKind::Unresponsive => "unanswered",
        };
        self.takeovers.get_or_create(&ByKind { kind }).inc();
    }

    /// A publish was refused before anything was appended.
    pub(crate) fn refused(&self, failure: &Failure) {
        let reason = failure.reason.map_or(OTHER, Reason::as_str);
        self.publish_refused.get_or_create(&ByReason { reason }).inc();
    }

    /// A gap frame was sent.
    pub(crate) fn gap(&self, reason: GapReason) {
        let reason = match reason {
            GapReason::Trimmed => "trimmed",
            GapReason::EpochChanged => "epoch_changed",
            GapReason::Ahead => "ahead",
            GapReason::Lapped => "lapped",
            GapReason::TooLarge => "too_large",
            GapReason::Damaged => "damaged",
            _ => "other",
        };
        self.gaps.get_or_create(&ByReason { reason }).inc();
    }

    /// A reader was not sent so many frames that it was entitled to: they had expired, or were too large for it.
    pub(crate) fn skipped(&self, reason: &'static str, count: u64) {
        if count > 0 {
            self.frames_skipped.get_or_create(&ByReason { reason }).inc_by(count);
        }
    }
}
