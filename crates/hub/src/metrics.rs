//! What the hub counts, under names that begin with `push_`.
//!
//! Counters are kept where things happen; what a scrape can read off the window is read then. No label has a value that
//! a peer chose.

use std::fmt;
use std::sync::Weak;

use galaxy_push_core::window::{GapReason, Outcome};
use galaxy_push_proto::Failure;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

use crate::shared::Shared;

/// One label with a value from a fixed list.
macro_rules! label {
    ($($type:ident { $name:ident }),+) => {$(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(crate) struct $type {
            pub(crate) $name: &'static str,
        }
    )+};
}

label!(ByOutcome { outcome }, ByReason { reason }, ByKind { kind });

/// The hub's counters. Cheap to clone: clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) streams: Gauge,
    pub(crate) events_appended: Counter,
    pub(crate) bytes_appended: Counter,
    pub(crate) bytes_sent: Counter,
    pub(crate) subscribes: Family<ByOutcome, Counter>,
    pub(crate) takeovers: Family<ByKind, Counter>,
    pub(crate) publish_refused: Family<ByReason, Counter>,
    pub(crate) publish_duplicates: Counter,
    pub(crate) gaps: Family<ByReason, Counter>,
    pub(crate) frames_skipped: Family<ByReason, Counter>,
}

impl Metrics {
    /// Adds everything to a registry that puts no prefix before the names.
    pub(crate) fn register(&self, registry: &mut Registry, shared: Weak<Shared>) {
        let Self { streams, events_appended, bytes_appended, bytes_sent, .. } = self.clone();
        let Self { subscribes, takeovers, publish_refused, publish_duplicates, gaps, frames_skipped, .. } =
            self.clone();
        registry.register("push_streams", "Open gateway streams", streams);
        registry.register("push_events_appended", "Events appended to the log", events_appended);
        registry.register("push_bytes_appended", "Bytes of frames appended to the log", bytes_appended);
        registry.register("push_bytes_sent", "Bytes of frames handed to gateway streams", bytes_sent);
        registry.register("push_subscribes", "Subscribe requests, by what became of the cursor", subscribes);
        registry.register(
            "push_takeovers",
            "Streams that gave way to a newer one of the same gateway id: quiet is the same instance coming back, \
             rival is two instances with one id",
            takeovers,
        );
        registry.register(
            "push_publish_refused",
            "Publish requests refused before append, by reason",
            publish_refused,
        );
        registry.register(
            "push_publish_duplicates",
            "Events published again inside the dedup window",
            publish_duplicates,
        );
        registry.register("push_gaps", "Gap frames sent, by reason", gaps);
        registry.register(
            "push_frames_skipped",
            "Frames a reader was entitled to and not sent",
            frames_skipped,
        );
        registry.register_collector(Box::new(WindowGauges(shared)));
    }

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

    pub(crate) fn subscribe_refused(&self) {
        self.subscribes.get_or_create(&ByOutcome { outcome: "refused" }).inc();
    }

    pub(crate) fn took_over(&self, quiet: bool) {
        self.takeovers.get_or_create(&ByKind { kind: if quiet { "quiet" } else { "rival" } }).inc();
    }

    pub(crate) fn refused(&self, failure: &Failure) {
        let reason = failure.reason.map_or("OTHER", galaxy_push_proto::Reason::as_str);
        self.publish_refused.get_or_create(&ByReason { reason }).inc();
    }

    pub(crate) fn gap(&self, reason: GapReason) {
        let reason = match reason {
            GapReason::Trimmed => "trimmed",
            GapReason::EpochChanged => "epoch_changed",
            GapReason::Ahead => "ahead",
            GapReason::Lapped => "lapped",
            GapReason::TooLarge => "too_large",
            _ => "other",
        };
        self.gaps.get_or_create(&ByReason { reason }).inc();
    }

    pub(crate) fn skipped(&self, reason: &'static str, count: u64) {
        if count > 0 {
            self.frames_skipped.get_or_create(&ByReason { reason }).inc_by(count);
        }
    }
}

/// What is read off the window when somebody scrapes. A hub that is gone shows nothing.
struct WindowGauges(Weak<Shared>);

impl Collector for WindowGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(shared) = self.0.upgrade() else { return Ok(()) };
        let (events, bytes, age, now) = shared.log.look(|state, now| {
            let window = &state.window;
            let age = window.appended_at(window.oldest()).map(|at| now.mono.saturating_sub(at));
            (window.len(), window.held_bytes(), age.unwrap_or_default(), now.mono)
        });
        let horizon = shared.store.dedup_horizon(now);
        let mut gauge = |name, help, unit: Option<&Unit>, value: f64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)
        };
        gauge("push_window_events", "Events held in the window.", None, events as f64)?;
        gauge("push_window", "Bytes of frames held in the window.", Some(&Unit::Bytes), bytes as f64)?;
        gauge("push_window_age", "Age of the oldest event held.", Some(&Unit::Seconds), age.as_secs_f64())?;
        gauge(
            "push_dedup_horizon",
            "How far back a repeated publish is recognised.",
            Some(&Unit::Seconds),
            horizon.as_secs_f64(),
        )
    }
}

impl fmt::Debug for WindowGauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WindowGauges")
    }
}
