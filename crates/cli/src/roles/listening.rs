//! Listeners that serve from the first moment on: the probes, and "come again" to everybody else, until there are roles to
//! serve. A hub may read its log for a while before.
//!
//! Called by `roles`, which hands over the apps of the roles once these are there; `serving` ends them.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use galaxy_push_gateway::{accepts_event_stream, guard_origins};
use galaxy_push_hub::Recovery;
use galaxy_push_listener::{Drain, Limits, Proxies, probes, terse_probes};
use galaxy_push_proto::error::PROBLEM_MEDIA_TYPE;
use galaxy_push_proto::frame::goodbye_frame;
use galaxy_push_proto::{Failure, Reason, json, v1};
use http::{HeaderValue, StatusCode, header};
use prometheus_client::registry::Registry;
use tokio::task::{JoinHandle, JoinSet};
use tower::ServiceExt as _;

use super::admin;
use super::bind::{At, Bound};
use super::descriptors::{Descriptors, Scraped, Seats};
use super::secure;
use crate::args::{EdgeArgs, HubArgs, ProcessArgs};

/// How soon a user who comes too early may come again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What each listener answers with; one that there is none of answers nothing.
#[derive(Default)]
pub(super) struct Apps {
    pub(super) hub: Router,
    pub(super) edge: Router,
    pub(super) admin: Router,
}

/// The listeners of a process, bound.
pub(super) struct Listeners {
    pub(super) hub: Option<Bound>,
    pub(super) edge: Option<Bound>,
    pub(super) admin: Bound,
}

/// Where they are.
pub(super) struct Places {
    pub(super) hub: Option<At>,
    pub(super) edge: Option<At>,
    pub(super) admin: At,
}

impl Places {
    /// The URLs by which this machine reaches hub, edge and admin.
    pub(super) fn urls(&self) -> (Option<String>, Option<String>, String) {
        (self.hub.as_ref().map(At::local_url), self.edge.as_ref().map(At::local_url), self.admin.local_url())
    }
}

impl Listeners {
    pub(super) fn places(&self) -> Places {
        let at = |bound: &Bound| bound.at.clone();
        Places { hub: self.hub.as_ref().map(at), edge: self.edge.as_ref().map(at), admin: at(&self.admin) }
    }
}

/// Listeners that serve.
pub(super) struct Listening {
    pub(super) at: Places,
    hub: Later,
    edge: Later,
    admin: Later,
    /// The hub's and the edge's.
    pub(super) tasks: JoinSet<()>,
    pub(super) admin_task: JoinHandle<()>,
    pub(super) drain: Drain,
    pub(super) admin_drain: Drain,
}

impl Listening {
    /// Lets them serve what there is to say before there are roles. Returns what is counted of their places, too.
    pub(super) fn start(
        listeners: Listeners,
        recovery: &Recovery,
        args: &ProcessArgs,
        hub: Option<&HubArgs>,
        edge: Option<&EdgeArgs>,
    ) -> (Self, Scraped) {
        let at = listeners.places();
        let (rooms, scraped) = rooms(&listeners, args, hub, edge);
        let (drain, admin_drain) = (Drain::default(), Drain::default());
        let app = recovery.router().merge(probes(recovery.health()));
        let is_open = hub.is_none_or(|args| args.hub_credentials.is_none());
        let meanwhile = at.hub.as_ref().map(|at| secure::hub_app(app, at, is_open, args));
        let (hub_app, hub) = Later::of(meanwhile.unwrap_or_default());
        let early = match edge.map(|args| &args.allowed_origins).filter(|origins| !origins.is_empty()) {
            Some(origins) => guard_origins(too_early(), origins.clone()),
            None => too_early(),
        };
        let (edge_app, edge) = Later::of(early.merge(terse_probes(recovery.health())));
        let app = admin::router(Registry::default(), recovery.health());
        let (admin_app, admin) = Later::of(secure::admin_app(app, &at.admin, args));
        let mut tasks = JoinSet::new();
        let each = [(listeners.hub, hub_app, rooms.hub), (listeners.edge, edge_app, rooms.edge)];
        for (bound, app, seats) in each {
            if let (Some(bound), Some(seats)) = (bound, seats) {
                tasks.spawn(bound.serve(app, seats, drain.clone()));
            }
        }
        let admin_task = tokio::spawn(listeners.admin.serve(admin_app, rooms.admin, admin_drain.clone()));
        (Self { at, hub, edge, admin, tasks, admin_task, drain, admin_drain }, scraped)
    }

