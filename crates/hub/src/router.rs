//! Everything the hub serves, on one router: gRPC by path, HTTP under `/v1`.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use galaxy_push_proto::FILE_DESCRIPTOR_SET;
use tonic_reflection::server::Builder;

use crate::access::door;
use crate::publisher::PublisherService;
use crate::push::PushService;
use crate::shared::Shared;
use crate::{health, http};

pub(crate) fn router(shared: &Arc<Shared>) -> Router {
    let app = Router::new()
        .route("/v1/events", post(http::events))
        .route("/v1/head", get(http::head))
        .route("/v1/invalidations", post(http::records::invalidations))
        .route("/v1/memberships", post(http::records::memberships))
        .with_state(shared.clone())
        .route_service("/push.v1.Push/{method}", PushService::new(shared.clone()))
        .route_service("/push.v1.Publisher/{method}", PublisherService::new(shared.clone()))
        .route_service("/grpc.health.v1.Health/{method}", health::Service::server(shared.clone()));
    with_reflection(app)
        .fallback(http::unknown)
        .method_not_allowed_fallback(http::wrong_method)
        .layer(from_fn_with_state(shared.clone(), door::guard))
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
            .route_service("/grpc.reflection.v1.ServerReflection/{method}", v1)
            .route_service("/grpc.reflection.v1alpha.ServerReflection/{method}", v1alpha),
        (Err(error), _) | (_, Err(error)) => {
            // Both sets are part of the build and a test reads them; without reflection everything else still works.
            tracing::error!(%error, "no server reflection: a descriptor set of this build cannot be read");
            app
        }
    }
}
