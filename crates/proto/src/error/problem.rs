//! A failure on an HTTP surface: RFC 9457 `application/problem+json`.

use std::time::Duration;

use serde::Serialize;
use tonic::Code;

use super::{Failure, Reason};
use crate::time;

/// What an HTTP caller is told about a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// Why, for programs.
    pub reason: Option<Reason>,
    /// What happened and what to do, for people.
    pub detail: String,
    /// The part of the request that is at fault.
    pub field: Option<String>,
    /// How long to wait before trying again; belongs into the `Retry-After` header, too.
    pub retry_after: Option<Duration>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProblemJson<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<String>,
}

impl Problem {
    pub(super) fn of(failure: &Failure) -> Self {
        Self {
            status: failure.http_status.unwrap_or_else(|| status(failure)),
            reason: failure.reason,
            detail: failure.message.clone(),
            field: failure.field.clone(),
            retry_after: failure.retry_after,
        }
    }

    /// The problem document: `type`, `title`, `status`, `detail`, and as they apply `reason`, `field` and `retryAfter`
    /// (a duration such as "5s").
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let json = ProblemJson {
            r#type: match self.reason {
                Some(reason) => format!("urn:push.v1:{reason}"),
                None => "about:blank".to_owned(),
            },
            title: self.title(),
            status: self.status,
            detail: &self.detail,
            reason: self.reason.map(Reason::as_str),
            field: self.field.as_deref(),
            retry_after: self.retry_after.and_then(|wait| time::duration_text(&time::proto_duration(wait))),
        };
        serde_json::to_vec(&json).unwrap_or_default() // strings and numbers always have a JSON form
    }

    /// A short text that is the same for every problem of the same type.
    #[must_use]
    pub fn title(&self) -> &'static str {
        let Some(reason) = self.reason else {
            let status = http::StatusCode::from_u16(self.status).ok();
            return status.and_then(|status| status.canonical_reason()).unwrap_or("Error");
        };
        match reason {
            Reason::Replaced => "Replaced by a newer subscription",
            Reason::HeldOff => "Held off",
            Reason::StaleAttempt => "Stale attempt",
            Reason::CursorMalformed => "Malformed cursor",
            Reason::EventTooLarge => "Event too large",
            Reason::BatchTooLarge => "Batch too large",
            Reason::RecipientInvalid => "Invalid recipient",
            Reason::NotGranted => "Not granted",
            Reason::IdReused => "Id used for another content",
            Reason::RecordsFull => "No room for standing records",
            Reason::Overloaded => "Overloaded",
            Reason::Draining => "Shutting down",
            Reason::StoreUnavailable => "Store unavailable",
            Reason::RequestInvalid => "Invalid request",
        }
    }
}

/// The HTTP status of a code; 413 is the one that only the reason tells.
fn status(failure: &Failure) -> u16 {
    if matches!(failure.reason, Some(Reason::EventTooLarge | Reason::BatchTooLarge)) {
        return 413;
    }
    match failure.code {
        Code::Ok => 200,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::ResourceExhausted => 429,
        Code::Cancelled => 499,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 504,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
    }
}
