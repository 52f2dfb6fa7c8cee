//! A log that is damaged on the disk, as those see it who read from the hub.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use galaxy_push_hub::{Config, Hub};
use galaxy_push_proto::feature;
use galaxy_push_proto::v1::GatewaySubscribeRequest;

use tokio::runtime::Runtime;

use crate::records::membership;
use crate::world::{World, ambient, from};

fn open(folder: &Path) -> World {
    World::over(Hub::on_disk(Config::default(), folder, ambient(), Arc::new(|_| {})).unwrap())
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

/// Whoever passes the gap cannot know which records lay in it: those that hold come right behind, as after any other gap.
#[test]
fn the_records_that_hold_are_told_behind_a_gap_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    // A runtime for each life: what still holds the first hub ends with its own.
    Runtime::new().unwrap().block_on(async {
        let world = open(folder.path());
        world.hub.set_memberships(vec![membership("user:1", "t", true)]).await.unwrap();
        world.publish("a will-be-damaged b").await;
    });
    damage(folder.path(), b"will-be-damaged");
    let told = Runtime::new().unwrap().block_on(async {
        let known =
            [feature::STANDING, feature::SESSION_INVALIDATION, feature::MEMBERSHIP].map(str::to_owned);
        let request = GatewaySubscribeRequest { features: known.to_vec(), ..from("gw", "oldest") };
        open(folder.path()).subscribe(request).await.unwrap().until("caught up").await
    });
    let held = "standing [user:1+t]";
    let expected = [
        &format!("welcome FRESH @0..@4 @0 | {held} @0 | user:1+t @1 | event a @2"),
        &format!("gap DAMAGED @2..@3 1 @3 | {held} @3 | event b @4 | caught up @4"),
    ];
    assert_eq!(told, expected.map(String::as_str).join(" | "));
}
