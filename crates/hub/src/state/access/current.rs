//! The access in force: whoever starts the hub may replace it while it runs.
//!
//! New requests go by it at once. What is open was let in by an older one: its [`Grant`] says whether it may stay, and
//! `surface/revocation.rs` closes the connection of whoever may not and does not go.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{Access, Caller};

#[derive(Debug)]
pub(crate) struct LiveAccess(watch::Sender<Arc<Access>>);

/// By what somebody stays who was let in.
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

    pub(crate) fn get(&self) -> Arc<Access> {
        self.0.borrow().clone()
    }

    /// From now on this one. Whoever it names again goes on with what it has left of its rate.
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
