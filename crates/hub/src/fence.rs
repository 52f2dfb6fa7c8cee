//! Who holds which gateway id, and who gives way when two want the same one.
//!
//! Pure; lives under the log's lock (`log.rs`), so that a takeover has a place in the order of appends. `subscription.rs`
//! is the only caller besides the drain. It does not count how often two instances take an id from each other: whoever
//! comes last wins.

use std::collections::BTreeMap;
use std::time::Duration;

use galaxy_push_proto::{Failure, Reason};
use tokio::sync::watch;

#[cfg(test)]
mod tests;

/// The gateways that have a stream, and the last generation given out.
#[derive(Debug, Default)]
pub(crate) struct Gateways {
    /// Ordered, so that a drain sends them away in an order that a simulation repeats.
    current: BTreeMap<String, Incumbent>,
    generation: u64,
    draining: bool,
    dismissed: bool,
}

/// Who asks for a gateway id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) gateway: String,
    /// Empty: an old client, which is never the same instance as anybody.
    pub(crate) instance: String,
    pub(crate) attempt: u64,
    pub(crate) peer: String,
}

#[derive(Debug)]
struct Incumbent {
    generation: u64,
    claim: Claim,
    ending: watch::Sender<Option<Ending>>,
}

/// Why a stream must end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// A newer subscription has the gateway id. Nothing more is handed out.
    Replaced { rival: Claim },
    /// The hub shuts down. Times are on the log's monotonic clock.
    Draining {
        /// This stream's turn to go: it ends as soon as it has been handed everything.
        close_at: Duration,
        /// It ends now, wherever it is.
        close_by: Duration,
        /// When to come back, counted from the goodbye.
        retry_after: Duration,
    },
}

/// An accepted subscription.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) generation: u64,
    /// Holds the reason once the stream must end.
    pub(crate) ending: watch::Receiver<Option<Ending>>,
    pub(crate) takeover: Option<Takeover>,
}

/// An older stream gave way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Takeover {
    pub(crate) older: Claim,
    /// The same instance came back; otherwise two gateways use one id.
    pub(crate) quiet: bool,
}

impl Gateways {
    /// Gives the gateway id to this claim, and ends the stream that had it.
    ///
    /// # Errors
    ///
    /// `STALE_ATTEMPT` when a newer attempt of the same instance has it already; `DRAINING`.
    pub(crate) fn admit(&mut self, claim: Claim) -> Result<Admitted, Failure> {
        if self.draining {
            return Err(draining());
        }
        let takeover = match self.current.get(&claim.gateway) {
            Some(older) => Some(Takeover::decide(&older.claim, &claim)?),
            None => None,
        };
        self.generation += 1;
        let (ending, ends) = watch::channel(None);
        let newer = Incumbent { generation: self.generation, claim: claim.clone(), ending };
        if let Some(older) = self.current.insert(claim.gateway.clone(), newer) {
            older.ending.send_replace(Some(Ending::Replaced { rival: claim }));
        }
        Ok(Admitted { generation: self.generation, ending: ends, takeover })
    }

    /// The stream of this generation is gone. A newer one that has the id meanwhile is not touched.
    pub(crate) fn leave(&mut self, gateway: &str, generation: u64) {
        if self.current.get(gateway).is_some_and(|incumbent| incumbent.generation == generation) {
            self.current.remove(gateway);
        }
    }

    /// From now on nobody is admitted.
    pub(crate) fn close(&mut self) {
        self.draining = true;
    }

    /// Sends every stream away, `rate` per second from `now` on, all within `limit`. Returns how many there are, or
    /// `None` if it was done before.
    ///
    /// Each has a return slot of its own on the same scale, so the herd does not come back as one. Streams go in the
    /// first half of the limit; the second is for the slow ones.
    pub(crate) fn dismiss(&mut self, now: Duration, rate: u32, limit: Duration) -> Option<usize> {
        if std::mem::replace(&mut self.dismissed, true) {
            return None;
        }
        for (i, incumbent) in (0u32..).zip(self.current.values()) {
            let slot = Duration::from_secs(1) * i / rate.max(1);
            let close_at = now + slot.min(limit / 2);
            let close_by = close_at + limit / 4;
            incumbent.ending.send_replace(Some(Ending::Draining { close_at, close_by, retry_after: slot }));
        }
        Some(self.current.len())
    }
}

impl Takeover {
    fn decide(older: &Claim, newer: &Claim) -> Result<Self, Failure> {
        let quiet = !newer.instance.is_empty() && newer.instance == older.instance;
        if quiet && newer.attempt < older.attempt {
            let message = format!(
                "attempt {} of this instance arrived after attempt {}, which has the stream: a late duplicate",
                newer.attempt, older.attempt
            );
            return Err(Failure::new(Reason::StaleAttempt, message));
        }
        Ok(Self { older: older.clone(), quiet })
    }
}

/// The answer to whoever comes during a drain.
pub(crate) fn draining() -> Failure {
    Failure::new(Reason::Draining, "this hub is shutting down: come back, another will answer")
        .retry_after(Duration::from_secs(1))
}
