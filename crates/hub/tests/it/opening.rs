//! How a stream begins: the outcome of every cursor at every boundary, and the order of the frames.

use std::time::Duration;

use galaxy_push_core::window::Bounds;
use galaxy_push_hub::Config;
use galaxy_push_proto::v1::GatewaySubscribeRequest;
use galaxy_push_proto::v1::push_event::Kind;
use galaxy_push_proto::{Failure, Reason};
use tonic::Code;

use crate::world::{World, from};

/// Five events, of which the window holds 3, 4 and 5.
async fn world() -> World {
    let world = World::new(Config::default().window(Bounds { events: 3, ..Bounds::default() }));
    world.publish("a b c d e").await;
    world
}

/// The same, by each of the three bounds.
async fn worlds() -> [(&'static str, World); 3] {
    let wide = Bounds::default();
    let frame = {
        let world = World::new(Config::default());
        world.publish("a").await;
        world.hub.log_dump()[0].message.len() as u64 + 5
    };
    let by_bytes = Config::default().event_bytes_max(50).window(Bounds { bytes: 3 * frame, ..wide });
    let by_bytes = World::new(by_bytes);
    by_bytes.publish("a b c d e").await;
    let by_age = World::new(Config::default().window(Bounds { age: Duration::from_secs(60), ..wide }));
    by_age.publish("a b").await;
    tokio::time::sleep(Duration::from_secs(40)).await;
    by_age.publish("c d e").await;
    tokio::time::sleep(Duration::from_secs(21)).await;
    [("events", world().await), ("bytes", by_bytes), ("age", by_age)]
}

#[tokio::test(start_paused = true)]
async fn every_cursor_has_one_outcome_whichever_bound_holds() {
    const HELD: &str = "event c @3 | event d @4 | event e @5 | caught up @5";
    for (bound, world) in worlds().await {
        let other_epoch = world.at(4).replace("2.A", "2.B");
        let unknown = "9.of-a-newer-version";
        let version_1 = "1.AAAAAAAAAAAAAAAAAAAAAA.4";
        for (what, cursor, expected) in [
            ("empty", "", "welcome FRESH @2..@5 @5 | caught up @5".to_owned()),
            ("oldest", "oldest", format!("welcome FRESH @2..@5 @2 | {HELD}")),
            (
                "the very first",
                &*world.at(0),
                format!("welcome TRIMMED @2..@5 @0 | gap TRIMMED @0..@2 2 @2 | {HELD}"),
            ),
            (
                "two before the oldest",
                &*world.at(1),
                format!("welcome TRIMMED @2..@5 @1 | gap TRIMMED @1..@2 1 @2 | {HELD}"),
            ),
            ("one before the oldest", &*world.at(2), format!("welcome RESUMED @2..@5 @2 | {HELD}")),
            (
                "the oldest",
                &*world.at(3),
                "welcome RESUMED @2..@5 @3 | event d @4 | event e @5 | caught up @5".to_owned(),
            ),
            ("the head", &*world.at(5), "welcome RESUMED @2..@5 @5 | caught up @5".to_owned()),
            (
                "one beyond the head",
                &*world.at(6),
                "welcome AHEAD @2..@5 @6 | gap AHEAD @6..@5 ? @5 | caught up @5".to_owned(),
            ),
            (
                "far beyond the head",
                &*world.at(u64::MAX),
                format!("welcome AHEAD @2..@5 @{0} | gap AHEAD @{0}..@5 ? @5 | caught up @5", u64::MAX),
            ),
            (
                "another epoch",
                &*other_epoch,
                format!("welcome EPOCH_CHANGED @2..@5 @4 | gap EPOCH_CHANGED @4..@2 ? @2 | {HELD}"),
            ),
            (
                "an unknown version",
                unknown,
                format!(
                    "welcome EPOCH_CHANGED @2..@5 @{unknown:?} | gap EPOCH_CHANGED @{unknown:?}..@2 ? @2 | {HELD}"
                ),
            ),
            (
                "version 1, whose positions did not sort as text",
                version_1,
                format!(
                    "welcome EPOCH_CHANGED @2..@5 @{version_1:?} | gap EPOCH_CHANGED @{version_1:?}..@2 ? @2 | {HELD}"
                ),
            ),
        ] {
            let seen = world.read("gw", cursor).await.until("caught up").await;
            assert_eq!(seen, expected, "{what}, window by {bound}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_cursor_is_refused_to_whoever_can_act_on_it_and_told_to_whoever_cannot() {
    const HELD: &str = "event c @3 | event d @4 | event e @5 | caught up @5";
    for (bound, world) in worlds().await {
        let too_long = "3".repeat(129);
        for cursor in ["garbage", "2.short.a7", "-1", "Oldest", &too_long, &"3".repeat(64 << 10)] {
            let request = GatewaySubscribeRequest { instance_id: "i".into(), ..from("gw", cursor) };
            let refused = world.subscribe(request).await.map(|_| ()).unwrap_err();
            let failure = Failure::of(&refused);
            assert_eq!(
                (failure.code, failure.reason),
                (Code::InvalidArgument, Some(Reason::CursorMalformed)),
                "{} bytes, window by {bound}",
                cursor.len()
            );
            let log_count = world.read("old", cursor).await.until("caught up").await;
            let begins = "welcome EPOCH_CHANGED @2..@5 | gap CURSOR_UNREADABLE..@2 ? @2 | ".to_owned();
            assert_eq!(log_count, begins + HELD, "no instance id, so it cannot act; window by {bound}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_window_resumes_at_its_head() {
    let age = Duration::from_secs(60);
    let aged_out = World::new(Config::default().window(Bounds { age, ..Bounds::default() }));
    aged_out.publish("a b").await;
    tokio::time::sleep(Duration::from_secs(61)).await;
    let unused = World::new(Config::default());
    for (world, cursor, expected) in [
        (&aged_out, &*aged_out.at(2), "welcome RESUMED @2..@2 @2 | caught up @2"),
        (&aged_out, &*aged_out.at(1), "welcome TRIMMED @2..@2 @1 | gap TRIMMED @1..@2 1 @2 | caught up @2"),
        (&aged_out, &*aged_out.at(3), "welcome AHEAD @2..@2 @3 | gap AHEAD @3..@2 ? @2 | caught up @2"),
        (&aged_out, "oldest", "welcome FRESH @2..@2 @2 | caught up @2"),
        (&aged_out, "", "welcome FRESH @2..@2 @2 | caught up @2"),
        (&unused, &*unused.at(0), "welcome RESUMED @0..@0 @0 | caught up @0"),
        (&unused, &*unused.at(1), "welcome AHEAD @0..@0 @1 | gap AHEAD @1..@0 ? @0 | caught up @0"),
        (
            &unused,
            "9.newer",
            "welcome EPOCH_CHANGED @0..@0 @\"9.newer\" | gap EPOCH_CHANGED @\"9.newer\"..@0 ? @0 | caught up @0",
        ),
        (&unused, "oldest", "welcome FRESH @0..@0 @0 | caught up @0"),
    ] {
        assert_eq!(world.read("gw", cursor).await.until("caught up").await, expected, "{cursor:?}");
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
    let mut log_count = std::collections::BTreeSet::new();
    for _ in 0..12 {
        let mut reading = world.read("gw", &world.at(0)).await;
        reading.next().await;
        let frame = reading.frame().await.unwrap().unwrap();
        let Some(Kind::Gap(gap)) = frame.kind else { panic!("{frame:?}") };
        let after = gap.repair_after.unwrap();
        log_count.insert((after.seconds, after.nanos));
    }
    assert!(log_count.iter().all(|(seconds, nanos)| *seconds == 0 && *nanos < 3_000_000), "{log_count:?}");
    assert!(log_count.len() > 1, "{log_count:?}");
}
