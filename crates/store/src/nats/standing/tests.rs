//! Tests of what holds by the log and by the bucket, one rule at a time; and of hubs that do everything at random in [`random`].

mod random;

use std::time::Duration;

use galaxy_push_core::Now;
use galaxy_push_core::cursor::Seq;
use galaxy_push_proto::v1;
use prost::Message as _;
use prost_types::Timestamp;

use super::*;
use crate::nats::Unreadable;
use crate::standing::{Change, RECORDS_MAX};

const EPOCH: Epoch = Epoch::with_holes(3);
const OTHER: Epoch = Epoch::with_holes(5 << 40);
const NOW_MS: u64 = 1_700_000_000_000;
const NOW: Now = Now { mono: Duration::ZERO, unix_ms: NOW_MS };

fn at(seq: u64) -> Cursor {
    Cursor { epoch: EPOCH, seq: Seq(seq) }
}

fn elsewhere(seq: u64) -> Cursor {
    Cursor { epoch: OTHER, seq: Seq(seq) }
}

fn void(recipient: &str, issued_before: i64, seconds: i64) -> v1::SessionInvalidation {
    let from_now = |seconds| Some(Timestamp { seconds: NOW_MS.cast_signed() / 1_000 + seconds, nanos: 0 });
    v1::SessionInvalidation {
        recipient: recipient.to_owned(),
        issued_before: from_now(issued_before),
        expires_at: from_now(seconds),
        reason: String::new(),
    }
}

fn member(topic: &str, member: bool) -> v1::Membership {
    v1::Membership { recipient: "user:1".to_owned(), topic: topic.to_owned(), member, expires_at: None }
}

fn record(cursor: Cursor, change: Change) -> Record {
    Record { cursor, change, share: Some("p".into()), wall_unix_ms: NOW_MS, is_doubtful: false }
}

/// Read where nobody can tell whether it counts.
fn doubtful(record: Record) -> Record {
    Record { is_doubtful: true, ..record }
}

fn voided(cursor: Cursor, recipient: &str, issued_before: i64) -> Record {
    // Whichever voids more ends sooner, so that none makes another superfluous.
    record(cursor, Change::invalidation(&void(recipient, issued_before, 1_000 - issued_before)).0)
}

fn joined(cursor: Cursor, is_member: bool) -> Record {
    record(cursor, Change::membership(&member("x", is_member)).0)
}

fn membership() -> Matter {
    Matter::Membership("user:1".into(), "x".into())
}

fn tokens(recipient: &str) -> Matter {
    Matter::Tokens(recipient.into())
}

fn records() -> Records {
    Records::new(EPOCH, RECORDS_MAX)
}

/// What is to be written.
fn written(records: &Records, matter: &Matter, upto: Cursor) -> (u64, Value) {
    match records.step(matter, upto) {
        Step::Write { revision, value } => (revision, value),
        Step::Stands => panic!("{matter:?} does not stand in the bucket yet"),
    }
}

/// The value that a hub of this epoch writes when it has read just this.
fn value_of(record: &Record) -> Value {
    let mut records = Records::new(record.cursor.epoch, RECORDS_MAX);
    records.apply(record, NOW_MS);
    written(&records, &record.change.matter(), record.cursor).1
}

/// Moments before which tokens of this recipient are void, from now on in seconds.
fn void_before(records: &mut Records, recipient: &str) -> Vec<i64> {
    let page = records.page(None, 1 << 20, 0, NOW_MS);
    let those = page.records.iter().filter(|(kind, _)| *kind == LogKind::SessionInvalidation);
    let those = those.map(|(_, message)| v1::SessionInvalidation::decode(message.clone()).unwrap());
    let of_these = those.filter(|record| record.recipient == recipient);
    of_these.map(|record| record.issued_before.unwrap().seconds - NOW_MS.cast_signed() / 1_000).collect()
}

fn memberships(records: &mut Records) -> usize {
    records.count(NOW_MS).memberships
}

