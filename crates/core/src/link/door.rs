//! What a hub says when it is asked which log it holds.
//!
//! The client's driver asks, [`Input::Doors`](super::Input::Doors) carries the answers, and the link chooses by them. Nothing is
//! decided here.

use std::sync::Arc;

use super::Failure;
use crate::backoff::Cause;

/// What a hub said when it was asked which log it holds.
///
/// ```
/// use galaxy_push_core::link::Door;
///
/// assert_eq!(Door::Holds("log-a".into()).epoch(), Some("log-a"));
/// assert_eq!(Door::Stale("log-a".into()).epoch(), Some("log-a"));
/// assert_eq!(Door::Mute.epoch(), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Door {
    /// It was not asked yet.
    #[default]
    Unasked,
    /// It does not answer, or lets nobody in because it drains.
    Silent(Arc<Failure>),
    /// It answers and does not say, because it does not know the question or this peer may not ask: it counts as a door to
    /// the log that is followed.
    Mute,
    /// It holds the log of this epoch.
    Holds(Arc<str>),
    /// It holds the log of this epoch and cannot reach its store: the log may go on at others.
    Stale(Arc<str>),
}

impl Door {
    /// The epoch of the log it is known to hold.
    #[must_use]
    pub fn epoch(&self) -> Option<&str> {
        match self {
            Self::Holds(epoch) | Self::Stale(epoch) => Some(epoch),
            _ => None,
        }
    }

    pub(super) fn is_stale(&self) -> bool {
        matches!(self, Self::Stale(_))
    }

    pub(super) fn answers(&self) -> bool {
        matches!(self, Self::Mute | Self::Holds(_) | Self::Stale(_))
    }

    /// Whether it is there: it says which log it holds or does not, or it refuses to be asked.
    pub(super) fn is_there(&self) -> bool {
        matches!(self, Self::Silent(failure) if failure.cause() == Cause::Refused) || self.answers()
    }
}
