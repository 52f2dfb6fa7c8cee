//! Users over server-sent events: `GET /v1/stream`.
//!
//! The body is pulled: the HTTP connection asks for the next piece when it can send, and the connection of `state` is read
//! only then. No task, no queue: a user that does not read costs a position, and after a while nothing ([`stalled`]).
//!
//! ```text
//! HTTP asks        Stream::next ─► StalledStreams::remove ─► OpenStream::next_piece (waits for events)
//! HTTP is given    a piece      ◄─ StalledStreams::insert ◄─┘
//! HTTP never asks again: the stream stays in StalledStreams, which ends it when its time is over
//! ```

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use galaxy_push_core::cursor::StartFrom;
use galaxy_push_listener::{ConnectionHandle, Outflow, Peer};
use galaxy_push_proto::Failure;
use galaxy_push_proto::frame::goodbye_frame;
use galaxy_push_proto::json::EdgeView;
use galaxy_push_proto::v1::GoodbyeReason;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, Version, header};
use tonic::Code;

use super::context::Context;
use super::problem::{self, admit_peer};
use super::query::{Query, bearer, last_event_id};
use super::render::Form;
use super::render::event_stream::{self, Naming};
use crate::app::Shared;
use crate::app::admission::Request;

mod open;
pub(crate) mod stalled;
#[cfg(all(test, shuttle))]
mod threads;

use open::{Carrier, Kept, OpenStream, PieceSizes};

/// Answers `GET /v1/stream`.
pub(crate) async fn stream(
    State(context): State<Arc<Context>>,
    outflow: Option<Extension<Outflow>>,
    handle: Option<Extension<ConnectionHandle>>,
    peer: Option<Extension<Peer>>,
    version: Version,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let sizes = if version == Version::HTTP_2 { PieceSizes::HTTP2 } else { PieceSizes::HTTP1 };
    let outflow = outflow.map(|Extension(flow)| flow).unwrap_or_default();
    let handle = handle.map(|Extension(handle)| handle);
    let carrier = Carrier::new(outflow, handle.clone(), sizes);
    let address = context.address(peer.map(|Extension(peer)| peer), &headers);
    let opened = open(&context, carrier, address, &uri, &headers).await;
    // Only who may have a stream takes a slot of those kept for the authenticated.
    match opened.and_then(|stream| {
        handle.map_or(Ok(()), |handle| admit_peer(&handle))?;
        Ok(stream)
    }) {
        Ok(stream) => answer(stream),
        Err(failure) => {
            let shared = &context.shared;
            shared.metrics.refused(&failure);
            if matches!(failure.code, Code::Unavailable | Code::ResourceExhausted)
                && accepts_event_stream(&headers)
            {
                return retry_later(shared, &failure, presented_cursor(shared, &uri, &headers));
            }
            problem::response(&failure)
        }
    }
}

/// Admits the user, and puts its stream among those that wait for HTTP to ask.
async fn open(
    context: &Arc<Context>,
    carrier: Carrier,
    address: Option<IpAddr>,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Stream, Failure> {
    let shared = &context.shared;
    // Taken before the look whether a drain has begun, which waits for whom it has not turned away.
    let tracked = shared.tracker.token();
    shared.open_for_users()?;
    let query = Query::read(uri, &shared.config.ignored_query)?;
    let identity = shared.identify(bearer(headers)?, &query.user, &query.session)?;
    let (cursor, cursor_is_automatic) = presented(&query, headers);
    let namespace = query.namespace;
    let request = Request { identity, topics: query.topics, cursor, cursor_is_automatic, namespace, address };
    let connection = shared.admit(request).await?;
    let form = if query.naming == Naming::Messages { Form::SseMessage } else { Form::Sse };
    let id = connection.id();
    let retry = event_stream::retry(shared.spread(shared.config.retry, shared.config.retry).as_millis());
    let connected = shared.metrics.connected(form.transport());
    let encoder = context.encoder(form, None, id);
    let stream = OpenStream::new(connection, encoder, retry.into(), carrier, connected, tracked);
    context.stalled.insert(Box::new(stream));
    Ok(Stream { context: context.clone(), id, over: false })
}

/// The answer to a user that was admitted.
fn answer(stream: Stream) -> Response {
    (HEADERS, Body::from_stream(stream::unfold(stream, Stream::next))).into_response()
}

/// What a stream's answer says besides.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
];

/// Whether the client reads server-sent events as such, as every browser's `EventSource` says.
#[must_use]
pub fn accepts_event_stream(headers: &HeaderMap) -> bool {
    let headers = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    galaxy_push_proto::accepted(headers, "text/event-stream") > 0
}

/// The cursor that counts, and whether the reader presents it by itself, unable to drop it. What a browser or a polyfill
/// adds when it reconnects is newer than the URL it was made with, and a header newer than a URL.
fn presented(query: &Query, headers: &HeaderMap) -> (String, bool) {
    match [last_event_id(headers), query.last_event_id.clone()].into_iter().find(|last| !last.is_empty()) {
        Some(last) => (last, true),
        None => (query.cursor.clone(), false),
    }
}

/// The position that the request names, if it is one: to be told back, so that the browser keeps it.
fn presented_cursor(shared: &Shared, uri: &Uri, headers: &HeaderMap) -> String {
    let query = Query::read(uri, &shared.config.ignored_query).unwrap_or_default();
    let (cursor, _) = presented(&query, headers);
    match StartFrom::parse(&cursor) {
        Ok(StartFrom::At(_) | StartFrom::Foreign) => cursor,
        _ => String::new(),
    }
}

/// "Not now" in a form after which a browser comes back: any status but 200 ends an `EventSource` for good.
fn retry_later(shared: &Shared, failure: &Failure, cursor: String) -> Response {
    let retry = shared.spread(failure.retry_after.unwrap_or(shared.config.retry), LATER_SPREAD);
    let goodbye = goodbye_frame(cursor, GoodbyeReason::Draining, Some(retry));
    let mut body = event_stream::retry(retry.as_millis()).into_bytes();
    body.extend_from_slice(&event_stream::frame(&goodbye, &EdgeView::default(), Naming::Types));
    (HEADERS, body).into_response()
}

/// Those who are sent away come back over this much more time, or they would all be there at once.
const LATER_SPREAD: Duration = Duration::from_secs(4);

/// One response body: the name of a stream that waits in [`StalledStreams`](stalled::StalledStreams) until the next piece is asked for.
struct Stream {
    context: Arc<Context>,
    id: u64,
    over: bool,
}

impl Stream {
    /// The next piece of the body; `None`: it is over.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if self.over {
            return None;
        }
        let mut open = match self.context.stalled.remove(self.id)? {
            Kept::Open(open) => open,
            Kept::Goodbye { goodbye, .. } => {
                self.over = true;
                return Some((Ok(goodbye), self));
            }
        };
        let piece = open.next_piece().await?;
        self.context.stalled.insert(open);
        Some((Ok(piece), self))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        drop(self.context.stalled.remove(self.id));
    }
}
