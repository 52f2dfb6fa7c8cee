//! The simulated network in the places where the system takes a real one.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use galaxy_push_listener::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

/// Where every simulated server listens.
pub const PORT: u16 = 7000;

/// A simulated listener.
#[expect(missing_debug_implementations, reason = "the socket inside has none")]
pub struct Listener(TcpListener);

impl Listener {
    /// Listens on [`PORT`] of the current host.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub async fn bind() -> io::Result<Self> {
        Ok(Self(TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, PORT)).await?))
    }
}

/// A simulated connection.
#[derive(Debug)]
pub struct Io(TcpStream);

impl Accept for Listener {
    type Io = Io;

    async fn accept(&mut self) -> io::Result<(Io, SocketAddr)> {
        let (stream, peer) = self.0.accept().await?;
        Ok((Io(stream), peer))
    }
}

/// Connects from the current host.
///
/// # Errors
///
/// When the other host refuses.
pub async fn connect(host: String, port: u16) -> io::Result<Io> {
    Ok(Io(TcpStream::connect((host, port)).await?))
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
