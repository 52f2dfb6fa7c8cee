//! How a gateway ends: its users first, then the stream from the hub.
//!
//! Called by `surface`'s [`Gateway`](crate::Gateway). There are two ways. Users of a gateway resume at another one, so
//! [`Shared::drain`] sends everybody away and waits for nobody. Where the hub ends with the gateway, in one process, there
//! is nowhere else to resume: [`Shared::finish_upstream`] and then [`Shared::deliver_and_drain`] let each user receive what
//! the hub had acknowledged.

use std::time::Duration;

use galaxy_push_core::FOR_EVER;
use galaxy_push_core::cursor::Cursor;
use tokio::time::{sleep, timeout, timeout_at};

use super::Shared;
use crate::state::close::{CloseReason, PendingClose};
use crate::state::routes::Mailbox;

/// How often a drain closes some connections, and looks whether any are left.
const DRAIN_TICK: Duration = Duration::from_millis(10);

/// How long a drain waits for connections that were told to close.
const CLOSED_WITHIN: Duration = Duration::from_secs(2);

/// When the time of a drain is over, whoever is cut off has this long to be counted, and as long again to be told so.
const CUT_OFF_WITHIN: Duration = Duration::from_millis(250);

/// How often a drain looks for users that it has not told yet.
const LATE_EVERY: Duration = Duration::from_millis(500);

/// How long events of a hub in the same process may be on their way here. It takes a few milliseconds.
const RECEIVED_WITHIN: Duration = Duration::from_secs(5);

/// A returning user waits up to this long more, so that those closed in one tick do not come back in one.
const RETURN_SPREAD_MS: u64 = 1_000;

impl Shared {
    /// Closes every connection, a few at a time, then the stream from the hub. See [`Gateway::drain`](crate::Gateway::drain).
    pub(crate) async fn drain(&self) {
        self.close_everybody().await;
        if timeout(CLOSED_WITHIN, self.tracker.wait()).await.is_err() {
            let users = self.tracker.len();
            tracing::info!(users, "users that take long are not waited for: they resume elsewhere");
        }
        self.end_upstream().await;
    }

    /// Waits until everything up to `upto` was received, then ends the stream from the hub. See
    /// [`Gateway::finish_upstream`](crate::Gateway::finish_upstream).
    pub(crate) async fn finish_upstream(&self, upto: Cursor, limit: Duration) {
        let edge = &self.admission.edge;
        self.draining.cancel();
        self.tracker.close();
        let behind = || {
            let head = edge.head();
            head != upto && !head.follows(upto)
        };
        let _late = timeout(limit.min(RECEIVED_WITHIN), async {
            while behind() {
                sleep(DRAIN_TICK).await;
            }
        })
        .await; // then there is no more than it has
        self.end_upstream().await;
    }

    /// Closes each connection once its user has received everything, or at the limit. `end_stalled` ends the streams whose
    /// peers take nothing, which only the surface knows. See [`Gateway::deliver_and_drain`](crate::Gateway::deliver_and_drain).
    pub(crate) async fn deliver_and_drain(&self, limit: Duration, end_stalled: impl FnOnce()) {
        let edge = &self.admission.edge;
        let deadline = edge.clock.now().mono + limit.min(FOR_EVER);
        let gone = timeout_at(edge.clock.instant(deadline), async {
            loop {
                // Again: one that was let in before the drain may have registered since.
                let close = |mailbox: &Mailbox, reason| {
                    mailbox.close_when_delivered(PendingClose { reason, deadline })
                };
                self.send_away(close).await;
                if timeout(LATE_EVERY, self.tracker.wait()).await.is_ok() {
                    return;
                }
            }
        });
        let is_late = gone.await.is_err();
        if is_late {
            // Connections that are polled close by themselves at this moment. The stalled ones are not polled.
            end_stalled();
            let _counted = timeout(CUT_OFF_WITHIN, async {
                while edge.routes.len() > 0 {
                    sleep(DRAIN_TICK).await;
                }
            })
            .await;
        }
        let (cut_off, users) = (self.metrics.counters.cut_off_so_far().get(), self.tracker.len());
        if is_late || cut_off > 0 {
            tracing::warn!(cut_off, users, "the shutdown cut users off that have not taken everything");
            let _told = timeout(CUT_OFF_WITHIN, self.tracker.wait()).await;
        }
        self.end_upstream().await;
    }

    /// Closes every connection at once, a few at a time.
    pub(crate) async fn close_everybody(&self) {
        self.send_away(|mailbox, reason| mailbox.close_reason().is_none() && mailbox.close(reason)).await;
    }

    /// Has `close` called for every connection, a few at a time, until none is left that had to be told: `close` says
    /// whether this one had to be.
    async fn send_away(&self, mut close: impl FnMut(&Mailbox, CloseReason) -> bool) {
        self.draining.cancel();
        self.tracker.close();
        let per_tick = (self.config.return_slots as usize * DRAIN_TICK.as_millis() as usize / 1_000).max(1);
        loop {
            let mailboxes = self.admission.edge.routes.mailboxes();
            let mut closed = 0;
            for mailbox in mailboxes {
                let spread = self.admission.edge.clock.ambient().random() % RETURN_SPREAD_MS;
                closed += usize::from(close(&mailbox, CloseReason::Draining(Duration::from_millis(spread))));
                if closed == per_tick {
                    break;
                }
            }
            if closed == 0 {
                return;
            }
            sleep(DRAIN_TICK).await;
        }
    }
}
