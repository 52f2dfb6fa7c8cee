//! A disk without one free byte: what a log has allocated already is used, also by the next life.

use std::time::Duration;

use galaxy_push_core::Now;
use galaxy_push_core::window::Bounds;
use galaxy_push_proto::v1;

use super::super::Options;
use super::super::format::CLOSED;
use super::super::simulated::{Disk, Rng};
use super::world::{Asked, Life, START_MS};
use crate::{Appended, Batch, Error};

const AGE: Duration = Duration::from_secs(100);

/// Events leave by their age alone; a segment holds some dozen of them, and keeps 16 KiB for letting others go.
fn options() -> Options {
    let mut options = Options::of(Bounds { age: AGE, events: 1_000_000, bytes: 1 << 30 });
    options.segment_bytes = 64 << 10;
    options.dedup.age = Duration::from_secs(60);
    options
}

fn event(id: &str, bytes: usize, seconds: u64) -> Batch {
    let event = v1::Event {
        to: vec!["all".to_owned()],
        id: id.to_owned(),
        source: "/s".to_owned(),
        r#type: "t".to_owned(),
        data: vec![b'x'; bytes].into(),
        ..v1::Event::default()
    };
    let now = Now { mono: Duration::from_secs(seconds), unix_ms: START_MS + 1_000 * seconds };
    Batch::encode(&[event], &"p".into(), now)
}

fn append(life: &mut Life, batch: Batch) -> Result<Vec<Appended>, Error> {
    let reply = Asked::default();
    life.engine.stage(batch, reply.clone());
    assert!(life.sync());
    reply.answer().unwrap()
}

fn open(disk: &Disk) -> Life {
    Life::open_with(disk, &options()).unwrap()
}

/// How a life may end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Closed,
    Killed,
    /// While a group was written, of which half is there.
    Torn,
}

fn end(mut life: Life, disk: &Disk, how: End) -> Disk {
    match how {
        End::Closed => life.segments.end(life.engine.end_offset(), CLOSED).unwrap(),
        End::Killed => {}
        End::Torn => {
            disk.crash_at(disk.operations() + 1);
            life.engine.stage(event("torn", 5_000, 0), Asked::default());
            life.sync();
        }
    }
    disk.after_kill()
}

/// The fault: a hub that took events before a restart took none after it, though the rest of its segment was there.
#[test]
fn a_life_that_begins_on_a_full_disk_goes_on_in_what_is_allocated() {
    for how in [End::Closed, End::Killed, End::Torn] {
        let disk = Disk::default();
        let mut life = open(&disk);
        (0..3).for_each(|id| _ = append(&mut life, event(&id.to_string(), 1_000, 0)).unwrap());
        let mut disk = end(life, &disk, how);
        let mut held = 3;
        for round in 0..3 {
            disk.fill(false);
            let mut life = open(&disk);
            assert_eq!((life.recovered.entries, &*life.recovered.damage), (held, &[][..]), "{how:?}");
            let taken = append(&mut life, event(&format!("next {round}"), 1_000, 1));
            held += 1;
            let cursor = taken.as_ref().map(|taken| taken[0].cursor.unwrap().seq.0);
            assert_eq!(cursor, Ok(held), "{how:?}, round {round}");
            disk = end(life, &disk, how);
        }
        assert_eq!(disk.files().len(), 1, "{how:?}");
    }
}

/// Wherever the machine stops while the next life wipes what the last one left and writes behind it: no damage, and nothing of it.
#[test]
fn what_the_last_life_left_half_written_never_comes_back() {
    for seed in 1..60 {
        let (disk, mut rng) = (Disk::default(), Rng(seed));
        let mut life = open(&disk);
        let fill = (0..=rng.below(4)).map(|id| (id.to_string(), rng.below(900) as usize)).collect::<Vec<_>>();
        fill.iter().for_each(|(id, bytes)| _ = append(&mut life, event(id, *bytes, 0)).unwrap());
        let disk = end(life, &disk, if rng.percent(80) { End::Torn } else { End::Closed });
        let found = if rng.percent(50) { disk.after_crash(&mut rng) } else { disk };
        found.keep_moments();
        let mut life = open(&found);
        let was_there = life.recovered.entries;
        append(&mut life, event("behind", rng.below(700) as usize, 1)).unwrap();
        for moment in found.moments().into_iter().chain([found.copy()]) {
            for _ in 0..4 {
                let again = open(&moment.after_crash(&mut rng));
                assert_eq!(again.recovered.damage, [], "seed {seed}");
                let there = again.recovered.entries;
                assert!(there == was_there || there == was_there + 1, "seed {seed}: {there} of {was_there}");
            }
        }
    }
}

/// After a sync that failed the system may show zeros where the disk has bytes: they are wiped once more.
#[test]
fn what_a_wipe_that_failed_has_left_is_wiped_again() {
    let mut left = 0;
    for seed in 1..200 {
        let (disk, mut rng) = (Disk::default(), Rng(seed));
        let mut life = open(&disk);
        append(&mut life, event("first", 100, 0)).unwrap();
        let torn = end(life, &disk, End::Torn).after_crash(&mut rng);
        let mut life = open(&torn);
        left += u64::from(life.recovered.torn);
        torn.fail_next_sync(true);
        life.engine.stage(event("never", 10, 1), Asked::default());
        assert!(!life.sync(), "the wipe is not durable");
        drop(life);
        let next = torn.after_kill();
        let mut life = open(&next);
        let before = life.recovered.entries;
        append(&mut life, event("short", 10, 2)).unwrap();
        let again = open(&next.after_crash(&mut rng));
        assert_eq!((again.recovered.entries, &*again.recovered.damage), (before + 1, &[][..]), "seed {seed}");
    }
    assert!(left > 20, "{left} times something was left");
}
