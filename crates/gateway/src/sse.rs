//! Users over server-sent events: `GET /v1/stream`.
//!
//! The body is pulled: the HTTP connection asks for the next piece when it can send, and the [`Connection`] then looks
//! what there is. No task, no queue: a user that does not read costs a position, and after a while nothing ([`unread`]).

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use galaxy_push_core::cursor::StartFrom;
use galaxy_push_listener::{Outflow, Peer, Pieces, Visitor};
use galaxy_push_proto::Failure;
use galaxy_push_proto::frame::goodbye_frame;
use galaxy_push_proto::json::EdgeView;
use galaxy_push_proto::v1::GoodbyeReason;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, Version, header};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Code;

use crate::admission::Request;
use crate::connection::{Connection, Ending, Mark};
use crate::encode::Encoder;
use crate::gateway::Shared;
use crate::metrics::{Connected, Transport};
use crate::problem::{self, seat};
use crate::query::{Query, bearer, last_event_id};
use crate::render::Form;

pub(crate) mod text;
#[cfg(all(test, shuttle))]
mod threads;
pub(crate) mod unread;

use unread::Left;

/// Whether events arrive under their own types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Naming {
    /// `event:` is the event's type.
    #[default]
    Types,
    /// `event: message`, so that a browser's plain `message` listener sees every event.
    Messages,
}

/// Answers `GET /v1/stream`.
pub(crate) async fn stream(
    State(shared): State<Arc<Shared>>,
    outflow: Option<Extension<Outflow>>,
    visitor: Option<Extension<Visitor>>,
    peer: Option<Extension<Peer>>,
    version: Version,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let sizes = if version == Version::HTTP_2 { PieceSizes::HTTP2 } else { PieceSizes::HTTP1 };
    let outflow = outflow.map(|Extension(flow)| flow).unwrap_or_default();
    let visitor = visitor.map(|Extension(visitor)| visitor);
    let carrier =
        Carrier { pieces: Pieces::new(outflow.clone(), 0), outflow, visitor: visitor.clone(), sizes };
    let address = shared.address(peer.map(|Extension(peer)| peer), &headers);
    let opened = open(&shared, carrier, address, &uri, &headers).await;
    // Only who may have a stream takes a place of the known.
    match opened.and_then(|stream| {
        visitor.map_or(Ok(()), |visitor| seat(&visitor))?;
        Ok(stream)
    }) {
        Ok(stream) => answer(stream),
        Err(failure) => {
            shared.metrics.refused(&failure);
            if matches!(failure.code, Code::Unavailable | Code::ResourceExhausted) && takes_events(&headers) {
                return later(&shared, &failure, place(&shared, &uri, &headers));
            }
            problem::response(&failure)
        }
    }
}

