//! Records by themselves: what they grant, against a log that knows everything, and what they void.

use std::collections::BTreeSet;

use galaxy_push_core::reader::Entitled;
use galaxy_push_core::window::Slot;
use galaxy_push_proto::v1::{Membership, SessionInvalidation};
use galaxy_push_proto::validate::INVALIDATIONS_PER_HOLDER_MAX;
use proptest::prelude::*;
use prost_types::Timestamp;

use super::*;
use crate::state::grants::Issued;

fn at(slot: u64) -> Slot {
    Slot::default().plus(slot)
}

fn seconds(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

fn joins(topic: &str) -> Membership {
    Membership { recipient: "user:ann".into(), topic: topic.into(), member: true, expires_at: None }
}

fn leaves(topic: &str) -> Membership {
    Membership { member: false, ..joins(topic) }
}

/// Which of the first slots are granted to ann, for a topic.
fn slots(memberships: &Memberships, topic: &str, now_ms: u64) -> Vec<u64> {
    let granted = memberships.granted(["user:ann", "session:1"].into_iter(), now_ms);
    (0..10).filter(|slot| granted.entitles([topic].into_iter(), at(*slot)) == Entitled::Yes).collect()
}

/// Which of the first slots ann is told of instead.
fn doubted(memberships: &Memberships, topic: &str) -> Vec<u64> {
    let granted = memberships.granted(["user:ann", "session:1"].into_iter(), 0);
    (0..10).filter(|slot| granted.entitles([topic].into_iter(), at(*slot)) == Entitled::Unknown).collect()
}

#[test]
fn granted_is_what_held_then_and_holds_now() {
    let mut memberships = Memberships::default();
    memberships.apply_record(&joins("t"), at(2), 0);
    assert_eq!(memberships.apply_record(&joins("t"), at(3), 0), None, "renewed");
    assert_eq!(slots(&memberships, "t", 0), [2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(slots(&memberships, "tt", 0), [0; 0]);
    memberships.apply_record(&leaves("t"), at(4), 0);
    assert_eq!(slots(&memberships, "t", 0), [0; 0]);
    memberships.apply_record(&joins("t"), at(6), 0);
    assert_eq!(slots(&memberships, "t", 0), [2, 3, 6, 7, 8, 9]);
    memberships.apply_record(&Membership { recipient: "session:1".into(), ..joins("t*") }, at(9), 0);
    assert_eq!(slots(&memberships, "tt", 0), [9]);
    assert_eq!(memberships.len(), 2);
}

/// The fault: a gateway that was cut off came upon a membership after its end, or saw it end before the events from before that,
/// and its renewal. What was granted then was left out in silence.
#[test]
fn how_far_a_membership_reached_that_has_expired_is_in_doubt_once_it_holds_again() {
    let until = Membership { expires_at: seconds(5), ..joins("t") };
    let mut late = Memberships::default();
    late.apply_record(&until, at(1), 6_000);
    assert_eq!((doubted(&late, "t").len(), late.len()), (0, 0), "it does not hold");
    late.apply_record(&joins("t"), at(4), 6_000);
    assert_eq!((slots(&late, "t", 6_000), doubted(&late, "t")), (vec![4, 5, 6, 7, 8, 9], vec![1, 2, 3]));
    late.forget_before(at(4));
    assert_eq!(doubted(&late, "t"), [0; 0], "the window holds nothing of it");

    let expires = || {
        let mut memberships = Memberships::default();
        memberships.apply_record(&until, at(1), 0);
        memberships.expire(at(3), 5_000);
        memberships
    };
    let (mut expired, mut left) = (expires(), expires());
    expired.apply_record(&joins("t"), at(5), 6_000);
    assert_eq!(
        (slots(&expired, "t", 6_000), doubted(&expired, "t")),
        (vec![1, 2, 5, 6, 7, 8, 9], vec![3, 4])
    );
    left.apply_record(&leaves("t"), at(4), 6_000);
    left.apply_record(&joins("t"), at(5), 6_000);
    assert_eq!(doubted(&left, "t"), [3], "it ended by itself before, or by the record");
}

/// The fault: the window had let go of what lay before an expiry, and with that the expiry itself was forgotten.
#[test]
fn how_far_an_expired_membership_reached_is_in_doubt_until_the_log_has_come_there() {
    let expired = || {
        let mut memberships = Memberships::default();
        memberships.apply_record(&Membership { expires_at: seconds(5), ..joins("t") }, at(1), 0);
        memberships.expire(at(3), 5_000);
        memberships.forget_before(at(3));
        memberships
    };
    let mut again = expired();
    again.log_reached(64_999, at(4));
    again.apply_record(&joins("t"), at(5), 6_000);
    assert_eq!(doubted(&again, "t"), [3, 4]);

    let mut settled = expired();
    assert!(!settled.is_settled_by(64_999) && settled.is_settled_by(65_000));
    settled.log_reached(65_000, at(4));
    settled.apply_record(&joins("t"), at(6), 70_000);
    assert_eq!((slots(&settled, "t", 70_000), doubted(&settled, "t")), (vec![6, 7, 8, 9], vec![3]));

    let mut over = expired();
    over.log_reached(65_000, at(4));
    over.forget_before(at(4));
    assert_eq!(format!("{over:?}"), format!("{:?}", Memberships::default()), "nothing is kept of it");
}

/// The fault: the gateway was cut off, and saw the membership of a session end before the events from before that. The user itself
/// belonged to the topic by then, and what was the session's was left out in silence.
#[test]
fn how_far_an_expired_membership_reached_is_in_doubt_for_whoever_belongs_by_another() {
    for topic in ["t", "t*"] {
        let mut memberships = Memberships::default();
        let session = Membership { recipient: "session:1".into(), expires_at: seconds(5), ..joins(topic) };
        memberships.apply_record(&session, at(1), 0);
        memberships.expire(at(3), 5_000);
        assert_eq!(doubted(&memberships, "t"), [0; 0], "nobody belongs to it now");
        memberships.apply_record(&joins("t"), at(5), 6_000);
        assert_eq!(
            (slots(&memberships, "t", 6_000), doubted(&memberships, "t")),
            (vec![1, 2, 5, 6, 7, 8, 9], vec![3, 4]),
            "{topic}"
        );
    }
}

#[test]
fn a_membership_ends_by_itself() {
    let mut memberships = Memberships::default();
    let until = Membership { expires_at: seconds(5), ..joins("t") };
    memberships.apply_record(&until, at(1), 0);
    let mut granted = memberships.granted(["user:ann"].into_iter(), 4_999);
    assert_eq!(slots(&memberships, "t", 4_999).len(), 9);
    assert_eq!(granted.entitles(["t"].into_iter(), at(1)), Entitled::Yes);
    granted.at(5_000, true);
    assert_eq!(
        granted.entitles(["t"].into_iter(), at(1)),
        Entitled::No,
        "though nobody has looked it up anew"
    );
    assert_eq!(slots(&memberships, "t", 5_000), [0; 0], "before anybody has noticed");
    assert_eq!(memberships.expire(at(3), 4_999), []);
    assert_eq!(memberships.expire(at(3), 5_000).len(), 1);
    assert_eq!(memberships.apply_record(&until, at(3), 5_000), None, "it is over already");
    memberships.apply_record(&joins("t"), at(5), 6_000);
    assert_eq!(slots(&memberships, "t", 6_000), [1, 2, 5, 6, 7, 8, 9]);
}

/// The fault: it was renewed, and ended when it would have ended before.
#[test]
fn a_membership_that_is_renewed_ends_when_it_was_said_last() {
    let mut memberships = Memberships::default();
    let until = |end| Membership { expires_at: seconds(end), ..joins("t") };
    for (first, then) in [(Some(5), Some(9)), (Some(5), None), (None, Some(9)), (Some(9), Some(7))] {
        for (slot, end) in [(1, first), (2, then)] {
            memberships.apply_record(&end.map_or_else(|| joins("t"), until), at(slot), 0);
        }
        let end_ms = then.map_or(u64::MAX, |end| end as u64 * 1_000);
        assert_eq!(memberships.expire(at(3), end_ms - 1), [], "{first:?} {then:?}");
        assert_eq!(slots(&memberships, "t", end_ms - 1).len(), 9, "{first:?} {then:?}");
        assert_eq!(memberships.expire(at(3), end_ms).len(), usize::from(then.is_some()));
        memberships.clear();
    }
}

#[test]
fn whoever_keeps_up_is_handed_for_a_moment_what_lies_before_the_record_that_ends_it() {
    let mut memberships = Memberships::default();
    memberships.apply_record(&joins("t"), at(1), 0);
    memberships.apply_record(&leaves("t"), at(3), 10_000);
    let granted_at = |now_ms, is_live| {
        let mut granted = memberships.granted(["user:ann"].into_iter(), now_ms);
        granted.at(now_ms, is_live);
        (0..5)
            .filter(|slot| granted.entitles(["t"].into_iter(), at(*slot)) == Entitled::Yes)
            .collect::<Vec<_>>()
    };
    assert_eq!(granted_at(10_999, true), [1, 2]);
    assert_eq!(granted_at(11_000, true), [0; 0], "who has not taken it by now is slow");
    assert_eq!(granted_at(10_000, false), [0; 0], "who comes from behind is told by what holds now");
}

#[test]
fn what_the_window_has_left_behind_is_forgotten() {
    let mut memberships = Memberships::default();
    for slot in (0..8).step_by(2) {
        memberships.apply_record(&joins("t"), at(slot), 0);
        memberships.apply_record(&leaves("t"), at(slot + 1), 0);
    }
    memberships.forget_before(at(5));
    memberships.apply_record(&joins("t"), at(8), 0);
    assert_eq!(slots(&memberships, "t", 0), [6, 8, 9]);
    memberships.apply_record(&leaves("t"), at(9), 0);
    memberships.forget_before(at(9));
    assert_eq!(format!("{memberships:?}"), format!("{:?}", Memberships::default()));
}

#[test]
fn a_replayed_record_opens_nothing_that_standing_does_not_bear_out() {
    let mut memberships = Memberships::default();
    for topic in ["left", "stays", "renewed"] {
        memberships.apply_record(&joins(topic), at(0), 0);
    }
    // The log from here on is missed; in that part ann leaves `left`, and joins `new`.
    memberships.position_lost(at(4));
    memberships.replace_all(&[joins("stays"), joins("renewed"), joins("new")], at(4), 0);
    assert_eq!(slots(&memberships, "left", 0), [0; 0]);
    assert_eq!(slots(&memberships, "stays", 0).len(), 10);
    memberships.apply_record(&joins("left"), at(5), 0);
    memberships.apply_record(&joins("renewed"), at(6), 0);
    assert_eq!(slots(&memberships, "left", 0), [0; 0], "it is older than what is known");
    assert_eq!(slots(&memberships, "renewed", 0), [0, 1, 2, 3, 6, 7, 8, 9]);
    memberships.apply_record(&leaves("left"), at(7), 0);
    memberships.apply_record(&joins("last"), at(8), 0);
    memberships.caught_up(at(9));
    assert_eq!(slots(&memberships, "left", 0), [0; 0]);
    assert_eq!(slots(&memberships, "last", 0), [8, 9]);
    assert_eq!(slots(&memberships, "new", 0), [4, 5, 6, 7, 8, 9]);
    // Whether ann belonged to these before their records, nobody can tell.
    assert_eq!(doubted(&memberships, "renewed"), [4, 5]);
    assert_eq!(doubted(&memberships, "last"), [4, 5, 6, 7]);
    assert_eq!((doubted(&memberships, "new"), doubted(&memberships, "left")), (vec![], vec![]));
    memberships.apply_record(&joins("late"), at(9), 0);
    assert_eq!(doubted(&memberships, "late"), [4, 5, 6, 7, 8], "it may have expired just before `Standing`");
    memberships.forget_before(at(9));
    assert_eq!(doubted(&memberships, "late"), [0; 0]);
}

#[test]
fn a_member_who_was_never_out_is_granted_everything_whatever_the_record_that_grants_it() {
    let joins_as = |holder: &str, topic: &str| Membership { recipient: holder.into(), ..joins(topic) };
    for (first, second) in [
        (joins("game.*"), joins("game.7")),
        (joins("game.7"), joins("game.*")),
        (joins("game.7"), joins_as("session:1", "game.7")),
        (joins("g*"), joins_as("session:1", "game*")),
    ] {
        let mut memberships = Memberships::default();
        memberships.apply_record(&first, at(1), 0);
        memberships.apply_record(&second, at(3), 0);
        memberships.apply_record(&Membership { member: false, ..first.clone() }, at(4), 0);
        assert_eq!(slots(&memberships, "game.7", 0), [1, 2, 3, 4, 5, 6, 7, 8, 9], "{first:?} {second:?}");
        memberships.apply_record(&Membership { member: false, ..second.clone() }, at(6), 0);
        assert_eq!(slots(&memberships, "game.7", 0), [0; 0], "{first:?} {second:?}");
        memberships.apply_record(&first, at(8), 0);
        assert_eq!(slots(&memberships, "game.7", 0), [1, 2, 3, 4, 5, 8, 9], "{first:?} {second:?}");
    }
}

#[test]
fn what_was_forgotten_for_want_of_room_is_in_doubt() {
    let mut unknown = unknown::UnknownRanges::default();
    for start in [2, 10, 20] {
        unknown.add(at(start)..at(start + 2));
    }
    unknown.add(at(30)..at(30));
    let contained = |unknown: &unknown::UnknownRanges| {
        (0..40).filter(|slot| unknown.contains(at(*slot))).collect::<Vec<_>>()
    };
    assert_eq!(contained(&unknown), [2, 3, 10, 11, 20, 21]);
    unknown.add_all_before(at(11));
    assert_eq!(contained(&unknown), (0..12).chain(20..22).collect::<Vec<_>>());
    unknown.forget_before(at(12));
    assert_eq!(contained(&unknown), [20, 21]);
    (2..80).for_each(|start| unknown.add(at(start * 20)..at(start * 20 + 2)));
    assert_eq!(
        contained(&unknown),
        (20..40).collect::<Vec<_>>(),
        "the oldest are one, with what lies between"
    );
    assert!((1..80).all(|start| unknown.contains(at(start * 20)) && unknown.contains(at(start * 20 + 1))));
    assert!(!unknown.contains(at(79 * 20 + 2)) && !unknown.contains(at(79 * 20 - 1)));
}

/// What a log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Logged {
    Event,
    /// One of two topics is joined or left.
    Record(bool, bool),
}

/// Who belonged to a topic when so much was logged.
fn belongs(log: &[Logged], topic: bool) -> bool {
    let records = log.iter().rev().filter_map(|entry| match entry {
        Logged::Record(of, member) if *of == topic => Some(*member),
        _ => None,
    });
    records.into_iter().next().unwrap_or(false)
}

const TOPICS: [(bool, &str); 2] = [(false, "a"), (true, "b")];

fn record(topic: bool, member: bool) -> Membership {
    let name = if topic { "b" } else { "a" };
    if member { joins(name) } else { leaves(name) }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Log(Logged),
    /// So much is read.
    Read(usize),
    /// All but so much of what was not read is missed.
    Miss(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Log(Logged::Event)),
        3 => any::<(bool, bool)>().prop_map(|(topic, member)| Step::Log(Logged::Record(topic, member))),
        4 => (1usize..4).prop_map(Step::Read),
        1 => (0usize..6).prop_map(Step::Miss),
    ]
}

proptest! {
    #[test]
    fn nothing_is_granted_that_was_not_and_nothing_denied_that_was_but_is_told(
        steps in prop::collection::vec(any_step(), 1..60),
    ) {
        let mut memberships = Memberships::default();
        let (mut log, mut read) = (Vec::new(), 0);
        // For each slot, how much was logged when its event was.
        let mut slots: Vec<usize> = Vec::new();
        let (mut missed, mut hole, mut told) = (false, 0, None::<BTreeSet<bool>>);
        for step in steps {
            match step {
                Step::Log(entry) => log.push(entry),
                Step::Read(count) => {
                    for _ in 0..count.min(log.len() - read) {
                        match log[read] {
                            Logged::Event => slots.push(read),
                            Logged::Record(topic, member) => {
                                memberships.apply_record(&record(topic, member), at(slots.len() as u64), 0);
                            }
                        }
                        read += 1;
                    }
                    if read == log.len() {
                        memberships.caught_up(at(slots.len() as u64));
                        told = None;
                    }
                }
                Step::Miss(but) => {
                    read = read.max(log.len().saturating_sub(but));
                    (missed, hole) = (true, slots.len());
                    let holds: BTreeSet<bool> = [false, true].into_iter().filter(|t| belongs(&log, *t)).collect();
                    let records: Vec<_> = holds.iter().map(|topic| record(*topic, true)).collect();
                    memberships.position_lost(at(slots.len() as u64));
                    memberships.replace_all(&records, at(slots.len() as u64), 0);
                    told = Some(holds);
                }
            }
            let granted = memberships.granted(["user:ann"].into_iter(), 0);
            for (slot, logged) in slots.iter().enumerate() {
                // An event of one topic, of the other, and of both.
                for topics in [&TOPICS[..1], &TOPICS[1..], &TOPICS[..]] {
                    let then = topics.iter().any(|(topic, _)| belongs(&log[..*logged], *topic));
                    let now = topics.iter().any(|(topic, _)| {
                        told.as_ref().map_or_else(|| belongs(&log[..read], *topic), |told| told.contains(topic))
                    });
                    let entitled = granted.entitles(topics.iter().map(|(_, name)| *name), at(slot as u64));
                    prop_assert!(entitled == Entitled::No || now, "{topics:?} now, slot {slot}");
                    // What lies behind a hole is not handed out before all is known.
                    if told.is_none() || slot < hole {
                        prop_assert!(entitled != Entitled::Yes || then, "{topics:?} then, slot {slot}");
                    }
                    if told.is_none() && then && now {
                        prop_assert_ne!(entitled, Entitled::No, "{:?} untold, slot {}", topics, slot);
                    }
                    if !missed {
                        prop_assert_eq!(entitled, Entitled::from(then && now));
                    }
                }
            }
        }
    }
}

fn record_of(holder: &str, issued_before: i64, expires_at: i64) -> Invalidation {
    Invalidation::of(&SessionInvalidation {
        recipient: holder.into(),
        issued_before: seconds(issued_before),
        expires_at: seconds(expires_at),
        ..Default::default()
    })
}

/// The issuer's clock may be ahead: a token of the session says that it was issued after the record, and is the stolen one.
#[test]
fn a_session_record_voids_what_a_clock_ahead_of_it_issued_and_a_user_record_does_not() {
    let mut invalidations = Invalidations::default();
    invalidations.add(&record_of("session:1", 100, 1_000), 0);
    invalidations.add(&record_of("user:ann", 100, 1_000), 0);
    let voids = |holder: &str, issued| invalidations.voiding([holder].into_iter(), issued, 0).is_some();
    let at = |issued_s: u64| Issued::by_token(issued_s * 1_000);
    assert!(voids("session:1", at(0)) && voids("session:1", at(99)) && voids("session:1", at(130)));
    assert!(!voids("session:1", at(131)));
    assert!(
        voids("user:ann", at(99)) && !voids("user:ann", at(100)),
        "a new sign-in in the same second is good"
    );
    assert!(voids("session:1", Issued::default()) && voids("user:ann", Issued::default()));
    assert!(voids("session:1", Issued::on_trust(99_999)) && !voids("session:1", Issued::on_trust(100_000)));
}

#[test]
fn many_invalidations_of_one_user_stay_few() {
    let mut invalidations = Invalidations::default();
    for i in 0..500 {
        assert!(invalidations.add(&record_of("user:ann", i, 1_000 - i), 0));
        let voids = |issued_s, now_s: u64| {
            let issued = Issued::by_token(issued_s * 1_000);
            invalidations.voiding(["user:ann"].into_iter(), issued, now_s * 1_000).is_some()
        };
        for said in 1..=i as u64 {
            assert!(voids(said - 1, 1_000 - said - 1), "{said} of {i}");
        }
        assert!(!voids(i as u64, 0), "what was never said to be void is good");
    }
    assert_eq!(invalidations.len(), INVALIDATIONS_PER_HOLDER_MAX);
}

#[test]
fn an_invalidation_voids_what_was_issued_before_it_until_it_expires() {
    let record = |recipient: &str, before: i64, until: i64| {
        Invalidation::of(&SessionInvalidation {
            recipient: recipient.into(),
            reason: "signed out".into(),
            issued_before: Some(Timestamp { seconds: before, nanos: 1 }),
            expires_at: seconds(until),
        })
    };
    let mut invalidations = Invalidations::default();
    assert!(invalidations.add(&record("session:1", 10, 100), 0));
    assert!(!invalidations.add(&record("session:1", 9, 100), 0), "says nothing new");
    assert!(invalidations.add(&record("session:1", 9, 200), 0));
    assert!(!invalidations.add(&record("session:2", 9, 20), 20_000), "over already");
    let voids = |invalidations: &Invalidations, issued_ms, now_ms| {
        let issued = Issued::on_trust(issued_ms);
        invalidations.voiding(["user:ann", "session:1"].into_iter(), issued, now_ms).is_some()
    };
    assert!(voids(&invalidations, 10_000, 99_999), "a moment before");
    assert!(!voids(&invalidations, 10_001, 99_999));
    assert!(!voids(&invalidations, 10_000, 100_000) && voids(&invalidations, 9_000, 100_000));
    assert!(invalidations.add(&record("user:ann", 20, 300), 150_000));
    assert_eq!(invalidations.len(), 2, "what has expired is forgotten");
    assert!(invalidations.add(&record("user:ann", 21, 301), 150_000));
    assert_eq!(invalidations.len(), 2, "what is covered is forgotten");
    let endless = SessionInvalidation { recipient: "user:eve".into(), ..Default::default() };
    assert!(invalidations.add(&Invalidation::of(&endless), u64::MAX - 1));
    assert_eq!(invalidations.len(), 1);
}

proptest! {
    #[test]
    fn a_topic_is_granted_by_its_name_and_by_each_of_its_beginnings(
        names in prop::collection::vec("[ab!ä]{0,3}\\*?", 0..8),
        topics in prop::collection::vec("[ab!ä*]{1,4}", 1..12),
    ) {
        let mut memberships = Memberships::default();
        for (slot, name) in (0..).zip(&names) {
            memberships.apply_record(&joins(name), at(slot), 0);
        }
        for topic in &topics {
            let named = |name: &str| name == topic || name.strip_suffix('*').is_some_and(|part| topic.starts_with(part));
            let first = names.iter().position(|name| named(name)).unwrap_or(10) as u64;
            prop_assert_eq!(slots(&memberships, topic, 0), (first.min(10)..10).collect::<Vec<_>>(), "{} {:?}", topic, &names);
        }
    }
}
