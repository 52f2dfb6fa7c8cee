//! From a handshake to a socket: the answer, and how much the socket holds.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::extract::ws::WebSocketUpgrade;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::pace::Pace;
use super::paced::Paced;
use crate::app::Shared;
use crate::app::config::CLIENT_MESSAGE_BYTES;

/// A user's socket.
pub(super) type WebSocket = WebSocketStream<Paced<TokioIo<Upgraded>>>;

/// The read buffer is allocated for each socket; the write buffer grows only while it is used.
const READ_BUFFER_BYTES: usize = 4 << 10;
const WRITE_BUFFER_BYTES: usize = 4 << 10;

/// What may wait to be written before the socket has taken anything of it: one turn, or one large frame.
const WRITE_BUFFER_BYTES_MAX: usize = 16 << 20;

/// What becomes of the connection, if the request is a handshake.
pub(crate) struct Handshake(pub(super) Option<OnUpgrade>);

impl<S: Send + Sync> FromRequestParts<S> for Handshake {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        // The library's own socket could not be paced; its handshake is as good as any.
        let on_upgrade = parts.extensions.get::<OnUpgrade>().cloned();
        let checked = WebSocketUpgrade::from_request_parts(parts, state).await;
        Ok(Self(checked.ok().and(on_upgrade)))
    }
}

/// The answer to a handshake over HTTP/1.1 (RFC 6455, section 4.2.2).
pub(super) fn answer(headers: &HeaderMap, protocol: &'static str) -> Response {
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map_or(&b""[..], HeaderValue::as_bytes);
    let accept = HeaderValue::try_from(derive_accept_key(key));
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    // It is Base64.
    answer.extend(accept.ok().map(|accept| (header::SEC_WEBSOCKET_ACCEPT, accept)));
    answer.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    response
}

/// The socket behind it.
pub(super) async fn socket(shared: &Shared, upgraded: Upgraded) -> WebSocket {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(Some(CLIENT_MESSAGE_BYTES))
        .max_frame_size(Some(CLIENT_MESSAGE_BYTES));
    let pace = Pace::new(shared.config.client_frames_per_second);
    let paced = Paced::new(TokioIo::new(upgraded), pace, shared.metrics.client_frame_pauses.clone());
    WebSocketStream::from_raw_socket(paced, Role::Server, Some(config)).await
}
