//! Bytes that change, files that are cut, go missing or stray: always found and told, never left out in silence; and disks that
//! are full or fail.

use std::io::ErrorKind;

use galaxy_push_core::cursor::{Cursor, Epoch};

use super::super::OpenError;
use super::super::format::ENDING_BYTES;
use super::super::format::{CLOSED, GROUPS_START, SECTOR_BYTES, Sums};
use super::super::lock::lock;
use super::super::simulated::{Disk, Rng};
use super::world::{Asked, Life, Publisher, options};
use crate::{Batch, Error, Refused};

/// A log of some segments, and what a reader of it was told. It ended without a word, as when the machine stopped.
fn written(seed: u64) -> (Disk, Life) {
    let (disk, mut publisher) = (Disk::default(), Publisher::new(seed));
    let mut life = Life::open(&disk).unwrap();
    for _ in 0..25 {
        life.engine.stage(publisher.batch(), Asked::default());
        assert!(life.sync());
    }
    (disk, life)
}

/// Whoever reads the damaged log is told of each position that it is not sent, and is sent nothing that never was.
fn check_told(life: &Life, before: &Life, what: &str) {
    let (told, were) = (lock(&life.reader.0), lock(&before.reader.0));
    let base = told.base.unwrap();
    assert_eq!(base.epoch, were.base.unwrap().epoch, "{what}");
    for (seq, held) in were.held.range(base.seq.0 + 1..) {
        let in_gap = told.gaps.iter().any(|(from, to)| from < seq && seq <= to);
        match told.held.get(seq) {
            Some(same) => assert!(same == held && !in_gap, "{what}: {seq} has changed"),
            None => assert!(in_gap, "{what}: {seq} is left out in silence"),
        }
    }
    for seq in told.held.keys() {
        assert!(were.held.contains_key(seq), "{what}: {seq} never was");
    }
}

/// The faults: a life that begins with a segment of its own left no word of it in the one before. Without that segment the store
/// gave its positions to other events; without its head it did not open.
#[test]
fn the_first_segment_of_a_life_is_missed_like_any_other() {
    let mut options = options();
    // So that none of it leaves the window, and no segment goes.
    (options.window.events, options.window.bytes) = (1 << 20, 1 << 30);
    for is_gone in [true, false] {
        let disk = Disk::default();
        let mut publisher = Publisher::new(3);
        for _ in 0..2 {
            let last_before = disk.files().pop();
            let mut life = Life::open_with(&disk, &options).unwrap();
            // Its first group does not fit into what an earlier life has left.
            (0..6).for_each(|_| life.engine.stage(publisher.large_batch(), Asked::default()));
            assert!(life.sync());
            assert_ne!(disk.files().pop().map(|(name, _)| name), last_before.map(|(name, _)| name));
        }
        let before = Life::open_with(&disk.copy(), &options).unwrap();
        let seen = lock(&before.reader.0).held.last_key_value().map(|(seq, _)| *seq).unwrap();
        let (name, _) = disk.files().pop().unwrap();
        if is_gone {
            disk.lose(&name);
        } else {
            disk.change(&name, |bytes| bytes[..GROUPS_START as usize].fill(0xa5));
        }
        let life = Life::open_with(&disk, &options).unwrap();
        assert!(!life.recovered.damage.is_empty());
        check_told(&life, &before, &format!("gone: {is_gone}"));
        let next = lock(&life.engine.visible()).head.seq.0;
        assert!(next >= seen, "{next} was given up, and {seen} was given");
    }
}

