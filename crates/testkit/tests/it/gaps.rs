//! What a gap tells is so, and what was left out without one is told by one.

use galaxy_push_testkit::{Promise, Sight};

use crate::script::{breaks, keeps};
use crate::streams::{LAPPED, TRIMMED};

#[test]
fn gap_true() {
    let broken = |good: &str, line, by| breaks(Promise::GapTrue, good, line, by);
    broken(LAPPED, "gap 1 LAPPED 1 4 count=3", "gap 1 LAPPED 1 4 count=4");
    broken(LAPPED, "gap 1 LAPPED 1 4 count=3", "gap 1 LAPPED 1 4 count=2");
    broken(LAPPED, "gap 1 LAPPED 1 4 count=3", "gap 1 LAPPED 1 1 | gap 1 LAPPED 1 4 count=3");
    broken(COLLAPSING, "gap 1 COLLAPSED 4 5 count=2", "gap 1 COLLAPSED 4 4 count=2");
    // With the window known: it holds one event, so that 4 was out of it when 5 was there.
    let tight = "rules events=1\n".to_owned() + LAPPED;
    broken(&tight, "rules events=1", "rules events=2");
    keeps(&tight.replacen("rules events=1", "rules events=2 age=1", 1));
    keeps(&tight.replacen("rules events=1", "rules events=2 bytes=150", 1));
    // An ephemeral event takes a place as well.
    keeps(&tight.replacen("rules events=1", "rules events=2 | call 1 x all ephemeral | ack 1 -", 1));
    let trimmed = "rules events=1\n".to_owned() + TRIMMED;
    broken(&trimmed, "rules events=1", "rules events=2");
}

#[test]
fn a_gap_says_when_to_repair_and_readers_are_spread() {
    let spread = "rules spread=30\n".to_owned() + &LAPPED.replacen("LAPPED 1 4", "LAPPED 1 4 repair=29", 1);
    breaks(Promise::GapTrue, &spread, "repair=29", "repair=30");
    breaks(Promise::GapTrue, &spread, " repair=29", "");
    keeps(&spread.replacen("rules spread=30", "rules", 1).replacen(" repair=29", "", 1));
}

#[test]
fn a_client_may_tell_itself_that_its_cursor_cannot_be_read() {
    let local =
        "open 9 gateway h - garbage | gap 9 CURSOR_UNREADABLE garbage oldest | close 9 INVALID_ARGUMENT\n";
    let seen = keeps(&(local.to_owned() + LAPPED));
    seen.require_seen(&[Sight::GapCursorUnreadable, Sight::GarbageRefused]).unwrap();
}

/// A reader that opted in to collapsing, and lags: 2 and 5 are superseded by 6, and 1 expires at once.
pub(crate) const COLLAPSING: &str = "
    log 1 a all expires=5 | log 2 b all key=k | log 3 c all | log 4 d all key=l | log 5 e all key=k | log 6 f all key=k
    open 1 gateway g - oldest collapses
    welcome 1 FRESH 0 0 6 gen=1
    event 1 3 c | event 1 4 d
    gap 1 COLLAPSED 4 5 count=2
    event 1 6 f
    caught_up 1 6
";

#[test]
fn what_expired_may_be_missing_and_what_was_superseded_is_told() {
    keeps(COLLAPSING).require_seen(&[Sight::GapCollapsed]).unwrap();
    breaks(Promise::Resumable, COLLAPSING, "expires=5", "expires=500");
    breaks(Promise::Resumable, COLLAPSING, " collapses", "");
    breaks(Promise::GapFreeOrTold, COLLAPSING, "gap 1 COLLAPSED 4 5 count=2", "");
    breaks(Promise::GapFreeOrTold, COLLAPSING, "gap 1 COLLAPSED 4 5 count=2", "gap 1 COLLAPSED 4 5 count=1");
    breaks(Promise::GapFreeOrTold, COLLAPSING, "event 1 4 d\n    gap 1 COLLAPSED 4 5", "gap 1 COLLAPSED 3 5");
    keeps(&COLLAPSING.replacen(" count=2", "", 1));
}
