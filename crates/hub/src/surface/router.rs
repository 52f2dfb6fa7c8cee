//! Everything the hub serves, on one router: gRPC by path, HTTP under `/v1`.
//!
//! ```text
//! /v1/events  /v1/head  /v1/invalidations  /v1/memberships    http.rs, http/records.rs
//! /push.v1.Push/…  /push.v1.Publisher/…                       push.rs, publisher.rs
//! /grpc.health.v1.Health/…                                    health.rs
//! /grpc.reflection.v1…  /grpc.reflection.v1alpha…             the contract, for tools
//! anything else                                               404, or UNIMPLEMENTED over gRPC
//! ```
//!
//! One layer before all of it authorizes what the services do not authorize themselves.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use futures_util::StreamExt as _;
use galaxy_push_proto::FILE_DESCRIPTOR_SET;
use http_body_util::BodyDataStream;
use tokio::time::sleep;
use tonic_reflection::server::Builder;

use crate::app::drain;
use crate::app::shared::Shared;
use crate::surface::authorize;
use crate::surface::body::{self, Deadline, Messages};
use crate::surface::grpc;
use crate::surface::health;
use crate::surface::http;
use crate::surface::publisher::PublisherService;
use crate::surface::push::PushService;

/// The largest question of server reflection, in bytes: it names one thing.
const REFLECTION_BYTES_MAX: usize = 16 << 10;

/// How long a question may take to arrive during a drain: health is asked about until the end.
const ASKED_WITHIN: Duration = Duration::from_millis(500);

/// Assembles the routes. Later layers run earlier: authorization is the last one, so it comes before everything.
pub(crate) fn router(shared: &Arc<Shared>) -> Router {
    let app = Router::new()
        .route("/v1/events", post(http::events))
        .route("/v1/head", get(http::head))
        .route("/v1/invalidations", post(http::records::invalidations))
        .route("/v1/memberships", post(http::records::memberships))
        .with_state(shared.clone())
        .route_service("/push.v1.Push/{method}", PushService::new(shared.clone()))
        .route_service("/push.v1.Publisher/{method}", PublisherService::new(shared.clone()));
    let about = Router::new()
        .route_service("/grpc.health.v1.Health/{method}", health::Service::server(shared.clone()));
    let about = with_reflection(about).layer(from_fn_with_state(shared.clone(), ask_until_drain));
    app.merge(about)
        .fallback(http::unknown)
        .method_not_allowed_fallback(http::wrong_method)
        .layer(from_fn_with_state(shared.clone(), authorize::guard))
}

/// Reflection in both versions, for the services that are served here and no others of the contract.
fn with_reflection(app: Router) -> Router {
    let builder = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name("push.v1.Push")
            .with_service_name("push.v1.Publisher")
            .with_service_name("grpc.health.v1.Health")
    };
    match (builder().build_v1(), builder().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => app
            .route_service(
                "/grpc.reflection.v1.ServerReflection/{method}",
                v1.max_decoding_message_size(REFLECTION_BYTES_MAX),
            )
            .route_service(
                "/grpc.reflection.v1alpha.ServerReflection/{method}",
                v1alpha.max_decoding_message_size(REFLECTION_BYTES_MAX),
            ),
        (Err(error), _) | (_, Err(error)) => {
            // Both sets are part of the build and a test reads them; without reflection everything else still works.
            tracing::error!(%error, "no server reflection: a descriptor set of this build cannot be read");
            app
        }
    }
}

/// Bounds what is asked, and ends it soon after a drain begins, and with it the answers. Tools keep a reflection stream for as long as they run,
/// anybody may begin to ask about health and never finish, and the end of a connection waits for them.
async fn ask_until_drain(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let encoding = match grpc::remove_encoding(request.headers_mut()) {
        Ok(encoding) => encoding,
        Err(failure) => return grpc::refusal(&failure),
    };
    let mut draining = shared.draining.subscribe();
    let drain = Box::pin(async move {
        drain::begins(&mut draining).await;
        sleep(ASKED_WITHIN).await;
    });
    // A stream of reflection may rest between questions; anything else is one.
    let (limit, from, in_flight) = if request.uri().path().starts_with("/grpc.reflection.") {
        (REFLECTION_BYTES_MAX, Deadline::FromTheFirstByte, &shared.queries_in_flight)
    } else {
        (health::REQUEST_BYTES_MAX, Deadline::FromTheStart, &shared.probes_in_flight)
    };
    let whose = request.extensions().get().and_then(|caller| shared.access.get().quota_key(caller));
    let messages = |body| {
        let messages = Messages::new(body, limit, from, body::WITHIN, in_flight.clone()).of(whose);
        messages.encoded(encoding).counting_unfinished_only()
    };
    let asked = |body| Body::from_stream(BodyDataStream::new(messages(body)).take_until(drain));
    // Whatever else is asked here goes on.
    let is_whole = request.uri().path() == "/grpc.health.v1.Health/Check";
    let response = next.run(request.map(asked)).await;
    if is_whole { grpc::whole(response) } else { response }
}
