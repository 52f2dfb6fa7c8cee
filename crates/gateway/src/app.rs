//! The gateway as a whole: what it owns, its routes, its health, its end.
//!
//! ```text
//! hub ─► PushClient ─► Upstream ─► Edge (window) ─► Routes ─► Connection ─► sse, ws ─► users
//! ```

pub(crate) mod admission;
pub(crate) mod auth;
pub(crate) mod authority;
pub(crate) mod config;
mod health;
pub(crate) mod metrics;
mod scrape;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use axum::routing::{any, get, post};
use galaxy_push_client::{BuildError, Connector, PushClient};
use galaxy_push_core::FOR_EVER;
use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::cursor::Cursor;
use galaxy_push_listener::{Health, Peer};
use galaxy_push_proto::frame::WelcomeInfo;
use galaxy_push_proto::json::EdgeView;
use galaxy_push_proto::{Failure, Reason, feature};
use http::HeaderMap;
use prometheus_client::registry::Registry;
use tokio::time::{sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Code;

use crate::app::admission::{Admission, Request};
use crate::app::auth::Access;
use crate::app::authority::{Authority, Followed, Hub};
use crate::app::config::{Config, HubToken, HubTokenSource};
use crate::app::metrics::{Metrics, Transport};
use crate::state::clock::Clock;
use crate::state::connection::{Connection, Ending, Limits};
use crate::state::edge::Edge;
use crate::state::grants::Identity;
use crate::state::quotas::Quotas;
use crate::state::routes::{Leaving, Mailbox};
use crate::state::too_large::TooLarge;
use crate::state::upstream::Upstream;
use crate::surface::encode::{Encoder, Repairs};
use crate::surface::origin::{Origins, guard, is_origin};
use crate::surface::proxy::{Line, Proxy};
use crate::surface::render::{Form, Renderer};
use crate::surface::{page, problem, proxy, sse, ws};

/// How often a drain ends some connections, and looks whether any are left.
const DRAIN_TICK: Duration = Duration::from_millis(10);

/// Whoever was told to end has this long to be gone.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// When the time of a drain is over, whoever is cut off has this long to be counted, and as long again to be told so.
const CUT_OFF_WITHIN: Duration = Duration::from_millis(250);

/// How often it is looked for users that a drain has not told yet.
const LATE_EVERY: Duration = Duration::from_millis(500);

/// How long what a hub in the same process has may be on its way here. It takes a few milliseconds.
const HANDED_WITHIN: Duration = Duration::from_secs(5);

/// The hub sends no larger frame, and no event, in whatever form, comes near it.
const FRAME_BYTES_MAX: usize = 4 << 20;

/// A returning user waits up to this long more, so that those ended in one tick do not come back in one.
const RETURN_SPREAD_MS: u64 = 1_000;

/// A running gateway. A cheap clone; dropping the last one ends the stream from the hub.
#[derive(Clone, Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
}

/// What every request handler may use.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) admission: Admission,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) draining: CancellationToken,
    /// Every user's connection, from its request to its very end.
    pub(crate) tracker: TaskTracker,
    pub(crate) unread: sse::unread::Unread,
    pub(crate) too_large: TooLarge,
    renderer: Arc<Renderer>,
    proxy: Option<Proxy>,
    /// The stream from the hub, until it is shut down.
    upstream: Mutex<Option<PushClient>>,
}