#[test]
fn a_value_says_what_was_written_and_nothing_else_is_one() {
    let mut many = records();
    (1..=3).for_each(|n| _ = many.apply(&voided(at(n), "user:1", n.cast_signed()), NOW_MS));
    let (_, voided) = written(&many, &tokens("user:1"), at(3));
    assert_eq!((voided.records.len(), voided.at), (3, at(3)));
    let long = format!("user:{}", "ü".repeat(125));
    let ended = value_of(&joined(at(1), false));
    assert!(ended.records.is_empty(), "{ended:?}");
    let of_a_long_name = value_of(&voided_of(&long));
    for value in [voided.clone(), ended, value_of(&joined(at(1), true)), of_a_long_name] {
        let (under, bytes) = (key(&value.matter), Bytes::from(value.write()));
        assert!(
            under.len() < 200 && under.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c)),
            "{under}"
        );
        assert_eq!(Value::read(&under, &bytes), Ok(value));
        assert_eq!(Value::read("tokens.00", &bytes), Err(Unreadable::Foreign), "it lies under another key");
        let is_value = |bytes: Bytes| Value::read(&under, &bytes).is_ok_and(|read| read.write() != bytes);
        assert!(
            (1..bytes.len()).all(|length| !is_value(bytes.slice(..length))),
            "half of one says less at most"
        );
    }
    let mut later = voided.write();
    later[0] = 2;
    assert_eq!(Value::read(&key(&voided.matter), &later.into()), Err(Unreadable::Version(2)));
    let mut doubled = voided.clone();
    doubled.records = voided.records.iter().cycle().take(9).cloned().collect();
    let foreign = [doubled.write(), Vec::new(), b"hello".to_vec()];
    let read = foreign.map(|bytes| Value::read(&key(&voided.matter), &bytes.into()));
    assert!(matches!(read, [Err(Unreadable::Foreign), Err(Unreadable::Foreign), Err(_)]), "{read:?}");
}

fn voided_of(recipient: &str) -> Record {
    voided(at(1), recipient, 1)
}

#[test]
fn a_record_stands_once_it_was_written_and_the_next_is_written_over_it() {
    let mut records = records();
    let matter = membership();
    assert_eq!(records.step(&matter, at(1)), Step::Stands, "nothing was said");
    assert!(records.apply(&joined(at(1), true), NOW_MS));
    let (revision, value) = written(&records, &matter, at(1));
    assert_eq!((revision, value.at, value.records[0].share.as_deref()), (0, at(1), Some("p")));
    records.wrote(&matter, 7, at(1));
    assert_eq!(records.step(&matter, at(1)), Step::Stands);
    assert!(records.apply(&joined(at(2), false), NOW_MS));
    let (revision, value) = written(&records, &matter, at(2));
    assert_eq!((revision, value.at, value.records.len()), (7, at(2), 0));
    assert_eq!(records.step(&matter, at(1)), Step::Stands, "of the first everything is done");
}

#[test]
fn what_the_bucket_has_from_further_on_is_not_undone_by_the_log() {
    let mut records = records();
    records.found(4, value_of(&joined(at(5), false)), NOW_MS);
    assert!(!records.apply(&joined(at(3), true), NOW_MS) && !records.apply(&joined(at(5), false), NOW_MS));
    assert_eq!((memberships(&mut records), records.step(&membership(), at(3))), (0, Step::Stands));
    assert!(records.apply(&joined(at(6), true), NOW_MS));
    assert_eq!((memberships(&mut records), written(&records, &membership(), at(6)).0), (1, 4));
}

/// A hub that lags reads in the bucket what it has not read in the log.
#[test]
fn the_value_from_further_on_wins_in_the_bucket_too() {
    let mut records = records();
    records.apply(&joined(at(1), true), NOW_MS);
    records.found(9, value_of(&joined(at(2), false)), NOW_MS);
    assert_eq!((memberships(&mut records), records.step(&membership(), at(1))), (0, Step::Stands));
    records.found(8, value_of(&joined(at(1), true)), NOW_MS);
    assert_eq!(memberships(&mut records), 0, "an earlier one says nothing new");
    assert_eq!(written(&records, &membership(), at(2)).0, 8, "and is written over");
}

