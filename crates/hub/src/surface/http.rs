//! The HTTP surface for publishers: CloudEvents and standing records in, positions out.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/events` | one event or a batch, as CloudEvents 1.0: the position of each |
//! | `POST /v1/invalidations`, `POST /v1/memberships` | standing records (`records.rs`): their position |
//! | `GET /v1/head` | the current cursor, to pair with a snapshot of the caller's own state |
//!
//! What is refused is `application/problem+json`, with the reason that gRPC has. The same rules hold as over gRPC, because
//! both call `app/publish.rs`.

pub(crate) mod records;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, Request, State};
use axum::response::IntoResponse as _;
use galaxy_push_proto::error::PROBLEM_MEDIA_TYPE;
use galaxy_push_proto::validate::REQUEST_BYTES_MAX;
use galaxy_push_proto::{Failure, Reason, cloudevents};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tonic::Code;

use crate::app::publish::{self, Published, check_namespace};
use crate::app::shared::Shared;
use crate::state::access::Caller;
use crate::state::in_flight::Permit;
use crate::surface::body::{self, DRAIN_BYTES, DRAIN_REST_BYTES, Encoding, drain_body};
use crate::surface::grpc;

/// The field of a request that is compressed in another way.
const CONTENT_ENCODING: &str = "content-encoding";

/// What every route takes in its query.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scope {
    #[serde(default)]
    namespace: String,
}

type ScopeQuery = Result<Query<Scope>, QueryRejection>;

/// The answer to published events, in their order.
#[derive(Serialize)]
struct Results {
    results: Vec<ResultJson>,
}

/// What became of one event.
#[derive(Serialize)]
struct ResultJson {
    cursor: String,
    id: String,
    duplicate: bool,
}

/// The answer to `GET /v1/head`.
#[derive(Serialize)]
struct HeadJson {
    cursor: String,
    oldest: String,
    epoch: String,
    /// The store cannot be reached: the log may go on elsewhere.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
}

/// `POST /v1/events`: one event or a batch, as CloudEvents 1.0.
pub(crate) async fn events(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    scope: ScopeQuery,
    request: Request,
) -> Response<Body> {
    match publish(&shared, &caller, scope, request).await {
        Ok(published) => {
            let results = published.into_iter().map(|each| ResultJson {
                cursor: each.cursor_text(),
                id: each.id,
                duplicate: each.duplicate,
            });
            Json(Results { results: results.collect() }).into_response()
        }
        Err(failure) => problem(&failure),
    }
}

/// `GET /v1/head`: the current cursor, to pair with a snapshot of the caller's own state.
pub(crate) async fn head(State(shared): State<Arc<Shared>>, scope: ScopeQuery) -> Response<Body> {
    if let Err(failure) = check_scope(scope) {
        return problem(&failure);
    }
    let (head, stale) = match publish::head_or_held(&shared).await {
        Ok(head) => head,
        Err(failure) => return problem(&failure),
    };
    let json = HeadJson {
        cursor: head.to_string(),
        oldest: shared.log.head().oldest.to_string(),
        epoch: head.epoch.to_string(),
        stale,
    };
    ([(header::CACHE_CONTROL, "no-store")], Json(json)).into_response()
}

/// Whatever has no route.
pub(crate) async fn unknown(request: Request) -> Response<Body> {
    if grpc::is_grpc(request.headers()) {
        return grpc::refusal(&grpc::unimplemented(
            "no such method here: this is a hub, see its server reflection",
        ));
    }
    let message = "nothing here: POST /v1/events, /v1/invalidations and /v1/memberships publish, GET /v1/head tells \
                   the current cursor";
    problem(&Failure::without_reason(Code::NotFound, message))
}

/// A route that was asked with another method.
pub(crate) async fn wrong_method(request: Request) -> Response<Body> {
    let message = format!("{} is not for {}: see the Allow header", request.method(), request.uri().path());
    problem(&Failure::without_reason(Code::InvalidArgument, message).http_status(405))
}

