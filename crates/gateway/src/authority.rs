//! Whether a position exists that this gateway has not seen yet: a question for the hub.
//!
//! A user may come with a cursor from a gateway that is a little further on. Such a cursor is not wrong, only early; the
//! hub's head tells the two apart. One question at a time.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use galaxy_push_client::Publisher;
use galaxy_push_core::cursor::Cursor;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How long the hub may take. Longer, and the user is better served by another gateway.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// The future of a hub's head; `None`: no answer.
pub(crate) type Asking<'a> = Pin<Box<dyn Future<Output = Option<Cursor>> + Send + 'a>>;

/// Where the hub's log stands.
pub(crate) trait Hub: Send {
    /// Asks the hub. May be dropped half way.
    fn head(&mut self) -> Asking<'_>;
}

/// Asks one hub on behalf of every connection.
pub(crate) struct Authority {
    hub: Mutex<Box<dyn Hub>>,
}

/// What the hub knows of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It exists: this gateway will come to it.
    Exists,
    /// It does not.
    Unknown,
    /// The hub did not answer in time.
    Unreachable,
}

impl Authority {
    pub(crate) fn new(hub: impl Hub + 'static) -> Self {
        Self { hub: Mutex::new(Box::new(hub)) }
    }

    /// Whether a position exists. Cancel safe.
    pub(crate) async fn judge(&self, cursor: Cursor) -> Verdict {
        let asking = async {
            // No answer is kept: the hub may have begun another epoch since, and then the position is gone for good.
            match self.hub.lock().await.head().await {
                Some(head) if reaches(head, cursor) => Verdict::Exists,
                Some(_) => Verdict::Unknown,
                None => Verdict::Unreachable,
            }
        };
        timeout(ANSWER_WITHIN, asking).await.unwrap_or(Verdict::Unreachable)
    }
}

fn reaches(head: Cursor, cursor: Cursor) -> bool {
    head.epoch == cursor.epoch && !cursor.follows(head)
}

impl Hub for Publisher {
    fn head(&mut self) -> Asking<'_> {
        Box::pin(async {
            match Self::head(self).await {
                Ok(head) => Cursor::parse(&head.cursor).ok(),
                Err(failure) => {
                    tracing::debug!(%failure, "the hub did not tell its head");
                    None
                }
            }
        })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}
