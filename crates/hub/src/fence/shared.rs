//! The fence of a log that has several doors: whoever was let in at this one takes the id in the store's register too.
//!
//! The hub's own fence decides first, under the log's lock; the register then makes the takeover known to the other
//! doors, and refuses an attempt that another door knows to be late.

use std::time::Duration;

use galaxy_push_proto::{Failure, Reason};
use galaxy_push_store::fence::StaleAttempt;
use galaxy_push_store::{Error, Fence, Holder};

use super::{Claim, Gateways, Incumbent};
use crate::fence::Ending;

/// How often a register may change under the hands of whoever wants to write it, before it is told to come back.
const SWAPS_MAX: usize = 8;

/// Takes the gateway id of this claim with a generation of at least `least`. Returns the generation.
///
/// Not cancel safe in that the id may be taken all the same; the next claim then takes it from there.
///
/// # Errors
///
/// `STALE_ATTEMPT`; or the register cannot be written at present.
pub(crate) async fn take(fence: &dyn Fence, claim: &Claim, least: u64) -> Result<u64, Failure> {
    for _ in 0..SWAPS_MAX {
        let register = fence.read(&claim.gateway).await.map_err(|error| unavailable(&error))?;
        let next = register.holder.succeeded_by(&claim.instance, claim.attempt, &claim.peer, least);
        let next = next.map_err(|StaleAttempt { highest }| {
            let message = format!(
                "attempt {} of this instance arrived after attempt {highest}, at this hub or another: a late duplicate",
                claim.attempt
            );
            Failure::new(Reason::StaleAttempt, message)
        })?;
        let generation = next.generation;
        let swapped = fence.swap(&claim.gateway, register.revision, next).await;
        if swapped.map_err(|error| unavailable(&error))? {
            return Ok(generation);
        }
    }
    let message = "many subscribe with this gateway id at once: give each gateway an id of its own";
    Err(Failure::new(Reason::Overloaded, message).retry_after(Duration::from_secs(1)))
}

fn unavailable(error: &Error) -> Failure {
    let message = format!("who has this gateway id cannot be written down: {error}");
    Failure::new(Reason::StoreUnavailable, message).retry_after(Duration::from_secs(1))
}

impl Gateways {
    /// The stream of this generation has another one in the store's register. False: it has given way meanwhile.
    pub(crate) fn renumber(&mut self, gateway: &str, generation: u64, shared: u64) -> bool {
        self.generation = self.generation.max(shared);
        let held = |incumbent: &&mut Incumbent| incumbent.generation == generation;
        self.current.get_mut(gateway).filter(held).map(|held| held.generation = shared).is_some()
    }

    /// Somebody took this id, perhaps at another door: an older stream here ends.
    pub(crate) fn taken(&mut self, gateway: &str, by: &Holder) {
        let older = self.current.get(gateway).is_some_and(|here| here.generation < by.generation);
        let Some(here) = older.then(|| self.current.remove(gateway)).flatten() else { return };
        let attempt = by.attempts.last().map_or(0, |(_, attempt)| *attempt);
        here.end(Ending::Replaced {
            rival: Claim {
                gateway: gateway.to_owned(),
                instance: by.instance.clone(),
                attempt,
                peer: by.peer.clone(),
                ..Claim::default()
            },
            told: true,
        });
    }
}
