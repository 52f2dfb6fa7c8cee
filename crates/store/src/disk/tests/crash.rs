//! A machine that stops after any operation, and what the disk holds then: whatever was acknowledged is there, whatever was
//! delivered has not changed, what was under way is there as a whole or not at all, and no gap is told.
//!
//! A slice of the states in each test run; `cargo xtask crash-long` looks at many more.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use galaxy_push_core::cursor::Cursor;
use galaxy_push_core::frame::LogKind;
use galaxy_push_core::window::Traits;

use super::super::Options;
use super::super::engine::lock;
use super::super::files::Files as _;
use super::super::segments::{Job, Outcome, number, remove};
use super::super::simulated::{Disk, Rng};
use super::world::{self, Asked, Life, Publisher, START_MS};
use crate::{Appended, Batch, Error, Standing};

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

/// Everything that anybody was told.
struct History {
    /// What lies at each position, for ever.
    truth: BTreeMap<u64, (LogKind, Bytes)>,
    /// When each was stamped, and how late it is.
    stamps: BTreeMap<u64, u64>,
    now_ms: u64,
    acked: Vec<(Batch, Vec<Appended>)>,
    /// What is in the log, acknowledged or not, in its order.
    applied: Vec<Batch>,
    head: u64,
    /// Under way, in their order; the last one may be gathering.
    pending: Vec<Group>,
    epoch: Option<Cursor>,
}

/// What is made durable together.
#[derive(Default)]
struct Group {
    batches: Vec<(Batch, Asked)>,
    /// It was handed to the disk, or is about to be.
    sealed: bool,
}

impl Group {
    fn is_refused(&self) -> bool {
        self.batches.iter().all(|(_, reply)| matches!(reply.answer(), Some(Err(Error::Refused(_)))))
    }
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

impl History {
    /// Something new, into the group that gathers.
    fn publish(&mut self, life: &mut Life, publisher: &mut Publisher, rng: &mut Rng) {
        if self.pending.last().is_none_or(|group| group.sealed) {
            self.pending.push(Group::default());
        }
        for _ in 0..=rng.below(3) {
            let (batch, reply) = (publisher.batch(), Asked::default());
            self.now_ms = publisher.now_ms;
            life.engine.stage(batch.clone(), reply.clone());
            self.pending.last_mut().unwrap().batches.push((batch, reply));
        }
    }

    /// Nothing comes for a while.
    fn wait(&mut self, life: &mut Life, publisher: &mut Publisher, rng: &mut Rng) {
        publisher.now_ms += rng.below(8_000);
        self.now_ms = publisher.now_ms;
        life.age(publisher.now_ms);
    }

    fn seal(&mut self, life: &mut Life, seen: &mut Seen) -> Option<Job> {
        let job = life.engine.seal();
        let gathers = life.engine.gathering_bytes().is_some();
        if !gathers {
            self.pending.iter_mut().for_each(|group| group.sealed = true);
        }
        if job.as_ref().is_some_and(|job| job.is_release) {
            seen.releases += 1;
            seen.overtaken += u64::from(gathers);
        }
        self.acknowledge(life, seen);
        job
    }

    /// Takes the answers that have come: group by group, in order, and never an answer but that it is there.
    fn acknowledge(&mut self, life: &Life, seen: &mut Seen) {
        let under_way = self.pending.len();
        // Whatever is before them, they are in the log neither now nor ever.
        self.pending.retain(|group| !group.is_refused());
        seen.refused += (under_way - self.pending.len()) as u64;
        while let Some(group) = self.pending.first() {
            let answers: Vec<_> = group.batches.iter().map(|(_, reply)| reply.answer()).collect();
            if answers.iter().all(Option::is_none) || answers.iter().flatten().any(Result::is_err) {
                break;
            }
            let group = self.pending.remove(0);
            for ((batch, _), answer) in group.batches.into_iter().zip(answers) {
                let Some(Ok(results)) = answer else { panic!("a group is acknowledged as a whole") };
                for ((kind, event), cursor) in
                    positioned(&batch).zip(results.iter().filter_map(|result| result.cursor))
                {
                    self.told(cursor.seq.0, kind, &event);
                    self.stamps.insert(cursor.seq.0, batch.stamp_unix_ms);
                    self.head = cursor.seq.0;
                }
                self.applied.push(batch.clone());
                self.acked.push((batch, results));
            }
        }
        let told = lock(&life.reader.0);
        // All of it may have left the window.
        let base = told.base.map(|base| base.seq.0);
        let last = told.held.last_key_value().map(|(seq, _)| *seq).or(base);
        assert_eq!(last, Some(self.head));
    }

