//! A user over server-sent events, as a browser's `EventSource` would be one.

use galaxy_push_testkit::history::Name;
use galaxy_push_testkit::sse::{SseEvent, SseParser};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
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
            if let Some(frame) = frame(&event)? {
                user.log.frame(&frame)?;
            }
            if let Some(id) = event.id.filter(|id| !id.is_empty()) {
                place.cursor = id;
            }
            user.dawdle().await;
        }
    }
}

fn request(user: &Connection<'_>, place: &Place) -> anyhow::Result<http::Request<Empty<bytes::Bytes>>> {
    let topics: String = place.topics.iter().map(|topic| format!("&topic={topic}")).collect();
    let mut request = http::Request::get(format!("/v1/stream?user={}{topics}", user.plan.user))
        .header("host", "localhost")
        .header("accept", "text/event-stream");
    if !place.cursor.is_empty() {
        request = request.header("last-event-id", &place.cursor);
    }
    Ok(request.body(Empty::new())?)
}

/// Puts an SSE block back into the JSON form it was split from.
fn frame(event: &SseEvent) -> anyhow::Result<Option<Value>> {
    let cursor = event.id.as_deref().unwrap_or_default();
    let Some(data) = &event.data else {
        return Ok(event.id.as_ref().map(|id| json!({"cursor": id, "progress": {}})));
    };
    let body: Value = serde_json::from_str(data)?;
    let kind = match event.event.as_str() {
        "push.welcome" => "welcome",
        "push.gap" => "gap",
        "push.caught_up" => "caughtUp",
        "push.fell_behind" => "fellBehind",
        "push.goodbye" => "goodbye",
        _ => "event",
    };
    Ok(Some(json!({"cursor": cursor, kind: body})))
}
