//! Every way in which two claims on one gateway id can meet, and random claims that fight over it against an independent count.

use proptest::prelude::*;
use tonic::Code;

use galaxy_push_proto::Reason;

use super::*;

pub(super) fn claim(instance: &str, attempt: u64) -> Claim {
    Claim {
        gateway: "gw".into(),
        instance: instance.into(),
        attempt,
        peer: format!("{instance}:{attempt}"),
        ..Claim::default()
    }
}

pub(super) const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn admit(gateways: &mut Gateways, claim: Claim, now: Duration) -> Result<Admitted, Failure> {
    match gateways.claim(claim, None, None, now)? {
        ClaimOutcome::Admitted(admitted) => Ok(admitted),
        must_probe => panic!("{must_probe:?}"),
    }
}

fn stream_end(admitted: &Admitted) -> Option<StreamEnd> {
    admitted.signal.borrow().stream_end.clone()
}

#[test]
fn who_gives_way() {
    for (older, newer, kind) in [
        (claim("a", 1), claim("a", 2), Some(TakeoverKind::ReconnectWhileAlive)), // who has just come is alive
        (claim("a", 1), claim("a", 1), Some(TakeoverKind::Reconnect)),           // a transparent retry
        (claim("a", 2), claim("a", 1), None),
        (claim("a", 9), claim("b", 1), Some(TakeoverKind::OtherInstance)),
        (claim("a", 9), claim("", 0), Some(TakeoverKind::OtherInstance)),
        (claim("", 0), claim("a", 1), Some(TakeoverKind::OtherInstance)),
        (claim("", 0), claim("", 0), Some(TakeoverKind::OtherInstance)), // without an instance id the last wins
    ] {
        let mut gateways = Gateways::default();
        let first = admit(&mut gateways, older.clone(), s(0)).unwrap();
        let second = admit(&mut gateways, newer.clone(), s(0));
        assert_eq!(first.takeover, None);
        match kind {
            Some(kind) => {
                let second = second.unwrap();
                assert_eq!(second.takeover, Some(Takeover { older, kind, log_count: Some(1) }), "{newer:?}");
                assert!(second.generation > first.generation && stream_end(&second).is_none());
                assert_eq!(stream_end(&first), Some(StreamEnd::Replaced { rival: newer, logged: true }));
            }
            None => {
                let refused = second.unwrap_err();
                assert_eq!((refused.code, refused.reason), (Code::Aborted, Some(Reason::StaleAttempt)));
                assert_eq!(stream_end(&first), None, "a late duplicate disturbs nobody");
            }
        }
    }
}

/// Two instances take the id from each other every ten seconds until it is about to flap; the last claim is `next`'s.
fn about_to_flap() -> (Gateways, Admitted, Duration) {
    let (mut gateways, mut now, mut last) = (Gateways::default(), s(100), None);
    for instance in ["a", "b", "a", "b", "a", "b"] {
        last = Some(admit(&mut gateways, claim(instance, now.as_secs()), now).unwrap());
        now += s(10);
    }
    assert_eq!(gateways.flapping_count(now), 0, "four returns");
    (gateways, last.unwrap(), now)
}

fn probe(gateways: &mut Gateways, newer: Claim, now: Duration) -> LivenessProbe {
    match gateways.claim(newer, None, None, now) {
        Ok(ClaimOutcome::ProbeHere(probe)) => probe,
        other => panic!("{other:?}"),
    }
}

/// A late duplicate of whoever lost the id is known by its attempt, and neither takes the id nor counts as a return.
#[test]
fn a_late_duplicate_of_an_instance_that_lost_the_id_is_stale() {
    let mut gateways = Gateways::default();
    admit(&mut gateways, claim("a", 5), s(0)).unwrap();
    let holder = admit(&mut gateways, claim("b", 1), s(1)).unwrap();
    for i in 0..20 {
        let late = admit(&mut gateways, claim("a", 4), s(2 + i)).unwrap_err();
        assert_eq!((late.code, late.reason), (Code::Aborted, Some(Reason::StaleAttempt)));
        assert!(late.message.contains("\"b\" at b:1"), "{late}");
        assert_eq!((&*late.metadata["instance"], &*late.metadata["peer"]), ("b", "b:1"));
    }
    let the_very_one = admit(&mut gateways, claim("a", 5), s(22)).unwrap_err();
    assert_eq!(
        the_very_one.reason,
        Some(Reason::StaleAttempt),
        "whoever takes an id back comes with a higher attempt"
    );
    assert_eq!((stream_end(&holder), gateways.flapping_count(s(22))), (None, 0));
    gateways.release("gw", holder.generation, s(23));
    assert_eq!(admit(&mut gateways, claim("a", 4), s(24)).unwrap_err().reason, Some(Reason::StaleAttempt));
    let back = admit(&mut gateways, claim("a", 5), s(25)).unwrap();
    gateways.release("gw", back.generation, s(25));
    assert_eq!(admit(&mut gateways, claim("a", 1), s(26)).unwrap_err().reason, Some(Reason::StaleAttempt));
    admit(&mut gateways, claim("a", 1), s(86)).unwrap(); // a minute later nothing is known of it
}

