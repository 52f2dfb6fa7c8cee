//! What no single stream shows: a reader from one stream to its next, and a gateway that goes to another log and back.

use std::path::Path;

use galaxy_push_testkit::{Promise, check, history};

use crate::script::{breaks, keeps};

fn recorded(name: &str) -> galaxy_push_testkit::Report {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories").join(name);
    check(&history::read(&path).unwrap())
}

#[test]
fn a_goodbye_alone_that_leads_past_what_was_lost() {
    let report = recorded("blind-goodbye-alone.ndjson");
    assert!(report.breaks(Promise::CursorSafe) && report.breaks(Promise::GapFreeOrTold), "{report}");
}

#[test]
fn a_reader_that_is_thrown_back_gets_everything_twice() {
    let report = recorded("blind-twice.ndjson");
    assert!(report.breaks(Promise::Unique), "{report}");
}

/// A user that comes back with the cursor it was given.
const RESUMED: &str = "
    log 1 a user:1 | log 2 b user:1 | log 3 c user:1
    open 1 user u user:1 oldest | welcome 1 FRESH 0 0 3 | event 1 1 a | event 1 2 b | close 1 reset
    open 2 user u user:1 2 | welcome 2 RESUMED 2 0 3 | event 2 3 c | caught_up 2 3 | close 2 reset
    open 3 user u user:1 3 | welcome 3 RESUMED 3 0 3 | caught_up 3 3
";

#[test]
fn a_reader_takes_what_it_has_to_its_next_stream() {
    keeps(RESUMED);
    // Whoever presents another cursor asks for what comes.
    keeps(&RESUMED.replacen(
        "3 user u user:1 3 | welcome 3 RESUMED 3 0 3",
        "3 user u user:1 2 | welcome 3 RESUMED 2 0 3 | event 3 3 c",
        1,
    ));
    // Given a cursor that leads back, it has not asked for it.
    let back = "event 2 3 c | caught_up 2 3 | goodbye 2 DRAINING 2 | close 2 end\n\
                open 3 user u user:1 2 | welcome 3 RESUMED 2 0 3 | event 3 3 c | caught_up 3 3";
    let (good, rest) = RESUMED.split_once("event 2 3 c").unwrap();
    assert!(rest.contains("caught_up 3 3"));
    let report = check(&crate::script::records(&(good.to_owned() + back)));
    assert!(report.breaks(Promise::Unique), "{report}");
}

/// A gateway leaves log e1 at 2 for e2, and comes back. The user was away meanwhile.
const RETURNED: &str = "
    by hub | log 1 a user:1 | log 2 b user:1
    by other | log e2:1 x user:1
    by gw | start | follows 1
    by u | open 1 user u user:1 oldest at=gw | welcome 1 FRESH 0 0 2 | event 1 1 a | event 1 2 b | close 1 reset
    by gw | follows e2:0 left=2 | follows 2 left=e2:1
    by hub | log 3 c user:1
    by u | open 2 user u user:1 2 at=gw | welcome 2 EPOCH_CHANGED 2 2 3 | gap 2 EPOCH_CHANGED 2 2 | event 2 3 c
    caught_up 2 3
";

#[test]
fn a_gateway_that_returns_to_a_log_tells_of_the_time_between() {
    let silent = "welcome 2 RESUMED 2 2 3";
    let told = "welcome 2 EPOCH_CHANGED 2 2 3 | gap 2 EPOCH_CHANGED 2 2";
    let script = RETURNED.replacen(told, silent, 1);
    let broken = |script: &str| check(&crate::script::records(script)).breaks(Promise::GapFreeOrTold);
    assert!(broken(&script));
    // Nothing there was for it; or the gateway was started since and knows of nothing.
    assert!(!broken(&script.replacen("e2:1 x user:1", "e2:1 x user:2", 1)));
    assert!(!broken(&script.replacen("by hub | log 3", "by gw | start | follows 2\n by hub | log 3", 1)));
    // Whoever was already told of the return resumes like anybody.
    assert!(!broken(&script.replacen("close 1 reset", "", 1).replacen(
        "by hub | log 3 c",
        "by u | gap 1 EPOCH_CHANGED 2 e2:1 | gap 1 EPOCH_CHANGED e2:1 2 | close 1 reset\n by hub | log 3 c",
        1
    )));
}

