//! The refusal of a request on a reserved slot that is not for it: 503, or UNAVAILABLE over gRPC, and come back in a moment.
//!
//! Called by `connection.rs`. Over HTTP/1 the connection ends with it.

use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, Version, header};

const NO_PLACE: &str = "every place on this listener is taken: come back in a moment";

/// The connection ends with it: its slot is reserved for others.
pub(super) fn refusal(asked: &Parts) -> Response {
    let mut refusal = no_slot(&asked.headers);
    if asked.version < Version::HTTP_2 {
        refusal.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    refusal
}

fn no_slot(asked: &HeaderMap) -> Response {
    let content_type = asked.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    if content_type.starts_with(b"application/grpc") {
        let headers = [
            ("content-type", "application/grpc"),
            ("grpc-status", "14"),
            ("grpc-message", NO_PLACE),
            ("x-content-type-options", "nosniff"),
        ];
        return headers.into_response();
    }
    let problem = format!(
        r#"{{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"{NO_PLACE}"}}"#
    );
    let headers = [
        (header::CONTENT_TYPE, "application/problem+json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::RETRY_AFTER, "1"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (StatusCode::SERVICE_UNAVAILABLE, headers, problem).into_response()
}