/// Why a gateway cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The way to the hub cannot be made.
    #[error("cannot reach a hub with these settings")]
    Hub(#[from] BuildError),
    /// An allowed origin is none.
    #[error(
        "{0:?} is no origin: write it as browsers send it, such as https://app.example or http://localhost:3000"
    )]
    Origin(String),
    /// Users could not say who they are.
    #[error("there is no way for users to say who they are: give a key set, or turn development mode on")]
    Access,
    /// Users' tokens would count for nothing.
    #[error("there are keys, and development mode believes whoever has no token: take one of the two away")]
    Believing,
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
        let line = Line::new(Arc::new(connector), &config.hubs, config.hub_token.clone());
        let for_client = ambient.clone();
        let mut builder = PushClient::builder(&config.gateway_id)
            .hub(&config.hubs)
            .cursor("oldest")
            .leave_log_after(config.leave_log_after)
            .features([feature::STANDING, feature::SESSION_INVALIDATION, feature::MEMBERSHIP])
            .connector(line.connector())
            .tracing(config.tracing.clone())
            .random(move || for_client.random());
        if let Some(HubTokenSource(source)) = config.hub_token_source.clone() {
            builder = builder.token_from(move || source());
        } else if let Some(HubToken(token)) = &config.hub_token {
            builder = builder.token(token);
        }
        let report_every = config.report_every;
        let followed = Followed::default();
        let (gateway, mut upstream) = Self::assemble(config, followed.clone(), Some(line), ambient)?;
        // Weak, too.
        let client = Arc::downgrade(&followed.0);
        upstream.at_door(move || client.upgrade()?.get()?.status().borrow().door);
        if let Some(every) = report_every {
            // Weak: the client would keep its own owner alive.
            let shared = Arc::downgrade(&gateway.shared);
            let connections =
                move || shared.upgrade().map_or(0, |shared| shared.admission.edge.routes.len() as u64);
            builder = builder.report_every(every).report_connections(connections);
        }
        let client = builder.start_batches(upstream)?;
        let _ = followed.0.set(client.clone()); // it is the only one
        *gateway.shared.upstream.lock().unwrap_or_else(PoisonError::into_inner) = Some(client);
        Ok(gateway)
    }

    /// Everything but the stream from the hub, and the place where its frames go in.
    pub(crate) fn assemble(
        config: Config,
        hub: impl Hub + 'static,
        line: Option<Line>,
        ambient: Ambient,
    ) -> Result<(Self, Upstream), StartError> {
        let config = config.reckonable();
        if let Some(origin) = config.allowed_origins.iter().find(|origin| !is_origin(origin)) {
            return Err(StartError::Origin(origin.clone()));
        }
        match (config.access.development, &config.access.keys) {
            (None, None) => return Err(StartError::Access),
            (Some(_), Some(_)) => return Err(StartError::Believing),
            _ => {}
        }
        let metrics = Arc::new(Metrics::default());
        let view = EdgeView::showing(config.shown_attributes.iter().cloned());
        let edge = Edge::new(config.window, config.mailbox_slots, Clock::start(ambient), metrics.clone());
        let shared = Shared {
            admission: Admission {
                edge: edge.clone(),
                authority: Authority::new(hub),
                quotas: Quotas::new(config.limits),
                limits: Limits { topics: config.topics, turn_bytes: config.turn_bytes },
                heartbeat: config.progress_interval,
            },
            renderer: Arc::new(Renderer::new(view, config.render_cache_bytes, metrics.clone())),
            proxy: line.filter(|_| config.access.development.is_some()).map(Proxy::new),
            config,
            metrics,
            draining: CancellationToken::new(),
            tracker: TaskTracker::new(),
            unread: sse::unread::Unread::default(),
            too_large: TooLarge::default(),
            upstream: Mutex::new(None),
        };
        let shared = Arc::new(shared);
        sse::unread::start(&shared);
        Ok((Self { shared }, Upstream::new(edge)))
    }

    /// The routes of the public listener. Probes are not among them: see [`Gateway::health`].
    pub fn router(&self) -> Router {
        let config = &self.shared.config;
        let origins = Origins::new(
            config.allowed_origins.clone(),
            config.access.development,
            self.shared.metrics.clone(),
        );
        let mut routes = Router::new()
            .route("/v1/stream", get(sse::stream))
            .route("/v1/ws", any(ws::upgrade))
            .route("/v1/tickets", post(tickets))
            .route("/push.v1.Edge/{method}", post(edge_grpc));
        if config.access.development.is_some() {
            routes = routes.merge(page::routes()).route("/v1/events", post(proxy::forward));
        }
        routes
            .fallback(not_found)
            .method_not_allowed_fallback(method_not_allowed)
            .with_state(self.shared.clone())
            .layer(axum::middleware::from_fn_with_state(Arc::new(origins), guard))
    }

    /// Ends every connection, a few at a time, then the stream from the hub. New users are refused from the first moment.
    /// Users resume elsewhere, so nobody is waited for who takes long to be told; returns soon after the last was.
    ///
    /// Cancel safe: dropped, whatever was not told to end lives on, and calling it again goes on.
    pub async fn drain(&self) {
        self.end_everybody().await;
        let tracker = &self.shared.tracker;
        if timeout(TOLD_WITHIN, tracker.wait()).await.is_err() {
            let users = tracker.len();
            tracing::info!(users, "users that take long are not waited for: they resume elsewhere");
        }
        self.end_upstream().await;
    }

    /// The first half of a drain where the hub ends, too, and is in this process: waits until everything is here up to
    /// `upto`, the hub's last position, but not for long, and ends the stream from the hub. New users are refused from the
    /// first moment. [`Gateway::hand_over`] is the other half.
    ///
    /// Cancel safe as [`Gateway::drain`].
    pub async fn take_the_rest(&self, upto: Cursor, limit: Duration) {
        let shared = &self.shared;
        let edge = &shared.admission.edge;
        shared.draining.cancel();
        shared.tracker.close();
        let behind = || {
            let head = edge.head();
            head != upto && !head.follows(upto)
        };
        let _late = timeout(limit.min(HANDED_WITHIN), async {
            while behind() {
                sleep(DRAIN_TICK).await;
            }
        })
        .await; // then there is no more than it has
        self.end_upstream().await;
    }

    /// As [`Gateway::drain`], where there is no elsewhere because the hub ends, too: each user is sent away once it has
    /// taken everything that is here, and has until `limit` to take it. Whoever has not is cut off, which is a warning in
    /// the log; so is how many those were. Returns a moment after the limit at the latest.
    ///
    /// Cancel safe as [`Gateway::drain`].
    pub async fn hand_over(&self, limit: Duration) {
        let shared = &self.shared;
        let edge = &shared.admission.edge;
        let by = edge.clock.now().mono + limit.min(FOR_EVER);
        let gone = timeout_at(edge.clock.instant(by), async {
            loop {
                // Again: one that was let in before may have taken its seat since.
                self.send_away(|mailbox, ending| mailbox.leave(Leaving { ending, by })).await;
                if timeout(LATE_EVERY, shared.tracker.wait()).await.is_ok() {
                    return;
                }
            }
        });
        let is_late = gone.await.is_err();
        if is_late {
            // Of those that HTTP asks for nothing. The others say so themselves at this moment.
            shared.unread.look(shared.config.write_stall);
            let _counted = timeout(CUT_OFF_WITHIN, async {
                while edge.routes.len() > 0 {
                    sleep(DRAIN_TICK).await;
                }
            })
            .await;
        }
        let (cut_off, users) = (shared.metrics.cut_off_so_far(), shared.tracker.len());
        if is_late || cut_off > 0 {
            tracing::warn!(cut_off, users, "the shutdown cut users off that have not taken everything");
            let _told = timeout(CUT_OFF_WITHIN, shared.tracker.wait()).await;
        }
        self.end_upstream().await;
    }

    /// Tells everybody to end at once, a few at a time.
    pub(crate) async fn end_everybody(&self) {
        self.send_away(|mailbox, ending| mailbox.ending().is_none() && mailbox.end(ending)).await;
    }

    /// Tells everybody to go, a few at a time. `tell` says whether a connection had to be told.
    async fn send_away(&self, mut tell: impl FnMut(&Mailbox, Ending) -> bool) {
        let shared = &self.shared;
        shared.draining.cancel();
        shared.tracker.close();
        let per_tick = (shared.config.return_slots as usize * DRAIN_TICK.as_millis() as usize / 1_000).max(1);
        loop {
            let mailboxes = shared.admission.edge.routes.mailboxes();
            let mut told = 0;
            for mailbox in mailboxes {
                let spread = shared.admission.edge.clock.ambient().random() % RETURN_SPREAD_MS;
                told += usize::from(tell(&mailbox, Ending::Draining(Duration::from_millis(spread))));
                if told == per_tick {
                    break;
                }
            }
            if told == 0 {
                return;
            }
            sleep(DRAIN_TICK).await;
        }
    }

    async fn end_upstream(&self) {
        let client = self.shared.upstream.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(client) = client {
            client.shutdown().await;
        }
    }

    /// Whether it serves, and why not.
    #[must_use]
    pub fn health(&self) -> Arc<dyn Health> {
        self.shared.clone()
    }

    /// Adds the gateway's metrics.
    pub fn register(&self, registry: &mut Registry) {
        self.shared.metrics.register(registry);
        registry.register_collector(Box::new(scrape::Scrape(self.shared.clone())));
        if let Some(client) = self.upstream() {
            client.register(registry);
        }
    }

    #[cfg(test)]
    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The stream from the hub; `None` after [`Gateway::drain`].
    #[must_use]
    pub fn upstream(&self) -> Option<PushClient> {
        self.shared.client()
    }
}

