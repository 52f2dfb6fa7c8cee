//! Users over server-sent events: `GET /v1/stream`.
//!
//! The body is pulled: the HTTP connection asks for the next piece when it can send, and the [`Connection`] then looks
//! what there is. No task, no queue: a user that does not read costs a position.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use galaxy_push_proto::Failure;
use http::{HeaderMap, HeaderValue, Uri, header};
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::admission::Request;
use crate::connection::{Connection, Ending};
use crate::encode::Encoder;
use crate::gateway::Shared;
use crate::metrics::{Connected, Transport};
use crate::problem;
use crate::query::{Query, bearer, last_event_id};
use crate::render::Form;

pub(crate) mod text;

/// Whether events arrive under their own types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Naming {
    /// `event:` is the event's type.
    #[default]
    Types,
    /// No `event:`, so that a browser's plain `message` listener sees every event.
    Messages,
}

/// Answers `GET /v1/stream`.
pub(crate) async fn stream(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap) -> Response {
    match open(&shared, &uri, &headers).await {
        Ok(stream) => answer(stream),
        Err(failure) => {
            shared.metrics.refused(&failure);
            problem::response(&failure)
        }
    }
}

async fn open(shared: &Arc<Shared>, uri: &Uri, headers: &HeaderMap) -> Result<Stream, Failure> {
    shared.open_for_users()?;
    let query = Query::read(uri)?;
    let identity = shared.identify(bearer(headers)?, &query.user, &query.session)?;
    let last = last_event_id(headers)?;
    let cursor = if last.is_empty() { query.cursor } else { last.to_owned() };
    let request = Request { identity, topics: query.topics, cursor, ..Request::default() };
    let connection = shared.admission.admit(request).await?;
    let form = if query.naming == Naming::Messages { Form::SseMessage } else { Form::Sse };
    let encoder = shared.encoder(Transport::Sse, form, None, connection.id());
    Ok(Stream {
        connection,
        encoder,
        phase: Phase::Fresh,
        _connected: shared.metrics.connected(Transport::Sse),
        _tracked: shared.tracker.token(),
        shared: shared.clone(),
    })
}

fn answer(stream: Stream) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Body::from_stream(stream::unfold(stream, Stream::next))).into_response()
}

/// One response body.
struct Stream {
    connection: Connection,
    encoder: Encoder,
    phase: Phase,
    shared: Arc<Shared>,
    _connected: Connected,
    _tracked: TaskTrackerToken,
}

enum Phase {
    /// Nothing was sent.
    Fresh,
    /// A piece was handed out at this time. Being asked for the next one says that it is on its way.
    Sent(Instant),
    /// The last piece was handed out.
    Over,
}

impl Stream {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        let mut pieces = Vec::new();
        let mut slow = false;
        match self.phase {
            Phase::Fresh => pieces.push(text::retry(self.shared.config.retry.as_millis()).into()),
            Phase::Sent(at) => slow = at.elapsed() > self.shared.config.write_stall,
            Phase::Over => return None,
        }
        let mut outgoing = Vec::new();
        let ending = if slow { Some(Ending::Slow) } else { self.connection.next(&mut outgoing).await.err() };
        match ending {
            None => self.encoder.encode(outgoing, &mut pieces),
            Some(ref ending) => self.encoder.goodbye(self.connection.passed(), ending, &mut pieces),
        }
        self.phase = if ending.is_some() { Phase::Over } else { Phase::Sent(Instant::now()) };
        Some((Ok(joined(pieces)), self))
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