/// To a gateway that was started meanwhile, and began in the other log, the log of its former life is a new one.
#[test]
fn a_gateway_that_was_not_in_a_log_in_its_life_has_not_returned_to_it() {
    let told = "welcome 2 EPOCH_CHANGED 2 2 3 | gap 2 EPOCH_CHANGED 2 2";
    let silent = RETURNED.replacen(told, "welcome 2 RESUMED 2 2 3", 1);
    let anew = silent.replacen("by gw | follows e2:0 left=2", "by gw | start | follows e2:0", 1);
    keeps(&anew);
    // Once it was there it has returned, be it in its first life or not.
    breaks(
        Promise::GapFreeOrTold,
        &anew,
        "start | follows e2:0 |",
        "start | follows 2 | follows e2:0 left=2 |",
    );
    let later = "follows 2 left=e2:0 | follows e2:0 left=2";
    breaks(
        Promise::GapFreeOrTold,
        &anew,
        "start | follows e2:0 |",
        &format!("start | follows e2:0 | {later} |"),
    );
}

/// What lies behind the return and behind what the user had is not told as missing.
#[test]
fn a_gap_where_a_log_returned_leads_no_further_than_to_the_return_or_to_where_the_user_stood() {
    let told = "gap 2 EPOCH_CHANGED 2 2 | event 2 3 c";
    breaks(Promise::Resumable, RETURNED, told, "gap 2 EPOCH_CHANGED 2 3");
    // Whoever comes from another log goes on at the return.
    let other =
        "open 2 user u user:1 e2:1 at=gw | welcome 2 EPOCH_CHANGED e2:1 0 3 | gap 2 EPOCH_CHANGED e2:1 2";
    let own = "open 2 user u user:1 2 at=gw | welcome 2 EPOCH_CHANGED 2 2 3 | gap 2 EPOCH_CHANGED 2 2";
    let other = RETURNED.replacen(own, other, 1);
    breaks(
        Promise::Resumable,
        &other,
        "gap 2 EPOCH_CHANGED e2:1 2 | event 2 3 c",
        "gap 2 EPOCH_CHANGED e2:1 3",
    );
}

#[test]
fn a_position_that_nobody_had_before_the_return_of_its_log_is_resumed() {
    let since = RETURNED.replacen(
        "by u | open 2 user u user:1 2 at=gw | welcome 2 EPOCH_CHANGED 2 2 3 | gap 2 EPOCH_CHANGED 2 2 | event 2 3 c\n",
        "by u | open 2 user u user:1 3 at=gw | welcome 2 RESUMED 3 2 3\n",
        1,
    );
    let needless = "welcome 2 EPOCH_CHANGED 3 2 3 | gap 2 EPOCH_CHANGED 3 3";
    breaks(Promise::Resumable, &since, "welcome 2 RESUMED 3 2 3", needless);
    // One that lay in the log by then, though the gateway had not come to it, may have been had elsewhere.
    let by_then = since.replacen("    by hub | log 3 c user:1\n", "", 1).replacen(
        "by gw | follows e2:0",
        "by hub | log 3 c user:1\n by gw | follows e2:0",
        1,
    );
    keeps(&by_then.replacen("welcome 2 RESUMED 3 2 3", needless, 1));
}

