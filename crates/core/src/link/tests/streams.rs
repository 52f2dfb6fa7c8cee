//! What a stream brings, and what of it moves the cursor.

use super::*;

const SCENES: [Scene; 12] = [
    (
        "a_fresh_start_resumes_after_a_cut",
        || starting(""),
        "connected | subscribed | receive welcome@a5 | handled | receive a6 a7 caught@a7 | handled | lost | timer",
        r#"
        dial 0 within 5000
        subscribe 1 from "" within 5000
        read within 5000, connecting at ""
        deliver welcome@a5
        read within 15000, catching up at "a5"
        deliver a6 a7 caughtup@a7
        read within 15000, live at "a7"
        wait 200, backing off at "a7"
        dial 1 within 5000
        "#,
    ),
    (
        "a_stream_cut_before_its_first_event_still_resumes_where_it_started",
        || starting(""),
        "begin | receive welcome@a5 | handled | lost | timer | connected",
        r#"
        deliver welcome@a5
        read within 15000, catching up at "a5"
        wait 200, backing off at "a5"
        dial 1 within 5000
        subscribe 2 from "a5" within 5000
        "#,
    ),
    (
        "the_cursor_moves_with_what_is_handled_and_not_with_what_is_received",
        || starting(""),
        "begin | receive welcome@a5 a6 a7 a8 | fails 2 | timer | fails | timer | handled | receive a9 | stop",
        r#"
        deliver welcome@a5 a6 a7 a8
        pause 200, catching up at "a6"
        deliver a7 a8
        pause 200, catching up at "a6"
        deliver a7 a8
        read within 15000, catching up at "a8"
        deliver a9
        stopped at "a8"
        "#,
    ),
    (
        "a_received_position_is_never_passed_on_twice",
        || starting("a5"),
        "begin | receive welcome@a5 a5 a6 a6 a4 a7 caught@a7 | handled | lost | timer | begin | receive welcome@a7 a6 a7 a8",
        r#"
        deliver welcome@a5 a6 a7 caughtup@a7
        read within 15000, live at "a7"
        wait 200, backing off at "a7"
        dial 1 within 5000
        subscribe 2 from "a7" within 5000
        read within 5000, connecting at "a7"
        deliver welcome@a7 a8
        "#,
    ),
    (
        "a_control_frame_never_moves_the_cursor_back",
        || starting("a5"),
        "begin | receive welcome@a5 a6 progress@a4 | handled | receive progress@a9 | handled | receive gap:1:a2@a3 | handled",
        r#"
        deliver welcome@a5 a6 progress@a6
        read within 15000, catching up at "a6"
        deliver progress@a9
        read within 15000, catching up at "a9"
        deliver gap:Trimmed:a2..a3
        read within 15000, catching up at "a9"
        "#,
    ),
    (
        "gaps_cross_holes_epochs_and_go_back_only_when_ahead",
        || starting("a5"),
        "begin | receive welcome@a5 gap:1:a5@a9 a10 | handled | receive gap:2:a10@b3 b4 | handled | receive gap:3:b4@b1 b2 | handled",
        r#"
        deliver welcome@a5 gap:Trimmed:a5..a9 a10
        read within 15000, catching up at "a10"
        deliver gap:EpochChanged:a10..b3 b4
        read within 15000, catching up at "b4"
        deliver gap:Ahead:b4..b1 b2
        read within 15000, catching up at "b2"
        "#,
    ),
    (
        "another_epoch_without_a_gap_is_not_believed",
        || starting("a5"),
        "begin | receive welcome@a5 a6 b7 | handled | timer",
        r#"
        deliver welcome@a5 a6
        wait 200, backing off at "a6"
        dial 1 within 5000
        "#,
    ),
    (
        "an_opaque_cursor_is_given_back_as_it_came",
        || starting("3.new"),
        "begin | receive welcome@3.new caught@3.newer | handled | lost | timer | connected",
        r#"
        deliver welcome@3.new caughtup@3.newer
        read within 15000, live at "3.newer"
        wait 200, backing off at "3.newer"
        dial 1 within 5000
        subscribe 2 from "3.newer" within 5000
        "#,
    ),
    (
        "ephemeral_events_leave_the_cursor_alone_and_unknown_kinds_move_it",
        || starting("a5"),
        "begin | receive welcome@a5 ephemeral | handled | receive new@a6 | receive a7 new@a8 | handled | receive ephemeral new",
        r#"
        deliver welcome@a5 ephemeral
        read within 15000, catching up at "a5"
        read within 15000, catching up at "a6"
        deliver a7
        read within 15000, catching up at "a8"
        deliver ephemeral
        "#,
    ),
    (
        "an_unreadable_cursor_is_told_and_the_stream_starts_from_the_oldest",
        || starting("3.rubbish"),
        "begin | status 3 CURSOR_MALFORMED | fails | timer | handled | begin | receive welcome@a0 a1 | handled",
        r#"
        deliver gap:CursorUnreadable:3.rubbish..
        pause 200, connecting at "3.rubbish"
        deliver gap:CursorUnreadable:3.rubbish..
        dial 0 within 5000
        subscribe 2 from "oldest" within 5000
        read within 5000, connecting at "oldest"
        deliver welcome@a0 a1
        read within 15000, catching up at "a1"
        "#,
    ),
    (
        "a_hub_that_cannot_read_oldest_is_not_asked_in_a_loop",
        || starting("oldest"),
        "connected | status 3 CURSOR_MALFORMED | connected | status 3 CURSOR_MALFORMED",
        r#"
        dial 0 within 5000
        subscribe 1 from "oldest" within 5000
        dial 1 within 5000
        subscribe 2 from "oldest" within 5000
        wait 60000, refused at "oldest"
        "#,
    ),
    (
        "a_position_ahead_may_lead_into_another_epoch",
        || starting(""),
        "begin | receive welcome@a3 record@a4 gap:3:a1@b0 b1 | handled",
        r#"
        deliver welcome@a3 sessioninvalidation@a4 gap:Ahead:a1..b0 b1
        read within 15000, catching up at "b1"
        "#,
    ),
];

