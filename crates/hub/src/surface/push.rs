//! The gRPC service `push.v1.Push`: `SubscribePush` and `Report`.
//!
//! It reads a request, has it authorized and checked, and answers with a stream or a refusal. It is written by hand, because
//! its responses are bytes that were encoded when the events were appended: nothing is encoded per stream but control
//! frames. Built by [`Hub::push_service`](crate::Hub::push_service) and by the router.

mod report;

use std::convert::Infallible;
use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use galaxy_push_listener::{ConnectionHandle, Outflow, Peer};
use galaxy_push_proto::v1::GatewaySubscribeRequest;
use galaxy_push_proto::{Failure, Reason};
use http::{Method, Request, Response, StatusCode};
use tonic::Code;
use tonic::server::NamedService;
use tower::Service;

use crate::app::shared::Shared;
use crate::state::access::Caller;
use crate::surface::authorize;
use crate::surface::body::ByteBody;
use crate::surface::grpc;
use crate::surface::http as plain;
use crate::surface::subscription::Subscription;
use crate::surface::subscription::request::SubscribeRequest;

/// The largest subscribe request, in bytes: as many patterns as may be, and room for a cursor that is none, so that its
/// sender is told what is wrong with it.
const REQUEST_BYTES_MAX: usize = 512 << 10;

/// So much of a refused gateway id is logged.
const GATEWAY_SHOWN_CHARS: usize = 255;

/// `push.v1.Push` of a [`Hub`](crate::Hub), as a tower service. Cheap to clone.
///
/// Serves `SubscribePush` and `Report`; `Replay` answers UNIMPLEMENTED.
///
/// ```
/// # use galaxy_push_core::ambient::Ambient;
/// # use galaxy_push_hub::{Config, Hub};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let hub = Hub::in_memory(Config::default(), Ambient::new(|| 0, || 4))?;
/// let app: axum::Router = axum::Router::new()
///     .route_service("/push.v1.Push/{method}", hub.push_service())
///     .route_service("/push.v1.Publisher/{method}", hub.publisher_service());
/// # drop(app);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct PushService {
    shared: Arc<Shared>,
}

impl PushService {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl NamedService for PushService {
    const NAME: &'static str = "push.v1.Push";
}

impl<B> Service<Request<B>> for PushService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = self.shared.clone();
        async move { Ok(answer(&shared, request).await) }.boxed()
    }
}

/// Authorizes a call and answers it. Whatever is refused is a response, never an error of the service.
async fn answer(shared: &Arc<Shared>, request: Request<impl ByteBody>) -> Response<Body> {
    if request.method() != Method::POST || !grpc::is_grpc(request.headers()) {
        let failure =
            Failure::new(Reason::RequestInvalid, "this is a gRPC method: call it with a gRPC client");
        return plain::problem(&failure.http_status(StatusCode::UNSUPPORTED_MEDIA_TYPE.as_u16()));
    }
    let path = request.uri().path();
    let method = path.rsplit('/').next().unwrap_or_default();
    let roles = authorize::of_push(method);
    let caller = match authorize::admit(shared, request.headers(), request.extensions(), path, roles) {
        Ok(caller) => caller,
        Err(failure) => return grpc::refusal(&failure),
    };
    let refused = match method {
        "SubscribePush" => match subscribe(shared, &caller, request).await {
            Ok(response) => return response,
            Err(failure) => failure,
        },
        "Replay" => grpc::unimplemented("Replay is not served yet: subscribe again with the cursor you hold"),
        "Report" => match report(shared, &caller, request).await {
            Ok(response) => return response,
            Err(failure) => failure,
        },
        _ => grpc::unimplemented("push.v1.Push has no such method"),
    };
    grpc::refusal(&refused)
}

/// Reads and checks a subscribe request, and opens the stream.
///
/// The body has a bound and is read whole before the id is claimed. A refused request is logged by its address, since the
/// id in it may be anything.
async fn subscribe(
    shared: &Arc<Shared>,
    caller: &Caller,
    mut request: Request<impl ByteBody>,
) -> Result<Response<Body>, Failure> {
    let (peer, address) = peer_of(&request);
    let mut gateway = String::new();
    let outflow = request.extensions().get::<Outflow>().cloned().unwrap_or_default();
    let handle = request.extensions().get::<ConnectionHandle>().cloned();
    let wanted = async {
        let encoding = grpc::remove_encoding(request.headers_mut())?;
        let mut permit = shared.queries_in_flight.permit(shared.access.get().quota_key(caller));
        let message: GatewaySubscribeRequest =
            grpc::read_request(request.into_body(), encoding, REQUEST_BYTES_MAX, &mut permit).await?;
        gateway = message.gateway_client_id.chars().take(GATEWAY_SHOWN_CHARS).collect();
        SubscribeRequest::check(message, peer.clone(), caller)
    };
    let wanted = wanted.await.inspect_err(|failure| {
        shared.metrics.subscribe_refused();
        if failure.code == Code::PermissionDenied {
            shared.metrics.peer_refused(failure);
        }
        if let Some(left_out) = shared.refused(address) {
            tracing::warn!(gateway, %peer, caller = caller.name(), code = ?failure.code, reason = %failure, left_out,
                "subscribe refused");
        }
    })?;
    let subscription = Subscription::open(shared, wanted, outflow, handle.as_ref()).await?;
    Ok(grpc::streaming(subscription.into_body()))
}

/// Reads reports for as long as the gateway sends them.
async fn report(
    shared: &Arc<Shared>,
    caller: &Caller,
    mut request: Request<impl ByteBody>,
) -> Result<Response<Body>, Failure> {
    let (peer, address) = peer_of(&request);
    let encoding = grpc::remove_encoding(request.headers_mut())?;
    report::read_reports(shared, caller, encoding, request.into_body()).await.inspect_err(|failure| {
        // A gateway that goes away, or is sent away by a drain, did nothing wrong.
        if !matches!(failure.code, Code::Cancelled | Code::Unavailable) {
            shared.metrics.report("refused");
            if let Some(left_out) = shared.refused(address) {
                tracing::warn!(%peer, caller = caller.name(), code = ?failure.code, reason = %failure, left_out, "report refused");
            }
        }
    })
}

/// Where a request comes from: as logs say it, and the address by which lines about refusals are counted.
fn peer_of<B>(request: &Request<B>) -> (String, Option<IpAddr>) {
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
    (peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string()), peer.map(|peer| peer.ip()))
}
