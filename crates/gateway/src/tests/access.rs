//! Who is let in, and what they may have.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::*;
use crate::Keys;

const SECRET: &[u8] = b"a secret of at least 32 bytes, ok";

pub(super) fn with_keys() -> Config {
    let set = json!({"keys": [{"kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET)}]});
    let mut config = config();
    config.access = Access::keys(Keys::from_jwks(set.to_string().as_bytes()).unwrap());
    config.allowed_origins = vec!["https://app.example".into()];
    config
}

pub(super) fn token(claims: &Value) -> String {
    jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(SECRET)).unwrap()
}

fn ann(seconds: u64) -> String {
    token(&json!({"sub": "ann", "topics": ["news", "orders/*"], "exp": NOW_MS / 1_000 + seconds}))
}

pub(super) fn with_token(path: &str, token: &str) -> http::request::Builder {
    Request::get(path).header("authorization", format!("Bearer {token}"))
}

#[tokio::test(start_paused = true)]
async fn a_token_names_the_user_and_grants_topics() {
    let mut world = World::with(with_keys());
    world.hub.publish(&["user:ann"]);
    world.hub.publish(&["user:bob"]);
    world.hub.publish(&["topic:orders/7"]);
    world.hub.publish(&["topic:orders/8"]);
    let response = world.ask(with_token("/v1/stream?cursor=oldest&topic=orders/7", &ann(60))).await;
    let text = Events::of(response).until("push.caught_up").await;
    assert_eq!(Events::ids(&text), ["e1", "e3"]);

    let connect = format!(r#"{{"token":"{}","cursor":"oldest","topics":["orders/8"]}}"#, ann(60));
    let lines = world.connected(&connect).await.until("caughtUp").await;
    assert_eq!(Events::ids(&lines), ["e1", "e4"]);
    let bearer = format!("Bearer {}", ann(60));
    let mut socket =
        world.shake("push.v1.json", "/v1/ws", &[("authorization", &bearer)], 1 << 16).await.unwrap();
    socket.send(r#"{"connect":{"cursor":"oldest"}}"#).await;
    assert_eq!(Events::ids(&socket.until("caughtUp").await), ["e1"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_good_token_nobody_is_let_in() {
    let world = World::with(with_keys());
    for (request, status) in [
        (Request::get("/v1/stream"), 401),
        (Request::get("/v1/stream?user=ann"), 400),
        (Request::get("/v1/stream").header("authorization", "Basic YTpi"), 401),
        (with_token("/v1/stream", "a.b.c"), 401),
        (with_token("/v1/stream?user=bob", &ann(60)), 400),
        (Request::get(format!("/v1/stream?access_token={}", ann(60))), 400),
        (Request::get(format!("/v1/stream?token={}", ann(60))), 400),
        (with_token("/v1/stream?topic=secrets", &ann(60)), 403),
        (with_token("/v1/stream?topic=news", &ann(60)), 200),
    ] {
        let response = world.ask(request).await;
        assert_eq!(response.status(), status);
        if status == 401 {
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
        }
        if status != 200 {
            let text = body(response).await;
            assert!(!text.contains(&ann(60)) && !text.contains("eyJ"), "{text}");
        }
    }
    for (connect, code) in [
        ("{}".to_owned(), 4401),
        (r#"{"token":"a.b.c"}"#.into(), 4401),
        (r#"{"user":"ann"}"#.into(), 4400),
        (format!(r#"{{"token":"{}","topics":["secrets"]}}"#, ann(60)), 4403),
        (format!(r#"{{"token":"{}","user":"bob"}}"#, ann(60)), 4400),
    ] {
        let (lines, closed, reason) = world.connected(&connect).await.closed().await;
        assert_eq!((lines.as_str(), closed), ("", code), "{connect}: {reason}");
    }
    let refused = world.shake("push.v1.json", &format!("/v1/ws?token={}", ann(60)), &[], 1 << 16).await;
    assert_eq!(refused.err().map(|(status, _)| status), Some(400));
    let metrics = world.metrics();
    assert!(metrics.contains(r#"push_refused_total{reason="NOT_GRANTED"}"#) && !metrics.contains("eyJ"));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_not_granted_ends_the_connection() {
    let world = World::with(with_keys());
    let mut socket = world.connected(&format!(r#"{{"token":"{}"}}"#, ann(60))).await;
    socket.until("caughtUp").await;
    socket.send(r#"{"subscribe":{"topics":["orders/1"]}}"#).await;
    socket.until("subscribed").await;
    socket.send(r#"{"subscribe":{"topics":["secrets"]}}"#).await;
    let (_, code, reason) = socket.closed().await;
    assert_eq!(code, 4403);
    assert!(reason.contains("NOT_GRANTED"));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_after_the_token_has_ended() {
    let mut world = World::with(with_keys());
    let mut socket = world.connected(&format!(r#"{{"token":"{}"}}"#, ann(60))).await;
    socket.until("caughtUp").await;
    let mut events = Events::of(world.ask(with_token("/v1/stream", &ann(60))).await);
    events.until("push.caught_up").await;
    let began = tokio::time::Instant::now();
    let reading = tokio::spawn(async move { events.until("push.goodbye").await });
    let (lines, code, _) = socket.closed().await;
    assert!(lines.contains(r#""goodbye":{"reason":"SESSION_ENDED","reconnect":false}"#), "{lines}");
    assert_eq!((code, began.elapsed()), (4401, Duration::from_secs(60)));
    world.hub.publish(&["user:ann"]);
    let text = reading.await.unwrap();
    assert!(text.contains("SESSION_ENDED") && !text.contains("e1"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_newer_token_goes_on_for_the_same_user_only() {
    let mut world = World::with(with_keys());
    let mut socket = world.connected(&format!(r#"{{"token":"{}","topics":["news"]}}"#, ann(60))).await;
    socket.until("caughtUp").await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    let narrower = token(&json!({"sub": "ann", "topics": ["orders/*"], "exp": NOW_MS / 1_000 + 300}));
    socket.send(&format!(r#"{{"refresh":{{"token":"{narrower}"}}}}"#)).await;
    assert!(socket.until("subscribed").await.contains(r#""topics":[]"#));
    tokio::time::sleep(Duration::from_secs(30)).await;
    world.hub.publish(&["topic:news"]);
    world.hub.publish(&["user:ann"]);
    assert_eq!(Events::ids(&socket.until("e2").await), ["e2"]);
    let bob = token(&json!({"sub": "bob", "exp": NOW_MS / 1_000 + 300}));
    socket.send(&format!(r#"{{"refresh":{{"token":"{bob}"}}}}"#)).await;
    assert_eq!(socket.closed().await.1, 4403);
}

#[tokio::test(start_paused = true)]
async fn pages_elsewhere_are_refused_before_anything_else() {
    let world = World::new();
    for (host, origin, status) in [
        ("localhost", None, 200),
        ("localhost", Some("http://localhost:3000"), 200),
        ("localhost", Some("http://evil.example"), 403),
        ("localhost", Some("null"), 403),
        ("evil.example", None, 403),
    ] {
        let mut request = Request::get("/v1/stream").header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let response = world.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), status, "{host} {origin:?}");
        let allowed =
            response.headers().get("access-control-allow-origin").map(|value| value.to_str().unwrap());
        assert_eq!(allowed, origin.filter(|_| status == 200));
    }
    for (origin, allowed) in [("http://localhost", true), ("http://evil.example", false), ("null", false)] {
        let shaken = world.shake("push.v1.json", "/v1/ws", &[("origin", origin)], 1 << 16).await;
        assert_eq!(shaken.map_err(|(status, _)| status).err(), (!allowed).then_some(403), "{origin}");
    }
    let world = World::with(with_keys());
    let preflight = Request::options("/v1/stream")
        .header("origin", "https://app.example")
        .header("access-control-request-method", "GET");
    let response = world.ask(preflight).await;
    assert_eq!(response.status(), 204);
    assert_eq!(response.headers()["access-control-allow-origin"], "https://app.example");
    assert!(response.headers()["access-control-allow-headers"].to_str().unwrap().contains("authorization"));
    assert_eq!(
        response.headers()["access-control-allow-credentials"],
        "true",
        "for cookies, once there are any"
    );
    let asked = "CE-Time, ce-traceparent, x-secret, authorization, ce-, ce-a;b";
    let preflight = Request::options("/v1/events")
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", asked);
    let response = world.ask(preflight).await;
    let allowed = response.headers()["access-control-allow-headers"].to_str().unwrap();
    let names: Vec<_> = allowed.split(", ").collect();
    for name in [
        "ce-time",
        "ce-traceparent",
        "traceparent",
        "tracestate",
        "baggage",
        "cache-control",
        "x-requested-with",
    ] {
        assert!(names.contains(&name), "{name}: {allowed}");
    }
    assert!(!allowed.contains("secret") && !names.contains(&"ce-") && !allowed.contains(';'), "{allowed}");
}

/// Recipients must not learn of each other, on any transport, by events, replays, gaps or errors.
#[tokio::test(start_paused = true)]
async fn no_user_is_ever_shown_whom_an_event_is_for() {
    use futures_util::{FutureExt as _, SinkExt as _};
    use prost::Message as _;

    let mut world = World::new();
    let to: &[&str] = &["user:a", "user:planted-recipient", "topic:planted-topic", "session:planted"];
    world.hub.publish(to);
    let mut sse = world.stream("/v1/stream?user=a&cursor=oldest").await;
    let mut json = world.connected(r#"{"user":"a","cursor":"oldest"}"#).await;
    let mut proto = world.shake("push.v1.proto", "/v1/ws", &[], 1 << 20).await.unwrap();
    let connect =
        galaxy_push_proto::v1::Connect { user: "a".into(), cursor: "oldest".into(), ..Default::default() };
    let kind = galaxy_push_proto::v1::client_frame::Kind::Connect(connect);
    let frame = galaxy_push_proto::v1::ClientFrame { kind: Some(kind) };
    proto.stream.send(frame.encode_to_vec().into()).await.unwrap();
    world.hub.publish_ephemeral(to);
    world.hub.publish_expiring(to, Duration::from_secs(60));
    let mut seen = Vec::new();
    seen.extend_from_slice(sse.until("e3").await.as_bytes());
    seen.extend_from_slice(json.until("e3").await.as_bytes());
    tokio::time::sleep(Duration::from_secs(1)).await;
    while let Some(message) = proto.next().now_or_never() {
        seen.extend_from_slice(&message.into_data());
    }
    assert!(seen.windows(2).filter(|part| part == b"e3").count() >= 3, "each transport sent the event");
    let text = String::from_utf8_lossy(&seen);
    for secret in ["planted", "traceparent", "00-secret-01", "user:", "\"to\"", "topic:"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}
