//! Who gives way and who is held off, and what is forgotten when.

use super::*;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The names take the id one after another, every `every` seconds; says after which of them the id flaps.
fn fight(names: &str, every: u64) -> Option<usize> {
    let mut flap = OwnershipFlap::default();
    let names: Vec<_> = names.split(' ').map(|name| name.trim_matches('_')).collect();
    for (i, pair) in names.windows(2).enumerate() {
        let now = s(every * (i as u64 + 1));
        if flap.is_on_with(pair[1], now) {
            return Some(i + 1);
        }
        flap.changed_hands(pair[0], 1, pair[1], now);
        assert!(!flap.is_on(now));
    }
    None
}

#[test]
fn only_returns_make_an_id_flap() {
    assert_eq!(fight("a b a b a b a", 10), Some(6), "the fifth return");
    assert_eq!(fight("a b a b a b a", 16), None, "never five in a minute");
    assert_eq!(fight("a b c d e f g h i j k l", 1), None, "restarts");
    assert_eq!(fight("a b c a b c a b c", 5), Some(7), "three can flap, too");
    let round: Vec<_> = (0..30).map(|i| format!("i{i}")).collect();
    let rounds = [&round[..], &round[..]].concat().join(" ");
    assert_eq!(fight(&rounds, 1), Some(34), "thirty that share one id");
    assert_eq!(fight("_ _ _ _ _ _ _ _ _", 5), Some(6), "old clients have one name: all but the first");
}

#[test]
fn an_instance_that_comes_again_to_its_living_stream_fights_with_itself() {
    let mut flap = OwnershipFlap::default();
    for i in 1..5 {
        assert!(!flap.is_on_with_itself(s(10 * i)), "{i}");
        flap.came_again(s(10 * i));
    }
    assert!(flap.is_on_with_itself(s(50)), "the fifth");
    assert!(!flap.is_on_with_itself(s(71)), "no longer five in a minute");
    assert_eq!((flap.hold_off(true, s(50)), flap.held_off_for(s(55))), (s(15), s(10)));
    assert!(flap.is_on_with_itself(s(50 + 15 + 299)) && flap.is_on_with("b", s(50 + 15 + 299)));
    assert!(!flap.is_on_with_itself(s(50 + 15 + 300)), "five quiet minutes");
}

#[test]
fn a_fight_with_others_is_none_with_itself() {
    let mut flap = OwnershipFlap::default();
    for pair in [("a", "b"), ("b", "a")].repeat(4) {
        flap.changed_hands(pair.0, 1, pair.1, s(1));
    }
    flap.hold_off(false, s(2));
    assert!(flap.is_on_with("b", s(3)) && !flap.is_on_with_itself(s(3)));
}

#[test]
fn the_highest_attempt_of_each_instance_is_remembered_for_a_minute() {
    let mut flap = OwnershipFlap::default();
    flap.changed_hands("a", 7, "b", s(10));
    flap.left("b", 3, s(20));
    assert_eq!((flap.highest_attempt("a", s(70)), flap.highest_attempt("b", s(70))), (Some(7), Some(3)));
    assert_eq!((flap.highest_attempt("a", s(71)), flap.highest_attempt("c", s(71))), (None, None));
    for i in 0..2 * FORMER_MAX {
        flap.left(&format!("i{i}"), 1, s(71));
    }
    assert_eq!(flap.former.len(), FORMER_MAX);
}

#[test]
fn who_left_by_itself_has_not_lost_the_id() {
    let mut flap = OwnershipFlap::default();
    flap.left("a", 1, s(1));
    assert!(!flap.lost_it("a", s(2)));
}

#[test]
fn whoever_is_held_off_waits_twice_as_long_each_time() {
    let (mut flap, mut now) = (OwnershipFlap::default(), s(1_000));
    for wait in [60, 120, 240, 480, 600, 600] {
        assert_eq!(flap.hold_off(false, now), s(wait));
        assert_eq!(flap.hold_off(false, now + s(7)), s(wait - 7), "too early: what is left");
        now += s(wait);
    }
    now += s(299);
    assert!(flap.is_on(now) && flap.is_on_with("z", now) && !flap.is_forgotten(now));
    now += s(1);
    assert!(!flap.is_on(now) && flap.is_forgotten(now), "five quiet minutes");
    assert_eq!(flap.hold_off(false, now), s(60));
}

