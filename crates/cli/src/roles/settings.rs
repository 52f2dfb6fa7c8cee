//! The settings of the roles, from flags: checked together before anything is bound or started.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::bail;
use galaxy_push_core::window::Bounds;
use galaxy_push_gateway::{Access, Development};
use galaxy_push_listener::{Proxies, ambient};
use galaxy_push_proto::validate::DATA_BYTES_DEFAULT;

use super::keys::KeyFile;
use super::secure;
use crate::Usage;
use crate::args::{EdgeArgs, HubArgs, ProcessArgs, WindowArgs};

/// The settings of a hub.
pub(super) fn hub(args: &HubArgs, window: &WindowArgs) -> anyhow::Result<galaxy_push_hub::Config> {
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let config = galaxy_push_hub::Config::default()
        .window(bounds(window))
        .event_bytes_max(args.max_event_bytes)
        .publishes_in_flight(size(args.max_publishes), size(args.max_publish_bytes))
        .standing_records_max(size(args.max_standing_records))
        .invalidation_life(args.invalidation_life)
        .membership_life(args.membership_life)
        .access(secure::access(args)?);
    config.check().map_err(|invalid| {
        let flag = flag_of(invalid.setting);
        // Each flag was checked by itself, so where one still does not fit it is two of them together.
        let tip = if flag == "--window-bytes" { ": raise it, or lower --max-event-bytes" } else { "" };
        Usage(format!("{flag} {}{tip}", invalid.rule))
    })?;
    Ok(config)
}

/// The flag that makes a setting of the hub.
fn flag_of(setting: &str) -> &str {
    match setting {
        "window.age" => "--window-age",
        "window.events" => "--window-events",
        "window.bytes" => "--window-bytes",
        "event_bytes_max" => "--max-event-bytes",
        "publishes_in_flight.requests" => "--max-publishes",
        "publishes_in_flight.bytes" => "--max-publish-bytes",
        "invalidation_life" => "--invalidation-life",
        "membership_life" => "--membership-life",
        other => other, // no flag makes it, so nobody can have made it wrong
    }
}

/// The settings of a gateway, but for the hubs; and the file that its keys come from.
pub(super) fn edge(
    args: &EdgeArgs,
    window: &WindowArgs,
    process: &ProcessArgs,
) -> anyhow::Result<(galaxy_push_gateway::Config, Option<Arc<KeyFile>>)> {
    let id = args.gateway_id.clone().unwrap_or_else(|| format!("gateway-{:016x}", ambient().random()));
    if window.window_bytes < DATA_BYTES_DEFAULT as u64 {
        let usage =
            format!("--window-bytes must hold at least one event of {DATA_BYTES_DEFAULT} bytes: raise it");
        bail!(Usage(usage));
    }
    let mut config = galaxy_push_gateway::Config::new("", id);
    config.window = bounds(window);
    let (access, keys) = access(args)?;
    config.access = access;
    config.allowed_origins.clone_from(&args.allowed_origins);
    config.ignored_query.clone_from(&args.ignored_query);
    config.trusted_proxies = Proxies::new(process.trusted_proxies.iter().copied());
    let limit = |count: Option<u64>| count.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
    config.progress_interval = args.progress_interval;
    config.client_frames_per_second = u32::try_from(args.max_client_frames).unwrap_or(u32::MAX);
    config.limits.connections = limit(args.max_connections);
    config.limits.connections_per_user = limit(args.max_user_connections);
    config.limits.connections_per_address = limit(args.max_address_connections);
    config.limits.resumes_per_second = limit(args.max_user_resumes);
    Ok((config, keys))
}

