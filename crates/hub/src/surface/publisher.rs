//! The gRPC service `push.v1.Publisher`: publish, standing records, and the question how far the log goes.
//!
//! It authorizes each call before its body is read, has bodies read within a bound (`body/messages.rs`), and hands what was
//! asked to `app/publish.rs`. Built by [`Hub::publisher_service`](crate::Hub::publisher_service) and by the router.
//!
//! Calls that publish and calls that ask have separate bounds, so that neither can keep the other out:
//!
//! | method | roles | bound |
//! |---|---|---|
//! | `Publish`, `PublishStream`, `Invalidate`, `SetMembership` | publishers | 4 MiB for each request, and what is in flight of publishes |
//! | `Head` | everybody known | 1 KiB for each request, and what is in flight of questions |

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, Stream, StreamExt as _, TryFutureExt as _, future};
use galaxy_push_proto::v1::publisher_server::{Publisher, PublisherServer};
use galaxy_push_proto::v1::{
    HeadRequest, HeadResponse, InvalidateRequest, PublishRequest, PublishResponse, RecordResponse,
    SetMembershipRequest,
};
use galaxy_push_proto::validate::REQUEST_BYTES_MAX;
use galaxy_push_proto::{Failure, ISSUED_BEFORE, Reason};
use tonic::server::NamedService;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::app::publish::{self, Published, RecordId, Recorded, check_namespace};
use crate::app::shared::Shared;
use crate::state::access::Caller;
use crate::state::in_flight::{Permit, PermitSlot};
use crate::state::ownership;
use crate::surface::authorize;
use crate::surface::body::{self, Deadline, Messages};
use crate::surface::grpc::{self, refusal};
use crate::surface::publish_stream::{self, too_large};
use crate::surface::revocation;

/// The largest question, in bytes: it names a log. Gateways ask, too, so it must not take the room of publishes, nor
/// much of what questions have.
const QUESTION_BYTES_MAX: usize = 1 << 10;

/// `push.v1.Publisher` of a [`Hub`](crate::Hub), as a tower service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PublisherService {
    shared: Arc<Shared>,
    publishes: PublisherServer<Handler>,
    questions: PublisherServer<Handler>,
}

/// Answers the calls of the generated service.
#[derive(Clone, Debug)]
struct Handler(Arc<Shared>);

impl PublisherService {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let server = || PublisherServer::new(Handler(shared.clone()));
        Self {
            publishes: server().max_decoding_message_size(REQUEST_BYTES_MAX),
            questions: server().max_decoding_message_size(QUESTION_BYTES_MAX),
            shared,
        }
    }
}

impl NamedService for PublisherService {
    const NAME: &'static str = "push.v1.Publisher";
}

impl<B> tower::Service<http::Request<B>> for PublisherService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let path = request.uri().path();
        let method = path.rsplit('/').next().unwrap_or_default();
        let (endless, roles) = (method == "PublishStream", authorize::of_publisher(method));
        let caller =
            match authorize::admit(&self.shared, request.headers(), request.extensions(), path, roles) {
                Ok(caller) => caller,
                Err(failure) => return future::ready(Ok(refusal(&failure))).boxed(),
            };
        let whose = self.shared.access.get().quota_key(&caller);
        request.extensions_mut().insert(caller.clone());
        // Of a stream each request is answered, and its answers say so.
        let toll = (roles == authorize::PUBLISHERS && !endless).then(|| (caller, self.shared.clone()));
        let from = if endless { Deadline::FromTheFirstByte } else { Deadline::FromTheStart };
        // What is for publishers alone publishes.
        let (server, limit, in_flight) = if roles == authorize::PUBLISHERS {
            (&mut self.publishes, REQUEST_BYTES_MAX, &self.shared.publishes_in_flight)
        } else {
            (&mut self.questions, QUESTION_BYTES_MAX, &self.shared.queries_in_flight)
        };
        let check_rate =
            |(caller, shared): &(Caller, Arc<Shared>)| caller.check_rate(shared.clock.now().mono);
        let check_rate = toll.as_ref().map_or(Ok(()), check_rate);
        let encoding = match check_rate.and_then(|()| grpc::remove_encoding(request.headers_mut())) {
            Ok(encoding) => encoding,
            Err(failure) => {
                self.shared.metrics.refused(&failure);
                return future::ready(Ok(refusal(&failure))).boxed();
            }
        };
        let messages = |body| {
            Messages::new(body, limit, from, body::WITHIN, in_flight.clone()).of(whose).encoded(encoding)
        };
        let mut request = request.map(messages);
        let received = request.body().received();
        request.extensions_mut().insert(received.clone());
        let answered = tower::Service::call(server, request);
        let answered = answered.map(move |answer| {
            answer.map(|response| {
                if let (Some((caller, shared)), Some(status)) =
                    (toll, Status::from_header_map(response.headers()))
                {
                    caller.count_refused_with(status.code(), received.bytes(), shared.clock.now().mono);
                }
                explain_size(response.map(Body::new), limit)
            })
        });
        if endless { answered.boxed() } else { answered.map_ok(grpc::whole).boxed() }
    }
}

