//! How soon events are delivered to users who are connected when they come: a histogram.
//!
//! Called by `connection` under the window's lock; registered by `metrics`. What a user replays is not counted: how old that is
//! says when the user came back, not how long the gateway took.

use std::ops::Range;
use std::time::Duration;

use galaxy_push_core::Now;
use galaxy_push_core::frame::{FrameView, Kind, message};
use galaxy_push_core::window::{Slot, Window};
use prometheus_client::metrics::histogram::Histogram;

/// The upper bounds of what is counted together, in seconds.
const BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// The time from an event's append at the hub, by the hub's clock as far as that is known, to its delivery to a
/// connection's transport.
#[derive(Clone, Debug)]
pub(crate) struct DeliveryLatency(Histogram);

impl Default for DeliveryLatency {
    fn default() -> Self {
        Self(Histogram::new(BUCKETS))
    }
}

impl DeliveryLatency {
    pub(crate) fn histogram(&self) -> Histogram {
        self.0.clone()
    }

    /// For one visit of a connection that began at `opened`.
    pub(crate) const fn timer(&self, opened: Duration, now: Now) -> DeliveryTimer<'_> {
        DeliveryTimer { histogram: &self.0, opened, now: now.mono }
    }
}

/// One visit of a connection to the window.
#[derive(Debug)]
pub(crate) struct DeliveryTimer<'a> {
    histogram: &'a Histogram,
    opened: Duration,
    now: Duration,
}

impl DeliveryTimer<'_> {
    /// These entries are handed to the connection.
    pub(crate) fn record(&self, window: &Window, slots: Range<Slot>) {
        for entry in window.entries(slots).filter(|entry| entry.at >= self.opened) {
            let Ok(frame) = FrameView::read(message(entry.frame)) else { continue };
            if frame.kind() == Kind::Event {
                let age = window.age(&entry, frame.appended_unix_ms(), self.now);
                self.histogram.observe(age.as_secs_f64());
            }
        }
    }
}
