//! A connection's byte stream, watched: for how long its peer took nothing, and for how long it said nothing.
//!
//! hyper does not poll a response body while the socket is full, so nobody above this layer would ever notice a peer
//! that stopped reading. And an HTTP/2 ping waits behind whatever is on its way already, so a late answer says nothing
//! of a peer that takes bytes all the while. Both are judged here, by bytes alone, beneath TLS and HTTP.
//!
//! Silence is judged where a read finds nothing, and where a write is refused: the h2 crate does not read while a ping of its
//! own waits for room, so a peer that stands still behind a full socket is met only there. Whoever is dead has its socket
//! dropped with all that waits in it; to end such a connection in order would mean to wait for the peer once more.
//!
//! That a slow peer takes bytes is seen by the writes that its socket accepts and, on Linux, by what its side acknowledges.
//! Elsewhere, or where the kernel's table cannot be read, it has to make room for one write within the time.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use galaxy_push_core::FOR_EVER;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// A peer's kernel takes bytes in steps: it opens its window again only when its process has read much of what it holds.
/// Whoever has just taken so many bytes is given a second longer to make room for more, up to as long again.
const BYTES_A_SECOND: u64 = 16 << 10;

/// How a connection's bytes go out, in the extensions of every request. Cheap to clone; clones are the same connection.
#[derive(Clone, Debug, Default)]
pub struct Outflow(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// When the socket that takes nothing will have been too slow, while it takes nothing.
    due: AtomicU64,
    blocked: AtomicBool,
    stalled: AtomicBool,
    left_to_app: AtomicBool,
    answers_pings: AtomicBool,
    origin: OnceLock<Instant>,
}

impl Outflow {
    /// Whether bytes wait now because the socket takes none.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.0.blocked.load(Ordering::Relaxed)
    }

    /// Whether the connection was given up because its socket took nothing for too long: its streams are dropped then
    /// like those of a peer that has left.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.0.stalled.load(Ordering::Relaxed)
    }

    /// When the socket will have taken nothing for too long; `None` while it takes what there is.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let origin = self.0.origin.get().filter(|_| self.is_blocked())?;
        Some(*origin + Duration::from_millis(self.0.due.load(Ordering::Relaxed)))
    }

    /// Says that the app itself ends this connection when it is [`due`](Self::due), so that it can say why. The listener
    /// does so only when that is overdue by as long again.
    pub fn leave_to_app(&self) {
        self.0.left_to_app.store(true, Ordering::Relaxed);
    }

    /// Says that the peer answers pings, so that silence means something.
    pub(crate) fn answers_pings(&self) {
        self.0.answers_pings.store(true, Ordering::Relaxed);
    }

    fn blocked_until(&self, due: Option<Instant>) {
        let Some(due) = due else { return self.0.blocked.store(false, Ordering::Relaxed) };
        let origin = *self.0.origin.get_or_init(Instant::now);
        let ms = due.saturating_duration_since(origin).as_millis();
        self.0.due.store(u64::try_from(ms).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.0.blocked.store(true, Ordering::Relaxed);
    }
}

/// For how long a peer may do nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StallTimeouts {
    /// A peer whose socket takes nothing for this long is dropped; `None`: never for that.
    pub(crate) write_stall: Option<Duration>,
    /// One that answers pings and from which nothing was heard for this long, though nothing was in the way, is dead.
    pub(crate) silence: Duration,
}

/// How much of what was written a peer has not acknowledged, and when that was so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelQueue {
    /// When it was looked.
    pub at: Instant,
    /// Bytes on their way, sent or not.
    pub bytes: u64,
}

/// What can be asked of a connection beneath its bytes.
pub(crate) struct SocketHooks<I> {
    /// Called when a write is refused for the first time.
    pub(crate) on_blocked: fn(&I),
    /// Asked while writes are refused.
    pub(crate) kernel_queue: fn(&I) -> Option<KernelQueue>,
}

pub(crate) struct StallGuard<I> {
    io: I,
    patience: StallTimeouts,
    outflow: Outflow,
    on_blocked: Option<fn(&I)>,
    kernel_queue: fn(&I) -> Option<KernelQueue>,
    /// Bytes taken since a write was refused last.
    burst: u64,
    blocked: Option<Blocked>,
    /// When it was last seen to be alive: a byte came, or one was taken after a write had been refused.
    alive: Instant,
    silent: Option<Pin<Box<Sleep>>>,
}

/// A write was refused, and none was taken since.
struct Blocked {
    since: Instant,
    /// From then on the peer is too slow.
    due: Instant,
    /// The next look: at the latest when it is due.
    look: Pin<Box<Sleep>>,
    /// What was on its way at the last look.
    kernel_queue: Option<u64>,
}

