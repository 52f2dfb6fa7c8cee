//! Serving, and its orderly end: the first SIGTERM or Ctrl-C drains, the second ends at once.
//!
//! A drain goes from the inside out: the roles send their streams away with a `Goodbye`, then the listeners close. Probes
//! and metrics are served until the very end, so that an orchestrator sees what happens.

use std::time::Duration;

use galaxy_push_gateway::Gateway;
use galaxy_push_hub::Hub;
use galaxy_push_listener::{Limits, serve};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

use super::Process;
use super::anew::Anew;
use super::listening::{Apps, Listening};

/// Once the streams have been sent away, or their time is over, connections have this long to close.
const CLOSING: Duration = Duration::from_secs(1);

/// How long a gateway may take to catch up with the hub in its own process. It takes a few milliseconds.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// Roles that listen.
pub(super) struct Serving {
    hub: Option<Hub>,
    gateway: Option<Gateway>,
    listening: Listening,
}

impl Serving {
    /// Lets the listeners serve these roles.
    pub(super) fn start(process: Process, mut listening: Listening, apps: Apps) -> Self {
        listening.serve(apps);
        if let Some((pipes, app)) = process.inside {
            let drain = listening.drain.clone();
            listening.tasks.spawn(serve(pipes, app, Limits::hub(), drain));
        }
        Self { hub: process.hub, gateway: process.gateway, listening }
    }

    /// Waits until users are let in, if that depends on this process alone: the commands it prints then work at once.
    pub(super) async fn ready(&self) {
        let (Some(_), Some(gateway)) = (&self.hub, &self.gateway) else { return };
        let health = gateway.health();
        let ready = async {
            while health.checks().iter().any(|check| check.needed && !check.ok) {
                sleep(Duration::from_millis(2)).await;
            }
        };
        let _ = timeout(READY_WITHIN, ready).await; // If it is late, it says so itself in the log.
    }

    /// Serves until a signal, then drains. SIGHUP reads files anew meanwhile.
    pub(super) async fn until_signal(mut self, mut signals: Signals, anew: &Anew, limit: Duration) {
        while signals.first().await == Asked::ToReadAnew {
            tokio::select! {
                biased;
                () = signals.end() => break,
                () = anew.take() => {}
            }
        }
        tracing::info!(timeout = ?limit, "draining: streams are sent away; a second signal ends at once");
        tokio::select! {
            biased;
            () = signals.end() => tracing::warn!("ended at once by a second signal"),
            done = timeout(limit.saturating_add(CLOSING), self.leave(limit)) => match done {
                Ok(()) => tracing::info!("drained"),
                Err(_) => tracing::warn!(timeout = ?limit, "the drain took too long; what was left is dropped"),
            },
        }
        self.listening.drain.deadline.cancel();
        self.listening.admin_drain.draining.cancel();
        self.listening.admin_drain.deadline.cancel();
        let _ = self.listening.admin_task.await;
    }

    async fn leave(&mut self, limit: Duration) {
        let began = Instant::now();
        let left = || limit.saturating_sub(began.elapsed());
        match (&self.hub, &self.gateway) {
            // Whoever reads here can take what is acknowledged from nobody else: users, too, have all the time there is.
            (Some(hub), Some(gateway)) => {
                let head = hub.finish_publishes(limit / 4).await;
                gateway.finish_upstream(head.cursor, left()).await;
                tokio::join!(gateway.deliver_and_drain(left()), hub.drain(left()));
            }
            (Some(hub), None) => hub.drain(limit).await,
            (None, Some(gateway)) => {
                let _all_told = timeout(limit, gateway.drain()).await;
            }
            (None, None) => {}
        }
        self.listening.drain.draining.cancel();
        let closed = async { while self.listening.tasks.join_next().await.is_some() {} };
        match self.hub {
            Some(_) => closed.await, // some may still be taking the last of what they were handed
            // Users resume elsewhere: nobody waits for what is on its way to them.
            None => {
                let _in_time = timeout(CLOSING, closed).await;
            }
        }
    }
}

/// Listened to before anything is announced: whoever was told that this process runs may end it.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What a signal asks for.
#[derive(PartialEq, Eq)]
enum Asked {
    ToEnd,
    ToReadAnew,
}

impl Signals {
    pub(super) fn listen() -> std::io::Result<Self> {
        let [terminate, interrupt, hangup] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        Ok(Self { terminate: terminate?, interrupt: interrupt?, hangup: hangup? })
    }

    async fn first(&mut self) -> Asked {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Asked::ToEnd,
            _ = self.interrupt.recv() => Asked::ToEnd,
            _ = self.hangup.recv() => Asked::ToReadAnew,
        }
    }

    /// SIGTERM or Ctrl-C has come.
    pub(super) async fn end(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