impl Shared {
    /// Whether users are let in at all.
    pub(crate) fn open_for_users(&self) -> Result<(), Failure> {
        if self.draining.is_cancelled() { Err(problem::draining()) } else { Ok(()) }
    }

    /// Opens a connection. Cancel safe.
    ///
    /// # Errors
    ///
    /// Why not, in the words for the user.
    pub(crate) async fn admit(&self, request: Request) -> Result<Connection, Failure> {
        let connection = self.admission.admit(request).await?;
        // Again, now that it has its seat: a drain that began before may have told everybody already, and one that begins
        // after finds it there.
        self.open_for_users()?;
        Ok(connection)
    }

    /// From where a request comes, as far as that is known: a proxy that is trusted says so.
    pub(crate) fn address(&self, peer: Option<Peer>, headers: &HeaderMap) -> Option<IpAddr> {
        peer.map(|Peer(peer)| self.config.trusted_proxies.client(peer.ip(), headers))
    }

    /// Who somebody is, by a token or, in development, by names.
    pub(crate) fn identify(
        &self,
        token: Option<&str>,
        user: &str,
        session: &str,
    ) -> Result<Identity, Failure> {
        let access: &Access = &self.config.access;
        let now_ms = self.admission.edge.clock.now().unix_ms;
        let Some(token) = token else { return access.names(user, session, now_ms) };
        if !user.is_empty() || !session.is_empty() {
            return Err(problem::bad_request("`user` and `session` do not go together with a token"));
        }
        access.token(token, now_ms)
    }

