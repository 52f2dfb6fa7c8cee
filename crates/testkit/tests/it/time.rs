//! What takes its time: each promise about time is kept by a small history, and broken by the same with a line changed; and
//! nothing is judged where something befell those it is about.

use std::fmt::Write as _;

use galaxy_push_testkit::{Promise, Sight};

use crate::script::{breaks, keeps};

/// A gateway that has everything and a user of another one, each handed an event 100 ms after its append.
const PROMPT: &str = "
    rules timing deliver=500
    by hub | start | by gw | start | follows 0 | upstream live
    by g | open 1 gateway g - empty at=hub | welcome 1 FRESH 0 0 0 gen=1 | caught_up 1 0
    by ann | open 2 user ann user:ann empty at=gw | welcome 2 FRESH 0 0 0 | caught_up 2 0
    by publisher | log 1 a user:ann
    wait 100 | by g | event 1 1 a | by ann | event 2 1 a
    by publisher | log 2 b user:ann
    wait 90 | by g | event 1 2 b
    wait 10 | by ann | event 2 2 b
";

#[test]
fn prompt() {
    keeps(PROMPT).require_seen(&[Sight::PromptJudged, Sight::PromptAtUserJudged]).unwrap();
    breaks(Promise::Prompt, PROMPT, "wait 90", "wait 600");
    breaks(Promise::Prompt, PROMPT, "wait 10 ", "wait 500 ");
    // What never came was late at the end of the stream, too.
    breaks(Promise::Prompt, PROMPT, "wait 90 | by g | event 1 2 b", "wait 600 | by g | close 1 reset");
}

#[test]
fn prompt_is_not_judged_where_something_befell_those_it_is_about() {
    let late = PROMPT.replacen("wait 90", "wait 600", 1);
    let befallen = |by: &str| {
        keeps(&late.replacen("wait 600", &format!("{by} | wait 600"), 1));
    };
    // Both readers are late: what is about one of them alone excuses neither.
    let is_late = |by: &str| {
        breaks(Promise::Prompt, PROMPT, "wait 90", &format!("{by} | wait 600"));
    };
    befallen("fault kill hub");
    is_late("fault kill g");
    is_late("by ann | pause 2 9000");
    is_late("fault kill other");
    let user = PROMPT.replacen("wait 10 ", "wait 500 ", 1);
    for by in [
        "fault kill gw",
        "by gw | upstream lost",
        "by ann | pause 2 9000",
        "by gw | crash",
        "fault brokers brokers",
    ] {
        keeps(&user.replacen("wait 500", &format!("{by} | wait 500"), 1));
    }
    // One that was over before the stream began is past.
    let past = "fault kill hub | over kill hub | by g | open 1";
    breaks(Promise::Prompt, &PROMPT.replacen("by g | open 1", past, 1), "wait 90", "wait 600");
}

#[test]
fn what_comes_before_it_is_in_its_way() {
    let mut script = "
        rules timing deliver=500
        by g | open 1 gateway g - empty at=hub | welcome 1 FRESH 0 0 0 gen=1 | caught_up 1 0
        by publisher\n"
        .to_owned();
    (1..=300).for_each(|number| writeln!(script, "log {number} e{number} all").unwrap());
    script += "wait 100 | by g\n";
    (1..=299).for_each(|number| writeln!(script, "event 1 {number} e{number}").unwrap());
    script += "wait 300 | event 1 300 e300\n";
    keeps(&script);
    breaks(Promise::Prompt, &script, "wait 300", "wait 500");
    breaks(Promise::Prompt, &script, "wait 100", "wait 400");
}

#[test]
fn what_a_handler_is_busy_with_holds_up_the_rest() {
    let busy = "
        rules timing deliver=500 handle=70
        by app | start | handler app items
        by publisher | log 1 a all | log 2 b all | log 3 c all
        by app | open 1 gateway app - oldest at=hub | welcome 1 FRESH 0 0 3 gen=1 | event 1 1 a | handled app 1
        event 1 2 b | handled app 2 | event 1 3 c | handled app 3 | caught_up 1 3
        wait 100 | by publisher | log 4 d all | log 5 e all | log 6 f all
        wait 100 | by app | event 1 4 d | wait 300 | handled app 4 | event 1 5 e | wait 200 | handled app 5
        event 1 6 f | handled app 6
    ";
    keeps(busy);
    breaks(Promise::Prompt, busy, "handle=70", "handle=0");
    // Not longer than it may take over each.
    breaks(Promise::Prompt, busy, "wait 200 |", "wait 500 |");
    breaks(Promise::Prompt, &busy.replacen("| wait 300 ", "", 1), "wait 100 | by app", "wait 700 | by app");
}

