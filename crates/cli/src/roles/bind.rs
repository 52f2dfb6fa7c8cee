//! Listeners: bound before anything else starts, and only where they may be.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, bail};
use tokio::net::TcpListener;

use crate::args::{EdgeArgs, HubArgs, ProcessArgs};

/// A bound socket.
pub(crate) struct Bound {
    pub(crate) listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// The URL by which this machine reaches it.
    pub(crate) fn local_url(&self) -> String {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        format!("http://{}", SocketAddr::new(ip, self.address.port()))
    }
}

pub(crate) async fn hub(args: &HubArgs, process: &ProcessArgs) -> anyhow::Result<Bound> {
    bind("--hub-addr", args.hub_addr, process.plaintext).await
}

pub(crate) async fn edge(args: &EdgeArgs, process: &ProcessArgs) -> anyhow::Result<Bound> {
    bind("--edge-addr", args.edge_addr, process.plaintext).await
}

pub(crate) async fn admin(args: &ProcessArgs) -> anyhow::Result<Bound> {
    bind("--admin-addr", args.admin_addr, args.plaintext).await
}

async fn bind(flag: &str, address: SocketAddr, plaintext: bool) -> anyhow::Result<Bound> {
    if !address.ip().is_loopback() && !plaintext {
        bail!(
            "{flag} {address} can be reached from other machines, and nothing is encrypted; add --plaintext to allow \
             that, or bind a loopback address such as 127.0.0.1:{}",
            address.port()
        );
    }
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; give another address with {flag}, or port 0 for any free one")
    })?;
    let address = listener.local_addr()?;
    Ok(Bound { listener, address })
}