    /// Encodes for one connection.
    pub(crate) fn encoder(
        &self,
        transport: Transport,
        form: Form,
        frame_max: Option<usize>,
        connection: u64,
    ) -> Encoder {
        let welcome = WelcomeInfo {
            generation: 0,
            heartbeat_interval: self.admission.heartbeat(),
            limits: self.admission.bounds(self.config.event_bytes, frame_max.unwrap_or(FRAME_BYTES_MAX)),
            connection_id: self.admission.edge.name_of(connection),
        };
        let (ambient, spread) = (self.admission.edge.clock.ambient().clone(), self.config.repair_spread);
        let (renderer, metrics, repairs) =
            (self.renderer.clone(), self.metrics.clone(), Repairs { ambient, spread });
        Encoder::new(renderer, metrics, transport, form, frame_max, welcome, repairs)
    }

    /// At least this long, and up to `over` more: for those who would otherwise come back together.
    pub(crate) fn spread(&self, least: Duration, over: Duration) -> Duration {
        let over = u64::try_from(over.as_millis()).unwrap_or(u64::MAX).max(1);
        least + Duration::from_millis(self.admission.edge.clock.ambient().random() % over)
    }

    pub(crate) fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    pub(crate) fn client(&self) -> Option<PushClient> {
        self.upstream.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