#[tonic::async_trait]
impl Publisher for Handler {
    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        let (caller, permit) = (caller(&request)?, permit(&self.0, &request));
        let PublishRequest { mut events, request_id, namespace } = request.into_inner();
        check_namespace(&namespace).inspect_err(|failure| self.0.metrics.refused(failure))?;
        let published = publish::publish(&self.0, &caller, permit, &mut events).await?;
        let results = published.into_iter().map(Published::result).collect();
        Ok(Response::new(PublishResponse { results, request_id }))
    }

    async fn head(&self, request: Request<HeadRequest>) -> Result<Response<HeadResponse>, Status> {
        check_namespace(&request.get_ref().namespace)?;
        let (head, stale) = publish::head_or_held(&self.0).await?;
        Ok(Response::new(HeadResponse {
            cursor: head.to_string(),
            oldest: self.0.log.head().oldest.to_string(),
            epoch: head.epoch.to_string(),
            stale,
        }))
    }

    type PublishStreamStream = Pin<Box<dyn Stream<Item = Result<PublishResponse, Status>> + Send>>;

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let caller = caller(&request)?;
        // Taken before the look at the drain, which waits for the streams it has not turned away.
        let open = self.0.streams.token();
        if self.0.is_draining() {
            return Err(ownership::draining().into());
        }
        let received = request.extensions().get::<PermitSlot>().cloned().unwrap_or_default();
        let grant = self.0.access.grant(caller.clone());
        let revocation_task = revocation::close_when_revoked(&grant, request.extensions().get());
        let requests = request.into_inner();
        let answers = publish_stream::answers(self.0.clone(), caller, grant, open, received, requests);
        // Until the stream is dropped.
        let answers = answers.map(move |answer| {
            let _ = &revocation_task;
            answer
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn invalidate(
        &self,
        request: Request<InvalidateRequest>,
    ) -> Result<Response<RecordResponse>, Status> {
        let (caller, permit) = (caller(&request)?, permit(&self.0, &request));
        let InvalidateRequest { invalidation, namespace, id, source } = request.into_inner();
        check_namespace(&namespace).inspect_err(|failure| self.0.metrics.refused(failure))?;
        let (id, record) = (RecordId { id, source }, invalidation.unwrap_or_default());
        let recorded = publish::invalidate(&self.0, &caller, permit, record, &id).await?;
        Ok(recorded.response())
    }

    async fn set_membership(
        &self,
        request: Request<SetMembershipRequest>,
    ) -> Result<Response<RecordResponse>, Status> {
        let (caller, permit) = (caller(&request)?, permit(&self.0, &request));
        let SetMembershipRequest { memberships, namespace, id, source } = request.into_inner();
        check_namespace(&namespace).inspect_err(|failure| self.0.metrics.refused(failure))?;
        let id = RecordId { id, source };
        let recorded = publish::set_memberships(&self.0, &caller, permit, memberships, &id).await?;
        Ok(recorded.response())
    }
}

/// Who was authorized before the call came here.
fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| Status::unauthenticated("nobody was asked who this is"))
}

/// The permit that holds what was read of a request.
fn permit<T>(shared: &Shared, request: &Request<T>) -> Permit {
    let received = request.extensions().get::<PermitSlot>().and_then(PermitSlot::take);
    received.unwrap_or_else(|| shared.publishes_in_flight.permit(None))
}

impl Recorded {
    /// The answer for standing records, with the moment that an invalidation counts from in the metadata.
    fn response(self) -> Response<RecordResponse> {
        let (cursor, duplicate) = (self.cursor.to_string(), self.duplicate);
        let mut response = Response::new(RecordResponse { cursor, duplicate });
        if let Some(issued_before) = self.issued_before_text().and_then(|text| text.parse().ok()) {
            response.metadata_mut().insert(ISSUED_BEFORE, issued_before);
        }
        response
    }
}

/// The library refuses a request above the limit as OUT_OF_RANGE and does not say what to do.
fn explain_size(response: http::Response<Body>, limit: usize) -> http::Response<Body> {
    let out_of_range = Code::OutOfRange as i32;
    if response.headers().get("grpc-status").is_none_or(|status| *status != *out_of_range.to_string()) {
        return response;
    }
    if limit == REQUEST_BYTES_MAX {
        return refusal(&too_large());
    }
    let message = format!("the question is larger than {limit} bytes: it holds the name of a log at most");
    refusal(&Failure::new(Reason::RequestInvalid, message))
}
