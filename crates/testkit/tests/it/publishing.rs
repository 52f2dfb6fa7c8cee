//! One test per promise about publishes and the log: a small history that keeps it, and the same with a line changed
//! that breaks it.

use galaxy_push_testkit::{Promise, Sight};

use crate::script::{breaks, keeps};
use crate::streams::{EPHEMERAL, PLAIN};

/// Publishes of every kind.
const PUBLISHES: &str = "
    call 1 a all | ack 1 1
    call 2 b all | unknown 2 | call 3 b all | ack 3 2 duplicate
    call 4 c all | nack 4
    call 5 d all | unknown 5
    call 6 e all | unknown 6
    call 7 f all batch=1 | call 8 g all batch=1 | ack 7 4 | ack 8 5
    dump 1 a all | dump 2 b all | dump 3 d all | dump 4 f all | dump 5 g all
    open 1 gateway g - oldest
    welcome 1 FRESH 0 0 5 gen=1
    event 1 1 a | event 1 2 b | event 1 3 d | event 1 4 f | event 1 5 g
    progress 1 5
";

#[test]
fn acked_once() {
    breaks(Promise::AckedOnce, PUBLISHES, "dump 5 g all", "");
    breaks(Promise::AckedOnce, PUBLISHES, "dump 5 g all", "dump 5 g all | dump 6 b all");
    breaks(Promise::AckedOnce, PUBLISHES, "ack 1 1", "ack 1 -");
    breaks(Promise::AckedOnce, PUBLISHES, "ack 3 2 duplicate", "ack 3 3 duplicate");
    let far =
        format!("rules dedup=4\n{PUBLISHES}").replacen("dump 5 g all", "dump 5 g all | dump 6 b all", 1);
    keeps(&far); // the hub may have forgotten it by then
}

#[test]
fn nacked_never() {
    breaks(Promise::NackedNever, PUBLISHES, "dump 5 g all", "dump 5 g all | dump 6 c all");
    breaks(Promise::NackedNever, EPHEMERAL, "ack 1 -", "nack 1");
}

#[test]
fn unknown_at_most_once() {
    breaks(Promise::UnknownAtMostOnce, PUBLISHES, "dump 5 g all", "dump 5 g all | dump 6 d all");
    let seen = keeps(PUBLISHES).seen;
    seen.require(&[Sight::UnknownLanded, Sight::UnknownLost, Sight::DedupHit, Sight::Nacked]).unwrap();
}

#[test]
fn ack_order() {
    let script = "
        call 1 a all | ack 1 1
        call 2 b all | call 3 c all | ack 3 2 | ack 2 3
        dump 1 a all | dump 2 c all | dump 3 b all
    ";
    breaks(
        Promise::AckOrder,
        script,
        "call 2 b all | call 3 c all | ack 3 2 | ack 2 3",
        "call 2 b all | ack 2 3 | call 3 c all | ack 3 2",
    );
    breaks(
        Promise::AckOrder,
        script,
        "call 2 b all | call 3 c all | ack 3 2 | ack 2 3",
        "call 2 b all | ack 2 3 | call 3 c all | unknown 3",
    );
}

#[test]
fn batch_whole() {
    breaks(Promise::BatchWhole, PUBLISHES, "dump 5 g all", "dump 5 x all | dump 6 g all");
    breaks(
        Promise::BatchWhole,
        PUBLISHES,
        "ack 7 4 | ack 8 5\n    dump 1 a all | dump 2 b all | dump 3 d all | dump 4 f all | dump 5 g all",
        "dump 1 a all | dump 2 b all | dump 3 d all | dump 4 f all",
    );
    breaks(Promise::BatchWhole, PUBLISHES, "event 1 5 g", "progress 1 4 | event 1 5 g");
    // Whoever was cut inside a batch comes back there, and hears no more of it until it is further.
    let back = format!(
        "{PUBLISHES}    open 2 gateway h - 4\n    welcome 2 RESUMED 4 0 5 gen=1\n    progress 2 4\n    event 2 5 g\n"
    );
    keeps(&back);
    breaks(
        Promise::BatchWhole,
        &back
            .replace("h - 4", "h - 2")
            .replace("RESUMED 4", "RESUMED 2")
            .replace("progress 2 4", "event 2 3 d | event 2 4 f"),
        "event 2 4 f",
        "event 2 4 f | progress 2 4",
    );
}

#[test]
fn no_phantom() {
    breaks(Promise::NoPhantom, PLAIN, "event 1 3 c", "event 1 3 c | event 1 9 z");
    breaks(Promise::NoPhantom, PLAIN, "log 7 g user:ann", "log 7 g user:ann | dump 8 z user:ann");
    breaks(Promise::NoPhantom, PUBLISHES, "dump 3 d all", "dump 3 d/other all");
    breaks(Promise::NoPhantom, PUBLISHES, "dump 3 d all", "dump 3 d user:ann");
    breaks(Promise::NoPhantom, EPHEMERAL, "ephemeral 1 x", "ephemeral 1 y");
}

#[test]
fn one_payload() {
    breaks(Promise::OnePayload, PLAIN, "event 1 2 b", "event 1 2 b/other");
    breaks(Promise::OnePayload, PLAIN, "event 1 2 b", "event 1 2 a");
    breaks(Promise::OnePayload, PUBLISHES, "dump 3 d all", "dump 3 d all | dump 3 d/other all");
    breaks(Promise::OnePayload, LOST_TAIL, "event 2 3 c", "event 2 3 a");
}

/// The hub was killed before its last entries could be dumped.
const LOST_TAIL: &str = "
    call 1 a all | call 2 b all | call 3 c all | call 4 d all | ack 1 1 | ack 2 2 | ack 3 3 | ack 4 4
    dump 1 a all | dump 2 b all | known e1 0 2
    open 1 gateway g - oldest
    welcome 1 FRESH 0 0 3 gen=1
    event 1 1 a | event 1 2 b | event 1 3 c
    open 2 gateway h - 2
    welcome 2 RESUMED 2 0 3 gen=1
    event 2 3 c
";

#[test]
fn what_the_dump_cannot_tell_is_not_held_against_anyone() {
    keeps(LOST_TAIL);
    breaks(Promise::AckedOnce, LOST_TAIL, "known e1 0 2", "");
    breaks(Promise::NoPhantom, LOST_TAIL, "event 1 3 c", "event 1 3 z");
}
