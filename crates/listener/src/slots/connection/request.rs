//! One request: under way from its head on until its answer is whole or its stream ends.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::ConnectionHandle;

/// A request that is under way until this is dropped, or until its answer only waits for the peer.
#[derive(Debug)]
pub(crate) struct ActiveRequest {
    connection: ConnectionHandle,
    /// The head is all there is of it.
    is_whole: bool,
    owed: Option<Arc<UnfinishedBody>>,
    response_complete: bool,
}

/// The peer owes the rest of a request that should be short.
#[derive(Debug)]
struct UnfinishedBody {
    connection: ConnectionHandle,
    is_over: AtomicBool,
}

/// The body of such a request. It is owed until it has come, nobody reads it any more, or it is answered all the same.
#[derive(Debug)]
pub(crate) struct RequestBody {
    body: Incoming,
    owed: Option<Arc<UnfinishedBody>>,
}

impl ActiveRequest {
    pub(super) fn new(connection: ConnectionHandle, is_whole: bool) -> Self {
        Self { connection, is_whole, owed: None, response_complete: false }
    }

    /// The body of the request, watched if the peer, asking this, owes a part of it.
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

    /// The app has answered, and goes on with a stream.
    pub(crate) fn response_streams(&mut self) {
        self.owed.take().iter().for_each(|owed| owed.is_over());
    }

    /// The app has answered, and has no more to say: whether this is taken is the peer's part.
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

    /// Some of the answer was taken.
    pub(crate) fn was_read(&self) {
        if self.response_complete {
            let state = &*self.connection.state;
            state.unread_ms.store(state.slots.now_ms(), Ordering::Relaxed);
        }
    }

    /// The connection is another protocol's from here on, which knows when it ends.
    pub(crate) fn upgraded(self) {
        self.was_served();
        self.connection.state.under_way.fetch_add(1, Ordering::SeqCst); // what is never ended is under way
    }

    /// It is under way no more.
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
        // Something came behind its head: the beginning of another.
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
