//! One test per promise about streams and readers: a small history that keeps it, and the same with a line changed that breaks it.

use galaxy_push_testkit::{Promise, Sight, check};

use crate::gaps::COLLAPSING;
use crate::script::{breaks, keeps, records};
use crate::standing::STANDING;

/// Three events; a gateway reads them all, loses its stream and resumes; a user reads what is for her.
pub(crate) const PLAIN: &str = "
    by hub | start | by publisher
    log 1 a user:ann | log 2 b user:bob | log 3 c user:ann,all
    by gateway | start
    open 1 gateway g - oldest
    welcome 1 FRESH 0 0 3 gen=1
    event 1 1 a | event 1 2 b | event 1 3 c
    caught_up 1 3
    progress 1 3
    close 1 reset
    by publisher | log 4 d user:ann | log 5 e user:bob
    by gateway
    open 2 gateway g - 3
    welcome 2 RESUMED 3 0 5 gen=2
    event 2 4 d | event 2 5 e
    caught_up 2 5
    by ann
    open 3 user ann user:ann,all 1
    welcome 3 RESUMED 1 0 5
    event 3 3 c | event 3 4 d
    caught_up 3 5
    progress 3 5
    by publisher | log 6 f user:bob | log 7 g user:ann
    by gateway | event 2 6 f | event 2 7 g
    by ann | event 3 7 g
    healed | wait 20000 | end
";

#[test]
fn a_plain_history_is_clean() {
    let report = keeps(PLAIN);
    report
        .require_seen(&[
            Sight::Resumed,
            Sight::Fresh,
            Sight::ResumedWithReplay,
            Sight::LiveJudged,
            Sight::UserEvent,
        ])
        .unwrap();
    let error = report.require_seen(&[Sight::Resumed, Sight::Trimmed]).unwrap_err();
    assert_eq!(error.to_string(), "never seen: Trimmed");
}

#[test]
fn a_violation_reads_well() {
    let report = check(&records(&PLAIN.replacen("event 1 2 b", "", 1)));
    let text = report.violations[0].to_string();
    assert!(
        text.starts_with(
            "gap_free_or_told: stream 1 of gateway g: e1:3 follows 1, but 2 (\"b\") lies between"
        ),
        "{text}"
    );
    assert!(text.contains("\"welcome\"") && text.contains(">     15 {\"at_us\":"), "{text}");
}

#[test]
fn ordered() {
    breaks(Promise::Ordered, PLAIN, "event 1 2 b | event 1 3 c", "event 1 3 c | event 1 2 b");
    breaks(Promise::Ordered, LAPPED, "event 1 5 e", "event 1 4 d");
    breaks(Promise::Ordered, LAPPED, "gap 1 LAPPED 1 4", "gap 1 LAPPED 1 0");
    breaks(Promise::Ordered, NEW_EPOCH, "gap 1 EPOCH_CHANGED 2 e2:0", "");
    breaks(Promise::Ordered, NEW_EPOCH, "gap 1 EPOCH_CHANGED 2 e2:0", "gap 1 LAPPED 2 e2:0");
    breaks(Promise::Ordered, NEW_EPOCH, "caught_up 1 e2:1", "caught_up 1 2");
}

#[test]
fn unique() {
    breaks(Promise::Unique, PLAIN, "event 1 2 b", "event 1 2 b | event 1 2 b");
    breaks(Promise::Unique, PLAIN, "event 2 4 d", "event 2 3 c | event 2 4 d");
    breaks(Promise::Unique, EPHEMERAL, "ephemeral 1 x", "ephemeral 1 x | ephemeral 1 x");
}

/// The window overtakes a reader in mid-stream.
pub(crate) const LAPPED: &str = "
    log 1 a all | log 2 b all | log 3 c all | log 4 d all | log 5 e all
    open 1 gateway g - oldest
    welcome 1 FRESH 0 0 5 gen=1
    event 1 1 a
    gap 1 LAPPED 1 4 count=3
    event 1 5 e
    caught_up 1 5
";