/// How often it is looked whether a peer that takes no writes acknowledges bytes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl<I> StallGuard<I> {
    pub(crate) fn new(io: I, patience: StallTimeouts, outflow: Outflow, asked: SocketHooks<I>) -> Self {
        let alive = Instant::now();
        let SocketHooks { on_blocked, kernel_queue } = asked;
        let on_blocked = Some(on_blocked);
        Self { io, patience, outflow, on_blocked, kernel_queue, burst: 0, blocked: None, alive, silent: None }
    }

    /// Passes on what became of a write, unless nothing could be written for too long.
    fn watch(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.burst += bytes as u64;
                if self.blocked.take().is_some() {
                    self.outflow.blocked_until(None);
                    self.alive = Instant::now();
                }
                written
            }
            Poll::Ready(Err(_)) => written,
            Poll::Pending => self.refused(cx),
        }
    }

    fn refused(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some(on_blocked) = self.on_blocked.take() {
            on_blocked(&self.io);
        }
        // Who may take as long as it likes is watched all the same: it is of interest whether bytes wait.
        let stall = self.patience.write_stall.unwrap_or(FOR_EVER);
        let now = Instant::now();
        let blocked = match &mut self.blocked {
            Some(blocked) => blocked,
            none => {
                let more = Duration::from_secs(std::mem::take(&mut self.burst)) / BYTES_A_SECOND as u32;
                let due = now + stall + more.min(stall);
                self.outflow.blocked_until(Some(due));
                let look = Box::pin(sleep_until(due.min(now + LOOK_EVERY)));
                none.insert(Blocked { since: now, due, look, kernel_queue: None })
            }
        };
        while blocked.look.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if blocked.takes_bytes((self.kernel_queue)(&self.io)) {
                self.alive = now;
                blocked.due = blocked.due.max(now + stall);
                self.outflow.blocked_until(Some(blocked.due));
            }
            if now >= blocked.due {
                let left_to_app = self.outflow.0.left_to_app.swap(false, Ordering::Relaxed);
                if !left_to_app {
                    self.outflow.0.stalled.store(true, Ordering::Relaxed);
                    let why = "the peer takes nothing: too slow";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
                }
                blocked.due = now + stall;
            }
            blocked.look.as_mut().reset(blocked.due.min(now + LOOK_EVERY));
        }
        match self.is_silent(cx) {
            true => Poll::Ready(Err(silent())),
            false => Poll::Pending,
        }
    }

    /// Nothing came, or nothing is taken. Whether neither has been for too long.
    fn is_silent(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.outflow.0.answers_pings.load(Ordering::Relaxed) {
            return false;
        }
        let due = self.alive + self.patience.silence;
        let timer = self.silent.get_or_insert_with(|| Box::pin(sleep_until(due)));
        while timer.as_mut().poll(cx).is_ready() {
            let due = self.alive + self.patience.silence;
            if Instant::now() >= due {
                return true;
            }
            timer.as_mut().reset(due);
        }
        false
    }
}

fn silent() -> io::Error {
    let why = "the peer answers no ping: its process or its network is gone";
    io::Error::new(io::ErrorKind::TimedOut, why)
}

