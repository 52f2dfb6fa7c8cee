//! Why tries and streams end, in the few words that a metric has labels for.
//!
//! Used by [`Link`](super::Link), which counts each end once. What the next try waits for is another question, and
//! [`Cause`]'s.

use std::fmt;

use super::{Failure, Waited};
use crate::backoff::Cause;

/// Why a try or a stream ended.
///
/// ```
/// use galaxy_push_core::link::{StreamEnd, StreamEndCounts};
///
/// assert_eq!(StreamEnd::NoWelcome.name(), "no_welcome");
/// let counts = StreamEndCounts::default();
/// assert!(counts.iter().count() == StreamEnd::ALL.len() && counts.iter().all(|(_, count)| count == 0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StreamEnd {
    /// The hub said goodbye: it drains, or the reader was too slow.
    Goodbye,
    /// Nothing came for too long on a stream that had begun.
    Silence,
    /// No connection came about.
    Unreachable,
    /// A connection, and no welcome in time.
    NoWelcome,
    /// The connection broke.
    Transport,
    /// The hub ended the stream with OK and without a goodbye.
    Ended,
    /// The hub answered with a status that passes, such as UNAVAILABLE.
    Status,
    /// The hub could not reach its store, and another one could.
    Stale,
    /// Another process uses the same gateway id.
    Conflict,
    /// The hub refused, and only a changed setting helps.
    Refused,
    /// Something between here and the hub answered in its place, for example a proxy.
    NotGrpc,
    /// The hub broke the contract.
    Protocol,
}

impl StreamEnd {
    /// All of them, in the order of [`StreamEndCounts::iter`].
    pub const ALL: [Self; 12] = [
        Self::Goodbye,
        Self::Silence,
        Self::Unreachable,
        Self::NoWelcome,
        Self::Transport,
        Self::Ended,
        Self::Status,
        Self::Stale,
        Self::Conflict,
        Self::Refused,
        Self::NotGrpc,
        Self::Protocol,
    ];

    /// What a failure is called, once it is known what the next try waits for and whether a goodbye came before.
    pub(super) fn of(failure: &Failure, cause: Cause, goodbye: bool) -> Self {
        match (cause, failure) {
            (Cause::Conflict, _) => Self::Conflict,
            (Cause::Refused, _) => Self::Refused,
            (Cause::Lost, _) if goodbye => Self::Goodbye,
            (Cause::Lost, failure) => match failure {
                Failure::Goodbye => Self::Goodbye,
                Failure::TimedOut(Waited::Sign) => Self::Silence,
                Failure::TimedOut(Waited::Welcome) => Self::NoWelcome,
                Failure::TimedOut(Waited::Connect) | Failure::Unreachable(_) | Failure::OtherLog { .. } => {
                    Self::Unreachable
                }
                Failure::Lost(_) => Self::Transport,
                Failure::Ended => Self::Ended,
                Failure::Status(_) => Self::Status,
                Failure::Stale => Self::Stale,
                Failure::NotGrpc { .. } => Self::NotGrpc,
                Failure::Protocol(_) | Failure::Unsplittable(_) => Self::Protocol,
            },
        }
    }

    /// The label of a metric, and the `cause` of a log line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Goodbye => "goodbye",
            Self::Silence => "silence",
            Self::Unreachable => "unreachable",
            Self::NoWelcome => "no_welcome",
            Self::Transport => "transport",
            Self::Ended => "ended",
            Self::Status => "status",
            Self::Stale => "stale",
            Self::Conflict => "conflict",
            Self::Refused => "refused",
            Self::NotGrpc => "not_grpc",
            Self::Protocol => "protocol",
        }
    }
}

impl fmt::Display for StreamEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How often each has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamEndCounts([u64; StreamEnd::ALL.len()]);

impl StreamEndCounts {
    /// Each end with its count, those that never happened too.
    pub fn iter(&self) -> impl Iterator<Item = (StreamEnd, u64)> + use<> {
        StreamEnd::ALL.into_iter().zip(self.0)
    }

    pub(super) fn count(&mut self, end: StreamEnd) {
        self.0[end as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_under_its_own_name() {
        for end in StreamEnd::ALL {
            let mut counts = StreamEndCounts::default();
            counts.count(end);
            let counted: Vec<_> = counts.iter().filter(|(_, count)| *count > 0).collect();
            assert_eq!(counted, [(end, 1)]);
        }
    }
}
