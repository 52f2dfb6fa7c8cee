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
        standing.apply(&Change::membership(&record).0, 10_000);
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
        standing.apply(&Change::invalidation(&invalidation("user:1", issued_before, expires_at)).0, 0);
    }
    standing.apply(&Change::invalidation(&invalidation("user:10", 1, 70)).0, 0);
    assert_eq!(all(&mut standing, 0), ["user:1 10..100", "user:1 20..50", "user:10 1..70"]);
    standing.apply(&Change::invalidation(&invalidation("user:1", 30, 200)).0, 0);
    assert_eq!(all(&mut standing, 0), ["user:1 30..200", "user:10 1..70"]);
    assert_eq!(standing.count(0), Count { invalidations: 2, memberships: 0 });
}

#[test]
fn a_full_set_takes_what_replaces_and_what_ends() {
    let mut standing = Standing::new(2);
    let change = |record: v1::Membership| Change::membership(&record).0;
    let (a, b) =
        (change(membership("user:1", "a", true, None)), change(membership("user:1", "b", true, Some(9))));
    assert_eq!(standing.check([&a, &b, &a].into_iter(), 0), Ok(()), "one key counts once");
    standing.apply(&a, 0);
    standing.apply(&b, 0);
    let c = change(membership("user:1", "c", true, None));
    let end_of_a = change(membership("user:1", "a", false, None));
    assert_eq!(standing.check([&c].into_iter(), 0), Err(Full { records_max: 2 }));
    assert_eq!(standing.check([&end_of_a, &c].into_iter(), 0), Err(Full { records_max: 2 }));
    assert_eq!(standing.check([&a, &end_of_a].into_iter(), 0), Ok(()));
    assert_eq!(standing.check([&c].into_iter(), 9_000), Ok(()), "what has expired makes room");
}

#[test]
fn pages_are_as_large_as_they_may_be() {
    let mut standing = Standing::new(100);
    for i in 0..10 {
        standing.apply(&Change::membership(&membership(&format!("user:{i}"), "t", true, None)).0, 0);
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
            standing.apply(&Change::invalidation(&invalidation(&format!("user:{who}"), *issued_before, *expires_at)).0, 0);
        }
        for who in 0..3 {
            let expected = said.iter().any(|(w, before, until)| *w == who && issued < *before && now < *until);
            let page = standing.page(None, usize::MAX, 0, now as u64 * 1_000);
            let held = page.records.iter().any(|(_, message)| {
                let record = v1::SessionInvalidation::decode(message.clone()).unwrap();
                record.recipient == format!("user:{who}") && issued < record.issued_before.unwrap().seconds
            });
            prop_assert_eq!(held, expected);
        }
        prop_assert_eq!(standing.held.len(), standing.expiries.len());
        prop_assert_eq!(standing.count(now as u64 * 1_000).invalidations, standing.held.len());
    }
}