#[test]
fn gap_free_or_told() {
    let broken = |good, line, by| breaks(Promise::GapFreeOrTold, good, line, by);
    broken(PLAIN, "event 1 2 b", "");
    broken(PLAIN, "event 3 7 g", "event 3 8 h");
    broken(LAPPED, "gap 1 LAPPED 1 4 count=3", "");
    broken(LAPPED, "gap 1 LAPPED 1 4 count=3", "gap 1 LAPPED 2 4 count=3");
    broken(LAPPED, "gap 1 LAPPED 1 4 count=3", "gap 1 LAPPED 1 3 count=3");
    broken(LAPPED, "gap 1 LAPPED 1 4 count=3", "gap 1 LAPPED 1 4 count=2");
    broken(LAPPED, "gap 1 LAPPED 1 4 count=3\n    event 1 5 e", "event 1 5 e | gap 1 LAPPED 1 4");
    broken(TRIMMED, "gap 1 TRIMMED 1 3", "");
}

/// Position 1 has left the window when its reader comes back.
pub(crate) const TRIMMED: &str = "
    log 1 a all | log 2 b all | log 3 c all | log 4 d all
    open 1 gateway g - 1 standing
    welcome 1 TRIMMED 1 3 4 gen=1
    standing 1 1
    gap 1 TRIMMED 1 3
    event 1 4 d
    caught_up 1 4
    close 1 reset
    open 2 gateway g - 4 standing
    welcome 2 RESUMED 4 3 4 gen=2
    caught_up 2 4
    close 2 reset
    open 3 gateway g - 3 standing
    welcome 3 RESUMED 3 3 4 gen=3
    event 3 4 d
    caught_up 3 4
";

/// A reader keeps its stream while the log begins a new life, and another comes back with a cursor of the old one.
const NEW_EPOCH: &str = "
    log 1 a all | log 2 b all
    open 1 gateway g - oldest
    welcome 1 FRESH 0 0 2 gen=1
    event 1 1 a | event 1 2 b
    caught_up 1 2
    log e2:1 c all
    gap 1 EPOCH_CHANGED 2 e2:0
    event 1 e2:1 c
    caught_up 1 e2:1
    open 2 gateway h - 2
    welcome 2 EPOCH_CHANGED 2 e2:0 e2:1 gen=1
    gap 2 EPOCH_CHANGED 2 e2:0
    event 2 e2:1 c
    caught_up 2 e2:1
    open 3 gateway i - foreign
    welcome 3 EPOCH_CHANGED foreign e2:0 e2:1 gen=1
    gap 3 EPOCH_CHANGED foreign e2:0
    event 3 e2:1 c
    caught_up 3 e2:1
";

/// A cursor from the future, and garbage.
const AHEAD: &str = "
    log 1 a all
    open 1 gateway g - 9
    welcome 1 AHEAD 9 0 1 gen=1
    gap 1 AHEAD 9 1
    caught_up 1 1
    log 2 b all
    event 1 2 b
    open 2 gateway h - garbage
    close 2 INVALID_ARGUMENT,CURSOR_MALFORMED
    open 4 user bob all unreadable
    welcome 4 EPOCH_CHANGED garbage 0 2
    gap 4 CURSOR_UNREADABLE empty 0
    event 4 1 a | event 4 2 b
    caught_up 4 2
    close 4 cut
    open 3 user ann all 4
    welcome 3 RESUMED 4 0 2
    caught_up 3 4
    log 3 c all | log 4 d all | log 5 e all
    event 3 5 e
    event 1 3 c | event 1 4 d | event 1 5 e
";

