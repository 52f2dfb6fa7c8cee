//! The body of a response, tracked: when it is complete, and whether it was a refusal.
//!
//! `serve.rs` wraps each response. A connection whose every request is refused may not stay idle as long as one that is
//! served: otherwise a peer without credentials could hold it by asking again and again.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};

use crate::slots::ActiveRequest;

/// gRPC codes that refuse: INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, UNIMPLEMENTED, UNAUTHENTICATED.
const REFUSALS: [&str; 5] = ["3", "5", "7", "12", "16"];

/// In the extensions of a response: it is complete, though its body does not say how long it is. So its request is no
/// longer active, and a peer that does not read it is closed.
#[derive(Clone, Copy, Debug)]
pub struct CompleteResponse;

/// A body that keeps its request active for as long as it streams.
pub(crate) struct ResponseBody {
    body: Body,
    active: Option<ActiveRequest>,
    /// Its trailers say what became of the request.
    awaits_trailers: bool,
}

/// Tracks a response to its end.
pub(crate) fn track(response: Response<Body>, mut active: ActiveRequest) -> Response<ResponseBody> {
    let (head, body) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        active.upgraded();
        return Response::from_parts(head, ResponseBody { body, active: None, awaits_trailers: false });
    }
    let is_grpc = head
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let awaits_trailers = is_grpc && !head.headers.contains_key("grpc-status");
    let is_refused = if is_grpc { refuses(&head.headers) } else { is_refusal(head.status) };
    if !awaits_trailers && !is_refused {
        active.was_served();
    }
    match body.size_hint().exact().is_some() || head.extensions.get::<CompleteResponse>().is_some() {
        true => active.response_complete(),
        false => active.response_streams(),
    }
    Response::from_parts(head, ResponseBody { body, active: Some(active), awaits_trailers })
}

fn refuses(headers: &HeaderMap) -> bool {
    headers.get("grpc-status").is_some_and(|status| REFUSALS.iter().any(|refusal| status == refusal))
}

/// A request that came too often, or in conflict with another, and whatever is this side's fault were no refusals.
fn is_refusal(status: StatusCode) -> bool {
    status.is_client_error() && !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::CONFLICT)
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if this.awaits_trailers
            && let (Some(Ok(frame)), Some(active)) = (&frame, &this.active)
            && frame.trailers_ref().is_none_or(|trailers| !refuses(trailers))
        {
            active.was_served();
            this.awaits_trailers = false;
        }
        match (&frame, &this.active) {
            (Some(_), Some(active)) => active.was_read(),
            _ => this.active = None,
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