/// Its gateway follows another log, and would never come to that position.
#[test]
fn a_position_of_a_log_that_its_gateway_does_not_follow_is_not_waited_for() {
    let script = "
        by hub | log 1 a user:1
        by other | log e2:1 x user:1
        by gw | start | follows 1
        by u | open 1 user u user:1 e2:1 at=gw | welcome 1 EPOCH_CHANGED e2:1 0 1 | gap 1 EPOCH_CHANGED e2:1 0
        event 1 1 a | caught_up 1 1
    ";
    let told = "welcome 1 EPOCH_CHANGED e2:1 0 1 | gap 1 EPOCH_CHANGED e2:1 0
        event 1 1 a | caught_up 1 1";
    let waits = "welcome 1 RESUMED e2:1 0 1 | caught_up 1 e2:1";
    breaks(Promise::Resumable, script, told, waits);
    // It was there, or is about to go there; or it follows a log that is over.
    let waiting = script.replacen(told, waits, 1);
    keeps(&waiting.replacen("follows 1", "follows e2:0 | follows 1 left=e2:1", 1));
    keeps(&(waiting.clone() + "by gw | follows e2:0 left=1"));
    keeps(&waiting.replacen("by u |", "by hub | log e3:9 y user:2 | by u |", 1));
}

/// A gateway remembers eight logs, however often it was in them.
#[test]
fn a_gateway_that_was_often_in_few_logs_has_forgotten_none() {
    let script = |logs: usize| {
        let visits: String = (0..10).map(|visit| format!("follows e{}:0 | ", 2 + visit % logs)).collect();
        format!(
            "by hub | log 1 a user:1 | by gw | start | {visits} follows 1
             by u | open 1 user u user:1 1 at=gw | welcome 1 RESUMED 1 1 1 | caught_up 1 1"
        )
    };
    let (told, changed) =
        ("welcome 1 RESUMED 1 1 1", "welcome 1 EPOCH_CHANGED 1 1 1 | gap 1 EPOCH_CHANGED 1 1");
    breaks(Promise::Resumable, &script(2), told, changed);
    breaks(Promise::Resumable, &script(8), told, changed);
    keeps(&script(9).replacen(told, changed, 1));
}

/// What a handler had of a log that its client comes back to, and nothing behind that, is passed over.
#[test]
fn a_client_that_comes_back_to_a_log_passes_over_no_more_than_it_had() {
    let handler = "
        by hub | log 1 a all | log 2 b all | log 3 c all
        by other | log e2:1 x all
        by app | open 1 gateway app - oldest | welcome 1 FRESH 0 0 3 gen=1 | event 1 1 a | close 1 ended
        open 2 gateway app - 1 continues | welcome 2 EPOCH_CHANGED 1 e2:0 e2:1 gen=1
        gap 2 EPOCH_CHANGED 1 e2:0 | event 2 e2:1 x | caught_up 2 e2:1 | close 2 ended
        open 3 gateway app - e2:1 continues | welcome 3 EPOCH_CHANGED e2:1 0 3 gen=2
        gap 3 EPOCH_CHANGED e2:1 1 | event 3 2 b | event 3 3 c | caught_up 3 3
    ";
    breaks(
        Promise::Resumable,
        handler,
        "gap 3 EPOCH_CHANGED e2:1 1 | event 3 2 b",
        "gap 3 EPOCH_CHANGED e2:1 2",
    );
}