    fn told(&mut self, seq: u64, kind: LogKind, event: &Bytes) {
        let before = self.truth.insert(seq, (kind, event.clone()));
        assert!(
            before.is_none_or(|before| before == (kind, event.clone())),
            "{seq} names one payload for ever"
        );
    }

    /// The log goes on from here: what had landed is told now.
    fn opened(&mut self, life: &Life) {
        let landed = self.landed(life);
        let stamps = self.there(landed).flat_map(|batch| positioned(batch).map(|_| batch.stamp_unix_ms));
        let stamps: Vec<_> = (self.head + 1..).zip(stamps).collect();
        self.stamps.extend(stamps);
        let told = lock(&life.reader.0);
        self.epoch = self.epoch.or(told.base);
        let base = told.base.map_or(0, |base| base.seq.0);
        let held: Vec<_> = told.held.iter().map(|(seq, held)| (*seq, held.clone())).collect();
        drop(told);
        for (seq, (kind, event)) in held {
            self.told(seq, kind, &event);
            self.head = self.head.max(seq);
        }
        self.head = self.head.max(base);
        let under_way = std::mem::take(&mut self.pending).into_iter().take(landed);
        self.applied.extend(under_way.flat_map(|group| group.batches).map(|(batch, _)| batch));
    }

    /// How many of the groups under way are there: one only with all before it.
    fn landed(&self, life: &Life) -> usize {
        let told = lock(&life.reader.0);
        let head = told.held.last_key_value().map(|(seq, _)| *seq).or(told.base.map(|base| base.seq.0));
        let beyond = head.unwrap_or_default().saturating_sub(self.head);
        let mut ends = vec![0];
        for group in self.pending.iter().filter(|group| group.sealed) {
            let count = group.batches.iter().flat_map(|(batch, _)| positioned(batch)).count() as u64;
            ends.push(ends.last().unwrap() + count);
        }
        let landed = ends.iter().rposition(|end| *end == beyond);
        landed.unwrap_or_else(|| panic!("{beyond} of {ends:?} are there: all of a group or nothing"))
    }

    /// What of the groups under way is there.
    fn there(&self, landed: usize) -> impl Iterator<Item = &Batch> {
        self.pending.iter().take(landed).flat_map(|group| &group.batches).map(|(batch, _)| batch)
    }

