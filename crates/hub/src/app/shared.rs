//! What every part of one hub shares.
//!
//! [`Hub::new`](crate::Hub::new) makes one. Handles, services and streams hold it in an `Arc`; nothing in it holds them, and
//! tasks hold it weakly. It is a bag of parts: each part has its own lock or none, so there is none for the whole.

use std::net::IpAddr;
use std::sync::Arc;

use galaxy_push_listener::{Clock, LogLimiter};
use galaxy_push_store::Store;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::app::config::Config;
use crate::app::metrics::Metrics;
use crate::state::access::LiveAccess;
use crate::state::in_flight::InFlight;
use crate::state::log::Log;
use crate::state::record_capacity::RecordCapacity;

/// One hub. Handles, services and streams hold it; nothing in it holds them.
pub(crate) struct Shared {
    /// The settings, but for the access, which may be replaced.
    pub(crate) config: Config,
    /// Every time the hub knows.
    pub(crate) clock: Clock,
    /// What is counted where it happens.
    pub(crate) metrics: Metrics,
    /// The window and the ownership table. The store holds it, too, as its sink.
    pub(crate) log: Arc<Log>,
    /// Where events get their positions and become durable.
    pub(crate) store: Arc<dyn Store>,
    /// Publishes that arrive or wait for the store.
    pub(crate) publishes_in_flight: InFlight,
    /// Requests of gateways, reports and reflection.
    pub(crate) queries_in_flight: InFlight,
    /// Questions about health, which anybody may ask.
    pub(crate) probes_in_flight: InFlight,
    /// Which lines about refused peers are written, by address; and about the store.
    pub(crate) refusals: LogLimiter,
    /// Which lines about gaps told to readers that cannot read them are written, by reason and gateway.
    pub(crate) unread_gaps: LogLimiter,
    /// Which warnings about full standing records were written.
    pub(crate) record_capacity: RecordCapacity,
    /// Who may do what, at present.
    pub(crate) access: LiveAccess,
    /// Whether a drain has begun.
    pub(crate) draining: watch::Sender<bool>,
    /// Publishes in flight: a drain lets them finish before it sends readers away.
    pub(crate) publishes: TaskTracker,
    /// Open streams, of gateways and of publishers: a drain waits for them.
    pub(crate) streams: TaskTracker,
}

impl Shared {
    /// Whether a drain has begun. Take a token of `publishes` or `streams` before asking: see `drain.rs`.
    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Counts a refusal. `Some`: write a line about it; so many were left out before it.
    ///
    /// By nothing but where it came from: whatever else a peer says, it may say otherwise each time.
    pub(crate) fn refused(&self, address: Option<IpAddr>) -> Option<u64> {
        self.refusals.count_address(address)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("config", &self.config)
            .field("draining", &self.is_draining())
            .finish_non_exhaustive()
    }
}