#[test]
fn what_another_log_has_left_holds_until_this_one_says_something() {
    let mut records = records();
    records.found(1, value_of(&joined(elsewhere(900), true)), NOW_MS);
    records.found(2, value_of(&voided(elsewhere(901), "user:1", 5)), NOW_MS);
    assert_eq!((memberships(&mut records), void_before(&mut records, "user:1")), (1, vec![5]));
    assert_eq!(records.step(&tokens("user:1"), at(1)), Step::Stands, "nothing is to be done");
    assert!(
        records.apply(&joined(at(1), false), NOW_MS) && records.apply(&voided(at(2), "user:1", 7), NOW_MS)
    );
    assert_eq!((memberships(&mut records), void_before(&mut records, "user:1")), (0, vec![5, 7]));
    let (revision, value) = written(&records, &tokens("user:1"), at(2));
    assert_eq!((revision, value.at, value.records.len()), (2, at(2), 2), "what was void stays so");
    // A hub of the other log writes once more, before it learns of this one.
    records.wrote(&membership(), 5, at(1));
    records.found(6, value_of(&joined(elsewhere(902), true)), NOW_MS);
    assert_eq!((memberships(&mut records), written(&records, &membership(), at(1)).0), (0, 6));
}

/// Where a hub has missed something, the bucket brings it: neither of the two is lost.
#[test]
fn tokens_that_any_hub_voids_stay_void() {
    let (mut all, mut less) = (records(), records());
    all.apply(&voided(at(1), "user:1", 1), NOW_MS);
    all.apply(&voided(at(2), "user:1", 2), NOW_MS);
    less.apply(&voided(at(2), "user:1", 2), NOW_MS);
    let (_, of_less) = written(&less, &tokens("user:1"), at(2));
    all.found(1, of_less, NOW_MS);
    let (revision, of_all) = written(&all, &tokens("user:1"), at(1));
    assert_eq!((revision, of_all.records.len()), (1, 2), "it lies as far on, and lacks one");
    less.found(2, of_all, NOW_MS);
    assert_eq!(void_before(&mut less, "user:1"), [1, 2]);
    assert_eq!(less.step(&tokens("user:1"), at(2)), Step::Stands);
}

/// The fault: a hub had lost the first void in a hole and wrote the second, from further on. Whoever read that value before the log
/// dropped the first as late, and so it was void nowhere.
#[test]
fn a_void_of_tokens_that_a_value_from_further_on_lacks_is_applied_late() {
    let (matter, mut records) = (tokens("user:1"), records());
    records.found(4, value_of(&voided(at(2), "user:1", 2)), NOW_MS);
    assert!(records.apply(&voided(at(1), "user:1", 1), NOW_MS));
    assert_eq!((void_before(&mut records, "user:1"), records.at(&matter)), (vec![1, 2], Some(at(2))));
    let (revision, value) = written(&records, &matter, at(1));
    assert_eq!(
        (revision, value.at, value.records.len()),
        (4, at(2), 2),
        "it is written behind the same value"
    );
    records.wrote(&matter, 5, value.at);
    assert!(!records.apply(&voided(at(1), "user:1", 1), NOW_MS), "it is there");
    assert_eq!(records.step(&matter, at(2)), Step::Stands);
    assert!(!records.apply(&voided(at(1), "user:1", 0), NOW_MS + 1_000_000), "it has expired");
}

#[test]
fn what_is_in_doubt_takes_away_and_gives_nothing() {
    let mut records = records();
    assert!(records.apply(&doubtful(voided(at(1), "user:1", 1)), NOW_MS));
    assert!(!records.apply(&doubtful(joined(at(2), true)), NOW_MS));
    assert_eq!((memberships(&mut records), void_before(&mut records, "user:1")), (0, vec![1]));
    assert!(
        records.apply(&joined(at(3), true), NOW_MS) && records.apply(&doubtful(joined(at(4), false)), NOW_MS)
    );
    assert_eq!(memberships(&mut records), 0);
    assert_eq!(records.at(&membership()), Some(at(3)), "another hub knows what its end is worth");
}

