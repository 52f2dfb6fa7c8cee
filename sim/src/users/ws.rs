//! A user over WebSocket, with either subprotocol.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use galaxy_push_proto::v1::{self, client_frame::Kind};
use galaxy_push_testkit::history::{Name, Ungrant, What};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Message};

use super::{Connection, Place};
use crate::frames::Seen;

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

    fn write(self, kind: Kind) -> Message {
        let text = |kind: &str, body: Value| Message::text(json!({ kind: body }).to_string());
        match (self, kind) {
            (Self::Proto, kind) => Message::binary(v1::ClientFrame { kind: Some(kind) }.encode_to_vec()),
            (Self::Json, Kind::Connect(connect)) => text("connect", connect_form(&connect)),
            (Self::Json, Kind::Subscribe(topics)) => text("subscribe", json!({"topics": topics.topics})),
            (Self::Json, Kind::Unsubscribe(topics)) => text("unsubscribe", json!({"topics": topics.topics})),
            (Self::Json, Kind::Refresh(refresh)) => text("refresh", json!({"token": refresh.token})),
        }
    }

    fn read(self, user: &Connection<'_>, message: &Message) -> anyhow::Result<Seen> {
        let most = user.plan.habits.receive_bytes_max as usize;
        anyhow::ensure!(
            most == 0 || message.len() <= most,
            "{} bytes to a user that takes {most}",
            message.len()
        );
        match (self, message) {
            (Self::Json, Message::Text(text)) => user.log.json(text),
            (Self::Proto, Message::Binary(bytes)) => {
                let frame = v1::PushEvent::decode(Bytes::clone(bytes))?;
                if let Some(v1::push_event::Kind::Event(event)) = &frame.kind {
                    let hides = event.attributes.is_empty() && event.collapse_key.is_empty();
                    anyhow::ensure!(hides, "a user is shown extension attributes: {event:?}");
                }
                user.log.proto(&frame)
            }
            _ => anyhow::bail!("a message that is not of the subprotocol"),
        }
    }
}

fn connect_form(connect: &v1::Connect) -> Value {
    json!({
        "token": connect.token,
        "user": connect.user,
        "session": connect.session,
        "topics": connect.topics,
        "cursor": connect.cursor,
        "maxReceiveBytes": connect.max_receive_bytes,
    })
}

/// One socket while it is open.
struct Socket<I> {
    socket: WebSocketStream<I>,
    form: Form,
    /// How long sending may take.
    patience: Duration,
    /// When the token is to be refreshed.
    refresh_at: Option<Instant>,
    /// A change of topics that is not answered yet; one at a time.
    asked: Option<Asked>,
}

enum Asked {
    More,
    /// Without this one.
    Less(String),
}

pub(super) async fn read<I>(
    mut user: Connection<'_>,
    io: I,
    place: &mut Place,
    form: Form,
) -> anyhow::Result<Name>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let request = ClientRequestBuilder::new("ws://localhost/v1/ws".parse().context("the URI")?)
        .with_sub_protocol(form.subprotocol());
    let socket = match user.within_silence(tokio_tungstenite::client_async(request, io)).await {
        Ok(Ok((socket, _))) => socket,
        Ok(Err(tokio_tungstenite::tungstenite::Error::Http(response))) => {
            return Ok(format!("http {}", response.status().as_u16()).into());
        }
        Ok(Err(_)) => return Ok("handshake failed".into()),
        Err(silence) => return Ok(silence),
    };
    let token = user.token()?;
    let refresh_at = token.as_ref().map(|(_, at)| *at);
    let mut socket = Socket { socket, form, patience: user.plan.silence, refresh_at, asked: None };
    let named = |name: &String| if token.is_none() { name.clone() } else { String::new() };
    let connect = v1::Connect {
        user: named(&user.plan.user),
        session: named(&user.plan.habits.session),
        token: token.as_ref().map(|(token, _)| token.clone()).unwrap_or_default(),
        topics: place.topics.clone(),
        cursor: place.cursor.clone(),
        max_receive_bytes: user.plan.habits.receive_bytes_max,
        ..v1::Connect::default()
    };
    if !socket.send(Kind::Connect(connect)).await {
        return Ok("reset".into());
    }
    socket.serve(&mut user, place).await
}

