//! What users at a gateway are owed about gaps, counts, outcomes and ends, where the history tells what happened there.

use galaxy_push_testkit::{Promise, Sight};

use crate::script::{breaks, keeps};

/// The hub holds four events. A gateway begins, and a user is told that two are not held any more.
const TRIMMED: &str = "
    rules edges events=4
    by hub | start
    by publisher
    log 1 a all | log 2 b all | log 3 c all | log 4 d all | log 5 e all | log 6 f all
    by edge | start | follows 2
    by ann
    open 1 user ann all 1 at=edge
    welcome 1 TRIMMED 1 2 6
    gap 1 TRIMMED 1 2 count=1
    event 1 3 c | event 1 4 d | event 1 5 e | event 1 6 f
    caught_up 1 6
";

#[test]
fn a_gateway_that_has_begun_has_what_its_hub_had() {
    let seen = keeps(TRIMMED).seen;
    seen.require(&[Sight::UserTrimmedJudged, Sight::CountJudged, Sight::UserOutcomeJudged]).unwrap();
    let told_more = |good: &str| {
        let good = good.replacen("TRIMMED 1 2 6", "TRIMMED 1 4 6", 1);
        good.replacen("TRIMMED 1 2 count=1\n    event 1 3 c | event 1 4 d |", "TRIMMED 1 4 count=3\n   ", 1)
    };
    // It shows how far it has come only once it has taken several, and had them from its hub all the same.
    let late = TRIMMED.replacen("follows 2", "follows 6", 1);
    keeps(&late);
    for good in [TRIMMED, &*late] {
        let fewer = told_more(good).replacen("events=4", "events=2", 1);
        breaks(Promise::GapTrue, &fewer, "events=2", "events=4");
        // Nobody tells what happens at gateways.
        keeps(&told_more(good).replacen(" edges", "", 1));
        // Its hub told it that it missed something, be it known how much or not.
        keeps(&told_more(good).replacen("by ann", "by edge | missed 2 | by ann", 1));
        let missed = told_more(good).replacen("by ann", "by edge | missed 2 | missed 2 4 | by ann", 1);
        breaks(Promise::GapTrue, &missed, "missed 2 4", "missed 2 3");
        breaks(Promise::GapTrue, &missed, "missed 2 | missed 2 4", "missed 4 6");
        breaks(Promise::GapTrue, &missed, "missed 2 | missed 2 4", "missed e0:1 e0:9");
        // A gap takes a place in the window, too.
        keeps(
            &told_more(good)
                .replacen("by ann", "by edge | missed 0 1 | by ann", 1)
                .replacen("events=4", "events=3", 1),
        );
        // What an earlier life missed, the present one has.
        let lived = "by edge | missed 2 4 | start | follows 2 | by ann";
        breaks(Promise::GapTrue, &missed, "by edge | missed 2 | missed 2 4 | by ann", lived);
        // A window that was cut where a log returned is not judged.
        let back = "by edge | follows e2:1 left=6 | follows 6 left=e2:1 | by ann";
        keeps(&told_more(good).replacen("by ann", back, 1));
    }
}

/// A user lags, and its gateway lets go of what it wanted; a quiet one does not.
const LAPPED: &str = "
    rules edges events=2
    by hub | start
    by publisher | log 1 a all
    by edge | start | follows 0
    by ann
    open 1 user ann user:ann,all oldest at=edge
    welcome 1 FRESH 0 0 1
    event 1 1 a
    caught_up 1 1
    by publisher | log 2 b user:ann | log 3 c all | log 4 d user:bob | log 5 e user:ann
    by ann
    gap 1 LAPPED 1 3 count=2
    event 1 5 e
    caught_up 1 5
";

#[test]
fn a_user_is_told_of_no_more_than_its_gateway_let_go() {
    keeps(LAPPED).seen.require(&[Sight::UserLappedJudged, Sight::QuietJudged]).unwrap();
    breaks(Promise::GapTrue, LAPPED, "gap 1 LAPPED 1 3 count=2", "gap 1 LAPPED 1 4 count=3");
    breaks(Promise::GapTrue, LAPPED, "events=2", "events=3");
    // Its gateway may have been told that it missed it.
    keeps(&LAPPED.replacen("events=2", "events=9", 1).replacen("follows 0", "follows 0 | missed 1 4", 1));
}

