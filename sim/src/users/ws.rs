//! A user over WebSocket, with either subprotocol.

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use galaxy_push_proto::{json, v1};
use galaxy_push_testkit::history::Name;
use prost::Message as _;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Message};

use super::{Connection, Place};

/// How frames are written on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    Json,
    Proto,
}

impl Form {
    const fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "push.v1.json",
            Self::Proto => "push.v1.proto",
        }
    }

    fn write(self, frame: &v1::ClientFrame) -> Message {
        let text = |kind: &str, body: Value| Message::text(serde_json::json!({ kind: body }).to_string());
        match (self, &frame.kind) {
            (Self::Proto, _) => Message::binary(frame.encode_to_vec()),
            (Self::Json, Some(v1::client_frame::Kind::Connect(connect))) => text(
                "connect",
                serde_json::json!({"user": connect.user, "topics": connect.topics, "cursor": connect.cursor}),
            ),
            (Self::Json, Some(v1::client_frame::Kind::Subscribe(topics))) => {
                text("subscribe", serde_json::json!({"topics": topics.topics}))
            }
            (Self::Json, _) => text("refresh", Value::Null),
        }
    }

    fn read(self, message: &Message) -> anyhow::Result<Value> {
        Ok(match (self, message) {
            (Self::Json, Message::Text(text)) => serde_json::from_str(text)?,
            (Self::Proto, Message::Binary(bytes)) => {
                let frame = v1::PushEvent::decode(Bytes::clone(bytes))?;
                serde_json::from_slice(&json::frame(&frame, json::View::Full))?
            }
            _ => anyhow::bail!("a message that is not of the subprotocol"),
        })
    }
}

pub(super) async fn read<I>(
    mut user: Connection<'_>,
    io: I,
    place: &mut Place,
    form: Form,
) -> anyhow::Result<Name>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = ClientRequestBuilder::new("ws://localhost/v1/ws".parse().context("the URI")?)
        .with_sub_protocol(form.subprotocol());
    let mut socket = match user.within_silence(tokio_tungstenite::client_async(request, io)).await {
        Ok(Ok((socket, _))) => socket,
        Ok(Err(tokio_tungstenite::tungstenite::Error::Http(response))) => {
            return Ok(format!("http {}", response.status().as_u16()).into());
        }
        Ok(Err(_)) => return Ok("handshake failed".into()),
        Err(silence) => return Ok(silence),
    };
    let connect = v1::Connect {
        user: user.plan.user.clone(),
        topics: place.topics.clone(),
        cursor: place.cursor.clone(),
        ..v1::Connect::default()
    };
    if !send(&mut socket, form, v1::client_frame::Kind::Connect(connect)).await {
        return Ok("reset".into());
    }
    loop {
        let message = match user.within_silence(socket.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(_))) => return Ok("reset".into()),
            Ok(None) => return Ok("end".into()),
            Err(silence) => return Ok(silence),
        };
        match message {
            Message::Close(close) => {
                return Ok(close.map_or("end".into(), |close| u16::from(close.code).to_string().into()));
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            Message::Text(_) | Message::Binary(_) => {}
        }
        let frame = form.read(&message)?;
        user.log.frame(&frame)?;
        if let Some(cursor) = frame["cursor"].as_str().filter(|cursor| !cursor.is_empty()) {
            cursor.clone_into(&mut place.cursor);
        }
        if let Some(subscribed) = frame.get("subscribed") {
            place.topics.extend(
                subscribed["topics"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .map(str::to_owned),
            );
        }
        if frame.get("caughtUp").is_some()
            && let Some(topic) = place.later_topic.take()
        {
            let topics = v1::Topics { topics: vec![topic] };
            if !send(&mut socket, form, v1::client_frame::Kind::Subscribe(topics)).await {
                return Ok("reset".into());
            }
        }
        user.dawdle().await;
    }
}

async fn send<I>(socket: &mut WebSocketStream<I>, form: Form, kind: v1::client_frame::Kind) -> bool
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    socket.send(form.write(&v1::ClientFrame { kind: Some(kind) })).await.is_ok()
}
