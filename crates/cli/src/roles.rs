//! The commands that serve: `serve`, `hub` and `gateway`.
//!
//! Each checks its settings, then binds its listeners, so that a port in use is the first thing that can go wrong; then
//! starts its roles, says where they listen, and serves until a signal starts the drain.

mod admin;
mod anew;
mod announce;
mod bind;
mod credentials;
mod descriptors;
mod keys;
mod process;
mod secure;
mod serving;
mod settings;

use std::sync::Arc;

use axum::Router;
use galaxy_push_client::{Connector, TcpConnector, Tracing};
use galaxy_push_gateway::{Gateway, HubToken, HubTokenSource, StartError};
use galaxy_push_hub::{Hub, Identity, Role};
use galaxy_push_listener::{Limits, Pipes, Proxies, ambient, pipes, probes, terse_probes};
use prometheus_client::registry::Registry;

use crate::Usage;
use crate::args::{EdgeArgs, GatewayCommand, HubArgs, HubCommand, ProcessArgs, ServeArgs, Store};
use crate::peer::Peer;
use anew::Anew;
use announce::Announcement;
use bind::Bound;
use descriptors::{Descriptors, Scraped, Seats};
use serving::{Apps, Rooms, Serving, Signals};

/// What one process serves.
#[derive(Default)]
pub(crate) struct Process {
    pub(crate) hub: Option<(Hub, Bound)>,
    pub(crate) gateway: Option<(Gateway, Bound)>,
    /// Where the hub hears from the gateway in the same process, and what it answers there with.
    pub(crate) inside: Option<(Pipes, Router)>,
    /// What it reads anew at SIGHUP.
    anew: Anew,
}

pub(crate) async fn serve(args: ServeArgs, tracing: Tracing) -> anyhow::Result<()> {
    let signals = Signals::listen()?;
    settings::reach(&args.process, Some(&args.hub), Some(&args.edge))?;
    let hub = settings::hub(&args.hub, &args.window)?.tracing(tracing.clone());
    let (mut edge, keys) = settings::edge(&args.edge, &args.window, &args.process)?;
    edge.tracing = tracing;
    edge.event_bytes = u32::try_from(args.hub.max_event_bytes).unwrap_or(u32::MAX);
    let (hub_bound, edge_bound) = (bind::hub(&args.hub).await?, bind::edge(&args.edge).await?);
    let admin = bind::admin(&args.process).await?;
    edge.shown_hub = Some(hub_bound.local_url());
    let hub = start_hub(&args.hub, hub).await?;
    // Through a pipe, not the hub's listener: so it needs no certificate or token of its own, and nobody else can be it.
    let (dial, pipes) = pipes();
    let inside = inside(&args.hub, &hub, &edge.gateway_id);
    edge.hubs = "http://this-process".to_owned();
    let connector = move |_: String, _| {
        let dial = dial.clone();
        async move { dial.connect().await }
    };
    let gateway = start_gateway(edge, connector)?;
    let mut anew = Anew::default();
    anew.keys(keys);
    anew.credentials(&args.hub, &hub);
    let process = Process {
        hub: Some((hub, hub_bound)),
        gateway: Some((gateway, edge_bound)),
        inside: Some((pipes, inside)),
        anew,
    };
    run(process, admin, &args.process, Some(&args.hub), Some(&args.edge), signals).await
}

pub(crate) async fn hub(args: HubCommand, tracing: Tracing) -> anyhow::Result<()> {
    let signals = Signals::listen()?;
    settings::reach(&args.process, Some(&args.hub), None)?;
    let config = settings::hub(&args.hub, &args.window)?.tracing(tracing);
    let bound = bind::hub(&args.hub).await?;
    let admin = bind::admin(&args.process).await?;
    let hub = start_hub(&args.hub, config).await?;
    let mut anew = Anew::default();
    anew.credentials(&args.hub, &hub);
    let process = Process { hub: Some((hub, bound)), anew, ..Process::default() };
    run(process, admin, &args.process, Some(&args.hub), None, signals).await
}

pub(crate) async fn gateway(args: GatewayCommand, tracing: Tracing) -> anyhow::Result<()> {
    let signals = Signals::listen()?;
    let (mut config, keys) = settings::edge(&args.edge, &args.window, &args.process)?;
    config.hubs = args.hub.join(",");
    config.leave_log_after = args.leave_log_after;
    config.shown_hub = args.hub.first().cloned();
    config.tracing = tracing;
    let peer = Peer::of(&args.peer, &args.hub)?;
    config.hub_token_source = peer.token_source().map(HubTokenSource::new);
    config.hub_token = peer.token.map(HubToken::new);
    settings::reach(&args.process, None, Some(&args.edge))?;
    let bound = bind::edge(&args.edge).await?;
    let admin = bind::admin(&args.process).await?;
    let gateway = match peer.tls {
        Some(tls) => start_gateway(config, tls.over(TcpConnector))?,
        None => start_gateway(config, TcpConnector)?,
    };
    let mut anew = Anew::default();
    anew.keys(keys);
    let process = Process { gateway: Some((gateway, bound)), anew, ..Process::default() };
    run(process, admin, &args.process, None, Some(&args.edge), signals).await
}

/// The exit code of a process whose disk has failed (`EX_IOERR`).
const DISK_FAILED: i32 = 74;

