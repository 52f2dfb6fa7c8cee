//! What a hub of the future says: between the frames of its streams stand some of a kind that nobody knows yet, with a cursor
//! and without, and a goodbye for a reason that nobody knows.
//!
//! Put around a hub's router, so that they travel as bytes of the same stream. The cursor is, as the contract wants it, the
//! last one that the stream has passed.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use galaxy_push_proto::v1::{self, push_event::Kind};
use http::{HeaderMap, HeaderValue};
use hyper::body::{Frame, SizeHint};
use prost::Message as _;

use crate::rng::{Rng, now_us};

/// The reason of a goodbye that no contract has yet.
pub const REASON: i32 = 99;

/// gRPC's prefix of a message: a flag and the length.
const PREFIX_BYTES: usize = 5;

const SUBSCRIBE: &str = "/push.v1.Push/SubscribePush";

/// What a hub says besides.
#[derive(Clone, Debug)]
pub struct Unknown {
    rng: Arc<Mutex<Rng>>,
    permille: u64,
    /// No stream is ended any more from here on.
    calm_from: Duration,
}

impl Unknown {
    /// After so many frames in a thousand.
    #[must_use]
    pub fn new(permille: u64, calm_from: Duration, rng: Rng) -> Self {
        Self { rng: Arc::new(Mutex::new(rng)), permille, calm_from }
    }

    /// The same hub, from the future.
    pub fn around(&self, router: Router) -> Router {
        if self.permille == 0 {
            return router;
        }
        let unknown = self.clone();
        router.layer(from_fn(move |request: Request, next: Next| {
            let unknown = unknown.clone();
            async move {
                let subscribes = request.uri().path() == SUBSCRIBE;
                let response = next.run(request).await;
                if !subscribes {
                    return response;
                }
                response.map(|body| {
                    Body::new(Told { body, unknown, read: Vec::new(), cursor: String::new(), ends: false })
                })
            }
        }))
    }
}

/// Whether a frame is of a kind, or has a word, that no contract has yet.
#[must_use]
pub fn is_unknown(frame: &v1::PushEvent) -> bool {
    match &frame.kind {
        None => true,
        Some(Kind::Goodbye(goodbye)) => goodbye.reason == REASON,
        Some(_) => false,
    }
}

/// A stream with what is said besides.
struct Told {
    body: Body,
    unknown: Unknown,
    /// What was passed on of a message that is not whole yet.
    read: Vec<u8>,
    /// The last one passed.
    cursor: String,
    /// An unknown goodbye was said: the status is all that follows.
    ends: bool,
}

impl Told {
    /// Takes what the hub says and adds something after some of its messages.
    fn splice(&mut self, bytes: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while !rest.is_empty() && !self.ends {
            let wanted = if self.read.len() < PREFIX_BYTES { PREFIX_BYTES } else { self.message_end() };
            let taken = rest.len().min(wanted - self.read.len());
            self.read.extend_from_slice(&rest[..taken]);
            out.extend_from_slice(&rest[..taken]);
            rest = &rest[taken..];
            if self.read.len() >= PREFIX_BYTES && self.read.len() == self.message_end() {
                if let Ok(frame) = v1::PushEvent::decode(&self.read[PREFIX_BYTES..])
                    && !frame.cursor.is_empty()
                {
                    self.cursor = frame.cursor;
                }
                self.read.clear();
                self.say(&mut out);
            }
        }
        out.into()
    }

    fn message_end(&self) -> usize {
        let length = [self.read[1], self.read[2], self.read[3], self.read[4]];
        PREFIX_BYTES + u32::from_be_bytes(length) as usize
    }

    fn say(&mut self, out: &mut Vec<u8>) {
        let mut rng = self.unknown.rng.lock().unwrap_or_else(PoisonError::into_inner);
        if rng.below(1_000) >= self.unknown.permille {
            return;
        }
        let cursor = if rng.percent(60) { self.cursor.clone() } else { String::new() };
        let is_calm = Duration::from_micros(now_us()) >= self.unknown.calm_from;
        let mut message = v1::PushEvent { cursor, kind: None, appended_unix_ms: 0 };
        self.ends = rng.percent(1) && !is_calm && !self.cursor.is_empty();
        if self.ends {
            let goodbye = v1::Goodbye { reason: REASON, reconnect: true, ..v1::Goodbye::default() };
            message.kind = Some(Kind::Goodbye(goodbye));
        }
        let mut bytes = message.encode_to_vec();
        if !self.ends {
            // A message in field 200: that of a kind that comes later, filled with what nobody can read.
            let filled = rng.below(40) as u8;
            bytes.extend([0xc2, 0x0c, filled]);
            bytes.extend((0..filled).map(|_| rng.draw() as u8));
        }
        out.push(0);
        out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        out.extend_from_slice(&bytes);
    }
}

impl HttpBody for Told {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.ends {
            self.body = Body::empty();
            self.ends = false;
            let status = ("grpc-status", HeaderValue::from_static("14"));
            let mut trailers = HeaderMap::new();
            trailers.insert(status.0, status.1);
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Poll::Ready(match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => Some(Ok(match frame.into_data() {
                Ok(bytes) => Frame::data(self.splice(&bytes)),
                Err(frame) => frame,
            })),
            ended => ended,
        })
    }

    fn is_end_stream(&self) -> bool {
        !self.ends && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