/// The hub that believes it may be the only one, and the log lets go of it.
#[test]
fn tokens_that_are_void_in_doubt_are_written_and_nothing_is_late_because_of_it() {
    let (mut records, matter) = (records(), tokens("user:1"));
    assert!(records.apply(&doubtful(voided(at(5), "user:1", 1)), NOW_MS));
    assert_eq!(records.at(&matter), Some(at(0)), "nothing is known up to anywhere");
    let (revision, value) = written(&records, &matter, at(0));
    assert_eq!((revision, value.at, value.records.len()), (0, at(0), 1));
    records.wrote(&matter, 4, value.at);
    assert_eq!(records.step(&matter, at(0)), Step::Stands);
    assert!(records.apply(&voided(at(3), "user:1", 2), NOW_MS), "it lies before, and counts");
    let (revision, value) = written(&records, &matter, at(3));
    assert_eq!((revision, value.at, value.records.len()), (4, at(3), 2));
    records.wrote(&matter, 6, value.at);
    assert!(records.apply(&doubtful(voided(at(7), "user:1", 3)), NOW_MS));
    let (revision, value) = written(&records, &matter, at(3));
    assert_eq!((revision, value.at, value.records.len()), (6, at(3), 3), "it stood, and lacks one since");
    records.found(8, value.clone(), NOW_MS); // another hub was first
    assert_eq!(records.step(&matter, at(3)), Step::Stands);
    let mut late = self::records();
    assert_eq!(late.read_anew(vec![(8, value)], NOW_MS), []);
    assert_eq!(void_before(&mut late, "user:1"), [1, 2, 3]);
}

#[test]
fn what_lies_there_and_no_hub_wrote_is_written_over() {
    let mut records = records();
    records.apply(&joined(at(1), true), NOW_MS);
    records.missing(&membership(), 3);
    assert_eq!(written(&records, &membership(), at(1)).0, 3);
    records.missing(&membership(), 0);
    assert_eq!(written(&records, &membership(), at(1)).0, 0, "it was taken away");
    records.apply(&joined(at(2), false), NOW_MS);
    records.missing(&membership(), 0);
    assert_eq!(records.step(&membership(), at(2)), Step::Stands, "where nothing is, it has ended");
}

#[test]
fn a_bucket_that_was_removed_gets_everything_again() {
    let mut records = records();
    records.apply(&joined(at(1), true), NOW_MS);
    records.apply(&voided(at(2), "user:1", 1), NOW_MS);
    records.apply(&voided(at(3), "user:2", 1), NOW_MS);
    for matter in [membership(), tokens("user:1"), tokens("user:2")] {
        records.wrote(&matter, 5, at(3));
    }
    let lacking = records.read_anew(vec![(1, value_of(&voided(at(3), "user:2", 1)))], NOW_MS);
    assert_eq!(lacking, [tokens("user:1"), membership()]);
    assert_eq!(written(&records, &membership(), at(1)).0, 0);
    records.apply(&joined(at(4), false), NOW_MS);
    assert_eq!(
        records.read_anew(Vec::new(), NOW_MS),
        [tokens("user:1"), tokens("user:2")],
        "nothing has ended there"
    );
}

/// The fault: a hub that was cut off for an hour, while the membership ended and that was forgotten, wrote it again for all hubs.
#[test]
fn a_membership_that_is_gone_behind_a_hole_has_ended() {
    let (mut records, nothing) = (records(), BTreeSet::new());
    records.apply(&joined(at(1), true), NOW_MS);
    assert_eq!(records.read_behind_a_hole(Vec::new(), &nothing, NOW_MS), [membership()], "it never stood");
    records.wrote(&membership(), 5, at(1));
    records.apply(&voided(at(2), "user:1", 1), NOW_MS);
    records.wrote(&tokens("user:1"), 6, at(2));
    let other = BTreeSet::from([key(&membership())]);
    assert_eq!(records.read_behind_a_hole(Vec::new(), &other, NOW_MS), [tokens("user:1"), membership()]);
    assert_eq!(memberships(&mut records), 1, "what lies there this hub cannot read");
    records.wrote(&membership(), 7, at(1));
    assert_eq!(records.read_behind_a_hole(Vec::new(), &nothing, NOW_MS), [tokens("user:1")]);
    assert_eq!((memberships(&mut records), records.step(&membership(), at(1))), (0, Step::Stands));
    records.apply(&joined(at(3), true), NOW_MS);
    records.wrote(&membership(), 8, at(3));
    records.apply(&joined(at(4), true), NOW_MS);
    assert_eq!(
        records.read_behind_a_hole(Vec::new(), &nothing, NOW_MS),
        [tokens("user:1"), membership()],
        "what was read since is to be written"
    );
    assert_eq!(memberships(&mut records), 1);
}

