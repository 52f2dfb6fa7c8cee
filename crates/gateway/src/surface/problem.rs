//! A refusal as HTTP and WebSocket say it: problem+json with its status and headers, or a close code with its reason.
//!
//! State and app return a [`Refusal`]; tokens and requests fail with a [`Failure`] of the contract. Here alone the first
//! becomes the second, and a reason for closing becomes a code. The sentences are for people, and say what to do.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use galaxy_push_core::cursor::MalformedCursor;
use galaxy_push_listener::ConnectionHandle;
use galaxy_push_proto::error::PROBLEM_MEDIA_TYPE;
use galaxy_push_proto::{Failure, Reason};
use http::{HeaderValue, StatusCode, header};
use tonic::Code;

use crate::app::metrics::{Metrics, refusal_label};
use crate::state::close::CloseReason;
use crate::state::refusal::{Limit, Refusal};

/// The longest reason a WebSocket close frame carries, in bytes (RFC 6455, section 5.5).
const CLOSE_REASON_BYTES_MAX: usize = 123;

/// The codes a WebSocket is closed with.
pub(crate) mod close {
    pub(crate) const BAD_REQUEST: u16 = 4400;
    pub(crate) const UNAUTHENTICATED: u16 = 4401;
    pub(crate) const NOT_GRANTED: u16 = 4403;
    pub(crate) const TOO_MANY: u16 = 4429;
    pub(crate) const DRAINING: u16 = 1012;
    pub(crate) const LATER: u16 = 1013;
}

/// A request that breaks a rule.
pub(crate) fn bad_request(message: impl Into<String>) -> Failure {
    Failure::new(Reason::RequestInvalid, message)
}

/// How soon somebody may try again who came while the gateway was not ready, or to a gateway that ends.
const SOON: Duration = Duration::from_secs(1);

/// How soon somebody may try again who has as many connections as are allowed.
const FULL_RETRY: Duration = Duration::from_secs(5);

/// How soon a place may be free again.
const PLACE_RETRY: Duration = Duration::from_secs(1);

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let too_many = |message: &str, wait: Duration| {
            Self::new(Reason::Overloaded, message).code(Code::ResourceExhausted).retry_after(wait)
        };
        match refusal {
            Refusal::Draining => {
                let message = "this gateway is shutting down: connect again, another one will answer";
                Self::new(Reason::Draining, message).retry_after(SOON)
            }
            Refusal::NotReady => {
                let message =
                    "this gateway has not caught up with its hub yet: try again soon, or at another gateway";
                Self::new(Reason::Overloaded, message).retry_after(SOON)
            }
            Refusal::UnknownNamespace => {
                let message = "there is no such namespace: leave `namespace` out";
                Self::without_reason(Code::NotFound, message).field("namespace")
            }
            Refusal::CursorMalformed => {
                Self::new(Reason::CursorMalformed, MalformedCursor.to_string()).field("cursor")
            }
            Refusal::HubUnreachable => {
                let message = "the cursor is newer than what this gateway has, and the hub does not answer \
                               whether it exists: try again, or at another gateway";
                Self::new(Reason::Overloaded, message).retry_after(SOON)
            }
            Refusal::SessionInvalidated(why) => session_ended(&why),
            Refusal::TooManyTopics { most } => {
                let message = format!("a connection may ask for at most {most} topics: open another one");
                Self::new(Reason::RequestInvalid, message).field("topics")
            }
            Refusal::TopicInvalid(invalid) => {
                let message = format!("a topic's name is not valid: {invalid}");
                Self::new(Reason::RecipientInvalid, message).field("topics")
            }
            Refusal::TopicNotGranted => {
                let message = "the token does not grant a topic that was asked for: ask for fewer topics, or present \
                               a token whose `topics` admit it";
                Self::new(Reason::NotGranted, message).field("topics")
            }
            Refusal::OtherIdentity => {
                let message = "the newer token is for another user or session: open another connection";
                Self::new(Reason::NotGranted, message)
            }
            Refusal::Full(limit) => full(limit),
            Refusal::ResumesTooOften { wait } => {
                too_many("this user resumes too often (--max-user-resumes)", wait)
            }
            Refusal::ReplaysTooMuch { wait } => {
                too_many("this user reconnects and replays more than is one user's part", wait)
            }
        }
    }
}

/// A limit of connections is reached.
fn full(limit: Limit) -> Failure {
    let message = match limit {
        Limit::Gateway => {
            "this gateway has as many connections as it may (--max-connections): try another one, or later"
        }
        Limit::User => {
            "this user has as many connections as one may (--max-user-connections): close another one"
        }
        Limit::Address => {
            "this address has as many connections as one may (--max-address-connections): close another one"
        }
    };
    let failure = Failure::new(Reason::Overloaded, message).retry_after(FULL_RETRY);
    if limit == Limit::Gateway { failure } else { failure.code(Code::ResourceExhausted) }
}

/// Moves a peer that has shown who it is to the listener's places for those.
///
/// # Errors
///
/// All of them are taken.
pub(crate) fn admit_peer(peer: &ConnectionHandle) -> Result<(), Failure> {
    let full = |full: galaxy_push_listener::NoSlot| Failure::new(Reason::Overloaded, full.to_string());
    peer.authenticate().map_err(|taken| full(taken).retry_after(PLACE_RETRY))
}

/// A peer that had not said who it is lost its place to others.
pub(crate) fn evicted() -> Failure {
    let message = "no `connect` came while others waited for a place: send it at once, or come back later";
    Failure::new(Reason::Overloaded, message).retry_after(PLACE_RETRY)
}