#[test]
fn a_live_user_for_whom_nothing_came_is_told_of_no_gap() {
    let by = |line: &str| LAPPED.replacen("log 2 b user:ann | log 3 c all", line, 1);
    let quiet = by("log 2 b user:bob | log 3 c user:bob");
    keeps(&quiet); // 5 is for her, and may have been too much
    let none = "log 4 d user:bob\n    by ann\n    gap 1 LAPPED 1 3 count=2 | progress 1 4";
    let none = quiet.replacen("log 4 d user:bob | log 5 e user:ann\n    by ann\n    gap 1 LAPPED 1 3 count=2\n    event 1 5 e\n    caught_up 1 5", none, 1);
    let ephemeral = none.replacen("log 4 d", "call 1 x user:ann ephemeral | ack 1 - | log 4 d", 1);
    keeps(&ephemeral);
    breaks(Promise::GapTrue, &ephemeral, "x user:ann ephemeral", "x user:bob ephemeral");
    let replaying = ephemeral.replacen("caught_up 1 1", "", 1);
    keeps(&replaying.replacen("x user:ann", "x user:bob", 1));
    let upstream = ephemeral.replacen("follows 0", "follows 0 | missed 1 3", 1);
    keeps(&upstream.replacen("x user:ann", "x user:bob", 1));
}

#[test]
fn a_gap_of_the_gateway_itself_was_told_it_by_its_hub() {
    let upstream = LAPPED.replacen("gap 1 LAPPED", "gap 1 UPSTREAM", 1);
    let told = upstream.replacen("follows 0", "follows 0 | missed 1 3", 1);
    keeps(&told).seen.require(&[Sight::UserUpstreamJudged]).unwrap();
    breaks(Promise::GapTrue, &told, " | missed 1 3", "");
    // To which topics she belonged by then nobody may know.
    let member = upstream.replacen("log 2 b user:ann", "record 2 m1 user:ann joins topic:t", 1);
    keeps(&member);
}

/// The gateway of the lapped user goes to another log, and she is told.
fn changed() -> String {
    let changed = LAPPED.replacen(
        "gap 1 LAPPED 1 3 count=2\n    event 1 5 e\n    caught_up 1 5",
        "gap 1 EPOCH_CHANGED 1 e2:0\n    caught_up 1 e2:0",
        1,
    );
    changed.replacen("    by ann\n    gap", "    by edge | follows e2:0 left=5 | by ann | gap", 1)
}

#[test]
fn an_epoch_is_told_by_a_gateway_that_was_in_it() {
    let changed = changed();
    keeps(&changed).seen.require(&[Sight::UserEpochJudged]).unwrap();
    breaks(Promise::GapTrue, &changed, "by edge | follows e2:0 left=5 |", "");
}

/// What a gateway sent is read when it has been killed and has begun anew, or shortly before.
#[test]
fn a_gap_is_judged_by_the_life_of_the_gateway_that_served_its_stream() {
    let next = |good: &str| {
        good.replacen("by ann\n    gap", "by edge | crash | start | follows 5 | by ann | gap", 1)
    };
    let changed = changed();
    let there = "follows e2:0 left=5 | by ann";
    let read_later = changed.replacen(there, "follows e2:0 left=5 | crash | start | follows 5 | by ann", 1);
    keeps(&read_later).seen.require(&[Sight::UserEpochJudged]).unwrap();
    keeps(&(changed.clone() + "by edge | crash | start | follows 5"));
    // Where it was in its next life does not explain it.
    let only_then = "crash | start | follows e2:0";
    breaks(Promise::GapTrue, &read_later, "follows e2:0 left=5 | crash | start | follows 5", only_then);

    let upstream = LAPPED.replacen("gap 1 LAPPED", "gap 1 UPSTREAM", 1);
    let told = next(&upstream.replacen("follows 0", "follows 0 | missed 1 3", 1));
    keeps(&told).seen.require(&[Sight::UserUpstreamJudged]).unwrap();
    breaks(
        Promise::GapTrue,
        &told.replacen("follows 5", "follows 5 | missed 1 3", 1),
        "follows 0 | missed 1 3",
        "follows 0",
    );

    let lacking =
        LAPPED.replacen("events=2", "events=9", 1).replacen("follows 0", "follows 0 | missed 1 4", 1);
    keeps(&next(&lacking)).seen.require(&[Sight::UserLappedJudged]).unwrap();
    breaks(Promise::GapTrue, &next(&lacking), " | missed 1 4", "");

    let quiet = LAPPED.replacen("log 2 b user:ann | log 3 c all", "log 2 b user:bob | log 3 c user:bob", 1);
    let quiet = quiet.replacen(" | log 5 e user:ann", "", 1).replacen(
        "event 1 5 e\n    caught_up 1 5",
        "progress 1 4",
        1,
    );
    let quiet = next(&quiet.replacen("follows 0", "follows 0 | missed 1 3", 1)).replacen(
        "start | follows 5",
        "start | follows 4",
        1,
    );
    keeps(&quiet);
    breaks(Promise::GapTrue, &quiet, " | missed 1 3", "");
}

