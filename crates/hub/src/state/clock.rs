//! The hub's time: a monotonic clock, the wall clock it was given, and the clock of its log.
//!
//! | clock | from | used for | may it step? |
//! |---|---|---|---|
//! | monotonic | tokio's time since the hub began | ages in the window, deadlines, rates | no |
//! | wall | the ambient of the embedding program | the end of standing records, which others have set | yes |
//! | log | the wall clock when the hub began, then monotonic time | the stamp of each event | no: it never goes back |
//!
//! The log's clock goes on from the last stamp of an earlier life:
//!
//! ```text
//! earlier life: last stamp 12:00:05    this start: the wall clock says 12:00:00
//! events are stamped from 12:00:05 on, until the wall clock is past that at a later start
//! ```
//!
//! It is read here and nowhere else in the hub, so tests and simulations own all of time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use galaxy_push_core::Now;
use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::log_clock::Offset;
use tokio::time::Instant;

/// Reads both clocks. The only place where the hub does.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    origin: Instant,
    /// What monotonic time said at the origin: as much as the window holds from before, so that each of its entries has a
    /// time.
    before: Duration,
    /// How the clock of the log stands beside monotonic time, in milliseconds. Set anew only while the log is opened, and read
    /// for every batch: no lock, for nothing else is ordered by it.
    log: Arc<AtomicI64>,
    pub(crate) ambient: Ambient,
}

impl Clock {
    /// Starts both, for a window that may hold entries from so long before.
    pub(crate) fn start(ambient: Ambient, before: Duration) -> Self {
        let log = Arc::new(AtomicI64::new(Offset::of(ambient.unix_ms(), before).to_ms()));
        Self { origin: Instant::now(), before, log, ambient }
    }

    /// Monotonic and wall time, read together.
    pub(crate) fn now(&self) -> Now {
        Now { mono: self.mono(), unix_ms: self.ambient.unix_ms() }
    }

    /// Monotonic time. It begins above zero, so that entries from before the start have a time, too.
    fn mono(&self) -> Duration {
        self.before.saturating_add(self.origin.elapsed())
    }

    /// How the clock of the log stands beside monotonic time.
    pub(crate) fn log(&self) -> Offset {
        Offset::from_ms(self.log.load(Ordering::Relaxed))
    }

    /// An earlier life of the log was stamped up to here: its clock never steps back.
    pub(crate) fn goes_on_from(&self, unix_ms: u64) {
        self.log.fetch_max(Offset::of(unix_ms, self.mono()).to_ms(), Ordering::Relaxed);
    }

    /// What the clock of the log says, in milliseconds since the Unix epoch.
    pub(crate) fn log_unix_ms(&self) -> u64 {
        self.log().unix_ms(self.mono())
    }

    /// The instant at which this clock's monotonic time is `mono`.
    pub(crate) fn instant(&self, mono: Duration) -> Instant {
        self.origin + mono.saturating_sub(self.before)
    }
}
