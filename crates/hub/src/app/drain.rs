//! How a hub shuts down without losing what it acknowledged.
//!
//! ```text
//! finish    refuse new claims, publishes and streams; wait for publishes in flight, a quarter of the limit at most
//! send away each stream at its turn (`Gateways::schedule_drain`), or as soon after it as it has taken everything
//! wait      until the last stream has ended, or the limit is over
//! cut off   name each gateway that has not taken everything, with how much is left
//! ```
//!
//! Readers are sent away one by one, so that the hubs that take them over are not hit by all of them at once. The order
//! matters: publishes finish first, so what is acknowledged lies in the log before a stream may be told that it has taken
//! everything.
//!
//! A request that comes while the drain begins is refused or waited for, never forgotten: each takes its token first, and
//! looks whether a drain has begun afterwards.
//!
//! ```text
//! request: take token · look: no drain · go on        drain: set draining · wait for tokens   → it is waited for
//! drain: set draining                                 request: take token · look: refuse      → it is refused
//! ```
//!
//! [`Hub::drain`](crate::Hub::drain) calls it. It closes no connection: the listener does, afterwards.

use std::time::Duration;

use galaxy_push_core::window::Window;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::app::shared::Shared;
use crate::state::stream_gauge::StreamGauge;

/// Shuts down what the hub serves, within `limit`. Cancel safe: what was begun goes on, and a second call waits for the
/// rest.
pub(crate) async fn drain(shared: &Shared, limit: Duration) {
    let deadline = Instant::now() + limit;
    // A quarter of the limit at most: a store that hangs must not use up the time in which readers leave in order.
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

/// Takes nothing new, and waits until the publishes in flight are finished. False: they are not, within the limit.
pub(crate) async fn finish_publishes(shared: &Shared, limit: Duration) -> bool {
    shared.draining.send_replace(true);
    shared.log.with_state(|state, _| state.gateways.stop_admitting());
    shared.publishes.close();
    shared.streams.close();
    timeout_at(Instant::now() + limit, shared.publishes.wait()).await.is_ok()
}

/// Logs, once for each stream, that it ends before it has taken everything, and how much is left for its gateway.
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
