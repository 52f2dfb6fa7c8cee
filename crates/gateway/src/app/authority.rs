//! Whether a position exists that this gateway has not seen yet: a question for the hub, which is the authority.
//!
//! A user may come with a cursor from a gateway that is a little further on. Such a cursor is not wrong, only early; the
//! hub's head tells the two apart. It is the head of the log that the gateway itself follows: where hubs hold different
//! logs, another one knows nothing of what this gateway will come to.
//!
//! ```text
//! user 1   arrives, is number 0; asks the hub, on behalf of all that have arrived: 1
//! user 2   arrives, is number 1; waits. The answer was asked for before it came, so it asks again, for 2 and 3
//! user 3   arrives, is number 2; waits, and shares the answer that user 2 asked for
//! ```

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use galaxy_push_client::PushClient;
use galaxy_push_core::cursor::Cursor;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How long the hub may take. Longer, and the user is better served by another gateway.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// The future of a hub's head; `None`: no answer.
pub(crate) type HeadAnswer<'a> = Pin<Box<dyn Future<Output = Option<Cursor>> + Send + 'a>>;

/// Where the hub's log stands.
pub(crate) trait HubHead: Send {
    /// Asks the hub. May be dropped half way.
    fn head(&mut self) -> HeadAnswer<'_>;
}

/// Asks one hub on behalf of every connection, one question at a time. Whoever came before a question was asked shares
/// its answer; nobody is given an older one, because the hub may have begun another epoch since.
pub(crate) struct Authority {
    /// How many questions have arrived.
    arrivals: AtomicU64,
    query: Mutex<Query>,
}

/// What is behind the lock: whoever asks holds it until the answer is there.
struct Query {
    hub: Box<dyn HubHead>,
    /// The latest answer, and how many had arrived when it was asked for.
    answer: Option<(u64, Option<Cursor>)>,
}

/// What the hub knows of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PositionStatus {
    /// It exists: this gateway will come to it.
    Exists,
    /// It does not.
    Unknown,
    /// The hub is in another life of the log than the position.
    OtherEpoch,
    /// The hub did not answer in time.
    Unreachable,
}

impl Authority {
    /// Asks this hub.
    pub(crate) fn new(hub: impl HubHead + 'static) -> Self {
        Self { arrivals: AtomicU64::new(0), query: Mutex::new(Query { hub: Box::new(hub), answer: None }) }
    }

    /// Whether a position exists. Cancel safe.
    pub(crate) async fn judge(&self, cursor: Cursor) -> PositionStatus {
        let number = self.arrivals.fetch_add(1, Ordering::Relaxed);
        let asking = async {
            let mut query = self.query.lock().await;
            let head = match query.answer {
                Some((arrived, head)) if number < arrived => head,
                _ => {
                    let arrived = self.arrivals.load(Ordering::Relaxed);
                    let head = query.hub.head().await;
                    query.answer = Some((arrived, head));
                    head
                }
            };
            match head {
                Some(head) if head.epoch != cursor.epoch => PositionStatus::OtherEpoch,
                Some(head) if cursor.follows(head) => PositionStatus::Unknown,
                Some(_) => PositionStatus::Exists,
                None => PositionStatus::Unreachable,
            }
        };
        timeout(ANSWER_WITHIN, asking).await.unwrap_or(PositionStatus::Unreachable)
    }
}

/// The log that the gateway's own stream follows, once there is one.
#[derive(Clone, Default)]
pub(crate) struct FollowedLog(pub(crate) Arc<OnceLock<PushClient>>);

impl HubHead for FollowedLog {
    fn head(&mut self) -> HeadAnswer<'_> {
        Box::pin(async {
            match self.0.get()?.head().await {
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

#[cfg(test)]
mod tests {
    use galaxy_push_core::cursor::{Epoch, Seq};

    use super::*;

    /// Answers after 100 ms, with another epoch from the third question on, and counts.
    struct Slow(Arc<AtomicU64>);

    impl HubHead for Slow {
        fn head(&mut self) -> HeadAnswer<'_> {
            Box::pin(async {
                let question = self.0.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(100)).await;
                Some(Cursor { epoch: Epoch(if question < 2 { 1 } else { 2 }), seq: Seq(9) })
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_herd_shares_an_answer_and_nobody_is_given_an_older_one() {
        let questions = Arc::new(AtomicU64::new(0));
        let authority = Arc::new(Authority::new(Slow(questions.clone())));
        let cursor = Cursor { epoch: Epoch(1), seq: Seq(5) };
        let herd: Vec<_> = (0..1_000)
            .map(|_| {
                let authority = authority.clone();
                tokio::spawn(async move { authority.judge(cursor).await })
            })
            .collect();
        for one in herd {
            assert_eq!(one.await.unwrap(), PositionStatus::Exists);
        }
        assert!(questions.load(Ordering::Relaxed) <= 2);
        while questions.load(Ordering::Relaxed) < 2 {
            authority.judge(cursor).await;
        }
        assert_eq!(authority.judge(cursor).await, PositionStatus::OtherEpoch, "the epoch has changed since");
    }
}
