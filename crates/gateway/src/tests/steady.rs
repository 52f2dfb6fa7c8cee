//! Users that take bytes all the time, and few: slow, but not too slow. And those that take none.

use std::time::Duration;

use galaxy_push_proto::v1::{SessionInvalidation, push_event::Kind};
use prost_types::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use super::*;

/// What is held on the way to a user.
const BUFFER: usize = 4 << 10;

/// So many bytes each 200 ms are 10 KB/s: a mebibyte takes longer than a user may be silent.
const STEP: (usize, Duration) = (2_000, Duration::from_millis(200));

fn mebibyte() -> String {
    format!("\"{}\"", "x".repeat((1 << 20) - 2))
}

/// Another end of a connection, at which what the gateway sends arrives slowly.
fn slowly(mut far: DuplexStream) -> DuplexStream {
    let (here, there) = tokio::io::duplex(BUFFER);
    tokio::spawn(async move {
        let (mut from_user, mut to_user) = tokio::io::split(there);
        let (mut from_gateway, mut to_gateway) = tokio::io::split(&mut far);
        let up = tokio::io::copy(&mut from_user, &mut to_gateway);
        let down = async {
            let mut bytes = vec![0; STEP.0];
            while let Ok(count @ 1..) = from_gateway.read(&mut bytes).await {
                if to_user.write_all(&bytes[..count]).await.is_err() {
                    break;
                }
                tokio::time::sleep(STEP.1).await;
            }
        };
        tokio::select! {
            biased;
            () = down => {}
            _ = up => {}
        }
    });
    here
}

async fn slow_socket(world: &World) -> ws::Socket {
    let request = tokio_tungstenite::tungstenite::http::Request::get("ws://localhost/v1/ws");
    let key = tokio_tungstenite::tungstenite::handshake::client::generate_key();
    let request = request
        .header("host", "localhost")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", key)
        .header("sec-websocket-protocol", "push.v1.json");
    let io = slowly(world.dial(BUFFER).await);
    let (stream, _) = tokio_tungstenite::client_async(request.body(()).unwrap(), io).await.unwrap();
    let mut socket = ws::Socket { stream, protocol: String::new() };
    socket.send(r#"{"connect":{"user":"a"}}"#).await;
    socket.until("caughtUp").await;
    socket
}

#[tokio::test(start_paused = true)]
async fn a_large_event_reaches_a_slow_but_steady_websocket() {
    let mut world = World::new();
    let mut socket = slow_socket(&world).await;
    world.hub.publish_data(&["user:a"], &mebibyte());
    world.hub.publish(&["user:a"]);
    let began = Instant::now();
    assert!(socket.text().await.contains("\"e1\""));
    assert!(began.elapsed() > Duration::from_secs(100), "longer than nothing may be heard of a user");
    assert!(socket.text().await.contains("\"e2\""));
    assert!(world.metrics().contains(r#"push_connections{transport="ws_json"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn a_large_event_reaches_a_slow_but_steady_event_source() {
    let mut world = World::new();
    let mut io = slowly(world.dial(BUFFER).await);
    io.write_all(b"GET /v1/stream?user=a HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut read = Vec::new();
    let mut until = async |end: &str| {
        let mut bytes = vec![0; STEP.0];
        while !String::from_utf8_lossy(&read[read.len().saturating_sub(9_000)..]).contains(end) {
            let count = io.read(&mut bytes).await.unwrap();
            assert_ne!(count, 0, "the stream ended before {end}");
            read.extend_from_slice(&bytes[..count]);
        }
    };
    until("push.caught_up").await;
    world.hub.publish_data(&["user:a"], &mebibyte());
    world.hub.publish(&["user:a"]);
    until("\"e2\"").await;
    let text = String::from_utf8_lossy(&read);
    assert!(text.contains("\"e1\"") && !text.contains("push.goodbye"));
}

/// Over HTTP/2 the window of one stream opens by a little at a time, and is asked for the next piece as often.
#[tokio::test(start_paused = true)]
async fn over_http2_a_large_event_is_asked_for_in_small_pieces() {
    let mut world = World::new();
    let request = Request::get("/v1/stream?user=a").version(http::Version::HTTP_2);
    let mut events = Events::of(world.ask(request).await);
    events.until("push.caught_up").await;
    world.hub.publish_data(&["user:a"], &format!("\"{}\"", "x".repeat(40 << 10)));
    world.hub.publish(&["user:a"]);
    let mut text = String::new();
    while !text.contains("\"e2\"") {
        tokio::time::sleep(Duration::from_secs(3)).await; // in all, less than the window's age
        let piece = events.body.next().await.expect("it goes on").unwrap();
        // At 100 bytes a second 256 are taken within 5 s, and 4 KiB are not.
        let most = if text.is_empty() { 4 << 10 } else { 256 };
        assert!(piece.len() <= most, "{}", piece.len());
        text.push_str(std::str::from_utf8(&piece).unwrap());
    }
    assert!(text.contains("\"e1\"") && !text.contains("push.goodbye"));
    // Whoever takes nothing any more in the middle of an event is not told goodbye there: it would be read as its end.
    world.hub.publish_data(&["user:a"], &mebibyte());
    let mut begun = bytes::Bytes::new();
    while !begun.ends_with(b"x") {
        begun = events.body.next().await.unwrap().unwrap();
    }
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(events.now().await.is_empty() && events.over, "after {} bytes", begun.len());
    assert!(world.metrics().contains(r#"push_ended_total{reason="SLOW"} 1"#));
}

/// Nobody waits for the slow: a session that is over ends in the middle of an event.
#[tokio::test(start_paused = true)]
async fn a_session_ends_in_time_though_its_user_is_slow() {
    let mut world = World::new();
    let mut socket = slow_socket(&world).await;
    let mut events = world.stream("/v1/stream?user=a").await;
    events.until("push.caught_up").await;
    world.hub.publish_data(&["user:a"], &mebibyte());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let _begun = events.body.next().await.unwrap().unwrap();
    let seconds = (NOW_MS / 1_000) as i64;
    let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
    world.hub.record(Kind::SessionInvalidation(SessionInvalidation {
        recipient: "user:a".into(),
        reason: "signed out".into(),
        issued_before: at(seconds + 100),
        expires_at: at(seconds + 86_400),
    }));
    tokio::time::sleep(Duration::from_secs(4)).await;
    let metrics = world.metrics();
    assert!(metrics.contains(r#"push_ended_total{reason="SESSION_INVALIDATED"} 2"#), "{metrics}");
    assert!(metrics.contains(r#"push_connections{transport="ws_json"} 0"#), "{metrics}");
    assert!(metrics.contains(r#"push_connections{transport="sse"} 0"#), "{metrics}");
    while let Some(Ok(message)) = socket.stream.next().await {
        assert!(!matches!(message, Message::Text(_)), "half an event is none");
    }
}
