//! Who holds which gateway id, where several hubs serve one log: a register for each id, changed by compare-and-set.
//!
//! A hub decides by a table of its own, whose takeovers have a place in the order of appends; that is all there is where it is
//! the only door to the log. Where it is not, it then takes the id here too, and whoever had it at another door is ended
//! there once that door is told ([`Sink::taken`](crate::Sink::taken)), within 1 s.
//!
//! An id that instances keep taking from each other is fought over ([`OwnershipFlap`]), at whichever doors they come. Whether the stream that has
//! it is alive only the door knows where that is: it is asked there ([`Fence::ask`]).
//!
//! What a register says is decided here, and the same for every store; a store only keeps it.

mod flap;

use std::future::ready;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};

use crate::Error;

pub(crate) use flap::{FORMER_MAX, Former, HeldOff, RETURNS};
pub use flap::{HOLD_OFF_FIRST, Incumbent, OwnershipFlap, TakeoverDecision, TakeoverKind};

/// A door that asks another whether a stream is alive gets its answer within this time, or takes it for none.
pub const ASKED_WITHIN: Duration = Duration::from_millis(500);

/// The same where the stream must answer a ping first, for which it has 2 s.
pub const PINGED_WITHIN: Duration = Duration::from_millis(2_500);

/// The most instances of one id whose attempts are remembered, the holder's included.
pub(crate) const INSTANCES_MAX: usize = 32;

/// Who holds a gateway id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// Rises with each taking of the id, at whichever door.
    pub generation: u64,
    /// The instance; empty for a client that does not say.
    pub instance: String,
    /// Where it came from.
    pub peer: String,
    /// The highest attempt of each recent instance, the latest to take the id last.
    pub attempts: Vec<(String, u64)>,
    /// How the id changed hands of late, and who is held off. Times are by the clock of the log.
    pub flap: OwnershipFlap,
}

/// What a register holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Register {
    /// Who holds the id; nobody yet: the default.
    pub holder: Holder,
    /// Whoever takes the id next has a generation above this, and above the holder's: that of any id at any hub, as far as is known.
    pub behind: u64,
    /// Changes with every change of the register. 0: it was never written.
    pub revision: u64,
    /// The door at which the holder took it: see [`Fence::door`]. 0: nobody knows.
    pub door: u128,
}

/// What one door asks another: whether it has the stream of this instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// The id.
    pub gateway: String,
    /// The instance that has taken it there; empty for a client that does not say.
    pub instance: String,
    /// The stream must answer a ping, unless it has just begun. Else it is said whether it would have answered one now.
    pub pings: bool,
}

/// A stream that has an id at another door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// It answered, or would have.
    pub is_alive: bool,
    /// For how long it has been open.
    pub open_for: Duration,
    /// For how long the same attempt of its instance has had the id: a transparent retry takes it over from itself.
    pub attempt_for: Duration,
}

/// A late duplicate: this instance has taken the id with a higher attempt before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleAttempt {
    /// The highest attempt seen.
    pub highest: u64,
}

/// The registers of a shared log, one for each gateway id.
pub trait Fence: Send + Sync {
    /// Reads a register.
    ///
    /// # Errors
    ///
    /// It cannot be read at present.
    fn read<'a>(&'a self, gateway: &'a str) -> BoxFuture<'a, Result<Register, Error>>;

