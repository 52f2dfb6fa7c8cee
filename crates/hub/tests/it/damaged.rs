//! A log that is damaged on the disk, as those see it who read from the hub.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use galaxy_push_hub::{Config, Hub};
use galaxy_push_proto::feature;
use galaxy_push_proto::v1::push_event::Kind;
use galaxy_push_proto::v1::{Gap, GatewaySubscribeRequest, PushEvent};
use prost::Message as _;
use tempfile::TempDir;

use crate::records::membership;
use crate::services::scrape;
use crate::warnings::Warnings;
use crate::world::{World, ambient, event, from, text};

const SPREAD: Duration = Duration::from_millis(5);

/// One life of a hub. It has a runtime of its own: what still holds the hub ends with that.
fn life<T>(folder: &Path, lived: impl AsyncFnOnce(World) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = Config::default().repair_spread(SPREAD);
        lived(World::over(Hub::on_disk(config, folder, ambient(), Arc::new(|_| {})).unwrap())).await
    })
}

/// A membership, an event, a batch of three that is damaged, and another event.
fn damaged() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    life(folder.path(), async |world| {
        world.hub.set_memberships(vec![membership("user:1", "t", true)]).await.unwrap();
        world.publish("a").await;
        world.publish_all(["x", "will-be-damaged", "y"].map(event).to_vec()).await;
        world.publish("b").await;
    });
    damage(folder.path(), b"will-be-damaged");
    folder
}

/// Changes the first byte of this text wherever it lies in a file of the folder.
fn damage(folder: &Path, text: &[u8]) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(text.len()).position(|window| window == text) {
            bytes[at] ^= 1;
            return fs::write(&path, bytes).unwrap();
        }
    }
    panic!("it lies nowhere");
}

/// A gateway that knows everything, at this cursor.
fn gateway(cursor: &str) -> GatewaySubscribeRequest {
    let known = [feature::STANDING, feature::SESSION_INVALIDATION, feature::MEMBERSHIP].map(str::to_owned);
    GatewaySubscribeRequest { features: known.to_vec(), instance_id: "i".to_owned(), ..from("gw", cursor) }
}

async fn told(world: &World, request: GatewaySubscribeRequest) -> String {
    world.subscribe(request).await.unwrap().until("caught up").await
}

/// The gap that whoever begins here is told.
async fn gap(world: &World, cursor: &str) -> Gap {
    let mut reading = world.read("gw", cursor).await;
    loop {
        if let Some(Kind::Gap(gap)) = reading.frame().await.unwrap().unwrap().kind {
            return gap;
        }
    }
}

/// Whoever passes the gap cannot know which records lay in it: those that hold come right behind, as after any other gap.
#[test]
fn the_records_that_hold_are_told_once_behind_a_gap_in_the_log() {
    let told = life(damaged().path(), async |world| told(&world, gateway("oldest")).await);
    let held = "standing [user:1+t]";
    let expected = [
        &format!("welcome FRESH @0..@6 @0 | {held} @0 | user:1+t @1 | event a @2"),
        &format!("gap DAMAGED @2..@5 3 @5 | {held} @5 | event b @6 | caught up @6"),
    ];
    assert_eq!(told, expected.map(String::as_str).join(" | "));
}

/// The fault: it was told from where the damage begins, which it had passed.
#[test]
fn whoever_resumes_inside_a_gap_in_the_log_is_told_from_there() {
    life(damaged().path(), async |world| {
        for (seq, expected) in [
            (2, "gap DAMAGED @2..@5 3 @5 | standing [user:1+t] @5 | event b @6"),
            (4, "gap DAMAGED @4..@5 1 @5 | standing [user:1+t] @5 | event b @6"),
            (5, "event b @6"),
        ] {
            let told = told(&world, gateway(&world.at(seq))).await;
            assert_eq!(told, format!("welcome RESUMED @0..@6 @{seq} | {expected} | caught up @6"));
        }
    });
}

/// The fault: no filter hid it, but it went out as it lay, and a filtered reader was told what it had passed.
#[test]
fn a_filtered_reader_is_told_of_a_gap_in_the_log_behind_what_it_passed() {
    life(damaged().path(), async |world| {
        let request = GatewaySubscribeRequest {
            recipients: vec!["user:2".to_owned()],
            features: Vec::new(),
            ..gateway(&world.at(3))
        };
        let told = told(&world, request).await;
        assert_eq!(told, "welcome RESUMED @0..@6 @3 | gap DAMAGED @3..@5 2 @5 | caught up @6");
    });
}

/// The fault: the readers of a damaged log were not told to spread, and repaired at once, all of them.
#[test]
fn the_readers_of_a_gap_in_the_log_are_told_to_spread_their_repairs() {
    life(damaged().path(), async |world| {
        let mut told = BTreeSet::new();
        for _ in 0..12 {
            let after = gap(&world, "oldest").await.repair_after.expect("a time to repair");
            told.insert(Duration::try_from(after).unwrap());
        }
        assert!(told.len() > 1 && told.iter().all(|after| *after < SPREAD), "{told:?}");
    });
}

/// The fault: it was neither counted, nor was anybody warned of whom it was told in vain.
#[test]
fn a_gap_in_the_log_is_counted_and_told_to_a_reader_that_cannot_read_it_is_one_warning() {
    life(damaged().path(), async |world| {
        let (warnings, _guard) = Warnings::listen();
        let counts = |count: u32, untold: u32| {
            let scraped = scrape(&world);
            for line in [
                format!("push_gaps_total{{reason=\"damaged\"}} {count}\n"),
                format!("push_gaps_to_untold_readers_total {untold}\n"),
            ] {
                assert!(scraped.contains(&line), "{line} {scraped}");
            }
        };
        counts(0, 0);
        told(&world, gateway("oldest")).await;
        counts(1, 0);
        assert_eq!(warnings.take("gap"), [""; 0], "it reads them");
        told(&world, from("old", &world.at(3))).await;
        counts(2, 1);
        let said = warnings.take("cannot read gaps");
        let range = format!("reason=Damaged from={} to={} count=2", world.at(3), world.at(5));
        assert!(
            matches!(&said[..], [line] if line.contains("gateway=old") && line.contains(&range)),
            "{said:?}"
        );
    });
}

#[test]
fn a_dump_shows_what_is_lost_as_a_gap() {
    life(damaged().path(), async |world| {
        let dump = world.hub.log_dump();
        let shown = dump.iter().map(|held| text(&PushEvent::decode(held.message.clone()).unwrap()));
        let shown: Vec<_> = shown.collect();
        assert_eq!(shown, ["user:1+t @1", "event a @2", "gap DAMAGED @2..@5 3 @5", "event b @6"]);
    });
}