/// Began anew before it welcomed her, the gateway may have served her in either life.
#[test]
fn a_gap_of_a_gateway_that_began_anew_before_the_welcome_is_not_judged() {
    let untold = changed().replacen("follows e2:0 left=5 | by ann", "by ann", 1);
    let began = "by edge | crash | start | follows 0 | by ann | welcome 1 FRESH";
    keeps(&untold.replacen("welcome 1 FRESH", began, 1));
}

#[test]
fn a_count_is_there_where_it_can_be_known_and_nowhere_else() {
    breaks(Promise::GapTrue, TRIMMED, "gap 1 TRIMMED 1 2 count=1", "gap 1 TRIMMED 1 2");
    keeps(&TRIMMED.replacen("gap 1 TRIMMED 1 2 count=1", "gap 1 TRIMMED 1 2", 1).replacen(" edges", "", 1));
    breaks(
        Promise::GapTrue,
        OTHER_EPOCH,
        "gap 1 EPOCH_CHANGED e1:2 e2:0",
        "gap 1 EPOCH_CHANGED e1:2 e2:0 count=2",
    );
}

/// A hub begins anew; users come with cursors of both its lives.
const OTHER_EPOCH: &str = "
    rules edges events=9
    by hub | start
    log e1:1 a all | log e1:2 b all
    start | log e2:1 c all
    by edge | start | follows e2:0
    by ann
    open 1 user ann all e1:2 at=edge
    welcome 1 EPOCH_CHANGED e1:2 e2:0 e2:1
    gap 1 EPOCH_CHANGED e1:2 e2:0
    event 1 e2:1 c | caught_up 1 e2:1
    by slow | start | follows e1:0
    by bob
    open 2 user bob all e2:1 at=slow
    welcome 2 RESUMED e2:1 e1:0 e1:2
    caught_up 2 e2:1
";

#[test]
fn an_outcome_is_what_the_gateway_and_its_hub_could_know() {
    keeps(OTHER_EPOCH).seen.require(&[Sight::UserOutcomeJudged]).unwrap();
    let broken = |line: &str, by: &str| breaks(Promise::Resumable, OTHER_EPOCH, line, by);
    // The hub is in the epoch, and would have said so.
    broken("welcome 2 RESUMED", "welcome 2 EPOCH_CHANGED");
    // An epoch that is over, and in which this gateway has never been.
    broken("welcome 1 EPOCH_CHANGED", "welcome 1 RESUMED");
    // Nobody had it yet.
    broken(
        "open 2 user bob all e2:1 at=slow\n    welcome 2 RESUMED e2:1 e1:0 e1:2",
        "open 2 user bob all e2:7 at=slow\n    welcome 2 RESUMED e2:7 e2:0 e2:1",
    );
}

/// A gateway that serves ann; she is gone, comes back, and her stream ends.
fn ending(before: &str, opens: &str, ends: &str) -> String {
    format!(
        "
    rules edges
    by hub | start
    by publisher | log 1 a all
    by edge | start | follows 0
    by ann
    open 1 user ann all oldest at=edge
    welcome 1 FRESH 0 0 1 | event 1 1 a | caught_up 1 1 | close 1 cut
    by world | {before}
    by ann
    {opens}
    {ends}
"
    )
}

const WELCOMED: &str = "open 2 user ann all 1 at=edge | welcome 2 RESUMED 1 0 1 | caught_up 2 1";
const REFUSED: &str = "open 2 user ann all 1 at=edge";

#[test]
fn an_end_is_a_word_of_the_table() {
    for own in ["cut", "1000", "1001", "1009", "4403", "http 429"] {
        let own = own.replace(' ', "\u{a0}"); // one word of a script
        if !own.contains('\u{a0}') {
            keeps(&ending("", WELCOMED, &format!("close 2 {own}")));
        }
    }
    let good = ending("", WELCOMED, "close 2 cut");
    breaks(Promise::Ended, &good, "close 2 cut", "close 2 1011");
    breaks(Promise::Ended, &good, "close 2 cut", "goodbye 2 REPLACED 1");
    keeps(&good.replacen("close 2 cut", "close 2 1011", 1).replacen(" edges", "", 1));
}

#[test]
fn a_bad_request_is_one() {
    let garbage = ending("", "open 2 user ann all garbage at=edge", "close 2 4400");
    keeps(&garbage).seen.require(&[Sight::EndedBadRequest]).unwrap();
    breaks(Promise::Ended, &garbage, "ann all garbage", "ann all 1");
}