    /// From now on they serve these.
    pub(super) fn serve(&self, apps: Apps) {
        self.hub.serve(apps.hub);
        self.edge.serve(apps.edge);
        self.admin.serve(apps.admin);
    }
}

/// An app that takes the place of another one, also on the connections that are open.
struct Later(Arc<OnceLock<Router>>);

impl Later {
    fn of(meanwhile: Router) -> (Router, Self) {
        let later = Arc::new(OnceLock::<Router>::new());
        let app = later.clone();
        let answer = move |request: Request| {
            let app = app.get().unwrap_or(&meanwhile).clone();
            async move {
                match app.oneshot(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            }
        };
        (Router::new().fallback(answer), Self(later))
    }

    fn serve(&self, app: Router) {
        let _only_once = self.0.set(app);
    }
}

/// What users are told while there is no gateway: to come again. A browser's `EventSource` does so only after a 200.
fn too_early() -> Router {
    Router::new().fallback(|request: Request| async move {
        if accepts_event_stream(request.headers()) { goodbye() } else { problem() }
    })
}

fn problem() -> Response {
    let message = "this gateway starts: try again soon, or at another gateway";
    let failure = Failure::new(Reason::StoreUnavailable, message).retry_after(RETRY_AFTER);
    let problem = failure.problem();
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_MEDIA_TYPE)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER.as_secs())),
    ];
    (StatusCode::SERVICE_UNAVAILABLE, headers, problem.to_json()).into_response()
}

fn goodbye() -> Response {
    let frame = goodbye_frame("", v1::GoodbyeReason::Draining, Some(RETRY_AFTER));
    let (name, data) = frame.kind.as_ref().and_then(json::control).unwrap_or_default();
    let data = String::from_utf8_lossy(&data);
    let body = format!("retry: {}\nevent: {name}\ndata: {data}\n\n", RETRY_AFTER.as_millis());
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store, no-transform")];
    (headers, body).into_response()
}

/// The places of each listener.
struct Rooms {
    hub: Option<Seats>,
    edge: Option<Seats>,
    admin: Seats,
}

/// How many connections each listener may have, of what the system gives to this process.
fn rooms(
    listeners: &Listeners,
    args: &ProcessArgs,
    hub: Option<&HubArgs>,
    edge: Option<&EdgeArgs>,
) -> (Rooms, Scraped) {
    let proxies = Proxies::new(args.trusted_proxies.iter().copied());
    let descriptors = Descriptors::raise();
    let shares = descriptors.shares(listeners.hub.is_some(), listeners.edge.is_some());
    let seats =
        |name, limits, connections, asks| Seats::new(name, limits, connections, asks, proxies.clone());
    let hub_asks = hub.is_some_and(|args| args.hub_credentials.is_some());
    let edge_asks = edge.is_some_and(|args| args.user_keys.is_some() && !args.dev);
    let rooms = Rooms {
        hub: listeners.hub.as_ref().map(|_| seats("hub", Limits::hub(), shares.hub, hub_asks)),
        edge: listeners.edge.as_ref().map(|_| seats("edge", Limits::edge(), shares.edge, edge_asks)),
        admin: seats("admin", Limits::admin(), shares.admin, false),
    };
    let all = [("hub", rooms.hub.as_ref()), ("edge", rooms.edge.as_ref()), ("admin", Some(&rooms.admin))];
    let places = all.into_iter().filter_map(|(name, seats)| Some((name, seats?.places.clone()))).collect();
    (rooms, Scraped { descriptors, listeners: places })
}