/// Two processes with one instance id: whoever comes has a higher attempt, and the stream it ends is alive.
#[test]
fn two_living_processes_with_one_instance_id_make_it_flap() {
    let mut gateways = Gateways::default();
    let mut incumbent = admit(&mut gateways, claim("a", 1), s(0)).unwrap();
    for attempt in 2..6 {
        incumbent.readiness.wants_more();
        incumbent = admit(&mut gateways, claim("a", attempt), s(8 * attempt)).unwrap();
        assert_eq!(
            incumbent.takeover.as_ref().map(|takeover| takeover.kind),
            Some(TakeoverKind::ReconnectWhileAlive)
        );
    }
    incumbent.readiness.wants_more();
    let asked = probe(&mut gateways, claim("a", 6), s(50));
    gateways.record_pong("gw", incumbent.generation, 1);
    let refused = gateways.claim(claim("a", 6), Some(&asked), None, s(50)).unwrap_err();
    assert_eq!((refused.reason, refused.retry_after), (Some(Reason::HeldOff), Some(s(15))));
    assert!(refused.message.contains("\"a\" at a:5") && refused.message.contains("instance id"), "{refused}");
    assert_eq!((stream_end(&incumbent), gateways.flapping_count(s(50))), (None, 1));
    // Another process that stops reading gives way to it all the same.
    incumbent.readiness.sent(s(51));
    let newer = admit(&mut gateways, claim("a", 7), s(60)).unwrap();
    assert_eq!(newer.takeover.map(|takeover| takeover.kind), Some(TakeoverKind::Reconnect));
}

/// Its streams die without a word, and look alive until HTTP/2's pings have found that out.
#[test]
fn a_lone_gateway_whose_path_flaps_is_held_off_for_15_s_each_time() {
    let mut gateways = Gateways::default();
    let mut left_behind = admit(&mut gateways, claim("a", 1), s(0)).unwrap();
    for attempt in 2..6 {
        left_behind.readiness.wants_more();
        left_behind = admit(&mut gateways, claim("a", attempt), s(8 * attempt)).unwrap();
    }
    for at in [50, 70, 90, 110] {
        left_behind.readiness.wants_more();
        let asked = probe(&mut gateways, claim("a", at), s(at));
        gateways.record_pong("gw", left_behind.generation, asked.ping);
        let refused = gateways.claim(claim("a", at), Some(&asked), None, s(at)).unwrap_err();
        assert_eq!((refused.reason, refused.retry_after), (Some(Reason::HeldOff), Some(s(15))), "at {at}");
        gateways.release("gw", left_behind.generation, s(at + 14));
        left_behind = admit(&mut gateways, claim("a", at + 1), s(at + 15)).unwrap();
        assert!(left_behind.takeover.is_none(), "it is back, and 5 s later its path breaks again");
    }
    let mut flap = fence::OwnershipFlap::default();
    assert_eq!([false, true, false].map(|own| flap.hold_off(own, s(1))), [s(60), s(15), s(60)]);
}

#[test]
fn coming_back_to_a_stream_that_takes_nothing_is_no_return() {
    let mut gateways = Gateways::default();
    for attempt in 1..30 {
        let incumbent = admit(&mut gateways, claim("a", attempt), s(3 * attempt)).unwrap();
        assert!(incumbent.takeover.is_none_or(|takeover| takeover.kind == TakeoverKind::Reconnect));
    }
    assert_eq!(gateways.flapping_count(s(90)), 0);
}

#[test]
fn a_transparent_retry_is_no_return() {
    let mut gateways = Gateways::default();
    for _ in 0..30 {
        let incumbent = admit(&mut gateways, claim("a", 1), s(1)).unwrap();
        incumbent.readiness.wants_more();
    }
    assert_eq!(gateways.flapping_count(s(1)), 0);
    let later = admit(&mut gateways, claim("a", 1), s(10)).unwrap(); // one that comes this late is none
    assert_eq!(later.takeover.map(|takeover| takeover.kind), Some(TakeoverKind::ReconnectWhileAlive));
}

