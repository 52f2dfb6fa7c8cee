//! Where connections come from: TCP in a process, a simulated network in a test.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};

/// Connections that may wait to be accepted; the kernel lowers it to its own limit.
///
/// Tokio asks for few. When all peers of a server come back at once, the kernel then drops and resets what it has no room
/// for, and each of those peers waits a second or longer before it tries again.
const BACKLOG: u32 = 4_096;

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
    socket.listen(BACKLOG)
}

impl Accept for TcpListener {
    type Io = tokio::net::TcpStream;

    async fn accept(&mut self) -> io::Result<(Self::Io, SocketAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        // Frames are written whole; waiting to fill a segment only adds delay.
        stream.set_nodelay(true)?;
        Ok((stream, peer))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;

    /// Nobody accepts, so what has no room in the backlog is not answered.
    #[tokio::test]
    async fn a_herd_finds_room_to_wait() {
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let limit = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
        let herd = limit.trim().parse().unwrap_or(1_000).min(1_000);
        let mut waiting = Vec::with_capacity(herd);
        for number in 0..herd {
            let connecting = timeout(Duration::from_millis(900), TcpStream::connect(address));
            waiting.push(connecting.await.unwrap_or_else(|_| panic!("{number} found no room")).unwrap());
        }
    }
}
