//! What every listener of Galaxy Push does alike: accept, bound, answer probes, drain.
//!
//! Hub, edge and admin each hand [`serve`] or [`serve_tls`] an axum router. One port speaks HTTP/1.1 and HTTP/2 (gRPC
//! included); each connection has a deadline for its first request, keepalive, and bounds on what a peer may make this
//! process hold. The socket side is the trait [`Accept`], so a simulated network fits as well as TCP.
//!
//! It knows no events, streams or users: ending those when it is time is the app's part of a drain.

mod accept;
mod ambient;
mod limits;
mod pages;
mod pipes;
mod probes;
mod serve;
mod tls;
mod watched;

pub use accept::{Accept, listen, listen_for_users};
pub use ambient::ambient;
pub use limits::Limits;
pub use pages::{Hosts, address, host, is_local_name, without_pages};
pub use pipes::{Dial, Pipes, pipes};
pub use probes::{Check, Health, probes};
pub use serve::{Drain, Peer, serve, serve_tls};
pub use tls::{PeerNames, Tls, TlsError, TlsFiles};
pub use watched::Stalled;
