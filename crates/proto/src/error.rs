//! One failure, in the form each surface tells it: a gRPC status with `google.rpc` details, or an HTTP problem.
//!
//! Hub and gateway build a [`Failure`] where something is refused; clients read it back from the status. What a
//! caller does about it (retry, hold off, give up) is decided elsewhere.

mod details;
mod problem;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use tonic::{Code, Status};

pub use problem::Problem;

/// The `ErrorInfo` domain of every reason.
pub const DOMAIN: &str = "push.v1";

/// Metadata of [`Reason::Replaced`], [`Reason::HeldOff`] and [`Reason::StaleAttempt`]: the instance id of the subscription
/// that has the gateway id.
pub const RIVAL_INSTANCE: &str = "instance";
/// Metadata of the same: the network address of that subscription.
pub const RIVAL_PEER: &str = "peer";
/// Metadata of [`Reason::BatchTooLarge`]: how many bytes a batch may take, what lies around its events included.
pub const BYTES_ALLOWED: &str = "bytes_allowed";

/// Why something was refused, for programs: the `ErrorInfo` reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// Another instance subscribed under the same gateway id.
    Replaced,
    /// Two instances keep taking one gateway id from each other: wait.
    HeldOff,
    /// A newer attempt of the same instance has the stream already.
    StaleAttempt,
    /// The cursor is no cursor.
    CursorMalformed,
    /// The event's data is larger than allowed.
    EventTooLarge,
    /// The events together are larger than what the store appends at once: send them in smaller batches. Metadata:
    /// [`BYTES_ALLOWED`].
    BatchTooLarge,
    /// A recipient breaks the rules, or there are none or too many.
    RecipientInvalid,
    /// The credential does not allow this, or (with code UNAUTHENTICATED) there is none.
    NotGranted,
    /// Another content was published with this id and source.
    IdReused,
    /// There is no room for more standing records: waiting does not help.
    RecordsFull,
    /// There is too much to do: come back later.
    Overloaded,
    /// The process is shutting down: come back, another one will answer.
    Draining,
    /// The store does not take or give events at present.
    StoreUnavailable,
    /// Any other rule is broken; the failure names the field.
    RequestInvalid,
}

impl Reason {
    /// Every reason, in the contract's order.
    pub const ALL: [Self; 14] = [
        Self::Replaced,
        Self::HeldOff,
        Self::StaleAttempt,
        Self::CursorMalformed,
        Self::EventTooLarge,
        Self::BatchTooLarge,
        Self::RecipientInvalid,
        Self::NotGranted,
        Self::IdReused,
        Self::RecordsFull,
        Self::Overloaded,
        Self::Draining,
        Self::StoreUnavailable,
        Self::RequestInvalid,
    ];

    /// The reason as `ErrorInfo` has it, such as `EVENT_TOO_LARGE`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replaced => "REPLACED",
            Self::HeldOff => "HELD_OFF",
            Self::StaleAttempt => "STALE_ATTEMPT",
            Self::CursorMalformed => "CURSOR_MALFORMED",
            Self::EventTooLarge => "EVENT_TOO_LARGE",
            Self::BatchTooLarge => "BATCH_TOO_LARGE",
            Self::RecipientInvalid => "RECIPIENT_INVALID",
            Self::NotGranted => "NOT_GRANTED",
            Self::IdReused => "ID_REUSED",
            Self::RecordsFull => "RECORDS_FULL",
            Self::Overloaded => "OVERLOADED",
            Self::Draining => "DRAINING",
            Self::StoreUnavailable => "STORE_UNAVAILABLE",
            Self::RequestInvalid => "REQUEST_INVALID",
        }
    }

    /// The status code a failure of this reason has unless told otherwise.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::Replaced | Self::StaleAttempt => Code::Aborted,
            Self::HeldOff | Self::RecordsFull => Code::ResourceExhausted,
            Self::CursorMalformed
            | Self::EventTooLarge
            | Self::BatchTooLarge
            | Self::RecipientInvalid
            | Self::RequestInvalid => Code::InvalidArgument,
            Self::NotGranted => Code::PermissionDenied,
            Self::IdReused => Code::AlreadyExists,
            Self::Overloaded | Self::Draining | Self::StoreUnavailable => Code::Unavailable,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no known [`Reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a reason of push.v1")]
pub struct UnknownReason;

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text).ok_or(UnknownReason)
    }
}

/// A refusal or failure with everything a caller is told about it.
///
/// Build one with [`new`](Self::new) and the setters, hand it out with [`status`](Self::status) or
/// [`problem`](Self::problem), and read a peer's back with [`of`](Self::of).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct Failure {
    /// The gRPC status code.
    pub code: Code,
    /// Why, for programs. `None`: a failure without a reason of this contract, such as one of the transport.
    pub reason: Option<Reason>,
    /// What happened and what to do, for people.
    pub message: String,
    /// The field of the request that is at fault, such as `events[3].to[0]`.
    pub field: Option<String>,
    /// How long to wait before trying again, where waiting helps.
    pub retry_after: Option<Duration>,
    /// More about it, by name.
    pub metadata: BTreeMap<String, String>,
    http_status: Option<u16>,
}

impl Failure {
    /// A failure with the reason's usual code.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason: Some(reason), ..Self::without_reason(reason.code(), message) }
    }

    /// A failure for which the contract has no reason.
    #[must_use]
    pub fn without_reason(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: None,
            message: message.into(),
            field: None,
            retry_after: None,
            metadata: BTreeMap::new(),
            http_status: None,
        }
    }

    /// The end of a stream whose gateway id another instance took over.
    #[must_use]
    pub fn replaced(rival_instance: &str, rival_peer: &str) -> Self {
        let message = format!(
            "another instance subscribed under the same gateway id, {}: give each gateway an id of its own",
            who(rival_instance, rival_peer)
        );
        Self::new(Reason::Replaced, message)
            .metadata(RIVAL_INSTANCE, rival_instance)
            .metadata(RIVAL_PEER, rival_peer)
    }

    /// Sets another code than the reason's usual one.
    #[must_use]
    pub fn code(mut self, code: Code) -> Self {
        self.code = code;
        self
    }

    /// Names the field at fault.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Says how long to wait.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Adds one named detail.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// Sets the HTTP status where the code maps to a less exact one, such as 415.
    #[must_use]
    pub fn http_status(mut self, status: u16) -> Self {
        self.http_status = Some(status);
        self
    }

    /// The failure as a gRPC status with `ErrorInfo`, `BadRequest` and `RetryInfo` details as they apply.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::with_details(self.code, &self.message, details::encode(self))
    }

    /// Reads what a peer's status tells. Details that are missing, foreign or malformed are left out.
    #[must_use]
    pub fn of(status: &Status) -> Self {
        details::decode(status)
    }

    /// The failure as an HTTP problem.
    #[must_use]
    pub fn problem(&self) -> Problem {
        Problem::of(self)
    }
}

/// An instance and its network address, for people: old clients log nothing but the message.
#[must_use]
pub fn who(instance: &str, peer: &str) -> String {
    match instance {
        "" => format!("a client without an instance id at {peer}"),
        instance => format!("{instance:?} at {peer}"),
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        failure.status()
    }
}
