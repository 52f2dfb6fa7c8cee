//! Counts what a connection reads from its socket, because a frame that is not whole yet is no sign of life to anybody else.
//!
//! Put by the transport around each byte stream, beneath TLS. The driver asks it when a stream is silent. A connection over
//! which nothing comes at all it ends itself, also while a handler is busy: hyper reads on then.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::Io;

/// How often a connection is looked at, and how often in a row nothing may have come. The answer to a ping every 10 s is
/// something.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const LOOKS: u32 = 3;

/// How many bytes a connection has read. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct ByteCounter(Arc<AtomicU64>);

impl ByteCounter {
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Makes a byte stream one that is counted here.
    pub(crate) fn counting(&self, io: Box<dyn Io>) -> Box<dyn Io> {
        Box::new(Counted {
            io,
            counter: self.clone(),
            look: Box::pin(sleep(LOOK_EVERY)),
            seen: 0,
            in_vain: 0,
        })
    }
}

/// A byte stream that counts what it reads, and ends once nothing has come for 15 s.
///
/// ```text
///  0 s  a look: bytes have come    in_vain 0
///  5 s  nothing since              in_vain 1
/// 10 s  nothing since              in_vain 2     a ping went out meanwhile, so its answer should have come
/// 15 s  nothing since              in_vain 3     the read fails, and with it the connection
/// ```
struct Counted {
    io: Box<dyn Io>,
    counter: ByteCounter,
    /// The next look at it.
    look: Pin<Box<Sleep>>,
    /// What had been read at the last one.
    seen: u64,
    /// How often in a row nothing had come. A pause of the whole process is one look.
    in_vain: u32,
}

impl Counted {
    /// Fails once nothing has come for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            ready!(self.look.as_mut().poll(cx));
            let taken = self.counter.bytes();
            self.in_vain = if taken == self.seen { self.in_vain + 1 } else { 0 };
            self.seen = taken;
            if self.in_vain >= LOOKS {
                let why = "nothing came for 15 s, not even the answer to a ping";
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            self.look.as_mut().reset(Instant::now() + LOOK_EVERY);
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Ready(read) => read?,
            Poll::Pending => return self.poll_silence(cx).map(Err),
        }
        self.counter.0.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
