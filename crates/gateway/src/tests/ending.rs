//! How connections end from this side: draining, tokens.

use std::time::Duration;

use super::*;

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