/// Two processes with one instance id that both call each attempt the first: 170 takeovers a second, and it would not flap.
#[test]
fn two_living_processes_that_do_not_count_their_attempts_make_it_flap_too() {
    let (mut gateways, mut lines) = (Gateways::default(), 0);
    for i in 0..1_000u64 {
        let now = Duration::from_millis(6 * i);
        match gateways.claim(claim("a", 1), None, None, now) {
            Ok(ClaimOutcome::Admitted(admitted)) => {
                admitted.readiness.wants_more();
                lines += usize::from(admitted.takeover.is_some_and(|takeover| takeover.is_logged()));
            }
            refused => {
                let Err(Failure { reason: Some(Reason::HeldOff), .. }) = refused else {
                    panic!("{refused:?}")
                };
                assert!((2_000..2_100).contains(&now.as_millis()), "held off at {now:?}");
                assert!(lines < 12, "{lines} lines");
                return;
            }
        }
    }
    panic!("nobody was held off");
}

#[test]
fn what_is_told_of_a_flapping_id_is_rate_limited_and_summed_up() {
    let (mut gateways, mut now, mut told) = (Gateways::default(), s(0), Vec::new());
    for _ in 0..40 {
        let admitted = admit(&mut gateways, claim("", 0), now).unwrap();
        told.extend(admitted.takeover.and_then(|takeover| takeover.log_count));
        now += s(5);
    }
    assert_eq!(told, [1, 2, 4, 8, 16, 32]);
    assert_eq!(gateways.record_refusal("gw", now), None);
    assert_eq!(gateways.expire(now), []);
    let summaries = gateways.expire(now + s(61));
    let [(gateway, FlapEvents { count: 40, unlogged: 34, .. })] = &summaries[..] else {
        panic!("{summaries:?}")
    };
    assert_eq!(gateway, "gw");
}

#[test]
fn of_a_flapping_id_an_incumbent_that_answers_stays() {
    let (mut gateways, incumbent, now) = about_to_flap();
    let asked = probe(&mut gateways, claim("a", 201), now);
    assert_eq!(incumbent.signal.borrow().ping, 1);
    gateways.record_pong("gw", incumbent.generation, 1);
    let refused = gateways.claim(claim("a", 201), Some(&asked), None, now).unwrap_err();
    assert_eq!((refused.code, refused.reason), (Code::ResourceExhausted, Some(Reason::HeldOff)));
    assert_eq!(refused.retry_after, Some(s(60)));
    assert_eq!((&*refused.metadata["instance"], &*refused.metadata["peer"]), ("b", "b:150"));
    assert_eq!(stream_end(&incumbent), None);
    assert_eq!(gateways.flapping_count(now), 1);
    assert_eq!(gateways.flapping_count(now + s(359)), 1);
    assert_eq!(gateways.flapping_count(now + s(361)), 0, "a minute and five quiet ones");
    // It came back in time, and the answer of before does not count.
    let asked = probe(&mut gateways, claim("a", 202), now + s(60));
    gateways.record_pong("gw", incumbent.generation, 2);
    let refused = gateways.claim(claim("a", 202), Some(&asked), None, now + s(60)).unwrap_err();
    assert_eq!(refused.retry_after, Some(s(120)));
    gateways.expire(now + s(479));
    assert!(!gateways.flaps.is_empty());
    gateways.expire(now + s(481));
    assert!(gateways.flaps.is_empty());
}

#[test]
fn of_a_flapping_id_an_incumbent_that_keeps_silent_gives_way() {
    let (mut gateways, incumbent, now) = about_to_flap();
    let asked = probe(&mut gateways, claim("a", 201), now);
    gateways.record_pong("gw", incumbent.generation - 1, 1);
    let newer = match gateways.claim(claim("a", 201), Some(&asked), None, now + ANSWER_WITHIN) {
        Ok(ClaimOutcome::Admitted(admitted)) => admitted,
        other => panic!("{other:?}"),
    };
    assert_eq!(newer.takeover.as_ref().map(|takeover| takeover.kind), Some(TakeoverKind::Unresponsive));
    assert!(matches!(stream_end(&incumbent), Some(StreamEnd::Replaced { .. })));
    let refused = gateways.claim(claim("b", 201), None, None, now + ANSWER_WITHIN).unwrap_err();
    assert_eq!(refused.reason, Some(Reason::HeldOff), "who has just come is alive");
}

