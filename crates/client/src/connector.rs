//! Where a connection's bytes come from: the one border between the client and a network.
//!
//! A simulator, a test or a TLS library puts its own [`Connector`] here. HTTP/2, deadlines and retries are not its
//! business: it opens one byte stream when asked, or says why it could not.

use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A byte stream to a hub.
///
/// Whatever implements the two traits of tokio is one: a socket, an in-memory pipe, a TLS stream.
///
/// ```
/// use galaxy_push_client::Io;
///
/// fn boxed(stream: impl Io) -> Box<dyn Io> {
///     Box::new(stream)
/// }
///
/// let (near, _far) = tokio::io::duplex(1_024);
/// boxed(near);
/// ```
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// What [`Connector::connect`] returns.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send>>;

/// Opens connections to hubs. Implemented by every `Fn(host, port)` that returns a future of a byte stream.
///
/// # Examples
///
/// ```no_run
/// use galaxy_push_client::{Item, PushClient};
/// use tokio::net::UnixStream;
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// // Every hub behind one local proxy, over a Unix socket.
/// let connector = |_host: String, _port: u16| UnixStream::connect("/run/hub.sock");
/// let client = PushClient::builder("gateway-1").hub("http://hub:7400").connector(connector).start(async |_: Item| Ok(()))?;
/// # client.shutdown().await;
/// # Ok(())
/// # }
/// ```
///
/// A type that says that its streams are secure already:
///
/// ```
/// use galaxy_push_client::{Connecting, Connector, TcpConnector};
///
/// struct Tunnel;
///
/// impl Connector for Tunnel {
///     fn connect(&self, host: &str, port: u16) -> Connecting {
///         TcpConnector.connect(host, port) // stands for a tunnel
///     }
///
///     fn secures(&self) -> bool {
///         true
///     }
/// }
///
/// assert!(Tunnel.secures() && !TcpConnector.secures());
/// ```
pub trait Connector: Send + Sync + 'static {
    /// Opens one connection to the host and port of a hub's URL. The client drops the future when its deadline passes.
    fn connect(&self, host: &str, port: u16) -> Connecting;

    /// Whether the byte streams are secure already, so that `https://` hubs need no TLS of the client's. Default: no.
    fn secures(&self) -> bool {
        false
    }
}

impl<F, Fut, S> Connector for F
where
    F: Fn(String, u16) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = io::Result<S>> + Send + 'static,
    S: Io,
{
    fn connect(&self, host: &str, port: u16) -> Connecting {
        let connecting = self(host.to_owned(), port);
        Box::pin(async move { Ok(Box::new(connecting.await?) as Box<dyn Io>) })
    }
}

/// TCP, with `TCP_NODELAY`. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpConnector;

impl Connector for TcpConnector {
    fn connect(&self, host: &str, port: u16) -> Connecting {
        let host = host.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}
