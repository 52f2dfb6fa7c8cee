//! A log that outlives its hub: nothing is acknowledged or delivered before it is on the disk, and all of it stays there.

use galaxy_push_testkit::{Promise, check};

use crate::script::{breaks, keeps, records};

/// A hub on a disk, which is killed and started again: a reader goes on where it was, and new readers begin.
const RESTARTED: &str = "
    rules durable events=100 age=1000
    start
    kept | head 0
    call 1 a all | call 2 b all
    dump 1 a all | dump 2 b all | head 2
    ack 1 1 | ack 2 2
    open 1 gateway g - oldest
    welcome 1 FRESH 0 0 2 gen=7
    event 1 1 a | event 1 2 b
    caught_up 1 2
    close 1 reset
    start
    kept 0..2 | head 2
    open 2 gateway g - 2
    welcome 2 RESUMED 2 0 2 gen=1
    caught_up 2 2
";

#[test]
fn what_is_on_the_disk_is_told_and_stays() {
    let broken = |line, by| breaks(Promise::Durable, RESTARTED, line, by);
    // Acknowledged first, or delivered first.
    broken(
        "dump 1 a all | dump 2 b all | head 2\n    ack 1 1 | ack 2 2",
        "ack 1 1 | ack 2 2 | dump 1 a all | dump 2 b all",
    );
    let first = "dump 1 a all | dump 2 b all | head 2\n    ack 1 1 | ack 2 2\n    open 1 gateway g - oldest\n    \
                 welcome 1 FRESH 0 0 2 gen=7\n    event 1 1 a | event 1 2 b";
    broken(
        first,
        "dump 1 a all | ack 1 1 | open 1 gateway g - oldest | welcome 1 FRESH 0 0 2 gen=7 | event 1 1 a | event 1 2 b | \
         dump 2 b all | head 2",
    );
    // Gone in the next life, from its end or its middle.
    broken("kept 0..2", "kept 0..1");
    broken("kept 0..2", "kept 1..2");
    // Another log, although this one was there.
    broken("kept 0..2 | head 2", "head e2:0");
    // What the window has left may go, and what the harness damaged.
    keeps(&RESTARTED.replacen("events=100", "events=1", 1).replacen("kept 0..2", "kept 1..2", 1));
    keeps(&RESTARTED.replacen("kept 0..2", "damaged 0 1 | kept 1..2", 1));
}

/// Generations begin anew with each life of the hub, and rise in it.
#[test]
fn a_hub_that_is_started_again_counts_generations_anew() {
    breaks(Promise::Fenced, RESTARTED, "    start\n    kept 0..2", "    kept 0..2");
}

/// What the hub of before had sent may be received when it has been started again, and its generations are of its life.
#[test]
fn a_welcome_that_was_on_its_way_is_of_the_life_that_gave_it() {
    let script = |head: u64| {
        format!(
            "rules durable events=100 age=1000
             start | kept | head 0 | call 1 a all | dump 1 a all | ack 1 1
             open 1 gateway g - 0
             call 2 b all | dump 2 b all | ack 2 2
             start | kept 0..2 | head 2 | call 3 c all | dump 3 c all | ack 3 3
             welcome 1 RESUMED 0 0 {head} gen=7 | close 1 reset
             open 2 gateway g - 3 | welcome 2 RESUMED 3 0 3 gen=1 | caught_up 2 3"
        )
    };
    keeps(&script(1));
    // Nobody can tell; or it names what was appended since.
    keeps(&script(2));
    let report = check(&records(&script(3)));
    assert!(report.breaks(Promise::Fenced), "{report}");
}

/// As RESTARTED, with something damaged in between.
const DAMAGED: &str = "
    rules durable events=100 age=1000
    start
    kept | head 0
    call 1 a all | call 2 b all | call 3 c all
    dump 1 a all | dump 2 b all | dump 3 c all | head 3
    ack 1 1 | ack 2 2 | ack 3 3
    damaged 1 2
    start
    kept 0..1 2..3 | head 3
    open 1 gateway g - oldest
    welcome 1 FRESH 0 0 3 gen=1
    event 1 1 a | gap 1 DAMAGED 1 2 count=1 | event 1 3 c
    caught_up 1 3
";

#[test]
fn only_what_was_damaged_is_told_as_damaged() {
    breaks(Promise::GapTrue, DAMAGED, "event 1 1 a | gap 1 DAMAGED 1 2 count=1", "gap 1 DAMAGED 0 2 count=2");
    breaks(Promise::GapTrue, DAMAGED, "DAMAGED 1 2 count=1 | event 1 3 c", "DAMAGED 1 3 count=2");
    breaks(Promise::GapFreeOrTold, DAMAGED, "gap 1 DAMAGED 1 2 count=1 |", "");
    // With what is damaged it is forgotten that it was published: it may be so again, and only that.
    let again = "call 4 b all | dump 4 b all | ack 4 4 | event 1 4 b\n    caught_up 1 4";
    keeps(&DAMAGED.replacen("caught_up 1 3", again, 1));
    let sound = again.replace(" b", " a");
    breaks(Promise::AckedOnce, DAMAGED, "caught_up 1 3", &sound);
}

/// What is damaged lies in the hub's log, and the hub tells of it as of everything else: from where the reader stands.
#[test]
fn whoever_resumes_inside_what_is_damaged_is_told_from_there() {
    let resumed = "open 1 gateway g - 2 | welcome 1 RESUMED 2 0 4 gen=1 | gap 1 DAMAGED 2 3 count=1 | event 1 4 d | caught_up 1 4";
    let damaged = format!(
        "rules durable events=100 age=1000 | start | kept | head 0
        call 1 a all | call 2 b all | call 3 c all | call 4 d all
        dump 1 a all | dump 2 b all | dump 3 c all | dump 4 d all | head 4
        ack 1 1 | ack 2 2 | ack 3 3 | ack 4 4
        damaged 1 3 | start | kept 0..1 3..4 | head 4 | {resumed}"
    );
    breaks(Promise::CursorSafe, &damaged, "DAMAGED 2 3 count=1", "DAMAGED 1 3 count=2");
    // So does a gateway, which was told from where it stood itself.
    let user = damaged.replace("gateway g - 2", "user u all 2").replace(" gen=1", "");
    breaks(Promise::CursorSafe, &user, "DAMAGED 2 3 count=1", "DAMAGED 1 3 count=2");
}
