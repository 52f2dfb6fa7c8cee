//! How a hub shuts down without losing what it acknowledged.
//!
//! Refuse what is new, let publishes under way finish, then let each stream go at its turn. Readers are sent away one by
//! one, so that those who take them over are not hit by all of them at once.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::shared::Shared;

pub(crate) async fn drain(shared: &Shared, limit: Duration) {
    let deadline = Instant::now() + limit;
    shared.draining.send_replace(true);
    shared.log.look(|state, _| state.gateways.close());
    shared.publishes.close();
    shared.streams.close();
    // A store that hangs must not keep the readers waiting: they may at least leave in order.
    let finished = timeout_at(Instant::now() + limit / 4, shared.publishes.wait()).await.is_ok();
    let rate = shared.config.return_rate;
    let left = deadline.saturating_duration_since(Instant::now());
    if let Some(streams) = shared.log.look(|state, now| state.gateways.dismiss(now.mono, rate, left)) {
        tracing::info!(streams, publishes_finished = finished, ?limit, "draining: streams are sent away");
    }
    let ended = timeout_at(deadline, shared.streams.wait()).await.is_ok();
    match ended {
        true => tracing::info!("drained: every stream has ended"),
        false => tracing::warn!(
            streams = shared.streams.len(),
            "the drain ran out of time: what is left ends with its connection"
        ),
    }
}

/// Returns when a drain begins, or has begun.
///
/// Cancel safe.
pub(crate) async fn begins(draining: &mut watch::Receiver<bool>) {
    let _ = draining.wait_for(|draining| *draining).await; // an error: the hub is gone, which ends it too
}
