//! Why a gateway closes a user's connection, and when.
//!
//! Kept in the connection's mailbox (`routes/mailbox.rs`), so that whoever has a mailbox can close its connection. What a
//! user is told of a reason, as a close code or a last frame, `surface` decides.

use std::sync::Arc;
use std::time::Duration;

/// Why this side closes a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The process is shutting down. The user is asked to come back after this long.
    Draining(Duration),
    /// The user's token has expired.
    TokenExpired,
    /// A standing record invalidated the user's session, for this reason (a publisher's text, perhaps empty).
    SessionInvalidated(Arc<str>),
    /// The peer read too slowly.
    TooSlow,
}

/// A connection that is to close once everything dispatched so far was delivered, as in a shutdown that waits.
#[derive(Clone, Debug)]
pub(crate) struct PendingClose {
    pub(crate) reason: CloseReason,
    /// It closes at this moment of the edge's clock, delivered or not.
    pub(crate) deadline: Duration,
}

impl CloseReason {
    /// Each word of [`CloseReason::as_str`].
    pub(crate) const LABELS: [&str; 4] = ["DRAINING", "SESSION_ENDED", "SESSION_INVALIDATED", "SLOW"];

    /// The reason as a label of metrics.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Draining(_) => "DRAINING",
            Self::TokenExpired => "SESSION_ENDED",
            Self::SessionInvalidated(_) => "SESSION_INVALIDATED",
            Self::TooSlow => "SLOW",
        }
    }
}