    fn check(&self, life: &Life, seed: u64, seen: &mut Seen) {
        assert_eq!(life.recovered.damage, [], "seed {seed}: a crash damages nothing");
        let landed = self.landed(life);
        let told = lock(&life.reader.0);
        assert_eq!(told.gaps, [], "seed {seed}");
        let base = told.base.unwrap();
        if let Some(before) = self.epoch {
            assert_eq!(base.epoch, before.epoch, "seed {seed}: the epoch goes on");
        }
        // Everything the window holds, by any of its bounds, is there, and is what it was.
        let window = options(seed).window;
        let there: Vec<_> = self.there(landed).flat_map(positioned).collect();
        let mut bytes = there.iter().map(|(_, event)| event.len() as u64 + 100).sum::<u64>();
        for (events, (seq, (kind, event))) in (there.len()..).zip(self.truth.iter().rev()) {
            bytes += event.len() as u64 + 100;
            if *seq <= base.seq.0 {
                let age_ms = self.now_ms - self.stamps[seq];
                let is_too_old = u128::from(age_ms) > window.age.as_millis();
                let held = events as u64 >= window.events || bytes > window.bytes || is_too_old;
                assert!(held, "seed {seed}: {seq} is gone, and the window holds it");
                break;
            }
            assert_eq!(told.held.get(seq), Some(&(*kind, event.clone())), "seed {seed}: {seq} has changed");
        }
        // What is there may have left the window before anybody was told of it.
        let (left, behind) = there.split_at(there.len().min(base.seq.0.saturating_sub(self.head) as usize));
        let beyond = told.held.range(self.head + 1..).map(|(_, held)| held.clone());
        assert_eq!(beyond.collect::<Vec<_>>(), behind, "seed {seed}");
        if let Some(last) = left.last() {
            let bytes = behind.iter().chain([last]).map(|(_, event)| event.len() as u64 + 100).sum::<u64>();
            let stamps = self.there(landed).flat_map(|batch| positioned(batch).map(|_| batch.stamp_unix_ms));
            let age_ms = stamps.take(left.len()).last().map_or(0, |stamp| self.now_ms - stamp);
            let is_too_old = u128::from(age_ms) > window.age.as_millis();
            let held = behind.len() as u64 >= window.events || bytes > window.bytes || is_too_old;
            assert!(held, "seed {seed}: what was under way is gone, and the window holds it");
            seen.left_untold += 1;
        }
        drop(told);
        self.check_standing(life, landed, seed);
        self.check_keys(life, seed, seen);
        seen.torn += u64::from(life.recovered.torn);
        let counts = if landed > 0 { &mut seen.landed } else { &mut seen.lost };
        *counts += u64::from(!self.pending.is_empty());
    }

    fn check_standing(&self, life: &Life, landed: usize, seed: u64) {
        let mut expected = Standing::new(crate::standing::RECORDS_MAX);
        for batch in self.applied.iter().chain(self.there(landed)) {
            for change in batch.items.iter().filter_map(|item| item.change.as_ref()) {
                expected.apply(change, batch.publisher.as_ref(), batch.now.unix_ms);
            }
        }
        let mut page = expected.page(None, usize::MAX, 0, START_MS);
        assert_eq!(life.standing(), std::mem::take(&mut page.records), "seed {seed}: what holds");
    }

    /// Everything published within the age is recognised, with its position.
    fn check_keys(&self, life: &Life, seed: u64, seen: &mut Seen) {
        let visible = life.engine.visible();
        let mut visible = lock(&visible);
        let now = visible.now;
        let base = lock(&life.reader.0).base.unwrap();
        let stamped = self.applied.iter().filter(|batch| positioned(batch).next().is_some());
        let stamped_ms = stamped.map(|batch| batch.stamp_unix_ms).max().unwrap_or_default();
        let told_ms = lock(&life.reader.0).stamped_until_ms;
        assert!(
            now.as_millis() as u64 >= stamped_ms && told_ms >= stamped_ms,
            "seed {seed}: the clock goes on"
        );
        for (batch, results) in &self.acked {
            let age = now.saturating_sub(Duration::from_millis(batch.stamp_unix_ms));
            let is_remembered = age <= options(seed).dedup.age;
            for (item, result) in batch.items.iter().zip(results) {
                let Some((key, content)) = &item.key else { continue };
                let known = visible.published.get(key, now);
                let expected = (*content, result.cursor.map(|cursor| cursor.seq));
                let expected = is_remembered.then_some(expected);
                assert_eq!(known, expected, "seed {seed}: {key:?}, {age:?} old");
                seen.too_old += u64::from(!is_remembered);
                let has_left = result.cursor.is_some_and(|cursor| base.follows(cursor));
                seen.carried += u64::from(is_remembered && has_left);
            }
        }
    }
}
