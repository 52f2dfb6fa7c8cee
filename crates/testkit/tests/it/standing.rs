//! What standing records demand: told whole to whoever has no place, and taking effect at users in their place in the log.

use galaxy_push_testkit::{Promise, Sight};

use crate::script::{breaks, keeps};

/// Standing records that come, are replaced, end and expire; and a reader that is told of them, in place and apart.
pub(crate) const STANDING: &str = "
    record 1 m0 user:ann joins topic:x | record 2 m1 user:ann joins topic:x | record 3 i1 user:bob void until=60000
    open 1 gateway g user:ann oldest standing
    welcome 1 FRESH 0 0 3 gen=1
    standing 1 0 i1 more | standing 1 0
    event 1 1 m0 | event 1 2 m1 | event 1 3 i1
    caught_up 1 3
    log 4 d user:ann | log 5 e user:ann
    gap 1 LAPPED 3 4 count=1
    standing 1 4 m1,i1
    event 1 5 e
    caught_up 1 5
    record 6 m2 user:ann leaves topic:x
    event 1 6 m2
    open 2 gateway h user:ann empty standing
    welcome 2 FRESH 6 0 6 gen=1
    standing 2 6 i1
    caught_up 2 6
    wait 70000
    open 3 gateway h user:ann foreign standing
    welcome 3 EPOCH_CHANGED foreign 6 6 gen=2
    standing 3 foreign
    gap 3 EPOCH_CHANGED foreign 6
    caught_up 3 6
";

#[test]
fn standing() {
    keeps(STANDING)
        .require_seen(&[Sight::Standing, Sight::StandingInPlace, Sight::StandingAfterGap])
        .unwrap();
    let broken = |line, by| breaks(Promise::Standing, STANDING, line, by);
    broken("standing 1 4 m1,i1", "standing 1 4 m1");
    broken("standing 1 4 m1,i1", "standing 1 4 i1");
    broken("standing 1 4 m1,i1", "standing 1 4 m0,i1");
    broken("standing 2 6 i1", "standing 2 6");
    broken("standing 2 6 i1", "standing 2 6 i1,m1");
    broken("standing 2 6 i1", "standing 2 6 i1,unheard-of");
    // One that is replaced meanwhile may be told or not; it comes again in its place.
    keeps(&STANDING.replacen("standing 1 0 i1 more", "standing 1 0 m1,i1 more", 1));
    breaks(Promise::Progress, STANDING, "event 1 6 m2", "progress 1 6");
}

/// They void the same tokens, so the one that lasts longest stands for both.
#[test]
fn of_two_invalidations_of_one_second_one_may_be_told() {
    let script = |pause: u64| {
        format!(
            "record 1 i1 user:bob void until=60000 | wait {pause} | record 2 i2 user:bob void until=50000
             open 1 gateway g user:ann empty standing
             welcome 1 FRESH 2 0 2 gen=1
             standing 1 2 i1
             caught_up 1 2"
        )
    };
    keeps(&script(500));
    breaks(Promise::Standing, &script(1_500).replacen("i1\n", "i1,i2\n", 1), "i1,i2", "i1");
}

/// A user who joins a topic, leaves it, and whose session ends.
const MEMBER: &str = "
    log 1 a topic:x | record 2 j1 user:ann joins topic:x | log 3 c topic:x
    open 1 user ann user:ann oldest
    welcome 1 FRESH 0 0 3
    event 1 3 c
    caught_up 1 3
    log 4 d topic:x
    event 1 4 d
    record 5 l1 user:ann leaves topic:x | log 6 f topic:x | log 7 g user:ann
    event 1 7 g
    open 2 user ann user:ann 2 | token 2 20
    welcome 2 RESUMED 2 0 7
    event 2 7 g
    caught_up 2 7
    wait 2000 | record 8 v user:ann void | log 9 i user:bob
    progress 2 8
";

#[test]
fn who_belongs_to_a_topic_gets_what_was_said_while_they_did() {
    keeps(MEMBER);
    let leaks = |line, by| breaks(Promise::Isolated, MEMBER, line, by);
    leaks("event 1 3 c", "event 1 1 a | event 1 3 c");
    leaks("event 1 7 g", "event 1 6 f | event 1 7 g");
    leaks("event 2 7 g", "event 2 3 c | event 2 7 g");
    breaks(Promise::Resumable, MEMBER, "event 1 3 c", "event 1 4 d");
    breaks(Promise::Progress, MEMBER, "event 1 4 d", "progress 1 4");
    breaks(Promise::CursorSafe, MEMBER, "event 1 3 c", "");
    // A gateway that has not come to the end yet still shows what lies before it.
    keeps(&MEMBER.replacen("welcome 2 RESUMED 2 0 7", "welcome 2 RESUMED 2 0 4", 1).replacen(
        "event 2 7 g",
        "event 2 3 c | event 2 7 g",
        1,
    ));
}

