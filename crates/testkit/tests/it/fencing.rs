//! The promise *fenced*: takeovers, late duplicates and instances that keep taking an id from each other.

use galaxy_push_testkit::{Promise, check};

use crate::script::{breaks, keeps, records};

/// A takeover while events are still on their way on the older stream.
const TAKEOVER: &str = "
    log 1 a all | log 2 b all
    by one
    open 1 gateway g - oldest
    welcome 1 FRESH 0 0 2 gen=1
    event 1 1 a
    by two
    open 2 gateway g - oldest
    welcome 2 FRESH 0 0 2 gen=2
    by one
    event 1 2 b
    goodbye 1 REPLACED 2
    close 1 ABORTED,REPLACED
    by publisher | log 3 c all
    by two
    event 2 1 a | event 2 2 b | event 2 3 c
    caught_up 2 3
    healed | wait 20000 | end
";

#[test]
fn fenced() {
    let broken = |good, line, by| breaks(Promise::Fenced, good, line, by);
    broken(TAKEOVER, "goodbye 1 REPLACED 2", "event 1 3 c");
    broken(TAKEOVER, "close 1 ABORTED,REPLACED", "");
    broken(TAKEOVER, "welcome 2 FRESH 0 0 2 gen=2", "welcome 2 FRESH 0 0 2 gen=1");
    let claimed = TAKEOVER
        .replacen("welcome 1", "claim 1 one 3 | welcome 1", 1)
        .replacen("welcome 2", "claim 2 one 4 | welcome 2", 1)
        .replacen("ABORTED,REPLACED", "ABORTED,STALE_ATTEMPT", 1);
    broken(&claimed, "claim 2 one 4", "claim 2 one 2");
    keeps(&claimed.replacen("claim 2 one 4", "claim 2 two 1", 1));
    // Where several hubs share a log, the older stream may be fed a little longer.
    let late =
        "rules grace=50000\n".to_owned() + &TAKEOVER.replacen("goodbye 1 REPLACED 2", "event 1 3 c", 1);
    keeps(&late.replacen("log 2 b all", "log 2 b all | log 3 c all", 1).replacen(
        "by publisher | log 3 c all",
        "",
        1,
    ));
}

/// One stream of a gateway id after another, each ending the one before it.
fn takeovers(pause: u64, claims: &[(&str, u64)]) -> String {
    let mut script = String::from("log 1 a all\n");
    for (i, (instance, attempt)) in claims.iter().enumerate() {
        let (before, stream) = (i, i + 1);
        script += &format!(
            "wait {pause} | open {stream} gateway g - 1 | claim {stream} {instance} {attempt}\n\
             welcome {stream} RESUMED 1 0 1 gen={stream} | caught_up {stream} 1\n"
        );
        match before.checked_sub(1).map(|older| claims[older].0 == *instance) {
            Some(true) => script += &format!("close {before} ABORTED,STALE_ATTEMPT\n"),
            Some(false) => {
                script += &format!("goodbye {before} REPLACED 1 | close {before} ABORTED,REPLACED\n")
            }
            None => {}
        }
    }
    script
}

#[test]
fn whoever_keeps_taking_an_id_back_is_held_off() {
    let duel = |names: [&'static str; 2], count: u64| -> Vec<_> {
        (1..=count).map(|i| (names[(i % 2) as usize], i)).collect()
    };
    keeps(&takeovers(1_000, &duel(["one", "two"], 9)));
    keeps(&takeovers(10_000, &duel(["one", "two"], 20)));
    keeps(&takeovers(1_000, &duel(["one", "one"], 8)));
    keeps(&takeovers(10_000, &duel(["one", "one"], 20)));
    for names in [["one", "two"], ["one", "one"]] {
        let report = check(&records(&takeovers(1_000, &duel(names, 10))));
        assert!(report.breaks(Promise::Fenced), "{names:?}: {report}");
    }
}

#[test]
fn no_attempt_comes_after_a_higher_one_of_its_instance() {
    keeps(&takeovers(1_000, &[("one", 3), ("two", 1), ("one", 3), ("two", 2)]));
    keeps(&takeovers(60_000, &[("one", 3), ("two", 1), ("one", 2)]));
    let report = check(&records(&takeovers(1_000, &[("one", 3), ("two", 1), ("one", 2)])));
    assert!(report.breaks(Promise::Fenced), "{report}");
}

