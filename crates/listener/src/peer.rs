//! Who is at the other end of a connection, as every request tells its handler.
//!
//! `serve.rs` puts it into the extensions of each request; hub and gateway read it there. Behind a proxy it is the proxy's address: see
//! [`Proxies`](crate::Proxies).

use std::net::SocketAddr;

/// The address of the peer, in the extensions of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);
