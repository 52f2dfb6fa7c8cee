//! What is judged of handlers: their forms, how much a crash repeats, dead letters, and what their stores hold.

use galaxy_push_testkit::{Promise, Sight};

use crate::script::{breaks, keeps};

/// A handler of batches: the first life ends between its second call and the store.
const BATCHES: &str = "
    log 1 a all | log 2 b all | log 3 c all | log 4 d all | log 5 e all
    by gateway | start
    handler g batches
    open 1 gateway g - oldest
    welcome 1 FRESH 0 0 5 gen=1
    event 1 1 a | event 1 2 b
    handled g 1 call=1 | handled g 2 call=1
    stored g 2
    event 1 3 c | event 1 4 d
    handled g 3 call=2 | handled g 4 call=2
    crash | start
    handler g batches
    open 2 gateway g - 2
    welcome 2 RESUMED 2 0 5 gen=2
    event 2 3 c | event 2 4 d | event 2 5 e
    handled g 3 call=1 | handled g 4 call=1 | handled g 5 call=1
    stored g 5
    caught_up 2 5
";

/// A stream whose deliveries are acked in another order.
const STREAM: &str = "
    log 1 a all | log 2 b all | log 3 c all | log 4 d all
    by gateway | start
    handler g stream repeats=2
    open 1 gateway g - oldest
    welcome 1 FRESH 0 0 4 gen=1
    event 1 1 a | event 1 2 b | event 1 3 c
    handled g 1
    stored g 1
    handled g 3
    event 1 4 d
    handled g 4
    crash | start
    handler g stream repeats=2
    open 2 gateway g - 1
    welcome 2 RESUMED 1 0 4 gen=2
    event 2 2 b | event 2 3 c | event 2 4 d
    handled g 4 | handled g 3 | handled g 2
    stored g 4
    caught_up 2 4
    healed | wait 16000 | end
";

#[test]
fn a_crash_repeats_no_more_than_d() {
    // The batch that was not stored comes again, and no other.
    let seen = keeps(BATCHES);
    seen.require_seen(&[Sight::BatchHandled, Sight::RepeatedWithinD]).unwrap();
    breaks(Promise::HandledOnce, BATCHES, "handled g 4 call=2", "handled g 4 call=3");
    let two = BATCHES.replace("handler g batches", "handler g batches repeats=2");
    keeps(&two.replace("handled g 4 call=2", "handled g 4 call=3"));
    // Items by themselves are calls of their own, and D is 1 unless more is said.
    breaks(Promise::HandledOnce, STREAM, "handler g stream repeats=2", "handler g stream");
    let undeclared = BATCHES.replace("handler g batches", "").replace("call=1", "");
    breaks(Promise::HandledOnce, &undeclared, "handled g 4 call=2", "handled g 4");
}

#[test]
fn while_its_store_fails_a_crash_repeats_more_but_never_what_was_stored() {
    let failing = BATCHES.replacen("stored g 2", "store_failed g", 1);
    let failing = failing.replacen("open 2 gateway g - 2", "open 2 gateway g - oldest", 1);
    let failing = failing.replacen(
        "welcome 2 RESUMED 2 0 5 gen=2",
        "welcome 2 FRESH 0 0 5 gen=2 | event 2 1 a | event 2 2 b | handled g 1 call=0 | handled g 2 call=0",
        1,
    );
    keeps(&failing).require_seen(&[Sight::StoreWriteFailed]).unwrap();
    breaks(Promise::HandledOnce, &failing, "store_failed g", "");
    // A save that succeeds ends that, and what it covers is over for good.
    breaks(Promise::HandledOnce, &failing, "store_failed g", "store_failed g | stored g 2");
    // What fails after the process has ended says nothing of it.
    let late = failing.replacen("store_failed g", "", 1).replacen(
        "crash | start",
        "crash | store_failed g | start",
        1,
    );
    breaks(Promise::HandledOnce, &failing, &failing, &late);
}

#[test]
fn the_store_holds_nothing_without_an_outcome() {
    // Before the handler has returned.
    breaks(
        Promise::HandledOnce,
        BATCHES,
        "event 1 3 c | event 1 4 d",
        "event 1 3 c | event 1 4 d | stored g 4",
    );
    // Past a delivery that is not acked, and in the moment of the crash.
    breaks(Promise::HandledOnce, STREAM, "handled g 3\n", "handled g 3 | stored g 3\n");
    breaks(Promise::HandledOnce, STREAM, "crash | start", "crash | stored g 4 | start");
    // A process that begins after what none before it finished, whatever its store was seen to hold.
    let ahead = STREAM.replacen("open 2 gateway g - 1", "open 2 gateway g - 2", 1);
    let ahead = ahead.replacen("welcome 2 RESUMED 1 0", "welcome 2 RESUMED 2 0", 1);
    let ahead =
        ahead.replacen("event 2 2 b |", "", 1).replacen("handled g 3 | handled g 2", "handled g 3", 1);
    breaks(Promise::HandledOnce, STREAM, STREAM, &ahead);
}

