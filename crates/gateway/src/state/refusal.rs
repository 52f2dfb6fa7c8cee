//! Why a user is refused, as a value: a connection, a topic, or a newer token.
//!
//! State and app return it. `surface/problem.rs` alone turns it into a status, a close code and a sentence for people.

use std::sync::Arc;
use std::time::Duration;

use galaxy_push_core::recipient::InvalidRecipient;

/// Why a user is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The process is shutting down.
    Draining,
    /// The gateway has not read its hub's log to the end yet.
    NotReady,
    /// There is no namespace of the name that was given.
    UnknownNamespace,
    /// What was given as a cursor is none.
    CursorMalformed,
    /// The cursor is beyond this gateway's head, and the hub did not say in time whether it exists.
    HubUnreachable,
    /// A standing record invalidated the session, for this reason (a publisher's text, perhaps empty).
    SessionInvalidated(Arc<str>),
    /// More topics than one connection may ask for.
    TooManyTopics {
        /// The most it may ask for.
        most: usize,
    },
    /// A topic's name breaks a rule.
    TopicInvalid(InvalidRecipient),
    /// A topic was asked for that the token does not grant.
    TopicNotGranted,
    /// The newer token is of another user or session than the connection's.
    OtherIdentity,
    /// A limit of connections is reached.
    Full(Limit),
    /// The user resumes more often than its limit allows.
    ResumesTooOften {
        /// It may resume after this long.
        wait: Duration,
    },
    /// The user's replays took more than one user's part of a core.
    ReplaysTooMuch {
        /// The next one may begin after this long.
        wait: Duration,
    },
}

/// Which limit of connections is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Of the gateway as a whole.
    Gateway,
    /// Of one user.
    User,
    /// Of one address.
    Address,
}
