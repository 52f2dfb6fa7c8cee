//! How a stream begins: the outcome of every cursor at every boundary, and the order of the frames.

use std::time::Duration;

use galaxy_push_core::window::Bounds;
use galaxy_push_hub::Config;
use galaxy_push_proto::v1::push_event::Kind;

use crate::world::{World, from};

/// Five events, of which the window holds 3, 4 and 5.
async fn world() -> World {
    let world = World::new(Config::default().window(Bounds { events: 3, ..Bounds::default() }));
    world.publish("a b c d e").await;
    world
}

#[tokio::test(start_paused = true)]
async fn every_cursor_has_one_outcome() {
    let world = world().await;
    let other_epoch = world.at(4).replace("1.A", "1.B");
    for (cursor, expected) in [
        ("", "welcome FRESH @2..@5 @5 | caught up @5"),
        ("oldest", "welcome FRESH @2..@5 @2 | event c @3 | event d @4 | event e @5 | caught up @5"),
        (
            &*world.at(0),
            "welcome TRIMMED @2..@5 @0 | gap TRIMMED @0..@2 2 @2 | event c @3 | event d @4 | event e @5 | caught up @5",
        ),
        (
            &*world.at(1),
            "welcome TRIMMED @2..@5 @1 | gap TRIMMED @1..@2 1 @2 | event c @3 | event d @4 | event e @5 | caught up @5",
        ),
        (&*world.at(2), "welcome RESUMED @2..@5 @2 | event c @3 | event d @4 | event e @5 | caught up @5"),
        (&*world.at(4), "welcome RESUMED @2..@5 @4 | event e @5 | caught up @5"),
        (&*world.at(5), "welcome RESUMED @2..@5 @5 | caught up @5"),
        (&*world.at(6), "welcome AHEAD @2..@5 @6 | gap AHEAD @6..@5 ? @5 | caught up @5"),
        (
            &*other_epoch,
            "welcome EPOCH_CHANGED @2..@5 @4 | gap EPOCH_CHANGED @4..@2 ? @2 | event c @3 | event d @4 | event e @5 | \
             caught up @5",
        ),
        (
            "9.of-a-newer-version",
            "welcome EPOCH_CHANGED @2..@5 @\"9.of-a-newer-version\" | \
             gap EPOCH_CHANGED @\"9.of-a-newer-version\"..@2 ? @2 | event c @3 | event d @4 | event e @5 | caught up @5",
        ),
    ] {
        let seen = world.read("gw", cursor).await.until("caught up").await;
        assert_eq!(seen, expected, "{cursor:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_window_resumes_at_its_head() {
    let age = Duration::from_secs(60);
    let world = World::new(Config::default().window(Bounds { age, ..Bounds::default() }));
    world.publish("a b").await;
    tokio::time::sleep(Duration::from_secs(61)).await;
    for (cursor, expected) in [
        (&*world.at(2), "welcome RESUMED @2..@2 @2 | caught up @2"),
        (&*world.at(1), "welcome TRIMMED @2..@2 @1 | gap TRIMMED @1..@2 1 @2 | caught up @2"),
        ("oldest", "welcome FRESH @2..@2 @2 | caught up @2"),
    ] {
        assert_eq!(world.read("gw", cursor).await.until("caught up").await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_welcome_says_what_holds_on_this_stream() {
    let world = world().await;
    let mut request = from("gw", "");
    request.max_receive_bytes = 100_000;
    let frame = world.subscribe(request).await.unwrap().frame().await.unwrap().unwrap();
    let Some(Kind::Welcome(welcome)) = frame.kind else { panic!("{frame:?}") };
    assert_eq!(welcome.epoch, world.hub.head().cursor.epoch.to_string());
    assert_eq!(welcome.generation, 1);
    assert_eq!(welcome.heartbeat_interval.map(|interval| interval.seconds), Some(5));
    assert_eq!(welcome.connection_id.len(), 16);
    let limits = welcome.limits.unwrap();
    assert_eq!((limits.max_event_bytes, limits.max_frame_bytes), (64 << 10, 100_000));
    assert_eq!((limits.window_events, limits.window_bytes), (3, 256 << 20));
    assert_eq!(limits.window_age.map(|age| age.seconds), Some(600));
}

#[tokio::test(start_paused = true)]
async fn the_readers_of_one_gap_are_told_to_spread_their_repairs() {
    let world = World::new(
        Config::default()
            .window(Bounds { events: 1, ..Bounds::default() })
            .repair_spread(Duration::from_millis(3)),
    );
    world.publish("a b").await;
    let mut told = std::collections::BTreeSet::new();
    for _ in 0..12 {
        let mut reading = world.read("gw", &world.at(0)).await;
        reading.next().await;
        let frame = reading.frame().await.unwrap().unwrap();
        let Some(Kind::Gap(gap)) = frame.kind else { panic!("{frame:?}") };
        let after = gap.repair_after.unwrap();
        told.insert((after.seconds, after.nanos));
    }
    assert!(told.iter().all(|(seconds, nanos)| *seconds == 0 && *nanos < 3_000_000), "{told:?}");
    assert!(told.len() > 1, "{told:?}");
}
