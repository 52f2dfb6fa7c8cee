//! How much of what was written to a connection its peer has not acknowledged, by the kernel's own table.
//!
//! A socket takes writes again only when a good part of its buffer has become free. On a slow path with long queues, such as
//! a bad mobile network, that is tens of seconds apart, though the peer takes bytes all the while. Only the kernel sees it.
//! Asked for by [`StallGuard`](crate::stall_guard::StallGuard), and only of connections that wait.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::stall_guard::KernelQueue;

/// The table is read this often at most, however many wait: of 10,000 connections it has a megabyte and a half.
const EVERY: Duration = Duration::from_secs(1);

type Connection = (SocketAddr, SocketAddr);

/// What the table said last.
#[derive(Default)]
struct Table {
    asked: Option<Instant>,
    /// It is being read now.
    is_read: bool,
    read: Option<(Instant, HashMap<Connection, u32>)>,
}

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);

/// What is known of a connection. It may be a moment old, or nothing yet: asking has it looked up anew, away from the async
/// workers.
pub(crate) fn of(stream: &TcpStream) -> Option<KernelQueue> {
    let key = (plain(stream.local_addr().ok()?), plain(stream.peer_addr().ok()?));
    let mut table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    if !table.is_read && table.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= EVERY) {
        (table.asked, table.is_read) = (Some(now), true);
        drop(tokio::task::spawn_blocking(read));
    }
    let (at, bytes) = table.read.as_ref()?;
    Some(KernelQueue { at: *at, bytes: bytes.get(&key).copied().unwrap_or_default().into() })
}

fn read() {
    // From before the reading on, so that what is compared with it was so later.
    let at = Instant::now();
    let waiting = waiting();
    let mut table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    table.is_read = false;
    if let Some(waiting) = waiting {
        table.read = Some((at, waiting));
    }
}

fn waiting() -> Option<HashMap<Connection, u32>> {
    let v4 = procfs::net::tcp().ok()?;
    let v6 = procfs::net::tcp6().unwrap_or_default();
    let waiting = v4.into_iter().chain(v6).filter(|entry| entry.tx_queue > 0);
    Some(
        waiting
            .map(|entry| ((plain(entry.local_address), plain(entry.remote_address)), entry.tx_queue))
            .collect(),
    )
}

/// An IPv4 address as such, also where a socket of IPv6 took the connection.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
