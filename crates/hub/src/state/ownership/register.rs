//! Ownership in a log that several hubs share: a claim that this hub has admitted is written into the store's register.
//!
//! ```text
//! opening.rs      check_reachable         may this claim be decided at all?
//! remote.rs       RemoteOwnership::read   what does the register say, and is the holder's stream alive?
//! ownership.rs    Gateways::claim         decide, under the log's lock of this hub
//! register.rs     write_ownership         compare-and-set; lost the race: read again, judge again, up to 8 times
//! ownership.rs    confirm_registration    the stream goes on under the number of the register
//! ```
//!
//! Another hub that wrote in between makes the compare-and-set fail. Then the claim is judged once more, by the new
//! register: the other claim came first.
//!
//! While the registers cannot be read and written, nobody here knows who is let in elsewhere:
//!
//! | who comes | what happens |
//! |---|---|
//! | the instance that took the id at this hub last | it comes back, under the number that the register had ([`Registered::AlreadyHeld`]) |
//! | anybody else | refused, `STORE_UNAVAILABLE`: it waits |
//!
//! What was taken elsewhere meanwhile ends the stream of such a returner as soon as this hub is told of it, because the
//! register then has a higher number.

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

/// The number under which a claim stands in the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registered {
    /// The register was written just now.
    Written(u64),
    /// The register cannot be written. The claim's instance wrote it when it came before, or just now without learning that
    /// it succeeded.
    AlreadyHeld(u64),
}

/// Whether this claim may be decided at all. Checked first, so that no stream gives way to a claim that is then refused.
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

/// Writes this claim into the register. Its hub has admitted it as `remote` says, with a generation of at least `least`. `None`: its
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

/// Writes the register, judging again each time that another hub was faster. The outer error is the store's.
async fn write(
    fence: &dyn Fence,
    claim: &Claim,
    least: u64,
    mut remote: RemoteOwnership,
    has_it: &(dyn Fn() -> bool + Sync),
) -> Result<Result<Option<Registered>, Failure>, Error> {
    for swap in 0..SWAPS_MAX {
        // Another claim at this hub may have taken the id while this one waited for the store.
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
    /// Gives the stream of this generation the number that it has in the register. Returns the number that it has from now
    /// on; `None`: it has given way meanwhile, and keeps its own.
    ///
    /// That `None` matters. Two claims at one hub, of which the older is confirmed late:
    ///
    /// ```text
    /// a admitted as 1 · b admitted as 2, confirmed as 5 · the answer for a arrives: Written(5)
    /// if a now called itself 5, its end would release the id of b's stream
    /// ```
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

    /// The store says that somebody holds this id, perhaps at another hub: a stream here with a lower number ends.
    ///
    /// A stream that is not yet in the register cannot be compared. It keeps the news until it is:
    ///
    /// ```text
    /// a admitted here, being written · news: holder b, number 6 · a confirmed as 7: b came first, a stays
    ///                                                           · a confirmed as 5: b came later, a ends
    /// ```
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
