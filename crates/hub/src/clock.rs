//! The hub's time: tokio's clock since the hub began, the wall clock it was given, and the clock of its log.
//!
//! The log is stamped by the wall clock as it was when the hub began and tokio's clock since: that never steps, and events
//! of a short life are measured against it. Only what other clocks have set, such as the end of a record, goes by the wall.

use std::time::Duration;

use galaxy_push_core::Now;
use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::log_clock::Offset;
use tokio::time::Instant;

/// Reads both clocks. The only place where the hub does.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    origin: Instant,
    log: Offset,
    pub(crate) ambient: Ambient,
}

impl Clock {
    pub(crate) fn start(ambient: Ambient) -> Self {
        let log = Offset::of(ambient.unix_ms(), Duration::ZERO);
        Self { origin: Instant::now(), log, ambient }
    }

    pub(crate) fn now(&self) -> Now {
        Now { mono: self.origin.elapsed(), unix_ms: self.ambient.unix_ms() }
    }

    /// How the clock of the log stands beside monotonic time.
    pub(crate) const fn log(&self) -> Offset {
        self.log
    }

    /// What the clock of the log says, in milliseconds since the Unix epoch.
    pub(crate) fn log_unix_ms(&self) -> u64 {
        self.log.unix_ms(self.origin.elapsed())
    }

    /// The instant at which this clock's monotonic time is `mono`.
    pub(crate) fn instant(&self, mono: Duration) -> Instant {
        self.origin + mono
    }
}
