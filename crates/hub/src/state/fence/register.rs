//! The fence of a log that has several doors: whoever was let in at this one takes the id in the store's register too.
//!
//! The register is read first, and whoever has the id at another hub is asked for (`remote.rs`); with that the hub's own fence decides,
//! under the log's lock; what came of it is then written into the register, which makes the takeover known to the other doors. If that
//! has changed meanwhile, it is judged once more.
//!
//! While the registers cannot be read and written, nobody here knows who is let in elsewhere. Whoever has an id at this hub keeps
//! it, and its own instance may come back to it; that stands under the number in the register, which did not change, so whatever
//! was taken elsewhere meanwhile ends it as soon as it is told. Everybody else waits.

#[cfg(test)]
mod tests;

use std::time::Duration;

use galaxy_push_proto::{Failure, Reason};
use galaxy_push_store::fence::StaleAttempt;
use galaxy_push_store::{Error, Fence, Holder};
use tokio::time::timeout_at;

use super::Gateways;
use super::claim::Claim;
use super::incumbent::StreamEnd;
use super::refusals::{stale_in_register, unavailable};
use super::remote::{REGISTER_WITHIN, RemoteOwnership, SWAPS_MAX, already_held};

/// Under which number of the register a claim stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registered {
    /// It was written now.
    Written(u64),
    /// Its instance wrote it when it came before, or now without being told so, and the register cannot be written.
    AlreadyHeld(u64),
}

/// Whether this claim may be decided at all. Asked first, so that nobody gives way to whoever is then refused.
///
/// # Errors
///
/// The registers cannot be read and written at present, and it is not the holder that comes back.
pub(crate) fn check_reachable(fence: &dyn Fence, claim: &Claim) -> Result<(), Failure> {
    if fence.is_reached() || already_held(fence, claim).is_some() {
        return Ok(());
    }
    Err(unavailable("the store is not reached"))
}

/// Takes the gateway id of this claim, which its hub has let in as `remote` says, with a generation of at least `least`. `None`: its
/// stream does not have the id any more (`has_it`), and nothing need be written. Without `remote` nothing can be.
///
/// Not cancel safe in that the id may be taken all the same; the next claim then takes it from there.
///
/// # Errors
///
/// `STALE_ATTEMPT` or `HELD_OFF`, by what another hub wrote meanwhile; or the register cannot be written at present.
pub(crate) async fn write_ownership(
    fence: &dyn Fence,
    claim: &Claim,
    least: u64,
    remote: Option<RemoteOwnership>,
    has_it: &(dyn Fn() -> bool + Sync),
) -> Result<Option<Registered>, Failure> {
    let before = || already_held(fence, claim).map(Registered::AlreadyHeld);
    let why = match remote {
        None => "the store is not reached".to_owned(),
        Some(remote) => match timeout_at(remote.deadline(), write(fence, claim, least, remote, has_it)).await
        {
            Ok(Ok(taken)) => return taken,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("the store did not answer within {REGISTER_WITHIN:?}"),
        },
    };
    before().map(Some).ok_or_else(|| unavailable(&why))
}

/// The outer error is that of the store.
async fn write(
    fence: &dyn Fence,
    claim: &Claim,
    least: u64,
    mut remote: RemoteOwnership,
    has_it: &(dyn Fn() -> bool + Sync),
) -> Result<Result<Option<Registered>, Failure>, Error> {
    for swap in 0..SWAPS_MAX {
        if !has_it() {
            return Ok(Ok(None));
        }
        if swap > 0
            && let Err(held_off) = remote.judge_again(fence.read(&claim.gateway).await?, claim)
        {
            remote.persist_hold_off(fence, &claim.gateway).await;
            return Ok(Err(held_off));
        }
        let register = remote.register();
        let next = register.succeeded_by(&claim.instance, claim.attempt, &claim.peer, least);
        let next = match next {
            Ok(next) => next,
            Err(StaleAttempt { highest }) => {
                return Ok(Err(stale_in_register(claim, &register.holder, highest)));
            }
        };
        let generation = next.generation;
        if fence.swap(&claim.gateway, register.revision, next).await? {
            return Ok(Ok(Some(Registered::Written(generation))));
        }
    }
    let message = "many subscribe with this gateway id at once: give each gateway an id of its own";
    Ok(Err(Failure::new(Reason::Overloaded, message).retry_after(Duration::from_secs(1))))
}

impl Gateways {
    /// The stream of this generation stands in the register. Returns the number that it has from now on. `None`: it has given way
    /// meanwhile, and keeps its own: under another it would free the id of whoever has it now.
    pub(crate) fn confirm_registration(
        &mut self,
        gateway: &str,
        generation: u64,
        taken: Registered,
    ) -> Option<u64> {
        let here = self.current.get_mut(gateway).filter(|here| here.generation == generation)?;
        let shared = match taken {
            Registered::Written(shared) => {
                here.generation = shared;
                self.generation = self.generation.max(shared);
                shared
            }
            // Another stream of this hub may have that number, and be about to leave. And this hub may never have been told that it
            // was written: then its own numbers are far below.
            Registered::AlreadyHeld(shared) => {
                if here.generation <= shared {
                    self.generation = self.generation.max(shared) + 1;
                    here.generation = self.generation;
                }
                shared
            }
        };
        here.registered_as = Some(shared);
        let number = here.generation;
        if let Some(by) = here.pending_rival.take() {
            self.end_if_superseded(gateway, &by);
        }
        Some(number)
    }

    /// Somebody took this id, perhaps at another door: an older stream here ends.
    pub(crate) fn end_if_superseded(&mut self, gateway: &str, by: &Holder) {
        let Some(here) = self.current.get_mut(gateway) else { return };
        match here.registered_as {
            Some(shared) if shared >= by.generation => return,
            Some(_) => {}
            // Which of the two came first is known once the register is written.
            None => {
                if here.pending_rival.as_ref().is_none_or(|known| known.generation < by.generation) {
                    here.pending_rival = Some(by.clone());
                }
                return;
            }
        }
        let Some(here) = self.current.remove(gateway) else { return };
        let attempt = by.attempt();
        here.end(StreamEnd::Replaced {
            rival: Claim {
                gateway: gateway.to_owned(),
                instance: by.instance.clone(),
                attempt,
                peer: by.peer.clone(),
                ..Claim::default()
            },
            logged: true,
        });
    }
}