/// Reads CloudEvents in one of their three modes and publishes them. A refusal for what they hold is charged to the
/// publisher's rate.
async fn publish(
    shared: &Shared,
    caller: &Caller,
    scope: ScopeQuery,
    request: Request,
) -> Result<Vec<Published>, Failure> {
    let refused = |failure: &Failure| shared.metrics.refused(failure);
    let (head, body) = request.into_parts();
    let checked = check_scope(scope).and_then(|()| cloudevents::mode(&head.headers).map(drop));
    let read = read_checked(shared, caller, checked, &head, body).await;
    let (body, permit) = read.inspect_err(refused)?;
    let bytes = body.len();
    let published = async {
        let mut events = cloudevents::from_http(&head.headers, body).inspect_err(refused)?;
        publish::publish(shared, caller, permit, &mut events).await
    };
    published.await.inspect_err(|failure| caller.count_refused(failure, bytes, shared.clock.now().mono))
}

/// The query names no namespace, or the default one, and nothing else.
fn check_scope(scope: ScopeQuery) -> Result<(), Failure> {
    let Query(Scope { namespace }) =
        scope.map_err(|error| Failure::new(Reason::RequestInvalid, error.body_text()).field("query"))?;
    check_namespace(&namespace)
}

/// An answer that does not wait for the body is followed by a reset over HTTP/2, which is as it should be, but curl before
/// 8 then shows a broken stream and not the answer.
pub(crate) async fn drain_http2_body(version: Version, body: Body) {
    if version == Version::HTTP_2 {
        drain_body(body, DRAIN_BYTES).await;
    }
}

/// Reads a body, unless its request is refused anyway, and returns it with its permit.
async fn read_checked(
    shared: &Shared,
    caller: &Caller,
    checked: Result<(), Failure>,
    head: &Parts,
    body: Body,
) -> Result<(bytes::Bytes, Permit), Failure> {
    if let Err(failure) = caller.check_rate(shared.clock.now().mono) {
        // Thrown away as it comes, so that the connection is good for the next try.
        drain_body(body, DRAIN_REST_BYTES).await;
        return Err(failure);
    }
    let encoding = match checked.and_then(|()| encoding(&head.headers)) {
        Ok(encoding) => encoding,
        Err(failure) => {
            drain_http2_body(head.version, body).await;
            return Err(failure);
        }
    };
    let mut permit = shared.publishes_in_flight.permit(shared.access.get().quota_key(caller));
    let read = body::read_plain(body, encoding, REQUEST_BYTES_MAX, body::WITHIN, &mut permit).await;
    let read = read.map_err(|error| error.failure(REQUEST_BYTES_MAX, body::WITHIN));
    let refused = |failure: &Failure| caller.count_refused(failure, permit.bytes(), shared.clock.now().mono);
    Ok((read.inspect_err(refused)?, permit))
}

/// How a body is compressed.
///
/// # Errors
///
/// HTTP status 415: otherwise than with gzip alone.
fn encoding(headers: &HeaderMap) -> Result<Encoding, Failure> {
    let values = headers.get_all(header::CONTENT_ENCODING).iter();
    let names: Vec<_> = values.map(|value| value.to_str().unwrap_or("?")).collect();
    Encoding::of(names.iter().flat_map(|names| names.split(','))).ok_or_else(|| {
        let names = names.join(", ");
        let message = format!("the Content-Encoding {names} is not taken: send gzip, or the body as it is");
        Failure::new(Reason::RequestInvalid, message).field(CONTENT_ENCODING).http_status(415)
    })
}

/// The response that tells a failure.
pub(crate) fn problem(failure: &Failure) -> Response<Body> {
    let problem = failure.problem();
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let media_type = [(header::CONTENT_TYPE, PROBLEM_MEDIA_TYPE), (header::CACHE_CONTROL, "no-store")];
    let mut response = (status, media_type, problem.to_json()).into_response();
    if status == StatusCode::UNAUTHORIZED {
        let how = HeaderValue::from_static("Bearer realm=\"galaxy-push hub\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, how);
    }
    if failure.field.as_deref() == Some(CONTENT_ENCODING) {
        // Which one is (RFC 9110, section 12.5.3).
        response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if let Some(wait) = problem.retry_after {
        // The header counts whole seconds; too late is better than too early.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