#[test]
fn what_nobody_needs_any_more_is_let_go_of_by_its_revision() {
    let mut records = records();
    records.apply(&voided(at(1), "user:1", 900), NOW_MS); // for 100 s
    records.wrote(&tokens("user:1"), 11, at(1));
    records.apply(&joined(at(2), true), NOW_MS);
    records.wrote(&membership(), 12, at(2));
    assert_eq!((records.let_go(NOW_MS + 99_000), records.values()), (vec![], 2));
    assert_eq!((records.let_go(NOW_MS + 100_000), records.values()), (vec![11], 1));
    records.apply(&joined(at(3), false), NOW_MS);
    records.wrote(&membership(), 13, at(3));
    let forgotten_ms = NOW_MS + ENDED_FOR_MS;
    assert_eq!(records.let_go(forgotten_ms - 1), [0; 0], "what is written late must not begin it again");
    assert!(!records.apply(&joined(at(2), true), NOW_MS));
    assert_eq!(records.let_go(forgotten_ms), [13]);
    assert_eq!(records.values(), 0);
}

/// It replaces one that holds for longer, and must not leave that behind in the bucket.
#[test]
fn a_membership_that_expires_before_it_was_written_has_ended_there() {
    let mut records = records();
    records.apply(&joined(at(1), true), NOW_MS);
    records.wrote(&membership(), 3, at(1));
    let soon = Some(Timestamp { seconds: NOW_MS.cast_signed() / 1_000 + 1, nanos: 0 });
    let short = v1::Membership { expires_at: soon, ..member("x", true) };
    records.apply(&record(at(2), Change::membership(&short).0), NOW_MS);
    assert_eq!(records.count(NOW_MS + 1_000).memberships, 0);
    let (revision, value) = written(&records, &membership(), at(2));
    assert_eq!((revision, value.at, value.records.len()), (3, at(2), 0));
    assert_eq!(
        records.let_go(NOW_MS + 1_000),
        [3],
        "and if nobody comes to write it, the value before it goes"
    );
}

/// One hub's clock is a day ahead.
#[test]
fn a_clock_that_is_ahead_ends_nothing_at_other_hubs() {
    let mut records = records();
    records.apply(&voided(at(1), "user:1", 1), NOW_MS);
    let day_ahead = NOW_MS + 86_400_000;
    records.apply(&Record { wall_unix_ms: day_ahead, ..joined(at(2), true) }, NOW_MS);
    assert_eq!(void_before(&mut records, "user:1"), [1]);
}

#[test]
fn of_memberships_that_have_ended_as_many_are_kept_as_there_may_be_records() {
    let mut few = Records::new(EPOCH, 2);
    for n in 0..5 {
        let record = record(at(n + 1), Change::membership(&member(&format!("{n}"), false)).0);
        few.apply(&Record { wall_unix_ms: NOW_MS + n, ..record }, NOW_MS + n);
        few.wrote(&Matter::Membership("user:1".into(), format!("{n}").into()), 20 + n, at(n + 1));
    }
    assert_eq!(few.let_go(NOW_MS), [20, 21, 22], "the oldest go first");
}

#[test]
fn records_take_their_room_before_they_are_read_back() {
    let mut few = Records::new(EPOCH, 2);
    let batch = |topics: &[&str]| {
        let all: Vec<_> = topics.iter().map(|topic| member(topic, true)).collect();
        Batch::memberships(&all, NOW)
    };
    let first = few.begin(&batch(&["a"]), false).unwrap();
    let second = few.begin(&batch(&["b"]), false).unwrap();
    assert!(matches!(few.begin(&batch(&["c"]), false), Err(Refused::StandingFull(_))));
    let again = few.begin(&batch(&["c"]), true).unwrap();
    few.answered(&again);
    few.answered(&second); // no broker took it
    few.apply(&record(at(1), Change::membership(&member("a", true)).0), NOW_MS);
    few.read_back(&first);
    few.answered(&first);
    assert!(few.begin(&batch(&["a", "c"]), false).is_ok());
    let mut many = Records::new(EPOCH, RECORDS_MAX);
    let large = batch(&vec!["a"; 4_096]);
    let taken = many.begin(&large, false).unwrap();
    assert!(
        matches!(many.begin(&batch(&["b"]), false), Err(Refused::Unavailable(_))),
        "so many are looked at"
    );
    many.answered(&taken);
    assert!(many.begin(&batch(&["b"]), false).is_ok());
}
