//! Segments that the window has left go although nothing is published, and also where there is no room: what counts in them is
//! carried forward first, and nothing goes before that is durable.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use galaxy_push_core::Now;
use galaxy_push_core::cursor::Epoch;
use galaxy_push_core::window::Bounds;
use galaxy_push_proto::v1;
use tokio::time::{sleep, timeout};

use super::super::format::{CLOSED, SECTOR_BYTES};
use super::super::lock::lock;
use super::super::segments::{Outcome, remove};
use super::super::simulated::{Disk, Rng};
use super::super::space::most_bytes;
use super::super::{DiskStore, Options};
use super::world::{Asked, LONG, Life, Reader, START_MS, append, at, event_of, publish, released};
use crate::{Appended, Batch, Store as _};

const AGE: Duration = Duration::from_secs(100);

/// Events leave by their age alone, unless bounds are made smaller.
fn options() -> Options {
    let mut options = Options::of(Bounds { age: AGE, events: 1_000_000, bytes: 1 << 30 });
    options.segment_bytes = 8 << 10;
    options.dedup.age = Duration::from_secs(60);
    options
}

fn unix_ms(seconds: u64) -> u64 {
    START_MS + 1_000 * seconds
}

fn event(id: &str, seconds: u64) -> v1::Event {
    event_of(id, if seconds == 0 { 1_000 } else { 100 })
}

/// One event, which is large in the beginning.
fn batch(id: &str, seconds: u64) -> Batch {
    Batch::encode(&[event(id, seconds)], &"p".into(), at(seconds))
}

/// One of a log that fills, each event a millisecond later.
fn filling(number: u64) -> Batch {
    let now = Now { mono: Duration::from_millis(number), unix_ms: START_MS + number };
    Batch::encode(&[event(&number.to_string(), 0)], &"p".into(), now)
}

/// A membership of 600 bytes.
fn member(number: u64, seconds: u64) -> Batch {
    let record = v1::Membership {
        recipient: format!("user:{number}"),
        topic: "t".repeat(580),
        member: true,
        expires_at: None,
    };
    Batch::memberships(&[record], at(seconds))
}

fn segments(disk: &Disk) -> usize {
    disk.files().len()
}

fn used(disk: &Disk) -> u64 {
    disk.files().iter().map(|(_, length)| *length as u64).sum()
}

/// Whether it was published before.
fn is_known(life: &mut Life, batch: Batch) -> bool {
    append(life, batch).unwrap()[0].duplicate
}

/// A log of five segments and some more.
fn written(disk: &Disk, options: &Options) -> Life {
    let mut life = Life::open_with(disk, options).unwrap();
    for number in 0..26 {
        append(&mut life, filling(number)).unwrap();
    }
    assert!(segments(disk) > 5, "{}", segments(disk));
    life
}

fn open(disk: &Disk, options: &Options) -> DiskStore {
    DiskStore::open_simulated(disk, options.clone(), Epoch(77), 99, Arc::new(Reader::default())).unwrap()
}

