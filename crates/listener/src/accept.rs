//! Where connections come from: TCP in a process, a simulated network in a test.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};

#[cfg(target_os = "linux")]
use crate::kernel_queue;
use crate::stall_guard::KernelQueue;

/// Connections that may wait to be accepted; the kernel lowers it to its own limit.
///
/// Tokio asks for few. When all peers of a server come back at once, the kernel then drops and resets what it has no room
/// for, and each of those peers waits a second or longer before it tries again.
const BACKLOG: u32 = 4_096;

/// A user whose network is gone answers neither what is sent to it, at the latest a heartbeat after 25 s, nor the kernel's
/// probes after as long: 35 s later its connection is dead. The kernel by itself would go on for a quarter of an hour.
const USER_QUIET: Duration = Duration::from_secs(25);
const USER_PROBE_EVERY: Duration = Duration::from_secs(10);
const USER_UNANSWERED: Duration = Duration::from_secs(35);

/// What a socket's kernel may hold that was not sent yet, in bytes. More waits in this process, where it is seen whether
/// the peer takes it, and where a ping, or the end of a shutdown, need not wait behind megabytes. It bounds nothing that
/// is on its way, so a long and fast path is filled as ever.
const UNSENT: u32 = 128 << 10;
const UNSENT_TO_USERS: u32 = 16 << 10;

/// A bound socket that yields connections.
pub trait Accept: Send + 'static {
    /// One connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection. Cancel safe: a dropped call loses none.
    ///
    /// # Errors
    ///
    /// What the socket reports; the caller goes on accepting.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, SocketAddr)>> + Send;

    /// The peer of a connection did not take at once what was written, for the first time.
    fn fell_behind(_io: &Self::Io) {}

    /// How much of what was written the peer has not acknowledged, if that can be known.
    fn kernel_queue(_io: &Self::Io) -> Option<KernelQueue> {
        None
    }
}

/// Binds a socket that has room for a herd.
///
/// # Errors
///
/// When the address cannot be had.
///
/// # Panics
///
/// Outside a tokio runtime with I/O enabled.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server that is started again must not wait for the connections of the one before to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    hold_unsent(&listener, UNSENT)?;
    Ok(listener)
}

/// Each connection that is accepted inherits it.
fn hold_unsent(listener: &TcpListener, bytes: u32) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    SockRef::from(listener).set_tcp_notsent_lowat(bytes)?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (listener, bytes);
    Ok(())
}

/// As [`listen`], for users: each connection accepted is dead 60 s after the last sign of life, whatever it waits for.
///
/// # Errors
///
/// When the address cannot be had.
///
/// # Panics
///
/// Outside a tokio runtime with I/O enabled.
pub fn listen_for_users(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = listen(address)?;
    hold_unsent(&listener, UNSENT_TO_USERS)?;
    // What is set here, each connection inherits.
    let socket = SockRef::from(&listener);
    let probes = TcpKeepalive::new().with_time(USER_QUIET).with_interval(USER_PROBE_EVERY);
    socket.set_tcp_keepalive(&probes)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(USER_UNANSWERED))?;
    Ok(listener)
}

impl Accept for TcpListener {
    type Io = tokio::net::TcpStream;

    async fn accept(&mut self) -> io::Result<(Self::Io, SocketAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        // Frames are written whole; waiting to fill a segment only adds delay.
        stream.set_nodelay(true)?;
        Ok((stream, peer))
    }

    /// The kernel's deadline for what is unanswered also strikes a peer that reads slowly and shuts its window now and
    /// then, however steadily it reads. Such a one is judged by the bytes it takes.
    fn fell_behind(stream: &Self::Io) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Err(error) = SockRef::from(stream).set_tcp_user_timeout(None) {
            tracing::debug!(%error, "a slow peer keeps the kernel's deadline");
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let _ = stream;
    }

    #[cfg(target_os = "linux")]
    fn kernel_queue(stream: &Self::Io) -> Option<KernelQueue> {
        kernel_queue::of(stream)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_user_whose_network_is_gone_is_found_out_by_the_kernel() {
        let mut listener = listen_for_users(([127, 0, 0, 1], 0).into()).unwrap();
        let _user = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = Accept::accept(&mut listener).await.unwrap();
        let socket = SockRef::from(&accepted);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_UNANSWERED));
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), USER_QUIET);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), USER_PROBE_EVERY);
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT_TO_USERS);
        <TcpListener as Accept>::fell_behind(&accepted);
        assert_eq!(socket.tcp_user_timeout().unwrap(), None, "who is slow is judged by bytes");
    }

    /// Nobody accepts, so what has no room in the backlog is never answered, however often it is sent again.
    #[tokio::test]
    async fn a_herd_finds_room_to_wait() {
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let limit = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
        let herd = limit.trim().parse().unwrap_or(1_000).min(1_000);
        let mut waiting = Vec::with_capacity(herd);
        for number in 0..herd {
            let connecting = timeout(Duration::from_secs(10), TcpStream::connect(address));
            waiting.push(connecting.await.unwrap_or_else(|_| panic!("{number} found no room")).unwrap());
        }
    }
}
