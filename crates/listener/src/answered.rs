//! The body of an answer, watched: when it ends, and whether it was a refusal.
//!
//! A peer whose every request is refused may not rest on its connection as one that is served may.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};

use crate::places::Begun;

/// gRPC codes that refuse: INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, UNIMPLEMENTED, UNAUTHENTICATED.
const REFUSALS: [&str; 5] = ["3", "5", "7", "12", "16"];

/// In the extensions of an answer: it is whole, though its body does not say how long it is. So it is no request under way
/// any more, and whoever does not take it is let go.
#[derive(Clone, Copy, Debug)]
pub struct Whole;

/// A body that keeps its request under way, if it goes on without end.
pub(crate) struct Answered {
    body: Body,
    begun: Option<Begun>,
    /// Its trailers say what became of the request.
    awaits_trailers: bool,
}

/// Watches an answer to the end.
pub(crate) fn watched(response: Response<Body>, mut begun: Begun) -> Response<Answered> {
    let (head, body) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        begun.leaves_to_another_protocol();
        return Response::from_parts(head, Answered { body, begun: None, awaits_trailers: false });
    }
    let is_grpc = head
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let awaits_trailers = is_grpc && !head.headers.contains_key("grpc-status");
    let is_refused = if is_grpc { refuses(&head.headers) } else { is_refusal(head.status) };
    if !awaits_trailers && !is_refused {
        begun.was_served();
    }
    match body.size_hint().exact().is_some() || head.extensions.get::<Whole>().is_some() {
        true => begun.is_answered(),
        false => begun.is_streamed(),
    }
    Response::from_parts(head, Answered { body, begun: Some(begun), awaits_trailers })
}

fn refuses(headers: &HeaderMap) -> bool {
    headers.get("grpc-status").is_some_and(|status| REFUSALS.iter().any(|refusal| status == refusal))
}

/// Too many, a conflict, and whatever is this side's fault are no refusals.
fn is_refusal(status: StatusCode) -> bool {
    status.is_client_error() && !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::CONFLICT)
}

impl http_body::Body for Answered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if this.awaits_trailers
            && let (Some(Ok(frame)), Some(begun)) = (&frame, &this.begun)
            && frame.trailers_ref().is_none_or(|trailers| !refuses(trailers))
        {
            begun.was_served();
            this.awaits_trailers = false;
        }
        match (&frame, &this.begun) {
            (Some(_), Some(begun)) => begun.is_taken(),
            _ => this.begun = None,
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
