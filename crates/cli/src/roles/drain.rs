//! Serving, and its orderly end: the first SIGTERM or Ctrl-C drains, the second ends at once.
//!
//! A drain goes from the inside out: the roles send their streams away with a `Goodbye`, then the listeners close. Probes
//! and metrics are served until the very end, so that an orchestrator sees what happens.

use std::time::Duration;

use axum::Router;
use galaxy_push_listener::{Drain, Limits, probes, serve};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use super::Process;
use super::bind::Bound;

/// What is left of the drain timeout for connections, once the streams have been sent away.
const CLOSING: Duration = Duration::from_secs(1);

pub(super) async fn serve_until_signal(
    process: Process,
    admin: Bound,
    admin_app: Router,
    admin_limits: Limits,
    timeout: Duration,
) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let (drain, admin_drain) = (Drain::default(), Drain::default());
    let mut listeners = JoinSet::new();
    let (mut hub, mut gateway) = (None, None);
    if let Some((role, bound)) = process.hub {
        let app = role.router().merge(probes(role.health()));
        listeners.spawn(serve(bound.listener, app, Limits::hub(), drain.clone()));
        hub = Some(role);
    }
    if let Some((role, bound)) = process.gateway {
        let app = role.router().merge(probes(role.health()));
        listeners.spawn(serve(bound.listener, app, Limits::edge(), drain.clone()));
        gateway = Some(role);
    }
    let admin = tokio::spawn(serve(admin.listener, admin_app, admin_limits, admin_drain.clone()));

    signals.next().await;
    tracing::info!(?timeout, "draining: streams are sent away; a second signal ends at once");
    let orderly = async {
        // Users first: they are the ones who would otherwise lose a gateway that still has a hub.
        if let Some(gateway) = &gateway {
            gateway.drain().await;
        }
        if let Some(hub) = &hub {
            hub.drain(timeout.saturating_sub(CLOSING)).await;
        }
        drain.draining.cancel();
        while listeners.join_next().await.is_some() {}
    };
    tokio::select! {
        biased;
        () = signals.next() => tracing::warn!("ended at once by a second signal"),
        done = tokio::time::timeout(timeout, orderly) => match done {
            Ok(()) => tracing::info!("drained"),
            Err(_) => tracing::warn!(?timeout, "the drain took too long; what was left is dropped"),
        },
    }
    drain.deadline.cancel();
    admin_drain.draining.cancel();
    admin_drain.deadline.cancel();
    let _ = admin.await;
    Ok(())
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