#[test]
fn an_answer_of_another_stream_does_not_count() {
    let (mut gateways, incumbent, now) = about_to_flap();
    let asked = probe(&mut gateways, claim("a", 201), now);
    gateways.release("gw", incumbent.generation, now);
    let third = admit(&mut gateways, claim("c", 1), now).unwrap();
    gateways.record_pong("gw", third.generation, 1);
    let later = now + s(10);
    let again = match gateways.claim(claim("a", 201), Some(&asked), None, later) {
        Ok(ClaimOutcome::ProbeHere(probe)) => probe,
        other => panic!("{other:?}"),
    };
    assert_eq!(again.generation, third.generation);
}

#[test]
fn without_instance_ids_the_last_wins_and_the_flapping_shows() {
    let (mut gateways, mut now) = (Gateways::default(), s(0));
    let mut hows = Vec::new();
    for _ in 0..8 {
        let admitted = admit(&mut gateways, claim("", 0), now).unwrap();
        hows.extend(admitted.takeover.map(|takeover| takeover.kind));
        now += s(5);
    }
    assert_eq!(
        hows,
        [
            TakeoverKind::OtherInstance,
            TakeoverKind::OtherInstance,
            TakeoverKind::OtherInstance,
            TakeoverKind::OtherInstance,
            TakeoverKind::OtherInstance,
            TakeoverKind::FlapUnnamed,
            TakeoverKind::FlapUnnamed
        ]
    );
    assert_eq!(gateways.flapping_count(now), 1);
    let named = admit(&mut gateways, claim("a", 1), now).unwrap();
    assert_eq!(named.takeover.map(|takeover| takeover.kind), Some(TakeoverKind::FlapUnnamed));
}

#[test]
fn what_is_remembered_of_ids_is_bounded() {
    let mut gateways = Gateways::default();
    for i in 0..=FLAPS_MAX {
        for instance in ["a", "b"] {
            admit(&mut gateways, Claim { gateway: i.to_string(), ..claim(instance, 1) }, s(0)).unwrap();
        }
    }
    assert_eq!(gateways.flaps.len(), FLAPS_MAX);
    gateways.expire(s(61));
    assert!(gateways.flaps.is_empty());
}

#[test]
fn cleaning_up_after_the_older_leaves_the_newer_alone() {
    let mut gateways = Gateways::default();
    let first = admit(&mut gateways, claim("a", 1), s(0)).unwrap();
    let second = admit(&mut gateways, claim("b", 1), s(0)).unwrap();
    gateways.release("gw", first.generation, s(0));
    let third = admit(&mut gateways, claim("c", 1), s(0)).unwrap();
    assert!(stream_end(&second).is_some(), "it was still known, and so it was ended");
    gateways.release("gw", third.generation, s(0));
    assert_eq!(admit(&mut gateways, claim("d", 1), s(0)).unwrap().takeover, None);
}

#[test]
fn ids_are_independent_and_generations_rise() {
    let mut gateways = Gateways::default();
    let first = admit(&mut gateways, claim("a", 1), s(0)).unwrap();
    let other = Claim { gateway: "other".into(), ..claim("a", 1) };
    let second = admit(&mut gateways, other, s(0)).unwrap();
    assert!(stream_end(&first).is_none() && second.generation > first.generation);
}

#[test]
fn a_drain_spreads_the_returns_and_admits_nobody() {
    let mut gateways = Gateways::default();
    let streams: Vec<_> = (0..3)
        .map(|i| admit(&mut gateways, Claim { gateway: format!("gw{i}"), ..claim("a", 1) }, s(0)).unwrap())
        .collect();
    gateways.stop_admitting();
    assert_eq!(admit(&mut gateways, claim("z", 1), s(0)).unwrap_err().reason, Some(Reason::Draining));
    assert_eq!(gateways.schedule_drain(s(7), 10, Duration::from_millis(360)), Some(3));
    assert_eq!(gateways.schedule_drain(s(8), 10, Duration::from_millis(360)), None);
    let ms = Duration::from_millis;
    for (stream, (close_at, back_at)) in streams.iter().zip([(7_000, 7_000), (7_100, 7_100), (7_180, 7_200)])
    {
        let expected =
            StreamEnd::Draining { close_at: ms(close_at), close_by: ms(7_360), back_at: ms(back_at) };
        assert_eq!(stream_end(stream), Some(expected));
    }
}

/// What happens next to one gateway id.
#[derive(Clone, Debug)]
enum Op {
    /// After so many milliseconds, this instance comes; the incumbent answers pings or does not.
    Claim { after_ms: u64, who: usize, answers: bool },
    /// The stream with this index, of all that ever were, is cleaned up.
    Leave { index: usize },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        9 => (prop_oneof![0..3_000u64, 0..20_000u64, 0..400_000u64], 0usize..4, any::<bool>())
            .prop_map(|(after_ms, who, answers)| Op::Claim { after_ms, who, answers }),
        1 => any::<usize>().prop_map(|index| Op::Leave { index }),
    ]
}

