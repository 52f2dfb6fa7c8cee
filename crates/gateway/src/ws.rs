//! Users over WebSocket: `GET /v1/ws`, subprotocols `push.v1.json` and `push.v1.proto`.
//!
//! One task per socket owns it and the [`Connection`]. The user sends `ClientFrame`s, `connect` first; what is ready is
//! fed and flushed once per visit. Whatever ends it ends with a close code that says whether to come back.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use bytes::Bytes;
use futures_util::SinkExt as _;
use galaxy_push_listener::Visitor;
use galaxy_push_proto::Failure;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{self, error::ProtocolError};

use crate::connection::{Connection, Ending};
use crate::encode::Encoder;
use crate::gateway::Shared;
use crate::metrics::Transport;
use crate::problem::{self, bad_request, close_code, close_reason};
use crate::query::{Query, bearer};
use crate::render::Form;

mod greeting;

use greeting::{Greeting, client_frame};

/// The names of the subprotocols, and the form each of them has.
const SUBPROTOCOLS: [(&str, Form); 2] = [("push.v1.json", Form::Json), ("push.v1.proto", Form::Proto)];

/// The read buffer is allocated for each socket; the write buffer grows only while it is used.
const READ_BUFFER_BYTES: usize = 4 << 10;
const WRITE_BUFFER_BYTES: usize = 4 << 10;

/// What may wait to be written before the socket has taken anything of it: one turn, or one large frame.
const WRITE_BUFFER_BYTES_MAX: usize = 16 << 20;

/// How long the peer's answer to a close frame is waited for.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Answers `GET /v1/ws`.
pub(crate) async fn upgrade(
    State(shared): State<Arc<Shared>>,
    visitor: Option<Extension<Visitor>>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    match prepare(&shared, &uri, &headers, upgrade) {
        Ok((upgrade, mut greeting)) => {
            greeting.visitor = visitor.map(|Extension(visitor)| visitor);
            upgrade.on_upgrade(move |socket| run(shared, socket, greeting))
        }
        Err((failure, needs_upgrade)) => {
            shared.metrics.refused(&failure);
            let mut response = problem::response(&failure);
            if needs_upgrade {
                response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            }
            response
        }
    }
}

fn prepare(
    shared: &Shared,
    uri: &Uri,
    headers: &HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<(WebSocketUpgrade, Greeting), (Failure, bool)> {
    let plainly = |failure| (failure, false);
    shared.open_for_users().map_err(plainly)?;
    let query = Query::read(uri, &shared.config.ignored_query).map_err(plainly)?;
    let mut upgrade = upgrade.map_err(|_| {
        let message = "this address speaks WebSocket only: send a WebSocket handshake, version 13";
        (bad_request(message).http_status(StatusCode::UPGRADE_REQUIRED.as_u16()), true)
    })?;
    let Some((name, form)) = subprotocol(headers) else {
        let message = "no known subprotocol was offered: offer `push.v1.json` or `push.v1.proto` in \
                       Sec-WebSocket-Protocol";
        return Err(plainly(bad_request(message).field("Sec-WebSocket-Protocol")));
    };
    let presented = match bearer(headers).map_err(plainly)? {
        Some(token) => Some(shared.identify(Some(token), "", "").map_err(plainly)?),
        None => None,
    };
    upgrade.set_selected_protocol(HeaderValue::from_static(name));
    let upgrade = upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(shared.config.client_message_bytes)
        .max_frame_size(shared.config.client_message_bytes);
    Ok((upgrade, Greeting { form, query, presented, visitor: None }))
}

/// The first one that is known, in the peer's order.
fn subprotocol(headers: &HeaderMap) -> Option<(&'static str, Form)> {
    let offered =
        headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    offered
        .flat_map(|list| list.split(','))
        .find_map(|offered| SUBPROTOCOLS.iter().find(|(name, _)| *name == offered.trim()).copied())
}

/// How a socket's life ends.
enum End {
    /// The peer is gone, or has closed.
    Gone,
    /// This side ends it.
    Ended(Ending),
    /// The user broke a rule.
    Refused(Failure),
    /// The user broke a rule of WebSocket itself.
    Broken(Breach),
}

/// A breach of the protocol, by the code it is answered with (RFC 6455, section 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breach {
    TooBig,
    NotText,
    Protocol,
}

impl Breach {
    /// What went wrong in reading. `None`: the connection is gone.
    fn of(error: axum::Error) -> Option<Self> {
        match *error.into_inner().downcast::<tungstenite::Error>().ok()? {
            tungstenite::Error::Capacity(_) => Some(Self::TooBig),
            tungstenite::Error::Utf8(_) => Some(Self::NotText),
            tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
            tungstenite::Error::Protocol(_) => Some(Self::Protocol),
            _ => None,
        }
    }

    const fn close(self) -> (u16, &'static str) {
        match self {
            Self::TooBig => {
                (1009, "the message is too big: send at most 64 KiB, unless the gateway is set otherwise")
            }
            Self::NotText => (1007, "a text message must be UTF-8"),
            Self::Protocol => (1002, "a frame breaks the rules of WebSocket"),
        }
    }
}

/// What was read, or how that ends the connection.
fn received(message: Option<Result<Message, axum::Error>>) -> Result<Message, End> {
    match message {
        Some(Ok(message)) => Ok(message),
        Some(Err(error)) => Err(Breach::of(error).map_or(End::Gone, End::Broken)),
        None => Err(End::Gone),
    }
}

