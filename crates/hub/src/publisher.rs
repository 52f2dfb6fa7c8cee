//! The gRPC service `push.v1.Publisher`.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use futures_util::Stream;
use galaxy_push_proto::v1::publisher_server::{Publisher, PublisherServer};
use galaxy_push_proto::v1::{
    HeadRequest, HeadResponse, InvalidateRequest, PublishRequest, PublishResponse, PublishResult,
    RecordResponse, SetMembershipRequest,
};
use galaxy_push_proto::validate::REQUEST_BYTES_MAX;
use galaxy_push_proto::{Failure, Reason};
use tonic::{Code, Request, Response, Status, Streaming};
use tower::ServiceExt;

use crate::grpc::{refusal, unimplemented};
use crate::publish::{self, Published, check_namespace};
use crate::shared::Shared;

#[derive(Clone, Debug)]
pub(crate) struct Service(Arc<Shared>);

impl Service {
    /// The service, ready to be routed to.
    pub(crate) fn service(
        shared: Arc<Shared>,
    ) -> impl tower::Service<
        http::Request<Body>,
        Response = http::Response<Body>,
        Error = Infallible,
        Future: Send + 'static,
    > + Clone
    + Send
    + Sync
    + 'static {
        let server = PublisherServer::new(Self(shared)).max_decoding_message_size(REQUEST_BYTES_MAX);
        ServiceExt::<http::Request<Body>>::map_response(server, |response| {
            explain_size(response.map(Body::new))
        })
    }
}

#[tonic::async_trait]
impl Publisher for Service {
    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        let PublishRequest { events, request_id, namespace } = request.into_inner();
        check_namespace(&namespace).inspect_err(|failure| self.0.metrics.refused(failure))?;
        let published = publish::publish(&self.0, events).await?;
        Ok(Response::new(PublishResponse {
            results: published.into_iter().map(result).collect(),
            request_id,
        }))
    }

    async fn head(&self, request: Request<HeadRequest>) -> Result<Response<HeadResponse>, Status> {
        check_namespace(&request.get_ref().namespace)?;
        let head = self.0.log.head();
        Ok(Response::new(HeadResponse {
            cursor: head.cursor.to_string(),
            oldest: head.oldest.to_string(),
            epoch: head.cursor.epoch.to_string(),
        }))
    }

    type PublishStreamStream = Pin<Box<dyn Stream<Item = Result<PublishResponse, Status>> + Send>>;

    async fn publish_stream(
        &self,
        _: Request<Streaming<PublishRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        Err(unimplemented(
            "PublishStream is not served yet: publish batches of up to 1,000 events with Publish",
        )
        .into())
    }

    async fn invalidate(&self, _: Request<InvalidateRequest>) -> Result<Response<RecordResponse>, Status> {
        Err(unimplemented("Invalidate is not served yet: this hub keeps no standing records").into())
    }

    async fn set_membership(
        &self,
        _: Request<SetMembershipRequest>,
    ) -> Result<Response<RecordResponse>, Status> {
        Err(unimplemented("SetMembership is not served yet: this hub keeps no standing records").into())
    }
}

/// The library refuses a request above the limit as OUT_OF_RANGE and does not say what to do.
fn explain_size(response: http::Response<Body>) -> http::Response<Body> {
    let out_of_range = Code::OutOfRange as i32;
    if response.headers().get("grpc-status").is_none_or(|status| *status != *out_of_range.to_string()) {
        return response;
    }
    let message = format!("the request is larger than {REQUEST_BYTES_MAX} bytes: split the batch");
    refusal(&Failure::new(Reason::RequestInvalid, message))
}

fn result(published: Published) -> PublishResult {
    PublishResult {
        cursor: published.cursor_text(),
        id: published.id,
        duplicate: published.duplicate,
        code: 0,
        reason: String::new(),
    }
}
