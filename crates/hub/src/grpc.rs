//! The few pieces of gRPC over HTTP/2 that a hand-written service needs: one request message in, frames and trailers
//! out (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use galaxy_push_core::frame::{DeframeError, Deframer, put_prefix};
use galaxy_push_proto::{Failure, Reason, codec};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message;
use tonic::{Code, Status};

use crate::body;
use crate::under_way::Share;

/// How long a peer may take to send its one request message.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

const PREFIX_BYTES: usize = galaxy_push_core::frame::PREFIX_BYTES;

/// Whether a request is gRPC, by its content type.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let rest = content_type.strip_prefix(b"application/grpc");
    // gRPC-Web begins alike and is another protocol.
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// A method of the contract that this build does not serve.
pub(crate) fn unimplemented(message: &str) -> Failure {
    Failure::without_reason(Code::Unimplemented, message)
}

/// Reads the one message of a request, of at most `limit` bytes, which `share` holds.
///
/// # Errors
///
/// The body is larger, late, broken, compressed, or not exactly one message of this type.
pub(crate) async fn read_request<M, B>(body: B, limit: usize, share: &mut Share) -> Result<M, Failure>
where
    M: Message + Default,
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let invalid = |message: String| Failure::new(Reason::RequestInvalid, message);
    let body = body::read(body, PREFIX_BYTES + limit, REQUEST_WITHIN, share).await;
    let body = body.map_err(|unread| unread.failure(limit, REQUEST_WITHIN))?;
    let mut deframer = Deframer::new(limit);
    deframer.push(body);
    let framed = deframer.next_message().map_err(|error| unreadable(&error))?;
    match framed {
        Some(framed) if deframer.is_at_boundary() => codec::decode(framed.slice(PREFIX_BYTES..)),
        Some(_) => Err(invalid("the request holds more than one message".to_owned())),
        None => Err(invalid("the request holds no whole message".to_owned())),
    }
}

/// Why a message of a request cannot be read.
pub(crate) fn unreadable(error: &DeframeError) -> Failure {
    match error {
        DeframeError::Compressed => {
            unimplemented("compressed requests are not taken: send identity encoding")
        }
        error => Failure::new(Reason::RequestInvalid, error.to_string()),
    }
}

/// A response of one message.
pub(crate) fn answer(message: &impl Message) -> Response<Body> {
    let mut framed = vec![0; PREFIX_BYTES];
    framed.extend_from_slice(&message.encode_to_vec());
    put_prefix(&mut framed, 0);
    let frames = [Frame::data(Bytes::from(framed)), Frame::trailers(trailers(&Status::new(Code::Ok, "")))];
    streaming(Body::new(StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)))))
}

/// A response that streams what this body yields.
pub(crate) fn streaming(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// A response that consists of a status and nothing else.
pub(crate) fn refusal(failure: &Failure) -> Response<Body> {
    failure.status().into_http()
}

/// The trailers that end a stream with this status.
pub(crate) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        // A message that no header can carry. The code still tells what to do.
        trailers.clear();
        trailers.insert("grpc-status", HeaderValue::from(status.code() as i32));
    }
    trailers
}
