//! What every listener of Galaxy Push does alike: accept, bound, answer probes, drain.
//!
//! Hub, edge and admin each hand [`serve`] or [`serve_tls`] an axum router. One port speaks HTTP/1.1 and HTTP/2 (gRPC
//! included); each connection has a deadline for its first request, keepalive, and bounds on what a peer may make this
//! process hold. The socket side is the trait [`Accept`], so a simulated network fits as well as TCP.
//!
//! It knows no events, streams or users: ending those when it is time is the app's part of a drain.

mod accept;
mod ambient;
mod answered;
mod damped;
mod files;
mod limits;
mod pages;
mod pieces;
mod pipes;
mod places;
mod probes;
mod proxies;
mod seated;
mod secrets;
mod serve;
mod tls;
#[cfg(target_os = "linux")]
mod unacked;
mod watched;

pub use accept::{Accept, listen, listen_for_users};
pub use ambient::ambient;
pub use answered::Whole;
pub use damped::Damped;
pub use files::{read_at_most, read_file, read_text};
pub use limits::Limits;
pub use pages::{Hosts, address, authority, host, is_local_name, shown_path, unsniffed, without_pages};
pub use pieces::Pieces;
pub use pipes::{Dial, Pipes, pipes};
pub use places::{Full, GivenUp, House, Places, Strangers, Taken, Visitor};
pub use probes::{Check, Health, is_probe, probes, terse_probes};
pub use proxies::{IpNet, Proxies, subscriber};
pub use secrets::warn_of_readers;
pub use serve::{Drain, Peer, serve, serve_at, serve_tls};
pub use tls::{PeerNames, Tls, TlsError, TlsFiles};
pub use watched::{Outflow, Unacked};