/// Two streams that hear where they stand after 5 s, and after 1 s.
const SILENT: &str = "
    rules timing progress=5000 edge=1000
    by g | open 1 gateway g - empty at=hub | welcome 1 FRESH 0 0 0 gen=1 | caught_up 1 0
    wait 5000 | progress 1 0
    by ann | open 2 user ann user:ann empty at=gw | welcome 2 FRESH 0 0 0 | caught_up 2 0
    wait 1000 | progress 2 0 | wait 990 | close 2 cut
";

#[test]
fn progress_is_due_after_a_silence() {
    keeps(SILENT).require_seen(&[Sight::SilenceJudged]).unwrap();
    breaks(Promise::Progress, SILENT, "wait 5000", "wait 5500");
    breaks(Promise::Progress, SILENT, "wait 1000", "wait 1500");
    breaks(Promise::Progress, SILENT, "wait 990", "wait 1500");
    for by in ["pause 1 9000", "fault hold hub | g", "by hub | crash | by g"] {
        // The sign of a pair of hosts ends a line of the script.
        let by = by.replace("hub | g", "hub");
        keeps(&SILENT.replacen("wait 5000", &format!("{by} | wait 5500"), 1));
    }
}

/// A gateway that so many entries are passed over for, then told where it stands.
fn passed_over(rules: &str, count: u64, apart_ms: u64) -> String {
    let mut script = format!(
        "rules timing deliver=500 {rules}
         by q | open 1 gateway q user:quiet empty at=hub | welcome 1 FRESH 0 0 0 gen=1 | caught_up 1 0
         by publisher\n"
    );
    for number in 1..=count {
        writeln!(script, "log {number} e{number} all | wait {apart_ms}").unwrap();
    }
    script + &format!("wait 600 | by q | progress 1 {count}\n")
}

#[test]
fn progress_is_due_when_an_eighth_of_any_bound_was_passed_over() {
    for (rules, kept, broken, apart_ms, sight) in [
        ("events=160 age=900000", 30, 40, 0, Sight::EighthOfEventsJudged),
        ("events=100000 bytes=8000", 20, 350, 0, Sight::EighthOfBytesJudged),
        ("events=100000 age=4000", 6, 8, 90, Sight::EighthOfAgeJudged),
    ] {
        if sight != Sight::EighthOfAgeJudged {
            keeps(&passed_over(rules, kept, apart_ms)).require_seen(&[sight]).unwrap();
        }
        let script = passed_over(rules, broken, apart_ms);
        let good = script.replacen("empty at=hub", "empty at=hub\nfault kill hub", 1);
        breaks(Promise::Progress, &good, "fault kill hub", "fault kill other");
    }
}

#[test]
fn a_quiet_reader_never_ages_out() {
    let lapped = "
        rules timing deliver=500
        log 1 a all | log 2 b all | log 3 c user:q
        by q | open 1 gateway q user:q oldest at=hub | welcome 1 FRESH 0 0 3 gen=1 | caught_up 1 0
        pause 1 50 | gap 1 LAPPED 0 2 | event 1 3 c
    ";
    let quiet = lapped.replacen("| log 3 c user:q", "", 1).replacen("0 0 3", "0 0 2", 1).replacen(
        "| event 1 3 c",
        "",
        1,
    );
    breaks(Promise::Progress, &quiet, "pause 1 50 |", "");
}

