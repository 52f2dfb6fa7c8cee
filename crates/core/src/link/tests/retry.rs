//! An item that keeps failing is given up after the retries that were asked for, and nothing else is.

use super::*;

fn retries(retries: u32, delivery_mode: DeliveryMode) -> Config {
    Config { retry: RetryPolicy::times(retries), delivery_mode, start: long("a5"), ..Config::default() }
}

const SCENES: [Scene; 4] = [
    (
        "an_item_is_tried_again_then_given_up_and_the_stream_goes_on",
        || retries(2, DeliveryMode::Items),
        "begin | receive welcome@a5 a6 a7 | fails 1 | timer | fails | timer | fails | taken | handled | receive a8",
        r#"
        deliver welcome@a5 a6 a7
        pause 200, catching up at "a5"
        deliver a6 a7
        pause 200, catching up at "a5"
        deliver a6 a7
        give up a6 after 3: oops
        deliver a7
        read within 15000, catching up at "a7"
        deliver a8
        "#,
    ),
    (
        "without_retries_the_first_failure_is_the_last",
        || retries(0, DeliveryMode::Items),
        "begin | receive welcome@a5 a6 | fails 1 | taken",
        r#"
        deliver welcome@a5 a6
        give up a6 after 1: oops
        read within 15000, catching up at "a6"
        "#,
    ),
    (
        "a_failing_batch_is_offered_one_by_one_so_that_only_the_item_at_fault_is_given_up",
        || retries(1, DeliveryMode::Batches),
        "begin | receive welcome@a5 a6 a7 a8 | fails | timer | handled | handled | fails | timer | fails | taken | handled | receive a9 a10",
        r#"
        deliver welcome@a5 a6 a7 a8
        pause 200, catching up at "a5"
        deliver welcome@a5
        deliver a6
        deliver a7
        pause 200, catching up at "a6"
        deliver a7
        give up a7 after 2: oops
        deliver a8
        read within 15000, catching up at "a8"
        deliver a9 a10
        "#,
    ),
    (
        "the_failure_of_a_batch_is_none_of_the_retries_of_its_first_item",
        || retries(1, DeliveryMode::Batches),
        "begin | receive welcome@a5 a6 a7 | fails 1 | timer | fails | timer | fails | taken",
        r#"
        deliver welcome@a5 a6 a7
        pause 200, catching up at "a5"
        deliver a6
        pause 200, catching up at "a5"
        deliver a6
        give up a6 after 2: oops
        deliver a7
        "#,
    ),
];

#[test]
fn what_is_tried_again_and_what_is_given_up() {
    check_all(&SCENES);
}

#[test]
fn a_batch_that_fails_without_retries_gives_up_no_innocent_item() {
    check_with(
        retries(0, DeliveryMode::Batches),
        "begin | receive welcome@a5 a6 a7 a8 | fails 1 | timer | handled | fails | taken | handled | receive a9 | fails | taken",
        r#"
        deliver welcome@a5 a6 a7 a8
        pause 200, catching up at "a5"
        deliver a6
        deliver a7
        give up a7 after 1: oops
        deliver a8
        read within 15000, catching up at "a8"
        deliver a9
        give up a9 after 1: oops
        read within 15000, catching up at "a9"
        "#,
    );
}

#[test]
fn a_dead_letter_that_nobody_takes_is_offered_again() {
    let mut world = World::new(retries(0, DeliveryMode::Items));
    world.play_all(&["begin", "receive welcome@a5 a6", "fails 1", "untaken"]);
    let trouble = world.link.status().handler.clone().unwrap();
    assert_eq!((&*trouble.error, trouble.dead_letter_error.as_deref()), ("oops", Some("no room")));
    world.play_all(&["timer", "untaken", "timer", "taken"]);
    let lines: Vec<_> = world.transcript.lines().skip(4).collect();
    assert_eq!(
        lines,
        [
            "give up a6 after 1: oops",
            "pause 200, catching up at \"a5\"",
            "give up a6 after 1: oops",
            "pause 400, catching up at \"a5\"",
            "give up a6 after 1: oops",
            "read within 15000, catching up at \"a6\"",
        ]
    );
    let status = world.link.status();
    assert_eq!(status.handler, None);
    let counters = status.counters;
    assert_eq!((counters.dead_letters, counters.dead_letter_failures, counters.handled), (1, 2, 1));
}

#[test]
fn a_stop_keeps_an_item_that_is_being_given_up() {
    let mut world = World::new(retries(0, DeliveryMode::Items));
    world.play_all(&["begin", "receive welcome@a5 a6", "fails 1", "stop", "taken"]);
    assert_eq!(world.transcript.lines().last().unwrap(), "stopped at \"a5\"");
}

#[test]
fn a_gap_can_be_given_up_too() {
    let mut world = World::new(retries(0, DeliveryMode::Items));
    world.play_all(&["begin", "receive welcome@a5 gap:1:a5@a9", "fails 1", "taken"]);
    assert_eq!(world.transcript.lines().last().unwrap(), "read within 15000, catching up at \"a9\"");
}

#[test]
fn an_error_after_everything_was_finished_blames_no_item() {
    let mut world = World::new(retries(0, DeliveryMode::Items));
    world.play_all(&["begin", "receive welcome@a5 a6", "fails 2"]);
    assert_eq!(world.transcript.lines().last().unwrap(), "read within 15000, catching up at \"a6\"");
    let status = world.link.status();
    assert_eq!((status.counters.handler_failures, status.handler.clone()), (1, None));
}

#[test]
fn shows_since_when_a_handler_is_at_work() {
    let mut world = World::new(Config::default());
    world.play_all(&["begin", "later 2", "receive welcome@a5 a6"]);
    assert_eq!(world.link.status().handling_since, Some(Duration::from_secs(2)));
    world.play_all(&["later 2", "handled"]);
    assert_eq!(world.link.status().handling_since, None);
}