#[test]
fn a_user_is_signed_out_for_its_token_alone() {
    let token = |until: &str| ending("", WELCOMED, &format!("token 2 0{until} | wait 3000 | close 2 4401"));
    keeps(&token(" until=3000")).seen.require(&[Sight::EndedSignedOut]).unwrap();
    breaks(Promise::Ended, &token(" until=3000"), "until=3000", "until=9000");
    keeps(&token(""));
    let void = ending("log 2 b user:bob | record 3 i1 user:ann void", WELCOMED, "close 2 4401");
    let void =
        void.replacen("by ann\n    open 1 user ann all", "by ann\n    open 1 user ann all,user:ann", 1);
    let void = void.replacen("open 2 user ann all", "open 2 user ann all,user:ann", 1);
    keeps(&void);
    breaks(Promise::Ended, &void, "record 3 i1 user:ann void", "record 3 i1 user:bob void");
    // Without a token the connection counts as one, that comes before the moment which the record names.
    let early = void.replacen("i1 user:ann void", "i1 user:ann void before=9000", 1);
    let early = early.replacen(&WELCOMED.replacen("all", "all,user:ann", 1), REFUSED, 1);
    let early = early.replacen("open 2 user ann all 1", "wait 2000 | open 2 user ann all,user:ann 1", 1);
    keeps(&early);
    breaks(Promise::Ended, &early, " before=9000", " before=1");
    let late = ending("", REFUSED, "wait 5000 | close 2 4401");
    breaks(Promise::Ended, &late, "wait 5000", "wait 4900");
}

#[test]
fn a_user_is_sent_away_by_a_gateway_that_leaves() {
    let leaves = ending("fault leave edge", WELCOMED, "goodbye 2 DRAINING 1 | close 2 1012");
    keeps(&leaves).seen.require(&[Sight::EndedDraining]).unwrap();
    breaks(Promise::Ended, &leaves, "fault leave edge", "fault leave other");
    breaks(Promise::Ended, &leaves, "fault leave edge", "fault kill edge");
    // It had left, and is back.
    let back = "fault leave edge | over leave edge | by edge | start | follows 0 | by world";
    breaks(Promise::Ended, &leaves, "fault leave edge", back);
}

#[test]
fn a_user_is_put_off_by_a_gateway_that_cannot_serve_it() {
    let anew = "by edge | start | follows 0 | by world";
    for word in ["close 2 1013", "goodbye 2 DRAINING 1"] {
        let early = ending(anew, REFUSED, word);
        keeps(&early).seen.require(&[Sight::EndedLater]).unwrap();
        breaks(Promise::Ended, &early, anew, "wait 1");
        let newer = "log 2 b all | open 2 user ann all 2 at=edge";
        breaks(
            Promise::Ended,
            &ending("", newer, word.replace("NG 1", "NG 2").as_str()),
            "user ann all 2",
            "user ann all 1",
        );
    }
    let leaving = ending("fault leave edge", REFUSED, "goodbye 2 DRAINING 1");
    breaks(Promise::Ended, &leaving, "goodbye 2 DRAINING 1", "close 2 1013");
}

#[test]
fn a_user_is_given_up_for_taking_nothing() {
    let slow = ending("", WELCOMED, "wait 5000 | close 2 1013");
    keeps(&slow).seen.require(&[Sight::EndedSlow]).unwrap();
    breaks(Promise::Ended, &slow, "wait 5000", "wait 900");
    keeps(&ending("fault hold edge", WELCOMED, "goodbye 2 SLOW 1 | close 2 end"));
    breaks(Promise::Ended, &ending("", WELCOMED, "wait 5000 | goodbye 2 SLOW 1"), "wait 5000", "wait 1");
}

#[test]
fn what_ends_without_a_word_is_explained() {
    for word in ["reset", "end", "silence", "unreachable:"] {
        let struck = ending("fault partition ann", WELCOMED, &format!("close 2 {word}"));
        keeps(&struck).seen.require(&[Sight::EndedUntold]).unwrap();
        breaks(Promise::Ended, &struck, "fault partition ann", "fault partition hub");
        breaks(
            Promise::Ended,
            &struck,
            "fault partition ann",
            "fault partition ann | over partition ann | wait 21000",
        );
        keeps(&struck.replacen("fault partition ann", "fault kill hub", 1).replacen(
            "close 2",
            "by edge | crash | by ann | close 2",
            1,
        ));
        keeps(&struck.replacen("fault partition ann", "fault leave edge", 1));
    }
    // An end behind a goodbye has had its word.
    keeps(&ending("fault leave edge", WELCOMED, "goodbye 2 DRAINING 1 | close 2 end"));
}
