//! The handle to a running client. The work is done by its driver's task.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::doors::Doors;
use crate::{Builder, Counters, Failure, Head, State, Status};

/// A stream to a hub that is kept alive and resumed. See the [crate's head](crate).
///
/// A cheap clone; dropping the last one stops the client as [`shutdown`](Self::shutdown) does, without waiting for it, and
/// the log says so.
#[derive(Clone, Debug)]
#[must_use = "a client is stopped when its last handle is dropped"]
pub struct PushClient {
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) started: Instant,
    pub(crate) stop: Arc<Stop>,
    pub(crate) hubs: Arc<[String]>,
    pub(crate) doors: Arc<Doors>,
}

/// Stops the client when the last handle is dropped. The driver holds the token itself, not this.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) token: CancellationToken,
    pub(crate) gateway: Arc<str>,
}

impl Stop {
    /// Stops the client at once, whoever else holds a handle.
    pub(crate) fn cancel(&self) {
        self.token.cancel();
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        if !self.token.is_cancelled() {
            // A client that was started and not kept does nothing, which is hard to see from outside.
            tracing::warn!(
                gateway = &*self.gateway,
                "the last handle of the client was dropped, which stops it"
            );
            self.token.cancel();
        }
    }
}

impl PushClient {
    /// Begins a client under this gateway id: a stable name, of which the hub lets one stream live at a time.
    pub fn builder(gateway_id: impl Into<String>) -> Builder {
        Builder::new(gateway_id.into())
    }

    /// Where the client stands, now and whenever it changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// The cursor the client would resume from: everything up to it was handled. Follows the handler by at most one
    /// read and is never ahead of it. A handler that stores cursors takes [`Item::cursor`](crate::Item::cursor).
    #[must_use]
    pub fn cursor(&self) -> String {
        self.status.borrow().cursor.clone()
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.status.borrow().counters
    }

    /// The hubs as they were given, in the order of [`Status::hub`] and [`Status::doors`].
    #[must_use]
    pub fn hubs(&self) -> &[String] {
        &self.hubs
    }

    /// Asks where the log stands that this client follows: its present hub, or another one that holds the same log, asked
    /// beside it after 300 ms. One that holds another log is believed only if it is the hub of the client's own stream, which
    /// has then left its log.
    ///
    /// Sets no deadline and does not try again. One question at a time: others wait.
    ///
    /// # Errors
    ///
    /// [`Failure`] when no such hub answers.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn head(&self) -> Result<Head, Failure> {
        self.doors.head().await
    }

    /// How long the client has been in its present [`State`].
    #[must_use]
    pub fn state_age(&self) -> Duration {
        self.started.elapsed().saturating_sub(self.status.borrow().since)
    }

    /// For how long the hub of the stream has said that it cannot reach its store: the log may go on without it. `None`: it can,
    /// as far as it says.
    #[must_use]
    pub fn stale_for(&self) -> Option<Duration> {
        let since = self.status.borrow().stale_since?;
        Some(self.started.elapsed().saturating_sub(since))
    }

    /// Stops the client and waits until it has stopped; returns its last status, with the cursor to resume from.
    ///
    /// The stop begins with this call, from whatever state and also when other handles exist; a handler that is at
    /// work is dropped at its next `.await`. With a cursor store, the cursor is saved once more if it has moved since;
    /// only a store that hangs holds up the stop, for at most 5 s.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the client stopping.
    #[must_use = "the client stops by itself, but has not stopped before this is awaited"]
    pub fn shutdown(self) -> impl Future<Output = Status> + Send + 'static {
        let Self { mut status, stop, .. } = self;
        stop.cancel();
        async move {
            // An error means that the task is gone already, for example with its runtime.
            let _ = status.wait_for(|status| status.state == State::Stopped).await;
            status.borrow().clone()
        }
    }
}
