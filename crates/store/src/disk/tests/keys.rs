//! What was published before: how far back it is recognised, and what it costs when a batch comes to nothing.

use std::sync::Arc;
use std::time::Duration;

use galaxy_push_core::cursor::{Cursor, Epoch};
use galaxy_push_proto::v1;

use super::super::Options;
use super::super::lock::lock;
use super::super::record::{Context, put_cut};
use super::super::replay::Replay;
use super::super::simulated::Disk;
use super::super::visible::Visible;
use super::world::{Asked, Life, Reader, START_MS, at, event_of, options};
use crate::dedup::Bounds;
use crate::{Batch, Error, Refused};

/// Publishes one event. Whether it was a duplicate; `None`: refused.
fn publish(life: &mut Life, publisher: &str, id: &str, seconds: u64) -> Option<bool> {
    let event = event_of(id, 400);
    let reply = Asked::default();
    life.engine.stage(Batch::encode(&[event], &publisher.into(), at(seconds)), reply.clone());
    life.sync();
    match reply.answer().unwrap() {
        Ok(appended) => Some(appended[0].duplicate),
        Err(Error::Refused(Refused::Unavailable(_))) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Standing records, which have no keys: until what lay in the first segment was carried forward.
fn fill(life: &mut Life, seconds: u64) {
    for n in 0..200 {
        let record = v1::Membership {
            recipient: format!("user:{}", n % 5),
            topic: "t".repeat(300),
            member: true,
            expires_at: None,
        };
        life.engine.stage(Batch::memberships(&[record], at(seconds)), Asked::default());
        assert!(life.sync());
    }
}

fn horizon(life: &Life, seconds: u64) -> u64 {
    let visible = life.engine.visible();
    let visible = lock(&visible);
    visible.published.horizon(Duration::from_secs(START_MS / 1_000 + seconds)).as_secs()
}

fn few_ids(ids: usize) -> Options {
    let mut options = options();
    options.dedup.ids = ids;
    options
}

/// Else a publisher that goes on trying while the disk is full would have everybody's ids forgotten.
#[test]
fn what_is_refused_costs_nobody_a_key() {
    let (disk, options) = (Disk::default(), few_ids(4));
    let mut life = Life::open_with(&disk, &options).unwrap();
    // The segment that there is has room for some.
    disk.room(Some(0));
    let refused = (0..).find(|n| publish(&mut life, "", &n.to_string(), 1).is_none()).unwrap();
    (0..20).for_each(|n| assert_eq!(publish(&mut life, "", &(refused + n).to_string(), 2), None));
    disk.room(None);
    let known = |life: &mut Life, id: u64| publish(life, "", &id.to_string(), 3);
    assert_eq!(known(&mut life, refused - 4), Some(true), "the oldest of the four that there is room for");
    assert_eq!(known(&mut life, refused + 7), Some(false), "it was never appended");
    assert_eq!(known(&mut life, refused + 7), Some(true));
    assert_eq!(known(&mut life, refused - 3), Some(true));
    assert_eq!(known(&mut life, refused - 4), Some(false), "it went for the one that was appended");
}

#[test]
fn the_next_life_claims_no_more_than_it_recognises() {
    let (disk, options) = (Disk::default(), few_ids(10));
    let mut life = Life::open_with(&disk, &options).unwrap();
    (0..5).for_each(|n| assert_eq!(publish(&mut life, "b", &format!("{n}"), 0), Some(false)));
    // More than its part: it gives up its own oldest, of the second 40.
    (0..8).for_each(|n| assert_eq!(publish(&mut life, "a", &format!("{n}"), 40), Some(false)));
    // What the other had published is too old by now, and there would be room again.
    fill(&mut life, 62);
    assert_eq!(horizon(&life, 63), 23);
    drop(life);
    let mut life = Life::open_with(&disk, &options).unwrap();
    assert_eq!(horizon(&life, 63), 23);
    assert_eq!(publish(&mut life, "a", "7", 63), Some(true));
    assert_eq!(publish(&mut life, "a", "0", 63), Some(false), "23 s ago, and not recognised");
    assert_eq!(horizon(&life, 99), 59);
}

#[test]
fn what_is_damaged_is_recognised_no_more_and_the_horizon_says_so() {
    let (disk, options) = (Disk::default(), few_ids(1_000));
    let mut life = Life::open_with(&disk, &options).unwrap();
    (0..40).for_each(|n| assert_eq!(publish(&mut life, "", &format!("{n}"), n), Some(false)));
    assert_eq!(horizon(&life, 40), 60);
    drop(life);
    let whole = Life::open_with(&disk.copy(), &options).unwrap();
    assert_eq!(horizon(&whole, 40), 60);
    let (first, length) = disk.files().into_iter().next().unwrap();
    disk.change(&first, |bytes| bytes[length / 2] ^= 1);
    let mut life = Life::open_with(&disk, &options).unwrap();
    let (from, to) = lock(&life.reader.0).gaps[0];
    assert_eq!(to, from + 1, "one event is lost");
    assert_eq!(horizon(&life, 40), 40 - to, "all that came after it is known");
    assert_eq!(publish(&mut life, "", &from.to_string(), 40), Some(false), "the one that is lost");
    assert_eq!(publish(&mut life, "", &to.to_string(), 40), Some(true));
}

/// What is carried forward tells how far keys were cut when it was written, and knows nothing of what was damaged since.
#[test]
fn an_older_cut_behind_the_damage_does_not_hide_it() {
    let mut replay = Replay::new(&options(), Arc::new(Reader::default()), 100_000);
    let mut head = Cursor::start(Epoch(1));
    replay.begin(head);
    replay.segment(1, 6 << 10);
    replay.keys_lost();
    let mut body = Vec::new();
    Context { publisher: "", share: None, wall_unix_ms: 0, stamp_unix_ms: 90_000 }.put(&mut body);
    put_cut(&mut body, 50_000);
    replay.group(&mut head, &body.into()).unwrap();
    let (visible, ..) = replay.finish(head);
    assert_eq!(visible.published.horizon(Duration::from_secs(100)), Duration::from_secs(10));
}

/// What comes may be stamped by a clock that has fallen behind the one before, after a hub has asked how late it is.
#[test]
fn the_clock_of_the_log_never_goes_back() {
    let mut visible = Visible::new(Cursor::start(Epoch(1)), Bounds::default(), 1);
    let seconds = Duration::from_secs;
    visible.clock(seconds(10), 1_000_000);
    assert_eq!(visible.log_time(seconds(20)), seconds(1_010));
    visible.clock(seconds(21), 1_001_000);
    assert_eq!(visible.log_time(seconds(22)), seconds(1_010));
    assert_eq!(visible.log_time(seconds(40)), seconds(1_020));
}
