//! Standing records on their way out: to whom, in which order, and that nothing hides them.

use std::time::Duration;

use galaxy_push_core::window::Bounds;
use galaxy_push_hub::Config;
use galaxy_push_proto::feature;
use galaxy_push_proto::v1::push_event::Kind;
use galaxy_push_proto::v1::{GatewaySubscribeRequest, Membership};
use prost::Message as _;
use prost_types::Timestamp;
use tokio::time::sleep;

use crate::records::{invalidation, membership};
use crate::services::scrape;
use crate::world::{Reading, START_UNIX_MS, World, event_to, from, large, text};

fn knowing(features: &[&str], cursor: &str) -> GatewaySubscribeRequest {
    GatewaySubscribeRequest {
        features: features.iter().map(|feature| (*feature).to_owned()).collect(),
        ..from("gw", cursor)
    }
}

const ALL: [&str; 3] = [feature::STANDING, feature::SESSION_INVALIDATION, feature::MEMBERSHIP];

async fn read(world: &World, cursor: &str) -> Reading {
    world.subscribe(knowing(&ALL, cursor)).await.unwrap()
}

/// A window of three entries with a history of six: `a`, a membership, `b`, an invalidation, `c`, `d`.
async fn world() -> World {
    let world = World::new(Config::default().window(Bounds { events: 3, ..Bounds::default() }));
    world.publish("a").await;
    world.hub.set_memberships(vec![membership("user:1", "t", true)]).await.unwrap();
    world.publish("b").await;
    world.hub.invalidate(invalidation("session:s")).await.unwrap();
    world.publish("c d").await;
    world
}

