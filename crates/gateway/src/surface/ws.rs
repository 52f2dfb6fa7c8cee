//! Users over WebSocket: `GET /v1/ws`, subprotocols `push.v1.json` and `push.v1.proto`.
//!
//! One task per socket owns it and the [`Connection`]. The user sends `ClientFrame`s, `connect` first. What a turn produces is
//! written as a whole, and nothing more is read from the window before the socket has accepted it all. Meanwhile the user's
//! frames are read, and whatever closes the connection closes it, with a code that says whether to come back.
//!
//! ```text
//! handshake ─► greeting (`connect` in time?) ─► Session::serve ─► finish (goodbye, close frame)
//!                 └─ refused, evicted ──────────────────────────────┘
//! ```
//!
//! It holds at most one turn of frames, or one large frame, for a user that does not read.

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
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use super::context::Context;
use super::encode::Encoder;
use super::problem::{self, bad_request, close_code, close_reason};
use super::query::{Query, bearer};
use super::render::Form;
use crate::app::Shared;
use crate::app::config::CLIENT_MESSAGE_BYTES;
use crate::state::close::CloseReason;
use crate::state::connection::{Connection, Outgoing};
use crate::state::too_large::ReaderKey;

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

/// Of a peer that broke a rule no more than this is read, before its socket is let go of.
const DRAIN_BYTES: u64 = 4 << 20;

/// How often it is looked whether a socket that took bytes a moment ago still does.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// Answers `GET /v1/ws`.
pub(crate) async fn upgrade(
    State(context): State<Arc<Context>>,
    outflow: Option<Extension<Outflow>>,
    handle: Option<Extension<ConnectionHandle>>,
    peer: Option<Extension<Peer>>,
    uri: Uri,
    headers: HeaderMap,
    Handshake(on_upgrade): Handshake,
) -> Response {
    let address = context.address(peer.map(|Extension(peer)| peer), &headers);
    match prepare(&context.shared, address, &uri, &headers, on_upgrade) {
        Ok((on_upgrade, protocol, mut greeting)) => {
            greeting.handle = handle.map(|Extension(handle)| handle);
            let outflow = outflow.map(|Extension(outflow)| outflow).unwrap_or_default();
            tokio::spawn(async move {
                // If not, the peer has gone.
                if let Ok(upgraded) = on_upgrade.await {
                    let socket = handshake::socket(&context.shared, upgraded).await;
                    run(context, socket, outflow, greeting).await;
                }
            });
            handshake::answer(&headers, protocol)
        }
        Err((failure, needs_upgrade)) => {
            context.shared.metrics.refused(&failure);
            let mut response = problem::response(&failure);
            if needs_upgrade {
                response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            }
            response
        }
    }
}

/// Checks the handshake's request before it is accepted: what is wrong with it is said as an HTTP answer. With a refusal
/// comes whether the answer has to name the protocol to upgrade to.
fn prepare(
    shared: &Shared,
    address: Option<IpAddr>,
    uri: &Uri,
    headers: &HeaderMap,
    on_upgrade: Option<OnUpgrade>,
) -> Result<(OnUpgrade, &'static str, Greeting), (Failure, bool)> {
    let plainly = |failure| (failure, false);
    shared.open_for_users().map_err(Failure::from).map_err(plainly)?;
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
    Ok((on_upgrade, name, Greeting { form, query, presented, address, handle: None }))
}

/// The first one that is known, in the peer's order.
fn subprotocol(headers: &HeaderMap) -> Option<(&'static str, Form)> {
    let offered =
        headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    offered
        .flat_map(|list| list.split(','))
        .find_map(|offered| SUBPROTOCOLS.iter().find(|(name, _)| *name == offered.trim()).copied())
}

