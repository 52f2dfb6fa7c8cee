//! The upper floor: everything of a hub that speaks a protocol.
//!
//! It reads requests, calls `app` and `state`, and renders what they answer. In the order of a request:
//!
//! | file | what it does |
//! |---|---|
//! | `router.rs` | which path goes where |
//! | `authorize.rs` | who makes a request, and whether that role may |
//! | `body.rs` | reads bodies within a bound of bytes and time |
//! | `grpc.rs`, `http.rs` | the two ways to read a request and to write a refusal |
//! | `publisher.rs`, `publish_stream.rs`, `http/records.rs` | publishers: events and standing records in |
//! | `push.rs`, `subscription.rs` | gateways: streams of frames out; `push/report.rs`: what gateways say of themselves |
//! | `revocation.rs` | ends streams of peers that lost their access |
//! | `health.rs`, `starting.rs` | probes, and what is answered before there is a hub |
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
    ///
    /// ```
    /// # use galaxy_push_core::ambient::Ambient;
    /// # use galaxy_push_hub::{Config, Hub};
    /// # use tower::ServiceExt as _;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let hub = Hub::in_memory(Config::default(), Ambient::new(|| 0, || 4))?;
    /// let head = http::Request::get("/v1/head").body(axum::body::Body::empty())?;
    /// assert_eq!(hub.router().oneshot(head).await?.status(), 200);
    /// # Ok(()) }
    /// ```
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

    /// What the probes of a listener ask: whether the hub takes work, and how its store is.
    #[must_use]
    pub fn health(&self) -> Arc<dyn galaxy_push_listener::Health> {
        Arc::new(health::Probe(self.shared.clone()))
    }
}
