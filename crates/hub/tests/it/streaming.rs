//! What a stream says while it runs: live events, filters, progress, ephemeral and expiring events, large ones.

use std::time::Duration;

use galaxy_push_core::window::Bounds;
use galaxy_push_hub::Config;
use galaxy_push_proto::v1;
use tokio::time::{Instant, sleep};

use crate::world::{World, event, event_to, from};

fn world() -> World {
    World::new(Config::default())
}

#[tokio::test(start_paused = true)]
async fn a_client_that_only_keeps_the_last_cursor_resumes() {
    let world = world();
    world.publish("a b").await;
    let (mut cursor, mut seen) = ("oldest".to_owned(), Vec::new());
    for id in ["c", "d", "e"] {
        let mut reading = world.read("gw", &cursor).await;
        world.publish(id).await;
        while seen.last().is_none_or(|last| last != id) {
            let frame = reading.frame().await.unwrap().unwrap();
            if let Some(v1::push_event::Kind::Event(event)) = frame.kind {
                seen.push(event.id);
            }
            if !frame.cursor.is_empty() {
                cursor = frame.cursor;
            }
        }
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);
}

#[tokio::test(start_paused = true)]
async fn a_filtered_reader_gets_its_events_and_learns_how_far_it_is() {
    let world = world();
    let mut request = from("gw", "oldest");
    request.recipients = vec!["user:1".to_owned(), "topic:a*".to_owned()];
    world
        .publish_all(vec![event_to("a", "user:1"), event_to("b", "user:2"), event_to("c", "topic:ab")])
        .await;
    let mut reading = world.subscribe(request).await.unwrap();
    assert_eq!(reading.take(4).await, "welcome FRESH @0..@3 @0 | event a @1 | event c @3 | caught up @3");
    world.publish_all(vec![event_to("d", "user:12"), event_to("e", "all")]).await;
    assert_eq!(reading.next().await, "progress @5");
    world.publish_all(vec![event_to("f", "topic:a")]).await;
    assert_eq!(reading.next().await, "event f @6");
}

#[tokio::test(start_paused = true)]
async fn an_idle_stream_is_told_every_five_seconds() {
    let world = world();
    let start = Instant::now();
    let mut reading = world.read("gw", "").await;
    assert_eq!(reading.take(2).await, "welcome FRESH @0..@0 @0 | caught up @0");
    for seconds in [5, 10, 15] {
        assert_eq!(reading.next().await, "progress @0");
        assert_eq!(start.elapsed().as_secs(), seconds);
    }
    sleep(Duration::from_secs(3)).await;
    world.publish("a").await;
    assert_eq!(reading.take(2).await, "event a @1 | progress @1");
    assert_eq!(start.elapsed().as_secs(), 23, "counted from the last frame of this stream");
}

#[tokio::test(start_paused = true)]
async fn ephemeral_events_are_for_live_readers_only() {
    let world = world();
    let mut live = world.read("live", "").await;
    live.until("caught up").await;
    let ephemeral = v1::Event { ephemeral: true, ..event("b") };
    world.publish_all(vec![event("a"), ephemeral, event("c")]).await;
    assert_eq!(live.take(3).await, "event a @1 | event b | event c @2");
    let replayed = world.read("late", "oldest").await.until("caught up").await;
    assert_eq!(replayed, "welcome FRESH @0..@2 @0 | event a @1 | event c @2 | caught up @2");
}

#[tokio::test(start_paused = true)]
async fn an_expired_event_is_not_sent() {
    let world = world();
    let short = v1::Event { ttl: Some(prost_types::Duration { seconds: 10, nanos: 0 }), ..event("b") };
    world.publish_all(vec![event("a"), short, event("c")]).await;
    sleep(Duration::from_secs(10)).await;
    let in_time = world.read("gw", "oldest").await.until("caught up").await;
    assert_eq!(in_time, "welcome FRESH @0..@3 @0 | event a @1 | event b @2 | event c @3 | caught up @3");
    sleep(Duration::from_secs(1)).await;
    let late = world.read("gw", "oldest").await.until("caught up").await;
    assert_eq!(late, "welcome FRESH @0..@3 @0 | event a @1 | event c @3 | caught up @3");
}

#[tokio::test(start_paused = true)]
async fn an_event_too_large_for_a_peer_is_a_gap() {
    let world = world();
    let large =
        v1::Event { data: vec![b' '; 4_000].into(), data_content_type: "text/plain".into(), ..event("b") };
    world.publish_all(vec![event("a"), large, event("c")]).await;
    let mut request = from("gw", "oldest");
    request.max_receive_bytes = 1_024;
    let seen = world.subscribe(request).await.unwrap().until("caught up").await;
    assert_eq!(
        seen,
        "welcome FRESH @0..@3 @0 | event a @1 | gap TOO_LARGE @1..@2 1 @2 | event c @3 | caught up @3"
    );
    let other = world.read("other", "oldest").await.until("caught up").await;
    assert!(other.contains("event b @2"), "{other}");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_was_overtaken_is_told() {
    let world = World::new(Config::default().window(Bounds { events: 40, ..Bounds::default() }));
    let mut reading = world.read("gw", "").await;
    reading.until("caught up").await;
    world.flood(400).await;
    let seen = reading.until("gap").await;
    let told = reading.until("caught up").await;
    assert!(seen.starts_with("event 0 @1 | event 1 @2"), "{seen}");
    assert!(seen.contains("gap LAPPED @") && seen.ends_with("@360"), "{seen}");
    assert!(
        told.starts_with("event 360 @361 | event 361 @362") && told.ends_with("caught up @400"),
        "{told}"
    );
}