/// Waits until the log has so few segments.
async fn shrinks(disk: &Disk, to: usize) {
    let shrinks = async {
        while segments(disk) > to {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let shrinks = timeout(LONG, shrinks).await;
    assert!(shrinks.is_ok(), "{} segments stay, and {to} are needed", segments(disk));
}

async fn fill(store: &DiskStore) {
    for number in 0..26 {
        publish(store, filling(number)).await.unwrap();
    }
}

/// The fault: it kept its disk for ever.
#[tokio::test(start_paused = true)]
async fn an_idle_log_gives_its_disk_back() {
    let disk = Disk::default();
    let store = open(&disk, &options());
    fill(&store).await;
    let (many, bytes) = (segments(&disk), store.figures().disk_bytes);
    store.trim(AGE);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(segments(&disk), many, "what is as old as the window holds is needed");
    store.trim(AGE + Duration::from_secs(1));
    shrinks(&disk, 1).await;
    sleep(Duration::from_secs(1)).await;
    assert!(store.figures().disk_bytes < bytes / 4, "{}", store.figures().disk_bytes);
    drop(store);
    let next = Life::open_with(&disk.copy(), &options()).unwrap();
    assert_eq!((next.recovered.damage.len(), next.recovered.torn), (0, false));
}

/// Of which nothing is in the window; but the keys take room.
#[tokio::test(start_paused = true)]
async fn a_log_of_what_is_for_live_readers_only_gives_its_disk_back() {
    let disk = Disk::default();
    let store = open(&disk, &options());
    for id in 0..60 {
        let event = v1::Event { ephemeral: true, source: "s".repeat(1_000), ..event(&id.to_string(), 0) };
        publish(&store, Batch::encode(&[event], &"p".into(), at(0))).await.unwrap();
    }
    assert!(segments(&disk) > 3);
    store.trim(AGE + Duration::from_secs(1));
    shrinks(&disk, 1).await;
}

/// The fault: smaller bounds gave nothing back before the next publish.
#[tokio::test(start_paused = true)]
async fn a_restart_with_smaller_bounds_gives_disk_back_without_a_publish() {
    let (disk, mut smaller) = (Disk::default(), options());
    let store = open(&disk, &smaller);
    fill(&store).await;
    drop(store);
    released(&disk).await;
    smaller.window.bytes = 1;
    // Not one byte is free.
    disk.fill(false);
    let store = open(&disk, &smaller);
    store.trim(Duration::from_secs(5));
    shrinks(&disk, 1).await;
    drop(store);
    released(&disk).await;
    let next = Life::open_with(&disk.copy(), &options()).unwrap();
    assert_eq!((next.recovered.damage.len(), next.recovered.torn), (0, false));
}

/// Nobody knows how late it is then, but that time passes.
#[tokio::test(start_paused = true)]
async fn a_log_that_is_opened_and_stays_idle_gives_its_disk_back() {
    let disk = Disk::default();
    let store = open(&disk, &options());
    fill(&store).await;
    drop(store);
    released(&disk).await;
    let store = open(&disk, &options());
    let many = segments(&disk);
    store.trim(Duration::from_secs(7_000));
    store.trim(Duration::from_secs(6_999) + AGE);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(segments(&disk), many, "all of it may still be in the window");
    store.trim(Duration::from_secs(7_001) + AGE);
    shrinks(&disk, 1).await;
}

/// The fault: it stayed full although all that filled it had left the window.
#[tokio::test(start_paused = true)]
async fn a_full_disk_whose_events_are_too_old_takes_events_again() {
    let disk = Disk::default();
    let store = open(&disk, &options());
    fill(&store).await;
    // Not one byte is free from here on, and what the last segment has left gets used up.
    disk.fill(false);
    let mut refused = 100;
    while publish(&store, batch(&refused.to_string(), 0)).await.is_ok() {
        refused += 1;
    }
    assert!(store.figures().is_full);
    assert!(publish(&store, batch("again", 50)).await.is_err());
    store.trim(AGE + Duration::from_secs(1));
    shrinks(&disk, 1).await;
    sleep(Duration::from_secs(1)).await;
    assert!(!store.figures().is_full, "something was written");
    publish(&store, batch("again", 102)).await.unwrap();
    assert!(!store.figures().is_full && disk.is_full());
}

/// Smaller bounds take hold with the first publish, though nobody has said how late it is, and not one byte is free.
#[test]
fn a_full_disk_under_smaller_bounds_takes_events() {
    let disk = Disk::default();
    let mut options = options();
    let mut life = written(&disk, &options);
    disk.fill(false);
    let mut number = 100;
    while append(&mut life, batch(&number.to_string(), 0)).is_ok() {
        number += 1;
    }
    let oldest = life.engine.first_segment();
    drop(life);
    options.window.bytes = 6_000;
    let mut life = Life::open_with(&disk, &options).unwrap();
    for id in 0..50 {
        append(&mut life, batch(&format!("next {id}"), 1)).unwrap();
    }
    assert!(life.engine.first_segment() > oldest);
}

/// In an order that nothing but the disk decides: what is freed is freed before the next group asks for it.
#[test]
fn what_gathers_behind_a_segment_that_goes_finds_its_room() {
    let disk = Disk::default();
    let mut life = written(&disk, &options());
    disk.fill(false);
    let mut number = 100;
    while append(&mut life, batch(&number.to_string(), 0)).is_ok() {
        number += 1;
    }
    life.age(unix_ms(101));
    // Large, so that it needs a segment of its own.
    let reply = Asked::default();
    life.engine.stage(batch("large", 0), reply.clone());
    let mut releases = 0;
    while let Some(job) = life.engine.seal() {
        releases += u64::from(job.is_release);
        let outcome = life.segments.run(&job);
        assert!(matches!(outcome, Outcome::Durable { .. }), "{outcome:?}");
        // Nobody takes anything away meanwhile.
        life.engine.done(outcome);
    }
    life.engine.settle();
    assert!(releases >= 5 && reply.answer().unwrap().is_ok());
}

/// What is carried is larger than what each segment keeps for it: then it takes a segment of its own, no longer than it must be.
#[test]
fn what_does_not_fit_the_reserve_takes_as_little_as_it_can() {
    let (disk, mut options) = (Disk::default(), options());
    options.segment_bytes = 64 << 10;
    let mut life = Life::open_with(&disk, &options).unwrap();
    for number in 0..200 {
        append(&mut life, member(number, 0)).unwrap();
    }
    let standing = life.standing();
    assert_eq!(standing.len(), 200);
    disk.fill(false);
    let mut number = 100;
    while append(&mut life, batch(&number.to_string(), 0)).is_ok() {
        number += 1;
    }
    let (full, oldest) = (used(&disk), life.engine.first_segment());
    // There is nothing for it, and no publisher is told so.
    life.age(unix_ms(101));
    assert!(life.sync());
    assert_eq!((life.engine.first_segment(), used(&disk)), (oldest, full));
    // Less than a segment is free, and enough for what one holds: it takes no more than there is, and gives back more than that.
    let free = 60 << 10;
    disk.room(Some(full + free));
    life.age(unix_ms(102));
    assert!(life.sync());
    assert!(life.engine.first_segment() > oldest.map(|oldest| oldest + 1));
    disk.room(None);
    assert_eq!(life.standing(), standing);
    drop(life);
    let next = Life::open_with(&disk, &options).unwrap();
    assert_eq!((next.standing(), next.recovered.damage.len()), (standing, 0));
}

/// A disk that has some room, and not for a whole segment, takes events as long as it has any.
#[test]
fn a_segment_is_as_long_as_there_is_room_for() {
    let (disk, mut options) = (Disk::default(), options());
    options.segment_bytes = 256 << 10;
    let mut life = Life::open_with(&disk, &options).unwrap();
    append(&mut life, batch("first", 0)).unwrap();
    let full = used(&disk);
    disk.room(Some(full + (100 << 10)));
    let mut taken = 0;
    for number in 0..1_000 {
        match append(&mut life, batch(&format!("more {number}"), 0)) {
            Ok(_) => taken += 1,
            Err(_) => break,
        }
        let bytes = used(&disk);
        assert!(bytes <= full + (100 << 10) && life.engine.disk_bytes() == bytes);
    }
    assert!(taken > 250 && segments(&disk) < 8, "{taken} events, {} segments", segments(&disk));
    disk.room(None);
    let before = life.reader.clone();
    drop(life);
    let next = Life::open_with(&disk, &options).unwrap();
    assert_eq!(next.recovered.damage, []);
    assert_eq!(lock(&next.reader.0).held, lock(&before.0).held);
}

/// What gathers has no place in the log yet: it may come to nothing, and is then no repetition of anything.
#[test]
fn what_only_gathers_is_not_carried() {
    for ephemeral in [false, true] {
        let (disk, mut options) = (Disk::default(), options());
        options.dedup.age = Duration::from_secs(1_000);
        let mut life = Life::open_with(&disk, &options).unwrap();
        (0..26).for_each(|id| _ = append(&mut life, batch(&id.to_string(), 0)).unwrap());
        // By the clock of the log of the same moment as all that lies in the segments.
        // So large that all of them go before it.
        let (source, data) = ("s".repeat(60_000), vec![b'x'; 60_000].into());
        let gathers = v1::Event { ephemeral, source, data, ..event("gathers", 0) };
        let gathers = Batch::encode(&[gathers], &"p".into(), at(0));
        let reply = Asked::default();
        life.engine.stage(gathers.clone(), reply.clone());
        life.engine.age(Duration::from_millis(unix_ms(101)));
        let mut releases = 0;
        while life.engine.to_let_go().is_some() {
            let job = life.engine.seal().unwrap();
            let outcome = life.segments.run(&job);
            life.engine.done(outcome);
            releases += 1;
        }
        assert!(releases >= 5 && reply.answer().is_none());
        // The machine stops here, and all that was written is there.
        let mut next = Life::open_with(&disk.copy(), &options).unwrap();
        assert!(!is_known(&mut next, gathers), "it was never appended");
        // But here it goes on, and is.
        assert!(life.sync() && reply.answer().unwrap().is_ok());
        assert_eq!(lock(&life.reader.0).held.len(), 26 + usize::from(!ephemeral));
    }
}

/// A group that gathers is neither refused nor moved because a segment finds no room to go.
#[test]
fn nobody_is_refused_because_a_segment_cannot_go() {
    let disk = Disk::default();
    let mut life = written(&disk, &options());
    let reply = Asked::default();
    life.engine.stage(batch("small", 1), reply.clone());
    life.age(unix_ms(101));
    let job = life.engine.seal().unwrap();
    assert!(job.is_release);
    life.engine.stage(batch("behind", 1), Asked::default());
    // Half of it is written.
    disk.fail_at(disk.operations() + 1, std::io::ErrorKind::StorageFull);
    let outcome = life.segments.run(&job);
    assert!(matches!(outcome, Outcome::Full { .. }), "{outcome:?}");
    life.engine.done(outcome);
    assert!(life.sync());
    assert!(reply.answer().unwrap().is_ok());
    drop(life);
    let next = Life::open_with(&disk.copy(), &options()).unwrap();
    assert_eq!((next.recovered.damage.len(), next.recovered.entries), (0, 28));
}

/// The group that lets segments go may be read, though it is not durable: it must be before they are gone.
#[test]
fn what_lets_a_segment_go_is_durable_before_the_next_life_takes_that_away() {
    let mut gone = 0;
    for seed in 1..60 {
        let (disk, mut rng) = (Disk::default(), Rng(seed));
        let mut life = written(&disk, &options());
        life.age(unix_ms(50));
        let known = append(&mut life, batch("known", 50)).unwrap();
        life.engine.age(Duration::from_millis(unix_ms(101)));
        let job = life.engine.seal().unwrap();
        // The process is killed after some operation of it, or after it was durable and before anything was taken away.
        disk.crash_at(disk.operations() + 1 + rng.below(3));
        _ = life.segments.run(&job);
        drop(life);
        let found = disk.after_kill();
        found.keep_moments();
        drop(Life::open_with(&found, &options()).unwrap());
        for moment in found.moments() {
            for _ in 0..4 {
                let machine = moment.after_crash(&mut rng);
                let mut next = Life::open_with(&machine, &options()).unwrap();
                assert_eq!(next.recovered.damage, [], "seed {seed}");
                gone += u64::from(machine.files()[0].0 != format!("{:020}.log", 1));
                let again = append(&mut next, batch("known", 50)).unwrap()[0];
                assert_eq!(again, Appended { duplicate: true, ..known[0] });
            }
        }
    }
    assert!(gone > 20, "{gone} times something was taken away");
}

/// What shows that a group is damaged and not torn lies behind it.
#[test]
fn a_segment_that_ends_in_damage_is_left_as_it_is() {
    let disk = Disk::default();
    let mut life = written(&disk, &options());
    let (name, end) = (disk.files().pop().unwrap().0, life.engine.end_offset());
    life.segments.end(end, CLOSED).unwrap();
    drop(life);
    let sector = (end as usize / SECTOR_BYTES - 1) * SECTOR_BYTES;
    disk.change(&name, |bytes| bytes[sector..sector + SECTOR_BYTES].fill(0));
    let mut smaller = options();
    smaller.window.bytes = 1;
    let mut life = Life::open_with(&disk, &smaller).unwrap();
    let told = lock(&life.reader.0).gaps.clone();
    assert_eq!(told.len(), 1, "a sector of the last group is gone");
    life.age(unix_ms(1));
    let job = life.engine.seal().unwrap();
    assert!(job.is_release && job.begin.is_some(), "it goes to a segment of its own: {job:?}");
    disk.crash_at(disk.operations() + 3);
    life.segments.run(&job);
    let again = Life::open_with(&disk.after_kill(), &smaller).unwrap();
    assert_eq!(lock(&again.reader.0).gaps, told);
}

/// The arithmetic of docs/operations.md: the bounds are used to the full, and no moment takes more.
#[test]
fn the_disk_holds_no_more_than_the_formula_says() {
    // Events, ids, records: a large window, many ids, many records.
    for (events, ids, records_max) in [(600, 2_000, 20), (100, 3_000, 5), (200, 300, 200)] {
        let mut options = Options::of(Bounds { age: AGE, events, bytes: events * 110 });
        (options.segment_bytes, options.records_max) = (16 << 10, records_max);
        (options.dedup.age, options.dedup.ids, options.dedup.bytes) = (AGE, ids, ids * 8);
        let most = most_bytes(&options, 2 << 10);
        let disk = Disk::default();
        let mut life = Life::open_with(&disk, &options).unwrap();
        let (mut seen, mut carried) = (0, 0);
        for step in 0..8_000 {
            let now = Now { mono: Duration::from_millis(step), unix_ms: START_MS + step };
            let batch = if step % 5 == 0 {
                let record = v1::Membership {
                    recipient: format!("user:{}", step / 5 % records_max as u64),
                    topic: "t".repeat(980),
                    member: true,
                    expires_at: None,
                };
                Batch::memberships(&[record], now)
            } else {
                let event = v1::Event { data: Bytes::new(), ..event(&step.to_string(), 1) };
                Batch::encode(&[event], &"p".into(), now)
            };
            life.engine.stage(batch, Asked::default());
            while let Some(job) = life.engine.seal() {
                carried = carried.max(if job.is_release { job.bytes.len() } else { 0 });
                let outcome = life.segments.run(&job);
                seen = seen.max(used(&disk));
                life.engine.done(outcome);
            }
            life.engine.settle().into_iter().for_each(|number| remove(&disk, number));
        }
        let what = format!("{events} events, {ids} ids, {records_max} records: {seen} of {most}");
        println!("{what}, {carried} carried at once");
        assert!(seen <= most && seen > most / 2, "{what}");
        assert!(carried > 2 << 10 && carried <= 16 << 10, "{what}: {carried} bytes are carried at once");
        assert!(life.engine.first_segment() > Some(20), "segments came and went");
    }
}