async fn open(
    shared: &Arc<Shared>,
    carrier: Carrier,
    address: Option<IpAddr>,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Stream, Failure> {
    // Taken before the look whether a drain has begun, which waits for whom it has not turned away.
    let tracked = shared.tracker.token();
    shared.open_for_users()?;
    let query = Query::read(uri, &shared.config.ignored_query)?;
    let identity = shared.identify(bearer(headers)?, &query.user, &query.session)?;
    let (cursor, cannot_drop_it) = presented(&query, headers);
    let namespace = query.namespace;
    let request = Request { identity, topics: query.topics, cursor, cannot_drop_it, namespace, address };
    let connection = shared.admit(request).await?;
    let form = if query.naming == Naming::Messages { Form::SseMessage } else { Form::Sse };
    let id = connection.id();
    shared.unread.put(Box::new(Open {
        encoder: shared.encoder(Transport::Sse, form, None, id),
        connection,
        retry: text::retry(shared.spread(shared.config.retry, shared.config.retry).as_millis()).into(),
        over: false,
        rest: Bytes::new(),
        handed: 0,
        mark: None,
        carrier,
        _connected: shared.metrics.connected(Transport::Sse),
        _tracked: tracked,
    }));
    Ok(Stream { shared: shared.clone(), id, over: false })
}

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
pub fn takes_events(headers: &HeaderMap) -> bool {
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
fn place(shared: &Shared, uri: &Uri, headers: &HeaderMap) -> String {
    let query = Query::read(uri, &shared.config.ignored_query).unwrap_or_default();
    let (cursor, _) = presented(&query, headers);
    match StartFrom::parse(&cursor) {
        Ok(StartFrom::At(_) | StartFrom::Foreign) => cursor,
        _ => String::new(),
    }
}

/// "Not now" in a form after which a browser comes back: any status but 200 ends an `EventSource` for good.
fn later(shared: &Shared, failure: &Failure, cursor: String) -> Response {
    let retry = shared.spread(failure.retry_after.unwrap_or(shared.config.retry), LATER_SPREAD);
    let goodbye = goodbye_frame(cursor, GoodbyeReason::Draining, Some(retry));
    let mut body = text::retry(retry.as_millis()).into_bytes();
    body.extend_from_slice(&text::frame(&goodbye, &EdgeView::default(), Naming::Types));
    (HEADERS, body).into_response()
}

/// Those who are sent away come back over this much more time, or they would all be there at once.
const LATER_SPREAD: Duration = Duration::from_secs(4);

/// How much is handed out at a time, in bytes: HTTP asks for more as soon as the peer has taken about as much, which shows
/// that it takes something, and what it has not asked for can still be kept back when the connection has to end. HTTP/2
/// asks when all of it is sent, so whoever takes little is given little at a time; HTTP/1 when most of its buffer is written,
/// and there the listener sees what is taken.
struct PieceSizes {
    now: usize,
    least: usize,
    most: usize,
}

impl PieceSizes {
    const HTTP1: Self = Self { now: 16 << 10, least: 16 << 10, most: 16 << 10 };
    /// So a peer that takes 60 bytes a second asks again within 5 s.
    const HTTP2: Self = Self { now: 256, least: 256, most: 4 << 10 };
    /// A piece that is asked for later than this after the one before it was not taken fast.
    const FAST: Duration = Duration::from_millis(500);

    /// The last piece was taken after so long.
    fn taken_after(&mut self, waited: Duration) {
        self.now = if waited > Self::FAST { self.least } else { (self.now * 2).min(self.most) };
    }
}

/// The HTTP connection that carries a stream.
struct Carrier {
    outflow: Outflow,
    visitor: Option<Visitor>,
    sizes: PieceSizes,
    /// What it was handed of this stream, by how many that were.
    pieces: Pieces,
}

/// One response body: the name of a stream that waits in [`Unread`] until the next piece is asked for.
struct Stream {
    shared: Arc<Shared>,
    id: u64,
    over: bool,
}

/// What a stream holds of the gateway.
pub(crate) struct Open {
    connection: Connection,
    encoder: Encoder,
    /// The line that begins the first block, until that was sent.
    retry: Bytes,
    /// The last piece was handed out, and may still be on its way.
    over: bool,
    /// What was encoded and not handed out yet: the end of a block, or the ends of several.
    rest: Bytes,
    /// How many pieces were handed out.
    handed: u64,
    /// Once so many pieces are taken, so is everything up to there. There is one such mark at a time.
    mark: Option<(u64, Mark)>,
    carrier: Carrier,
    _connected: Connected,
    _tracked: TaskTrackerToken,
}

impl Stream {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if self.over {
            return None;
        }
        let mut open = match self.shared.unread.take(self.id)? {
            Left::Open(open) => open,
            Left::Goodbye { goodbye, .. } => {
                self.over = true;
                return Some((Ok(goodbye), self));
            }
        };
        open.settle();
        if open.rest.is_empty() {
            if open.over {
                return None;
            }
            open.rest = open.encoded().await;
        }
        let piece = open.piece();
        self.shared.unread.put(open);
        Some((Ok(piece), self))
    }
}

impl Open {
    /// Waits for what is to be sent next, or says goodbye.
    async fn encoded(&mut self) -> Bytes {
        let mut outgoing = Vec::new();
        match self.connection.next(&mut outgoing).await {
            Ok(()) => {
                let mut pieces = self.first_line();
                // An event stream has no limit to a frame, and nothing is answered in it.
                let _ = self.encoder.encode(outgoing, &mut pieces);
                joined(pieces)
            }
            Err(ending) => self.goodbye(&ending),
        }
    }

    /// What goes before the first block, once.
    fn first_line(&mut self) -> Vec<Bytes> {
        let retry = std::mem::take(&mut self.retry);
        if retry.is_empty() { Vec::new() } else { vec![retry] }
    }

    /// The next piece of what is encoded.
    fn piece(&mut self) -> Bytes {
        let piece = self.rest.split_to(self.rest.len().min(self.carrier.sizes.now));
        self.handed += 1;
        self.carrier.pieces.piece(piece, self.handed)
    }

    /// Notes what the connection has taken: HTTP asks for more while it still holds some.
    fn settle(&mut self) {
        let taken = self.carrier.pieces.taken();
        for _ in 0..2 {
            if self.rest.is_empty() {
                self.mark.get_or_insert((self.handed, self.connection.mark()));
            }
            if let Some((_, mark)) = self.mark.take_if(|(pieces, _)| *pieces <= taken) {
                self.connection.settle(mark);
            }
        }
    }

    /// Why it has to end although its peer has not taken all of what it was handed.
    fn has_to_end(&mut self) -> Option<Ending> {
        self.settle();
        let ending = self.connection.must_end();
        ending.filter(|_| !self.over)
    }

    /// Nobody waits any longer for its peer to take what it was handed.
    fn give_up(&mut self, ending: &Ending) -> Left {
        if *ending == Ending::Slow {
            self.settle();
            self.connection.gave_up();
        }
        // One that had said goodbye already says nothing more, and nothing is said in the middle of a block.
        let mut goodbye = if self.over { Bytes::new() } else { self.goodbye(ending) };
        if !self.rest.is_empty() {
            goodbye.clear();
        }
        Left::Goodbye { goodbye, _told: self.carrier.visitor.as_ref().map(Visitor::give_up) }
    }

    /// The last piece.
    fn goodbye(&mut self, ending: &Ending) -> Bytes {
        self.over = true;
        let mut pieces = self.first_line();
        self.encoder.goodbye(self.connection.told(), ending, &mut pieces);
        joined(pieces)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.over && self.carrier.outflow.is_stalled() {
            self.encoder.dropped(&Ending::Slow);
            self.settle();
            self.connection.gave_up();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        drop(self.shared.unread.take(self.id));
    }
}

/// One piece of everything, so that the HTTP connection frames it once. A single one is shared, not copied.
fn joined(mut pieces: Vec<Bytes>) -> Bytes {
    if pieces.len() == 1 {
        return pieces.remove(0);
    }
    let mut joined = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    pieces.iter().for_each(|piece| joined.extend_from_slice(piece));
    joined.freeze()
}
