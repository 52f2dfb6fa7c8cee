//! A group that found no room, and what gathered behind it, leave nothing behind: not an id, not a position, not a record.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use galaxy_push_core::Now;
use galaxy_push_core::cursor::{Cursor, Epoch};
use galaxy_push_core::frame::LogKind;
use galaxy_push_proto::v1;

use super::super::lock::lock;
use super::super::simulated::{Disk, Rng};
use super::world::{self, Asked, Life, START_MS, event_of, options};
use crate::{Appended, Batch, Committed, DiskStore, Error, Refused, Sink, Store as _};

fn now(after: Duration) -> Now {
    Now { mono: after, unix_ms: START_MS + after.as_millis() as u64 }
}

fn event(id: &str, after: Duration) -> Batch {
    // More than a segment has left behind another one.
    let event = event_of(id, 4_000);
    Batch::encode(&[event], &"p".into(), now(after))
}

fn member(user: &str, member: bool) -> Batch {
    Batch::memberships(&[membership(user, member, None)], now(Duration::ZERO))
}

fn membership(user: &str, member: bool, expires_at: Option<prost_types::Timestamp>) -> v1::Membership {
    v1::Membership { recipient: format!("user:{user}"), topic: "t".to_owned(), member, expires_at }
}

fn stage(life: &mut Life, batch: &Batch) -> Asked {
    let reply = Asked::default();
    life.engine.stage(batch.clone(), reply.clone());
    reply
}

fn append(life: &mut Life, batch: &Batch) -> Result<Vec<Appended>, Error> {
    world::append(life, batch.clone())
}

fn was_refused(reply: &Asked) -> bool {
    matches!(reply.answer(), Some(Err(Error::Refused(Refused::Unavailable(_)))))
}

/// In a folder that was taken away nothing is kept, whatever a sync says.
#[test]
fn what_is_on_its_way_when_the_store_dies_is_unknown_and_the_rest_refused() {
    let disk = Disk::default();
    let mut life = Life::open(&disk).unwrap();
    let on_its_way = stage(&mut life, &event("a", Duration::ZERO));
    let job = life.engine.seal().unwrap();
    let gathers = stage(&mut life, &event("b", Duration::ZERO));
    life.engine.die("its folder is gone".to_owned());
    let comes = stage(&mut life, &event("c", Duration::ZERO));
    let outcome = life.segments.run(&job);
    life.engine.done(outcome);
    life.engine.settle();
    assert!(matches!(on_its_way.answer(), Some(Err(Error::Unknown(_)))), "{on_its_way:?}");
    assert!(was_refused(&gathers) && was_refused(&comes), "{gathers:?}, {comes:?}");
    assert!(life.engine.seal().is_none());

    let mut life = Life::open(&Disk::default()).unwrap();
    let gathers = stage(&mut life, &event("a", Duration::ZERO));
    life.engine.die("its folder is gone".to_owned());
    assert!(was_refused(&gathers) && life.engine.seal().is_none(), "{gathers:?}");
}

#[test]
fn what_found_no_room_is_as_if_it_had_never_been_tried() {
    let disk = Disk::default();
    let mut options = options();
    options.records_max = 2;
    let mut life = Life::open_with(&disk, &options).unwrap();
    let first = append(&mut life, &event("first", Duration::ZERO)).unwrap()[0].cursor.unwrap();
    append(&mut life, &member("1", true)).unwrap();
    // One group on its way, and another one behind it.
    let (large, record) = (event("large", Duration::ZERO), member("2", true));
    let (behind, record_behind) = (event("behind", Duration::ZERO), member("1", false));
    let used: usize = disk.files().iter().map(|(_, length)| length).sum();
    disk.room(Some(used as u64));
    let mut replies = [&large, &record].map(|batch| stage(&mut life, batch)).to_vec();
    let job = life.engine.seal().unwrap();
    replies.extend([&behind, &record_behind].map(|batch| stage(&mut life, batch)));
    let outcome = life.segments.run(&job);
    life.engine.done(outcome);
    assert!(replies.iter().all(was_refused), "{replies:?}");
    assert_eq!(life.standing().len(), 1, "the record is as it was");

    disk.room(None);
    for (number, batch) in [&behind, &large].into_iter().enumerate() {
        let appended = append(&mut life, batch).unwrap()[0];
        assert!(!appended.duplicate, "nobody has appended it before");
        assert_eq!(appended.cursor, Some(first.plus(2 + number as u64)), "no position is left out");
    }
    // There is room for two records, and the one that was refused takes none.
    append(&mut life, &member("3", true)).unwrap();
    assert_eq!(life.standing().len(), 2);
    let standing = life.standing();
    drop(life);
    let again = Life::open_with(&disk, &options).unwrap();
    assert_eq!((again.recovered.damage.len(), again.standing()), (0, standing));
}

