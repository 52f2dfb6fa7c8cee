//! Limits that are set, and the part of a core that each user's replays have.

use super::*;

const AT: Duration = Duration::from_secs(1_000);

fn user(name: &str) -> Identity {
    Identity { user: Some(name.to_owned()), ..Identity::default() }
}

fn refused(result: Result<(Share, Duration), Refusal>) -> Option<Refusal> {
    result.err()
}

#[test]
fn connections_are_bounded_per_user_address_and_process() {
    let limits = UserLimits {
        connections: Some(4),
        connections_per_user: Some(2),
        connections_per_address: Some(3),
        ..UserLimits::default()
    };
    let quotas = Quotas::new(limits);
    let enter =
        |name: &str, address: &str| quotas.admit(&user(name), Some(address.parse().unwrap()), false, AT);
    let first = enter("ann", "198.51.100.1").unwrap();
    let _second = enter("ann", "198.51.100.1").unwrap();
    assert_eq!(refused(enter("ann", "198.51.100.9")), Some(Refusal::Full(Limit::User)));
    let _bob = enter("bob", "198.51.100.1").unwrap();
    assert_eq!(refused(enter("cid", "198.51.100.1")), Some(Refusal::Full(Limit::Address)));
    let _cid = enter("cid", "198.51.100.2").unwrap();
    assert_eq!(refused(enter("dan", "198.51.100.3")), Some(Refusal::Full(Limit::Gateway)));
    drop(first);
    let again = enter("ann", "198.51.100.1").unwrap();
    drop(again);
    // One subscriber has a whole network of IPv6 addresses.
    let quotas = Quotas::new(UserLimits { connections_per_address: Some(1), ..UserLimits::default() });
    let enter = |address: &str| quotas.admit(&Identity::default(), Some(address.parse().unwrap()), false, AT);
    let _one = enter("2001:db8:0:1::1").unwrap();
    assert_eq!(refused(enter("2001:db8:0:1::2")), Some(Refusal::Full(Limit::Address)));
    assert_eq!(refused(enter("2001:db8:0:2::1")), None);
    assert_eq!(quotas.lock().addresses.len(), 1, "whoever has gone is forgotten");
}

#[test]
fn resumes_are_bounded_per_user_and_second() {
    let quotas = Quotas::new(UserLimits { resumes_per_second: Some(2), ..UserLimits::default() });
    let resume = |name: &str, at| quotas.admit(&user(name), None, true, at).map(drop);
    assert!(resume("ann", AT).is_ok() && resume("ann", AT).is_ok());
    assert_eq!(resume("ann", AT), Err(Refusal::ResumesTooOften { wait: Duration::from_millis(500) }));
    assert!(resume("bob", AT).is_ok(), "another user");
    assert!(quotas.admit(&user("ann"), None, false, AT).is_ok(), "who begins at the head resumes nothing");
    assert!(resume("ann", AT + Duration::from_millis(500)).is_ok());
}

/// Threads of one user that connect, read the whole window and connect again, for as long as they are let: what they are
/// reckoned to cost in this time.
fn reckoned(quotas: &Arc<Quotas>, threads: usize, entries: u64, during: Duration) -> Duration {
    let (mut free_at, mut spent) = (vec![AT; threads], Duration::ZERO);
    let end = AT + during;
    while let Some((thread, &now)) =
        free_at.iter().enumerate().min_by_key(|(_, at)| **at).filter(|(_, at)| **at < end)
    {
        let (mut share, begins) = match quotas.admit(&user("eve"), None, true, now) {
            Ok(entered) => entered,
            Err(Refusal::ResumesTooOften { wait } | Refusal::ReplaysTooMuch { wait }) => {
                free_at[thread] = now + wait;
                continue;
            }
            Err(refusal) => panic!("no limit of connections is set: {refusal:?}"),
        };
        let (mut at, mut left) = (begins, entries);
        spent += OPENING;
        while left > 0 {
            if let Some(later) = share.turn(at) {
                at = later;
                continue;
            }
            let step = left.min(1_024);
            share.spend(step, 0);
            spent += PER_ENTRY * u32::try_from(step).unwrap();
            left -= step;
        }
        drop(share);
        free_at[thread] = at.max(now + Duration::from_nanos(1));
    }
    spent
}

