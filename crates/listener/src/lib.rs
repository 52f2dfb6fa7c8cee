//! What every listener of Galaxy Push does alike: accept, bound, answer probes, drain.
//!
//! Hub, edge and admin each hand [`serve()`] or [`serve_tls`] an axum router. One port speaks HTTP/1.1 and HTTP/2 (gRPC
//! included); each connection has a deadline for its first request, keepalive, and bounds on what a peer may make this
//! process hold. The socket side is the trait [`Accept`], so a simulated network fits as well as TCP.
//!
//! From a socket to a handler, one file for each layer:
//!
//! ```text
//! accept.rs         sockets with a backlog for a herd, and what the kernel says of them (kernel_queue.rs)
//! stall_guard.rs    closes a connection whose peer takes no bytes, or answers no ping
//! tls.rs            TLS, and who the peer is by its certificate
//! slot_io.rs        gives the connection's slot back when its stream closes (slots.rs: who gets one)
//! serve.rs          HTTP; response_body.rs: when an answer is complete, and whether it was a refusal
//! browser_guard.rs  refuses requests of web pages, where nobody shows credentials
//! ```
//!
//! In the extensions of every request the app finds [`Peer`], [`ConnectionHandle`], [`Outflow`], and over TLS [`PeerNames`].
//!
//! It knows no events and no users: ending an app's own streams is the app's part of a drain.

mod accept;
mod ambient;
mod browser_guard;
mod files;
#[cfg(target_os = "linux")]
mod kernel_queue;
mod limits;
mod log_limiter;
mod memory;
mod peer;
mod probes;
mod proxies;
mod response_body;
mod secrets;
mod serve;
mod slot_io;
mod slots;
mod stall_guard;
mod tls;
mod write_tracker;

pub use accept::{Accept, listen, listen_for_users};
pub use ambient::ambient;
pub use browser_guard::{
    AllowedHosts, address, authority, host, is_local_name, reject_browsers, shown_path, with_nosniff,
};
pub use files::{read_at_most, read_file, read_text};
pub use limits::Limits;
pub use log_limiter::LogLimiter;
pub use memory::{MemoryDialer, MemoryListener, memory_listener};
pub use peer::Peer;
pub use probes::{Check, Health, is_probe, probes, terse_probes};
pub use proxies::{IpNet, Proxies, subscriber};
pub use response_body::CompleteResponse;
pub use secrets::warn_of_readers;
pub use serve::{Drain, serve, serve_at, serve_tls};
pub use slots::{
    AbandonedResponse, AnonymousSlots, ConnectionHandle, ConnectionSlots, NoSlot, SlotCounts, SlotPolicy,
};
pub use stall_guard::{KernelQueue, Outflow};
pub use tls::{PeerNames, Tls, TlsError, TlsFiles};
pub use write_tracker::WriteTracker;