/// A write may have got half way before there was no room. What comes next is shorter, and must not be followed by the rest.
#[test]
fn what_was_half_written_is_gone() {
    let disk = Disk::default();
    let mut life = Life::open(&disk).unwrap();
    append(&mut life, &member("1", true)).unwrap();
    // It fits where that lies, so that it is written there.
    let mut large = event("large", Duration::ZERO);
    large.items[0].event = Bytes::from_static(&[7; 2_000]);
    let reply = stage(&mut life, &large);
    let job = life.engine.seal().unwrap();
    assert!(job.begin.is_none());
    disk.fail_at(disk.operations() + 1, ErrorKind::StorageFull);
    let outcome = life.segments.run(&job);
    life.engine.done(outcome);
    assert!(was_refused(&reply));
    // Nor does it come back with a machine that stops: it may have been on the disk already.
    for seed in 1..20 {
        let found = Life::open(&disk.after_crash(&mut Rng(seed))).unwrap().recovered;
        assert_eq!((found.entries, found.torn, found.damage), (1, false, Vec::new()), "seed {seed}");
    }
    let refused = Life::open(&disk.copy()).unwrap().recovered;
    append(&mut life, &member("2", true)).unwrap();
    let shorter = Life::open(&disk.copy()).unwrap().recovered;
    assert_eq!((refused.entries, refused.torn, refused.damage), (1, false, Vec::new()));
    assert_eq!((shorter.entries, shorter.torn, shorter.damage), (2, false, Vec::new()));
}

/// What is remembered of a group that is durable follows the bounds, and nothing else does.
#[test]
fn an_id_may_be_used_again_when_it_is_too_old() {
    let mut life = Life::open(&Disk::default()).unwrap();
    let first = append(&mut life, &event("same", Duration::ZERO)).unwrap()[0];
    let soon = append(&mut life, &event("same", Duration::from_secs(30))).unwrap()[0];
    assert_eq!((soon.cursor, soon.duplicate), (first.cursor, true));
    let late = append(&mut life, &event("same", Duration::from_secs(61))).unwrap()[0];
    assert_eq!((late.cursor, late.duplicate), (first.cursor.map(|first| first.next()), false));
}

#[test]
fn a_record_that_has_ended_makes_room() {
    let mut options = options();
    options.records_max = 1;
    let mut life = Life::open_with(&Disk::default(), &options).unwrap();
    let ends = prost_types::Timestamp { seconds: (START_MS / 1_000) as i64 + 10, nanos: 0 };
    let short = membership("1", true, Some(ends));
    append(&mut life, &Batch::memberships(&[short], now(Duration::ZERO))).unwrap();
    let next = |after| Batch::memberships(&[membership("2", true, None)], now(after));
    let early = append(&mut life, &next(Duration::from_secs(5)));
    assert!(matches!(early, Err(Error::Refused(Refused::StandingFull(_)))), "{early:?}");
    append(&mut life, &next(Duration::from_secs(20))).unwrap();
}

/// The fault: what repeats an event was refused, as if nothing were appended, while nobody knew what had become of the first.
#[test]
fn who_repeats_what_is_under_way_is_told_what_becomes_of_it() {
    let disk = Disk::default();
    let mut life = Life::open_with(&disk, &options()).unwrap();
    append(&mut life, &event("first", Duration::ZERO)).unwrap();
    let again = event("again", Duration::ZERO);
    let first_try = stage(&mut life, &again);
    let job = life.engine.seal().unwrap();
    let (second_try, other) = (stage(&mut life, &again), stage(&mut life, &event("other", Duration::ZERO)));
    let mut both = event("besides", Duration::ZERO);
    both.items.extend(again.items.iter().cloned());
    let third_try = stage(&mut life, &both);
    disk.fail_next_sync(true);
    let outcome = life.segments.run(&job);
    life.engine.done(outcome);
    for reply in [first_try, second_try, third_try] {
        assert!(matches!(reply.answer(), Some(Err(Error::Unknown(_)))), "{reply:?}");
    }
    assert!(was_refused(&other), "of this one nothing was appended: {other:?}");
}

