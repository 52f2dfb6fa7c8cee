//! Segments of which nothing is left: told, and none of what they held is given to others.

use std::time::Duration;

use galaxy_push_core::Now;
use galaxy_push_proto::v1;

use super::super::Options;
use super::super::lock::lock;
use super::super::simulated::Disk;
use super::world::{Asked, Life, START_MS, options};
use crate::Batch;

/// A store whose window lets nothing go.
fn wide() -> Options {
    let mut options = options();
    (options.window.events, options.window.bytes) = (1 << 20, 1 << 30);
    options
}

fn publish(life: &mut Life, id: &str, seconds: u64, ephemeral: bool) {
    let event = v1::Event {
        to: vec!["all".to_owned()],
        id: id.to_owned(),
        source: "s".repeat(800),
        r#type: "t".to_owned(),
        ephemeral,
        ..v1::Event::default()
    };
    let now = Now { mono: Duration::from_secs(seconds), unix_ms: START_MS + 1_000 * seconds };
    let reply = Asked::default();
    life.engine.stage(Batch::encode(&[event], &"p".into(), now), reply.clone());
    assert!(life.sync() && reply.answer().unwrap().is_ok());
}

/// The last segment reads as zeros, its head too: it looks like one that was being made, but the one before says that it was.
#[test]
fn a_last_segment_that_reads_as_zeros_is_told() {
    let disk = Disk::default();
    let mut life = Life::open_with(&disk, &wide()).unwrap();
    (0..20).for_each(|id| publish(&mut life, &id.to_string(), 0, false));
    let seen = lock(&life.engine.visible()).head;
    drop(life);
    let files = disk.files();
    let (name, length) = files.last().unwrap();
    assert!(files.len() > 2, "{files:?}");
    disk.change(name, |bytes| bytes.fill(0));
    let mut life = Life::open_with(&disk, &wide()).unwrap();
    let damage = &life.recovered.damage;
    let found = damage.iter().find(|damage| damage.lost.is_some()).unwrap();
    assert_eq!((&found.file, &found.bytes), (name, &Some(0..*length as u64)), "{damage:?}");
    assert!(!seen.follows(found.lost.unwrap().1), "{found:?} is told, and {seen} was given");
    publish(&mut life, "next", 1, false);
    assert!(lock(&life.engine.visible()).head.follows(seen), "no position is given twice");
}

/// Of what is for live readers only, nothing but the ids was there, and no position tells that they are gone.
#[test]
fn ids_that_are_gone_with_a_segment_shorten_what_is_recognised() {
    let disk = Disk::default();
    let mut life = Life::open_with(&disk, &wide()).unwrap();
    publish(&mut life, "first", 0, false);
    (0..20).for_each(|second| publish(&mut life, &second.to_string(), second, true));
    publish(&mut life, "last", 20, false);
    drop(life);
    let files = disk.files();
    assert!(files.len() > 3, "{files:?}");
    let horizon = |disk: &Disk| {
        let life = Life::open_with(disk, &wide()).unwrap();
        assert_eq!(lock(&life.reader.0).gaps, [], "no event is lost");
        let visible = life.engine.visible();
        let visible = lock(&visible);
        visible.published.horizon(Duration::from_secs(START_MS / 1_000 + 20))
    };
    assert_eq!(horizon(&disk.copy()), wide().dedup.age);
    disk.lose(&files[1].0);
    assert!(horizon(&disk) < Duration::from_secs(20));
}
