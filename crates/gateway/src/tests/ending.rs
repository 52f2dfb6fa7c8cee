//! How connections end from this side: draining, tokens.

use std::time::Duration;

use galaxy_push_proto::v1::{SessionInvalidation, push_event::Kind};

use super::*;
use crate::app::admission::Request as Asked;
use crate::state::close::CloseReason;
use crate::state::connection::{Connection, Outgoing};
use crate::state::grants::{Grants, Identity, Issued};

/// A connection of ann's, which has caught up, under a token that ends after this long.
async fn ann(world: &World, lasts: Duration) -> Connection {
    let identity = Identity {
        user: Some("ann".into()),
        grants: Grants::everything(),
        issued: Issued::on_trust(NOW_MS),
        expires_unix_ms: Some(NOW_MS + lasts.as_millis() as u64),
        ..Identity::default()
    };
    let asked = Asked { identity, ..Asked::default() };
    let mut connection = world.gateway.shared().admission.admit(asked).await.unwrap();
    assert_eq!(connection.next(&mut Vec::new()).await, Ok(()));
    connection
}

/// How it ends for somebody who asks for more before each visit, and must be handed no event.
async fn ends(connection: &mut Connection) -> CloseReason {
    for _ in 0..10 {
        connection.subscribe(&["t".into()]).unwrap();
        let mut out = Vec::new();
        if let Err(ending) = connection.next(&mut out).await {
            return ending;
        }
        assert!(!out.iter().any(|outgoing| matches!(outgoing, Outgoing::Entry { .. })), "{out:?}");
    }
    panic!("it goes on");
}

#[tokio::test(start_paused = true)]
async fn nobody_outlives_a_session_by_asking_for_more() {
    let mut world = World::new();
    let mut connection = ann(&world, Duration::from_secs(5)).await;
    tokio::time::advance(Duration::from_secs(5)).await;
    world.hub.publish(&["user:ann"]);
    assert_eq!(ends(&mut connection).await, CloseReason::TokenExpired);

    let mut connection = ann(&world, Duration::from_secs(600)).await;
    world.hub.record(Kind::SessionInvalidation(SessionInvalidation {
        recipient: "user:ann".into(),
        ..SessionInvalidation::default()
    }));
    world.hub.publish(&["user:ann"]);
    assert_eq!(ends(&mut connection).await, CloseReason::SessionInvalidated("".into()));
}

#[tokio::test(start_paused = true)]
async fn a_void_session_that_a_drain_has_told_to_end_first_is_handed_nothing_either() {
    let mut world = World::new();
    let mut connection = ann(&world, Duration::from_secs(600)).await;
    for mailbox in world.gateway.shared().admission.edge.routes.mailboxes() {
        mailbox.close(CloseReason::Draining(Duration::ZERO));
    }
    world.hub.record(Kind::SessionInvalidation(SessionInvalidation {
        recipient: "user:ann".into(),
        ..SessionInvalidation::default()
    }));
    world.hub.publish(&["user:ann"]);
    assert_eq!(ends(&mut connection).await, CloseReason::Draining(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_drain_says_goodbye_to_everybody_a_few_at_a_time() {
    let mut config = config();
    config.return_slots = 100;
    let mut world = World::with(config);
    world.hub.publish(&["all"]);
    let mut streams = Vec::new();
    for _ in 0..10 {
        let mut events = world.stream("/v1/stream?cursor=oldest").await;
        events.until("push.caught_up").await;
        streams.push(events);
    }
    let mut socket = world.connected(r#"{"cursor":"oldest"}"#).await;
    socket.until("caughtUp").await;
    let mut greeting = world.socket().await;

    let (gateway, began) = (world.gateway.clone(), tokio::time::Instant::now());
    let drained = tokio::spawn(async move {
        gateway.drain().await;
        began.elapsed()
    });
    for events in &mut streams {
        let text = events.until("push.goodbye").await;
        assert!(
            text.contains(r#""reason":"DRAINING","retryAfter":"#) && text.contains(r#""reconnect":true"#),
            "{text}"
        );
        assert!(text.contains(&format!("id: {}", world.hub.head)));
        events.now().await;
        assert!(events.over);
    }
    drop(streams);
    let (lines, code, _) = socket.closed().await;
    assert!(lines.contains(r#""goodbye":{"reason":"DRAINING""#), "{lines}");
    assert_eq!(code, 1012);
    assert_eq!(greeting.closed().await.1, 1012);
    drop((socket, greeting));
    let took = drained.await.unwrap();
    assert!(took >= Duration::from_millis(100) && took < Duration::from_secs(2), "{took:?}");

    let refused = world.get("/v1/stream").await;
    assert_eq!(refused.status(), 503);
    assert!(body(refused).await.contains("DRAINING"));
    assert_eq!(
        world.shake("push.v1.json", "/v1/ws", &[], 1 << 16).await.err().map(|(status, _)| status),
        Some(503)
    );
    assert!(world.metrics().contains(r#"push_ended_total{reason="DRAINING"} 11"#));
    world.drain.draining.cancel();
}

#[tokio::test(start_paused = true)]
async fn health_depends_on_the_catch_up_and_not_on_the_hub() {
    let mut world = World::unready(config());
    let checks = |world: &World| {
        let checks = world.gateway.health().checks();
        checks.into_iter().map(|check| (check.name, check.ok, check.needed)).collect::<Vec<_>>()
    };
    assert_eq!(
        checks(&world),
        [("caught-up", false, true), ("accepting", true, true), ("hub", false, false)]
    );
    world.hub.begin();
    assert_eq!(checks(&world), [("caught-up", true, true), ("accepting", true, true), ("hub", false, false)]);
    world.gateway.drain().await;
    assert_eq!(
        checks(&world),
        [("caught-up", true, true), ("accepting", false, true), ("hub", false, false)]
    );
}

#[tokio::test(start_paused = true)]
async fn an_sse_user_that_stalled_is_told_so_when_it_reads_again() {
    let mut world = World::new();
    let mut events = world.stream("/v1/stream?user=a").await;
    events.until("push.caught_up").await;
    world.hub.publish(&["user:a"]);
    events.until("e1").await;
    tokio::time::advance(Duration::from_secs(6)).await;
    world.hub.publish(&["user:a"]);
    let text = events.until("push.goodbye").await;
    assert!(text.contains(r#""reason":"SLOW""#) && text.contains(r#""reconnect":true"#), "{text}");
    assert!(!text.contains("e2"));
}

#[tokio::test(start_paused = true)]
async fn an_sse_user_that_the_listener_gives_up_is_counted_too() {
    use tokio::io::AsyncWriteExt as _;

    let world = World::new();
    // What is unsent fits into the buffer of the HTTP connection, which therefore waits for the next piece.
    let mut user = world.dial(16).await;
    let mut left = world.dial(1 << 16).await;
    for stream in [&mut user, &mut left] {
        let request = b"GET /v1/stream?user=a HTTP/1.1\r\nhost: localhost\r\n\r\n";
        tokio::time::timeout(Duration::from_secs(1), stream.write_all(request)).await.unwrap().unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(left);
    tokio::time::sleep(Duration::from_secs(12)).await;
    let metrics = world.metrics();
    assert!(metrics.contains(r#"push_ended_total{reason="SLOW"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"push_connections{transport="sse"} 0"#), "{metrics}");
}
