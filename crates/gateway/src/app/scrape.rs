//! Metrics that are looked up when somebody asks: the window's size and age, the stream from the hub.
//!
//! Registered by `app`; called for each scrape. It reads under the locks of state, for a moment each.

use std::fmt;
use std::sync::Arc;

use galaxy_push_client::State;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::Shared;

/// The states in which the stream from the hub can be, and their names as labels.
const STATES: [(State, &str); 7] = [
    (State::Connecting, "connecting"),
    (State::CatchingUp, "catching_up"),
    (State::Live, "live"),
    (State::BackingOff, "backing_off"),
    (State::Conflicted, "conflicted"),
    (State::Refused, "refused"),
    (State::Stopped, "stopped"),
];

/// Looks the numbers of one gateway up.
#[derive(Debug)]
pub(crate) struct Scrape(pub(crate) Arc<Shared>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let edge = &self.0.admission.edge;
        let now = edge.clock.now();
        let (entries, bytes, seconds) = edge.read(now, |window| {
            let oldest = window.appended_at(window.oldest());
            let age = oldest.map_or(0.0, |at| now.mono.saturating_sub(at).as_secs_f64());
            (window.len() as f64, window.held_bytes() as f64, age)
        });
        let (invalidations, memberships, paused) = edge.routes.standing();
        let too_large = self.0.too_large.len(now.mono) as f64;
        for (name, help, value) in [
            (
                "push_too_large_readers",
                "Users remembered for closing with 1009, and what is left out for them",
                too_large,
            ),
            ("push_edge_invalidations", "Session invalidations that hold", invalidations as f64),
            ("push_edge_memberships", "Topic memberships that hold", memberships as f64),
            (
                "push_edge_held_back",
                "1 while users wait, because the place in the hub's log was lost and is not caught up with",
                f64::from(u8::from(paused)),
            ),
            ("push_edge_window_events", "Entries that the edge window holds", entries),
            ("push_edge_window_bytes", "Bytes of frames that the edge window holds", bytes),
            ("push_edge_window_seconds", "Age of the oldest entry that the edge window holds", seconds),
            ("push_edge_ready", "1 once the gateway has caught up", f64::from(u8::from(edge.is_caught_up()))),
            (
                "push_mailbox_slots",
                "Entries that wait in the fullest mailbox of a connection",
                edge.routes.fullest() as f64,
            ),
            ("push_edge_readers", "Users' connections that read the edge window", edge.routes.len() as f64),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let state = self.0.client().map_or(State::Stopped, |client| client.status().borrow().state);
        let help = "1 for the state in which the stream from the hub is";
        let mut states = encoder.encode_descriptor("push_upstream_state", help, None, MetricType::Gauge)?;
        for (known, label) in STATES {
            let gauge = ConstGauge::new(i64::from(known == state));
            gauge.encode(states.encode_family(&[("state", label)])?)?;
        }
        Ok(())
    }
}