#[test]
fn fifty_threads_that_replay_for_ever_take_their_part_of_a_core_and_no_more() {
    for entries in [0, 100, 1_000_000] {
        let quotas = Quotas::new(UserLimits::default());
        let during = Duration::from_secs(60);
        let spent = reckoned(&quotas, 50, entries, during);
        // What the turns under way at the end may still use comes on top.
        let allowed =
            AT_ONCE + during / PART_OF_A_CORE + TURN * 50 + PER_ENTRY * 1_024 * 50 + Duration::from_secs(1);
        assert!(
            spent <= allowed && spent > during / PART_OF_A_CORE / 2,
            "{entries}: {spent:?} of {allowed:?}"
        );
        let (_, begins) = quotas.admit(&user("ann"), None, true, AT + during).unwrap();
        assert_eq!(begins, AT + during, "another user waits for none of it");
    }
}

#[test]
fn what_is_not_needed_is_given_back_and_who_owes_nothing_is_forgotten() {
    let quotas = Quotas::new(UserLimits::default());
    let mut shares = Vec::new();
    // A thousand devices of one user come back at once, each of which has missed little.
    for _ in 0..1_000 {
        let (mut share, begins) = quotas.admit(&user("ann"), None, true, AT).unwrap();
        assert_eq!((begins, share.turn(AT)), (AT, None));
        share.spend(10, 1_000);
        share.done();
        shares.push(share);
    }
    drop(shares);
    for number in 0..10_000 {
        drop(
            quotas.admit(&user(&format!("u{number}")), None, true, AT + Duration::from_secs(number)).unwrap(),
        );
    }
    assert!(quotas.lock().users.len() <= 2, "{}", quotas.lock().users.len());
    let mut free = Share::unlimited();
    free.spend(u64::MAX, u64::MAX);
    assert_eq!(free.turn(Duration::ZERO), None);
}

/// The fault: after a peak the accounts of all who had come stayed, until twice as many would have come.
#[test]
fn accounts_are_given_back_after_a_peak() {
    let quotas = Quotas::new(UserLimits { resumes_per_second: Some(2), ..UserLimits::default() });
    let enter = |name: &str, at| quotas.admit(&user(name), None, true, at).unwrap().0;
    let mut shares: Vec<_> =
        (0..10_000).map(|number| enter(&format!("u{number}"), AT + Duration::from_millis(number))).collect();
    let _open = enter("open", AT + Duration::from_secs(20));
    // One who owes is not forgotten: to come back would be to owe nothing.
    drop((enter("owes", AT + Duration::from_secs(20)), enter("owes", AT + Duration::from_secs(20))));
    shares.reverse();
    drop(shares);
    let refusal = refused(quotas.admit(&user("owes"), None, true, AT + Duration::from_secs(20)));
    assert!(matches!(refusal, Some(Refusal::ResumesTooOften { .. })), "{refusal:?}");
    {
        let accounts = quotas.lock();
        let mut left: Vec<_> = accounts.users.keys().map(|name| &**name).collect();
        left.sort_unstable();
        assert_eq!(left, ["user:open", "user:owes"]);
        assert_eq!(accounts.closed.len(), 1);
    }
    drop(enter("last", AT + Duration::from_secs(60)));
    assert_eq!(quotas.lock().users.len(), 2, "the open one, and the last, which owes for its opening");
}

#[test]
fn who_closes_and_comes_back_still_owes_what_is_left_of_a_second_s_resumes() {
    let quotas = Quotas::new(UserLimits { resumes_per_second: Some(2), ..UserLimits::default() });
    let at = |ms| AT + Duration::from_millis(ms);
    let resume = |ms| quotas.admit(&user("ann"), None, true, at(ms)).map(drop);
    assert!(resume(0).is_ok() && resume(100).is_ok());
    assert!(resume(200).is_err());
}