async fn run(shared: Arc<Shared>, mut socket: WebSocket, greeting: Greeting) {
    let _tracked = shared.tracker.token();
    let transport = if greeting.form == Form::Json { Transport::WsJson } else { Transport::WsProto };
    let form = greeting.form;
    let admitted = match greeting.receive(&shared, &mut socket).await {
        Ok(admitted) => admitted,
        Err(end) => return finish(&shared, socket, None, end).await,
    };
    let Some((connection, frame_max)) = admitted else { return };
    let _connected = shared.metrics.connected(transport);
    let encoder = shared.encoder(transport, form, Some(frame_max), connection.id());
    let mut session = Session { shared, socket, connection, encoder, form };
    let end = session.serve().await;
    let Session { shared, socket, connection, encoder, form } = session;
    finish(&shared, socket, Some((connection, encoder, form)), end).await;
}

/// One socket after its greeting.
struct Session {
    shared: Arc<Shared>,
    socket: WebSocket,
    connection: Connection,
    encoder: Encoder,
    form: Form,
}

impl Session {
    async fn serve(&mut self) -> End {
        let config = &self.shared.config;
        let (ping_every, dead_after) = (config.ping, config.dead_after);
        let mut heard = Instant::now();
        let mut ping_at = heard + ping_every;
        let (mut outgoing, mut pieces) = (Vec::new(), Vec::new());
        loop {
            tokio::select! {
                biased;
                message = self.socket.recv() => {
                    let message = match received(message) {
                        Ok(message) => message,
                        Err(end) => return end,
                    };
                    heard = Instant::now();
                    if let Err(end) = self.receive(message) {
                        return end;
                    }
                }
                () = sleep_until(ping_at.min(heard + dead_after)) => {
                    if heard.elapsed() >= dead_after {
                        tracing::debug!(connection = self.connection.id(), "closed: nothing heard for too long");
                        return End::Gone;
                    }
                    ping_at += ping_every;
                    if let Err(end) = self.write([Message::Ping(Bytes::new())]).await {
                        return end;
                    }
                }
                visited = self.connection.next(&mut outgoing) => {
                    if let Err(ending) = visited {
                        return End::Ended(ending);
                    }
                    let encoded = self.encoder.encode(std::mem::take(&mut outgoing), &mut pieces);
                    let form = self.form;
                    if let Err(end) = self.write(pieces.drain(..).map(|piece| message(form, piece))).await {
                        return end;
                    }
                    if let Err(refused) = encoded {
                        return End::Refused(refused);
                    }
                }
            }
        }
    }

    /// Feeds everything, then flushes once. Each message has its own time, so that who takes one after the other is not
    /// too slow for many.
    async fn write(&mut self, messages: impl IntoIterator<Item = Message>) -> Result<(), End> {
        let stall = self.shared.config.write_stall;
        for message in messages {
            written(timeout(stall, self.socket.feed(message)).await)?;
        }
        written(timeout(stall, self.socket.flush()).await)
    }

    fn receive(&mut self, message: Message) -> Result<(), End> {
        use galaxy_push_proto::v1::client_frame::Kind;

        let Some(kind) = client_frame(self.form, &message, &self.shared.metrics)? else { return Ok(()) };
        let done = match kind {
            Kind::Connect(_) => Err(bad_request("`connect` comes once, as the first frame")),
            Kind::Subscribe(asked) => self.connection.subscribe(&asked.topics),
            Kind::Unsubscribe(asked) => {
                self.connection.unsubscribe(&asked.topics);
                Ok(())
            }
            Kind::Refresh(newer) => self
                .shared
                .identify(Some(&newer.token), "", "")
                .and_then(|identity| self.connection.refresh(identity)),
        };
        done.map_err(End::Refused)
    }
}

/// What became of one write.
fn written(result: Result<Result<(), axum::Error>, Elapsed>) -> Result<(), End> {
    match result {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Gone),
        Err(_) => Err(End::Ended(Ending::Slow)),
    }
}

fn message(form: Form, piece: Bytes) -> Message {
    match form {
        // What is rendered as JSON is UTF-8.
        Form::Json => {
            Utf8Bytes::try_from(piece).map_or_else(|_| Message::Text(Utf8Bytes::default()), Message::Text)
        }
        _ => Message::Binary(piece),
    }
}

/// Says why it ends, as far as the peer still listens, and lets go of the socket.
async fn finish(
    shared: &Shared,
    mut socket: WebSocket,
    session: Option<(Connection, Encoder, Form)>,
    end: End,
) {
    let (code, reason) = match end {
        End::Gone => return linger(&mut socket).await,
        End::Ended(ref ending) => ending.close(),
        End::Broken(breach) => {
            shared.metrics.broke_protocol();
            let (code, reason) = breach.close();
            (code, reason.to_owned())
        }
        End::Refused(ref failure) => {
            shared.metrics.refused(failure);
            (close_code(failure), close_reason(failure))
        }
    };
    let closing = async {
        if let (Some((connection, mut encoder, form)), End::Ended(ending)) = (session, end) {
            let mut pieces = Vec::new();
            encoder.goodbye(connection.passed(), &ending, &mut pieces);
            drop(connection);
            if ending == Ending::Slow {
                pieces.clear(); // some frames before it were never written, and its cursor would hide them
            }
            for piece in pieces {
                socket.feed(message(form, piece)).await?;
            }
        }
        socket.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await
    };
    if let Ok(Ok(())) = timeout(CLOSE_WITHIN, closing).await {
        linger(&mut socket).await;
    }
}

/// Reads on until the peer has closed, too: that sends the answer to its close frame, and a socket dropped with unread
/// bytes is reset, so that the peer would not see the code.
async fn linger(socket: &mut WebSocket) {
    let _ = timeout(CLOSE_WITHIN, async { while let Some(Ok(_)) = socket.recv().await {} }).await;
}
