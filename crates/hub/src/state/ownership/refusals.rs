//! What a claim of a gateway id is told when it is refused.
//!
//! | reason | when | what the peer does |
//! |---|---|---|
//! | `STALE_ATTEMPT` | a newer attempt of its instance was here | nothing: its newer attempt has the stream |
//! | `HELD_OFF` | the id flaps and its holder is alive | waits as long as it is told |
//! | `DRAINING` | the hub shuts down | goes to another hub, or waits a second |
//! | `STORE_UNAVAILABLE` | the register cannot be read or written | waits a second |
//!
//! A [`Failure`] is a value: the surface renders it. The files beside it call this, and every surface during a drain.

use std::time::Duration;

use galaxy_push_proto::{Failure, Reason, error};
use galaxy_push_store::Holder;

use super::claim::Claim;

/// The id flaps, and the stream of this instance is alive. `own`: it is another stream of the claim's own instance id.
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

/// An attempt below the highest one that this hub knows of its instance.
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

/// The answer to everybody who comes during a drain.
pub(crate) fn draining() -> Failure {
    Failure::new(Reason::Draining, "this hub is shutting down: come back, another will answer")
        .retry_after(Duration::from_secs(1))
}

/// The same, where the store's register knows the higher attempt: it may have been at another hub.
pub(super) fn stale_in_register(claim: &Claim, holder: &Holder, highest: u64) -> Failure {
    let message = format!(
        "attempt {} of this instance arrived after attempt {highest}, at this hub or another: a late duplicate",
        claim.attempt
    );
    Failure::new(Reason::StaleAttempt, message)
        .metadata(error::RIVAL_INSTANCE, &holder.instance)
        .metadata(error::RIVAL_PEER, &holder.peer)
}

/// Nobody can know who else has the id now, so nobody new is let in.
pub(super) fn unavailable(why: &str) -> Failure {
    let message = format!("who has this gateway id cannot be written down: {why}");
    Failure::new(Reason::StoreUnavailable, message).retry_after(Duration::from_secs(1))
}
