//! A user over server-sent events, as a browser's `EventSource` would be one.

use galaxy_push_testkit::history::Name;
use galaxy_push_testkit::sse::{SseEvent, SseParser};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

use super::{Connection, Place};

pub(super) async fn read<I>(mut user: Connection<'_>, io: I, place: &mut Place) -> anyhow::Result<Name>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Ok(Ok((mut sender, connection))) =
        user.within_silence(hyper::client::conn::http1::handshake(TokioIo::new(io))).await
    else {
        return Ok("handshake failed".into());
    };
    let _connection = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
    let response = match user.within_silence(sender.send_request(request(&user, place)?)).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => return Ok("reset".into()),
        Err(silence) => return Ok(silence),
    };
    if response.status() != http::StatusCode::OK {
        return Ok(format!("http {}", response.status().as_u16()).into());
    }
    let (mut body, mut parser) = (response.into_body(), SseParser::new());
    loop {
        let data = match user.within_silence(body.frame()).await {
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            Ok(Some(Err(_))) => return Ok("reset".into()),
            Ok(None) => return Ok("end".into()),
            Err(silence) => return Ok(silence),
        };
        for event in parser.push(&data) {
            write_down(&user, &event)?;
            if let Some(id) = event.id.filter(|id| !id.is_empty()) {
                place.cursor = id;
            }
            user.dawdle().await;
        }
    }
}

fn request(user: &Connection<'_>, place: &Place) -> anyhow::Result<http::Request<Empty<bytes::Bytes>>> {
    let topics = place.topics.iter().map(|topic| format!("topic={topic}"));
    let token = user.token()?;
    let session = &user.plan.habits.session;
    let names = token.is_none().then(|| format!("user={}", user.plan.user));
    let session = (token.is_none() && !session.is_empty()).then(|| format!("session={session}"));
    let page = user.plan.habits.page;
    let fixed = (!place.url.is_empty()).then(|| format!("cursor={}", place.url));
    let messages = page.messages.then(|| "event=message".to_owned());
    let last = (page.polyfill && !place.cursor.is_empty()).then(|| format!("lastEventId={}", place.cursor));
    let query = names.into_iter().chain(session).chain(topics).chain(fixed).chain(messages).chain(last);
    let query: Vec<_> = query.collect();
    let mut request = http::Request::get(format!("/v1/stream?{}", query.join("&")))
        .header("host", "localhost")
        .header("accept", "text/event-stream");
    if !place.cursor.is_empty() && !page.polyfill {
        request = request.header("last-event-id", &place.cursor);
    }
    if let Some((token, _)) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    Ok(request.body(Empty::new())?)
}

/// Puts an SSE block back into the frame it was split from.
fn write_down(user: &Connection<'_>, event: &SseEvent) -> anyhow::Result<()> {
    let cursor = event.id.as_deref().unwrap_or_default();
    let (kind, body) = match (&event.data, &*event.event) {
        (None, _) => anyhow::bail!("a block without data"),
        (Some(body), "push.progress") => ("progress", &**body),
        (Some(body), "push.welcome") => ("welcome", &**body),
        (Some(body), "push.gap") => ("gap", &**body),
        (Some(body), "push.caught_up") => ("caughtUp", &**body),
        (Some(body), "push.fell_behind") => ("fellBehind", &**body),
        (Some(body), "push.goodbye") => ("goodbye", &**body),
        (Some(body), name) => {
            let is_plain = !user.plan.habits.page.messages || name == "message";
            anyhow::ensure!(is_plain, "an event named {name:?} to a page that asked for plain messages");
            ("event", &**body)
        }
    };
    user.log.json_part(cursor, kind, body)?;
    Ok(())
}