/// Who can reach the listeners: only this machine, unless somebody said so.
pub(super) fn reach(
    process: &ProcessArgs,
    hub: Option<&HubArgs>,
    edge: Option<&EdgeArgs>,
) -> Result<(), Usage> {
    let listeners = [
        hub.filter(|args| args.hub_tls_cert.is_none()).map(|args| ("--hub-addr", args.hub_addr)),
        edge.filter(|args| args.edge_tls_cert.is_none()).map(|args| ("--edge-addr", args.edge_addr)),
        Some(("--admin-addr", process.admin_addr)),
    ];
    let exposed = |(_, address): &(_, SocketAddr)| !address.ip().is_loopback();
    match listeners.into_iter().flatten().find(exposed) {
        Some((flag, address)) if !process.plaintext => Err(Usage(format!(
            "{flag} {address} can be reached from other machines, and nothing on it is encrypted: {}add --plaintext to \
             allow that, or bind a loopback address such as 127.0.0.1:{}",
            match flag {
                "--hub-addr" => "give --hub-tls-cert, ",
                "--edge-addr" => "give --edge-tls-cert, ",
                _ => "",
            },
            address.port()
        ))),
        _ => open(hub),
    }?;
    if !process.admin_addr.ip().is_loopback() {
        tracing::warn!(
            admin = %process.admin_addr,
            "whoever reaches the admin listener can read its metrics and what is going on: bind it where only you reach it"
        );
    }
    Ok(())
}

/// A hub that lets everybody in is for this machine, unless somebody said so.
fn open(hub: Option<&HubArgs>) -> Result<(), Usage> {
    let is_exposed =
        |args: &&HubArgs| args.hub_credentials.is_none() && !args.hub_addr.ip().is_loopback() && !args.open;
    hub.filter(is_exposed).map_or(Ok(()), |args| {
        Err(Usage(format!(
            "--hub-addr {} can be reached from other machines, and everybody there could publish anything and read everything: \
             give --hub-credentials FILE (docs/security.md), add --open to allow that, or bind a loopback address such as \
             127.0.0.1:{}",
            args.hub_addr,
            args.hub_addr.port()
        )))
    })
}

/// How users say who they are: by tokens when there are keys, by name in development mode.
fn access(args: &EdgeArgs) -> anyhow::Result<(Access, Option<Arc<KeyFile>>)> {
    let loopback = args.edge_addr.ip().is_loopback();
    match (&args.user_keys, args.dev) {
        (Some(_), true) => bail!(Usage(
            "--dev believes whoever connects without a token, and --user-keys is there to check tokens: take one of the two \
             away"
                .into()
        )),
        (Some(path), false) => {
            let file = KeyFile::open(path)?;
            Ok((by_tokens(args, &file), Some(Arc::new(file))))
        }
        (None, dev) if dev || loopback => Ok((by_name(args, dev, loopback), None)),
        (None, _) => bail!(Usage(format!(
            "users of --edge-addr {} could not say who they are: give --user-keys FILE (`galaxy-push token --new-keys \
             FILE` makes one), or --dev to believe everybody",
            args.edge_addr
        ))),
    }
}

fn by_tokens(args: &EdgeArgs, file: &KeyFile) -> Access {
    let mut keys = file.keys();
    if let Some(issuer) = &args.user_issuer {
        keys = keys.issuer(issuer);
    }
    match &args.user_audience {
        Some(audience) => keys = keys.audience(audience),
        None => tracing::info!(
            "tokens that are for an audience (`aud`) are refused: --user-audience says which one is ours"
        ),
    }
    Access::keys(keys)
}

fn by_name(args: &EdgeArgs, dev: bool, loopback: bool) -> Access {
    let mut access = Access::development();
    if dev {
        access.development = Some(Development::Proxied);
    }
    if loopback {
        tracing::info!(
            proxied = dev,
            "development mode is on: whoever connects from this machine is believed to be the user they say"
        );
    } else {
        tracing::warn!(
            edge = %args.edge_addr,
            "DEVELOPMENT MODE on an address that others can reach: whoever connects can be any user and publish anything"
        );
    }
    access
}

const fn bounds(args: &WindowArgs) -> Bounds {
    Bounds { age: args.window_age, events: args.window_events, bytes: args.window_bytes }
}
