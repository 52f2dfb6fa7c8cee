//! The first frame of a WebSocket, and the decoding of all others.
//!
//! Called by `ws`. A peer that has shaken hands has [`Config::greeting`](crate::Config::greeting) to send `connect`; until
//! then it has no identity, and the listener may need its place for others.

use std::net::IpAddr;

use futures_util::StreamExt as _;
use galaxy_push_core::cursor::{Cursor, StartFrom};
use galaxy_push_listener::ConnectionHandle;
use galaxy_push_proto::v1::{ClientFrame, Connect, client_frame::Kind};
use galaxy_push_proto::{Failure, Reason, codec, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tonic::Code;

use super::{SessionEnd, WebSocket, received};
use crate::app::Shared;
use crate::app::admission::Request;
use crate::app::metrics::Metrics;
use crate::state::connection::Connection;
use crate::state::grants::Identity;
use crate::state::refusal::Refusal;
use crate::state::too_large::ReaderKey;
use crate::surface::problem::{admit_peer, bad_request, evicted};
use crate::surface::query::Query;
use crate::surface::render::Form;

/// The largest frame sent to a peer that names no limit, in bytes.
const FRAME_BYTES_DEFAULT: usize = 4 << 20;

/// Control frames always fit into this many bytes.
const FRAME_BYTES_MIN: usize = 4 << 10;

/// What the handshake said; `connect` adds to it.
pub(super) struct Greeting {
    pub(super) form: Form,
    pub(super) query: Query,
    /// Who the handshake's token names.
    pub(super) presented: Option<Identity>,
    pub(super) handle: Option<ConnectionHandle>,
    /// From where it comes, as far as that is known.
    pub(super) address: Option<IpAddr>,
}

/// A user who may have a stream.
pub(super) struct Admitted {
    pub(super) connection: Connection,
    /// The largest frame to send.
    pub(super) frame_max: usize,
    /// Under which name it is remembered if it closes because that is too large …
    pub(super) who: ReaderKey,
    /// … and what is left out, because that happened.
    pub(super) skipped: Vec<Cursor>,
}

impl Greeting {
    /// Waits for `connect` and admits the user. `None`: the peer has left.
    pub(super) async fn receive(
        self,
        shared: &Shared,
        socket: &mut WebSocket,
    ) -> Result<Option<Admitted>, SessionEnd> {
        let within = shared.config.greeting;
        let connect = tokio::select! {
            biased;
            () = shared.draining.cancelled() => return Err(SessionEnd::Refused(Refusal::Draining.into())),
            () = self.has_to_leave() => return Err(SessionEnd::Evicted(evicted())),
            connect = timeout(within, first_frame(self.form, socket, &shared.metrics)) => match connect {
                Ok(connect) => connect?,
                Err(_) => return Err(SessionEnd::Refused(self.late())),
            },
        };
        let Some(connect) = connect else { return Ok(None) };
        self.admit(shared, connect).await.map(Some).map_err(SessionEnd::Refused)
    }

    /// Whoever has not said who it is keeps no place from others.
    async fn has_to_leave(&self) {
        match &self.handle {
            Some(handle) => handle.must_close().await,
            None => std::future::pending().await,
        }
    }

    fn late(&self) -> Failure {
        let message = "no `connect` frame came in time: send it first";
        match self.presented {
            Some(_) => bad_request(message),
            None => Failure::new(Reason::NotGranted, message).code(Code::Unauthenticated),
        }
    }

    async fn admit(self, shared: &Shared, connect: Connect) -> Result<Admitted, Failure> {
        let Query { user, session, mut topics, cursor, last_event_id, namespace, .. } = self.query;
        let either = |said: String, before: String| if said.is_empty() { before } else { said };
        let (user, session) = (either(connect.user, user), either(connect.session, session));
        let token = Some(connect.token.as_str()).filter(|token| !token.is_empty());
        let identity = match (self.presented, token) {
            (Some(presented), None) if user.is_empty() && session.is_empty() => presented,
            (Some(presented), Some(_)) => {
                let newer = shared.identify(token, &user, &session)?;
                presented.same_as(&newer)?;
                newer
            }
            (Some(_), None) => {
                return Err(bad_request("`user` and `session` do not go together with a token"));
            }
            (None, token) => shared.identify(token, &user, &session)?,
        };
        if let Some(handle) = &self.handle {
            admit_peer(handle)?;
        }
        let frame_max = match connect.max_receive_bytes as usize {
            0 => FRAME_BYTES_DEFAULT,
            few if few < FRAME_BYTES_MIN => {
                let message = "`maxReceiveBytes` is below 4096, which control frames may need: leave it out, or raise it";
                return Err(bad_request(message).field("connect.maxReceiveBytes"));
            }
            most => most,
        };
        topics.extend(connect.topics);
        // What a polyfill adds to the URL, nobody can drop when it is refused.
        let cursor_is_automatic = connect.cursor.is_empty() && !last_event_id.is_empty();
        let request = Request {
            identity,
            topics,
            cursor: either(connect.cursor, either(last_event_id, cursor)),
            cursor_is_automatic,
            namespace: either(connect.namespace, namespace),
            address: self.address,
        };
        let (who, ask) =
            (ReaderKey::of(&request.identity, self.address), StartFrom::parse_or_unreadable(&request.cursor));
        let connection = shared.admit(request).await?;
        let skipped = shared.too_large.positions_to_skip(&who, ask, shared.admission.edge.clock.now().mono);
        Ok(Admitted { connection, frame_max, who, skipped })
    }
}

/// The first frame, which must be `connect`. `None`: the peer has left.
async fn first_frame(
    form: Form,
    socket: &mut WebSocket,
    metrics: &Metrics,
) -> Result<Option<Connect>, SessionEnd> {
    loop {
        let message = match received(socket.next().await) {
            Ok(message) => message,
            Err(SessionEnd::Gone) => return Ok(None),
            Err(end) => return Err(end),
        };
        match client_frame(form, &message, metrics)? {
            Some(Kind::Connect(connect)) => return Ok(Some(connect)),
            Some(_) => return Err(SessionEnd::Refused(bad_request("the first frame must be `connect`"))),
            None => {}
        }
    }
}

/// What a message says; `None`: nothing that concerns the stream.
pub(super) fn client_frame(
    form: Form,
    message: &Message,
    metrics: &Metrics,
) -> Result<Option<Kind>, SessionEnd> {
    let frame = match (form, message) {
        (_, Message::Ping(_) | Message::Pong(_)) => return Ok(None),
        (_, Message::Close(Some(frame))) if frame.code == CloseCode::Size => {
            return Err(SessionEnd::TooLarge);
        }
        (_, Message::Close(_)) => return Err(SessionEnd::Gone),
        (Form::Json, Message::Text(text)) => json::parse_client_frame(text.as_bytes())
            .map_err(|invalid| SessionEnd::Refused(invalid.into()))?,
        (Form::Proto, Message::Binary(bytes)) => {
            codec::decode::<ClientFrame>(bytes.clone()).map_err(|_| {
                SessionEnd::Refused(bad_request(
                    "the message is no `ClientFrame` in protobuf, or too long a list",
                ))
            })?
        }
        (Form::Json, _) => {
            return Err(SessionEnd::Refused(bad_request("`push.v1.json` takes text messages only")));
        }
        (_, _) => return Err(SessionEnd::Refused(bad_request("`push.v1.proto` takes binary messages only"))),
    };
    // A kind of a newer contract is none here, and skipped.
    if frame.kind.is_none() {
        metrics.skipped_client_frames.inc();
    }
    Ok(frame.kind)
}
