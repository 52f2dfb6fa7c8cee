//! The middle floor: what a gateway is assembled from, and how it starts and ends.
//!
//! ```text
//! hub ─► PushClient ─► Upstream ─► Edge (window) ─► Routes ─► Connection ─► surface ─► users
//! ```
//!
//! [`Shared`] holds all of it; each request handler of `surface` has a reference. Knows no protocol of users: `surface`
//! imports this floor, never the reverse.

pub(crate) mod admission;
pub(crate) mod auth;
pub(crate) mod authority;
pub(crate) mod config;
mod drain;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod health;
pub(crate) mod hub_connector;
pub(crate) mod metrics;
pub(crate) mod origin;
mod scrape;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use galaxy_push_client::{BuildError, PushClient};
use galaxy_push_core::ambient::Ambient;
use galaxy_push_listener::Clock;
use galaxy_push_proto::{Failure, Reason, feature};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::state::connection::{Connection, Limits};
use crate::state::edge::Edge;
use crate::state::grants::Identity;
use crate::state::quotas::Quotas;
use crate::state::refusal::Refusal;
use crate::state::too_large::TooLarge;
use crate::state::upstream::Upstream;
use admission::{Admission, Request};
use auth::Access;
use authority::{Authority, FollowedLog, HubHead};
use config::{Config, HubToken, HubTokenSource};
use hub_connector::HubConnector;
use metrics::Metrics;
use origin::is_origin;

/// Once so many bytes of frames were collected a visit to a connection is over: its last run may bring as many again, or one larger
/// frame.
const TURN_BYTES: usize = 64 << 10;

/// What every request handler may use. One per gateway.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) admission: Admission,
    pub(crate) metrics: Arc<Metrics>,
    /// Cancelled once the gateway takes no new users.
    pub(crate) draining: CancellationToken,
    /// Every user's connection, from its request to its very end.
    pub(crate) tracker: TaskTracker,
    pub(crate) too_large: TooLarge,
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

impl Shared {
    /// Everything but the stream from the hub, and the handler that its frames go to.
    ///
    /// # Errors
    ///
    /// A setting that cannot work.
    pub(crate) fn assemble(
        config: Config,
        hub: impl HubHead + 'static,
        ambient: Ambient,
    ) -> Result<(Arc<Self>, Upstream), StartError> {
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
        let clock = Clock::start(ambient, Duration::ZERO);
        let edge = Edge::new(config.window, config.mailbox_slots, clock, metrics.counters.clone());
        let shared = Self {
            admission: Admission {
                edge: edge.clone(),
                authority: Authority::new(hub),
                quotas: Quotas::new(config.limits),
                limits: Limits { topics: config.topics, turn_bytes: TURN_BYTES },
                heartbeat: config.progress_interval,
            },
            config,
            metrics,
            draining: CancellationToken::new(),
            tracker: TaskTracker::new(),
            too_large: TooLarge::default(),
            upstream: Mutex::new(None),
        };
        Ok((Arc::new(shared), Upstream::new(edge)))
    }

    /// Starts the stream from the hub, whose frames go to `upstream`. `followed` learns of it.
    ///
    /// # Errors
    ///
    /// A setting of the hubs that cannot work.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time enabled.
    pub(crate) fn follow_hub(
        self: &Arc<Self>,
        mut upstream: Upstream,
        followed: &FollowedLog,
        connector: &HubConnector,
    ) -> Result<(), StartError> {
        let config = &self.config;
        let ambient = self.admission.edge.clock.ambient().clone();
        let mut builder = PushClient::builder(&config.gateway_id)
            .hub(&config.hubs)
            .cursor("oldest")
            .leave_log_after(config.leave_log_after)
            .features([feature::STANDING, feature::SESSION_INVALIDATION, feature::MEMBERSHIP])
            .connector(connector.to_client())
            .tracing(config.tracing.clone())
            .random(move || ambient.random());
        if let Some(HubTokenSource(source)) = config.hub_token_source.clone() {
            builder = builder.token_from(move || source());
        } else if let Some(HubToken(token)) = &config.hub_token {
            builder = builder.token(token);
        }
        // Weak, here and below: the client owns what is given to it, and would keep its own owner alive.
        let client = Arc::downgrade(&followed.0);
        upstream.at_door(move || client.upgrade()?.get()?.status().borrow().door);
        if let Some(every) = config.report_every {
            let shared = Arc::downgrade(self);
            let connections =
                move || shared.upgrade().map_or(0, |shared| shared.admission.edge.routes.len() as u64);
            builder = builder.report_every(every).report_connections(connections);
        }
        let client = builder.start_batches(upstream)?;
        let _ = followed.0.set(client.clone()); // it is the only one
        *self.upstream.lock().unwrap_or_else(PoisonError::into_inner) = Some(client);
        Ok(())
    }

    /// Adds the gateway's metrics.
    pub(crate) fn register(self: &Arc<Self>, registry: &mut Registry) {
        self.metrics.register(registry);
        registry.register_collector(Box::new(scrape::Scrape(self.clone())));
        if let Some(client) = self.client() {
            client.register(registry);
        }
    }

    /// The stream from the hub; `None` once it was ended.
    pub(crate) fn client(&self) -> Option<PushClient> {
        self.upstream.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the stream from the hub, if it is there.
    async fn end_upstream(&self) {
        let client = self.upstream.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(client) = client {
            client.shutdown().await;
        }
    }

    /// Whether users are let in at all.
    ///
    /// # Errors
    ///
    /// The process is shutting down.
    pub(crate) fn open_for_users(&self) -> Result<(), Refusal> {
        if self.draining.is_cancelled() { Err(Refusal::Draining) } else { Ok(()) }
    }

    /// Opens a connection. Cancel safe.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(crate) async fn admit(&self, request: Request) -> Result<Connection, Refusal> {
        let connection = self.admission.admit(request).await?;
        // Again, now that it is registered: a drain that began before may have told everybody already, and one that begins
        // after finds it there.
        self.open_for_users()?;
        Ok(connection)
    }

    /// Who somebody is, by a token or, in development, by names.
    ///
    /// # Errors
    ///
    /// The token or the names are not good, or both are given.
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
            let message = "`user` and `session` do not go together with a token";
            return Err(Failure::new(Reason::RequestInvalid, message));
        }
        access.token(token, now_ms)
    }

    /// At least this long, and up to `over` more: for those who would otherwise come back together.
    pub(crate) fn spread(&self, least: Duration, over: Duration) -> Duration {
        let over = u64::try_from(over.as_millis()).unwrap_or(u64::MAX).max(1);
        least + Duration::from_millis(self.admission.edge.clock.ambient().random() % over)
    }
}