#[test]
fn resumable() {
    let broken = |good, line, by| breaks(Promise::Resumable, good, line, by);
    broken(PLAIN, "event 2 4 d |", "");
    broken(PLAIN, "event 1 1 a |", "");
    broken(PLAIN, "welcome 2 RESUMED 3 0 5", "welcome 2 TRIMMED 3 0 5");
    broken(PLAIN, "welcome 2 RESUMED 3 0 5", "welcome 2 EPOCH_CHANGED 3 0 5");
    broken(PLAIN, "welcome 2 RESUMED 3 0 5", "welcome 2 AHEAD 3 0 2");
    broken(PLAIN, "welcome 1 FRESH", "welcome 1 RESUMED");
    broken(TRIMMED, "welcome 1 TRIMMED 1", "welcome 1 RESUMED 1");
    broken(TRIMMED, "welcome 3 RESUMED 3", "welcome 3 TRIMMED 3");
    broken(TRIMMED, "gap 1 TRIMMED 1 3", "gap 1 TRIMMED 1 4");
    broken(TRIMMED, "gap 1 TRIMMED", "gap 1 LAPPED");
    broken(NEW_EPOCH, "welcome 2 EPOCH_CHANGED 2", "welcome 2 RESUMED 2");
    broken(NEW_EPOCH, "welcome 3 EPOCH_CHANGED", "welcome 3 TRIMMED");
    broken(AHEAD, "welcome 1 AHEAD 9", "welcome 1 RESUMED 9");
    broken(AHEAD, "gap 1 AHEAD 9 1", "gap 1 AHEAD 9 0");
    broken(AHEAD, "close 2", "welcome 2 FRESH 1 0 1 | close 2");
    broken(AHEAD, "open 3 user ann all 4", "open 3 user ann all 9");
    broken(AHEAD, "gap 4 CURSOR_UNREADABLE", "gap 4 EPOCH_CHANGED");
    broken(AHEAD, "welcome 4 EPOCH_CHANGED", "welcome 4 TRIMMED");
    broken(AHEAD, "close 4 cut", "close 4 cut | open 5 user bob all unreadable | close 5 INVALID_ARGUMENT");
    let over = AHEAD.replacen("open 3 user ann all 4", "head e2:0 | open 3 user ann all 9", 1);
    let over = over.replacen("RESUMED 4", "RESUMED 9", 1).replacen("caught_up 3 4", "", 1);
    keeps(over.split("log 3 c all").next().unwrap());
    // What had been seen before cannot be ahead, even of a hub that says its head is lower.
    broken(AHEAD, "open 1 gateway g - 9", "log 9 i all | open 1 gateway g - 9");
}

#[test]
fn a_history_with_every_outcome_sees_them() {
    let mut seen = keeps(TRIMMED).seen;
    seen.merge(&keeps(NEW_EPOCH).seen);
    seen.merge(&keeps(AHEAD).seen);
    seen.require(&[
        Sight::Trimmed,
        Sight::EpochChanged,
        Sight::EpochChangedInStream,
        Sight::Ahead,
        Sight::GarbageRefused,
        Sight::GarbageTold,
        Sight::ForeignPresented,
        Sight::ResumedAtHead,
        Sight::ResumedAtOldest,
        Sight::ResumedBeyondHead,
        Sight::Standing,
    ])
    .unwrap();
}

#[test]
fn cursor_safe() {
    let broken = |good, line, by| breaks(Promise::CursorSafe, good, line, by);
    broken(PLAIN, "caught_up 1 3", "caught_up 1 2");
    broken(PLAIN, "caught_up 2 5", "caught_up 2 7");
    broken(PLAIN, "caught_up 2 5", "caught_up 2 empty");
    broken(PLAIN, "welcome 2 RESUMED 3", "welcome 2 RESUMED 5");
    broken(PLAIN, "welcome 1 FRESH 0 0 3", "welcome 1 FRESH 3 0 3");
    broken(TRIMMED, "welcome 1 TRIMMED 1", "welcome 1 TRIMMED 3");
    broken(TRIMMED, "standing 1 1", "standing 1 3");
    broken(STANDING, "standing 1 4 m1,i1", "standing 1 0 m1,i1");
    broken(LAPPED, "gap 1 LAPPED 1 4", "gap 1 LAPPED 0 4");
    broken(LAPPED, "gap 1 LAPPED 1 4", "gap 1 LAPPED 1 4 cursor=5");
    broken(EPHEMERAL, "ephemeral 1 x", "event 1 2 x ephemeral");
    broken(EPHEMERAL, "event 1 1 a", "event_without_cursor 1 a");
    broken(FAREWELLS, "fell_behind 1 1", "fell_behind 1 3");
    broken(FAREWELLS, "goodbye 1 DRAINING 3", "goodbye 1 DRAINING 4");
    broken(FAREWELLS, "goodbye 2 DRAINING 1", "goodbye 2 DRAINING 4");
    broken(PLAIN, "open 1 gateway g - oldest", "open 1 gateway g - empty");
}

/// A reader that lags and is then sent away; one that is sent away before its gap.
const FAREWELLS: &str = "
    log 1 a all
    open 1 gateway g - oldest
    welcome 1 FRESH 0 0 1 gen=1
    event 1 1 a
    caught_up 1 1
    log 2 b all | log 3 c all | log 4 d all
    fell_behind 1 1
    event 1 2 b | event 1 3 c
    goodbye 1 DRAINING 3
    close 1 UNAVAILABLE
    open 2 gateway g - 1
    welcome 2 TRIMMED 1 3 4 gen=2
    goodbye 2 DRAINING 1
    close 2 UNAVAILABLE
";