/// The fault: a segment that is gone was taken to have been as long as one is made now, and positions beyond that were given twice.
#[test]
fn positions_in_a_lost_segment_are_given_up_however_long_it_was() {
    let (disk, mut publisher) = (Disk::default(), Publisher::new(5));
    let mut options = options();
    (options.window.events, options.window.bytes) = (1 << 20, 1 << 30);
    let shorter = options.clone();
    options.segment_bytes = 1 << 20;
    for (options, batches) in [(&shorter, 3), (&options, 600)] {
        let mut life = Life::open_with(&disk, options).unwrap();
        for _ in 0..batches {
            life.engine.stage(publisher.batch(), Asked::default());
        }
        assert!(life.sync());
    }
    let before = Life::open_with(&disk.copy(), &shorter).unwrap();
    let seen = lock(&before.engine.visible()).head.seq.0;
    disk.lose(&disk.files().pop().unwrap().0);
    let life = Life::open_with(&disk, &shorter).unwrap();
    let next = lock(&life.engine.visible()).head.seq.0;
    assert!(next >= seen, "{next} was given up, and {seen} was given");
}

/// The fault: a file with a number far off was told of as so many files that are missing, one by one, without end.
#[test]
fn segments_that_are_missing_one_behind_another_are_told_of_once() {
    let (disk, before) = written(7);
    let far = super::super::segments::name(9_999_999_999_999);
    super::super::files::Files::create(&disk, &far, 4_096).unwrap();
    disk.change(&far, |bytes| bytes.fill(0xa5));
    let life = Life::open(&disk).unwrap();
    assert!(life.recovered.damage.len() < 5, "{:?}", life.recovered.damage);
    check_told(&life, &before, "a stray file");
}

/// Each of 2,000 flipped bits, in heads, bodies and padding: found, or of no consequence because it lies where nothing is.
#[test]
fn every_flipped_bit_is_found() {
    let mut rng = Rng(1);
    let (mut gaps, mut refused) = (0, 0);
    for round in 0..8 {
        let (disk, before) = written(100 + round);
        let files: Vec<_> = disk.files().into_iter().collect();
        for _ in 0..250 {
            let copy = disk.copy();
            let (name, length) = &files[rng.below(files.len() as u64) as usize];
            let (mut at, mut is_used) = (0, false);
            copy.change(name, |bytes| {
                // Where something is: the log's end, and the rest of a head's sector, are zeros.
                while !is_used {
                    at = rng.below(*length as u64) as usize;
                    is_used =
                        bytes[at / 64 * 64..(at / 64 * 64 + 64).min(*length)].iter().any(|byte| *byte != 0);
                }
                bytes[at] ^= 1 << rng.below(8);
            });
            let what = format!("round {round}, {name} at {at}");
            match Life::open(&copy) {
                Ok(life) => {
                    check_told(&life, &before, &what);
                    // A copy of a segment's head, or the word that a segment has ended, may go: all else is still there.
                    let found = !life.recovered.damage.is_empty();
                    let of_no_consequence =
                        at < GROUPS_START as usize || at + ENDING_BYTES as usize >= *length;
                    assert!(found || of_no_consequence, "{what}: not found");
                    assert!(found || life.standing() == before.standing(), "{what}");
                    gaps += u64::from(!lock(&life.reader.0).gaps.is_empty());
                }
                Err(error) => {
                    assert!(
                        matches!(error, OpenError::Unreadable { .. } | OpenError::Version { .. }),
                        "{what}: {error}"
                    );
                    refused += 1;
                }
            }
        }
    }
    assert!(gaps > 1_000 && refused < 20, "{gaps} gaps, {refused} refused");
}

#[test]
fn a_sector_that_reads_as_another_is_found() {
    let mut rng = Rng(2);
    for round in 0..40 {
        let (disk, before) = written(200 + round);
        let files = disk.files();
        let (name, length) = &files[rng.below(files.len() as u64) as usize];
        let sectors = (*length / SECTOR_BYTES) as u64;
        let (from, to) = (2 + rng.below(sectors - 2) as usize, 2 + rng.below(sectors - 2) as usize);
        // A write that went astray: it lies where it should not, and is missing where it should.
        disk.change(name, |bytes| {
            let sector = bytes[from * SECTOR_BYTES..(from + 1) * SECTOR_BYTES].to_vec();
            bytes[to * SECTOR_BYTES..(to + 1) * SECTOR_BYTES].copy_from_slice(&sector);
        });
        let what = format!("round {round}, {name} from sector {from} to {to}");
        check_told(&Life::open(&disk).unwrap(), &before, &what);
    }
}

