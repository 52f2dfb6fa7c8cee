//! In development mode, `POST /v1/events` at the public listener: passed on to the hub, so that the try-it page needs
//! one address only.
//!
//! A request is sent once. Another hub is tried only when no connection came about, since then nothing was sent.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use galaxy_push_client::Io;
use galaxy_push_proto::{Failure, Reason, validate::REQUEST_BYTES_MAX};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Body as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;

use super::problem;
use crate::app::config::HubToken;
use crate::app::hub_connector::HubConnector;
use crate::app::metrics::Metrics;

mod bounded;

use bounded::Bounded;

/// For the body and the answer together; the hub gives a body 30 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(45);

/// How many are passed on at a time: each has a connection, and so a file descriptor, of its own.
pub const PROXIED_MAX: usize = 16;

/// What of the hub's answer is passed back.
const PASSED_BACK: [HeaderName; 3] = [header::CONTENT_TYPE, header::RETRY_AFTER, header::ACCEPT_ENCODING];

/// What of a request is passed on, beside what begins with `ce-`.
const PASSED_ON: [HeaderName; 2] = [header::CONTENT_TYPE, header::CONTENT_ENCODING];

/// Passes publishes on.
#[derive(Debug)]
pub(crate) struct Proxy {
    hub: HubConnector,
    metrics: Arc<Metrics>,
    /// One for each that may be under way.
    permits: Semaphore,
}

impl Proxy {
    pub(crate) fn new(hub: HubConnector, metrics: Arc<Metrics>) -> Self {
        Self { hub, metrics, permits: Semaphore::new(PROXIED_MAX) }
    }

    /// Passes one request on. The body goes through as it comes, so that what is unfinished is the hub's to count, to refuse and to end.
    async fn forward(&self, head: &Parts, body: Body) -> Result<Response, Failure> {
        let (body, is_over) = Bounded::new(body);
        if body.size_hint().lower() > REQUEST_BYTES_MAX as u64 {
            body.drain_body().await;
            return Err(too_large());
        }
        let Ok(_permit) = self.permits.try_acquire() else {
            body.drain_body().await;
            return Err(too_many());
        };
        let connected = self.hub.connect().await;
        let (io, hub) = connected
            .ok_or_else(|| bad_gateway("the hub does not answer: nothing was published; is it running?"))?;
        let answering = ask(io, hub, self.hub.token.as_ref(), head, body);
        let answer = timeout(ANSWER_WITHIN, answering).await;
        // Whatever the hub made of the part that it was sent.
        if is_over.load(Ordering::Relaxed) {
            return Err(too_large());
        }
        answer.unwrap_or_else(|_| {
            Err(bad_gateway("the hub did not answer in time: publish again under the same ids")
                .code(Code::DeadlineExceeded)
                .http_status(504))
        })
    }
}

/// Answers `POST /v1/events`. `None`: this gateway was assembled without a way to the hub.
pub(crate) async fn forward(State(proxy): State<Option<Arc<Proxy>>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Some(proxy) = proxy else {
        return problem::response(&bad_gateway("this gateway has no way to the hub"));
    };
    proxy.forward(&head, body).await.unwrap_or_else(|failure| {
        let response = problem::response(&failure);
        // That the hub does not answer is no refusal.
        if !matches!(response.status(), StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT) {
            proxy.metrics.refused(&failure);
        }
        response
    })
}

/// Sends the request over this connection, once, and returns the hub's answer with the headers that users may see.
async fn ask(
    io: Box<dyn Io>,
    hub: &Authority,
    token: Option<&HubToken>,
    asked: &Parts,
    body: Bounded,
) -> Result<Response, Failure> {
    let lost = |error: hyper::Error| {
        tracing::debug!(%hub, %error, "a publish was cut off");
        bad_gateway("the connection to the hub broke: publish again under the same ids")
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(lost)?;
    // How the connection ends, the answer says.
    let _connection = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
    let mut request = http::Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = asked
        .uri
        .path_and_query()
        .map_or_else(|| Uri::from_static("/v1/events"), |whole| Uri::from(whole.clone()));
    let host = hub.as_str().parse().map_err(|_| bad_gateway("the hub's address is no host"))?;
    request.headers_mut().insert(header::HOST, host);
    if let Some(HubToken(token)) = token {
        // The client was built with the same token, so it can stand in a header.
        let bearer = HeaderValue::try_from(format!("Bearer {token}"));
        let mut bearer = bearer.map_err(|_| bad_gateway("the gateway's token cannot stand in a header"))?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
    }
    for (name, value) in &asked.headers {
        if PASSED_ON.contains(name) || name.as_str().starts_with("ce-") {
            request.headers_mut().append(name, value.clone());
        }
    }
    let (head, body) = sender.send_request(request).await.map_err(lost)?.into_parts();
    let body = Limited::new(body, REQUEST_BYTES_MAX).collect().await;
    let body =
        body.map_err(|_| bad_gateway("the hub's answer was cut off: publish again under the same ids"))?;
    let mut response = Response::new(Body::from(body.to_bytes()));
    *response.status_mut() = head.status;
    for name in PASSED_BACK {
        if let Some(value) = head.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    Ok(response)
}

/// The request is larger than a hub accepts.
fn too_large() -> Failure {
    let message =
        format!("the request is larger than {REQUEST_BYTES_MAX} bytes: split the batch, or send less");
    Failure::new(Reason::RequestInvalid, message).http_status(StatusCode::PAYLOAD_TOO_LARGE.as_u16())
}

/// All permits are in use.
fn too_many() -> Failure {
    let message = format!(
        "{PROXIED_MAX} publishes are on their way to the hub, as many as this gateway passes on: nothing was published, \
         come back later, or publish at the hub"
    );
    Failure::new(Reason::Overloaded, message).retry_after(Duration::from_secs(1))
}

/// The hub could not be asked, or did not answer.
fn bad_gateway(message: &str) -> Failure {
    Failure::new(Reason::Overloaded, message).http_status(StatusCode::BAD_GATEWAY.as_u16())
}
