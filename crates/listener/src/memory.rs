//! Connections inside one process: pairs of byte streams in memory, which nobody else can open.
//!
//! For a gateway in the same process as its hub. Everything above the bytes is as over a network.

use std::io;
use std::net::SocketAddr;

use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;

use crate::accept::Accept;

/// What one direction of a connection may buffer, in bytes, as a socket does.
const PIPE_BYTES: usize = 256 << 10;

/// So many connections may wait to be accepted.
const BACKLOG: usize = 16;

/// Opens connections to one [`MemoryListener`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MemoryDialer(mpsc::Sender<DuplexStream>);

/// Accepts what [`MemoryDialer`] opens.
#[derive(Debug)]
pub struct MemoryListener(mpsc::Receiver<DuplexStream>);

/// Both ends of a listener that no network reaches.
#[must_use]
pub fn memory_listener() -> (MemoryDialer, MemoryListener) {
    let (dial, pipes) = mpsc::channel(BACKLOG);
    (MemoryDialer(dial), MemoryListener(pipes))
}

impl MemoryDialer {
    /// Opens a connection. Cancel safe.
    ///
    /// # Errors
    ///
    /// Nobody accepts any more.
    pub async fn connect(&self) -> io::Result<DuplexStream> {
        let (near, far) = duplex(PIPE_BYTES);
        let gone =
            |_| io::Error::new(io::ErrorKind::ConnectionRefused, "this process takes no more connections");
        self.0.send(far).await.map_err(gone)?;
        Ok(near)
    }
}

impl Accept for MemoryListener {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.0.recv().await {
            Some(pipe) => Ok((pipe, SocketAddr::from(([127, 0, 0, 1], 0)))),
            None => std::future::pending().await,
        }
    }
}