/// Each segment's head is there twice, in sectors of their own: one of them may go, and nothing is lost, or told as lost. But it is
/// said, for the other one may go too; and whoever goes on with the log mends it.
#[test]
fn one_copy_of_a_head_is_enough_and_the_other_is_mended() {
    let (disk, before) = written(250);
    for (name, _) in disk.files() {
        for copy in [0, SECTOR_BYTES] {
            let changed = disk.copy();
            changed.change(&name, |bytes| bytes[copy..copy + SECTOR_BYTES].fill(0));
            let life = Life::open(&changed).unwrap();
            assert_eq!(life.recovered.damage, [], "{name}, the copy at {copy}");
            let [worn] = &*life.recovered.worn else { panic!("{name} at {copy}: {:?}", life.recovered.worn) };
            let range = copy as u64..(copy + SECTOR_BYTES) as u64;
            assert_eq!((&worn.file, worn.bytes.clone(), worn.lost), (&name, Some(range), None));
            check_told(&life, &before, &name);
            let again = Life::open(&changed.after_crash(&mut Rng(1))).unwrap();
            assert_eq!(again.recovered.worn, [], "{name}: it was mended, durably");
            assert_eq!(changed.files(), disk.files());
        }
    }
}

/// A machine that stops while a segment is begun may leave one copy of its head. That is nothing to tell anybody.
#[test]
fn a_head_that_was_being_written_is_not_worn() {
    let (disk, before) = (Disk::default(), Life::open(&Disk::default()).unwrap());
    let head = before.engine.segment();
    drop(Life::open(&disk).unwrap());
    let (name, _) = disk.files().pop().unwrap();
    assert_eq!(super::super::segments::name(head), name);
    disk.change(&name, |bytes| bytes[SECTOR_BYTES..2 * SECTOR_BYTES].fill(0));
    let life = Life::open(&disk).unwrap();
    assert_eq!((&*life.recovered.worn, &*life.recovered.damage), (&[][..], &[][..]));
}

/// The last group was written elsewhere: where it should lie nothing lies, as if the log ended there.
#[test]
fn a_last_group_that_went_astray_is_found() {
    let (disk, before) = written(260);
    let (name, _) = disk.files().pop().unwrap();
    let mut is_there = false;
    disk.change(&name, |bytes| {
        let end = before.engine.end_offset() as usize;
        let mut starts = (GROUPS_START as usize..end).step_by(64);
        let at = starts.rfind(|at| bytes[*at..].starts_with(b"GPgr")).unwrap();
        let group = bytes[at..end].to_vec();
        bytes[at..end].fill(0);
        is_there = end + 640 + group.len() <= bytes.len();
        if is_there {
            bytes[end + 640..end + 640 + group.len()].copy_from_slice(&group);
        }
    });
    assert!(is_there, "choose a seed whose last segment has room");
    let life = Life::open(&disk).unwrap();
    check_told(&life, &before, "astray");
    assert!(!life.recovered.damage.is_empty());
}

/// Who knows the epoch, which every reader does, cannot make up bytes that look like a group.
#[test]
fn sums_depend_on_what_no_reader_is_told() {
    let of = |epoch, salt| Sums::new(Epoch(epoch), salt).of(b"group");
    assert!(of(1, 1) != of(1, 2) && of(1, 1) != of(2, 1));
}