#[test]
fn progress() {
    breaks(Promise::Progress, PLAIN, "event 1 3 c\n    caught_up 1 3\n    progress 1 3", "progress 1 3");
    breaks(Promise::Progress, PLAIN, "progress 1 3", "progress 1 2");
    breaks(Promise::Progress, PLAIN, "progress 3 5", "progress 3 7");
    breaks(Promise::Progress, PLAIN, "progress 3 5", "progress 3 8");
    breaks(Promise::Progress, PLAIN, "caught_up 2 5", "");
}

#[test]
fn frame_order() {
    let broken = |good, line, by| breaks(Promise::FrameOrder, good, line, by);
    broken(EPHEMERAL, "caught_up 1 1", "");
    broken(PLAIN, "welcome 1 FRESH 0 0 3 gen=1", "");
    broken(PLAIN, "welcome 1 FRESH 0 0 3 gen=1", "progress 1 0 | welcome 1 FRESH 0 0 3 gen=1");
    broken(PLAIN, "event 1 2 b", "welcome 1 FRESH 0 0 3 gen=1");
    broken(PLAIN, "welcome 2 RESUMED 3 0 5 gen=2", "welcome 2 RESUMED 3 0 5 gen=2 | standing 2 3");
    broken(PLAIN, "caught_up 1 3", "standing 1 0 | caught_up 1 3");
    broken(TRIMMED, "standing 1 1", "");
    broken(TRIMMED, "standing 1 1", "standing 1 1 more");
    broken(TRIMMED, "standing 1 1", "standing 1 1 | standing 1 1");
    broken(TRIMMED, "open 1 gateway g - 1 standing", "open 1 gateway g - 1");
    broken(STANDING, "standing 1 4 m1,i1", "");
    broken(STANDING, "standing 1 4 m1,i1\n    event 1 5 e", "event 1 5 e | standing 1 4 m1,i1");
    broken(PLAIN, "close 1 reset", "close 1 reset | progress 1 3");
    broken(TRIMMED, "gap 1 TRIMMED 1 3", "caught_up 1 1 | gap 1 TRIMMED 1 3");
    broken(FAREWELLS, "goodbye 1 DRAINING 3", "goodbye 1 DRAINING 3 | event 1 4 d");
    broken(FAREWELLS, "fell_behind 1 1", "fell_behind 1 1 | fell_behind 1 1");
}

/// A user whose topics change, and a gateway that reads for some users only.
const GRANTS: &str = "
    log 1 a topic:x | log 2 b user:ann
    open 1 user ann user:ann,all oldest
    welcome 1 FRESH 0 0 2
    event 1 2 b
    caught_up 1 2
    subscribed 1 2 topic:x
    log 3 c topic:x
    event 1 3 c
    progress 1 3
    ungrant 1 topic:x 3
    log 4 d topic:x | log 5 e all
    event 1 5 e
    grant 1 topic:y 5
    log 6 f topic:y | log 7 g topic:z
    event 1 6 f
    progress 1 7
    open 2 gateway g user:a*,topic:* 4 standing
    dump 8 record - standing
    welcome 2 RESUMED 4 0 8 gen=1
    event 2 6 f | event 2 7 g | event 2 8 record
    caught_up 2 8
    log 9 h user:bob | log 10 i user:amy
    event 2 10 i
";

#[test]
fn isolated() {
    let broken = |line, by| breaks(Promise::Isolated, GRANTS, line, by);
    broken("event 1 2 b", "event 1 1 a | event 1 2 b");
    broken("event 1 2 b", "event 1 2 b to=user:amy");
    broken("event 1 5 e", "event 1 4 d | event 1 5 e");
    broken("event 1 6 f", "event 1 6 f | event 1 7 g");
    broken("event 2 10 i", "event 2 9 h | event 2 10 i");
    broken("event 2 6 f", "event 2 5 e | event 2 6 f");
}

#[test]
fn what_is_granted_is_owed() {
    breaks(Promise::Progress, GRANTS, "event 1 3 c", "");
    breaks(Promise::Progress, GRANTS, "event 1 6 f", "");
    breaks(Promise::CursorSafe, GRANTS, "event 2 8 record", "");
    let unknown = GRANTS.replacen("ungrant 1 topic:x 3", "ungrant 1 topic:x", 1);
    keeps(&unknown.replacen("event 1 5 e", "event 1 4 d | event 1 5 e", 1));
    breaks(Promise::Isolated, &unknown, "event 1 5 e", "ungrant 1 topic:x 3 | event 1 4 d | event 1 5 e");
}

