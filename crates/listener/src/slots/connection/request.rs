//! One request of a connection: active from its head on, until its response is complete or its stream has ended.
//!
//! `serve.rs` makes one for each request, and the response's body keeps it. A response that is complete but not read is the
//! peer's affair: the request is no longer active then, and the connection has a deadline for reading it.
//!
//! ```text
//! head arrives          active
//! response streams      active until the stream ends
//! response is complete  not active: unread, until the peer has read it or its time is over
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::ConnectionHandle;

/// A request that is active until this is dropped, or until its response only waits for the peer to read it.
#[derive(Debug)]
pub(crate) struct ActiveRequest {
    connection: ConnectionHandle,
    /// It has no body.
    is_whole: bool,
    owed: Option<Arc<UnfinishedBody>>,
    response_complete: bool,
}

/// A short request that has not arrived whole.
#[derive(Debug)]
struct UnfinishedBody {
    connection: ConnectionHandle,
    is_over: AtomicBool,
}

/// The body of a request. It is unfinished until it has arrived, nobody reads it any more, or it is answered all the same.
#[derive(Debug)]
pub(crate) struct RequestBody {
    body: Incoming,
    owed: Option<Arc<UnfinishedBody>>,
}

impl ActiveRequest {
    pub(super) fn new(connection: ConnectionHandle, is_whole: bool) -> Self {
        Self { connection, is_whole, owed: None, response_complete: false }
    }

    /// The body of the request; watched if the request should be short and has not arrived whole.
    pub(crate) fn body(&mut self, asking: &ConnectionHandle, body: Incoming) -> RequestBody {
        if asking.needs_no_slot && !body.is_end_stream() {
            self.connection.state.unfinished.fetch_add(1, Ordering::Relaxed);
            self.owed = Some(Arc::new(UnfinishedBody {
                connection: self.connection.clone(),
                is_over: AtomicBool::new(false),
            }));
        }
        RequestBody { body, owed: self.owed.clone() }
    }

    /// It was not refused.
    pub(crate) fn was_served(&self) {
        self.connection.state.was_served.store(true, Ordering::Relaxed);
    }

    /// The response has begun, and goes on as a stream.
    pub(crate) fn response_streams(&mut self) {
        self.owed.take().iter().for_each(|owed| owed.is_over());
    }

    /// The app has given its whole response: what is left is the peer's part, to read it.
    pub(crate) fn response_complete(&mut self) {
        self.response_streams();
        let state = &*self.connection.state;
        if !std::mem::replace(&mut self.response_complete, true) {
            let now = state.slots.now_ms();
            state.active_ms.store(now, Ordering::Relaxed);
            if state.unread.fetch_add(1, Ordering::Relaxed) == 0 {
                state.unread_ms.store(now, Ordering::Relaxed);
            }
            self.ends();
        }
    }

    /// Some of the response was read.
    pub(crate) fn was_read(&self) {
        if self.response_complete {
            let state = &*self.connection.state;
            state.unread_ms.store(state.slots.now_ms(), Ordering::Relaxed);
        }
    }

    /// The connection belongs to another protocol from here on (WebSocket), which knows when it ends.
    pub(crate) fn upgraded(self) {
        self.was_served();
        self.connection.state.under_way.fetch_add(1, Ordering::SeqCst); // what is never ended is under way
    }

    /// It is no longer active.
    fn ends(&self) {
        let state = &*self.connection.state;
        let was_last = state.under_way.fetch_sub(1, Ordering::SeqCst) == 1;
        if was_last
            && (state.is_waited_for.swap(false, Ordering::SeqCst)
                || state.was_refused_slot.load(Ordering::SeqCst))
        {
            state.idle.notify_one();
        }
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.response_streams();
        let state = &*self.connection.state;
        let now = state.slots.now_ms();
        state.active_ms.store(now, Ordering::Relaxed);
        let tail = state.tail.load(Ordering::Relaxed).to_be_bytes();
        // Bytes came behind its head: another request has begun, and its deadline counts from now.
        if self.is_whole && !tail.ends_with(b"\n\r\n") && !tail.ends_with(b"\n\n") {
            state.head_begun_ms.store(now, Ordering::Relaxed);
        }
        if self.response_complete {
            state.unread.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.ends();
        }
    }
}

impl UnfinishedBody {
    fn is_over(&self) {
        if !self.is_over.swap(true, Ordering::Relaxed) {
            self.connection.state.unfinished.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl RequestBody {
    fn is_over(&mut self) {
        self.owed.take().iter().for_each(|owed| owed.is_over());
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.is_over();
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if !matches!(&frame, Some(Ok(_))) || this.body.is_end_stream() {
            this.is_over();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
