//! The records against a plain list of everything ever said, and the moments that matter.

use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

fn invalidation(recipient: &str, issued_before: i64, expires_at: i64) -> v1::SessionInvalidation {
    v1::SessionInvalidation {
        recipient: recipient.into(),
        issued_before: at(issued_before),
        expires_at: at(expires_at),
        reason: format!("{issued_before}..{expires_at}"),
    }
}

fn membership(recipient: &str, topic: &str, member: bool, expires_at: Option<i64>) -> v1::Membership {
    v1::Membership {
        recipient: recipient.into(),
        topic: topic.into(),
        member,
        expires_at: expires_at.and_then(at),
    }
}

/// Everything held, in pages of one record each, as short texts.
fn all(standing: &mut Standing, now_s: u64) -> Vec<String> {
    let (mut texts, mut after) = (Vec::new(), None);
    loop {
        let page = standing.page(after.as_ref(), 1, 0, now_s * 1_000);
        texts.extend(page.records.iter().map(|(kind, message)| match kind {
            LogKind::SessionInvalidation => {
                let record = v1::SessionInvalidation::decode(message.clone()).unwrap();
                format!("{} {}", record.recipient, record.reason)
            }
            LogKind::Membership => {
                let record = v1::Membership::decode(message.clone()).unwrap();
                format!("{} in {}", record.recipient, record.topic)
            }
            LogKind::Event => panic!("an event is no record"),
        }));
        after = page.next;
        if after.is_none() {
            return texts;
        }
    }
}

#[test]
fn the_latest_membership_holds_until_it_expires_or_ends() {
    let mut standing = Standing::new(10);
    for record in [
        membership("user:1", "a", true, None),
        membership("user:1", "b", true, Some(100)),
        membership("user:2", "a", true, Some(50)),
        membership("user:2", "a", true, Some(100)),
        membership("user:3", "a", true, None),
        membership("user:3", "a", false, None),
        membership("user:4", "a", false, None),
        membership("user:5", "a", true, Some(5)),
    ] {
        standing.apply(&Change::membership(&record).0, None, 10_000);
    }
    assert_eq!(all(&mut standing, 99), ["user:1 in a", "user:1 in b", "user:2 in a"]);
    assert_eq!(standing.count(99_999), Count { invalidations: 0, memberships: 3 });
    assert_eq!(all(&mut standing, 100), ["user:1 in a"]);
    assert_eq!(standing.count(u64::MAX), Count { invalidations: 0, memberships: 1 }, "without an end, never");
}

#[test]
fn no_invalidation_undoes_a_stronger_one() {
    let mut standing = Standing::new(10);
    for (issued_before, expires_at) in [(10, 100), (20, 50), (5, 90), (10, 60), (15, 50)] {
        standing.apply(&Change::invalidation(&invalidation("user:1", issued_before, expires_at)).0, None, 0);
    }
    standing.apply(&Change::invalidation(&invalidation("user:10", 1, 70)).0, None, 0);
    assert_eq!(all(&mut standing, 0), ["user:1 10..100", "user:1 20..50", "user:10 1..70"]);
    standing.apply(&Change::invalidation(&invalidation("user:1", 30, 200)).0, None, 0);
    assert_eq!(all(&mut standing, 0), ["user:1 30..200", "user:10 1..70"]);
    assert_eq!(standing.count(0), Count { invalidations: 2, memberships: 0 });
}

fn full(records_max: usize) -> Full {
    Full { kind: LogKind::Membership, records_max, publisher: None }
}

#[test]
fn a_full_set_takes_what_replaces_and_what_ends() {
    let mut standing = Standing::new(2);
    let change = |record: v1::Membership| Change::membership(&record).0;
    let (a, b) =
        (change(membership("user:1", "a", true, None)), change(membership("user:1", "b", true, Some(9))));
    assert_eq!(standing.check([&a, &b, &a].into_iter(), None, 0), Ok(()), "one key counts once");
    standing.apply(&a, None, 0);
    standing.apply(&b, None, 0);
    let c = change(membership("user:1", "c", true, None));
    let end_of_a = change(membership("user:1", "a", false, None));
    assert_eq!(standing.check([&c].into_iter(), None, 0), Err(full(2)));
    assert_eq!(standing.check([&end_of_a, &c].into_iter(), None, 0), Err(full(2)));
    assert_eq!(standing.check([&a, &end_of_a].into_iter(), None, 0), Ok(()));
    assert_eq!(standing.check([&c].into_iter(), None, 9_000), Ok(()), "what has expired makes room");
}