impl<I: AsyncRead + AsyncWrite + Unpin> Socket<I> {
    async fn serve(&mut self, user: &mut Connection<'_>, place: &mut Place) -> anyhow::Result<Name> {
        let mut heard = Instant::now();
        loop {
            let quiet_until = (heard + user.plan.silence).max(user.quiet_until());
            let refresh_at = self.refresh_at.unwrap_or(quiet_until);
            let received = match timeout_at(refresh_at.min(quiet_until), self.socket.next()).await {
                Err(_) if user.quiet_until() > quiet_until => continue,
                Err(_) if refresh_at >= quiet_until => return Ok("silence".into()),
                Err(_) => {
                    if !self.refresh(user).await? {
                        return Ok("reset".into());
                    }
                    continue;
                }
                Ok(received) => received,
            };
            heard = Instant::now();
            let message = match received {
                Some(Ok(message)) => message,
                Some(Err(_)) => return Ok("reset".into()),
                None => return Ok("end".into()),
            };
            match message {
                Message::Close(close) => {
                    return Ok(close.map_or("end".into(), |close| u16::from(close.code).to_string().into()));
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
                Message::Text(_) | Message::Binary(_) => {}
            }
            let Seen { cursor, what } = self.form.read(user, &message)?;
            if !cursor.is_empty() {
                place.cursor = cursor;
            }
            if let What::Subscribed(subscribed) = &what {
                self.answered(user, subscribed, place);
            }
            if !self.ask(user, &what, place).await {
                return Ok("reset".into());
            }
            user.dawdle().await;
        }
    }

    /// A topic that is no longer among those received does not count behind the answer.
    fn answered(
        &mut self,
        user: &Connection<'_>,
        subscribed: &galaxy_push_testkit::history::Subscribed,
        place: &mut Place,
    ) {
        let topics = subscribed.recipients.iter().filter_map(|to| to.strip_prefix("topic:"));
        place.topics = topics.map(str::to_owned).collect();
        if let Some(Asked::Less(topic)) = self.asked.take()
            && !place.topics.contains(&topic)
            && let galaxy_push_testkit::history::Cursor::At(position) = &subscribed.cursor
        {
            ungrant(user, &topic, Some(position.clone()));
        }
    }

    /// Asks for more topics, or fewer, now and then. False: the connection is gone.
    async fn ask(&mut self, user: &mut Connection<'_>, what: &What, place: &mut Place) -> bool {
        if self.asked.is_some() {
            return true;
        }
        if matches!(what, What::CaughtUp(_))
            && let Some(topic) = place.later_topic.take()
        {
            self.asked = Some(Asked::More);
            return self.send(Kind::Subscribe(v1::Topics { topics: vec![topic] })).await;
        }
        if !user.is_fickle() || matches!(what, What::Welcome(_)) {
            return true;
        }
        let Some(topic) = user.pick(&place.topics) else { return true };
        // It may come back for it later.
        place.later_topic.get_or_insert_with(|| topic.clone());
        ungrant(user, &topic, None);
        self.asked = Some(Asked::Less(topic.clone()));
        self.send(Kind::Unsubscribe(v1::Topics { topics: vec![topic] })).await
    }

    async fn refresh(&mut self, user: &Connection<'_>) -> anyhow::Result<bool> {
        let Some((token, at)) = user.token()? else { return Ok(true) };
        self.refresh_at = Some(at);
        Ok(self.send(Kind::Refresh(v1::Refresh { token })).await)
    }

    /// False: the connection is gone, or takes nothing.
    async fn send(&mut self, kind: Kind) -> bool {
        let sent = timeout(self.patience, self.socket.send(self.form.write(kind))).await;
        matches!(sent, Ok(Ok(())))
    }
}

/// From here on (or, while that is not known, from some time on) this topic is not for the user any more.
fn ungrant(user: &Connection<'_>, topic: &str, after: Option<galaxy_push_testkit::history::Position>) {
    let recipient = Name::from(format!("topic:{topic}"));
    user.log.record(What::Ungrant(Ungrant { stream: user.log.stream, recipient, after }));
}