/// A gateway leaves log e1 at 2, while its user has 3 of it from another gateway, and comes back.
#[test]
fn a_gateway_that_left_a_log_before_its_user_tells_of_the_time_between() {
    let further = "
        by other | log e2:1 x user:1
        by hub | log 1 a user:1 | log 2 b user:1 | log 3 c user:1
        by gw | start | follows 1
        by u | open 1 user u user:1 oldest at=gw2 | welcome 1 FRESH 0 0 3
        event 1 1 a | event 1 2 b | event 1 3 c | close 1 reset
        by gw | follows e2:0 left=2 | follows 2 left=e2:1
        by hub | log 4 d user:1
        by u | open 2 user u user:1 3 at=gw
        welcome 2 EPOCH_CHANGED 3 2 4 | gap 2 EPOCH_CHANGED 3 3 | event 2 4 d | caught_up 2 4
    ";
    let told = "welcome 2 EPOCH_CHANGED 3 2 4 | gap 2 EPOCH_CHANGED 3 3";
    breaks(Promise::GapFreeOrTold, further, told, "welcome 2 RESUMED 3 2 4");
    // This one came to the log after the gateway had left it.
    let late = further.replacen(" | log 3 c user:1", "", 1).replacen(
        "by u | open 1",
        "by gw | follows e2:0 left=2\n by hub | log 3 c user:1\n by u | open 1",
        1,
    );
    let late = late.replacen("by gw | follows e2:0 left=2 | follows 2", "by gw | follows 2", 1);
    keeps(&late.replacen(told, "welcome 2 RESUMED 3 2 4", 1));
}

/// A gateway came from log e2 to e1, and went back: what it has of e1 lies before the cut.
#[test]
fn a_window_that_was_cut_behind_a_position_need_not_say_that_it_was_trimmed() {
    let cut = "
        by hub | log 1 a user:1 | log 2 b user:1
        by other | log e2:1 x user:1
        by gw | start | follows e2:0 | follows 0 left=e2:1
        by u | open 1 user u user:1 oldest at=gw2 | welcome 1 FRESH 0 0 2 | event 1 1 a | close 1 reset
        by gw | follows e2:1 left=2
        by other | log e2:2 y user:1
        by u | open 2 user u user:1 1 at=gw
        welcome 2 EPOCH_CHANGED 1 2 e2:2 | gap 2 EPOCH_CHANGED 1 e2:1 | event 2 e2:2 y | caught_up 2 e2:2
    ";
    // It was not in e2 before: the window goes on at the oldest position, and has not been cut.
    breaks(Promise::Resumable, cut, "follows e2:0 | follows 0 left=e2:1", "follows 0");
}

#[test]
fn a_user_that_came_with_more_than_its_gateway_gets_nothing_twice_when_a_log_returns() {
    let further = "
        by hub | log 1 a user:1 | log 2 b user:1 | log 3 c user:1
        by other | log e2:1 x user:1
        open 1 user u user:1 3 | welcome 1 RESUMED 3 0 3 | caught_up 1 3
        gap 1 EPOCH_CHANGED 3 e2:0 | event 1 e2:1 x | gap 1 EPOCH_CHANGED e2:1 3 | caught_up 1 3
    ";
    let twice = "gap 1 EPOCH_CHANGED e2:1 1 | event 1 2 b | event 1 3 c";
    breaks(Promise::Unique, further, "gap 1 EPOCH_CHANGED e2:1 3", twice);
}

/// The same, but the user stayed, too slow to see the other log.
const STAYED: &str = "
    by hub | log 1 a user:1 | log 2 b user:1
    by other | log e2:1 x user:1
    by gw | start | follows 0
    by u | open 1 user u user:1 oldest at=gw | welcome 1 FRESH 0 0 2 | event 1 1 a | event 1 2 b
    by gw | follows e2:0 left=2 | follows 2 left=e2:1
    by hub | log 3 c user:1 | log 4 d user:1
    by u | gap 1 EPOCH_CHANGED 2 3 | event 1 4 d | caught_up 1 4
";

