//! One request: under way from its head on until its answer is whole or its stream ends.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::Visitor;

/// A request that is under way until this is dropped, or until its answer only waits for the peer.
#[derive(Debug)]
pub(crate) struct Begun {
    visitor: Visitor,
    /// The head is all there is of it.
    is_whole: bool,
    owed: Option<Arc<Owed>>,
    is_answered: bool,
}

/// The peer owes the rest of a request that should be short.
#[derive(Debug)]
struct Owed {
    visitor: Visitor,
    is_over: AtomicBool,
}

/// The body of such a request. It is owed until it has come, nobody reads it any more, or it is answered all the same.
#[derive(Debug)]
pub(crate) struct Coming {
    body: Incoming,
    owed: Option<Arc<Owed>>,
}

impl Begun {
    pub(super) fn new(visitor: Visitor, is_whole: bool) -> Self {
        Self { visitor, is_whole, owed: None, is_answered: false }
    }

    /// The body of the request, watched if the peer, asking this, owes a part of it.
    pub(crate) fn body(&mut self, asking: &Visitor, body: Incoming) -> Coming {
        if asking.asks_little && !body.is_end_stream() {
            self.visitor.state.unfinished.fetch_add(1, Ordering::Relaxed);
            self.owed =
                Some(Arc::new(Owed { visitor: self.visitor.clone(), is_over: AtomicBool::new(false) }));
        }
        Coming { body, owed: self.owed.clone() }
    }

    /// It was not refused.
    pub(crate) fn was_served(&self) {
        self.visitor.state.was_served.store(true, Ordering::Relaxed);
    }

    /// The app has answered, and goes on with a stream.
    pub(crate) fn is_streamed(&mut self) {
        self.owed.take().iter().for_each(|owed| owed.is_over());
    }

    /// The app has answered, and has no more to say: whether this is taken is the peer's part.
    pub(crate) fn is_answered(&mut self) {
        self.is_streamed();
        let state = &*self.visitor.state;
        if !std::mem::replace(&mut self.is_answered, true) {
            let now = state.places.now_ms();
            state.asked_ms.store(now, Ordering::Relaxed);
            if state.untaken.fetch_add(1, Ordering::Relaxed) == 0 {
                state.untaken_ms.store(now, Ordering::Relaxed);
            }
            self.ends();
        }
    }

    /// Some of the answer was taken.
    pub(crate) fn is_taken(&self) {
        if self.is_answered {
            let state = &*self.visitor.state;
            state.untaken_ms.store(state.places.now_ms(), Ordering::Relaxed);
        }
    }

    /// The connection is another protocol's from here on, which knows when it ends.
    pub(crate) fn leaves_to_another_protocol(self) {
        self.was_served();
        self.visitor.state.under_way.fetch_add(1, Ordering::SeqCst); // what is never ended is under way
    }

    /// It is under way no more.
    fn ends(&self) {
        let state = &*self.visitor.state;
        let was_last = state.under_way.fetch_sub(1, Ordering::SeqCst) == 1;
        if was_last
            && (state.is_awaited.swap(false, Ordering::SeqCst) || state.is_turned_away.load(Ordering::SeqCst))
        {
            state.rests.notify_one();
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.is_streamed();
        let state = &*self.visitor.state;
        let now = state.places.now_ms();
        state.asked_ms.store(now, Ordering::Relaxed);
        let tail = state.tail.load(Ordering::Relaxed).to_be_bytes();
        // Something came behind its head: the beginning of another.
        if self.is_whole && !tail.ends_with(b"\n\r\n") && !tail.ends_with(b"\n\n") {
            state.begun_ms.store(now, Ordering::Relaxed);
        }
        if self.is_answered {
            state.untaken.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.ends();
        }
    }
}

impl Owed {
    fn is_over(&self) {
        if !self.is_over.swap(true, Ordering::Relaxed) {
            self.visitor.state.unfinished.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Coming {
    fn is_over(&mut self) {
        self.owed.take().iter().for_each(|owed| owed.is_over());
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.is_over();
    }
}

impl Body for Coming {
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
