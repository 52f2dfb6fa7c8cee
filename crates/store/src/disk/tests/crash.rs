//! A machine that stops after any operation, and what the disk holds then: whatever was acknowledged is there, whatever was
//! delivered has not changed, what was under way is there as a whole or not at all, and no gap is told.
//!
//! A slice of the states in each test run; `cargo xtask crash-long` looks at many more.

mod history;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use galaxy_push_core::cursor::Cursor;
use galaxy_push_core::frame::LogKind;
use galaxy_push_core::window::Traits;

use self::history::History;
use super::super::Options;
use super::super::files::Files as _;
use super::super::lock::lock;
use super::super::segments::{Outcome, number, remove};
use super::super::simulated::{Disk, Rng};
use super::world::{self, Asked, Life, Publisher, START_MS};
use crate::Batch;

/// How many states a test run looks at; `CRASH_STATES` says otherwise.
const STATES: u64 = 4_000;

/// Ids are forgotten soon, so that some are too old, and events leave the window sooner. With some seeds segments are so long that all
/// of the log may lie in one.
fn options(seed: u64) -> Options {
    let mut options = world::options();
    if is_long(seed) {
        options.segment_bytes = 32 << 10;
    }
    options.window.age = Duration::from_secs(10);
    options.dedup.age = Duration::from_secs(20);
    options
}

fn is_long(seed: u64) -> bool {
    seed.is_multiple_of(3)
}

/// How often what should happen did.
#[derive(Debug, Default)]
struct Seen {
    states: u64,
    torn: u64,
    landed: u64,
    lost: u64,
    restarts: u64,
    /// Batches of a life that went on in the segment of the last one.
    went_on: u64,
    /// All segments let go, the newest too: and those that were cut for it.
    went_over: u64,
    cut: u64,
    segments_left: u64,
    carried: u64,
    too_old: u64,
    /// More gathered while a group was on its way.
    overlaps: u64,
    /// Groups that let a segment go.
    releases: u64,
    /// Those behind which more gathered.
    overtaken: u64,
    /// Groups of publishers for which there was no room.
    refused: u64,
    /// And those that let a segment go: seldom, and more often in a long run.
    stuck: u64,
    /// What nobody had been told of had left the window.
    left_untold: u64,
}

