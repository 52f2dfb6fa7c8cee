//! Users over WebSocket: `GET /v1/ws`, subprotocols `push.v1.json` and `push.v1.proto`.
//!
//! One task per socket owns it and the [`Connection`]. The user sends `ClientFrame`s, `connect` first; what is ready is
//! written once per visit, and nothing more is looked at before the socket has taken it all. Meanwhile the user is heard,
//! and whatever ends the connection ends it, with a close code that says whether to come back.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{FutureExt as _, Sink as _, SinkExt as _, StreamExt as _};
use galaxy_push_listener::{ConnectionHandle, Outflow, Peer};
use galaxy_push_proto::Failure;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use hyper::upgrade::OnUpgrade;
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use crate::connection::{Connection, Ending, Outgoing};
use crate::encode::Encoder;
use crate::gateway::Shared;
use crate::metrics::Transport;
use crate::problem::{self, bad_request, close_code, close_reason};
use crate::query::{Query, bearer};
use crate::render::Form;
use crate::too_large::Who;

mod greeting;
mod handshake;
mod pace;
mod paced;

use greeting::{Admitted, Greeting, client_frame};
use handshake::{Handshake, WebSocket};

/// The names of the subprotocols, and the form each of them has.
const SUBPROTOCOLS: [(&str, Form); 2] = [("push.v1.json", Form::Json), ("push.v1.proto", Form::Proto)];