#[test]
fn a_user_that_is_led_past_another_log_and_back_is_told() {
    let told = "gap 1 EPOCH_CHANGED 2 3";
    breaks(Promise::GapFreeOrTold, STAYED, told, "event 1 3 c");
    breaks(Promise::GapFreeOrTold, STAYED, told, "gap 1 LAPPED 2 3 count=1");
    let nothing_there = STAYED.replacen("e2:1 x user:1", "e2:1 x user:2", 1);
    keeps(&nothing_there.replacen(told, "event 1 3 c", 1));
    // Once for each return that it was not told of.
    let again = "event 1 4 d | wait 1 | gap 1 EPOCH_CHANGED 4 4";
    breaks(Promise::Ordered, STAYED, "event 1 4 d", again);
    let twice =
        "event 1 4 d | by gw | follows e2:1 left=4 | follows 4 left=e2:1 | by u | gap 1 EPOCH_CHANGED 4 4";
    keeps(&STAYED.replacen("event 1 4 d", twice, 1));
    // Only there an epoch changes into itself.
    breaks(Promise::Ordered, STAYED, "follows e2:0 left=2 | follows 2 left=e2:1", "");
}

/// The fault: the life was judged in which the gap was read, not the one that had sent it.
#[test]
fn what_a_gateway_sent_before_it_began_anew_is_judged_by_the_life_that_sent_it() {
    let read = "by u | gap 1 EPOCH_CHANGED 2 3";
    let anew = STAYED.replacen(read, &format!("by gw | start | follows e2:0\n {read}"), 1);
    let stay = "follows e2:0 left=2 | follows 2 left=e2:1";
    breaks(Promise::Ordered, &anew, stay, "");
    // A return of the next life excuses nothing that this one sent.
    let next = anew.replacen("start | follows e2:0\n", &format!("start | follows 2 | {stay}\n"), 1);
    breaks(Promise::Ordered, &next, stay, "");
}

#[test]
fn a_user_that_stayed_gets_nothing_twice_when_a_log_returns() {
    let stayed = "
        by hub | log 1 a user:1 | log 2 b user:1
        by other | log e2:1 x user:1
        open 1 user u user:1 oldest | welcome 1 FRESH 0 0 2 | event 1 1 a | event 1 2 b
        gap 1 EPOCH_CHANGED 2 e2:0 | event 1 e2:1 x | gap 1 EPOCH_CHANGED e2:1 2 | caught_up 1 2
    ";
    let twice = "gap 1 EPOCH_CHANGED e2:1 0 | event 1 1 a | event 1 2 b";
    breaks(Promise::Unique, stayed, "gap 1 EPOCH_CHANGED e2:1 2", twice);
}

/// The fault: a gap that led to where the store of a client that was started again had been counted as a skip.
#[test]
fn a_client_that_was_started_again_had_what_its_store_says() {
    let handler = "
        by hub | log 1 a all | log 2 b all | log 3 c all
        by other | log e2:1 x all
        by app | start | open 1 gateway app - oldest | welcome 1 FRESH 0 0 3 gen=1
        event 1 1 a | event 1 2 b | event 1 3 c | caught_up 1 3 | crash | start
        open 2 gateway app - 2 | welcome 2 EPOCH_CHANGED 2 e2:0 e2:1 gen=1
        gap 2 EPOCH_CHANGED 2 e2:0 | event 2 e2:1 x | caught_up 2 e2:1 | close 2 ended
        open 3 gateway app - e2:1 continues | welcome 3 EPOCH_CHANGED e2:1 0 3 gen=2
        gap 3 EPOCH_CHANGED e2:1 2 | event 3 3 c | caught_up 3 3
    ";
    let skips = "gap 3 EPOCH_CHANGED e2:1 3";
    breaks(Promise::Resumable, handler, "gap 3 EPOCH_CHANGED e2:1 2 | event 3 3 c", skips);
}