#[test]
fn whatever_a_crash_leaves_nothing_acknowledged_is_lost() {
    let states = std::env::var("CRASH_STATES").ok().and_then(|states| states.parse().ok()).unwrap_or(STATES);
    let first = std::env::var("CRASH_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut seen = Seen::default();
    for seed in first.. {
        if seen.states >= states {
            break;
        }
        run(seed, &mut seen);
    }
    println!("{seen:?}");
    let Seen { torn, landed, lost, restarts, segments_left, carried, too_old, overlaps, .. } = seen;
    let Seen { releases, overtaken, refused, went_on, went_over, cut, .. } = seen;
    for (what, count) in [
        ("torn", torn),
        ("landed unacknowledged", landed),
        ("lost unacknowledged", lost),
        ("restarts", restarts),
        ("the newest segment let go", went_over),
        ("the newest segment cut for another one", cut),
        ("went on in the segment of an earlier life", went_on),
        ("segments left", segments_left),
        ("keys carried", carried),
        ("keys too old", too_old),
        ("more gathered meanwhile", overlaps),
        ("segments let go", releases),
        ("segments let go while a group gathered", overtaken),
        ("no room for a group", refused),
    ] {
        assert!(count > 0, "{what} never happened: {seen:?}");
    }
}

/// A process that is killed, or ends because a sync has failed, leaves what it had written to be read, durable or not. Whatever the
/// next one tells of it must still be there when the machine stops.
#[test]
fn what_a_process_left_is_durable_before_the_next_one_tells_of_it() {
    let mut left = 0;
    for seed in 1..400 {
        let (mut rng, mut publisher) = (Rng(seed), Publisher::new(seed));
        let disk = Disk::default();
        let mut life = Life::open(&disk).unwrap();
        for _ in 0..rng.below(12) {
            life.engine.stage(publisher.batch(), Asked::default());
            assert!(life.sync());
        }
        let durable = lock(&life.reader.0).held.len();
        life.engine.stage(publisher.batch(), Asked::default());
        if rng.percent(50) {
            disk.fail_next_sync(true);
        } else {
            disk.crash_at(disk.operations() + 1 + rng.below(8));
        }
        life.sync();
        drop(life);
        let killed = disk.after_kill();
        let next = Life::open(&killed).unwrap();
        let told = lock(&next.reader.0).held.clone();
        left += u64::from(told.len() > durable);
        for _ in 0..4 {
            let found = killed.after_crash(&mut rng);
            let again = Life::open(&found).unwrap();
            assert_eq!(again.recovered.damage, [], "seed {seed}");
            let held = lock(&again.reader.0).held.clone();
            assert!(held == told, "seed {seed}: told {:?}, and then {:?}", told.keys(), held.keys());
        }
    }
    assert!(left > 20, "{left} times something was left that nobody had been told of");
}

fn run(seed: u64, seen: &mut Seen) {
    let (mut rng, mut publisher) = (Rng(seed), Publisher::new(seed));
    let mut history = History {
        truth: BTreeMap::new(),
        stamps: BTreeMap::new(),
        now_ms: START_MS,
        acked: Vec::new(),
        applied: Vec::new(),
        head: 0,
        pending: Vec::new(),
        epoch: None,
    };
    let mut disk = Disk::default();
    disk.keep_moments();
    let mut life = Life::open_with(&disk, &options(seed)).unwrap();
    history.opened(&life);
    let mut is_new = false;
    for _ in 0..60 {
        let used = disk.files().iter().map(|(_, length)| *length as u64).sum::<u64>();
        match rng.below(10) {
            0 => disk.room(Some(used + rng.below(8) * 1_024)),
            5 | 6 if is_long(seed) => disk.room(Some(used)),
            7 if is_long(seed) => history.wait(&mut life, &mut publisher, &mut rng),
            1 | 2 => disk.room(None),
            3 | 4 => history.wait(&mut life, &mut publisher, &mut rng),
            _ => {}
        }
        // As the keeper does it: what is durable may not have been told yet when the next group is sealed, and more gathers
        // while that is on its way.
        if rng.percent(85) {
            history.publish(&mut life, &mut publisher, &mut rng);
        }
        let shown = shown(&life);
        let job = history.seal(&mut life, seen);
        if let Some(job) = job.as_ref().filter(|job| !job.is_release) {
            seen.went_on += u64::from(is_new && job.begin.is_none());
            is_new = false;
        }
        let goes_over = job.as_ref().and_then(|job| job.begin).filter(|begin| begin.may_cut);
        seen.went_over += u64::from(goes_over.is_some());
        if rng.percent(50) {
            settle(&mut history, &mut life, &disk, seen);
        }
        if job.is_some() && rng.percent(50) {
            history.publish(&mut life, &mut publisher, &mut rng);
            seen.overlaps += 1;
        }
        let free = disk.free_bytes().unwrap().unwrap_or(u64::MAX);
        let outcome = job.map(|job| (job.is_release, life.segments.run(&job)));
        seen.cut += u64::from(match &outcome {
            Some((_, Outcome::Full { was_cut, .. })) => *was_cut,
            Some((_, Outcome::Durable { begun })) => {
                goes_over.is_some() && begun.is_some_and(|bytes| bytes > free)
            }
            _ => false,
        });
        judge(disk.moments(), &history, &mut rng, seed, seen);
        assert_eq!(self::shown(&life), shown, "nobody is shown a head that is not durable");
        if let Some((is_release, outcome)) = outcome {
            seen.stuck += u64::from(is_release && matches!(outcome, Outcome::Full { .. }));
            life.engine.done(outcome);
            history.acknowledge(&life, seen);
        }
        if rng.percent(50) {
            settle(&mut history, &mut life, &disk, seen);
        }
        judge(disk.moments(), &history, &mut rng, seed, seen);
        if rng.percent(12) {
            (disk, life) = crash(&mut history, life, &disk, &mut publisher, &mut rng, seed, seen);
            is_new = true;
        }
    }
}

/// The head that anybody may know.
fn shown(life: &Life) -> Cursor {
    lock(&life.engine.visible()).head
}

/// Tells of what is durable, and takes away what is not needed.
fn settle(history: &mut History, life: &mut Life, disk: &Disk, seen: &mut Seen) {
    let left = life.engine.settle();
    history.acknowledge(life, seen);
    seen.segments_left += left.len() as u64;
    left.into_iter().for_each(|number| remove(&*life.segments.files(), number));
    let first = disk.files().into_iter().filter_map(|(name, _)| number(&name)).min();
    // What is on its way may have it taken away.
    if !life.engine.is_flying() {
        assert_eq!(first, life.engine.first_segment(), "what is not needed any more is taken away");
    }
}

/// The process or the machine stops at some operation of the next groups, and the log goes on from what it left.
fn crash(
    history: &mut History,
    mut life: Life,
    disk: &Disk,
    publisher: &mut Publisher,
    rng: &mut Rng,
    seed: u64,
    seen: &mut Seen,
) -> (Disk, Life) {
    history.publish(&mut life, publisher, rng);
    disk.crash_at(disk.operations() + 1 + rng.below(8));
    while let Some(job) = history.seal(&mut life, seen) {
        let outcome = life.segments.run(&job);
        life.engine.done(outcome);
    }
    // Unless it got further than the last group: then that is acknowledged, and the next operation is the last.
    life.engine.settle();
    history.acknowledge(&life, seen);
    seen.restarts += 1;
    let found = if rng.percent(50) { disk.after_kill() } else { disk.after_crash(rng) };
    found.keep_moments();
    let life = Life::open_with(&found, &options(seed)).unwrap();
    // The machine may stop while it is opened, too. Whoever was told of what it holds then finds it from then on.
    judge(found.moments(), history, rng, seed, seen);
    history.opened(&life);
    judge(vec![found.after_crash(rng)], history, rng, seed, seen);
    (found, life)
}

/// Looks at what a crash at each of these moments may leave. Returns one of them.
fn judge(moments: Vec<Disk>, history: &History, rng: &mut Rng, seed: u64, seen: &mut Seen) {
    for moment in moments {
        for _ in 0..2 {
            let found = moment.after_crash(rng);
            let life = match Life::open_with(&found, &options(seed)) {
                Ok(life) => life,
                Err(error) => panic!("seed {seed}: after a crash it does not open: {error}"),
            };
            history.check(&life, seed, seen);
            seen.states += 1;
        }
    }
}

fn positioned(batch: &Batch) -> impl Iterator<Item = (LogKind, Bytes)> {
    let items = batch.items.iter().filter(|item| !item.traits.has(Traits::EPHEMERAL));
    items.map(|item| (item.kind, item.event.clone()))
}
