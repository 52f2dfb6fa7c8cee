//! A disk without one free byte: what a log has allocated already is used, also by the next life; and a log that lies in one segment
//! goes over to another one when all that was published into it is too old.

use std::time::Duration;

use galaxy_push_core::Now;
use galaxy_push_core::window::Bounds;

use super::super::Options;
use super::super::format::CLOSED;
use super::super::lock::lock;
use super::super::segments::Outcome;
use super::super::simulated::{Disk, Rng};
use super::world::{Asked, Life, START_MS, append, event_of};
use crate::Batch;

const AGE: Duration = Duration::from_secs(100);

/// Events leave by their age alone; a segment holds some dozen of them, and keeps 16 KiB for letting others go.
fn options() -> Options {
    let mut options = Options::of(Bounds { age: AGE, events: 1_000_000, bytes: 1 << 30 });
    options.segment_bytes = 64 << 10;
    options.dedup.age = Duration::from_secs(60);
    options
}

fn event(id: &str, bytes: usize, seconds: u64) -> Batch {
    let event = event_of(id, bytes);
    let now = Now { mono: Duration::from_secs(seconds), unix_ms: START_MS + 1_000 * seconds };
    Batch::encode(&[event], &"p".into(), now)
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

/// A log in one segment which takes no more, on a disk without one free byte.
fn one_full_segment() -> (Disk, Life) {
    let disk = Disk::default();
    let mut life = open(&disk);
    append(&mut life, event("first", 1_000, 0)).unwrap();
    disk.fill(false);
    let mut taken = 0;
    while append(&mut life, event(&taken.to_string(), 1_000, 0)).is_ok() {
        taken += 1;
    }
    assert!(taken > 20 && disk.files().len() == 1, "{taken} taken, {:?}", disk.files());
    (disk, life)
}

/// The fault: it stayed full for ever, because the newest segment was never let go.
#[test]
fn a_full_log_in_one_segment_takes_events_again_when_all_in_it_is_too_old() {
    for restarts in [None, Some(End::Closed), Some(End::Killed), Some(End::Torn)] {
        let (mut disk, mut life) = one_full_segment();
        if let Some(how) = restarts {
            disk = end(life, &disk, how);
            disk.fill(false);
            life = open(&disk);
        }
        let head = lock(&life.engine.visible()).head;
        assert!(append(&mut life, event("too early", 1_000, 50)).is_err(), "{restarts:?}");
        for number in 0..10 {
            let taken = append(&mut life, event(&format!("late {number}"), 1_000, 101)).map(|all| all[0]);
            assert_eq!(taken.unwrap().cursor, Some(head.plus(1 + number)), "{restarts:?}");
        }
        drop(life);
        let again = open(&disk.copy());
        assert_eq!((again.recovered.entries, &*again.recovered.damage), (10, &[][..]), "{restarts:?}");
    }
}

/// Wherever the machine stops meanwhile: the same epoch, no damage, no position given twice, and who repeats is known.
#[test]
fn no_moment_of_going_over_to_another_segment_loses_anything() {
    let (mut rng, mut moments, mut over) = (Rng(1), 0, 0);
    for restarts in [None, Some(End::Killed), Some(End::Torn)] {
        let (mut disk, mut life) = one_full_segment();
        if let Some(how) = restarts {
            disk = end(life, &disk, how);
            disk.fill(false);
            life = open(&disk);
        }
        let head = lock(&life.engine.visible()).head;
        life.engine.age(Duration::from_millis(START_MS + 101_000));
        disk.keep_moments();
        let taken = append(&mut life, event("late", 1_000, 101));
        assert_eq!(taken.unwrap()[0].cursor, Some(head.next()), "{restarts:?}");
        for moment in disk.moments() {
            moments += 1;
            for _ in 0..6 {
                let found = moment.after_crash(&mut rng);
                let mut next = open(&found);
                assert_eq!(next.recovered.damage, [], "{restarts:?}");
                let there = lock(&next.engine.visible()).head;
                assert!(there == head || there == head.next(), "{there}, and {head} was given");
                over += u64::from(next.recovered.entries <= 1);
                let again = append(&mut next, event("late", 1_000, 101)).unwrap()[0];
                assert_eq!((again.cursor, again.duplicate), (Some(head.next()), there != head));
            }
        }
    }
    assert!(moments > 20 && over > 20, "{moments} moments, {over} times it was over");
}

/// Else each event of a log that is mostly idle would have a segment of its own.
#[test]
fn a_segment_that_has_room_is_not_left_because_all_in_it_is_too_old() {
    let disk = Disk::default();
    let mut life = open(&disk);
    for seconds in [0, 101, 202] {
        life.age(START_MS + 1_000 * seconds);
        assert!(life.sync());
        append(&mut life, event(&seconds.to_string(), 1_000, seconds)).unwrap();
        assert_eq!(disk.files().len(), 1);
        assert_eq!(life.engine.first_segment(), Some(1));
    }
}

/// What the segment has left is given back, and something else takes it before another one is begun.
#[test]
fn a_segment_that_was_cut_and_has_no_successor_is_sound() {
    let (disk, mut life) = one_full_segment();
    let head = lock(&life.engine.visible()).head;
    disk.steal(true);
    assert!(append(&mut life, event("late", 1_000, 101)).is_err(), "there is nothing for it");
    disk.steal(false);
    let cut = disk.files()[0].1;
    assert!(cut < 64 << 10 && life.engine.disk_bytes() == cut as u64, "{cut}");
    let found = open(&disk.after_kill());
    assert_eq!((found.recovered.damage.len(), found.recovered.torn), (0, false));
    assert!(append(&mut life, event("small", 1, 102)).is_err(), "there is still nothing for it");
    disk.free();
    let taken = append(&mut life, event("small", 1, 103)).unwrap()[0];
    assert_eq!(taken.cursor, Some(head.next()));
    drop(life);
    let again = open(&disk.copy());
    assert_eq!((again.recovered.entries, again.recovered.damage.len()), (1, 0));
}

/// The fault: the next life wiped the word that it was closed, found that there was nothing to give back, and left it so. To the life
/// behind that one a file was cut short, and positions were given up that had never been given.
#[test]
fn a_segment_that_was_cut_is_sound_in_every_life_that_finds_no_room() {
    let (mut disk, mut life) = one_full_segment();
    let (head, held) = (lock(&life.engine.visible()).head, lock(&life.reader.0).held.clone());
    disk.steal(true);
    for round in 0..3 {
        disk.keep_moments();
        assert!(append(&mut life, event("late", 1_000, 101 + round)).is_err(), "round {round}");
        drop(life);
        for moment in disk.moments() {
            let found = open(&moment.after_kill());
            assert_eq!((&*found.recovered.damage, found.recovered.torn), (&[][..], false), "round {round}");
        }
        disk = disk.after_kill();
        disk.fill(false);
        life = open(&disk);
        assert_eq!(
            (&life.recovered.damage[..], &lock(&life.reader.0).held),
            (&[][..], &held),
            "round {round}"
        );
    }
    disk.free();
    let taken = append(&mut life, event("late", 1_000, 110)).unwrap()[0];
    assert_eq!(taken.cursor, Some(head.next()));
}

/// The fault that would be: it is shorter than its head says, and what was written behind its end looked cut off to the life after.
#[test]
fn a_life_that_finds_a_cut_segment_writes_nothing_behind_its_end() {
    let (disk, mut life) = one_full_segment();
    let head = lock(&life.engine.visible()).head;
    disk.steal(true);
    assert!(append(&mut life, event("late", 1_000, 101)).is_err(), "there is nothing for it");
    let disk = end(life, &disk, End::Killed);
    let mut life = open(&disk);
    assert_eq!(append(&mut life, event("small", 1, 1)).unwrap()[0].cursor, Some(head.next()));
    let again = open(&disk.after_kill());
    assert_eq!(&*again.recovered.damage, &[][..]);
    assert_eq!(lock(&again.engine.visible()).head, head.next());
}

/// What shows that a group is damaged, and not torn, lies behind it.
#[test]
fn a_segment_that_ends_in_damage_is_not_cut() {
    let (disk, life) = one_full_segment();
    let last = life.engine.end_offset() as usize - 1;
    let disk = end(life, &disk, End::Closed);
    let (name, length) = disk.files().pop().unwrap();
    disk.change(&name, |bytes| bytes[last] ^= 1);
    disk.fill(false);
    let mut life = open(&disk);
    let told = lock(&life.reader.0).gaps.clone();
    assert_eq!(told.len(), 1);
    assert!(append(&mut life, event("late", 1_000, 101)).is_err());
    drop(life);
    assert_eq!(disk.files(), [(name, length)]);
    assert_eq!(lock(&open(&disk.copy()).reader.0).gaps, told);
    disk.free();
    append(&mut open(&disk), event("late", 1_000, 102)).unwrap();
}

/// The fault: a segment that was made and found no room for its head was taken away, and not durably. Where it came back, what was
/// published into the one before since then lay behind its end.
#[test]
fn a_segment_that_found_no_room_does_not_come_back() {
    for seed in 1..100 {
        let (disk, mut rng) = (Disk::default(), Rng(seed));
        let mut life = open(&disk);
        append(&mut life, event("first", 1_000, 0)).unwrap();
        life.engine.stage(event("large", 60_000, 0), Asked::default());
        let job = life.engine.seal().unwrap();
        disk.fail_at(disk.operations() + 2, std::io::ErrorKind::StorageFull);
        let outcome = life.segments.run(&job);
        assert!(matches!(outcome, Outcome::Full { .. }), "{outcome:?}");
        life.engine.done(outcome);
        append(&mut life, event("second", 1_000, 0)).unwrap();
        let found = open(&disk.after_crash(&mut rng));
        assert_eq!((found.recovered.entries, &*found.recovered.damage), (2, &[][..]), "seed {seed}");
    }
}

/// The faults: each publish that was refused tried some ten lengths of a segment, and then to let one go by as many.
#[test]
fn a_publish_that_is_refused_asks_little_of_the_disk() {
    let (disk, mut options) = (Disk::default(), options());
    options.segment_bytes = 4 << 20;
    let mut life = Life::open_with(&disk, &options).unwrap();
    disk.fill(false);
    for bytes in [100_000, 1_000] {
        while append(&mut life, event(&disk.operations().to_string(), bytes, 0)).is_ok() {}
    }
    disk.steal(true);
    // All of it is too old, and for another segment there is nothing.
    life.age(START_MS + 101_000);
    let free = |life: &mut Life, id: u64| append(life, event(&id.to_string(), 1_000, 101));
    assert!(free(&mut life, 0).is_err());
    for id in 1..20 {
        let before = disk.operations();
        assert!(free(&mut life, id).is_err());
        let asked = disk.operations() - before;
        assert!(asked <= 6, "{asked} operations for a publish that is refused");
    }
    // As often as somebody says how late it is, it is tried to let a segment go.
    let before = disk.operations();
    life.age(START_MS + 102_000);
    assert!(life.sync());
    assert!(free(&mut life, 20).is_err());
    assert!(disk.operations() - before <= 12, "{}", disk.operations() - before);
}

/// The fault: after a long time away all that had left the window went before the first publish was taken.
#[test]
fn publishers_are_let_in_between_segments_that_go() {
    let (disk, mut options) = (Disk::default(), options());
    options.segment_bytes = 8 << 10;
    let mut life = Life::open_with(&disk, &options).unwrap();
    (0..200).for_each(|id| _ = append(&mut life, event(&id.to_string(), 1_000, 0)).unwrap());
    let (many, used) = (disk.files().len(), disk.files().iter().map(|(_, length)| length).sum::<usize>());
    assert!(many > 30, "{many}");
    life.engine.age(Duration::from_millis(START_MS + 101_000));
    let (mut jobs, mut most_before_one) = (0, 0);
    for id in 0..20 {
        let reply = Asked::default();
        life.engine.stage(event(&format!("late {id}"), 1_000, 101), reply.clone());
        let mut before = 0;
        while reply.answer().is_none() {
            let job = life.engine.seal().expect("it is written");
            let outcome = life.segments.run(&job);
            life.engine.done(outcome);
            for number in life.engine.settle() {
                super::super::segments::remove(&disk, number);
            }
            let now = disk.files().iter().map(|(_, length)| length).sum::<usize>();
            assert!(now <= used + (16 << 10), "{now} bytes, and {used} when it began");
            (jobs, before) = (jobs + 1, before + 1);
        }
        most_before_one = most_before_one.max(before);
    }
    assert!(most_before_one <= 3 && jobs < 50, "{most_before_one} groups for one publish, {jobs} in all");
    assert!(life.sync() && disk.files().len() < 10, "in the end all have gone: {}", disk.files().len());
}

/// The fault: a segment that was begun for a group that lets one go was as long as that, and kept no room for the next.
#[test]
fn a_segment_that_is_begun_for_a_release_keeps_room_for_more() {
    let (disk, mut life) = one_full_segment();
    let used = disk.files()[0].1 as u64;
    disk.room(Some(used + (30 << 10)));
    life.age(START_MS + 101_000);
    life.engine.stage(event("late", 60_000, 101), Asked::default());
    let job = life.engine.seal().unwrap();
    assert!(job.is_release);
    match life.segments.run(&job) {
        Outcome::Durable { begun: Some(bytes) } => assert!(bytes >= 17 << 10, "{bytes}"),
        outcome => panic!("{outcome:?}"),
    }
}

/// The fault: what let a segment go said that publishes are taken, though what it had freed was less than one needs.
#[test]
fn a_disk_is_full_until_as_much_was_freed_as_there_was_no_room_for() {
    let (disk, mut options) = (Disk::default(), options());
    options.segment_bytes = 8 << 10;
    let mut life = Life::open_with(&disk, &options).unwrap();
    (0..60).for_each(|id| _ = append(&mut life, event(&id.to_string(), 1_000, 0)).unwrap());
    disk.fill(false);
    assert!(append(&mut life, event("large", 20_000, 1)).is_err());
    assert!(life.engine.lacks_room());
    life.age(START_MS + 101_000);
    let mut freed = 0;
    while let Some(job) = life.engine.seal() {
        assert!(job.is_release);
        let before = disk.files().iter().map(|(_, length)| *length as u64).sum::<u64>();
        let outcome = life.segments.run(&job);
        life.engine.done(outcome);
        for number in life.engine.settle() {
            super::super::segments::remove(&disk, number);
        }
        freed += before - disk.files().iter().map(|(_, length)| *length as u64).sum::<u64>();
        assert_eq!(life.engine.lacks_room(), freed < 24 << 10, "{freed} bytes were freed");
    }
    assert!(freed > 24 << 10);
    append(&mut life, event("large", 20_000, 101)).unwrap();
}
