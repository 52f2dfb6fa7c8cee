//! gRPC over one HTTP/2 connection, with the message bytes left alone.
//!
//! Called by the driver and the publisher. A [`Connection`] is made for one try and never repairs itself: whether and
//! when there is another is not decided here. Every error is a [`Failure`], and only what a server wrote into headers
//! or trailers becomes [`Failure::Status`].
//!
//! hyper is used directly and not through a generated stub: a stub would copy and decode each message, and a channel
//! would dial again behind the driver's back.
//!
//! ```text
//! Dialer ─ dial ─► Connection ─ call, stream ─► Body ─ next ─► bytes, in the end a Failure
//!                      └ unary ─► one decoded answer
//! ```

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use galaxy_push_core::FOR_EVER;
use galaxy_push_core::frame::{Deframer, PREFIX_BYTES, message, put_prefix};
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::counted_io::ByteCounter;
use crate::fault::{catch_panics, chain};
use crate::hub_url::HubUrl;
use crate::token::Token;
use crate::{Connector, Failure, ServerStatus};

/// A ping goes out this often, also while nothing else moves, so that a peer that is there always sends something. How long
/// the answer takes is not judged: on a slow line it waits behind a large frame. Whether anything comes at all is, by
/// [`ByteCounter`], while a handler is busy too.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// What a hub may send ahead of the handler. The pair keeps h2's budget for small DATA frames from running out however
/// long a handler pauses: its cost per stream window stays below half the connection window down to events of 60 bytes.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 32 << 20;

/// Allows a hub to send thousands of events in one DATA frame, which is one read and one batch here.
const MAX_FRAME_BYTES: u32 = 1 << 20;

/// How long a failed request waits to learn what became of its connection.
const END_WITHIN: Duration = Duration::from_millis(100);

/// Opens connections: the hubs, how to reach them, and what proves who this is. A clone shares token and TLS files.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub(crate) hubs: Vec<HubUrl>,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) token: Option<Token>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<crate::Tls>,
}

/// What a request sends.
type Upload = UnsyncBoxBody<Bytes, Infallible>;

/// One HTTP/2 connection. Dropping it closes the socket at once.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Upload>,
    origin: String,
    authorization: Option<HeaderValue>,
    counter: ByteCounter,
    /// How the connection ended, once it has.
    ended: watch::Receiver<Option<String>>,
    _task: AbortOnDropHandle<()>,
}

/// The body of a response that began well, and what its headers said.
#[derive(Debug)]
pub(crate) struct Body {
    incoming: Incoming,
    headers: HeaderMap,
}

/// What a call that answers with one message brings.
pub(crate) trait Answer: Sized {
    /// Reads it, from the message and the headers before it.
    fn read(message: &[u8], headers: &HeaderMap) -> Result<Self, prost::DecodeError>;
}

impl<T: prost::Message + Default> Answer for T {
    fn read(message: &[u8], _: &HeaderMap) -> Result<Self, prost::DecodeError> {
        Self::decode(message)
    }
}

impl Dialer {
    pub(crate) fn hubs(&self) -> &[HubUrl] {
        &self.hubs
    }

    /// Opens a connection to one hub. Whoever calls this sets the deadline.
    pub(crate) async fn dial(&self, hub: usize) -> Result<Connection, Failure> {
        let hub = &self.hubs[hub];
        let authorization = match &self.token {
            Some(token) => Some(token.header().await),
            None => None,
        };
        let unreachable =
            |error: &dyn Error| Failure::Unreachable(format!("{}: {}", hub.origin, chain(error)));
        // Application code: a panic in it is one failed try, not the end of the client.
        let connecting =
            catch_panics("the connector", async { self.connector.connect(&hub.host, hub.port).await });
        let io = connecting.await.map_err(|why| Failure::Unreachable(format!("{}: {why}", hub.origin)))?;
        let counter = ByteCounter::default();
        let io = counter.counting(io);
        #[cfg(feature = "tls")]
        let io = match &self.tls {
            Some(tls) if hub.secure => {
                tls.secure(&hub.host, io).await.map_err(|error| unreachable(&error))?
            }
            _ => io,
        };
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(FOR_EVER)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| unreachable(&error))?;
        // The task ends with the connection; how it ended, the body says, too, but not a request that never went out.
        let (end, ended) = watch::channel(None);
        let task = tokio::spawn(async move {
            let error = connection.await.err().map(|error| chain(&error));
            end.send_replace(Some(error.unwrap_or_else(|| "the hub closed the connection".to_owned())));
        });
        let origin = hub.origin.clone();
        Ok(Connection { sender, origin, authorization, counter, ended, _task: AbortOnDropHandle::new(task) })
    }
}