/// A set full of memberships takes every invalidation, and the other way round.
#[test]
fn each_kind_has_a_bound_of_its_own() {
    let mut standing = Standing::new(2);
    let member = |topic: &str| Change::membership(&membership("user:1", topic, true, None)).0;
    let void = |user: &str| Change::invalidation(&invalidation(user, 1, 9)).0;
    for change in [member("a"), member("b"), void("user:1"), void("user:2")] {
        assert_eq!(standing.check([&change].into_iter(), None, 0), Ok(()));
        standing.apply(&change, None, 0);
    }
    assert_eq!(standing.check([&member("c")].into_iter(), None, 0), Err(full(2)));
    let no_more = standing.check([&void("user:3")].into_iter(), None, 0).unwrap_err();
    assert_eq!((no_more.kind, no_more.publisher), (LogKind::SessionInvalidation, None));
    assert_eq!(standing.count(0), Count { invalidations: 2, memberships: 2 });
}

/// Whatever a publisher holds, it leaves as much to the others.
#[test]
fn a_publisher_holds_no_more_than_it_leaves_free() {
    let mut standing = Standing::new(100);
    let mut fill = |publisher: &str| {
        let publisher: Arc<str> = publisher.into();
        for i in 0.. {
            let change = Change::membership(&membership(&format!("user:{publisher}-{i}"), "t", true, None)).0;
            match standing.check([&change].into_iter(), Some(&publisher), 0) {
                Ok(()) => standing.apply(&change, Some(&publisher), 0),
                Err(full) => {
                    assert_eq!(full.publisher, Some((publisher.clone(), i)));
                    assert_eq!(
                        standing.fill(LogKind::Membership, Some(&publisher), 0),
                        Fill { held: i, max: i }
                    );
                    return i;
                }
            }
        }
        0
    };
    assert_eq!(["a", "b", "c"].map(&mut fill), [50, 25, 12]);
    assert_eq!(standing.fill(LogKind::Membership, None, 0), Fill { held: 87, max: 100 });
    assert_eq!(standing.fill(LogKind::SessionInvalidation, Some("a"), 0), Fill { held: 0, max: 50 });
    let end = Change::membership(&membership("user:a-0", "t", false, None)).0;
    standing.apply(&end, None, 0);
    assert_eq!(standing.fill(LogKind::Membership, Some("a"), 0).held, 49);
    let lone = Change::membership(&membership("user:1", "t", true, None)).0;
    assert_eq!(Standing::new(1).check([&lone].into_iter(), Some(&"a".into()), 0), Ok(()), "one always fits");
}

/// What others hold is not had by saying it once more, with a later end.
#[test]
fn a_publisher_takes_over_no_more_than_its_share() {
    let void = |user: &str, until| Change::invalidation(&invalidation(user, 1, until)).0;
    let member = |user: &str, until| Change::membership(&membership(user, "t", true, Some(until))).0;
    type Said<'a> = &'a dyn Fn(&str, i64) -> Change;
    for change in [&void as Said<'_>, &member] {
        let mut standing = Standing::new(16);
        let mut say = |publisher: &str, user: String, until: i64| {
            let (publisher, change) = (Arc::from(publisher), change(&user, until));
            let fits = standing.check([&change].into_iter(), Some(&publisher), 0);
            fits.map(|()| standing.apply(&change, Some(&publisher), 0)).is_ok()
        };
        assert_eq!((0..9).filter(|i| say("a", format!("user:a{i}"), 9)).count(), 8);
        assert_eq!((0..9).filter(|i| say("b", format!("user:b{i}"), 9)).count(), 4);
        assert!((0..4).all(|i| !say("a", format!("user:b{i}"), 99)), "they stay the other's");
        assert!((0..8).all(|i| say("a", format!("user:a{i}"), 99)), "one's own may be said again");
        assert!(say("c", "user:victim".into(), 9), "and there is room for another's");
    }
}