/// An independent count of who returned when: the whole story is kept.
#[derive(Default)]
struct Story {
    lost: Vec<(String, Duration)>,
    returns: Vec<Duration>,
}

impl Story {
    fn returned(&self, instance: &str, now: Duration) -> bool {
        self.lost.iter().any(|(loser, at)| loser == instance && now - *at <= s(60))
    }

    fn returns_of_late(&self, now: Duration) -> usize {
        self.returns.iter().filter(|at| now - **at <= s(60)).count()
    }
}

proptest! {
    #[test]
    fn whatever_happens_one_stream_holds_the_id(ops in prop::collection::vec(op(), 1..80)) {
        let (mut gateways, mut now, mut story) = (Gateways::default(), s(1_000), Story::default());
        let (mut attempt, mut admitted_at) = (0, now);
        let mut streams: Vec<(Admitted, String, bool)> = Vec::new(); // and whether it has left
        let mut held_off_until = None::<Duration>;
        for op in ops {
            match op {
                Op::Leave { index } => {
                    let index = index % streams.len().max(1);
                    if let Some((stream, _, left)) = streams.get_mut(index) {
                        gateways.release("gw", stream.generation, now);
                        *left = true;
                    }
                }
                Op::Claim { after_ms, who, answers } => {
                    now += Duration::from_millis(after_ms);
                    gateways.expire(now);
                    let instance = ["a", "b", "c", ""][who];
                    let holder = streams.iter().rposition(|(stream, _, left)| !left && stream_end(stream).is_none());
                    // One that comes again to a stream that is alive fights with itself, which is another story.
                    let has_it = holder.is_some_and(|holder| !instance.is_empty() && streams[holder].1 == instance);
                    if has_it && now - admitted_at <= ANSWER_WITHIN {
                        continue;
                    }
                    attempt += 1;
                    let mut claimed = gateways.claim(claim(instance, attempt), None, None, now);
                    if let Ok(ClaimOutcome::ProbeHere(asked)) = &claimed {
                        let holder = holder.unwrap();
                        prop_assert!(streams[holder].0.signal.borrow().ping >= asked.ping);
                        if answers {
                            gateways.record_pong("gw", streams[holder].0.generation, asked.ping);
                        }
                        claimed = gateways.claim(claim(instance, attempt), Some(asked), None, now);
                    }
                    match claimed {
                        Ok(ClaimOutcome::ProbeHere(_)) => prop_assert!(false, "must_probe twice"),
                        Ok(ClaimOutcome::ProbeRemote) => prop_assert!(false, "there is nothing remote"),
                        Ok(ClaimOutcome::Admitted(admitted)) => {
                            prop_assert_eq!(admitted.takeover.is_some(), holder.is_some());
                            if let Some(holder) = holder {
                                let older = streams[holder].1.clone();
                                prop_assert!(stream_end(&streams[holder].0).is_some());
                                if older != instance || instance.is_empty() {
                                    if story.returned(instance, now) {
                                        story.returns.push(now);
                                    }
                                    story.lost.retain(|(loser, _)| *loser != older);
                                    story.lost.push((older, now));
                                }
                            }
                            let rises = streams.last().is_none_or(|(last, ..)| admitted.generation > last.generation);
                            prop_assert!(rises);
                            streams.push((admitted, instance.to_owned(), false));
                            admitted_at = now;
                        }
                        Err(refused) => {
                            prop_assert_eq!(refused.reason, Some(Reason::HeldOff));
                            let incumbent = &streams[holder.unwrap()];
                            prop_assert!(stream_end(&incumbent.0).is_none(), "the incumbent stays");
                            prop_assert!(!instance.is_empty() && !incumbent.1.is_empty() && incumbent.1 != instance);
                            let wait = refused.retry_after.unwrap();
                            prop_assert!(wait <= s(600));
                            let returns = story.returns_of_late(now) + usize::from(story.returned(instance, now));
                            let still = held_off_until.is_some_and(|until| now < until + s(300));
                            prop_assert!(returns >= 5 || still, "{} returns", returns);
                            held_off_until = Some(now + wait);
                        }
                    }
                }
            }
            let open = streams.iter().filter(|(stream, _, left)| !left && stream_end(stream).is_none()).count();
            prop_assert!(open <= 1, "one stream per gateway id");
            prop_assert_eq!(open, gateways.current.len());
        }
    }
}
