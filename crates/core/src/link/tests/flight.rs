//! The stream form: items go out, acks come in, and the cursor follows the front.

use super::*;

/// Room for two events.
fn two() -> Config {
    let in_flight_bytes = 2 * (IN_FLIGHT_OVERHEAD + frame("a6").len());
    Config { delivery_mode: DeliveryMode::Stream { in_flight_bytes }, start: long("a5"), ..Config::default() }
}

fn many() -> Config {
    Config { delivery_mode: DeliveryMode::Stream { in_flight_bytes: 1 << 20 }, ..two() }
}

const SCENES: [Scene; 5] = [
    (
        "the_cursor_follows_the_front_of_the_acks",
        many,
        "begin | receive welcome@a5 a6 a7 a8 | ack 0 | ack 3 | ack 2 | ack 1",
        r#"
        out welcome@a5#0 a6#1 a7#2 a8#3
        read within 15000, catching up at "a5"
        read within 15000, catching up at "a5"
        read within 15000, catching up at "a5"
        read within 15000, catching up at "a5"
        read within 15000, catching up at "a8"
        "#,
    ),
    (
        "nothing_is_read_beyond_the_bound",
        two,
        "begin | receive welcome@a5 a6 a7 a8 a9 | ack 1 | ack 0 | ack 2 | ack 3 | later 60 | timer | ack 4",
        r#"
        out welcome@a5#0 a6#1
        await 2 items at "a5"
        await 2 items at "a5"
        out a7#2 a8#3
        await 2 items at "a6"
        out a9#4
        read within 15000, catching up at "a7"
        read within 15000, catching up at "a8"
        read within 100, catching up at "a8"
        read within 100, catching up at "a9"
        "#,
    ),
    (
        "what_was_not_handled_comes_back_after_a_wait",
        many,
        "begin | receive welcome@a5 a6 a7 | ack 0 2 | nack 1 | timer | nack 1 | timer | ack 1",
        r#"
        out welcome@a5#0 a6#1 a7#2
        read within 15000, catching up at "a5"
        read within 15000, catching up at "a5"
        read within 200, catching up at "a5"
        out a6#1
        read within 14800, catching up at "a5"
        read within 200, catching up at "a5"
        out a6#1
        read within 14600, catching up at "a5"
        read within 14600, catching up at "a7"
        "#,
    ),
    (
        "what_is_in_flight_survives_a_reconnect",
        many,
        "begin | receive welcome@a5 a6 a7 | lost | ack 0 1 | timer | begin | receive welcome@a7 a7 a8 | ack 2 3 4",
        r#"
        out welcome@a5#0 a6#1 a7#2
        read within 15000, catching up at "a5"
        wait 200, backing off at "a5"
        wait 200, backing off at "a6"
        dial 0 within 5000
        subscribe 2 from "a7" within 5000
        read within 5000, connecting at "a6"
        out welcome@a7#3 a8#4
        read within 15000, catching up at "a6"
        read within 15000, catching up at "a8"
        "#,
    ),
    (
        "an_unreadable_cursor_does_not_loop_while_its_gap_is_not_acked",
        || Config { start: "3.rubbish".into(), ..many() },
        "begin | status 3 CURSOR_MALFORMED | begin | receive welcome@a0 a1",
        r#"
        out gap:CursorUnreadable:3.rubbish..#0
        dial 0 within 5000
        subscribe 2 from "oldest" within 5000
        read within 5000, connecting at "3.rubbish"
        out welcome@a0#1 a1#2
        read within 15000, catching up at "3.rubbish"
        "#,
    ),
];

#[test]
fn what_is_in_flight_and_what_its_acks_do() {
    check_all(&SCENES);
}

#[test]
fn an_item_above_the_bound_goes_out_alone() {
    let mut config = two();
    config.delivery_mode = DeliveryMode::Stream { in_flight_bytes: 1 };
    check_with(
        config,
        "begin | receive welcome@a5 a6 | ack 0 | ack 1",
        r#"
        out welcome@a5#0
        await 1 items at "a5"
        out a6#1
        read within 15000, catching up at "a5"
        read within 15000, catching up at "a6"
        "#,
    );
}

#[test]
fn what_keeps_failing_is_given_up() {
    let mut world = World::new(Config { retry: RetryPolicy::times(1), ..many() });
    world.play_all(&["begin", "receive welcome@a5 a6 a7", "ack 0", "nack 1", "timer", "nack 1"]);
    assert_eq!(world.transcript.lines().last().unwrap(), "give up a6 after 2: oops");
    world.play_all(&["ack 2", "untaken"]);
    assert_eq!(world.transcript.lines().last().unwrap(), "read within 400, catching up at \"a5\"");
    let trouble = world.link.status().handler.clone().unwrap();
    assert_eq!((trouble.failures, trouble.dead_letter_error.as_deref()), (2, Some("no room")));
    world.play_all(&["timer", "taken"]);
    assert_eq!(world.transcript.lines().last().unwrap(), "read within 14400, catching up at \"a7\"");
    let status = world.link.status();
    let counters = status.counters;
    assert_eq!((counters.handled, counters.dead_letters, counters.dead_letter_failures), (2, 1, 1));
    assert_eq!((counters.handler_failures, status.handler.clone()), (2, None));
    assert_eq!((status.in_flight_items, status.in_flight_bytes), (0, 0));
}

#[test]
fn frames_nobody_is_given_commit_behind_what_is_in_flight() {
    let mut world = World::new(many());
    world.play_all(&["begin", "receive welcome@a5 a6 new@a8", "ack 0"]);
    assert_eq!(short(&world.link.status().cursor), "a5");
    world.play("ack 1");
    assert_eq!(short(&world.link.status().cursor), "a8");
    world.play("receive new@a9");
    assert_eq!(short(&world.link.status().cursor), "a9");
}

#[test]
fn acks_are_saved_like_calls() {
    let storing = Some(Storing { every: 2, ..Storing::default() });
    let mut world = World::new(Config { storing, ..two() });
    world.play_all(&["loaded a5", "begin", "receive welcome@a5 a6 a7", "ack 0 1"]);
    assert_eq!(world.transcript.lines().last().unwrap(), "save a6 within 5000");
    world.play("ack 2");
    assert_eq!(world.transcript.lines().last().unwrap(), "save a6 within 5000", "a save is not interrupted");
    world.play_all(&["saved", "timer", "saved"]);
    let lines: Vec<_> = world.transcript.lines().rev().take(3).collect();
    assert_eq!(
        lines,
        [
            "read within 14000, catching up at \"a7\"",
            "save a7 within 5000",
            "read within 1000, catching up at \"a7\""
        ]
    );
}

#[test]
fn acks_that_make_no_sense_change_nothing() {
    let mut world = World::new(many());
    world.play_all(&[
        "begin",
        "receive welcome@a5 a6",
        "ack 7",
        "nack 9",
        "ack 0",
        "ack 0",
        "nack 0",
        "ack 1",
        "ack 1",
    ]);
    assert_eq!(short(&world.link.status().cursor), "a6");
    assert_eq!(world.link.status().counters.handled, 2);
    assert_eq!(world.link.status().counters.handler_failures, 0);
}
