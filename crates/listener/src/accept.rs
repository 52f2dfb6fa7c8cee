//! Where connections come from: TCP in a process, a simulated network in a test.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

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

impl Accept for TcpListener {
    type Io = tokio::net::TcpStream;

    async fn accept(&mut self) -> io::Result<(Self::Io, SocketAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        // Frames are written whole; waiting to fill a segment only adds delay.
        stream.set_nodelay(true)?;
        Ok((stream, peer))
    }
}
