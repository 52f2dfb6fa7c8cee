//! The gateway's clock: the one place where the runtime's time becomes the [`Now`] that the pure parts are given.

use std::time::Duration;

use galaxy_push_core::{Now, ambient::Ambient};
use tokio::time::Instant;

/// Monotonic time since the gateway began, and the wall clock beside it.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    origin: Instant,
    ambient: Ambient,
}

impl Clock {
    pub(crate) fn start(ambient: Ambient) -> Self {
        Self { origin: Instant::now(), ambient }
    }

    pub(crate) fn now(&self) -> Now {
        Now { mono: self.origin.elapsed(), unix_ms: self.ambient.unix_ms() }
    }

    /// The moment on the runtime's clock, for sleeping until it.
    pub(crate) fn instant(&self, mono: Duration) -> Instant {
        self.origin + mono
    }

    pub(crate) fn ambient(&self) -> &Ambient {
        &self.ambient
    }
}