/// The fault: it was refused, as if nothing of it were there, because it came together with what found no room.
#[test]
fn who_repeats_what_is_there_is_told_so_also_on_a_full_disk() {
    let disk = Disk::default();
    let mut life = Life::open_with(&disk, &options()).unwrap();
    let there = event("there", Duration::ZERO);
    let first = append(&mut life, &there).unwrap()[0];
    disk.fill(false);
    let both = |batch: &Batch, with: &Batch| {
        let mut both = batch.clone();
        both.items.extend(with.items.clone());
        both
    };
    let new = event("new", Duration::ZERO);
    let (one, other) = (event("one", Duration::ZERO), event("other", Duration::ZERO));
    let stage_all = |life: &mut Life| {
        [&there, &both(&there, &one), &both(&other, &other)].map(|batch| stage(life, batch))
    };
    let refused = stage(&mut life, &new);
    let on_their_way = stage_all(&mut life);
    let job = life.engine.seal().unwrap();
    let gather = stage_all(&mut life);
    let repeats_refused = stage(&mut life, &new);
    let outcome = life.segments.run(&job);
    life.engine.done(outcome);
    assert!(on_their_way[0].answer().is_none(), "readers may not have been told of it yet");
    life.engine.settle();
    for [repeats, repeats_one, repeats_itself] in [on_their_way, gather] {
        let again = repeats.answer().unwrap().unwrap()[0];
        assert_eq!((again.cursor, again.duplicate), (first.cursor, true));
        assert!(matches!(repeats_one.answer(), Some(Err(Error::Unknown(_)))), "{repeats_one:?}");
        assert!(was_refused(&repeats_itself), "{repeats_itself:?}");
    }
    assert!(was_refused(&refused) && was_refused(&repeats_refused), "{repeats_refused:?}");
}

/// Also where a small publish by itself finds no room, and the next one finds it.
#[tokio::test]
async fn whether_the_disk_is_full_is_known_after_each_publish() {
    struct Nobody;
    impl Sink for Nobody {
        fn begin(&self, _: Cursor) {}
        fn committed(&self, _: &[Committed]) {}
        fn damaged(&self, _: Cursor, _: Cursor) {}
    }
    let disk = Disk::default();
    let store = DiskStore::open_in(Arc::new(disk.clone()), options(), Epoch(1), 7, Arc::new(Nobody)).unwrap();
    let mut number = 0;
    let mut publish = async || {
        number += 1;
        let mut event = event(&number.to_string(), Duration::ZERO);
        event.items[0].event = Bytes::from_static(&[0; 1_000]);
        (store.append(event).await.is_ok(), store.figures().is_full)
    };
    assert_eq!(publish().await, (true, false));
    disk.fill(true);
    let mut answer = publish().await;
    for _ in 0..100 {
        if !answer.0 {
            break;
        }
        answer = publish().await;
    }
    assert_eq!(answer, (false, true));
    disk.free();
    assert_eq!(publish().await, (true, false));
}

#[test]
fn a_segment_for_which_there_was_no_room_is_not_left_half_made() {
    let disk = Disk::default();
    let mut life = Life::open(&disk).unwrap();
    append(&mut life, &event("first", Duration::ZERO)).unwrap();
    let files = disk.files();
    let reply = stage(&mut life, &event("second", Duration::ZERO));
    // It is made, and its head finds no room.
    disk.fail_at(disk.operations() + 2, ErrorKind::StorageFull);
    assert!(life.sync() && was_refused(&reply));
    assert_eq!(disk.files(), files);
    append(&mut life, &event("second", Duration::ZERO)).unwrap();
}

#[test]
fn a_record_that_was_carried_forward_stays_in_the_share_of_whoever_said_it() {
    let disk = Disk::default();
    let mut life = Life::open(&disk).unwrap();
    append(&mut life, &member("1", true).sharing_room(Some("p"))).unwrap();
    let first = life.engine.first_segment();
    (0..20).for_each(|n| _ = append(&mut life, &event(&n.to_string(), Duration::ZERO)).unwrap());
    assert!(life.engine.first_segment() > first, "where it lay first is gone");
    drop(life);
    let life = Life::open(&disk).unwrap();
    let visible = life.engine.visible();
    let filled = lock(&visible).standing.fill(LogKind::Membership, Some("p"), START_MS);
    assert_eq!((life.standing().len(), filled.held), (1, 1));
}
