//! The few pieces of gRPC over HTTP/2 that a hand-written service needs: one request message in, frames and trailers out
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
//!
//! Called by the services and the router. A refusal is a response without a body whose headers carry the status; a stream
//! ends with trailers that do.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use galaxy_push_core::frame::{DeframeError, Deframer, put_prefix};
use galaxy_push_listener::CompleteResponse;
use galaxy_push_proto::{Failure, Reason, codec};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message;
use tonic::{Code, Status};

use crate::state::in_flight::Permit;
use crate::surface::body::{self, ByteBody, Encoding, gzip};

/// Says how the messages of a request are compressed.
const ENCODING: &str = "grpc-encoding";

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

/// How the messages of a request are compressed. Nobody behind needs to know: they are handed on as they are.
///
/// # Errors
///
/// UNIMPLEMENTED: in a way that is not taken. [`refusal`] says which one is.
pub(crate) fn remove_encoding(headers: &mut HeaderMap) -> Result<Encoding, Failure> {
    let Some(named) = headers.remove(ENCODING) else { return Ok(Encoding::Identity) };
    let name = named.to_str().unwrap_or("?");
    Encoding::of([name]).ok_or_else(|| {
        let name = name.escape_debug();
        unimplemented(&format!("messages compressed with {name} are not taken: send gzip, or identity"))
            .field(ENCODING)
    })
}

/// Reads the one message of a request, of at most `limit` bytes, which `permit` holds.
///
/// # Errors
///
/// The body is larger, late, broken, or not exactly one message of this type.
pub(crate) async fn read_request<M: codec::Counted>(
    body: impl ByteBody,
    encoding: Encoding,
    limit: usize,
    permit: &mut Permit,
) -> Result<M, Failure> {
    let invalid = |message: String| Failure::new(Reason::RequestInvalid, message);
    let body = body::read(body, PREFIX_BYTES + limit, REQUEST_WITHIN, permit).await;
    let body = body.map_err(|error| error.failure(limit, REQUEST_WITHIN))?;
    let mut deframer = Deframer::new(limit);
    deframer.push(plain(body, encoding, limit, permit)?);
    let framed = deframer.next_message().map_err(|error| unreadable(&error))?;
    match framed {
        Some(framed) if deframer.is_at_boundary() => codec::decode(framed.slice(PREFIX_BYTES..)),
        Some(_) => Err(invalid("the request holds more than one message".to_owned())),
        None => Err(invalid("the request holds no whole message".to_owned())),
    }
}

/// The one message of a request as it is.
fn plain(body: Bytes, encoding: Encoding, limit: usize, permit: &mut Permit) -> Result<Bytes, Failure> {
    let Some((&[gzip::COMPRESSED, a, b, c, d], message)) = body.split_first_chunk::<PREFIX_BYTES>() else {
        return Ok(body);
    };
    let length = message.len();
    if encoding == Encoding::Identity {
        return Err(gzip::compressed_without_encoding());
    }
    if u32::from_be_bytes([a, b, c, d]) as usize != length {
        return Err(Failure::new(Reason::RequestInvalid, "the request does not hold one whole message"));
    }
    let packed = [body.slice(PREFIX_BYTES..)].into();
    drop(body); // `packed` lets it go once it is inflated: what is packed, in pieces and joined is never held at once
    let pieces = gzip::message(packed, limit, |held| permit.reserve(held));
    let pieces = pieces.map_err(|error| error.failure(limit, REQUEST_WITHIN))?;
    Ok(Vec::from(pieces).concat().into())
}

/// Why a message of a request cannot be read.
pub(crate) fn unreadable(error: &DeframeError) -> Failure {
    match error {
        DeframeError::Compressed => {
            Failure::without_reason(Code::Internal, "a message begins with a flag that is none")
        }
        error => Failure::new(Reason::RequestInvalid, error.to_string()),
    }
}

/// Says of a response that it is no stream, so that a peer that does not read it is closed.
pub(crate) fn whole<B>(mut response: Response<B>) -> Response<B> {
    response.extensions_mut().insert(CompleteResponse);
    response
}

/// A response of one message.
pub(crate) fn answer(message: &impl Message) -> Response<Body> {
    let mut framed = vec![0; PREFIX_BYTES];
    framed.extend_from_slice(&message.encode_to_vec());
    put_prefix(&mut framed, 0);
    let frames = [Frame::data(Bytes::from(framed)), Frame::trailers(trailers(&Status::new(Code::Ok, "")))];
    whole(streaming(Body::new(StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>))))))
}

/// A response that streams what this body yields.
pub(crate) fn streaming(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// A response that consists of a status and nothing else.
pub(crate) fn refusal(failure: &Failure) -> Response<Body> {
    let mut response = failure.status().into_http();
    if failure.field.as_deref() == Some(ENCODING) {
        let taken = HeaderValue::from_static("gzip,identity");
        response.headers_mut().insert("grpc-accept-encoding", taken);
    }
    response
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
