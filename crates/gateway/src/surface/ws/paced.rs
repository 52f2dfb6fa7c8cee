//! A socket of which no frame is read before it is time: what comes faster waits in the network, and nothing is closed for
//! it.
//!
//! The library reads frames until a message is whole, and pieces of one may be empty and without an end. So frames are
//! counted below it, where each begins: pings, pongs, a close frame and the pieces of messages too.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::pace::Pace;

/// The longest head of a frame, in bytes (RFC 6455, section 5.2).
const HEAD_BYTES_MAX: usize = 14;

/// A peer's socket after the handshake.
#[derive(Debug)]
pub(super) struct Paced<S> {
    inner: S,
    /// `None`: whatever comes is read.
    pace: Option<Pace>,
    pause: Pin<Box<Sleep>>,
    pauses: Counter,
    /// When a frame began last.
    last_frame_at: Instant,
    frame: Frame,
}

/// How much of a frame has come.
#[derive(Debug, Default, PartialEq, Eq)]
struct Frame {
    head: [u8; HEAD_BYTES_MAX],
    head_bytes: usize,
    /// What is missing behind the head.
    rest: u64,
}

impl<S> Paced<S> {
    /// Reads frames at this pace, and counts when that means a pause.
    pub(super) fn new(inner: S, pace: Pace, pauses: Counter) -> Self {
        let last_frame_at = Instant::now();
        Self {
            inner,
            pace: Some(pace),
            pause: Box::pin(sleep_until(last_frame_at)),
            pauses,
            last_frame_at,
            frame: Frame::default(),
        }
    }

    /// When a frame began last. Whoever sends one is there.
    pub(super) const fn last_frame_at(&self) -> Instant {
        self.last_frame_at
    }

    /// Reads whatever comes from now on.
    pub(super) fn stop_pacing(&mut self) {
        self.pace = None;
    }

    /// Takes these bytes as what came next.
    fn on_bytes(&mut self, bytes: &[u8]) {
        if self.frame.is_between() && !bytes.is_empty() {
            self.last_frame_at = Instant::now();
            if let Some(pace) = &mut self.pace
                && pace.on_frame()
            {
                self.pauses.inc();
                self.pause.as_mut().reset(pace.resumes());
            }
        }
        self.frame.on_bytes(bytes);
    }
}

impl Frame {
    /// Whether the next byte begins a frame.
    const fn is_between(&self) -> bool {
        self.head_bytes == 0 && self.rest == 0
    }

    /// How many bytes can be read without reading into the next frame.
    fn missing(&self) -> usize {
        match self.rest {
            0 => self.head_length() - self.head_bytes,
            rest => usize::try_from(rest).unwrap_or(usize::MAX),
        }
    }

    /// How long the head is, as far as that is known: two bytes say it.
    const fn head_length(&self) -> usize {
        if self.head_bytes < 2 {
            return 2;
        }
        let length = match self.head[1] & 0x7f {
            127 => 8,
            126 => 2,
            _ => 0,
        };
        let mask = if self.head[1] & 0x80 == 0 { 0 } else { 4 };
        2 + length + mask
    }

    /// At most as many bytes as are missing.
    fn on_bytes(&mut self, bytes: &[u8]) {
        if self.rest > 0 {
            self.rest -= bytes.len() as u64;
            return;
        }
        let end = self.head_bytes + bytes.len();
        self.head[self.head_bytes..end].copy_from_slice(bytes);
        self.head_bytes = end;
        if end >= 2 && end == self.head_length() {
            self.rest = self.length();
            self.head_bytes = 0;
        }
    }

    /// What the head says is behind it.
    fn length(&self) -> u64 {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        match self.head[1] & 0x7f {
            127 => number(&self.head[2..10]),
            126 => number(&self.head[2..4]),
            length => u64::from(length),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.frame.is_between() && this.pace.as_ref().is_some_and(|pace| !pace.may_read()) {
            ready!(this.pause.as_mut().poll(cx));
        }
        let most = this.frame.missing().min(into.remaining());
        let mut part = ReadBuf::new(into.initialize_unfilled_to(most));
        ready!(Pin::new(&mut this.inner).poll_read(cx, &mut part))?;
        let bytes = part.filled().len();
        this.on_bytes(part.filled());
        into.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(length: u64, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut head = match length {
            0..126 => vec![0x81, mask | length as u8],
            126..65_536 => [&[0x81, mask | 126][..], &(length as u16).to_be_bytes()].concat(),
            _ => [&[0x81, mask | 127][..], &length.to_be_bytes()].concat(),
        };
        head.extend(vec![7; if masked { 4 } else { 0 }]);
        head
    }

    proptest! {
        #[test]
        fn every_frame_ends_where_its_head_says(
            frames in prop::collection::vec((prop_oneof![0..300u64, 65_000..66_000u64], any::<bool>()), 1..8),
            pieces in prop::collection::vec(1..5_000usize, 1..50),
        ) {
            let mut frame = Frame::default();
            let mut pieces = pieces.into_iter().cycle();
            for (length, masked) in frames {
                prop_assert!(frame.is_between());
                let mut left = head(length, masked);
                left.resize(left.len() + length as usize, 0);
                let mut left = &left[..];
                while !left.is_empty() {
                    let taken = frame.missing().min(left.len()).min(pieces.next().unwrap());
                    frame.on_bytes(&left[..taken]);
                    left = &left[taken..];
                    prop_assert_eq!(frame.is_between(), left.is_empty());
                }
            }
        }
    }

    #[test]
    fn a_length_that_nothing_has_is_no_overflow() {
        let mut frame = Frame::default();
        let head = head(u64::MAX, true);
        frame.on_bytes(&head[..2]);
        assert_eq!(frame.missing(), 12);
        frame.on_bytes(&head[2..]);
        assert_eq!(frame.missing(), usize::MAX);
    }
}
