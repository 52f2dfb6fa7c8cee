//! [`Damper`] behind a lock and on this process's clock, for lines about peers.

use std::sync::{Mutex, PoisonError};

use galaxy_push_core::damp::Damper;
use tokio::time::Instant;

/// Which lines about each peer are written: the first, second, fourth and so on.
#[derive(Debug, Default)]
pub struct Damped {
    state: Mutex<Option<(Instant, Damper)>>,
}

impl Damped {
    /// Counts one line about this peer. `Some`: write it; so many were left out before it.
    pub fn count(&self, peer: &str) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, damper) = state.get_or_insert_with(|| (Instant::now(), Damper::default()));
        damper.count(peer, since.elapsed())
    }
}