#[test]
fn missing_and_cut_files_are_told() {
    for round in 0..20 {
        let (disk, before) = written(300 + round);
        for (name, length) in disk.files() {
            let copy = disk.copy();
            copy.lose(&name);
            let life = Life::open(&copy).unwrap();
            check_told(&life, &before, &format!("{name} is missing"));
            assert!(!life.recovered.damage.is_empty(), "{name} is missing, and nobody says so");
            let copy = disk.copy();
            copy.change(&name, |bytes| bytes.truncate((length / 2).max(GROUPS_START as usize)));
            let life = Life::open(&copy).unwrap();
            check_told(&life, &before, &format!("{name} is cut"));
            assert!(!life.recovered.damage.is_empty(), "{name} is cut, and nobody says so");
        }
    }
}

/// What was told as damaged stays so, and what comes after it gets positions that nobody ever saw.
#[test]
fn a_log_goes_on_behind_what_is_damaged() {
    let (disk, before) = written(400);
    let (name, _) = disk.files().pop().unwrap();
    disk.change(&name, |bytes| bytes[GROUPS_START as usize + 20] ^= 1);
    let mut life = Life::open(&disk).unwrap();
    let head = before.engine.visible();
    let seen = lock(&head).head;
    let reply = Asked::default();
    life.engine.stage(Publisher::new(401).batch_of_one(), reply.clone());
    assert!(life.sync());
    let appended = reply.answer().unwrap().unwrap()[0].cursor.unwrap();
    assert!(appended.follows(seen), "{appended} may have been seen: the head was {seen}");
    let gaps = lock(&life.reader.0).gaps.clone();
    drop(life);
    let again = Life::open(&disk).unwrap();
    assert_eq!(lock(&again.reader.0).gaps, gaps, "the same gap in every life");
    check_told_with(&again, appended);
}

/// What was written last is damaged, and behind it lies nothing that says how much that was: the word that the store was closed, or
/// a group that was being written when the machine stopped.
#[test]
fn what_is_damaged_before_the_very_end_is_told() {
    for seed in 700..740 {
        let (disk, mut before) = written(seed);
        let seen = lock(&before.engine.visible()).head;
        let (name, _) = disk.files().pop().unwrap();
        let last = before.engine.end_offset() as usize;
        if seed % 2 == 0 {
            before.segments.end(before.engine.end_offset(), CLOSED).unwrap();
        } else {
            disk.crash_at(disk.operations() + 1);
            before.engine.stage(Publisher::new(seed + 100).large_batch(), Asked::default());
            before.sync();
        }
        let copy = disk.copy();
        copy.change(&name, |bytes| bytes[last - 1] ^= 1);
        let mut life = Life::open(&copy).unwrap();
        check_told(&life, &before, &format!("seed {seed}"));
        assert!(!life.recovered.damage.is_empty(), "seed {seed}: nobody says so");
        let reply = Asked::default();
        life.engine.stage(Publisher::new(seed + 200).batch_of_one(), reply.clone());
        assert!(life.sync());
        let appended = reply.answer().unwrap().unwrap()[0].cursor.unwrap();
        assert!(appended.follows(seen), "seed {seed}: {appended} may have been seen: the head was {seen}");
    }
}

/// The machine stopped when the next segment was begun and nothing was in it yet: only its head says how far the log had come.
#[test]
fn what_is_damaged_before_a_segment_without_groups_is_told() {
    let (disk, mut before) = written(750);
    let mut publisher = Publisher::new(751);
    let head = loop {
        before.engine.stage(publisher.large_batch(), Asked::default());
        let job = before.engine.seal().unwrap();
        if let Some(head) = job.begin {
            break head;
        }
        let outcome = before.segments.run(&job);
        before.engine.done(outcome);
        before.engine.settle();
    };
    let seen = lock(&before.engine.visible()).head;
    let last = before.engine.end_offset() as usize;
    let (name, _) = disk.files().pop().unwrap();
    before.segments.begin(&head.head).unwrap();
    disk.change(&name, |bytes| bytes[last - 1] ^= 1);
    let mut life = Life::open(&disk).unwrap();
    check_told(&life, &before, "the last group");
    let reply = Asked::default();
    life.engine.stage(Publisher::new(752).batch_of_one(), reply.clone());
    assert!(life.sync());
    let appended = reply.answer().unwrap().unwrap()[0].cursor.unwrap();
    assert!(appended.follows(seen), "{appended} may have been seen: the head was {seen}");
}

