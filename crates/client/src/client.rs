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
/// A cheap clone; dropping the last one stops the client as [`shutdown`](Self::shutdown) does, without waiting for it, and the log says so.
///
/// Everything but [`head`](Self::head) and [`shutdown`](Self::shutdown) answers at once, from the status that the driver published last.
///
/// ```no_run
/// use galaxy_push_client::{Item, PushClient, State};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let client = PushClient::builder("gateway-1").hub("http://127.0.0.1:7400").start(async |_: Item| Ok(()))?;
///
/// let mut status = client.status();
/// status.wait_for(|status| status.state == State::Live).await?; // ready for traffic
/// println!("live at {}, for {:?}", client.cursor(), client.state_age());
///
/// let counters = client.counters();
/// println!("{} records, {} gaps", counters.records, counters.gaps);
/// if let Some(stale) = client.stale_for() {
///     println!("{} has been cut off from its store for {stale:?}", client.hubs()[0]);
/// }
/// println!("the log ends at {}", client.head().await?.cursor);
///
/// let last = client.shutdown().await;
/// println!("stopped; resume from {}", last.cursor);
/// # Ok(())
/// # }
/// ```
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
    ///
    /// The id has 1 to 255 bytes without control characters, spaces or commas. Two processes with one id take the stream from each other.
    pub fn builder(gateway_id: impl Into<String>) -> Builder {
        Builder::new(gateway_id.into())
    }

    /// Where the client stands, now and whenever it changes.
    ///
    /// The receiver holds no handle: it does not keep the client running. After the stop it shows [`State::Stopped`] for good.
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
    ///
    /// Each only rises, from 0 at the start of the client.
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
