//! The access in force: whoever starts the hub may replace it while it runs.
//!
//! New requests go by it at once. What is open was let in by an older one, and its [`Pass`] says whether it may stay.

use std::sync::{Arc, PoisonError, RwLock};

use galaxy_push_proto::Failure;
use tonic::Code;

use super::{Access, Caller};

#[derive(Debug)]
pub(crate) struct Current(RwLock<Arc<Access>>);

/// By what somebody stays who was let in.
#[derive(Debug)]
pub(crate) struct Pass {
    caller: Caller,
    /// The access that was asked last.
    by: Option<Arc<Access>>,
}

impl Current {
    pub(crate) fn new(access: Access) -> Self {
        Self(RwLock::new(Arc::new(access)))
    }

    pub(crate) fn get(&self) -> Arc<Access> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn replace(&self, access: Access) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(access);
    }
}

impl Pass {
    pub(crate) const fn new(caller: Caller) -> Self {
        Self { caller, by: None }
    }

    /// Whether it may stay: who it is and what it may do is as it was when it was let in.
    pub(crate) fn may_stay(&mut self, current: &Current) -> bool {
        let access = current.0.read().unwrap_or_else(PoisonError::into_inner);
        if self.by.as_ref().is_some_and(|by| Arc::ptr_eq(by, &access)) {
            return true;
        }
        let may = access.still_knows(&self.caller);
        self.by = may.then(|| access.clone());
        may
    }
}

/// What whoever may not stay is told. It may come back: as whom, it hears then.
pub(crate) fn has_changed() -> Failure {
    let message =
        "what this hub's credentials say of you has changed: come back, with the last cursor of a stream";
    Failure::without_reason(Code::Unavailable, message)
}
