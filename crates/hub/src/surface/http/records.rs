//! Standing records over HTTP: their JSON form in, their position out.
//!
//! The router calls the two handlers. A body must say that it is JSON: a form on some web page can send text to a hub on a
//! developer's machine, but not JSON without the browser asking first.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::response::IntoResponse as _;
use galaxy_push_proto::{Failure, Invalid, Reason, json};
use http::{HeaderMap, HeaderValue, Response, header};
use serde::Serialize;

use super::{ScopeQuery, check_scope, problem, read_checked};
use crate::app::publish::{self, RecordId, Recorded};
use crate::app::shared::Shared;
use crate::state::access::Caller;
use crate::state::in_flight::Permit;

/// The answer for standing records.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RecordJson {
    cursor: String,
    duplicate: bool,
    /// Tokens issued before this are void.
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_before: Option<String>,
}

/// `POST /v1/invalidations`: one session invalidation.
pub(crate) async fn invalidations(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    scope: ScopeQuery,
    request: Request,
) -> Response<Body> {
    let appended = async {
        let (body, permit) = body(&shared, &caller, scope, request).await?;
        let request = parse(&shared, &caller, &body, json::parse_invalidation)?;
        let (id, record) = (RecordId { id: request.id, source: request.source }, request.invalidation);
        let recorded = publish::invalidate(&shared, &caller, permit, record.unwrap_or_default(), &id).await;
        recorded.inspect_err(|failure| count(&shared, &caller, failure, &body))
    };
    answer(appended.await)
}

/// `POST /v1/memberships`: one membership, or several that are appended together.
pub(crate) async fn memberships(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    scope: ScopeQuery,
    request: Request,
) -> Response<Body> {
    let appended = async {
        let (body, permit) = body(&shared, &caller, scope, request).await?;
        let request = parse(&shared, &caller, &body, json::parse_memberships)?;
        let id = RecordId { id: request.id, source: request.source };
        let recorded = publish::set_memberships(&shared, &caller, permit, request.memberships, &id).await;
        recorded.inspect_err(|failure| count(&shared, &caller, failure, &body))
    };
    answer(appended.await)
}

/// Reads the body of a request for standing records.
async fn body(
    shared: &Shared,
    caller: &Caller,
    scope: ScopeQuery,
    request: Request,
) -> Result<(bytes::Bytes, Permit), Failure> {
    let (head, body) = request.into_parts();
    let checked = check_scope(scope).and_then(|()| check_json(&head.headers));
    let read = read_checked(shared, caller, checked, &head, body).await;
    read.map_err(|failure| refuse(shared, failure))
}

/// What the body says. One that says nothing of use counts as refused, against its publisher's rate too.
fn parse<T>(
    shared: &Shared,
    caller: &Caller,
    body: &[u8],
    parse: fn(&[u8]) -> Result<T, Invalid>,
) -> Result<T, Failure> {
    let parsed = parse(body).map_err(|invalid| refuse(shared, invalid.into()));
    parsed.inspect_err(|failure| count(shared, caller, failure, body))
}

/// Charges a refused request to its publisher's rate.
fn count(shared: &Shared, caller: &Caller, failure: &Failure, body: &[u8]) {
    caller.count_refused(failure, body.len(), shared.clock.now().mono);
}

/// A form on some web page can send texts, but not JSON without the browser asking first.
fn check_json(headers: &HeaderMap) -> Result<(), Failure> {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if essence.eq_ignore_ascii_case(b"application/json") {
        return Ok(());
    }
    let message = "standing records are JSON: send Content-Type application/json";
    Err(Failure::new(Reason::RequestInvalid, message).field("content-type").http_status(415))
}

/// Counts a refusal that `app/publish.rs` does not see.
fn refuse(shared: &Shared, failure: Failure) -> Failure {
    shared.metrics.refused(&failure);
    failure
}

/// Renders what became of the request.
fn answer(appended: Result<Recorded, Failure>) -> Response<Body> {
    match appended {
        Ok(recorded) => {
            let (cursor, issued_before) = (recorded.cursor.to_string(), recorded.issued_before_text());
            Json(RecordJson { cursor, duplicate: recorded.duplicate, issued_before }).into_response()
        }
        Err(failure) => problem(&failure),
    }
}
