//! A body that is passed on as far as the largest request goes.
//!
//! What comes beyond is read for a moment and kept nowhere: an answer that does not wait for it is followed by a reset, and
//! many a client then shows a broken connection and not the answer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use galaxy_push_proto::validate::REQUEST_BYTES_MAX;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// For so long, and so much.
const DRAIN_WITHIN: Duration = Duration::from_secs(1);
const DRAIN_BYTES_MAX: usize = 4 * REQUEST_BYTES_MAX;

pub(super) struct Bounded {
    body: Body,
    /// How much more may be passed on, in bytes.
    remaining: usize,
    is_over: Arc<AtomicBool>,
    /// How much more is heard, and until when, once there was too much.
    draining: Option<(usize, Pin<Box<Sleep>>)>,
}

impl Bounded {
    /// Also says when it was too large.
    pub(super) fn new(body: Body) -> (Self, Arc<AtomicBool>) {
        let is_over = Arc::new(AtomicBool::new(false));
        let bounded = Self { body, remaining: REQUEST_BYTES_MAX, is_over: is_over.clone(), draining: None };
        (bounded, is_over)
    }

    /// Reads a little of what will not be looked at.
    pub(super) async fn drain_body(mut self) {
        self.begin_drain();
        while let Some(Ok(_)) = self.frame().await {}
    }

    fn begin_drain(&mut self) {
        self.draining.get_or_insert_with(|| (DRAIN_BYTES_MAX, Box::pin(sleep(DRAIN_WITHIN))));
    }
}

impl hyper::body::Body for Bounded {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        loop {
            if let Some((remaining, until)) = &mut this.draining
                && (*remaining == 0 || until.as_mut().poll(cx).is_ready())
            {
                return Poll::Ready(Some(Err(io::Error::other("the request is too large").into())));
            }
            let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
            let bytes = match &frame {
                Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
                None if this.draining.is_some() => {
                    return Poll::Ready(Some(Err(io::Error::other("the request was too large").into())));
                }
                _ => return Poll::Ready(frame.map(|frame| frame.map_err(Into::into))),
            };
            match &mut this.draining {
                Some((remaining, _)) => *remaining = remaining.saturating_sub(bytes),
                None if bytes <= this.remaining => {
                    this.remaining -= bytes;
                    return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
                }
                None => {
                    this.is_over.store(true, Ordering::Relaxed);
                    this.begin_drain();
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.draining.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
