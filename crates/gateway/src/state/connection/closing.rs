//! How a connection comes to its end: its token expires, its mailbox is told to close it, or a shutdown's time is over.
//!
//! The transport learns of it from [`Connection::next`], or from [`Connection::must_close`] while it waits for its peer.

use std::time::Duration;

use galaxy_push_core::Now;

use super::{Connection, Outgoing};
use crate::state::close::CloseReason;

impl Connection {
    /// As [`Connection::next`], for a transport that writes by itself. `writing`: what was returned last is still being
    /// written, so only the end is waited for. Otherwise the user has received that.
    ///
    /// # Cancel safety
    ///
    /// As [`Connection::next`].
    ///
    /// # Errors
    ///
    /// Why the connection has to close.
    pub(crate) async fn next_unless(
        &mut self,
        writing: bool,
        out: &mut Vec<Outgoing>,
    ) -> Result<(), CloseReason> {
        if writing {
            return Err(self.closed().await);
        }
        self.confirm(self.mark());
        self.next(out).await
    }

    /// Waits until the connection has to close. Cancel safe.
    async fn closed(&self) -> CloseReason {
        loop {
            if let Some(reason) = self.close_reason(self.edge.clock.now()) {
                return reason;
            }
            let deadline = self.registration.mailbox().pending_close().map(|close| close.deadline);
            let until =
                self.expires.into_iter().chain(deadline).min().map(|until| self.edge.clock.instant(until));
            let expired = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.registration.mailbox().woken() => {}
                () = expired => {}
            }
        }
    }

    /// Why it has to close now, if it has to.
    pub(crate) fn must_close(&self) -> Option<CloseReason> {
        self.close_reason(self.edge.clock.now())
    }

    /// As [`Connection::must_close`]. A reason given at once counts before the end of the token, and both count before a
    /// shutdown that waits: only the last cuts its user off, which is said in the log.
    pub(super) fn close_reason(&self, now: Now) -> Option<CloseReason> {
        let expired = self.expires.is_some_and(|expires| now.mono >= expires);
        let mailbox = self.registration.mailbox();
        let reason = mailbox.close_reason().or(expired.then_some(CloseReason::TokenExpired));
        if reason.is_some() {
            return reason;
        }
        let close = mailbox.pending_close().filter(|close| now.mono >= close.deadline)?;
        self.cut_off();
        Some(close.reason)
    }

    /// When the token expires, on the edge's clock. Tokens say it by the wall clock; from here on no step of that counts.
    pub(super) fn expiry(&self, now: Now) -> Option<Duration> {
        let left = self.identity.expires_unix_ms?.saturating_sub(now.unix_ms);
        Some(now.mono.saturating_add(Duration::from_millis(left)))
    }
}
