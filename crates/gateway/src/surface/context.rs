//! What the handlers of users' streams may use: the app, and what only the surface needs beside it.
//!
//! One per gateway, held by `surface.rs`; `sse` and `ws` are given it with each request. It serves nobody by itself.

use std::net::IpAddr;
use std::sync::Arc;

use galaxy_push_listener::Peer;
use galaxy_push_proto::frame::WelcomeInfo;
use galaxy_push_proto::json::EdgeView;
use http::HeaderMap;

use super::encode::{Encoder, Repairs};
use super::render::{Form, Renderer};
use super::sse::stalled::StalledStreams;
use crate::app::Shared;

/// The hub sends no larger frame, and no event, in whatever form, comes near it. In bytes.
const FRAME_BYTES_MAX: usize = 4 << 20;

/// The most bytes of rendered events kept for sharing among connections.
const RENDERED_BYTES: usize = 8 << 20;

/// What a handler of users' streams may use.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    /// SSE streams whose last piece nobody has taken yet.
    pub(crate) stalled: Arc<StalledStreams>,
    renderer: Arc<Renderer>,
}

impl Context {
    /// Also starts the task that ends stalled streams.
    pub(crate) fn start(shared: Arc<Shared>) -> Arc<Self> {
        let config = &shared.config;
        let view = EdgeView::showing(config.shown_attributes.iter().cloned());
        let renderer = Arc::new(Renderer::new(view, RENDERED_BYTES, shared.metrics.clone()));
        let stalled = StalledStreams::start(config.write_stall);
        Arc::new(Self { renderer, stalled, shared })
    }

    /// From where a request comes, as far as that is known: a proxy that is trusted says so.
    pub(crate) fn address(&self, peer: Option<Peer>, headers: &HeaderMap) -> Option<IpAddr> {
        peer.map(|Peer(peer)| self.shared.config.trusted_proxies.client(peer.ip(), headers))
    }

    /// Encodes for one connection, in frames of at most `frame_max` bytes.
    pub(crate) fn encoder(&self, form: Form, frame_max: Option<usize>, connection: u64) -> Encoder {
        let Shared { admission, config, metrics, .. } = &*self.shared;
        let welcome = WelcomeInfo {
            generation: 0,
            heartbeat_interval: admission.heartbeat(),
            limits: admission.bounds(config.event_bytes, frame_max.unwrap_or(FRAME_BYTES_MAX)),
            connection_id: admission.edge.name_of(connection),
        };
        let repairs =
            Repairs { ambient: admission.edge.clock.ambient().clone(), spread: config.repair_spread };
        Encoder::new(self.renderer.clone(), metrics.clone(), form, frame_max, welcome, repairs)
    }
}
