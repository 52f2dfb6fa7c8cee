//! The bodies of requests: read within a bound, counted from the first byte, and never doubled to make room.
//!
//! Every surface reads through here: whole bodies by [`read`] and [`read_plain`], gRPC messages one by one through
//! [`Messages`]. Three bounds hold for each body: its bytes, the time it may take, and what all requests in flight hold
//! together.
//!
//! A refusal that does not wait for the rest of a body is followed by a reset of the stream, and many clients then show a
//! broken connection and not the answer. So a little of what is refused is read and thrown away ([`drain_body`]).

pub(crate) mod gzip;
mod messages;
mod pieces;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use galaxy_push_proto::{Failure, Reason};
use http_body_util::BodyExt as _;
use tokio::time::timeout;
use tonic::Code;

pub(crate) use gzip::Encoding;
pub(crate) use messages::{Deadline, Messages};
use pieces::Pieces;

use crate::state::in_flight::Permit;

/// How long a peer may take to send a request.
pub(crate) const WITHIN: Duration = Duration::from_secs(30);

/// A peer that is refused before its body is read may send so much of it, for so long.
const DRAIN_WITHIN: Duration = Duration::from_secs(1);
pub(crate) const DRAIN_BYTES: usize = 64 << 10;

/// A peer that was authorized, and is refused in the middle of its body, may send the rest up to so many bytes.
pub(crate) const DRAIN_REST_BYTES: usize = 4 << 20;

/// The body of a request: bytes, and when it breaks off a word on why.
pub(crate) trait ByteBody:
    http_body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send
{
}

impl<B> ByteBody for B where B: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send
{}

/// Why a body could not be read.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// It is larger than the limit.
    TooLarge,
    /// It did not arrive in time.
    Late,
    /// The peer or the connection broke it off.
    BrokeOff(String),
    /// It is not the gzip that its head says it is.
    NotGzip(String),
    /// There is no room for it beside the others.
    Overloaded(Failure),
}

/// Reads a whole body of at most `limit` bytes, which `permit` holds as they arrive.
pub(crate) async fn read(
    body: impl ByteBody,
    limit: usize,
    within: Duration,
    permit: &mut Permit,
) -> Result<Bytes, BodyError> {
    read_pieces(body, limit, within, permit).await.map(Pieces::join)
}

/// As [`read`], and inflates it if it comes compressed: `limit` then bounds both, and `permit` holds the larger.
pub(crate) async fn read_plain(
    body: impl ByteBody,
    encoding: Encoding,
    limit: usize,
    within: Duration,
    permit: &mut Permit,
) -> Result<Bytes, BodyError> {
    let mut pieces = read_pieces(body, limit, within, permit).await?;
    match encoding {
        Encoding::Identity => Ok(pieces.join()),
        Encoding::Gzip => gzip::inflate(pieces.take(), limit, |held| permit.reserve(held)).map(Pieces::join),
    }
}

/// Reads a body in pieces within all three bounds. What it announces to be too large is refused before it is read.
async fn read_pieces(
    body: impl ByteBody,
    limit: usize,
    within: Duration,
    permit: &mut Permit,
) -> Result<Pieces, BodyError> {
    let mut body = Box::pin(body);
    if body.size_hint().lower() > limit as u64 {
        drain_body(body, DRAIN_REST_BYTES).await;
        return Err(BodyError::TooLarge);
    }
    let read = async {
        let mut pieces = Pieces::new(limit);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| BodyError::BrokeOff(error.into().to_string()))?;
            let Ok(data) = frame.into_data() else { continue };
            if data.len() > pieces.remaining() {
                return Err(BodyError::TooLarge);
            }
            let is_last = body.is_end_stream();
            pieces.push(data, is_last);
            permit.reserve(pieces.held()).map_err(BodyError::Overloaded)?;
        }
        Ok(pieces)
    };
    match timeout(within, read).await {
        Ok(Err(refused @ (BodyError::TooLarge | BodyError::Overloaded(_)))) => {
            drain_body(body, DRAIN_REST_BYTES).await;
            Err(refused)
        }
        Ok(read) => read,
        Err(_) => Err(BodyError::Late),
    }
}

/// Reads a little of what will not be looked at, and keeps none of it. Otherwise an answer that does not wait for the
/// body is followed by a reset, and many a client then shows a broken connection and not the answer.
pub(crate) async fn drain_body(body: impl http_body::Body<Data = Bytes> + Send, bytes: usize) {
    let mut body = Box::pin(body);
    let reading = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read >= bytes {
                return;
            }
        }
    };
    let _ = timeout(DRAIN_WITHIN, reading).await; // it need not end
}

impl BodyError {
    /// What the peer is told, where `limit` bytes and `within` were the bounds.
    pub(crate) fn failure(self, limit: usize, within: Duration) -> Failure {
        match self {
            Self::TooLarge => {
                let message =
                    format!("the request is larger than {limit} bytes: split the batch, or send less");
                Failure::new(Reason::RequestInvalid, message).http_status(413)
            }
            Self::NotGzip(why) => {
                let message =
                    format!("what should be gzip cannot be inflated ({why}): send it again, or as it is");
                Failure::new(Reason::RequestInvalid, message)
            }
            Self::Late => late(within),
            Self::BrokeOff(why) => {
                Failure::without_reason(Code::Cancelled, format!("the request broke off: {why}"))
                    .http_status(400)
            }
            Self::Overloaded(failure) => failure,
        }
    }
}

/// The body did not arrive in time.
fn late(within: Duration) -> Failure {
    let message = format!("the request did not arrive within {} s: send it again", within.as_secs());
    Failure::without_reason(Code::DeadlineExceeded, message).http_status(408)
}