/// How a session ends.
enum SessionEnd {
    /// The peer is gone, or has closed.
    Gone,
    /// The peer has closed, because what it was sent is larger than it takes.
    TooLarge,
    /// This side closes it.
    Closed(CloseReason),
    /// The user broke a rule, or there is no room.
    Refused(Failure),
    /// The listener needs its place for others at once: it has not said who it is.
    Evicted(Failure),
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
fn received(message: Option<Result<Message, tungstenite::Error>>) -> Result<Message, SessionEnd> {
    match message {
        Some(Ok(message)) => Ok(message),
        Some(Err(error)) => Err(Breach::of(error).map_or(SessionEnd::Gone, SessionEnd::Broken)),
        None => Err(SessionEnd::Gone),
    }
}

/// From the accepted handshake to the closed socket.
async fn run(context: Arc<Context>, mut socket: WebSocket, outflow: Outflow, greeting: Greeting) {
    let shared = &context.shared;
    let _tracked = shared.tracker.token();
    let form = greeting.form;
    let admitted = match greeting.receive(shared, &mut socket).await {
        Ok(admitted) => admitted,
        Err(end) => return finish(shared, socket, None, end).await,
    };
    let Some(Admitted { connection, frame_max, who, skipped }) = admitted else { return };
    let _connected = shared.metrics.connected(form.transport());
    let encoder = context.encoder(form, Some(frame_max), connection.id()).skipping(skipped);
    outflow.leave_to_app();
    let writing = Writing::default();
    let mut session = Session { shared: shared.clone(), socket, outflow, connection, encoder, form, writing };
    let end = session.serve().await;
    if matches!(end, SessionEnd::TooLarge) {
        session.remember_too_large(who);
    }
    let Session { shared, socket, outflow, connection, encoder, form, writing } = session;
    let is_stalled = matches!(end, SessionEnd::Gone) && outflow.is_stalled();
    if is_stalled {
        encoder.dropped(&CloseReason::TooSlow);
    }
    if is_stalled || matches!(end, SessionEnd::Closed(CloseReason::TooSlow)) {
        connection.give_up();
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
    /// Serves the user until one side ends it.
    ///
    /// Three things are waited for: the socket (a frame of the user, or that all is written), the time at which the user
    /// has to have shown that it is there, and the connection (something to send, or that it has to close). While bytes
    /// wait for the socket, only the end of the connection is waited for.
    async fn serve(&mut self) -> SessionEnd {
        let config = &self.shared.config;
        let dead_after = config.dead_after;
        let ping_every = config.progress_interval.min(dead_after / 2);
        // When the user last showed that it is there: by a frame, or by taking what it had to be waited for.
        let mut alive = Instant::now();
        let mut ping_at = alive + ping_every;
        let mut outgoing = Vec::new();
        loop {
            alive = alive.max(self.socket.get_ref().last_frame_at());
            let look_at = if self.writing.on {
                self.outflow.due().unwrap_or_else(|| Instant::now() + CHECK_EVERY)
            } else {
                ping_at.min(alive + dead_after)
            };
            let writing = self.writing.on;
            tokio::select! {
                biased;
                moved = drive(&mut self.socket, &mut self.writing) => match moved {
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
                            return SessionEnd::Refused(refused);
                        }
                    }
                    Err(SessionEnd::Gone) => return self.last_close_frame().unwrap_or(SessionEnd::Gone),
                    Err(end) => return end,
                },
                () = sleep_until(look_at) => {
                    // While bytes wait, they alone say whether the user is there: a pong cannot come before them.
                    if writing {
                        if self.outflow.due().is_some_and(|due| due <= Instant::now()) {
                            return SessionEnd::Closed(CloseReason::TooSlow);
                        }
                    } else if alive.elapsed() >= dead_after {
                        tracing::debug!(connection = self.connection.name(), "closed: nothing heard for too long");
                        return SessionEnd::Gone;
                    } else {
                        ping_at = Instant::now() + ping_every;
                        self.write([Message::Ping(Bytes::new())]);
                    }
                }
                visited = self.connection.next_unless(writing, &mut outgoing) => {
                    if let Err(reason) = visited {
                        return SessionEnd::Closed(reason);
                    }
                    self.write_turn(std::mem::take(&mut outgoing));
                }
            }
            self.writing.slowly |= self.outflow.is_blocked();
        }
    }

    /// The close frame that a peer sent before it went. Writing to it failed, so it was not read before.
    fn last_close_frame(&mut self) -> Option<SessionEnd> {
        self.socket.get_mut().stop_pacing();
        loop {
            let message = received(unconstrained(self.socket.next()).now_or_never()?).ok()?;
            if let Message::Close(_) = message {
                return client_frame(self.form, &message, &self.shared.metrics).err();
            }
        }
    }

    /// Remembers what this user was sent when it closed with 1009, so that its next stream is not sent the same again.
    fn remember_too_large(&self, who: ReaderKey) {
        let Shared { admission, too_large, metrics, .. } = &*self.shared;
        let now = admission.edge.clock.now();
        let suspects = admission.edge.read(now, |window| self.encoder.largest_sent().frames(window));
        too_large.record_close(who, suspects, now.mono);
        metrics.too_large_closes.inc();
        tracing::debug!(
            connection = self.connection.name(),
            "closed by its user: an event is larger than it takes"
        );
    }