/// Two of one instance that were asked for one after the other, at two hubs of one log, of which the second was cut off.
const CAME_BACK: &str = "
    rules grace=1000
    log 1 a all
    by g
    open 1 gateway g - 1 at=hub-b | claim 1 one 3 | welcome 1 RESUMED 1 0 1 gen=65536
    caught_up 1 1 | close 1 cut
    open 2 gateway g - 1 at=hub | claim 2 one 4 | welcome 2 RESUMED 1 0 1 gen=131072
    caught_up 2 1 | close 2 cut
    by publisher | wait 3000 | log 2 b all | log 3 c all
    by g
    open 3 gateway g - 1 at=hub-b | claim 3 one 5 | welcome 3 RESUMED 1 0 1 gen=65537
    caught_up 3 1 | close 3 ABORTED,STALE_ATTEMPT
    open 4 gateway g - 1 at=hub | claim 4 one 6 | welcome 4 RESUMED 1 0 3 gen=196608
    event 4 2 b | event 4 3 c | caught_up 4 3
";

#[test]
fn a_hub_that_is_cut_off_may_let_its_own_instance_come_back() {
    let broken = |line, by| breaks(Promise::Fenced, CAME_BACK, line, by);
    let third = "welcome 3 RESUMED 1 0 1 gen=65537";
    broken(third, "welcome 3 RESUMED 1 0 1 gen=131072");
    broken(third, "welcome 3 RESUMED 1 0 1 gen=65536");
    // It knew what was appended long after the takeover, so it knew of that.
    broken(third, "welcome 3 RESUMED 1 0 3 gen=65537");
    // Not there, or not the same.
    broken("open 3 gateway g - 1 at=hub-b", "open 3 gateway g - 1 at=hub-c");
    broken("claim 3 one 5", "claim 3 two 5");
    broken("rules grace=1000", "");
    broken("claim 3 one 5", "claim 3 one 2 ");
}

/// Whoever left by itself has not lost the id, and from whoever left nobody takes it.
#[test]
fn whoever_comes_after_a_stream_that_ended_by_itself_takes_nothing_back() {
    let names = ["one", "two"];
    let claims: Vec<_> = (1..=10_u64).map(|i| (names[(i % 2) as usize], i)).collect();
    let duel = takeovers(1_000, &claims);
    assert!(check(&records(&duel)).breaks(Promise::Fenced));
    // The fourth ends before the fifth comes: that one takes nothing back, and neither does the sixth, which had not lost it.
    let ended = "goodbye 4 REPLACED 1 | close 4 ABORTED,REPLACED";
    let left =
        duel.replacen(ended, "", 1).replacen("wait 1000 | open 5", "close 4 UNKNOWN | wait 1000 | open 5", 1);
    keeps(&left);
}

/// A hub that leaves while a gateway has one of two events.
const DRAIN: &str = "
    rules drain=3000
    by hub | start | log 1 a all | log 2 b all
    by g | open 1 gateway g - oldest at=hub | welcome 1 FRESH 0 0 2 gen=1 | event 1 1 a
    by world | fault leave hub
    by hub | log 3 c all
    by g | event 1 2 b | goodbye 1 DRAINING 2 | close 1 OK
";

#[test]
fn a_gateway_that_is_behind_has_the_whole_time_of_a_drain() {
    let whole = "event 1 2 b | goodbye 1 DRAINING 2";
    breaks(Promise::Drained, DRAIN, whole, "wait 2000 | goodbye 1 DRAINING 1");
    keeps(&DRAIN.replacen(whole, "wait 3000 | goodbye 1 DRAINING 1", 1));
    // Nobody knows how long this one was on its way.
    keeps(&DRAIN.replacen(whole, "by hub | start | by g | goodbye 1 DRAINING 1", 1));
}

/// It goes on with the drain that it is in, and has no more time for it.
#[test]
fn a_second_signal_to_leave_does_not_begin_a_drain_anew() {
    let twice = "fault leave hub | wait 2900 | fault leave hub | wait 200";
    let twice = DRAIN.replacen("fault leave hub", twice, 1);
    let cut_off = twice.replacen("event 1 2 b | goodbye 1 DRAINING 2", "goodbye 1 DRAINING 1", 1);
    breaks(Promise::Drained, &cut_off, "| wait 200", "");
    breaks(Promise::Drained, &cut_off, "fault leave hub | wait 2900 |", "wait 2900 |");
}
