//! Why a try or a stream ended, and what that means for the next one. Not an error a caller handles: the link does.
//!
//! The one question that matters is whether a *server status arrived*. A code alone does not tell: transports invent
//! codes for broken connections. So a broken connection is [`Failure::Lost`] here, whatever a library would call it,
//! and [`Failure::Status`] holds only what a server put into headers or trailers.

use std::fmt;
use std::time::Duration;

use crate::backoff::Cause;

/// The gRPC codes a client's policy depends on.
mod code {
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const ALREADY_EXISTS: i32 = 6;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const ABORTED: i32 = 10;
    pub(super) const UNIMPLEMENTED: i32 = 12;
    pub(super) const UNAUTHENTICATED: i32 = 16;
}

/// What a deadline was running for.
///
/// ```
/// use galaxy_push_core::link::{Failure, Waited};
///
/// assert_eq!(Failure::TimedOut(Waited::Sign).to_string(), "the hub was silent for too long");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Waited {
    /// The connection.
    Connect,
    /// The first frame of a stream, its `Welcome`.
    Welcome,
    /// Any sign of life on a stream that had begun.
    Sign,
}

/// Why a try or a stream ended.
///
/// ```
/// use galaxy_push_core::backoff::Cause;
/// use galaxy_push_core::link::{Failure, ServerStatus};
///
/// let lost = Failure::Lost("connection reset".into());
/// assert_eq!((lost.cause(), lost.retry_after()), (Cause::Lost, None), "the network is to blame: soon again");
///
/// let refused = Failure::Status(ServerStatus::new(16, "no such token"));
/// assert_eq!(refused.cause(), Cause::Refused, "UNAUTHENTICATED: somebody must change a setting");
/// assert_eq!(refused.to_string(), "the hub answered UNAUTHENTICATED: no such token");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// No connection came about: the connector's own words.
    Unreachable(String),
    /// Those hubs that answer hold another log than the one that is followed, and so many do not answer.
    OtherLog {
        /// How many do not answer.
        silent: usize,
    },
    /// The hub cannot reach its store: another one may.
    Stale,
    /// A deadline passed.
    TimedOut(Waited),
    /// The connection broke, or the stream ended without a status.
    Lost(String),
    /// The server ended the stream with OK.
    Ended,
    /// Something that is not a Galaxy Push hub answered: the HTTP status code and what else was odd.
    NotGrpc {
        /// The HTTP status.
        status: u16,
        /// The content type, empty when there was none.
        content_type: String,
    },
    /// A server status arrived.
    Status(ServerStatus),
    /// The peer broke the contract. The text names how.
    Protocol(&'static str),
    /// A message that cannot be split off: too large for `max_receive_bytes`, or compressed.
    Unsplittable(crate::frame::DeframeError),
    /// The server said goodbye, and nothing more within a second.
    Goodbye,
}

/// A status as a server sent it.
///
/// ```
/// use std::time::Duration;
/// use galaxy_push_core::link::{ServerStatus, code_name};
///
/// let status = ServerStatus::new(8, "").with_reason("HELD_OFF").with_retry_after(Some(Duration::from_secs(60)));
/// assert_eq!((code_name(status.code), status.reason.as_str()), ("RESOURCE_EXHAUSTED", "HELD_OFF"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStatus {
    /// The `google.rpc.Code`; never 0.
    pub code: i32,
    /// For people.
    pub message: String,
    /// The reason of an `ErrorInfo` detail, for example `REPLACED`; empty when there was none.
    pub reason: String,
    /// The delay of a `RetryInfo` detail.
    pub retry_after: Option<Duration>,
}

impl ServerStatus {
    /// A status with this code and message and no details.
    #[must_use]
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), ..Self::default() }
    }

    /// With the reason of an `ErrorInfo` detail.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }

    /// With the delay of a `RetryInfo` detail.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after;
        self
    }
}

impl Failure {
    /// How the next try must wait.
    ///
    /// | failure | cause |
    /// |---|---|
    /// | ABORTED, or `HELD_OFF` | [`Cause::Conflict`]: another process has this gateway id |
    /// | UNAUTHENTICATED, PERMISSION_DENIED, UNIMPLEMENTED, ALREADY_EXISTS, INVALID_ARGUMENT, `RECORDS_FULL` | [`Cause::Refused`] |
    /// | an HTTP status 300 to 499 from what is no hub, but for 408 and 429 | [`Cause::Refused`] |
    /// | everything else | [`Cause::Lost`] |
    #[must_use]
    pub fn cause(&self) -> Cause {
        let status = match self {
            Self::Status(status) => status,
            // Too late, too many and whatever is the server's own fault passes; the rest is a wrong URL.
            Self::NotGrpc { status: 300..=407 | 409..=428 | 430..=499, .. } => return Cause::Refused,
            _ => return Cause::Lost,
        };
        match (status.code, status.reason.as_str()) {
            (code::ABORTED, _) | (code::RESOURCE_EXHAUSTED, "HELD_OFF") => Cause::Conflict,
            (
                code::UNAUTHENTICATED
                | code::PERMISSION_DENIED
                | code::UNIMPLEMENTED
                | code::ALREADY_EXISTS
                | code::INVALID_ARGUMENT,
                _,
            )
            // Room comes back when records end, not when somebody waits.
            | (code::RESOURCE_EXHAUSTED, "RECORDS_FULL") => Cause::Refused,
            _ => Cause::Lost,
        }
    }

    /// What the server asked for, if it did.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status(status) => status.retry_after,
            _ => None,
        }
    }

    /// Whether what was published takes more than the hub's store appends at once: nothing of it was appended.
    #[must_use]
    pub fn is_batch_too_large(&self) -> bool {
        matches!(self, Self::Status(status) if status.reason == "BATCH_TOO_LARGE")
    }

    /// Whether the server could not read the cursor it was given.
    #[must_use]
    pub fn is_cursor_malformed(&self) -> bool {
        matches!(self, Self::Status(s) if s.code == code::INVALID_ARGUMENT && s.reason == "CURSOR_MALFORMED")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "cannot reach the hub: {why}"),
            Self::OtherLog { silent } => write!(
                f,
                "no hub that answers holds the log that is followed, and {silent} do not answer: waiting for those before \
                 going over to another log"
            ),
            Self::Stale => f.write_str("the hub cannot reach its store"),
            Self::TimedOut(Waited::Connect) => f.write_str("the hub did not accept the connection in time"),
            Self::TimedOut(Waited::Welcome) => f.write_str("the hub did not welcome the stream in time"),
            Self::TimedOut(Waited::Sign) => f.write_str("the hub was silent for too long"),
            Self::Lost(why) => write!(f, "the connection broke: {why}"),
            Self::Ended => f.write_str("the hub ended the stream"),
            Self::NotGrpc { status, content_type } => {
                write!(
                    f,
                    "no gRPC server answered (HTTP status {status}, content type {content_type:?}): check the hub's URL"
                )
            }
            Self::Status(status) => status.fmt(f),
            Self::Protocol(why) => write!(f, "the hub broke the contract: {why}"),
            Self::Unsplittable(error) => write!(f, "the hub sent {error}"),
            Self::Goodbye => f.write_str("the hub said goodbye"),
        }
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for ServerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the hub answered {}", code_name(self.code))?;
        if !self.reason.is_empty() {
            write!(f, " {}", self.reason)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

/// The name of a `google.rpc.Code`.
#[must_use]
pub fn code_name(code: i32) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    usize::try_from(code).ok().and_then(|code| NAMES.get(code)).copied().unwrap_or("an unknown code")
}
