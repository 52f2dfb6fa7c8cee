//! Listeners: bound before anything else starts.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::anyhow;
use axum::Router;
use galaxy_push_listener::{Drain, Tls, listen, listen_for_users, serve_at};
use tokio::net::TcpListener;

use super::descriptors::Seats;
use crate::args::{EdgeArgs, HubArgs, ProcessArgs};

/// A bound socket.
pub(crate) struct Bound {
    pub(crate) listener: TcpListener,
    pub(crate) at: At,
}

/// Where a listener is, and how it speaks.
#[derive(Clone)]
pub(crate) struct At {
    address: SocketAddr,
    /// If not in the clear.
    pub(crate) tls: Option<Arc<Tls>>,
}

impl At {
    /// The URL by which this machine reaches it.
    pub(crate) fn local_url(&self) -> String {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", SocketAddr::new(ip, self.address.port()))
    }

    pub(crate) fn is_loopback(&self) -> bool {
        self.address.ip().is_loopback()
    }
}

impl Bound {
    /// Serves until the drain is over.
    pub(super) async fn serve(self, app: Router, seats: Seats, drain: Drain) {
        serve_at(self.listener, self.at.tls, app, seats.limits, seats.places, drain).await;
    }
}

pub(crate) async fn hub(args: &HubArgs, tls: Option<Arc<Tls>>) -> anyhow::Result<Bound> {
    bind("--hub-addr", args.hub_addr, listen, tls).await
}

pub(crate) async fn edge(args: &EdgeArgs, tls: Option<Arc<Tls>>) -> anyhow::Result<Bound> {
    bind("--edge-addr", args.edge_addr, listen_for_users, tls).await
}

pub(crate) async fn admin(args: &ProcessArgs) -> anyhow::Result<Bound> {
    bind("--admin-addr", args.admin_addr, listen, None).await
}

async fn bind(
    flag: &str,
    address: SocketAddr,
    listen: impl FnOnce(SocketAddr) -> io::Result<TcpListener>,
    tls: Option<Arc<Tls>>,
) -> anyhow::Result<Bound> {
    let listener = listen(address).map_err(|error| {
        let tip = match error.kind() {
            ErrorKind::AddrInUse => {
                "another process listens there: end it, or give another port; 0 is any free one"
            }
            ErrorKind::AddrNotAvailable => "this machine has no such address; 0.0.0.0 stands for all it has",
            ErrorKind::PermissionDenied => "ports below 1024 need a privilege: give a higher one",
            _ => "give another address",
        };
        anyhow!("cannot listen on {flag} {address}: {error}\n\n  tip: {tip}")
    })?;
    let address = listener.local_addr()?;
    Ok(Bound { listener, at: At { address, tls } })
}
