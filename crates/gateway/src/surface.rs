//! The highest floor: everything that speaks a protocol to users, and the [`Gateway`] that callers hold.
//!
//! `sse` and `ws` carry users' streams; both read a connection of `state`, and write what `encode` and `render` make of it.
//! `problem` says refusals in HTTP and WebSocket. Nothing imports this floor but `lib.rs`.

mod context;
mod encode;
mod origin;
mod page;
mod problem;
mod proxy;
mod query;
mod render;
mod sse;
mod ws;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use axum::routing::{any, get, post};
use galaxy_push_client::{Connector, PushClient};
use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::cursor::Cursor;
use galaxy_push_listener::Health;
use galaxy_push_proto::{Failure, Reason};
use prometheus_client::registry::Registry;
use tonic::Code;

use crate::app::authority::{FollowedLog, HubHead};
use crate::app::config::Config;
use crate::app::hub_connector::HubConnector;
use crate::app::{Shared, StartError};
use crate::state::upstream::Upstream;
use context::Context;
use origin::{Origins, check_origin};
use proxy::Proxy;

pub use origin::guard_origins;
pub use proxy::PROXIED_MAX;
pub use sse::accepts_event_stream;

/// A running gateway. A cheap clone; dropping the last one ends the stream from the hub.
#[derive(Clone, Debug)]
pub struct Gateway {
    context: Arc<Context>,
    /// Passes publishes on to the hub, in development mode.
    proxy: Option<Arc<Proxy>>,
}

impl Gateway {
    /// Starts reading from the hub. Users are admitted once it has caught up.
    ///
    /// # Errors
    ///
    /// A setting that cannot work.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time enabled.
    pub fn start(config: Config, connector: impl Connector, ambient: Ambient) -> Result<Self, StartError> {
        let connector = HubConnector::new(Arc::new(connector), &config.hubs, config.hub_token.clone());
        let followed = FollowedLog::default();
        let (gateway, upstream) = Self::assemble(config, followed.clone(), Some(connector.clone()), ambient)?;
        gateway.shared().follow_hub(upstream, &followed, &connector)?;
        Ok(gateway)
    }

    /// Everything but the stream from the hub, and the handler that its frames go to.
    pub(crate) fn assemble(
        config: Config,
        hub: impl HubHead + 'static,
        connector: Option<HubConnector>,
        ambient: Ambient,
    ) -> Result<(Self, Upstream), StartError> {
        let (shared, upstream) = Shared::assemble(config, hub, ambient)?;
        let in_development = shared.config.access.development.is_some();
        let connector = connector.filter(|_| in_development);
        let proxy = connector.map(|connector| Arc::new(Proxy::new(connector, shared.metrics.clone())));
        Ok((Self { context: Context::start(shared), proxy }, upstream))
    }

    /// The routes of the public listener. Probes are not among them: see [`Gateway::health`].
    pub fn router(&self) -> Router {
        let Shared { config, metrics, .. } = &**self.shared();
        let origins =
            Origins::new(config.allowed_origins.clone(), config.access.development, metrics.clone());
        let mut routes = Router::new()
            .route("/v1/stream", get(sse::stream))
            .route("/v1/ws", any(ws::upgrade))
            .route("/v1/tickets", post(tickets))
            .route("/push.v1.Edge/{method}", post(edge_grpc))
            .with_state(self.context.clone());
        if config.access.development.is_some() {
            let publish = post(proxy::forward).with_state(self.proxy.clone());
            routes = routes.merge(page::routes(config.shown_hub.clone())).route("/v1/events", publish);
        }
        routes
            .fallback(not_found)
            .method_not_allowed_fallback(method_not_allowed)
            .layer(axum::middleware::from_fn_with_state(Arc::new(origins), check_origin))
    }

    /// Closes every connection, a few at a time, then the stream from the hub. New users are refused from the first moment.
    /// Users resume elsewhere, so nobody is waited for who takes long; returns soon after the last was told.
    ///
    /// # Cancel safety
    ///
    /// Dropped, whatever was not told to close lives on, and calling it again goes on.
    pub async fn drain(&self) {
        self.shared().drain().await;
    }

    /// The first half of a drain where the hub ends, too, and is in this process: waits until everything up to `upto`, the
    /// hub's last position, was received, for `limit` at most (and never longer than 5 s), and ends the stream from the
    /// hub. New users are refused from the first moment. [`Gateway::deliver_and_drain`] is the other half.
    ///
    /// # Cancel safety
    ///
    /// As [`Gateway::drain`].
    pub async fn finish_upstream(&self, upto: Cursor, limit: Duration) {
        self.shared().finish_upstream(upto, limit).await;
    }

    /// As [`Gateway::drain`], where there is no elsewhere because the hub ends, too: each user is sent away once it has
    /// received everything that is here, and has until `limit` to receive it. Whoever has not is cut off, which is a warning
    /// in the log; so is how many those were. Returns a moment after the limit at the latest.
    ///
    /// # Cancel safety
    ///
    /// As [`Gateway::drain`].
    pub async fn deliver_and_drain(&self, limit: Duration) {
        let stall = self.shared().config.write_stall;
        self.shared().deliver_and_drain(limit, || self.context.stalled.end_stalled(stall)).await;
    }

    /// Whether it serves, and why not.
    #[must_use]
    pub fn health(&self) -> Arc<dyn Health> {
        self.shared().clone()
    }

    /// Adds the gateway's metrics.
    pub fn register(&self, registry: &mut Registry) {
        self.shared().register(registry);
    }

    /// The stream from the hub; `None` after [`Gateway::drain`].
    #[must_use]
    pub fn upstream(&self) -> Option<PushClient> {
        self.shared().client()
    }

    #[cfg(all(test, shuttle))]
    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.context.shared
    }
}

async fn tickets() -> Response {
    problem::response(&unimplemented("tickets are not built yet: send a token in `Authorization`"))
}

async fn edge_grpc() -> Response {
    let message = "the gRPC service push.v1.Edge is not built yet: use /v1/ws or /v1/stream";
    tonic::Status::unimplemented(message).into_http()
}

async fn not_found() -> Response {
    let message = "there is nothing at this address: users connect to /v1/stream or /v1/ws";
    problem::response(&Failure::without_reason(Code::NotFound, message))
}

async fn method_not_allowed() -> Response {
    let message = "this address takes another method";
    let failure = Failure::new(Reason::RequestInvalid, message).http_status(405);
    problem::response(&failure)
}

fn unimplemented(message: &str) -> Failure {
    Failure::without_reason(Code::Unimplemented, message)
}