/// Each voids more tokens than the one before, for a shorter time: none covers another.
#[test]
fn many_invalidations_of_one_user_stay_few() {
    let mut standing = Standing::new(1_000);
    for i in 0..500 {
        standing.apply(&Change::invalidation(&invalidation("user:1", i, 1_000 - i)).0, None, 0);
    }
    let held = all(&mut standing, 0);
    assert_eq!(held.len(), INVALIDATIONS_PER_HOLDER_MAX, "{held:?}");
    let page = standing.page(None, usize::MAX, 0, 999_000);
    let [(_, message)] = &page.records[..] else { panic!("{page:?}") };
    let record = v1::SessionInvalidation::decode(message.clone()).unwrap();
    assert_eq!(record.expires_at, at(1_000), "the longest is kept: {record:?}");
    let another = Change::invalidation(&invalidation("user:1", 500, 500)).0;
    let mut full = Standing::new(INVALIDATIONS_PER_HOLDER_MAX);
    for i in 0..INVALIDATIONS_PER_HOLDER_MAX as i64 {
        full.apply(&Change::invalidation(&invalidation("user:1", i, 1_000 - i)).0, None, 0);
    }
    assert_eq!(full.check([&another].into_iter(), None, 0), Ok(()), "it needs no room");
}

#[test]
fn pages_are_as_large_as_they_may_be() {
    let mut standing = Standing::new(100);
    for i in 0..10 {
        standing.apply(&Change::membership(&membership(&format!("user:{i}"), "t", true, None)).0, None, 0);
    }
    let each = Change::membership(&membership("user:0", "t", true, None)).1.len();
    let first = standing.page(None, 4 * (each + 2), 2, 0);
    assert_eq!((first.records.len(), first.next.is_some()), (4, true));
    let second = standing.page(first.next.as_ref(), 4 * (each + 2) - 1, 2, 0);
    assert_eq!((second.records.len(), second.next.is_some()), (3, true));
    let last = standing.page(second.next.as_ref(), 1 << 20, 2, 0);
    assert_eq!((last.records.len(), last.next), (3, None));
    assert_eq!(Standing::new(1).page(None, 100, 0, 0), Page::default());
}

proptest! {
    /// Whatever was said and not forgotten is still covered, and nothing that was never said is.
    #[test]
    fn every_token_that_was_voided_stays_void(
        said in prop::collection::vec((0u8..3, 0i64..20, 1i64..40), 0..30),
        (now, issued) in (0i64..40, 0i64..20),
    ) {
        let mut standing = Standing::new(1_000);
        for (who, issued_before, expires_at) in &said {
            standing.apply(&Change::invalidation(&invalidation(&format!("user:{who}"), *issued_before, *expires_at)).0, None, 0);
        }
        for who in 0..3 {
            let expected = said.iter().any(|(w, before, until)| *w == who && issued < *before && now < *until);
            // Where two were made one, more may be void than was said, and never less.
            if said.iter().filter(|(w, ..)| *w == who).count() > INVALIDATIONS_PER_HOLDER_MAX && !expected {
                continue;
            }
            let page = standing.page(None, usize::MAX, 0, now as u64 * 1_000);
            let held = page.records.iter().any(|(_, message)| {
                let record = v1::SessionInvalidation::decode(message.clone()).unwrap();
                record.recipient == format!("user:{who}") && issued < record.issued_before.unwrap().seconds
            });
            prop_assert_eq!(held, expected);
        }
        prop_assert_eq!(standing.held.len(), standing.expiries.len());
        prop_assert_eq!(standing.count(now as u64 * 1_000).invalidations, standing.held.len());
        prop_assert!(standing.held.len() <= 3 * INVALIDATIONS_PER_HOLDER_MAX);
    }
}