    /// Encodes what a turn produced, and has it written.
    fn write_turn(&mut self, outgoing: Vec<Outgoing>) {
        let mut pieces = Vec::new();
        self.writing.refused = self.encoder.encode(outgoing, &mut pieces).err();
        let form = self.form;
        self.write(pieces.into_iter().map(|piece| message(form, piece)));
    }

    /// Has these messages written. What is there already goes first.
    fn write(&mut self, messages: impl IntoIterator<Item = Message>) {
        self.writing.waiting.extend(messages);
        self.writing.on = true;
    }

    /// Does what the user's frame asks for.
    fn receive(&mut self, message: Message) -> Result<(), SessionEnd> {
        use galaxy_push_proto::v1::client_frame::Kind;

        let Some(kind) = client_frame(self.form, &message, &self.shared.metrics)? else { return Ok(()) };
        let done = match kind {
            Kind::Connect(_) => Err(bad_request("`connect` comes once, as the first frame")),
            Kind::Subscribe(asked) => self.connection.subscribe(&asked.topics).map_err(Failure::from),
            Kind::Unsubscribe(asked) => {
                self.connection.unsubscribe(&asked.topics);
                Ok(())
            }
            Kind::Refresh(newer) => self
                .shared
                .identify(Some(&newer.token), "", "")
                .and_then(|identity| Ok(self.connection.refresh(identity)?)),
        };
        done.map_err(SessionEnd::Refused)
    }
}

/// Reads and writes: the next message that came, or `None` once everything is written.
///
/// Cancel safe: a message is popped only when the socket has room for it.
async fn drive(socket: &mut WebSocket, writing: &mut Writing) -> Result<Option<Message>, SessionEnd> {
    let gone = |_| SessionEnd::Gone;
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

/// A frame as a message of its subprotocol.
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
    end: SessionEnd,
) {
    let (code, reason) = match end {
        SessionEnd::Gone | SessionEnd::TooLarge => return drain_until_closed(&mut socket).await,
        SessionEnd::Closed(ref reason) => reason.close_code(),
        SessionEnd::Broken(breach) => {
            shared.metrics.broke_protocol();
            breach.close(CLIENT_MESSAGE_BYTES)
        }
        SessionEnd::Refused(ref failure) | SessionEnd::Evicted(ref failure) => {
            shared.metrics.refused(failure);
            (close_code(failure), close_reason(failure))
        }
    };
    if let SessionEnd::Evicted(_) = end {
        // Said, and not waited for; nor put off because this task has done much in its turn.
        let close = Message::Close(Some(CloseFrame { code: code.into(), reason: reason.into() }));
        let _ = unconstrained(socket.send(close)).now_or_never();
        return;
    }
    let is_broken = matches!(end, SessionEnd::Broken(_));
    let closing = async {
        if let (Some((connection, mut encoder, form, waiting)), SessionEnd::Closed(closed)) = (session, end) {
            let mut pieces = Vec::new();
            encoder.goodbye(connection.position(), &closed, &mut pieces);
            drop(connection);
            // The goodbye's cursor is behind what still waits, so that goes before it or neither goes.
            if closed == CloseReason::TooSlow {
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
        if is_broken {
            socket.get_mut().stop_pacing();
            drain_unread(socket.get_mut()).await;
        } else {
            drain_until_closed(&mut socket).await;
        }
    }
}

/// Reads on for a moment, and looks at nothing: the library reads no further behind a breach, and a socket dropped with unread bytes
/// is reset, so that a peer that still writes would not see the code.
async fn drain_unread(io: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let reading = async {
        let _ = io.shutdown().await; // it may be gone, which is as well
        let _ = tokio::io::copy(&mut io.take(DRAIN_BYTES), &mut tokio::io::sink()).await;
    };
    let _ = timeout(CLOSE_WITHIN, reading).await;
}

/// Reads on until the peer has closed, too: that sends the answer to its close frame, and a socket dropped with unread
/// bytes is reset, so that the peer would not see the code.
async fn drain_until_closed(socket: &mut WebSocket) {
    socket.get_mut().stop_pacing();
    let _ = timeout(CLOSE_WITHIN, async { while let Some(Ok(_)) = socket.next().await {} }).await;
}
