//! Everything of a hub that speaks a protocol: gRPC, HTTP, health. It reads requests, calls `app` and `state`, and renders answers.
//!
//! Nothing below imports it. The methods of [`Hub`] that hand out something to serve are written here.

mod body;
mod grpc;
mod http;

mod authorize;
mod revocation;

pub(crate) mod publish_stream;
pub(crate) mod publisher;

pub(crate) mod push;
mod subscription;

mod health;
mod starting;

mod router;

use std::sync::Arc;

use axum::{Extension, Router};

use self::publisher::PublisherService;
use self::push::PushService;
use crate::app::Hub;
use crate::state::access::{Identity, InProcess};

impl Hub {
    /// Everything the hub serves on its listener, but for the probes: gRPC `Push` and `Publisher`, health, reflection,
    /// and the HTTP routes under `/v1`.
    pub fn router(&self) -> Router {
        router::router(&self.shared)
    }

    /// As [`Hub::router`], for requests that come over no network: each is made by this identity, whatever it says. For
    /// a gateway in the same process, over a pipe.
    pub fn router_for(&self, identity: Identity) -> Router {
        self.router().layer(Extension(InProcess::new(identity)))
    }

    /// The gRPC service `push.v1.Push` alone, for embedding in another server.
    #[must_use]
    pub fn push_service(&self) -> PushService {
        PushService::new(self.shared.clone())
    }

    /// The gRPC service `push.v1.Publisher` alone, for embedding in another server.
    #[must_use]
    pub fn publisher_service(&self) -> PublisherService {
        PublisherService::new(self.shared.clone())
    }

    /// What the probes ask.
    #[must_use]
    pub fn health(&self) -> Arc<dyn galaxy_push_listener::Health> {
        Arc::new(health::Probe(self.shared.clone()))
    }
}
