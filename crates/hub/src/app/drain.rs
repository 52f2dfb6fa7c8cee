//! How a hub shuts down without losing what it acknowledged.
//!
//! Refuse what is new, let publishes under way finish, then let each stream go at its turn, or as soon after it as it has
//! taken everything. Readers are sent away one by one, so that those who take them over are not hit by all of them at once.
//! Whoever has not taken everything when the time is over is cut off, and named.

use std::time::Duration;

use galaxy_push_core::window::Window;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::app::shared::Shared;
use crate::state::stream_gauge::StreamGauge;

pub(crate) async fn drain(shared: &Shared, limit: Duration) {
    let deadline = Instant::now() + limit;
    // A store that hangs must not keep the readers waiting: they may at least leave in order.
    let finished = finish_publishes(shared, limit / 4).await;
    let rate = shared.config.return_rate;
    let left = deadline.saturating_duration_since(Instant::now());
    if let Some(streams) =
        shared.log.with_state(|state, now| state.gateways.schedule_drain(now.mono, rate, left))
    {
        tracing::info!(streams, publishes_finished = finished, ?limit, "draining: streams are sent away");
    }
    let ended = timeout_at(deadline, shared.streams.wait()).await.is_ok();
    match ended {
        true => tracing::info!("drained: every stream has ended"),
        false => {
            shared.log.with_state(|state, _| {
                for incumbent in state.gateways.incumbents() {
                    let claim = &incumbent.claim;
                    cut_off(&state.window, &incumbent.gauge, &claim.gateway, &claim.peer);
                }
            });
            let streams = shared.streams.len();
            tracing::warn!(streams, "the drain ran out of time: what is left ends with its connection");
        }
    }
}

/// Takes nothing new, and waits until the publishes under way are finished; whether they are, within the limit.
pub(crate) async fn finish_publishes(shared: &Shared, limit: Duration) -> bool {
    shared.draining.send_replace(true);
    shared.log.with_state(|state, _| state.gateways.stop_admitting());
    shared.publishes.close();
    shared.streams.close();
    timeout_at(Instant::now() + limit, shared.publishes.wait()).await.is_ok()
}

/// Says once of a stream that it ends before it has taken everything.
pub(crate) fn cut_off(window: &Window, gauge: &StreamGauge, gateway: &str, peer: &str) {
    let Some(taken) = gauge.mark_cut_off() else { return };
    let (position, left) = (window.before(taken), window.end().since(taken));
    tracing::warn!(gateway, peer, %position, left,
        "cut off by the shutdown: this gateway has not taken everything, and at most so many events are left for it; \
         if this hub does not come back with them it will be told of a gap (a longer --drain-timeout gives it more time)");
}

/// Returns when a drain begins, or has begun.
///
/// Cancel safe.
pub(crate) async fn begins(draining: &mut watch::Receiver<bool>) {
    let _ = draining.wait_for(|draining| *draining).await; // an error: the hub is gone, which ends it too
}
