//! The access in force: whoever starts the hub may replace it while it runs.
//!
//! New requests go by it at once. What is open was let in by an older one: its [`Pass`] says whether it may stay, and
//! [`see_off`] closes the connection of whoever may not and does not go.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use galaxy_push_listener::Visitor;
use galaxy_push_proto::{Failure, Reason};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;

use super::{Access, Caller};

/// Whoever may not stay has so long to take the end of its stream. A peer that takes nothing cannot be told it, for HTTP/2
/// queues nothing behind a closed window.
const GOES_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Current(watch::Sender<Arc<Access>>);

/// By what somebody stays who was let in.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    caller: Caller,
    access: watch::Receiver<Arc<Access>>,
    /// What the access that was asked last said.
    may_stay: bool,
}

impl Current {
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
    pub(crate) fn pass(&self, caller: Caller) -> Pass {
        let mut access = self.0.subscribe();
        access.mark_changed(); // it may have been, since the caller was let in
        Pass { caller, access, may_stay: true }
    }
}

impl Pass {
    /// Whether it may stay: who it is, by what it showed that, and what it may do is as it was when it was let in.
    pub(crate) fn may_stay(&mut self) -> bool {
        if self.access.has_changed().unwrap_or(false) {
            self.may_stay = self.access.borrow_and_update().still_knows(&self.caller);
        }
        self.may_stay
    }

    /// Waits until it may not stay. Cancel safe.
    pub(crate) async fn is_lost(&mut self) {
        while self.may_stay() {
            if self.access.changed().await.is_err() {
                return pending().await; // the hub is gone, and changes no more
            }
            self.access.mark_changed();
        }
    }
}

/// Closes the connection of whoever may not stay any more and does not take the end of its stream, until what is returned
/// is dropped. Whatever else is under way on that connection ends with it. `None`: there is none, or nobody could lose it.
pub(crate) fn see_off(pass: &Pass, visitor: Option<&Visitor>) -> Option<AbortOnDropHandle<()>> {
    let visitor = visitor.filter(|_| pass.caller.may_be_forgotten())?.clone();
    let mut pass = pass.clone();
    Some(AbortOnDropHandle::new(tokio::spawn(async move {
        pass.is_lost().await;
        sleep(GOES_WITHIN).await;
        let caller = pass.caller.name();
        tracing::info!(caller, "closed: it does not take the end of a stream that it may have no longer");
        visitor.dismiss();
    })))
}

/// What whoever may not stay is told; nothing was appended of what it is told this for. It may come back: as whom, it hears
/// then.
pub(crate) fn has_changed() -> Failure {
    let message =
        "what this hub's credentials say of you has changed: come back, with the last cursor of a stream";
    Failure::new(Reason::NotGranted, message).code(Code::Unavailable)
}