#[test]
fn a_handler_is_told_of_a_change_of_log() {
    let handler = "
        by hub | log 1 a all
        by other | log e2:1 x all
        by app | open 1 gateway app - oldest | welcome 1 FRESH 0 0 1 gen=1 | event 1 1 a | close 1 ended
        open 2 gateway app - 1 continues | welcome 2 EPOCH_CHANGED 1 e2:0 e2:1 gen=1
        gap 2 EPOCH_CHANGED 1 e2:0 | event 2 e2:1 x | caught_up 2 e2:1 | close 2 ended
        open 3 gateway app - e2:1 continues | welcome 3 RESUMED e2:1 e2:0 e2:1 gen=2 | caught_up 3 e2:1
    ";
    let silent = "open 3 gateway app - 1 continues | welcome 3 RESUMED 1 0 1 gen=2 | caught_up 3 1";
    let resumed =
        "open 3 gateway app - e2:1 continues | welcome 3 RESUMED e2:1 e2:0 e2:1 gen=2 | caught_up 3 e2:1";
    breaks(Promise::GapFreeOrTold, handler, resumed, silent);
}

#[test]
fn a_takeover_at_another_hub_is_known_there_within_the_grace() {
    let doors = "
        rules grace=10
        log 1 a all
        by gw | open 1 gateway g - oldest | welcome 1 FRESH 0 0 1 gen=1 | event 1 1 a
        by new | open 2 gateway g - oldest | welcome 2 FRESH 0 0 1 gen=2 | event 2 1 a
        by hub | log 2 b all
        wait 20
        by gw | event 1 2 b | close 1 REPLACED
        by new | event 2 2 b
    ";
    breaks(Promise::Fenced, doors, "by hub | log 2 b all\n        wait 20", "wait 20\n by hub | log 2 b all");
}

#[test]
fn a_slow_but_steady_reader_is_not_given_up() {
    let steady = "
        log 1 a user:1
        by gw | start | wait 25000
        by u | open 1 user u user:1 oldest at=gw steady | welcome 1 FRESH 0 0 1 | event 1 1 a | close 1 cut
    ";
    breaks(Promise::Live, steady, "close 1 cut", "close 1 reset");
    breaks(Promise::Live, steady, "close 1 cut", "goodbye 1 SLOW 1 | close 1 1013");
    keeps(&steady.replacen("close 1 cut", "by gw | crash | by u | close 1 reset", 1));
    keeps(&steady.replacen("close 1 cut", "goodbye 1 DRAINING 1 | close 1 end", 1));
    // Whose session ends is not waited for.
    keeps(&steady.replacen("close 1 cut", "by hub | record 2 v user:1 void | by u | close 1 reset", 1));
    keeps(&steady.replacen("| welcome 1", "| token 1 25000 | welcome 1", 1).replacen("1 cut", "1 reset", 1));
}

#[test]
fn a_steady_reader_is_given_up_for_the_end_of_its_session_only_when_that_has_come() {
    let steady = "
        log 1 a user:1
        by gw | start | wait 25000
        by u | open 1 user u user:1 oldest at=gw steady | token 1 25000 until=60000 | welcome 1 FRESH 0 0 1
        event 1 1 a | close 1 cut
    ";
    breaks(Promise::Live, steady, "close 1 cut", "close 1 reset");
    keeps(&steady.replacen("close 1 cut", "wait 35000 | close 1 reset", 1));
    // It had a newer one by then.
    let refreshed =
        steady.replacen("event 1 1 a |", "event 1 1 a | wait 20000 | token 1 45000 until=90000 |", 1);
    breaks(Promise::Live, &refreshed, "close 1 cut", "wait 20000 | close 1 reset");
    // A record that came after the cut, one of long before, and one of somebody else.
    let record = "by hub | record 2 v user:1 void | by u";
    breaks(Promise::Live, steady, "close 1 cut", &format!("close 1 reset | {record}"));
    let early = steady.replacen("by gw | start", "by hub | record 2 v user:1 void | by gw | start", 1);
    breaks(Promise::Live, &early, "close 1 cut", "close 1 reset");
    let other = format!("{} | close 1 reset", record.replacen("user:1", "user:2", 1));
    breaks(Promise::Live, steady, "close 1 cut", &other);
    keeps(&steady.replacen("close 1 cut", &format!("{record} | close 1 reset"), 1));
}