#[test]
fn what_overwhelms_the_hub_at_once_passes_quiet_readers_by() {
    let burst = "
        rules timing deliver=500 events=2
        by hub | start | by gw | start | follows 0 | upstream live
        by q | open 1 gateway q user:q empty at=hub | welcome 1 FRESH 0 0 0 gen=1 | caught_up 1 0
        by ann | open 2 user ann user:ann empty at=gw | welcome 2 FRESH 0 0 0 | caught_up 2 0
        by publisher | log 1 a user:bob | log 2 b user:bob | log 3 c user:bob
        by q | gap 1 LAPPED 0 1 | by ann | gap 2 LAPPED 0 1
    ";
    keeps(burst);
    breaks(Promise::Progress, burst, "log 1 a user:bob |", "log 1 a user:bob | wait 100 |");
    breaks(Promise::Progress, burst, "events=2", "events=3");
    // By bytes alike.
    keeps(&burst.replacen("events=2", "events=1000 bytes=200", 1));
    // What a store hands on together came at once, whenever it was appended; and what has no position takes a place.
    let appended =
        "wait 900 | log 1 a user:bob appended=500 | log 2 b user:bob appended=700 | log 3 c user:bob";
    let stored = burst.replacen("log 1 a user:bob | log 2 b user:bob | log 3 c user:bob", appended, 1);
    keeps(&stored);
    breaks(Promise::Progress, &stored, "| log 2 b user:bob", "| wait 100 | log 2 b user:bob");
    let ephemeral = burst.replacen("log 3 c user:bob", "call 9 e user:bob ephemeral", 1);
    keeps(&ephemeral);
    breaks(Promise::Progress, &ephemeral, "call 9 e user:bob ephemeral", "");
}

/// A gateway that does not read for two seconds, and has 6 of 16 events waiting when it does again.
const PAUSED: &str = "
    rules timing deliver=500 events=16 age=8000
    by publisher | log 1 a all
    by g | open 1 gateway g - oldest at=hub | welcome 1 FRESH 0 0 1 gen=1 | event 1 1 a | caught_up 1 1
    wait 3000 | pause 1 5008 ahead=150
    by publisher | log 2 b all | log 3 c all | log 4 d all | log 5 e all | log 6 f all | log 7 g all | log 8 h all
    wait 2000 | by g | event 1 2 b | event 1 3 c
    fell_behind 1 3 | event 1 4 d | event 1 5 e | event 1 6 f | event 1 7 g | event 1 8 h | caught_up 1 8
";

#[test]
fn fell_behind() {
    keeps(PAUSED).require_seen(&[Sight::BehindJudged]).unwrap();
    breaks(Promise::FellBehind, PAUSED, "fell_behind 1 3 |", "");
    // Few events, but they have waited for a quarter of the age.
    let old = PAUSED.replacen("events=16 age=8000", "events=1000 age=7000", 1);
    breaks(Promise::FellBehind, &old, "fell_behind 1 3 |", "");
    keeps(&old.replacen("age=7000", "age=9000", 1).replacen("fell_behind 1 3 |", "", 1))
        .require_seen(&[Sight::BehindAfterAPauseJudged])
        .unwrap();
    // Nobody knows when a door to a shared log had it.
    keeps(&PAUSED.replacen("deliver=500 ", "", 1).replacen("fell_behind 1 3 |", "", 1));
    // How much was on its way is not known, or it was all.
    keeps(&PAUSED.replacen(" ahead=150", "", 1).replacen("fell_behind 1 3 |", "", 1));
    keeps(&PAUSED.replacen("ahead=150", "ahead=1500", 1).replacen("fell_behind 1 3 |", "", 1));
}

#[test]
fn nobody_is_told_without_reason_that_it_fell_behind() {
    breaks(Promise::FellBehind, PAUSED, "events=16 age=8000", "events=1000 age=9000");
    keeps(&PAUSED.replacen("events=16 age=8000", "events=1000 age=9000 bytes=2000", 1));
    let ephemeral = "events=1000 age=7000 | call 1 x all ephemeral | ack 1 -";
    keeps(&PAUSED.replacen("events=16 age=8000", ephemeral, 1));
}

/// A token that ends after 1 s, and a session that a record ends.
const ENDED: &str = "
    rules timing deliver=500 session=5000
    by gw | start | follows 0 | upstream live
    by publisher | log 1 a user:ann
    by ann | open 1 user ann user:ann oldest at=gw | token 1 0 until=1000 | welcome 1 FRESH 0 0 1 | caught_up 1 1
    by bob | open 2 user bob user:bob,session:s 1 at=gw | welcome 2 RESUMED 1 0 1 | caught_up 2 1
    wait 900 | by ann | close 1 4401
    wait 1000 | by hub | record 2 v session:s void
    wait 1500 | by bob | close 2 4401 | end
";