#[test]
fn in_the_stream_form_each_item_has_one_outcome_in_any_order() {
    keeps(STREAM).require_seen(&[Sight::AckedOutOfOrder, Sight::RepeatedWithinD]).unwrap();
    breaks(
        Promise::HandledOnce,
        STREAM,
        "handled g 3 | handled g 2",
        "handled g 3 | handled g 2 | handled g 3",
    );
    // It begins after the highest, whichever was acked last.
    let turned = STREAM.replacen("handled g 3\n", "handled g 3 | handled g 2 | stored g 3\n", 1);
    let turned = turned.replacen("open 2 gateway g - 1", "open 2 gateway g - 3", 1);
    let turned = turned.replacen("welcome 2 RESUMED 1 0", "welcome 2 RESUMED 3 0", 1);
    let turned = turned.replacen("handled g 4\n    crash", "crash", 1).replacen("event 1 4 d\n", "", 1);
    let turned = turned.replacen("event 2 2 b | event 2 3 c |", "", 1);
    keeps(&turned.replacen("handled g 4 | handled g 3 | handled g 2", "handled g 4", 1));
    // One that was dropped and did not come back.
    breaks(Promise::HandledOnce, STREAM, "handled g 3 | handled g 2\n    stored g 4", "handled g 3");
    // It may have come too late for that.
    keeps(&STREAM.replacen("wait 16000", "wait 1000", 1).replacen(
        "handled g 3 | handled g 2\n    stored g 4",
        "handled g 3",
        1,
    ));
}

#[test]
fn a_dead_letter_is_an_outcome_and_the_only_one() {
    let dead = STREAM.replacen("handled g 4 | handled g 3", "handled g 4 dead | handled g 3", 1);
    keeps(&dead).require_seen(&[Sight::DeadLetter]).unwrap();
    breaks(Promise::HandledOnce, &dead, "handled g 4 dead", "handled g 4 dead | handled g 4");
    let batch = BATCHES.replacen("handled g 3 call=1", "handled g 3 dead", 1);
    keeps(&batch).require_seen(&[Sight::DeadLetter]).unwrap();
    // Given up without anybody who took it.
    breaks(Promise::HandledOnce, &batch, "handled g 3 dead |", "");
}

#[test]
fn what_is_told_may_be_repeated() {
    // A cursor that could not be read, and a log that is another one, are told; what is held comes again.
    let read = BATCHES.replacen("open 2 gateway g - 2", "open 3 gateway g - garbage | gap 3 CURSOR_UNREADABLE garbage empty cursor=oldest | close 3 none | open 2 gateway g - oldest", 1);
    let read = read.replacen(
        "welcome 2 RESUMED 2 0 5 gen=2",
        "welcome 2 FRESH 0 0 5 gen=2 | event 2 1 a | event 2 2 b | handled g 1 call=0 | handled g 2 call=0",
        1,
    );
    keeps(&read);
    // Not so if nobody was told.
    breaks(
        Promise::HandledOnce,
        &read,
        "open 3 gateway g - garbage | gap 3 CURSOR_UNREADABLE garbage empty cursor=oldest | close 3 none |",
        "",
    );
}

/// A life that could not read its store began at the oldest; the next one reads there what the first had finished.
#[test]
fn what_any_life_finished_is_skipped_by_none() {
    let script = "
        log 1 a all | log 2 b all | log 3 c all
        by gateway | start | handler g items
        open 1 gateway g - oldest | welcome 1 FRESH 0 0 3 gen=1 | event 1 1 a | event 1 2 b
        handled g 1 | handled g 2 | stored g 2
        crash | start | handler g items
        open 2 gateway g - garbage | gap 2 CURSOR_UNREADABLE garbage empty cursor=oldest | close 2 none
        open 3 gateway g - oldest | welcome 3 FRESH 0 0 3 gen=2 | event 3 1 a
        handled g 1
        crash | start | handler g items
        open 4 gateway g - 2 | welcome 4 RESUMED 2 0 3 gen=3 | event 4 3 c | handled g 3 | caught_up 4 3
    ";
    keeps(script);
    breaks(
        Promise::HandledOnce,
        script,
        "welcome 3 FRESH 0 0 3 gen=2 | event 3 1 a\n        handled g 1\n",
        "event 3 1 a | handled g 1 | close 3 cut | open 5 gateway g - 2 | close 5 cut\n",
    );
    let skipped = script.replacen(
        "open 4 gateway g - 2 | welcome 4 RESUMED 2 0 3 gen=3 | event 4 3 c | handled g 3",
        "open 4 gateway g - 3 | welcome 4 RESUMED 3 0 3 gen=3",
        1,
    );
    let report = galaxy_push_testkit::check(&crate::script::records(&skipped));
    assert!(report.breaks(Promise::HandledOnce), "{report}");
}

#[test]
fn frames_that_nobody_knows_are_seen() {
    let met = STREAM.replacen("handled g 3\n", "unknown_frame g | handled g 3\n", 1);
    keeps(&met).require_seen(&[Sight::UnknownFrameMet]).unwrap();
}