/// An ephemeral event beside an ordinary one.
pub(crate) const EPHEMERAL: &str = "
    log 1 a all
    open 1 gateway g - oldest
    welcome 1 FRESH 0 0 1 gen=1
    event 1 1 a
    caught_up 1 1
    call 1 x all ephemeral | ack 1 -
    ephemeral 1 x
";

/// A handler that finishes items, crashes, and begins again from an older cursor.
const HANDLER: &str = "
    log 1 a all | log 2 b all | log 3 c all
    by gateway | start
    open 1 gateway g - oldest
    welcome 1 FRESH 0 0 3 gen=1
    event 1 1 a | event 1 2 b
    handled g 1 | handled g 2
    crash | start
    open 2 gateway g - 1
    welcome 2 RESUMED 1 0 3 gen=2
    event 2 2 b | event 2 3 c
    handled g 2 | handled g 3
    open 3 gateway g - 3
    welcome 3 RESUMED 3 0 3 gen=3
    caught_up 3 3
";

#[test]
fn handled_once() {
    breaks(Promise::HandledOnce, HANDLER, "handled g 2", "handled g 2 | handled g 2");
    breaks(Promise::HandledOnce, HANDLER, "handled g 1 | handled g 2", "handled g 2");
    breaks(Promise::HandledOnce, HANDLER, "crash | start", "");
    breaks(Promise::HandledOnce, HANDLER, "handled g 2 | handled g 3\n", "handled g 2 | crash | start\n");
    keeps(HANDLER).require_seen(&[Sight::HandledAgainAfterCrash]).unwrap();
}

#[test]
fn live() {
    let broken = |good, line, by| breaks(Promise::Live, good, line, by);
    broken(PLAIN, "event 3 7 g", "");
    broken(PLAIN, "by gateway | event 2 6 f | event 2 7 g", "close 2 reset");
    broken(PLAIN, "by ann | event 3 7 g", "by ann | fell_behind 3 5 | event 3 7 g");
    broken(PLAIN, "healed", "by publisher | head e2:0 | healed");
    // To connect again and again is not to be live, even if the last time was only just now.
    let again = "close 3 1012 | wait 9000 | open 4 user ann user:ann,all 5 | close 4 reset | wait 9000 | \
                 open 5 user ann user:ann,all 5 | wait 3000 | end";
    let restless = PLAIN.replacen("by ann | event 3 7 g\n    healed", "healed | by ann", 1);
    let restless = restless.replacen("wait 20000 | end", again, 1);
    let report = check(&records(&restless));
    assert!(report.breaks(Promise::Live), "{report}");
    let late = again.replacen("close 3", "event 3 7 g | close 3", 1);
    keeps(&PLAIN.replacen(
        "event 3 7 g\n    healed | wait 20000 | end",
        &format!("healed | by ann | {late}"),
        1,
    ));
    // Whoever leaves, is down, or had no time, is not expected at the head.
    keeps(&PLAIN.replacen("by gateway | event 2 6 f | event 2 7 g", "close 2 reset | left g", 1));
    keeps(&PLAIN.replacen("by gateway | event 2 6 f | event 2 7 g", "by gateway | crash", 1));
    let early = keeps(&PLAIN.replacen("wait 20000", "wait 2000", 1).replacen("event 3 7 g", "", 1));
    assert_eq!(early.seen.of(Sight::LiveJudged), 0);
}

#[test]
fn unexpired() {
    let late = COLLAPSING.replacen("open 1", "wait 20 | open 1", 1);
    breaks(Promise::Unexpired, &late, "event 1 3 c", "event 1 1 a | event 1 3 c");
    // Where everything is long on its way, an event may seem younger than it is.
    let late = late.replacen("event 1 3 c", "event 1 1 a | event 1 3 c", 1);
    breaks(Promise::Unexpired, &format!("rules transit=30\n{late}"), "transit=30", "transit=1");
    // It may have been sent before it expired, and have been long on its way.
    keeps(&COLLAPSING.replacen("event 1 3 c", "wait 20 | event 1 1 a | event 1 3 c", 1));
}

#[test]
fn an_unsound_history_proves_nothing() {
    for script in ["event 1 1 a", "ack 1 1", "open 1 user a all empty | open 1 user a all empty"] {
        assert!(check(&records(script)).breaks(Promise::History), "{script}");
    }
}
