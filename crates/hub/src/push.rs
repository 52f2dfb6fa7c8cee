//! The gRPC service `push.v1.Push`: what a gateway asks for, checked, and then a stream.
//!
//! Written by hand, because its responses are bytes that were encoded when the events were appended: nothing is encoded
//! per stream but control frames.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use galaxy_push_core::cursor::StartFrom;
use galaxy_push_core::reader::Records;
use galaxy_push_core::recipient::{ID_BYTES_MAX, Pattern, check_id, is_format};
use galaxy_push_listener::{Outflow, Peer, Visitor};
use galaxy_push_proto::v1::GatewaySubscribeRequest;
use galaxy_push_proto::{Failure, Reason, feature};
use http::{Method, Request, Response, StatusCode};
use tonic::Code;
use tonic::server::NamedService;
use tower::Service;

use crate::access::{Caller, door};
use crate::fence::Claim;
use crate::patterns::Patterns;
use crate::publish::check_namespace;
use crate::shared::Shared;
use crate::subscription::Subscription;
use crate::{grpc, http as plain, report};

/// The largest subscribe request, in bytes: as many patterns as may be, and room for a cursor that is none, so that its
/// sender is told what is wrong with it.
const REQUEST_BYTES_MAX: usize = 512 << 10;

/// The most recipients and patterns a stream is filtered by.
const PATTERNS_MAX: usize = 1_024;

/// What a peer takes unless it says: gRPC's usual limit.
const RECEIVE_BYTES_DEFAULT: usize = 4 << 20;

/// So much of a refused gateway id is logged.
const GATEWAY_SHOWN_CHARS: usize = 255;

/// Less than this no peer may ask for: control frames must fit, with their longest cursors.
const RECEIVE_BYTES_MIN: usize = 1 << 10;

/// `push.v1.Push` of a [`Hub`](crate::Hub), as a tower service. Cheap to clone.
///
/// Serves `SubscribePush` and `Report`; `Replay` answers UNIMPLEMENTED.
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

async fn answer<B>(shared: &Arc<Shared>, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if request.method() != Method::POST || !grpc::is_grpc(request.headers()) {
        let failure =
            Failure::new(Reason::RequestInvalid, "this is a gRPC method: call it with a gRPC client");
        return plain::problem(&failure.http_status(StatusCode::UNSUPPORTED_MEDIA_TYPE.as_u16()));
    }
    let path = request.uri().path();
    let method = path.rsplit('/').next().unwrap_or_default();
    let roles = door::of_push(method);
    let caller = match door::admit(shared, request.headers(), request.extensions(), path, roles) {
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

async fn subscribe<B>(
    shared: &Arc<Shared>,
    caller: &Caller,
    mut request: Request<B>,
) -> Result<Response<Body>, Failure>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let peer = peer_of(&request);
    let address = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    let mut gateway = String::new();
    let outflow = request.extensions().get::<Outflow>().cloned().unwrap_or_default();
    let visitor = request.extensions().get::<Visitor>().cloned();
    let asked = async {
        let encoding = grpc::take_encoding(request.headers_mut())?;
        let mut share = shared.questions_under_way.share(shared.access.get().sharer(caller));
        let message: GatewaySubscribeRequest =
            grpc::read_request(request.into_body(), encoding, REQUEST_BYTES_MAX, &mut share).await?;
        gateway = message.gateway_client_id.chars().take(GATEWAY_SHOWN_CHARS).collect();
        Asked::check(message, peer.clone(), caller)
    };
    let asked = asked.await.inspect_err(|failure| {
        shared.metrics.subscribe_refused();
        if failure.code == Code::PermissionDenied {
            shared.metrics.peer_refused(failure);
        }
        if let Some(left_out) = shared.refused(address) {
            tracing::warn!(gateway, %peer, caller = caller.name(), code = ?failure.code, reason = %failure, left_out,
                "subscribe refused");
        }
    })?;
    let subscription = Subscription::open(shared, asked, outflow, visitor.as_ref()).await?;
    Ok(grpc::streaming(subscription.into_body()))
}

async fn report<B>(
    shared: &Arc<Shared>,
    caller: &Caller,
    mut request: Request<B>,
) -> Result<Response<Body>, Failure>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let peer = peer_of(&request);
    let address = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    let encoding = grpc::take_encoding(request.headers_mut())?;
    report::take_all(shared, caller, encoding, request.into_body()).await.inspect_err(|failure| {
        // Whoever goes away, or is sent away by a drain, did nothing wrong.
        if !matches!(failure.code, Code::Cancelled | Code::Unavailable) {
            shared.metrics.report("refused");
            if let Some(left_out) = shared.refused(address) {
                tracing::warn!(%peer, caller = caller.name(), code = ?failure.code, reason = %failure, left_out, "report refused");
            }
        }
    })
}

