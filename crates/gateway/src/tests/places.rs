//! Users on a listener that has few places, where keys are set.

use galaxy_push_listener::AnonymousSlots;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep};

use super::access::{token, with_keys};
use super::*;

/// A world with so many places of each kind.
fn world(known: usize, strangers: usize) -> World {
    let mut limits = Limits::edge();
    limits.connections = known;
    let strangers = Some(AnonymousSlots { slots: strangers, per_address: strangers });
    let mut world =
        World::at(with_keys(), limits, SlotPolicy { anonymous: strangers, ..SlotPolicy::default() });
    world.hub.begin();
    world
}

fn ann() -> String {
    token(&json!({"sub": "ann", "exp": NOW_MS / 1_000 + 3_600}))
}

/// What is answered at once to a user who asks for a stream.
async fn ask(world: &World, accept: &str) -> String {
    let mut io = world.dial(1 << 16).await;
    let request = format!(
        "GET /v1/stream HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\naccept: {accept}\r\n\r\n",
        ann()
    );
    io.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let mut piece = [0; 4096];
    while let Ok(Ok(read @ 1..)) = timeout(Duration::from_millis(100), io.read(&mut piece)).await {
        answer += &String::from_utf8_lossy(&piece[..read]);
    }
    answer
}

/// The fault: sockets that sent no `connect` kept the places of strangers for as long as a greeting may take.
#[tokio::test(start_paused = true)]
async fn a_socket_that_sends_no_connect_gives_way_and_is_told_so() {
    let world = world(10, 2);
    let mut first = world.socket().await;
    let mut second = world.socket().await;
    let began = Instant::now();
    let mut user = world.connected(&format!(r#"{{"token":"{}"}}"#, ann())).await;
    user.until("caughtUp").await;
    assert!(began.elapsed() <= Duration::from_millis(2_200), "{:?}", began.elapsed());
    let (_, code, reason) = first.closed().await;
    assert!(code == 1013 && reason.contains("`connect`"), "{code} {reason}");
    let (_, code, _) = second.closed().await;
    assert_eq!(code, 4401, "nobody else came, so it had its time");
    // Whoever is known keeps its place.
    for _ in 0..4 {
        world.socket().await;
    }
    user.send(r#"{"subscribe":{"topics":[]}}"#).await;
    user.until("subscribed").await;
}

/// The fault: it was served on a stranger's place, and cut off in mid-stream when others came.
#[tokio::test(start_paused = true)]
async fn a_user_who_finds_no_place_is_refused_with_advice() {
    let world = world(1, 4);
    let connect = format!(r#"{{"token":"{}"}}"#, ann());
    let mut first = world.connected(&connect).await;
    first.until("caughtUp").await;
    let (lines, code, reason) = world.connected(&connect).await.closed().await;
    assert!(code == 1013 && reason.contains("come back in a moment"), "{lines} {code} {reason}");
    let answer = ask(&world, "*/*").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1"), "{answer}");
    assert!(answer.contains("come back in a moment"), "{answer}");
    let browser = ask(&world, "text/event-stream").await;
    assert!(browser.starts_with("HTTP/1.1 200") && browser.contains("push.goodbye"), "{browser}");
    assert!(world.metrics().contains(r#"push_refused_total{reason="OVERLOADED"} 3"#), "{}", world.metrics());
    drop(first);
    sleep(Duration::from_secs(3)).await;
    assert!(ask(&world, "*/*").await.contains("push.caught_up"));
}