#[test]
fn what_a_stream_brings_and_what_of_it_moves_the_cursor() {
    check_all(&SCENES);
}

#[test]
fn a_stop_keeps_what_the_handler_had_finished() {
    let mut world = World::new(Config::default());
    world.play("begin");
    world.play("receive welcome@a5 a6 a7");
    world.link.batch_mut().finish_one();
    world.link.batch_mut().finish_one();
    world.play("stop");
    assert_eq!(short(&world.link.status().cursor), "a6");
    world.play("handled");
    assert_eq!(short(&world.link.status().cursor), "a6", "nothing moves after the end");
}

#[test]
fn a_handler_that_keeps_failing_is_seen_and_waited_for() {
    let mut world = World::new(Config::default());
    world.play("begin");
    world.play("receive welcome@a5 a6");
    for _ in 0..4 {
        world.play("fails");
        world.play("timer");
    }
    let trouble = world.link.status().handler.clone().unwrap();
    assert_eq!((&*trouble.error, trouble.failures, trouble.since), ("oops", 4, Duration::ZERO));
    assert_eq!(world.now, Duration::from_millis(200 + 200 + 400 + 800));
    world.play("fails 1");
    assert_eq!(world.link.status().handler.clone().unwrap().failures, 1, "another item fails now");
    world.play("timer");
    world.play("handled");
    assert_eq!(world.link.status().handler, None);
    assert_eq!(world.link.status().counters.handler_failures, 5);
}

/// The fault: where a process began says nothing of what it handed over, and events up to there were left out, untold.
#[test]
fn a_place_that_no_hub_ever_welcomed_hides_nothing() {
    let unreadable =
        ["begin", "status 3 CURSOR_MALFORMED", "handled", "begin", "receive welcome@a0 a1 a5 a6 a7"];
    let mut world = World::new(Config { start: long("a5"), ..Config::default() });
    world.play_all(&unreadable);
    assert!(world.transcript.ends_with("deliver welcome@a0 a1 a5 a6 a7\n"), "{}", world.transcript);
    let mut world = World::new(Config { start: long("a5"), ..Config::default() });
    world.play_all(&["begin", "receive welcome@a5 a6", "handled", "lost", "timer"]);
    world.play_all(&unreadable);
    assert!(world.transcript.ends_with("deliver welcome@a0 a7\n"), "had it: {}", world.transcript);
}

#[test]
fn what_is_no_cursor_is_never_sent_and_told_at_once() {
    check_from(
        "rubbish",
        "handled | begin",
        r#"
        deliver gap:CursorUnreadable:rubbish..
        dial 0 within 5000
        subscribe 1 from "oldest" within 5000
        read within 5000, connecting at "oldest"
        "#,
    );
    let mut world = World::new(Config { start: "7".repeat(64 << 10), ..Config::default() });
    let Some(Item::Gap(gap)) = world.link.batch_mut().items().first().cloned() else { panic!("no gap") };
    assert_eq!(gap.from, "7".repeat(128), "as much as a person wants to see of it");
    world.play_all(&["handled", "begin"]);
    assert!(matches!(&world.action, Action::Read { .. }) && world.link.status().cursor == "oldest");
    assert_eq!(world.link.status().counters.unreadable_cursors, 1);
}

#[test]
fn what_comes_before_the_welcome_moves_nothing() {
    for early in ["goodbye:1@a9", "new@a9"] {
        let mut world = World::new(Config { start: long("a5"), ..Config::default() });
        world.play("begin");
        world.play(&format!("receive {early}"));
        world.play_all(&["lost", "timer", "begin", "receive welcome@a5 a6"]);
        assert_eq!(world.transcript.lines().last().unwrap(), "deliver welcome@a5 a6", "{early}");
    }
}

#[test]
fn a_goodbye_does_not_stand_for_a_welcome() {
    for data in ["record@a4", "a4", "gap:1:a1@a4", "caught@a4", "welcome@a4"] {
        let mut world = World::new(Config::default());
        world.play("begin");
        world.play(&format!("receive goodbye:0:0@a3 {data}"));
        let told = world.link.status().last_error.clone();
        let expected = Failure::Protocol("a stream that does not begin with a welcome");
        assert_eq!(told.as_deref(), Some(&expected), "{data}");
        assert_eq!(world.link.status().counters.records + world.link.status().counters.gaps, 0, "{data}");
    }
}
