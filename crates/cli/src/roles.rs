//! The commands that serve: `serve`, `hub` and `gateway`.
//!
//! Each checks its settings, then binds its listeners, so that a port in use is the first thing that can go wrong, and lets
//! them answer probes; then starts its roles, which may take a while where a log has to be read, says where they listen, and
//! serves until a signal starts the drain.

mod admin;
mod anew;
mod announce;
mod bind;
mod credentials;
mod descriptors;
mod keys;
mod listening;
mod process;
mod secure;
mod serving;
mod settings;
mod store;

use axum::Router;
use galaxy_push_client::{Connector, TcpConnector, Tracing};
use galaxy_push_gateway::{Gateway, HubToken, HubTokenSource, StartError};
use galaxy_push_hub::{Hub, Identity, Recovery, Role};
use galaxy_push_listener::{MemoryListener, ambient, memory_listener, probes, terse_probes};
use prometheus_client::registry::Registry;

use crate::Usage;
use crate::args::{EdgeArgs, GatewayCommand, HubArgs, HubCommand, ProcessArgs, ServeArgs};
use crate::peer::Peer;
use anew::Anew;
use announce::Announcement;
use descriptors::Scraped;
use listening::{Apps, Listeners, Listening};
use serving::{Serving, Signals};
use store::Kept;

/// What one process serves.
#[derive(Default)]
pub(crate) struct Process {
    pub(crate) hub: Option<Hub>,
    pub(crate) gateway: Option<Gateway>,
    /// Where the hub hears from the gateway in the same process, and what it answers there with.
    pub(crate) inside: Option<(MemoryListener, Router)>,
    /// What it reads anew at SIGHUP.
    anew: Anew,
}

pub(crate) async fn serve(args: ServeArgs, tracing: Tracing) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    settings::reach(&args.process, Some(&args.hub), Some(&args.edge))?;
    let kept = Kept::of(&args.hub)?;
    let hub = settings::hub(&args.hub, &args.window)?.tracing(tracing.clone());
    let (mut edge, keys) = settings::edge(&args.edge, &args.window, &args.process)?;
    edge.tracing = tracing;
    edge.event_bytes = u32::try_from(args.hub.max_event_bytes).unwrap_or(u32::MAX);
    let hub_bound = bind::hub(&args.hub, secure::hub_tls(&args.hub)?).await?;
    let edge_bound = bind::edge(&args.edge, secure::edge_tls(&args.edge)?).await?;
    edge.shown_hub = Some(hub_bound.at.local_url());
    let admin = bind::admin(&args.process).await?;
    let listeners = Listeners { hub: Some(hub_bound), edge: Some(edge_bound), admin };
    let asked = (&args.process, Some(&args.hub), Some(&args.edge));
    let recovery = kept.recovery();
    let listening = Listening::start(listeners, &recovery, asked.0, asked.1, asked.2);
    let Some(hub) = kept.start_hub(hub, recovery, &listening.0.at, &mut signals).await? else {
        return Ok(());
    };
    // Through a pipe, not the hub's listener: so it needs no certificate or token of its own, and nobody else can be it.
    let (dial, pipes) = memory_listener();
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
    let process = Process { hub: Some(hub), gateway: Some(gateway), inside: Some((pipes, inside)), anew };
    run(process, listening, asked, signals).await
}

pub(crate) async fn hub(args: HubCommand, tracing: Tracing) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    settings::reach(&args.process, Some(&args.hub), None)?;
    let kept = Kept::of(&args.hub)?;
    let config = settings::hub(&args.hub, &args.window)?.tracing(tracing);
    let hub = Some(bind::hub(&args.hub, secure::hub_tls(&args.hub)?).await?);
    let listeners = Listeners { hub, edge: None, admin: bind::admin(&args.process).await? };
    let recovery = kept.recovery();
    let listening = Listening::start(listeners, &recovery, &args.process, Some(&args.hub), None);
    let Some(hub) = kept.start_hub(config, recovery, &listening.0.at, &mut signals).await? else {
        return Ok(());
    };
    let mut anew = Anew::default();
    anew.credentials(&args.hub, &hub);
    let process = Process { hub: Some(hub), anew, ..Process::default() };
    run(process, listening, (&args.process, Some(&args.hub), None), signals).await
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
    let edge = Some(bind::edge(&args.edge, secure::edge_tls(&args.edge)?).await?);
    let listeners = Listeners { hub: None, edge, admin: bind::admin(&args.process).await? };
    let listening = Listening::start(listeners, &Recovery::default(), &args.process, None, Some(&args.edge));
    let gateway = match peer.tls {
        Some(tls) => start_gateway(config, tls.over(TcpConnector))?,
        None => start_gateway(config, TcpConnector)?,
    };
    let mut anew = Anew::default();
    anew.keys(keys);
    let process = Process { gateway: Some(gateway), anew, ..Process::default() };
    run(process, listening, (&args.process, None, Some(&args.edge)), signals).await
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

async fn run(
    mut process: Process,
    (listening, scraped): (Listening, Scraped),
    (args, hub_args, edge): (&ProcessArgs, Option<&HubArgs>, Option<&EdgeArgs>),
    signals: Signals,
) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(scraped));
    if let Some(hub) = &process.hub {
        hub.register(&mut registry);
    }
    if let Some(gateway) = &process.gateway {
        gateway.register(&mut registry);
    }
    let (mut apps, at) = (Apps::default(), &listening.at);
    if let (Some(hub), Some(at)) = (&process.hub, &at.hub) {
        let app = hub.router().merge(probes(hub.health()));
        let is_open = hub_args.is_none_or(|args| args.hub_credentials.is_none());
        apps.hub = secure::hub_app(app, at, is_open, args);
    }
    if let Some(gateway) = &process.gateway {
        apps.edge = gateway.router().merge(terse_probes(gateway.health()));
    }
    let process_epoch = process.hub.as_ref().map(|hub| hub.head().cursor.epoch.to_string());
    apps.admin = secure::admin_app(admin::router(registry, admin::Health::of(&process)), &at.admin, args);
    let mut anew = std::mem::take(&mut process.anew);
    let announcement = Announcement::of(at, hub_args, edge, anew.signs());
    anew.certificate("hub certificate", at.hub.as_ref().and_then(|at| at.tls.as_ref()));
    anew.certificate("edge certificate", at.edge.as_ref().and_then(|at| at.tls.as_ref()));
    let serving = Serving::start(process, listening, apps);
    serving.ready().await;
    announcement.print(args.ready_json)?;
    announcement.log(process_epoch.as_deref());
    serving.until_signal(signals, &anew, args.drain_timeout).await;
    Ok(())
}
