//! A full disk with many young ids: they count longer than the events that brought them are held, and have to be carried out of a
//! segment before that goes. What is kept free for it is room for some hundred, so such a disk stays full until they are too old.

use std::time::Duration;

use galaxy_push_core::Now;
use galaxy_push_core::window::Bounds;

use super::super::Options;
use super::super::lock::lock;
use super::super::simulated::Disk;
use super::world::{Life, START_MS, append, event_of};
use crate::Batch;

/// Events are held for 10 seconds, and ids for their 2 minutes.
fn options() -> Options {
    let mut options = Options::of(Bounds { age: Duration::from_secs(10), events: 1_000_000, bytes: 1 << 30 });
    options.segment_bytes = 64 << 10;
    options
}

/// A small event with an id of 60 bytes.
fn event(number: u64, millis: u64) -> Batch {
    let event = event_of(&format!("{number:060}"), 0);
    let now = Now { mono: Duration::from_millis(millis), unix_ms: START_MS + millis };
    Batch::encode(&[event], &"p".into(), now)
}

/// A log of so many segments, which takes no more, on a disk without one free byte. Returns how many events it took.
fn full(disk: &Disk, segments: usize) -> (Life, u64) {
    let mut life = Life::open_with(disk, &options()).unwrap();
    let mut taken = 0;
    while disk.files().len() < segments {
        append(&mut life, event(taken, 0)).unwrap();
        taken += 1;
    }
    disk.fill(false);
    while append(&mut life, event(taken, 0)).is_ok() {
        taken += 1;
    }
    assert!(taken > 150 && disk.files().len() == segments, "{taken} taken, {:?}", disk.files());
    (life, taken)
}

/// The fault, in a log of one segment: what the segment had left was given back although it was too little, and whatever else fills the
/// disk took it. Then there was nothing when the ids were too old, and it stayed full for ever.
#[test]
fn a_disk_that_many_young_ids_fill_is_full_until_they_are_too_old() {
    for segments in [1, 3] {
        let disk = Disk::default();
        let (mut life, taken) = full(&disk, segments);
        let (head, files) = (lock(&life.engine.visible()).head, disk.files());
        disk.steal(true);
        for millis in [5_000, 10_001, 11_000, 60_000, 119_000, 120_000] {
            // As the hub says each second how late it is.
            life.age(START_MS + millis);
            assert!(life.sync());
            let refused = append(&mut life, event(taken + millis, millis));
            assert!(refused.is_err(), "{segments} segments, after {millis} ms: {refused:?}");
            let again = append(&mut life, event(millis % taken, millis)).unwrap()[0];
            assert_eq!(again.cursor.map(|again| again.seq.0), Some(1 + millis % taken), "it is a repetition");
            assert_eq!(disk.files(), files, "{segments} segments, after {millis} ms");
        }
        assert!(life.engine.lacks_room());
        life.age(START_MS + 120_001);
        assert!(life.sync());
        disk.steal(false);
        for number in 0..10 {
            let next = append(&mut life, event(number, 120_001)).unwrap()[0];
            assert_eq!((next.cursor, next.duplicate), (Some(head.plus(1 + number)), false), "{segments}");
        }
        assert!(!life.engine.lacks_room());
        drop(life);
        let next = Life::open_with(&disk.copy(), &options()).unwrap();
        assert_eq!((next.recovered.damage.len(), next.recovered.entries), (0, 10), "{segments} segments");
    }
}
