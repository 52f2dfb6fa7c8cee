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

/// Where a hub listens for one gateway alone, if it does.
pub const SIDE_PORT: u16 = 7001;

/// Where a hub listens for one publisher that it knows and limits, if it does.
pub const LIMITED_PORT: u16 = 7002;

/// A simulated listener.
#[expect(missing_debug_implementations, reason = "the socket inside has none")]
pub struct Listener {
    listener: TcpListener,
    segment_bytes: usize,
}

impl Listener {
    /// Listens on [`PORT`] of the current host.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub async fn bind() -> io::Result<Self> {
        Self::with_segments(usize::MAX).await
    }

    /// As [`Listener::bind`]. What is sent on its connections travels in segments of so many bytes at most: the network
    /// counts segments, and a reader that takes a few bytes of a large one is not seen to take any.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub async fn with_segments(segment_bytes: usize) -> io::Result<Self> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, PORT)).await?;
        Ok(Self { listener, segment_bytes })
    }

    /// Listens on [`SIDE_PORT`] of the current host.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub async fn aside() -> io::Result<Self> {
        Self::at(SIDE_PORT).await
    }

    /// Listens on this port of the current host.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub async fn at(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port)).await?;
        Ok(Self { listener, segment_bytes: usize::MAX })
    }
}

/// A simulated connection.
#[derive(Debug)]
pub struct Io {
    stream: TcpStream,
    segment_bytes: usize,
}

impl Accept for Listener {
    type Io = Io;

    async fn accept(&mut self) -> io::Result<(Io, SocketAddr)> {
        let (stream, peer) = self.listener.accept().await?;
        Ok((Io { stream, segment_bytes: self.segment_bytes }, peer))
    }
}

/// The addresses of hubs, as clients take them.
#[must_use]
pub fn urls(hubs: &[&str]) -> String {
    urls_at(hubs, PORT)
}

/// The addresses of hubs at this port.
#[must_use]
pub fn urls_at(hubs: &[&str], port: u16) -> String {
    hubs.iter().map(|hub| format!("http://{hub}:{port}")).collect::<Vec<_>>().join(",")
}

/// Connects from the current host.
///
/// # Errors
///
/// When the other host refuses.
pub async fn connect(host: String, port: u16) -> io::Result<Io> {
    Ok(Io { stream: TcpStream::connect((host, port)).await?, segment_bytes: usize::MAX })
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let most = buf.len().min(self.segment_bytes);
        Pin::new(&mut self.get_mut().stream).poll_write(cx, &buf[..most])
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