/// A user who is a member all the while, by one membership after the other, one of them said twice.
const ALL_THE_WHILE: &str = "
    record 1 j1 user:ann joins topic:x | log 2 a topic:x | record 3 j2 user:ann joins topic:x | log 4 b topic:x
    record 5 j3 user:ann joins topic:* | record 6 l1 user:ann leaves topic:x | log 7 c topic:x
    open 1 user ann user:ann 1
    welcome 1 RESUMED 1 0 7
    event 1 2 a
    event 1 4 b
    event 1 7 c
    caught_up 1 7
";

#[test]
fn a_member_by_whatever_record_is_owed_what_was_said_meanwhile() {
    keeps(ALL_THE_WHILE);
    breaks(Promise::Resumable, ALL_THE_WHILE, "event 1 2 a\n", "");
    breaks(Promise::GapFreeOrTold, ALL_THE_WHILE, "event 1 4 b\n", "");
    keeps(&ALL_THE_WHILE.replacen("event 1 2 a\n", "gap 1 UPSTREAM 1 2\n", 1));
    // Said twice is one membership still.
    let twice = "record 5 j3 user:ann joins topic:* | record 6 l1 user:ann leaves topic:x | log 7 c topic:x";
    let twice = ALL_THE_WHILE.replacen(twice, "log 7 c topic:x", 1);
    keeps(&twice);
    breaks(Promise::Resumable, &twice, "event 1 2 a\n", "");
    // By none, nothing is shown.
    let mut left = ALL_THE_WHILE.replacen("joins topic:*", "joins topic:y", 1);
    for shown in ["event 1 2 a\n", "event 1 4 b\n", "event 1 7 c\n"] {
        left = left.replacen(shown, "", 1);
    }
    breaks(Promise::Isolated, &left, "caught_up 1 7", "event 1 2 a | caught_up 1 7");
}

#[test]
fn nothing_is_shown_behind_the_end_of_a_session() {
    let ended = MEMBER.replacen("log 9 i user:bob", "log 9 i user:ann", 1);
    breaks(Promise::Isolated, &ended, "progress 2 8", "event 2 9 i");
    // With a newer token it is.
    keeps(&ended.replacen("progress 2 8", "wait 2000 | token 2 5000 | event 2 9 i", 1));
}

/// A gateway that has come to a record which ends sessions goes on in another log.
const ELSEWHERE: &str = "
    by hub | log 1 a user:bob | wait 2000 | record 2 v user:ann void
    by other | log e2:1 x user:bob
    by gw | start | follows 0 | follows e2:1 left=2
    by u | open 1 user ann user:ann empty at=gw | token 1 5
    by u | welcome 1 FRESH e2:1 e2:0 e2:1
    by other | log e2:2 y user:ann
    by u | progress 1 e2:2
";

/// There it keeps what it knows of them.
#[test]
fn nothing_of_another_log_is_shown_behind_the_end_of_a_session() {
    breaks(Promise::Isolated, ELSEWHERE, "progress 1 e2:2", "event 1 e2:2 y");
    // It had not come to the record; or it was started since.
    let shown = ELSEWHERE.replacen("progress 1 e2:2", "event 1 e2:2 y", 1);
    keeps(&shown.replacen("left=2", "left=1", 1));
    keeps(&shown.replacen("follows e2:1 left=2", "start | follows e2:1", 1));
}

/// If it began anew before it let somebody in, it knows of none that its life before was told.
#[test]
fn what_a_gateway_knew_in_an_earlier_life_ends_no_session() {
    let shown = ELSEWHERE.replacen("progress 1 e2:2", "event 1 e2:2 y", 1);
    // It has begun and follows nothing yet when it is asked; or it begins then.
    let (asks, answers) = ("by u | open 1 user ann user:ann empty at=gw", "by u | welcome 1");
    keeps(&shown.replacen(asks, &format!("by gw | start | {asks}"), 1));
    keeps(&shown.replacen(answers, &format!("by gw | start | follows e2:1 | {answers}"), 1));
}

