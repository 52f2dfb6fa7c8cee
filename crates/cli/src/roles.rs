//! The commands that serve: `serve`, `hub` and `gateway`.
//!
//! Each binds its listeners first, so that a port in use is the first thing said; then starts its roles, says where they
//! listen, and serves until a signal starts the drain.

mod admin;
mod bind;
mod drain;

use std::io::Write as _;

use anyhow::{Context as _, bail};
use galaxy_push_client::TcpConnector;
use galaxy_push_core::window::Bounds;
use galaxy_push_gateway::{Access, Gateway, Keys};
use galaxy_push_hub::Hub;
use galaxy_push_listener::{Limits, ambient};
use prometheus_client::registry::Registry;
use serde::Serialize;

use crate::args::{EdgeArgs, GatewayCommand, HubArgs, HubCommand, ProcessArgs, ServeArgs, Store, WindowArgs};
use bind::Bound;

/// What one process serves.
#[derive(Default)]
pub(crate) struct Process {
    pub(crate) hub: Option<(Hub, Bound)>,
    pub(crate) gateway: Option<(Gateway, Bound)>,
}

pub(crate) async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    let hub_bound = bind::hub(&args.hub, &args.process).await?;
    let edge_bound = bind::edge(&args.edge, &args.process).await?;
    let admin_bound = bind::admin(&args.process).await?;
    let hub = start_hub(&args.hub, &args.window)?;
    let gateway = start_gateway(&args.edge, &args.window, Some(&args.hub), &[hub_bound.local_url()])?;
    let process = Process { hub: Some((hub, hub_bound)), gateway: Some((gateway, edge_bound)) };
    run(process, admin_bound, &args.process).await
}

pub(crate) async fn hub(args: HubCommand) -> anyhow::Result<()> {
    let bound = bind::hub(&args.hub, &args.process).await?;
    let admin_bound = bind::admin(&args.process).await?;
    let hub = start_hub(&args.hub, &args.window)?;
    run(Process { hub: Some((hub, bound)), gateway: None }, admin_bound, &args.process).await
}

pub(crate) async fn gateway(args: GatewayCommand) -> anyhow::Result<()> {
    let bound = bind::edge(&args.edge, &args.process).await?;
    let admin_bound = bind::admin(&args.process).await?;
    let gateway = start_gateway(&args.edge, &args.window, None, &args.hub)?;
    run(Process { hub: None, gateway: Some((gateway, bound)) }, admin_bound, &args.process).await
}

fn start_hub(args: &HubArgs, window: &WindowArgs) -> anyhow::Result<Hub> {
    let config = galaxy_push_hub::Config::default()
        .window(bounds(window))
        .event_bytes_max(usize::try_from(args.max_event_bytes).unwrap_or(usize::MAX));
    match args.store {
        Store::Memory => Ok(Hub::in_memory(config, ambient())?),
    }
}

fn start_gateway(
    args: &EdgeArgs,
    window: &WindowArgs,
    hub: Option<&HubArgs>,
    hubs: &[String],
) -> anyhow::Result<Gateway> {
    let ambient = ambient();
    let id = args.gateway_id.clone().unwrap_or_else(|| format!("gateway-{:016x}", ambient.random()));
    let mut config = galaxy_push_gateway::Config::new(hubs.join(","), id);
    config.window = bounds(window);
    config.access = access(args)?;
    config.allowed_origins.clone_from(&args.allowed_origins);
    if let Some(hub) = hub {
        config.event_bytes = u32::try_from(hub.max_event_bytes).unwrap_or(u32::MAX);
    }
    Ok(Gateway::start(config, TcpConnector, ambient)?)
}

/// How users say who they are: by tokens when there are keys, by name in development mode.
fn access(args: &EdgeArgs) -> anyhow::Result<Access> {
    let loopback = args.edge_addr.ip().is_loopback();
    let mut access = match &args.user_keys {
        Some(path) => {
            let text = std::fs::read(path).with_context(|| {
                format!(
                    "cannot read --user-keys {}; `galaxy-push token --new-keys FILE` makes such a file",
                    path.display()
                )
            })?;
            let keys = Keys::from_jwks(&text).with_context(|| format!("--user-keys {}", path.display()))?;
            Access::keys(keys)
        }
        None if args.dev || loopback => Access::development(),
        None => bail!(
            "users of --edge-addr {} could not say who they are: give --user-keys FILE, or --dev to believe everybody",
            args.edge_addr
        ),
    };
    access.development |= args.dev;
    if access.development && !loopback {
        tracing::warn!(
            edge = %args.edge_addr,
            "DEVELOPMENT MODE on an address that others can reach: whoever connects can be any user and publish anything"
        );
    }
    Ok(access)
}

const fn bounds(args: &WindowArgs) -> Bounds {
    Bounds { age: args.window_age, events: args.window_events, bytes: args.window_bytes }
}

async fn run(process: Process, admin: Bound, args: &ProcessArgs) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    if let Some((hub, _)) = &process.hub {
        hub.register(&mut registry);
    }
    if let Some((gateway, _)) = &process.gateway {
        gateway.register(&mut registry);
    }
    let health = admin::Health::of(&process);
    let admin_app = admin::router(registry, health);
    announce(&process, &admin, args).context("cannot write to stdout")?;
    drain::serve_until_signal(process, admin, admin_app, Limits::edge(), args.drain_timeout).await
}

/// What `--ready-json` says.
#[derive(Serialize)]
struct Urls {
    #[serde(skip_serializing_if = "Option::is_none")]
    hub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    edge: Option<String>,
    admin: String,
}

fn announce(process: &Process, admin: &Bound, args: &ProcessArgs) -> std::io::Result<()> {
    let hub = process.hub.as_ref().map(|(_, bound)| bound.local_url());
    let edge = process.gateway.as_ref().map(|(_, bound)| bound.local_url());
    let admin = admin.local_url();
    let mut out = std::io::stdout().lock();
    if args.ready_json {
        writeln!(out, "{}", serde_json::to_string(&Urls { hub, edge, admin })?)?;
        return out.flush();
    }
    if let Some(hub) = &hub {
        writeln!(out, "hub    {hub}   gateways and publishers: gRPC, POST /v1/events")?;
    }
    if let Some(edge) = &edge {
        writeln!(out, "edge   {edge}   users: /v1/stream, /v1/ws")?;
    }
    writeln!(out, "admin  {admin}   /metrics, /readyz?verbose")?;
    if let (Some(hub), Some(edge)) = (&hub, &edge) {
        writeln!(
            out,
            "\nOpen {edge}/ in a browser, or in another terminal:\n  curl -N '{edge}/v1/stream?user=42'\n  galaxy-push publish --hub {hub} --to user:42 --type turn.ready '{{\"turn\":7}}'"
        )?;
    }
    out.flush()
}
