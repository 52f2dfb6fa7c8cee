//! What whoever asks for a gateway id is told when it is refused.
//!
//! Called by the files of the fence; a drain's refusal by every surface. A [`Failure`] is a value: the surface renders it.

use std::time::Duration;

use galaxy_push_proto::{Failure, Reason, error};
use galaxy_push_store::Holder;

use super::claim::Claim;

/// The answer to whoever is held off from the stream of this instance.
pub(super) fn rejection(instance: &str, peer: &str, own: bool, wait: Duration) -> Failure {
    let advice = if own {
        "give each process an instance id of its own"
    } else {
        "give each gateway an id of its own"
    };
    let message = format!(
        "instances keep taking this gateway id from each other, and {}, which has the stream, is alive: {advice}",
        error::who(instance, peer)
    );
    Failure::new(Reason::HeldOff, message)
        .retry_after(wait)
        .metadata(error::RIVAL_INSTANCE, instance)
        .metadata(error::RIVAL_PEER, peer)
}

pub(super) fn stale(claim: &Claim, highest: u64, incumbent: Option<&Claim>) -> Failure {
    let holder = match incumbent {
        Some(holder) => format!("; {} has the stream", error::who(&holder.instance, &holder.peer)),
        None => String::new(),
    };
    let message = format!(
        "attempt {} of this instance arrived after its attempt {highest} had the stream: a late duplicate, or another process with the \
         same instance id{holder}",
        claim.attempt
    );
    let failure = Failure::new(Reason::StaleAttempt, message);
    match incumbent {
        Some(holder) => failure
            .metadata(error::RIVAL_INSTANCE, &holder.instance)
            .metadata(error::RIVAL_PEER, &holder.peer),
        None => failure,
    }
}

/// The answer to whoever comes during a drain.
pub(crate) fn draining() -> Failure {
    Failure::new(Reason::Draining, "this hub is shutting down: come back, another will answer")
        .retry_after(Duration::from_secs(1))
}

pub(super) fn stale_in_register(claim: &Claim, holder: &Holder, highest: u64) -> Failure {
    let message = format!(
        "attempt {} of this instance arrived after attempt {highest}, at this hub or another: a late duplicate",
        claim.attempt
    );
    Failure::new(Reason::StaleAttempt, message)
        .metadata(error::RIVAL_INSTANCE, &holder.instance)
        .metadata(error::RIVAL_PEER, &holder.peer)
}

pub(super) fn unavailable(why: &str) -> Failure {
    let message = format!("who has this gateway id cannot be written down: {why}");
    Failure::new(Reason::StoreUnavailable, message).retry_after(Duration::from_secs(1))
}