#[tokio::test(start_paused = true)]
async fn a_reader_without_a_place_gets_them_before_anything_else() {
    let world = world().await;
    let other_epoch = world.at(4).replace("2.A", "2.B");
    let held = "standing [void session:s, user:1+t]";
    let replay = "void session:s @4 | event c @5 | event d @6 | caught up @6";
    for (cursor, expected) in [
        ("", format!("welcome FRESH @3..@6 @6 | {held} @6 | caught up @6")),
        ("oldest", format!("welcome FRESH @3..@6 @3 | {held} @3 | {replay}")),
        (
            &*world.at(1),
            format!("welcome TRIMMED @3..@6 @1 | {held} @1 | gap TRIMMED @1..@3 2 @3 | {replay}"),
        ),
        (&*world.at(4), "welcome RESUMED @3..@6 @4 | event c @5 | event d @6 | caught up @6".to_owned()),
        (
            &*world.at(9),
            format!("welcome AHEAD @3..@6 @9 | {held} @9 | gap AHEAD @9..@6 ? @6 | caught up @6"),
        ),
        (
            &*other_epoch,
            format!("welcome EPOCH_CHANGED @3..@6 @4 | {held} @4 | gap EPOCH_CHANGED @4..@3 ? @3 | {replay}"),
        ),
    ] {
        assert_eq!(read(&world, cursor).await.until("caught up").await, expected, "{cursor:?}");
    }
    assert!(scrape(&world).contains("push_standing_frames_total 5\n"));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_loses_its_place_gets_them_again_after_the_gap() {
    let world = World::new(Config::default().window(Bounds { events: 20, ..Bounds::default() }));
    let mut reading = read(&world, "").await;
    assert_eq!(reading.take(3).await, "welcome FRESH @0..@0 @0 | standing [] @0 | caught up @0");
    world.flood(150).await;
    world.hub.set_memberships(vec![membership("user:1", "t", true)]).await.unwrap();
    world.flood(0).await;
    for i in 0..30 {
        world.publish_all(vec![large(&format!("more {i}"))]).await;
        tokio::task::yield_now().await;
    }
    let mut before = String::new();
    while !before.starts_with("gap LAPPED") {
        before = reading.next().await;
    }
    let gap_to = before.rsplit('@').next().unwrap().to_owned();
    assert_eq!(reading.next().await, format!("standing [user:1+t] @{gap_to}"));
    let next: u64 = gap_to.parse().unwrap();
    assert!(reading.next().await.starts_with("event ") && next > 150, "then the replay");
}

#[tokio::test(start_paused = true)]
async fn what_a_peer_does_not_know_it_is_not_sent_and_its_cursor_passes() {
    let world = World::new(Config::default());
    world.hub.set_memberships(vec![membership("user:1", "t", true)]).await.unwrap();
    world.hub.invalidate(invalidation("session:s")).await.unwrap();
    for (features, expected) in [
        (&[][..], "welcome FRESH @0..@2 @0 | caught up @2"),
        (&["gzip"], "welcome FRESH @0..@2 @0 | caught up @2"),
        (
            &[feature::STANDING],
            "welcome FRESH @0..@2 @0 | standing [void session:s, user:1+t] @0 | caught up @2",
        ),
        (&[feature::MEMBERSHIP], "welcome FRESH @0..@2 @0 | user:1+t @1 | caught up @2"),
        (&[feature::SESSION_INVALIDATION], "welcome FRESH @0..@2 @0 | void session:s @2 | caught up @2"),
    ] {
        let mut reading = world.subscribe(knowing(features, "oldest")).await.unwrap();
        assert_eq!(reading.until("caught up").await, expected, "{features:?}");
    }
    let mut old = world.read("old", "").await;
    old.until("caught up").await;
    world.hub.invalidate(invalidation("session:t")).await.unwrap();
    assert_eq!(old.next().await, "progress @3", "nothing is missing before it");
}

#[tokio::test(start_paused = true)]
async fn no_filter_hides_them() {
    let world = World::new(Config::default());
    let request = GatewaySubscribeRequest { recipients: vec!["user:7".into()], ..knowing(&ALL, "oldest") };
    world.publish_all(vec![event_to("a", "user:8")]).await;
    world.hub.invalidate(invalidation("session:s")).await.unwrap();
    let mut reading = world.subscribe(request).await.unwrap();
    assert_eq!(
        reading.until("caught up").await,
        "welcome FRESH @0..@2 @0 | standing [void session:s] @0 | void session:s @2 | caught up @2"
    );
    world.hub.set_memberships(vec![membership("user:8", "t", true)]).await.unwrap();
    world.publish_all(vec![event_to("b", "user:8"), event_to("c", "user:7")]).await;
    assert_eq!(reading.take(2).await, "user:8+t @3 | event c @5");
}

#[tokio::test(start_paused = true)]
async fn they_outlive_the_window_until_they_expire() {
    let bounds = Bounds { age: Duration::from_secs(60), ..Bounds::default() };
    let world = World::new(Config::default().window(bounds));
    let in_an_hour = Some(Timestamp { seconds: (START_UNIX_MS / 1_000) as i64 + 3_600, nanos: 0 });
    let brief = Membership { expires_at: in_an_hour, ..membership("user:1", "brief", true) };
    world.hub.set_memberships(vec![brief, membership("user:1", "lasting", true)]).await.unwrap();
    world.hub.invalidate(invalidation("session:s")).await.unwrap();
    for (after, expected) in [
        (3_599, "standing [void session:s, user:1+brief, user:1+lasting] @3"),
        (1, "standing [void session:s, user:1+lasting] @3"),
        (86_400 - 3_601, "standing [void session:s, user:1+lasting] @3"),
        (1, "standing [user:1+lasting] @3"),
    ] {
        sleep(Duration::from_secs(after)).await;
        let mut reading = read(&world, "oldest").await;
        reading.next().await;
        assert_eq!(reading.next().await, expected);
    }
    world.hub.set_memberships(vec![membership("user:1", "lasting", false)]).await.unwrap();
    assert_eq!(
        read(&world, "oldest").await.until("caught up").await,
        "welcome FRESH @3..@4 @3 | standing [] @3 | user:1-lasting @4 | caught up @4"
    );
}

/// However many there are, no frame is larger than the peer takes, and each record comes once.
#[tokio::test(start_paused = true)]
async fn many_of_them_come_in_frames_that_fit_the_peer() {
    const RECORDS: usize = 3_000;
    let world = World::new(Config::default());
    let records: Vec<_> =
        (0..RECORDS).map(|i| membership(&format!("user:{i}"), &"x".repeat(1 + i % 255), true)).collect();
    for batch in records.chunks(1_000) {
        world.hub.set_memberships(batch.to_vec()).await.unwrap();
    }
    for max_receive_bytes in [1_024, 10_000, 0] {
        let request = GatewaySubscribeRequest { max_receive_bytes, ..knowing(&[feature::STANDING], "") };
        let mut reading = world.subscribe(request).await.unwrap();
        assert!(reading.next().await.starts_with("welcome"));
        let (mut seen, mut frames) = (Vec::new(), 0);
        loop {
            let frame = reading.frame().await.unwrap().unwrap();
            let size_max = if max_receive_bytes == 0 { 64 << 10 } else { max_receive_bytes as usize };
            assert!(frame.encoded_len() <= size_max, "{} bytes", frame.encoded_len());
            let Some(Kind::Standing(standing)) = frame.kind else { panic!("{}", text(&frame)) };
            seen.extend(standing.memberships);
            frames += 1;
            if !standing.more {
                break;
            }
        }
        let total: usize = seen.iter().map(Membership::encoded_len).sum();
        let fewest = total / if max_receive_bytes == 0 { 64 << 10 } else { max_receive_bytes as usize };
        assert!(frames > fewest && frames < 2 * fewest + 3, "{frames} frames of {max_receive_bytes}");
        seen.sort_by_key(|record| record.recipient[5..].parse::<usize>().unwrap());
        assert_eq!(seen, records);
        assert_eq!(reading.next().await, "caught up @3000");
    }
}

/// A world with more records than HTTP/2 takes at once.
async fn with_many() -> World {
    let world = World::new(Config::default());
    for batch in 0..70 {
        let records = (0..1_000).map(|i| membership(&format!("user:{batch}.{i}"), &"x".repeat(200), true));
        world.hub.set_memberships(records.collect()).await.unwrap();
    }
    world
}

#[tokio::test(start_paused = true)]
async fn nothing_appended_after_a_takeover_reaches_the_older() {
    let world = with_many().await;
    let mut older = read(&world, "").await;
    older.next().await;
    sleep(Duration::from_secs(1)).await; // now HTTP/2 has as much as it takes
    let mut newer = read(&world, "").await;
    newer.next().await;
    world.hub.set_memberships(vec![membership("user:zzz", "new", true)]).await.unwrap();
    let (mut frames, mut last) = (0, String::new());
    while !last.starts_with("status") {
        last = older.next().await;
        assert!(!last.contains("user:zzz") && !last.starts_with("caught up"), "{last}");
        frames += 1;
    }
    assert!(frames > 10, "it was in the middle of them");
    assert!(newer.until("user:zzz+new").await.ends_with("user:zzz+new @70001"), "it is the newer's");
}

/// A set that changes while it is being told: what changed lies behind the reader's place and reaches it there.
#[tokio::test(start_paused = true)]
async fn what_changes_meanwhile_follows_in_its_place() {
    let world = with_many().await;
    let mut reading = read(&world, "").await;
    assert!(reading.next().await.starts_with("welcome FRESH"));
    sleep(Duration::from_secs(1)).await; // the last frames are encoded only after this
    world.hub.set_memberships(vec![membership("user:0.0", &"x".repeat(200), false)]).await.unwrap();
    world.hub.set_memberships(vec![membership("user:zzz", "new", true)]).await.unwrap();
    let mut members = std::collections::BTreeSet::new();
    loop {
        let frame = reading.frame().await.unwrap().unwrap();
        let records = match frame.kind.unwrap() {
            Kind::Standing(standing) => standing.memberships,
            Kind::Membership(record) => vec![record],
            Kind::CaughtUp(_) | Kind::Progress(_) if members.contains("user:zzz") => break,
            Kind::CaughtUp(_) | Kind::Progress(_) => continue,
            other => panic!("{other:?}"),
        };
        for record in records {
            if record.member {
                members.insert(record.recipient)
            } else {
                members.remove(&record.recipient)
            };
        }
    }
    assert_eq!((members.len(), members.contains("user:0.0")), (70_000, false));
}
