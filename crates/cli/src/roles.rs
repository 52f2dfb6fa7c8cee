//! The commands that serve: `serve`, `hub` and `gateway`.
//!
//! Each checks its settings, then binds its listeners, so that a port in use is the first thing that can go wrong; then
//! starts its roles, says where they listen, and serves until a signal starts the drain.

mod admin;
mod announce;
mod bind;
mod serving;
mod settings;

use galaxy_push_client::{TcpConnector, Tracing};
use galaxy_push_gateway::{Gateway, StartError};
use galaxy_push_hub::Hub;
use galaxy_push_listener::ambient;
use prometheus_client::registry::Registry;

use crate::Usage;
use crate::args::{EdgeArgs, GatewayCommand, HubArgs, HubCommand, ProcessArgs, ServeArgs, Store};
use announce::Announcement;
use bind::Bound;
use serving::{Serving, Signals};

/// What one process serves.
#[derive(Default)]
pub(crate) struct Process {
    pub(crate) hub: Option<(Hub, Bound)>,
    pub(crate) gateway: Option<(Gateway, Bound)>,
}

pub(crate) async fn serve(args: ServeArgs, tracing: Tracing) -> anyhow::Result<()> {
    let signals = Signals::listen()?;
    let hub = settings::hub(&args.hub, &args.window)?.tracing(tracing.clone());
    let mut edge = settings::edge(&args.edge, &args.window)?;
    edge.tracing = tracing;
    edge.event_bytes = u32::try_from(args.hub.max_event_bytes).unwrap_or(u32::MAX);
    settings::reach(&args.process, Some(&args.hub), Some(&args.edge))?;
    let (hub_bound, edge_bound) = (bind::hub(&args.hub).await?, bind::edge(&args.edge).await?);
    let admin = bind::admin(&args.process).await?;
    edge.hubs = hub_bound.local_url();
    let hub = start_hub(&args.hub, hub)?;
    let gateway = start_gateway(edge)?;
    let process = Process { hub: Some((hub, hub_bound)), gateway: Some((gateway, edge_bound)) };
    run(process, admin, &args.process, Some(&args.edge), signals).await
}

pub(crate) async fn hub(args: HubCommand, tracing: Tracing) -> anyhow::Result<()> {
    let signals = Signals::listen()?;
    let config = settings::hub(&args.hub, &args.window)?.tracing(tracing);
    settings::reach(&args.process, Some(&args.hub), None)?;
    let bound = bind::hub(&args.hub).await?;
    let admin = bind::admin(&args.process).await?;
    let hub = start_hub(&args.hub, config)?;
    run(Process { hub: Some((hub, bound)), gateway: None }, admin, &args.process, None, signals).await
}

pub(crate) async fn gateway(args: GatewayCommand, tracing: Tracing) -> anyhow::Result<()> {
    let signals = Signals::listen()?;
    let mut config = settings::edge(&args.edge, &args.window)?;
    config.hubs = args.hub.join(",");
    config.tracing = tracing;
    settings::reach(&args.process, None, Some(&args.edge))?;
    let bound = bind::edge(&args.edge).await?;
    let admin = bind::admin(&args.process).await?;
    let gateway = start_gateway(config)?;
    let process = Process { hub: None, gateway: Some((gateway, bound)) };
    run(process, admin, &args.process, Some(&args.edge), signals).await
}

fn start_hub(args: &HubArgs, config: galaxy_push_hub::Config) -> anyhow::Result<Hub> {
    match args.store {
        Store::Memory => Ok(Hub::in_memory(config, ambient())?),
    }
}

fn start_gateway(config: galaxy_push_gateway::Config) -> anyhow::Result<Gateway> {
    Gateway::start(config, TcpConnector, ambient()).map_err(|error| match error {
        StartError::Origin(_) => Usage(format!("--allowed-origins: {error}")).into(),
        error => error.into(),
    })
}

async fn run(
    process: Process,
    admin: Bound,
    args: &ProcessArgs,
    edge: Option<&EdgeArgs>,
    signals: Signals,
) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    if let Some((hub, _)) = &process.hub {
        hub.register(&mut registry);
    }
    if let Some((gateway, _)) = &process.gateway {
        gateway.register(&mut registry);
    }
    let admin_app = admin::router(registry, admin::Health::of(&process));
    let announcement = Announcement::of(&process, &admin, edge);
    let serving = Serving::start(process, admin, admin_app);
    serving.ready().await;
    announcement.print(args.ready_json)?;
    serving.until_signal(signals, args.drain_timeout).await;
    Ok(())
}