/// Whoever was a member when it was said, by what the log of that time says, and is one by what the log of now says.
#[test]
fn a_gateway_that_goes_on_in_another_log_shows_what_both_of_them_grant() {
    let two_logs = "
        by hub | record 1 j user:ann joins topic:x until=5000 | log 2 a topic:x | log 3 b user:ann
        by other | record e2:1 k user:ann joins topic:x
        by gw | start | follows 0 | follows e2:0 left=3
        wait 10000
        by u | open 1 user ann user:ann 1 at=gw | welcome 1 RESUMED 1 0 3 | event 1 2 a | event 1 3 b
    ";
    keeps(two_logs);
    breaks(Promise::Isolated, two_logs, "follows e2:0 left=3", "");
    breaks(Promise::Isolated, two_logs, "user:ann joins topic:x\n", "user:bob joins topic:x\n");
    breaks(Promise::Isolated, two_logs, "record 1 j user:ann joins", "record 1 j user:bob joins");
}

#[test]
fn who_signs_in_after_a_record_is_let_in() {
    let signs_in = "
        record 1 v user:ann void | wait 5
        open 1 user ann user:ann,session:s empty | token 1 6 | close 1 cut
    ";
    breaks(Promise::Live, signs_in, "close 1 cut", "close 1 4401");
    let refused = signs_in.replacen("close 1 cut", "close 1 4401", 1);
    keeps(&refused.replacen("token 1 6", "token 1 0", 1));
    keeps(&refused.replacen("user:ann void", "session:s void", 1));
    keeps(&refused.replacen("token 1 6", "token 1 6 | wait 1000", 1));
}

/// A record of a session voids tokens that say they were issued after it, as far as the issuer's clock may be ahead.
#[test]
fn nothing_is_shown_to_a_newer_token_of_an_ended_session() {
    let ended = MEMBER
        .replacen("record 8 v user:ann void", "record 8 v session:s void", 1)
        .replace("user ann user:ann", "user ann user:ann,session:s")
        .replacen("log 9 i user:bob", "log 9 i user:ann", 1);
    breaks(Promise::Isolated, &ended, "progress 2 8", "wait 2000 | token 2 9000 | event 2 9 i");
}

/// It may have been sent while the membership held, if somebody was there to whom it could be sent.
#[test]
fn a_membership_that_has_expired_grants_nothing_to_whoever_comes_later() {
    let expired = "
        record 1 j user:ann joins topic:x until=5000 | log 2 a topic:x | log 3 b user:ann
        wait 10000
        open 1 user ann user:ann 1 | welcome 1 RESUMED 1 0 3 | event 1 3 b | caught_up 1 3
    ";
    breaks(Promise::Isolated, expired, "event 1 3 b", "event 1 2 a | event 1 3 b");
    let there = expired.replacen("        wait 10000\n", "", 1).replacen(
        "event 1 3 b",
        "wait 10000 | event 1 2 a | event 1 3 b",
        1,
    );
    keeps(&there);
}

/// A record may say from when it counts, and that is not when it was said.
#[test]
fn a_record_voids_what_was_issued_before_the_moment_it_names() {
    let ended = "
        wait 20000 | record 1 v user:ann void before=10000 | log 2 a user:ann
        open 1 user ann user:ann oldest | token 1 15000
        welcome 1 FRESH 0 0 2
        event 1 2 a
        caught_up 1 2
    ";
    keeps(ended);
    breaks(Promise::Isolated, ended, "token 1 15000", "token 1 5000");
    let signs_in = "
        wait 20000 | record 1 v user:ann void before=10000
        open 1 user ann user:ann empty | token 1 20000 | close 1 cut
    ";
    breaks(Promise::Live, signs_in, "close 1 cut", "close 1 4401");
    let later = signs_in.replacen("close 1 cut", "close 1 4401", 1);
    keeps(&later.replacen("before=10000", "before=20500", 1));
    // A token says in which second it was issued, and that second began before.
    let fraction = later.replacen("before=10000", "before=19300", 1);
    keeps(&fraction);
    breaks(Promise::Live, &fraction, "before=19300", "before=18900");
}

/// One that is newer does not stand for one that voids more.
#[test]
fn a_record_that_voids_more_is_told_beside_a_newer_one() {
    let told = "
        wait 20000 | record 1 i1 user:bob void until=60000 | record 2 i2 user:bob void until=60000 before=5000
        open 1 gateway g user:ann empty standing
        welcome 1 FRESH 2 0 2 gen=1
        standing 1 2 i1
        caught_up 1 2
    ";
    keeps(told);
    breaks(Promise::Standing, told, "standing 1 2 i1", "standing 1 2 i2");
}

