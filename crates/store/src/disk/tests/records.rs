//! A full disk with many standing records: they never end by themselves, so they are carried out of each segment that goes, as often
//! as one goes. What each segment keeps free for that is reckoned by them.

use std::ops::Range;
use std::time::Duration;

use galaxy_push_core::window::Bounds;
use galaxy_push_proto::v1;

use super::super::Options;
use super::super::lock::lock;
use super::super::simulated::Disk;
use super::world::{Life, START_MS, append, at, event_of};
use crate::Batch;

const AGE_S: u64 = 100;

/// A segment of 256 KiB keeps 16 KiB free at least, and no more than 64.
fn options() -> Options {
    let age = Duration::from_secs(AGE_S);
    let mut options = Options::of(Bounds { age, events: 1_000_000, bytes: 1 << 30 });
    (options.segment_bytes, options.dedup.age) = (256 << 10, Duration::from_secs(60));
    options
}

/// Each of some 100 bytes, in one batch.
fn records(numbers: Range<u64>) -> Batch {
    let record = |number| v1::Membership {
        recipient: format!("user:{number:040}"),
        topic: format!("{number:040}"),
        member: true,
        ..v1::Membership::default()
    };
    Batch::memberships(&numbers.map(record).collect::<Vec<_>>(), at(0))
}

fn event(id: u64, seconds: u64) -> Batch {
    let event = event_of(&id.to_string(), 2_000);
    Batch::encode(&[event], &"p".into(), at(seconds))
}

/// The fault: what is kept free was a 64th of a segment, however many records there were: with more than that, a disk without one
/// free byte stayed full for ever.
#[test]
fn however_often_a_disk_fills_it_takes_events_again_when_those_on_it_are_too_old() {
    // All records are in the oldest segment; or the last of them come where little is left.
    for (segments, behind) in [(1, 0), (3, 0), (1, 150), (3, 150)] {
        let what = format!("{segments} segments, {behind} of the records behind all events");
        let disk = Disk::default();
        let mut life = Life::open_with(&disk, &options()).unwrap();
        (behind..400).for_each(|number| _ = append(&mut life, records(number..number + 1)).unwrap());
        let mut id = 0;
        while disk.files().len() < segments {
            append(&mut life, event(id, 0)).unwrap();
            id += 1;
        }
        disk.fill(false);
        (0..behind).for_each(|number| _ = append(&mut life, records(number..number + 1)).unwrap());
        let records = life.standing();
        assert_eq!(records.len(), 400, "{what}");
        for cycle in 0..4 {
            let seconds = cycle * (AGE_S + 1);
            let mut taken = 0;
            while append(&mut life, event(id, seconds)).is_ok() {
                (id, taken) = (id + 1, taken + 1);
            }
            assert!(taken >= 10 && life.engine.lacks_room(), "{what}: {taken} taken in cycle {cycle}");
            life.age(START_MS + 1_000 * (seconds + AGE_S + 1));
            assert!(life.sync());
        }
        let head = lock(&life.engine.visible()).head;
        let last = append(&mut life, event(id, 4 * (AGE_S + 1))).unwrap()[0];
        assert_eq!((last.cursor, life.standing()), (Some(head.plus(1)), records.clone()), "{what}");
        drop(life);
        let next = Life::open_with(&disk.copy(), &options()).unwrap();
        assert_eq!((next.recovered.damage.len(), next.standing()), (0, records), "{what}");
    }
}

/// The room that is kept is reckoned with the records that come: else many at once would take what they will need themselves.
#[test]
fn records_that_come_last_leave_the_room_that_it_takes_to_carry_them() {
    let filled = |events: u64| {
        let disk = Disk::default();
        let mut life = Life::open_with(&disk, &options()).unwrap();
        append(&mut life, records(0..100)).unwrap();
        disk.fill(false);
        let taken = (0..events).take_while(|id| append(&mut life, event(*id, 0)).is_ok()).count() as u64;
        (life, taken)
    };
    let (_, most) = filled(1_000);
    let mut refused = 0;
    for left in 0..40 {
        let (mut life, taken) = filled(most - left);
        refused += u64::from(append(&mut life, records(100..350)).is_err());
        let _rest = (taken..1_000).take_while(|id| append(&mut life, event(*id, 0)).is_ok()).count();
        life.age(START_MS + 1_000 * (AGE_S + 1));
        assert!(life.sync());
        append(&mut life, event(1_000, AGE_S + 1))
            .unwrap_or_else(|error| panic!("with {left} events less: {error}"));
    }
    assert!((5..40).contains(&refused), "{refused} refused");
}
