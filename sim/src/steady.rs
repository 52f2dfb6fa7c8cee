//! A reader that is slow but steady: it takes bytes all the time, only few at a time.
//!
//! Wraps a byte stream. Whoever judges slowness by frames or turns, and not by bytes taken, gives such a reader up.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::rng::now_us;

/// It takes some bytes this often.
const EVERY: Duration = Duration::from_millis(100);

/// How slow a reader is, and for how long.
#[derive(Clone, Debug)]
pub struct Pace {
    /// How many bytes it takes in a second.
    pub bytes_per_second: u32,
    /// From then on, since the simulation began, it takes whatever there is.
    pub until: Duration,
}

/// When bytes were taken last, in milliseconds since some start. Clones tell the same.
#[derive(Clone, Debug)]
pub struct Taken(Arc<AtomicU64>, Instant);

impl Taken {
    /// Nothing was taken yet.
    #[must_use]
    pub fn now() -> Self {
        Self(Arc::default(), Instant::now())
    }

    /// When bytes were taken last.
    #[must_use]
    pub fn last(&self) -> Instant {
        self.1 + Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn take(&self) {
        self.0.store(self.1.elapsed().as_millis() as u64, Ordering::Relaxed);
    }
}

/// A byte stream whose reader is slow but steady, if it has a pace.
#[derive(Debug)]
pub struct Steady<I> {
    io: I,
    pace: Option<Pace>,
    pause: Pin<Box<Sleep>>,
    taken: Taken,
}

impl<I> Steady<I> {
    /// Reads from `io` at this pace.
    #[must_use]
    pub fn new(io: I, pace: Option<Pace>, taken: Taken) -> Self {
        Self { io, pace, pause: Box::pin(sleep_until(Instant::now())), taken }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Steady<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let slow = this.pace.as_ref().filter(|pace| u128::from(now_us()) < pace.until.as_micros());
        let Some(pace) = slow else {
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
            if buf.filled().len() > before {
                this.taken.take();
            }
            return Poll::Ready(Ok(()));
        };
        ready!(this.pause.as_mut().poll(cx));
        let most = (pace.bytes_per_second as usize / 10).max(1).min(buf.remaining());
        let mut bytes = vec![0; most];
        let mut some = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut this.io).poll_read(cx, &mut some))?;
        if !some.filled().is_empty() {
            buf.put_slice(some.filled());
            this.taken.take();
            this.pause.as_mut().reset(Instant::now() + EVERY);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Steady<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