#[test]
fn nothing_is_more_than_its_bound() {
    let measured = "measured window-bytes 100 100";
    keeps(measured);
    breaks(Promise::Bounded, measured, "100 100", "101 100");
}

/// What lies in the log of several hubs and does not count, before anybody asks for what holds.
const UNCOUNTED: &str = "
    record 1 m1 user:ann joins topic:x | wait 2000 | record 2 i1 user:bob void until=60000
    uncounted 3 i2 user:bob void until=30000 | uncounted 4 m2 user:cid joins topic:x
    open 1 gateway g user:ann empty standing
    welcome 1 FRESH 4 0 4 gen=1
    standing 1 4 m1,i1
    caught_up 1 4
";

#[test]
fn what_does_not_count_may_be_believed_where_it_takes_something_away() {
    keeps(UNCOUNTED);
    keeps(&UNCOUNTED.replacen("m1,i1\n", "m1,i1,i2\n", 1));
    breaks(Promise::Standing, UNCOUNTED, "standing 1 4 m1,i1", "standing 1 4 m1,i1,m2");
    breaks(Promise::Standing, UNCOUNTED, "standing 1 4 m1,i1", "standing 1 4 m1,i2");
    // It may stand for what is void anyway, and end a membership.
    let lasting = UNCOUNTED.replacen("void until=30000", "void until=90000", 1);
    keeps(&lasting.replacen("m1,i1\n", "m1,i2\n", 1));
    let left = UNCOUNTED.replacen("uncounted 4 m2 user:cid joins", "uncounted 4 m2 user:ann leaves", 1);
    keeps(&left.replacen("m1,i1\n", "i1\n", 1));
    keeps(&left);
    // Nobody could have read it yet.
    let early = UNCOUNTED.replacen("uncounted 3 i2 user:bob void until=30000 |", "", 1);
    let early = early + "uncounted 5 i2 user:bob void until=30000";
    breaks(Promise::Standing, &early, "standing 1 4 m1,i1", "standing 1 4 m1,i1,i2");
}

#[test]
fn a_session_may_have_ended_by_what_does_not_count_and_a_membership_too() {
    let by = |by: &str| MEMBER.replacen("record 8 v user:ann void", by, 1);
    let ended = by("uncounted 8 v user:ann void").replacen("log 9 i user:bob", "log 9 i user:ann", 1);
    keeps(&ended);
    breaks(
        Promise::Progress,
        &by("record 8 w user:bob void").replacen("log 9 i user:bob", "log 9 i user:ann", 1).replacen(
            "progress 2 8",
            "event 2 9 i",
            1,
        ),
        "event 2 9 i",
        "progress 2 9",
    );
    keeps(&ended.replacen("progress 2 8", "event 2 9 i", 1));
    keeps(&ended.replacen("progress 2 8", "progress 2 9", 1));
    // The user is a member all the while, or its gateway believes that it has left.
    let left = ALL_THE_WHILE.replacen("record 6 l1", "uncounted 6 l1", 1).replacen(
        "joins topic:*",
        "joins topic:y",
        1,
    );
    keeps(&left);
    keeps(&left.replacen("event 1 7 c\n", "", 1));
    breaks(
        Promise::CursorSafe,
        &left.replacen("uncounted 6 l1 user:ann", "uncounted 6 l1 user:bob", 1),
        "event 1 7 c\n",
        "",
    );
}

#[test]
fn where_the_log_keeps_little_what_nobody_acknowledged_may_be_gone() {
    let script = |rules: &str, answer: &str| {
        format!(
            "{rules}
             call 1 j1 - standing batch=1 | call 2 j2 - standing batch=1
             record 1 j1 user:ann joins topic:x | record 2 j2 user:bob joins topic:x
             unknown 1 | {answer}
             open 1 gateway g user:ann empty standing
             welcome 1 FRESH 2 0 2 gen=1
             standing 1 2 j1,j2
             caught_up 1 2"
        )
    };
    breaks(Promise::Standing, &script("rules", "unknown 2"), "j1,j2\n", "j2\n");
    keeps(&script("rules keeps_little", "unknown 2").replacen("j1,j2\n", "j2\n", 1));
    breaks(Promise::Standing, &script("rules keeps_little", "ack 2 2"), "j1,j2\n", "j2\n");
    let late = script("rules keeps_little", "").replacen("caught_up 1 2", "caught_up 1 2 | ack 2 2", 1);
    keeps(&late.replacen("j1,j2\n", "j2\n", 1));
}
