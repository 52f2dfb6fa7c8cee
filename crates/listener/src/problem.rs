//! A refusal over HTTP: RFC 9457 `application/problem+json`. The only place that writes one.
//!
//! Called by hub and gateway for whatever they refuse, with the document that the contract defines, and by this crate's own
//! refusals, which know no contract. It decides about headers, not about what is refused.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};

/// The media type of what [`problem`] answers.
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";

/// The answer with this document as its body. It is never stored by a cache.
///
/// `retry_after` becomes the header of that name, in whole seconds, rounded up: late is better than early.
///
/// ```
/// # use std::time::Duration;
/// # use galaxy_push_listener::problem;
/// for (wait, header) in [(1_200_000, "2"), (200, "1")] {
///     let wait = Some(Duration::from_micros(wait));
///     let answer = problem(http::StatusCode::SERVICE_UNAVAILABLE, "{}", wait);
///     assert_eq!(answer.headers()["retry-after"], header);
/// }
/// ```
#[must_use]
pub fn problem(status: StatusCode, document: impl Into<Body>, retry_after: Option<Duration>) -> Response {
    let mut response = (status, document.into()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_MEDIA_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(wait) = retry_after {
        let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The document of a refusal that has no reason of the contract. `detail` stands in it as it is: no quotes, no backslashes.
pub(crate) fn blank(status: StatusCode, detail: &str) -> String {
    let (code, title) = (status.as_u16(), status.canonical_reason().unwrap_or("Error"));
    format!(r#"{{"type":"about:blank","title":"{title}","status":{code},"detail":"{detail}"}}"#)
}