/// Somebody ended the session that a token belongs to.
fn session_ended(why: &str) -> Failure {
    Failure::new(Reason::NotGranted, format!("{}: sign in again", session_ended_text(why)))
        .code(Code::Unauthenticated)
}

/// How every message about an ended session begins. What follows is a publisher's free text.
const SESSION_ENDED: &str = "the session was ended";

fn session_ended_text(why: &str) -> String {
    if why.is_empty() { SESSION_ENDED.to_owned() } else { format!("{SESSION_ENDED} ({why})") }
}

/// Why somebody was not believed, in this product's own words, of which there are few. Of any other refusal: nothing,
/// because it names users and topics, which are for whoever asks for `debug`.
fn log_text(failure: &Failure) -> &str {
    match &*failure.message {
        _ if failure.code != Code::Unauthenticated => "",
        ended if ended.starts_with(SESSION_ENDED) => SESSION_ENDED,
        message => message,
    }
}

impl Metrics {
    /// Counts a refusal, and says it in the log unless many like it were said just before.
    pub(crate) fn refused(&self, failure: &Failure) {
        let (reason, why) = (refusal_label(failure.reason), log_text(failure));
        match self.count_refusal(failure.reason, why) {
            Some(left_out) => tracing::info!(reason, code = ?failure.code, why, left_out, "users refused"),
            None => tracing::debug!(reason, why = failure.message, "refused"),
        }
    }
}

/// The failure as an HTTP answer.
pub(crate) fn response(failure: &Failure) -> Response {
    let problem = failure.problem();
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, problem.to_json()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_MEDIA_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(wait) = problem.retry_after {
        // Whole seconds, and never sooner than asked.
        headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_millis().div_ceil(1_000) as u64));
    }
    response
}

/// The code that closes a WebSocket for this failure.
pub(crate) fn close_code(failure: &Failure) -> u16 {
    match (failure.reason, failure.code) {
        (Some(Reason::Draining), _) => close::DRAINING,
        (_, Code::Unauthenticated) => close::UNAUTHENTICATED,
        (_, Code::PermissionDenied) => close::NOT_GRANTED,
        (_, Code::ResourceExhausted) => close::TOO_MANY,
        (_, Code::Unavailable | Code::DeadlineExceeded) => close::LATER,
        _ => close::BAD_REQUEST,
    }
}

/// What is said beside the code: the contract's reason, then as much of the message as fits.
pub(crate) fn close_reason(failure: &Failure) -> String {
    fitting(match failure.reason {
        Some(reason) => format!("{reason}: {}", failure.message),
        None => failure.message.clone(),
    })
}

/// As much of a close frame's reason as fits.
fn fitting(mut text: String) -> String {
    let end = (0..=CLOSE_REASON_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or_default());
    text
}

impl CloseReason {
    /// The code that closes a WebSocket for this reason, and what is said beside it.
    pub(crate) fn close_code(&self) -> (u16, String) {
        let (code, reason) = match self {
            Self::Draining(_) => (close::DRAINING, "draining: connect again, another gateway will answer"),
            Self::TokenExpired => (close::UNAUTHENTICATED, "the token has ended: connect with a new one"),
            Self::SessionInvalidated(why) => {
                return (
                    close::UNAUTHENTICATED,
                    fitting(format!("{}: sign in again", session_ended_text(why))),
                );
            }
            Self::TooSlow => (close::LATER, "too slow: come back later with the last cursor"),
        };
        (code, reason.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fault: whoever had a revocation's reason, which may name a user, wrote it into the log, a line for each.
    #[test]
    fn what_is_told_of_a_refusal_is_never_what_somebody_else_wrote() {
        assert_eq!(log_text(&session_ended("ann stole 7 cookies")), "the session was ended");
        assert_eq!(log_text(&session_ended("")), "the session was ended");
        let named = Failure::new(Reason::NotGranted, "ann may not read orders.7");
        assert_eq!(log_text(&named), "");
        let not_believed =
            Failure::new(Reason::NotGranted, "the token has expired").code(Code::Unauthenticated);
        assert_eq!(log_text(&not_believed), "the token has expired");
    }

    #[test]
    fn every_refusal_has_a_status_and_a_close_code() {
        let not_granted = || Failure::new(Reason::NotGranted, "no");
        for (failure, status, code) in [
            (bad_request("x"), 400, 4400),
            (Failure::new(Reason::CursorMalformed, "x"), 400, 4400),
            (Failure::new(Reason::RecipientInvalid, "x"), 400, 4400),
            (not_granted().code(Code::Unauthenticated), 401, 4401),
            (not_granted(), 403, 4403),
            (Failure::new(Reason::HeldOff, "x"), 429, 4429),
            (Failure::new(Reason::Overloaded, "x"), 503, 1013),
            (Refusal::Draining.into(), 503, 1012),
            (Failure::without_reason(Code::NotFound, "x"), 404, 4400),
        ] {
            assert_eq!(
                (response(&failure).status().as_u16(), close_code(&failure)),
                (status, code),
                "{failure:?}"
            );
        }
        let unauthenticated = response(&not_granted().code(Code::Unauthenticated));
        assert_eq!(unauthenticated.headers()[header::WWW_AUTHENTICATE], "Bearer");
        assert_eq!(response(&Refusal::Draining.into()).headers()[header::RETRY_AFTER], "1");
    }

    #[test]
    fn a_close_reason_fits_and_stays_text() {
        let reason = close_reason(&bad_request("ä".repeat(200)));
        assert!(reason.starts_with("REQUEST_INVALID: ää") && reason.len() <= CLOSE_REASON_BYTES_MAX);
        assert!(reason.len() > CLOSE_REASON_BYTES_MAX - 2);
    }
}