/// How long the peer's answer to a close frame is waited for.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// How often it is looked whether a socket that took bytes a moment ago still does.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Answers `GET /v1/ws`.
pub(crate) async fn upgrade(
    State(shared): State<Arc<Shared>>,
    outflow: Option<Extension<Outflow>>,
    visitor: Option<Extension<ConnectionHandle>>,
    peer: Option<Extension<Peer>>,
    uri: Uri,
    headers: HeaderMap,
    Handshake(on_upgrade): Handshake,
) -> Response {
    let address = shared.address(peer.map(|Extension(peer)| peer), &headers);
    match prepare(&shared, address, &uri, &headers, on_upgrade) {
        Ok((on_upgrade, protocol, mut greeting)) => {
            greeting.visitor = visitor.map(|Extension(visitor)| visitor);
            let outflow = outflow.map(|Extension(outflow)| outflow).unwrap_or_default();
            tokio::spawn(async move {
                // If not, the peer has gone.
                if let Ok(upgraded) = on_upgrade.await {
                    let socket = handshake::socket(&shared, upgraded).await;
                    run(shared, socket, outflow, greeting).await;
                }
            });
            handshake::answer(&headers, protocol)
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
    address: Option<IpAddr>,
    uri: &Uri,
    headers: &HeaderMap,
    on_upgrade: Option<OnUpgrade>,
) -> Result<(OnUpgrade, &'static str, Greeting), (Failure, bool)> {
    let plainly = |failure| (failure, false);
    shared.open_for_users().map_err(plainly)?;
    let query = Query::read(uri, &shared.config.ignored_query).map_err(plainly)?;
    let Some(on_upgrade) = on_upgrade else {
        let message = "this address speaks WebSocket only: send a WebSocket handshake, version 13";
        return Err((bad_request(message).http_status(StatusCode::UPGRADE_REQUIRED.as_u16()), true));
    };
    let Some((name, form)) = subprotocol(headers) else {
        let message = "no known subprotocol was offered: offer `push.v1.json` or `push.v1.proto` in \
                       Sec-WebSocket-Protocol";
        return Err(plainly(bad_request(message).field("Sec-WebSocket-Protocol")));
    };
    let presented = match bearer(headers).map_err(plainly)? {
        Some(token) => Some(shared.identify(Some(token), "", "").map_err(plainly)?),
        None => None,
    };
    Ok((on_upgrade, name, Greeting { form, query, presented, address, visitor: None }))
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
    /// The peer has closed, because what it was sent is larger than it takes.
    TooLarge,
    /// This side ends it.
    Ended(Ending),
    /// The user broke a rule, or there is no room.
    Refused(Failure),
    /// Others need its place at once.
    GaveWay(Failure),
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
    fn of(error: tungstenite::Error) -> Option<Self> {
        match error {
            tungstenite::Error::Capacity(_) => Some(Self::TooBig),
            tungstenite::Error::Utf8(_) => Some(Self::NotText),
            tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
            tungstenite::Error::Protocol(_) => Some(Self::Protocol),
            _ => None,
        }
    }

    /// `largest`: the largest message, in bytes.
    fn close(self, largest: usize) -> (u16, String) {
        match self {
            Self::TooBig => (1009, format!("the message is too big: send at most {largest} bytes")),
            Self::NotText => (1007, "a text message must be UTF-8".to_owned()),
            Self::Protocol => (1002, "a frame breaks the rules of WebSocket".to_owned()),
        }
    }
}

/// What was read, or how that ends the connection.
fn received(message: Option<Result<Message, tungstenite::Error>>) -> Result<Message, End> {
    match message {
        Some(Ok(message)) => Ok(message),
        Some(Err(error)) => Err(Breach::of(error).map_or(End::Gone, End::Broken)),
        None => Err(End::Gone),
    }
}

async fn run(shared: Arc<Shared>, mut socket: WebSocket, outflow: Outflow, greeting: Greeting) {
    let _tracked = shared.tracker.token();
    let transport = if greeting.form == Form::Json { Transport::WsJson } else { Transport::WsProto };
    let form = greeting.form;
    let admitted = match greeting.receive(&shared, &mut socket).await {
        Ok(admitted) => admitted,
        Err(end) => return finish(&shared, socket, None, end).await,
    };
    let Some(Admitted { connection, frame_max, who, left_out }) = admitted else { return };
    let _connected = shared.metrics.connected(transport);
    let encoder = shared.encoder(transport, form, Some(frame_max), connection.id()).leaving_out(left_out);
    outflow.leave_to_app();
    let writing = Writing::default();
    let mut session = Session { shared, socket, outflow, connection, encoder, form, writing };
    let end = session.serve().await;
    if matches!(end, End::TooLarge) {
        session.remember(who);
    }
    let Session { shared, socket, outflow, connection, encoder, form, writing, .. } = session;
    let is_stalled = matches!(end, End::Gone) && outflow.is_stalled();
    if is_stalled {
        encoder.dropped(&Ending::Slow);
    }
    if is_stalled || matches!(end, End::Ended(Ending::Slow)) {
        connection.gave_up();
    }
    finish(&shared, socket, Some((connection, encoder, form, writing.waiting)), end).await;
}

/// One socket after its greeting.
struct Session {
    shared: Arc<Shared>,
    socket: WebSocket,
    outflow: Outflow,
    connection: Connection,
    encoder: Encoder,
    form: Form,
    writing: Writing,
}

/// What the socket has not taken yet: at most one turn, or one large frame.
#[derive(Default)]
struct Writing {
    /// In order; what is before it lies in the socket's own buffer.
    waiting: VecDeque<Message>,
    /// Something lies there, or here.
    on: bool,
    /// The socket did not take it at once.
    slowly: bool,
    /// The user is refused once it is out.
    refused: Option<Failure>,
}

impl Session {
    async fn serve(&mut self) -> End {
        let config = &self.shared.config;
        let dead_after = config.dead_after;
        let ping_every = config.progress_interval.min(dead_after / 2);
        // When the user last showed that it is there: by a frame, or by taking what it had to be waited for.
        let mut alive = Instant::now();
        let mut ping_at = alive + ping_every;
        let mut outgoing = Vec::new();
        loop {
            alive = alive.max(self.socket.get_ref().heard());
            let look_at = if self.writing.on {
                self.outflow.due().unwrap_or_else(|| Instant::now() + LOOK_EVERY)
            } else {
                ping_at.min(alive + dead_after)
            };
            let writing = self.writing.on;
            tokio::select! {
                biased;
                moved = moved(&mut self.socket, &mut self.writing) => match moved {
                    Ok(Some(message)) => {
                        if let Err(end) = self.receive(message) {
                            return end;
                        }
                    }
                    Ok(None) => {
                        self.writing.on = false;
                        if std::mem::take(&mut self.writing.slowly) {
                            alive = Instant::now();
                        }
                        if let Some(refused) = self.writing.refused.take() {
                            return End::Refused(refused);
                        }
                    }
                    Err(End::Gone) => return self.last_word().unwrap_or(End::Gone),
                    Err(end) => return end,
                },
                () = sleep_until(look_at) => {
                    // While bytes wait, they alone say whether the user is there: a pong cannot come before them.
                    if writing {
                        if self.outflow.due().is_some_and(|due| due <= Instant::now()) {
                            return End::Ended(Ending::Slow);
                        }
                    } else if alive.elapsed() >= dead_after {
                        tracing::debug!(connection = self.connection.name(), "closed: nothing heard for too long");
                        return End::Gone;
                    } else {
                        ping_at = Instant::now() + ping_every;
                        self.write([Message::Ping(Bytes::new())]);
                    }
                }
                visited = self.connection.next_unless(writing, &mut outgoing) => {
                    if let Err(ending) = visited {
                        return End::Ended(ending);
                    }
                    self.write_turn(std::mem::take(&mut outgoing));
                }
            }
            self.writing.slowly |= self.outflow.is_blocked();
        }
    }

    /// What a peer said before it went, that could not be written to any more.
    fn last_word(&mut self) -> Option<End> {
        self.socket.get_mut().let_go();
        loop {
            let message = received(unconstrained(self.socket.next()).now_or_never()?).ok()?;
            if let Message::Close(_) = message {
                return client_frame(self.form, &message, &self.shared.metrics).err();
            }
        }
    }

    /// The next stream of this user is not sent the same again.
    fn remember(&self, who: Who) {
        let Shared { admission, too_large, metrics, .. } = &*self.shared;
        let now = admission.edge.clock.now();
        let suspects = admission.edge.read(now, |window| self.encoder.written().frames(window));
        too_large.closed(who, suspects, now.mono);
        metrics.too_large_closes.inc();
        tracing::debug!(
            connection = self.connection.name(),
            "closed by its user: an event is larger than it takes"
        );
    }

    fn write_turn(&mut self, outgoing: Vec<Outgoing>) {
        let mut pieces = Vec::new();
        self.writing.refused = self.encoder.encode(outgoing, &mut pieces).err();
        let form = self.form;
        self.write(pieces.into_iter().map(|piece| message(form, piece)));
    }

    fn write(&mut self, messages: impl IntoIterator<Item = Message>) {
        self.writing.waiting.extend(messages);
        self.writing.on = true;
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

/// The next message that came, or `None` once everything is written. Cancel safe.
async fn moved(socket: &mut WebSocket, writing: &mut Writing) -> Result<Option<Message>, End> {
    let gone = |_| End::Gone;
    poll_fn(|cx| {
        if let Poll::Ready(message) = socket.poll_next_unpin(cx) {
            return Poll::Ready(received(message).map(Some));
        }
        while writing.on {
            let mut socket = Pin::new(&mut *socket);
            if writing.waiting.is_empty() {
                return socket.poll_flush(cx).map_ok(|()| None).map_err(gone);
            }
            match socket.as_mut().poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(gone(error))),
                Poll::Pending => break,
            }
            let Some(message) = writing.waiting.pop_front() else { continue };
            if let Err(error) = socket.start_send(message) {
                return Poll::Ready(Err(gone(error)));
            }
        }
        Poll::Pending
    })
    .await
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
    session: Option<(Connection, Encoder, Form, VecDeque<Message>)>,
    end: End,
) {
    let (code, reason) = match end {
        End::Gone | End::TooLarge => return linger(&mut socket).await,
        End::Ended(ref ending) => ending.close(),
        End::Broken(breach) => {
            shared.metrics.broke_protocol();
            breach.close(shared.config.client_message_bytes)
        }
        End::Refused(ref failure) | End::GaveWay(ref failure) => {
            shared.metrics.refused(failure);
            (close_code(failure), close_reason(failure))
        }
    };
    if let End::GaveWay(_) = end {
        // Said, and not waited for; nor put off because this task has done much in its turn.
        let close = Message::Close(Some(CloseFrame { code: code.into(), reason: reason.into() }));
        let _ = unconstrained(socket.send(close)).now_or_never();
        return;
    }
    let closing = async {
        if let (Some((connection, mut encoder, form, waiting)), End::Ended(ending)) = (session, end) {
            let mut pieces = Vec::new();
            encoder.goodbye(connection.passed(), &ending, &mut pieces);
            drop(connection);
            // The goodbye's cursor is behind what still waits, so that goes before it or neither goes.
            if ending == Ending::Slow {
                pieces.clear();
            } else {
                for message in waiting {
                    socket.feed(message).await?;
                }
            }
            for piece in pieces {
                socket.feed(message(form, piece)).await?;
            }
        }
        socket.send(Message::Close(Some(CloseFrame { code: code.into(), reason: reason.into() }))).await
    };
    if let Ok(Ok(())) = timeout(CLOSE_WITHIN, closing).await {
        linger(&mut socket).await;
    }
}

/// Reads on until the peer has closed, too: that sends the answer to its close frame, and a socket dropped with unread
/// bytes is reset, so that the peer would not see the code.
async fn linger(socket: &mut WebSocket) {
    socket.get_mut().let_go();
    let _ = timeout(CLOSE_WITHIN, async { while let Some(Ok(_)) = socket.next().await {} }).await;
}