#[test]
fn what_happened_a_minute_ago_is_forgotten() {
    let mut flap = OwnershipFlap::default();
    assert!(flap.is_forgotten(s(0)));
    flap.changed_hands("a", 1, "b", s(10));
    flap.changed_hands("b", 1, "a", s(20));
    assert!(!flap.is_forgotten(s(80)));
    assert!(flap.is_forgotten(s(81)));
}

/// Who stays or gives way, once it is fought over.
#[test]
fn of_two_with_names_that_flap_the_one_that_is_alive_stays() {
    let mut flap = OwnershipFlap::default();
    for (older, newer) in [("a", "b"), ("b", "a"), ("a", "b"), ("b", "a"), ("a", "b")] {
        let how =
            match flap.judge(&Incumbent { instance: older, would_answer: true, is_alive: None }, newer, s(1))
            {
                TakeoverDecision::Replace(how) => how,
                other => panic!("{other:?}"),
            };
        assert_eq!(how, TakeoverKind::OtherInstance);
        flap.took(older, 1, newer, how, s(1));
    }
    let judge = |flap: &OwnershipFlap, instance, is_alive, newer| {
        flap.judge(&Incumbent { instance, would_answer: true, is_alive }, newer, s(2))
    };
    assert_eq!(judge(&flap, "b", None, "a"), TakeoverDecision::ProbeFirst);
    assert_eq!(judge(&flap, "b", Some(true), "a"), TakeoverDecision::Keep);
    assert_eq!(judge(&flap, "b", Some(false), "a"), TakeoverDecision::Replace(TakeoverKind::Unresponsive));
    assert_eq!(
        judge(&flap, "b", Some(true), "c"),
        TakeoverDecision::Replace(TakeoverKind::OtherInstance),
        "who never had it does not return"
    );
    flap.took("b", 1, "a", TakeoverKind::Unresponsive, s(1));
    assert_eq!(judge(&flap, "a", Some(true), "c"), TakeoverDecision::Keep);
    assert_eq!(
        judge(&flap, "a", Some(true), ""),
        TakeoverDecision::Replace(TakeoverKind::FlapUnnamed),
        "without a name the last wins"
    );
    assert_eq!(judge(&flap, "", Some(true), "b"), TakeoverDecision::Replace(TakeoverKind::FlapUnnamed));
    let again = judge(&flap, "a", Some(true), "a");
    assert_eq!(
        again,
        TakeoverDecision::Replace(TakeoverKind::ReconnectWhileAlive),
        "a fight with others is none with itself"
    );
    let silent = Incumbent { instance: "a", would_answer: false, is_alive: None };
    assert_eq!(flap.judge(&silent, "a", s(2)), TakeoverDecision::Replace(TakeoverKind::Reconnect));
    assert_eq!(flap.is_on_until(s(2)), s(61));
}

#[test]
fn what_a_clock_that_is_ahead_has_written_holds_nobody_off_for_longer() {
    let mut flap = OwnershipFlap::default();
    for pair in [("a", "b"), ("b", "a")].repeat(4) {
        flap.changed_hands(pair.0, 1, pair.1, s(10_000));
    }
    flap.hold_off(false, s(10_000));
    flap.hold_off(true, s(10_000));
    let mut read = flap.clone();
    read.read_at(s(10_001));
    assert_eq!(read, flap, "a second is nothing");
    read.read_at(s(100));
    assert_eq!((read.hold_off(false, s(100)), read.held_off_for(s(100))), (s(60), s(60)));
    assert!(read.former.iter().all(|former| former.until == s(100)));
    assert_eq!((read.is_on_until(s(100)), read.is_on(s(459)), read.is_on(s(460))), (s(460), true, false));
    read.read_at(s(460));
    assert_eq!(read, OwnershipFlap::default(), "what no longer matters is gone");
    flap.held_off = Some(HeldOff { wait: s(1 << 40), until: s(1 << 40) });
    flap.read_at(s(10_000));
    assert_eq!(flap.hold_off(false, s(10_000)), s(600));
}
