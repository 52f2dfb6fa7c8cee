//! The access in force. Whoever starts the hub may replace it while it runs ([`Hub::set_access`](crate::Hub::set_access)).
//!
//! New requests go by the new access at once. What is open was let in by an older one; each open stream holds a [`Grant`],
//! which says whether it may stay:
//!
//! ```text
//! publisher "shop" opens a stream         Grant: shop, by token T1
//! set_access without shop, or without T1  the grant is not valid: the stream ends
//! set_access with the same shop and T1    the grant is valid, and shop's rate goes on where it was
//! ```
//!
//! `surface/revocation.rs` closes the connection of a peer that does not take that end.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{Access, Caller};

/// The access in force, for all parts of a hub.
#[derive(Debug)]
pub(crate) struct LiveAccess(watch::Sender<Arc<Access>>);

/// What an open stream stays by: who it was let in as, and the access to ask whether that still holds.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    caller: Caller,
    access: watch::Receiver<Arc<Access>>,
    /// What the access that was asked last said.
    is_valid: bool,
}

impl LiveAccess {
    pub(crate) fn new(access: Access) -> Self {
        Self(watch::Sender::new(Arc::new(access)))
    }

    /// The access in force now. A request asks once, so that it goes by one access from beginning to end.
    pub(crate) fn get(&self) -> Arc<Access> {
        self.0.borrow().clone()
    }

    /// Puts this access in force. An identity that it names again goes on with what is left of its rate.
    pub(crate) fn replace(&self, access: Access, now: Duration) {
        self.0.send_modify(|current| *current = Arc::new(access.following(current, now)));
    }

    /// By what this caller stays.
    pub(crate) fn grant(&self, caller: Caller) -> Grant {
        let mut access = self.0.subscribe();
        access.mark_changed(); // it may have been, since the caller was let in
        Grant { caller, access, is_valid: true }
    }
}

impl Grant {
    /// Whether it may stay: who it is, by what it showed that, and what it may do is as it was when it was let in.
    pub(crate) fn is_valid(&mut self) -> bool {
        if self.access.has_changed().unwrap_or(false) {
            self.is_valid = self.access.borrow_and_update().still_knows(&self.caller);
        }
        self.is_valid
    }

    /// Whose it is.
    pub(crate) const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Waits until it may not stay. Cancel safe.
    pub(crate) async fn revoked(&mut self) {
        while self.is_valid() {
            if self.access.changed().await.is_err() {
                return pending().await; // the hub is gone, and changes no more
            }
            self.access.mark_changed();
        }
    }
}