async fn start_hub(args: &HubArgs, config: galaxy_push_hub::Config) -> anyhow::Result<Hub> {
    match (args.store, &args.data_dir) {
        (Store::Memory, Some(_)) => Err(Usage("--data-dir is for --store disk: add that".to_owned()).into()),
        (Store::Disk, None) => Err(Usage("--store disk needs --data-dir FOLDER".to_owned()).into()),
        (Store::Memory, None) => {
            let hub = Hub::in_memory(config, ambient())?;
            tracing::info!(
                "the store is memory: a restart forgets events, revocations (`revoke`) and memberships; a revoked token that has \
                 not expired is then good again"
            );
            Ok(hub)
        }
        (Store::Disk, Some(folder)) => {
            let folder = folder.clone();
            let open = move || Hub::on_disk(config, &folder, ambient(), Arc::new(disk_failed));
            Ok(tokio::task::spawn_blocking(open).await??)
        }
    }
}

/// Nothing more can be acknowledged, and what was acknowledged is on the disk: the next process finds it.
#[expect(clippy::exit, reason = "a drain would wait for a disk that does not answer")]
fn disk_failed(reason: &str) {
    tracing::error!(
        reason,
        code = DISK_FAILED,
        "the disk has failed: the process ends; start it again on a disk that works"
    );
    std::process::exit(DISK_FAILED)
}

/// What a hub answers the gateway of its own process with. Where it knows its peers, that one is a gateway like any
/// other: it reads, and what it passes on for the try-it page is not its to publish.
fn inside(args: &HubArgs, hub: &Hub, gateway_id: &str) -> Router {
    match args.hub_credentials {
        Some(_) => hub.router_for(Identity::new(gateway_id, Role::Gateway)),
        None => hub.router(),
    }
}

fn start_gateway(config: galaxy_push_gateway::Config, connector: impl Connector) -> anyhow::Result<Gateway> {
    Gateway::start(config, connector, ambient()).map_err(|error| match error {
        StartError::Origin(_) => Usage(format!("--allowed-origins: {error}")).into(),
        error => error.into(),
    })
}

/// How many connections each listener may have, of what the system gives to this process.
fn rooms(
    process: &Process,
    args: &ProcessArgs,
    hub: Option<&HubArgs>,
    edge: Option<&EdgeArgs>,
) -> (Rooms, Scraped) {
    let proxies = Proxies::new(args.trusted_proxies.iter().copied());
    let descriptors = Descriptors::raise();
    let shares = descriptors.shares(process.hub.is_some(), process.gateway.is_some());
    let seats =
        |name, limits, connections, asks| Seats::new(name, limits, connections, asks, proxies.clone());
    let hub_asks = hub.is_some_and(|args| args.hub_credentials.is_some());
    let edge_asks = edge.is_some_and(|args| args.user_keys.is_some() && !args.dev);
    let rooms = Rooms {
        hub: process.hub.as_ref().map(|_| seats("hub", Limits::hub(), shares.hub, hub_asks)),
        edge: process.gateway.as_ref().map(|_| seats("edge", Limits::edge(), shares.edge, edge_asks)),
        admin: seats("admin", Limits::admin(), shares.admin, false),
    };
    let all = [("hub", rooms.hub.as_ref()), ("edge", rooms.edge.as_ref()), ("admin", Some(&rooms.admin))];
    let listeners = all.into_iter().filter_map(|(name, seats)| Some((name, seats?.places.clone()))).collect();
    (rooms, Scraped { descriptors, listeners })
}

async fn run(
    mut process: Process,
    admin: Bound,
    args: &ProcessArgs,
    hub_args: Option<&HubArgs>,
    edge: Option<&EdgeArgs>,
    signals: Signals,
) -> anyhow::Result<()> {
    let rooms = rooms(&process, args, hub_args, edge);
    let mut registry = Registry::default();
    registry.register_collector(Box::new(rooms.1));
    if let Some((hub, _)) = &process.hub {
        hub.register(&mut registry);
    }
    if let Some((gateway, _)) = &process.gateway {
        gateway.register(&mut registry);
    }
    let mut apps = Apps::default();
    if let Some((hub, bound)) = &process.hub {
        let app = hub.router().merge(probes(hub.health()));
        let is_open = hub_args.is_none_or(|args| args.hub_credentials.is_none());
        apps.hub = secure::hub_app(app, bound, is_open, args);
    }
    if let Some((gateway, _)) = &process.gateway {
        apps.edge = gateway.router().merge(terse_probes(gateway.health()));
    }
    let process_epoch = process.hub.as_ref().map(|(hub, _)| hub.head().cursor.epoch.to_string());
    let admin_app = admin::router(registry, admin::Health::of(&process));
    apps.admin = secure::admin_app(admin_app, &admin, args);
    let announcement = Announcement::of(&process, &admin, hub_args, edge);
    let mut anew = std::mem::take(&mut process.anew);
    anew.certificate("hub certificate", process.hub.as_ref().and_then(|(_, bound)| bound.tls.as_ref()));
    anew.certificate("edge certificate", process.gateway.as_ref().and_then(|(_, bound)| bound.tls.as_ref()));
    let serving = Serving::start(process, admin, apps, rooms.0);
    serving.ready().await;
    announcement.print(args.ready_json)?;
    announcement.log(process_epoch.as_deref());
    serving.until_signal(signals, &anew, args.drain_timeout).await;
    Ok(())
}