fn peer_of<B>(request: &Request<B>) -> String {
    request.extensions().get::<Peer>().map_or_else(|| "unknown".to_owned(), |peer| peer.0.to_string())
}

/// A subscribe request that is in order.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) claim: Claim,
    /// Whom the door let in, under this gateway id.
    pub(crate) caller: Caller,
    pub(crate) ask: StartFrom,
    /// The cursor as it was sent.
    pub(crate) cursor: String,
    pub(crate) filter: Option<Patterns>,
    /// The largest message the peer takes, in bytes.
    pub(crate) message_max: usize,
    pub(crate) features: Features,
}

/// What the peer understands besides events, as far as this hub has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    pub(crate) standing: bool,
    pub(crate) records: Records,
    /// It named none at all and has no instance id: a client from before control frames.
    pub(crate) is_old: bool,
}

impl Features {
    fn of(request: &GatewaySubscribeRequest) -> Self {
        let has = |name: &str| request.features.iter().any(|feature| feature == name);
        Self {
            standing: has(feature::STANDING),
            records: Records {
                invalidations: has(feature::SESSION_INVALIDATION),
                memberships: has(feature::MEMBERSHIP),
            },
            is_old: request.features.is_empty() && request.instance_id.is_empty(),
        }
    }
}

impl Asked {
    pub(crate) fn check(
        request: GatewaySubscribeRequest,
        peer: String,
        caller: &Caller,
    ) -> Result<Self, Failure> {
        let invalid =
            |field: String, message: String| Failure::new(Reason::RequestInvalid, message).field(field);
        check_namespace(&request.namespace)?;
        check_id(&request.gateway_client_id).map_err(|error| {
            invalid(
                "gateway_client_id".into(),
                format!("gateway_client_id: {error}; give each gateway an id of its own"),
            )
        })?;
        let is_shown = |c: char| !c.is_control() && !c.is_whitespace() && !is_format(c);
        if request.instance_id.len() > ID_BYTES_MAX || !request.instance_id.chars().all(is_shown) {
            let message =
                "instance_id: must be at most 255 bytes without spaces, control and format characters";
            return Err(invalid("instance_id".into(), message.into()));
        }
        // Whoever is from before instance ids knows no reason and would come back with the same cursor for ever.
        let ask = if request.instance_id.is_empty() {
            StartFrom::parse_or_unreadable(&request.cursor)
        } else {
            StartFrom::parse(&request.cursor)
                .map_err(|error| Failure::new(Reason::CursorMalformed, error.to_string()).field("cursor"))?
        };
        let message_max = match request.max_receive_bytes as usize {
            0 => RECEIVE_BYTES_DEFAULT,
            bytes @ RECEIVE_BYTES_MIN.. => bytes,
            bytes => {
                let message = format!(
                    "max_receive_bytes: {bytes} is less than {RECEIVE_BYTES_MIN}; control frames must fit"
                );
                return Err(invalid("max_receive_bytes".into(), message));
            }
        };
        let features = Features::of(&request);
        if request.recipients.len() > PATTERNS_MAX {
            let message = format!("recipients: more than {PATTERNS_MAX}; a trailing * matches any rest");
            return Err(invalid("recipients".into(), message));
        }
        let patterns = request.recipients.iter().enumerate().map(|(i, text)| {
            Pattern::parse(text).map_err(|error| {
                let message = format!("recipients[{i}]: {error}; a trailing * matches any rest");
                Failure::new(Reason::RecipientInvalid, message).field(format!("recipients[{i}]"))
            })
        });
        let patterns = patterns.collect::<Result<Vec<_>, _>>()?;
        let caller = caller.acting_as(&request.gateway_client_id, "subscribe")?;
        let patterns = caller.subscribe(patterns)?;
        Ok(Self {
            claim: Claim {
                gateway: request.gateway_client_id,
                instance: request.instance_id,
                attempt: request.attempt,
                peer,
                identity: caller.name().to_owned(),
                learns_of_invalidations: features.standing && features.records.invalidations,
            },
            caller,
            ask,
            cursor: request.cursor,
            filter: (!patterns.is_empty()).then(|| Patterns::new(&patterns)),
            message_max,
            features,
        })
    }
}