#[test]
fn session_end() {
    let ended = ENDED.replacen("FRESH 0 0 1 |", "FRESH 0 0 1 | event 1 1 a |", 1);
    keeps(&ended).require_seen(&[Sight::TokenEndJudged, Sight::RecordEndJudged]).unwrap();
    breaks(Promise::SessionEnd, &ended, "wait 900", "wait 6600");
    breaks(Promise::SessionEnd, &ended, "wait 1500", "wait 6100");
    // Nothing is sent on it once it has ended.
    breaks(
        Promise::SessionEnd,
        &ended,
        "wait 900 |",
        "wait 1500 | by publisher | log 3 c user:ann | by ann | event 1 3 c |",
    );
    // A newer token goes on; where something befell them nobody knows when it had to end.
    let refreshed =
        ended.replacen("wait 900 |", "wait 900 | by ann | token 1 900 until=9000 | wait 6600 |", 1);
    keeps(&refreshed);
    for by in ["fault kill gw", "by ann | pause 1 9000"] {
        keeps(&ended.replacen("wait 900 |", &format!("{by} | wait 6600 |"), 1));
    }
    // A gateway that does not have the record is not judged by it.
    keeps(&ended.replacen("wait 1500", "by gw | upstream lost | wait 6100", 1));
}

/// Two gateways of one hub that sends away four a second, and three users of a gateway.
const SENT_AWAY: &str = "
    rules timing returns=4
    by g | open 1 gateway g - empty at=hub | welcome 1 FRESH 0 0 0 gen=1 | caught_up 1 0
    by h | open 2 gateway h - empty at=hub | welcome 2 FRESH 0 0 0 gen=1 | caught_up 2 0
    fault leave hub
    by g | goodbye 1 DRAINING 0 retry=0 | by h | goodbye 2 DRAINING 0 retry=250
    by ann | open 3 user ann user:ann empty at=gw | welcome 3 FRESH 0 0 0 | caught_up 3 0
    by bob | open 4 user bob user:bob empty at=gw | welcome 4 FRESH 0 0 0 | caught_up 4 0
    by eve | open 5 user eve user:eve empty at=gw | welcome 5 FRESH 0 0 0 | caught_up 5 0
    fault leave gw
    by ann | goodbye 3 DRAINING 0 retry=7 | by bob | goodbye 4 DRAINING 0 retry=7
    by eve | goodbye 5 DRAINING 0 retry=8
";

#[test]
fn whoever_is_sent_away_comes_back_at_its_turn() {
    keeps(SENT_AWAY).require_seen(&[Sight::ReturnsJudged, Sight::UserReturnsJudged]).unwrap();
    breaks(Promise::Drained, SENT_AWAY, "retry=250", "retry=0");
    breaks(Promise::Drained, SENT_AWAY, "retry=8", "retry=7");
    breaks(Promise::Drained, SENT_AWAY, " retry=8", "");
    // The turns themselves may be what spreads them.
    keeps(&SENT_AWAY.replacen(
        "by h | goodbye 2 DRAINING 0 retry=250",
        "wait 250 | by h | goodbye 2 DRAINING 0 retry=0",
        1,
    ));
}

/// Two readers of one hub in one of its lives.
const REPAIRS: &str = "
    rules spread=30000
    log e2:1 a all | log e2:2 b all
    by g | open 1 gateway g - 5 at=hub | welcome 1 EPOCH_CHANGED 5 e2:0 e2:2 gen=1 | gap 1 EPOCH_CHANGED 5 e2:0 repair=7
    by h | open 2 gateway h - 6 at=hub | welcome 2 EPOCH_CHANGED 6 e2:0 e2:2 gen=1 | gap 2 EPOCH_CHANGED 6 e2:0 repair=7
    by i | open 3 gateway i - 7 at=hub | welcome 3 EPOCH_CHANGED 7 e2:0 e2:2 gen=1 | gap 3 EPOCH_CHANGED 7 e2:0 repair=8
    by j | open 4 gateway j - 7 at=hub | welcome 4 EPOCH_CHANGED 7 e2:0 e2:2 gen=1 | gap 4 EPOCH_CHANGED 7 e2:0 repair=9
";

#[test]
fn readers_of_one_gap_are_told_different_moments_to_repair() {
    keeps(REPAIRS).require_seen(&[Sight::RepairsJudged]).unwrap();
    breaks(Promise::GapTrue, REPAIRS, "repair=8", "repair=7");
    breaks(
        Promise::GapTrue,
        REPAIRS,
        "repair=9",
        "repair=8 | by k | open 5 gateway k - 7 at=hub | welcome 5 EPOCH_CHANGED 7 e2:0 e2:2 gen=1 | gap 5 EPOCH_CHANGED 7 e2:0 repair=8",
    );
}