impl Connection {
    /// How many bytes it has read from its socket.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.counter.bytes()
    }

    /// Whether a request can still be sent.
    pub(crate) fn is_open(&self) -> bool {
        self.ended.borrow().is_none() && !self.sender.is_closed()
    }

    /// Sends a request with one message and waits until the response begins. Cancel safe.
    pub(crate) async fn call(&mut self, path: &str, request: &impl prost::Message) -> Result<Body, Failure> {
        self.begin(path, Full::new(framed(request)).boxed_unsync()).await
    }

    /// Sends framed messages as they come and waits until the response begins, which may be only after the first of
    /// them. Cancel safe.
    pub(crate) async fn stream(
        &mut self,
        path: &str,
        messages: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Body, Failure> {
        let frames = messages.map(|message| Ok(Frame::data(message)));
        self.begin(path, StreamBody::new(frames).boxed_unsync()).await
    }

    async fn begin(&mut self, path: &str, upload: Upload) -> Result<Body, Failure> {
        let mut request = Request::post(format!("{}{path}", self.origin))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::USER_AGENT, concat!("galaxy-push/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(upload).map_err(|error| Failure::Unreachable(chain(&error)))?;
        let sent = match self.sender.ready().await {
            Ok(()) => self.sender.send_request(request).await,
            Err(error) => Err(error),
        };
        let response = match sent {
            Ok(response) => response,
            Err(error) => return Err(self.not_sent(&error).await),
        };
        let (head, body) = response.into_parts();
        if let Some(end) = end_of_stream(&head.headers) {
            return Err(end);
        }
        let content_type =
            head.headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
        if head.status != http::StatusCode::OK || !content_type.starts_with(b"application/grpc") {
            let content_type = String::from_utf8_lossy(content_type).into_owned();
            return Err(Failure::NotGrpc { status: head.status.as_u16(), content_type });
        }
        Ok(Body { incoming: body, headers: head.headers })
    }

    /// Why a request got no response: what ended the connection, if it has ended.
    async fn not_sent(&mut self, error: &hyper::Error) -> Failure {
        let why = match timeout(END_WITHIN, self.ended.wait_for(Option::is_some)).await {
            Ok(Ok(ended)) => ended.clone().unwrap_or_default(),
            Ok(Err(_)) | Err(_) => chain(error),
        };
        match refused_certificate(&why) {
            Some(alert) => Failure::Unreachable(format!(
                "{}: the hub refuses the certificate that this peer presents ({alert}){}",
                self.origin,
                todo_after(alert)
            )),
            // What a TLS alert looks like to whoever expects HTTP/2.
            None if self.origin.starts_with("http:") && why.contains("frame with invalid size") => {
                Failure::Lost(format!("{why}: a hub that speaks TLS is reached by https://"))
            }
            None => Failure::Lost(why),
        }
    }

    /// Calls a method that answers with one message of at most `limit` bytes. Cancel safe.
    pub(crate) async fn unary<T: Answer>(
        &mut self,
        path: &str,
        request: &impl prost::Message,
        limit: usize,
    ) -> Result<T, Failure> {
        let mut body = self.call(path, request).await?;
        let (mut deframer, mut answer) = (Deframer::new(limit), None);
        loop {
            match body.next().await {
                Ok(data) => deframer.push(data),
                Err(Failure::Ended) => break,
                Err(failure) => return Err(failure),
            }
            while let Some(framed) = deframer.next_message().map_err(Failure::Unsplittable)? {
                answer = Some(framed);
            }
        }
        let answer = answer.ok_or(Failure::Protocol("an answer without a message"))?;
        T::read(message(&answer), &body.headers)
            .map_err(|_| Failure::Protocol("an answer that cannot be decoded"))
    }
}

impl Body {
    /// The next bytes; the end of the stream is a failure too, [`Failure::Ended`] at best. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Bytes, Failure> {
        loop {
            let frame = match self.incoming.frame().await {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Err(lost(&error)),
                None => return Err(Failure::Lost("the stream ended without a status".to_owned())),
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Ok(data),
                Err(frame) => {
                    if let Some(end) = frame.trailers_ref().and_then(end_of_stream) {
                        return Err(end);
                    }
                }
            }
        }
    }
}

/// What a server says about the end of a stream in headers or trailers; `None` when it says nothing.
fn end_of_stream(headers: &HeaderMap) -> Option<Failure> {
    const DETAILS: &str = "grpc-status-details-bin";
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
    );
    // tonic panics on details that are not base64, and a peer must not be able to make us.
    let broken = headers.get(DETAILS).is_some_and(|details| LENIENT.decode(details).is_err());
    let status = if broken {
        let mut headers = headers.clone();
        headers.remove(DETAILS);
        tonic::Status::from_header_map(&headers)
    } else {
        tonic::Status::from_header_map(headers)
    }?;
    if status.code() == tonic::Code::Ok {
        return Some(Failure::Ended);
    }
    let details = galaxy_push_proto::Failure::of(&status);
    let reason = details.reason.map(|reason| reason.as_str()).unwrap_or_default();
    let status = ServerStatus::new(status.code().into(), status.message());
    Some(Failure::Status(status.with_reason(reason).with_retry_after(details.retry_after)))
}

pub(crate) fn framed(message: &impl prost::Message) -> Bytes {
    let mut framed = Vec::with_capacity(PREFIX_BYTES + message.encoded_len());
    framed.extend_from_slice(&[0; PREFIX_BYTES]);
    framed.extend_from_slice(&message.encode_to_vec());
    put_prefix(&mut framed, 0);
    framed.into()
}

/// In TLS 1.3 a peer learns only after its handshake what the other side thinks of its certificate.
fn refused_certificate(why: &str) -> Option<&str> {
    let alert = why.split("received fatal alert: ").nth(1)?.split([' ', ':', ';']).next()?;
    let about_it =
        alert.contains("Certificate") || matches!(alert, "UnknownCA" | "AccessDenied" | "DecryptError");
    about_it.then_some(alert)
}

/// What is to be done where the hub does not trust who has signed a certificate. What else is wrong with one, the alert says.
fn todo_after(alert: &str) -> &'static str {
    match alert {
        "UnknownCA" | "DecryptError" => ": its --hub-peer-ca must hold the authority that has signed it",
        _ => "",
    }
}

fn lost(error: &dyn Error) -> Failure {
    Failure::Lost(chain(error))
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").field("hubs", &self.hubs).finish_non_exhaustive()
    }
}