impl Blocked {
    /// Whether less is on its way than at the last look, which no write has added to since.
    fn takes_bytes(&mut self, kernel_queue: Option<KernelQueue>) -> bool {
        let Some(kernel_queue) = kernel_queue.filter(|kernel_queue| kernel_queue.at > self.since) else {
            return false;
        };
        self.kernel_queue.replace(kernel_queue.bytes).is_some_and(|before| kernel_queue.bytes < before)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for StallGuard<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        if read.is_ready() {
            this.alive = Instant::now();
        } else if this.is_silent(cx) {
            return Poll::Ready(Err(silent()));
        }
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for StallGuard<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        this.watch(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::{sleep, timeout};

    use super::*;

    fn watched(write_stall: Option<Duration>) -> (StallGuard<DuplexStream>, Outflow, DuplexStream) {
        let (here, there) = duplex(1 << 10);
        let patience = StallTimeouts { write_stall, silence: Duration::from_secs(15) };
        let outflow = Outflow::default();
        (StallGuard::new(here, patience, outflow.clone(), blind()), outflow, there)
    }

    fn blind<I>() -> SocketHooks<I> {
        SocketHooks { on_blocked: |_| {}, kernel_queue: |_| None }
    }

    /// Its kernel acknowledges a little each second for a minute, and the socket takes no write in that time.
    #[tokio::test(start_paused = true)]
    async fn whose_kernel_acknowledges_bytes_is_not_too_slow() {
        thread_local!(static BEGAN: Instant = Instant::now());
        let began = BEGAN.with(|began| *began);
        let (here, _there) = duplex(1 << 10);
        let patience =
            StallTimeouts { write_stall: Some(Duration::from_secs(5)), silence: Duration::from_secs(15) };
        let kernel_queue = |_: &DuplexStream| {
            let at = Instant::now();
            let seconds = BEGAN.with(|began| at.saturating_duration_since(*began)).as_secs();
            Some(KernelQueue { at, bytes: 100_000 - 100 * seconds.min(60) })
        };
        let asked = SocketHooks { on_blocked: |_| {}, kernel_queue };
        let mut watched = StallGuard::new(here, patience, Outflow::default(), asked);
        assert!(watched.write_all(&[0; 1 << 20]).await.is_err());
        let took = began.elapsed().as_secs();
        assert!((64..=67).contains(&took), "{took} s: five after the last byte");
    }

    /// Takes a little each second, for so many seconds, and nothing after that.
    fn take(mut there: DuplexStream, seconds: usize) {
        tokio::spawn(async move {
            for _ in 0..seconds {
                there.read_exact(&mut [0; 100]).await.unwrap();
                sleep(Duration::from_secs(1)).await;
            }
            std::future::pending::<()>().await;
        });
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_bytes_is_not_too_slow_however_few() {
        let (mut watched, outflow, there) = watched(Some(Duration::from_secs(5)));
        take(there, 100);
        let began = Instant::now();
        let error = watched.write_all(&[0; 1 << 20]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let took = began.elapsed().as_secs();
        assert!((103..=106).contains(&took), "{took} s: five after the last byte");
        assert!(outflow.is_stalled());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_just_taken_much_is_given_up_to_twice_the_time() {
        let (here, there) = duplex(256 << 10);
        let patience =
            StallTimeouts { write_stall: Some(Duration::from_secs(5)), silence: Duration::from_secs(15) };
        let mut watched = StallGuard::new(here, patience, Outflow::default(), blind());
        let began = Instant::now();
        assert!(watched.write_all(&[0; 1 << 20]).await.is_err());
        assert_eq!(began.elapsed().as_secs(), 10);
        drop(there);
    }

    #[tokio::test(start_paused = true)]
    async fn the_app_that_judges_by_itself_has_as_long_again() {
        let (mut watched, outflow, _there) = watched(Some(Duration::from_secs(5)));
        outflow.leave_to_app();
        assert_eq!(outflow.due(), None);
        let began = Instant::now();
        let writing = tokio::spawn(async move { watched.write_all(&[0; 1 << 20]).await });
        sleep(Duration::from_secs(1)).await;
        assert_eq!(outflow.due().unwrap().saturating_duration_since(began).as_secs(), 5);
        assert!(outflow.is_blocked() && writing.await.unwrap().is_err());
        assert_eq!(began.elapsed().as_secs(), 10);
    }

    /// A pong waits behind what is on its way, and the ping before it. Only once nothing is, silence means something.
    #[tokio::test(start_paused = true)]
    async fn a_pong_behind_much_else_is_waited_for() {
        let (mut watched, outflow, there) = watched(None);
        outflow.answers_pings();
        take(there, 100);
        let began = Instant::now();
        let bytes = [0; 1 << 20];
        let mut written = 0;
        let error = poll_fn(|cx| {
            while let Poll::Ready(count) = Pin::new(&mut watched).poll_write(cx, &bytes[written..]) {
                written += match count {
                    Ok(count) => count,
                    Err(error) => return Poll::Ready(Err(error)),
                };
            }
            let mut buffer = [0; 16];
            Pin::new(&mut watched).poll_read(cx, &mut ReadBuf::new(&mut buffer))
        });
        assert_eq!(error.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let took = began.elapsed().as_secs();
        assert!((113..=116).contains(&took), "{took} s: fifteen after the last byte taken");
    }

    /// The fault: silence was judged by reads alone, and HTTP/2 does not read while it has a ping to write.
    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_found_silent_by_whoever_only_writes() {
        let (mut watched, outflow, there) = watched(None);
        outflow.answers_pings();
        take(there, 100);
        let began = Instant::now();
        let written = timeout(Duration::from_secs(600), watched.write_all(&[0; 1 << 20])).await;
        let error = written.expect("an end").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let took = began.elapsed().as_secs();
        assert!((113..=116).contains(&took), "{took} s: fifteen after the last byte taken");
        assert!(!outflow.is_stalled(), "it was not too slow");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_who_is_not_asked_needs_to_answer() {
        let (mut watched, _outflow, _there) = watched(None);
        let read = tokio::time::timeout(Duration::from_secs(3_600), watched.read_u8());
        assert!(read.await.is_err());
    }
}