fn check_told_with(life: &Life, last: Cursor) {
    assert_eq!(lock(&life.reader.0).held.keys().last(), Some(&last.seq.0));
}

/// Refused, nothing of it appended; and as soon as there is room it goes on, without another word.
#[test]
fn a_full_disk_refuses_and_goes_on() {
    let (disk, mut publisher) = (Disk::default(), Publisher::new(500));
    let mut life = Life::open(&disk).unwrap();
    let (mut refused, mut acked) = (0, Vec::new());
    for round in 0..300 {
        let used: usize = disk.files().iter().map(|(_, length)| length).sum();
        disk.room(if round % 30 < 12 { Some(used as u64) } else { None });
        let (batch, reply) = (publisher.batch(), Asked::default());
        life.engine.stage(batch.clone(), reply.clone());
        assert!(life.sync());
        match reply.answer() {
            Some(Ok(results)) => acked.push((batch, results)),
            Some(Err(Error::Refused(Refused::Unavailable(why)))) => {
                assert!(why.contains("full"), "{why}");
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(refused > 5 && acked.len() > 200, "{refused} {}", acked.len());
    let held = lock(&life.reader.0).held.clone();
    drop(life);
    let again = Life::open(&disk).unwrap();
    assert_eq!(again.recovered.damage, []);
    let told = lock(&again.reader.0);
    assert!(told.held.iter().all(|(seq, entry)| held.get(seq) == Some(entry)));
    assert_eq!(told.held.keys().last(), held.keys().last());
}

/// At whichever operation, write or sync: what was on its way is unknown, what comes after refused, no sync asked for again, and
/// the next life finds everything acknowledged.
#[test]
fn after_a_failure_nothing_is_acknowledged() {
    for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
        for operation in 4..60 {
            let (disk, mut publisher) = (Disk::default(), Publisher::new(600));
            let mut life = Life::open(&disk).unwrap();
            disk.fail_at(operation, kind);
            let (mut unknown, mut acked_after) = (0, 0);
            for _ in 0..40 {
                let reply = Asked::default();
                life.engine.stage(publisher.batch(), reply.clone());
                life.sync();
                match reply.answer() {
                    Some(Ok(_)) => acked_after += u64::from(unknown > 0),
                    Some(Err(Error::Unknown(_))) => unknown += 1,
                    Some(Err(Error::Refused(_))) => {}
                    None => panic!("everybody gets an answer"),
                }
            }
            let what = format!("{kind:?} at {operation}");
            assert_eq!((acked_after, disk.syncs_after_failure()), (0, 0), "{what}");
            assert!(unknown <= 1 && life.engine.dead().is_some() == (unknown > 0), "{what}");
            let held = lock(&life.reader.0).held.clone();
            let found = disk.copy();
            let again = Life::open(&found).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(again.recovered.damage, [], "{what}");
            let told = lock(&again.reader.0);
            let base = told.base.unwrap().seq.0;
            for (seq, entry) in held.range(base + 1..) {
                assert_eq!(told.held.get(seq), Some(entry), "{what}");
            }
        }
    }
}

impl Publisher {
    /// Too large for a sector, and for no segment.
    fn large_batch(&mut self) -> Batch {
        self.skip_ids(20_000);
        loop {
            let batch = self.batch();
            let bytes: usize = batch.items.iter().map(|item| item.event.len()).sum();
            if (700..3_000).contains(&bytes) {
                return batch;
            }
        }
    }

    pub(super) fn batch_of_one(&mut self) -> Batch {
        self.skip_ids(10_000);
        loop {
            let batch = self.batch();
            let is_event = batch.items.len() == 1 && batch.items[0].change.is_none();
            if is_event && batch.items[0].traits == galaxy_push_core::window::Traits::PLAIN {
                return batch;
            }
        }
    }
}