    /// Writes a register, if its revision still is this one. False: it is not, and nothing was written.
    ///
    /// # Errors
    ///
    /// It cannot be written at present, or nobody knows whether it was.
    fn swap<'a>(
        &'a self,
        gateway: &'a str,
        revision: u64,
        holder: Holder,
    ) -> BoxFuture<'a, Result<bool, Error>>;

    /// Writes how the id changed hands and who is held off ([`Holder::flap`]) into a register, if its revision still is that of this one.
    /// Everything else stays, the door at which its holder took it, too. False: it was not written.
    ///
    /// # Errors
    ///
    /// It cannot be written at present, or nobody knows whether it was.
    fn amend<'a>(&'a self, _gateway: &'a str, _register: &'a Register) -> BoxFuture<'a, Result<bool, Error>> {
        ready(Ok(false)).boxed()
    }

    /// This door, as registers name it: no two of a log are the same.
    fn door(&self) -> u128 {
        0
    }

    /// Asks at another door for the stream of an instance. Takes [`ASKED_WITHIN`] at most, or [`PINGED_WITHIN`]. `None`: it has no
    /// such stream, or nobody answered in time.
    fn ask(&self, _door: u128, _question: Question) -> BoxFuture<'_, Option<Stream>> {
        ready(None).boxed()
    }

    /// Whether registers can be read and written, as far as is known without asking. While they cannot, a hub lets nobody in but
    /// whom [`Fence::held`] names.
    fn is_reached(&self) -> bool {
        true
    }

    /// Who took this id at this door last, unless it is known here that it was taken at another since. Nobody: that was forgotten,
    /// or never known.
    fn held(&self, _gateway: &str) -> Option<Holder> {
        None
    }
}

impl Register {
    /// The holder after this one. `least` is the lowest generation it may have.
    ///
    /// # Errors
    ///
    /// [`StaleAttempt`]: it may not have the id.
    pub fn succeeded_by(
        &self,
        instance: &str,
        attempt: u64,
        peer: &str,
        least: u64,
    ) -> Result<Holder, StaleAttempt> {
        self.holder.succeeded_by(instance, attempt, peer, least.max(self.behind + 1))
    }
}

impl Holder {
    /// The holder after this one. `least` is the lowest generation it may have.
    ///
    /// # Errors
    ///
    /// [`StaleAttempt`]: it may not have the id.
    pub fn succeeded_by(
        &self,
        instance: &str,
        attempt: u64,
        peer: &str,
        least: u64,
    ) -> Result<Self, StaleAttempt> {
        let mut attempts = self.attempts.clone();
        if !instance.is_empty() {
            if let Some(known) = attempts.iter().position(|(known, _)| known == instance) {
                let (_, highest) = attempts.remove(known);
                // Whoever takes it back from another has a higher attempt; 0 is that of a peer that does not count.
                let taken_back = self.instance != instance && attempt > 0;
                if attempt < highest || (taken_back && attempt == highest) {
                    return Err(StaleAttempt { highest });
                }
            }
            attempts.push((instance.to_owned(), attempt));
            let forgotten = attempts.len().saturating_sub(INSTANCES_MAX);
            attempts.drain(..forgotten);
        }
        let generation = (self.generation + 1).max(least);
        let (instance, peer, flap) = (instance.to_owned(), peer.to_owned(), self.flap.clone());
        Ok(Self { generation, instance, peer, attempts, flap })
    }

    /// With which attempt it took the id; 0 for a client that does not say who it is.
    #[must_use]
    pub fn attempt(&self) -> u64 {
        self.attempts
            .last()
            .filter(|(instance, _)| *instance == self.instance)
            .map_or(0, |(_, attempt)| *attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_attempt_than_the_highest_seen_of_its_instance_never_takes_an_id() {
        let first = Holder::default().succeeded_by("a", 3, "peer", 1).unwrap();
        let rival = first.succeeded_by("b", 1, "peer", 1).unwrap();
        for late in [2, 3] {
            assert_eq!(rival.succeeded_by("a", late, "peer", 1), Err(StaleAttempt { highest: 3 }), "{late}");
        }
        assert!(first.succeeded_by("a", 3, "peer", 1).is_ok(), "a transparent retry");
        let back = rival.succeeded_by("a", 4, "peer", 9).unwrap();
        assert_eq!((back.generation, back.instance.as_str()), (9, "a"));
        assert_eq!(back.succeeded_by("", 0, "peer", 1).unwrap().generation, 10);
    }

    #[test]
    fn as_many_instances_are_remembered_as_there_is_room_for() {
        let take = |holder: Holder, n: usize| holder.succeeded_by(&n.to_string(), 5, "", 1).unwrap();
        let holder = (0..40).fold(Holder::default(), take);
        assert_eq!(holder.attempts.len(), INSTANCES_MAX);
        assert!(holder.succeeded_by("8", 4, "", 1).is_err() && holder.succeeded_by("7", 4, "", 1).is_ok());
    }
}
