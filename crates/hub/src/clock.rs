//! The hub's time: tokio's clock since the hub began, and the wall clock it was given.

use std::time::Duration;

use galaxy_push_core::Now;
use galaxy_push_core::ambient::Ambient;
use tokio::time::Instant;

/// Reads both clocks. The only place where the hub does.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    origin: Instant,
    pub(crate) ambient: Ambient,
}

impl Clock {
    pub(crate) fn start(ambient: Ambient) -> Self {
        Self { origin: Instant::now(), ambient }
    }

    pub(crate) fn now(&self) -> Now {
        Now { mono: self.origin.elapsed(), unix_ms: self.ambient.unix_ms() }
    }

    /// The instant at which this clock's monotonic time is `mono`.
    pub(crate) fn instant(&self, mono: Duration) -> Instant {
        self.origin + mono
    }
}
