//! The words that the files of ownership share: a claim, what comes of it, and the stream that has the id.
//!
//! Plain data. `ownership.rs` decides on it, `remote.rs` and `register.rs` carry it to other hubs, and
//! `surface/subscription.rs` makes claims of requests.

use std::time::Duration;

use galaxy_push_store::fence::TakeoverKind;

/// A request for a gateway id: who makes it, and as which process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The gateway id that is asked for.
    pub(crate) gateway: String,
    /// Which process it is. Empty: an old client, which is never the same instance as anybody.
    pub(crate) instance: String,
    /// Raised by the process with each dial; 0: it does not count.
    pub(crate) attempt: u64,
    /// Its network address, for logs and for the other side of a takeover.
    pub(crate) peer: String,
    /// The identity it was authorized as, by certificate or token; empty where everybody may do everything.
    pub(crate) identity: String,
    /// It lists the features that are needed to be sent session invalidations.
    pub(crate) learns_of_invalidations: bool,
}

/// An older stream gave way to a newer claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Takeover {
    /// Whose it was.
    pub(crate) older: Claim,
    /// Why it gave way.
    pub(crate) kind: TakeoverKind,
    /// How many takeovers and refusals the id has seen of late, if this one is to be logged: the first, second, fourth, …
    pub(crate) log_count: Option<u64>,
}

/// The stream that has an id, here or at another hub, as far as a claim is judged by it.
pub(super) struct IncumbentView {
    pub(super) claim: Claim,
    /// It is a stream of this hub.
    pub(super) is_here: bool,
    /// A ping would be answered now, and the newcomer is no transparent retry of what it came by.
    pub(super) would_answer: bool,
    /// It has shown that it is alive, or failed to; `None`: it must be pinged.
    pub(super) is_alive: Option<bool>,
    /// Since when the same claim has had the id.
    pub(super) first_since: Duration,
}

impl Claim {
    /// Whether both are of one process. A client without an instance id is never the same as anybody.
    pub(crate) fn is_same_instance(&self, other: &Self) -> bool {
        !self.instance.is_empty() && self.instance == other.instance
    }
}

impl Takeover {
    /// Whether a line is logged about it.
    pub(crate) const fn is_logged(&self) -> bool {
        self.log_count.is_some()
    }
}
