//! Each segment that another one follows says so: one that goes missing is noticed, wherever the life that began it had ended.

use super::super::files::Files as _;
use super::super::lock::lock;
use super::super::segments;
use super::super::simulated::{Disk, Rng};
use super::world::{Asked, Life, Publisher, options};

/// The fault: a process that ended right when a segment was begun left no word of it in the one before, and the next life went on in
/// the new one. When that was gone its positions were given to other events.
#[test]
fn a_segment_that_was_begun_when_a_life_ended_is_missed_like_any_other() {
    let mut options = options();
    // So that none of it leaves the window, and no segment goes.
    (options.window.events, options.window.bytes) = (1 << 20, 1 << 30);
    let (mut rng, mut missed) = (Rng(1), 0);
    for (operation, of_machine) in (1..12).flat_map(|operation| [(operation, false), (operation, true)]) {
        let (disk, mut publisher) = (Disk::default(), Publisher::new(8));
        let mut life = Life::open_with(&disk, &options).unwrap();
        loop {
            life.engine.stage(publisher.batch_of_one(), Asked::default());
            let job = life.engine.seal().unwrap();
            if job.begin.is_some() {
                disk.crash_at(disk.operations() + operation);
            }
            let outcome = life.segments.run(&job);
            if job.begin.is_some() {
                break;
            }
            life.engine.done(outcome);
        }
        drop(life);
        let disk = if of_machine { disk.after_crash(&mut rng) } else { disk.after_kill() };
        let mut life = Life::open_with(&disk, &options).unwrap();
        assert_eq!(life.recovered.damage, [], "operation {operation}");
        life.engine.stage(publisher.batch_of_one(), Asked::default());
        assert!(life.sync());
        let seen = lock(&life.engine.visible()).head;
        drop(life);
        let (name, _) = disk.files().pop().unwrap();
        if disk.files().len() == 1 {
            continue;
        }
        missed += 1;
        disk.lose(&name);
        let again = Life::open_with(&disk.copy(), &options).unwrap();
        let next = lock(&again.engine.visible()).head;
        assert!(
            !again.recovered.damage.is_empty(),
            "operation {operation}: {name} is gone, and nobody says so"
        );
        assert!(!seen.follows(next), "operation {operation}: {next} was given up, and {seen} was given");
    }
    assert!(missed > 10, "{missed} times there was a second segment");
}

/// The fault: of a file that was cut in its head nobody can say how long it was, and as many positions were given up as what is left
/// of it can have held.
#[test]
fn positions_in_a_segment_that_was_cut_to_nothing_are_given_up() {
    let mut options = options();
    (options.window.events, options.window.bytes) = (1 << 20, 1 << 30);
    let (disk, mut publisher) = (Disk::default(), Publisher::new(9));
    let mut life = Life::open_with(&disk, &options).unwrap();
    for _ in 0..60 {
        life.engine.stage(publisher.batch(), Asked::default());
        assert!(life.sync());
    }
    let seen = lock(&life.engine.visible()).head;
    let (name, _) = disk.files().pop().unwrap();
    assert!(disk.files().len() > 2 && life.engine.end_offset() > 2_048, "it holds some groups");
    for length in [0, 1, 127, 128, 511, 512, 1_023, 1_024] {
        let cut = disk.copy();
        cut.change(&name, |bytes| bytes.truncate(length));
        let again = Life::open_with(&cut, &options).unwrap();
        let next = lock(&again.engine.visible()).head;
        assert!(!again.recovered.damage.is_empty(), "cut to {length} bytes, and nobody says so");
        assert!(!seen.follows(next), "cut to {length} bytes: {next} was given up, and {seen} was given");
    }
}

/// The fault: the log went on behind it, with a number behind which there is none, and did not open again.
#[test]
fn a_stray_file_with_the_last_number_is_none_of_the_log() {
    for number in [0, u64::MAX, u64::MAX - 1, u64::MAX / 2 + 1] {
        let (disk, mut publisher) = (Disk::default(), Publisher::new(10));
        drop(Life::open(&disk).unwrap());
        let stray = segments::name(number);
        disk.create(&stray, 5_000).unwrap();
        disk.change(&stray, |bytes| bytes.fill(0xa5));
        for entries in 0..3 {
            let mut life = Life::open(&disk).unwrap();
            assert_eq!((&*life.recovered.damage, life.recovered.entries), (&[][..], entries), "{stray}");
            life.engine.stage(publisher.batch_of_one(), Asked::default());
            assert!(life.sync());
        }
        assert_eq!(disk.read(&stray, u64::MAX).unwrap(), [0xa5; 5_000]);
    }
}
