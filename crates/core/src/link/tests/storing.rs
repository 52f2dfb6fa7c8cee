//! When a cursor is loaded and saved, and what a store that fails costs.

use super::*;

fn stored(storing: Storing, delivery_mode: DeliveryMode) -> Config {
    Config { storing: Some(storing), delivery_mode, hubs: 2, ..Config::default() }
}

fn every(every: u32) -> Config {
    stored(Storing { every, ..Storing::default() }, DeliveryMode::Items)
}

fn before(delivery_mode: DeliveryMode) -> Config {
    stored(Storing { order: Order::BeforeHandler, ..Storing::default() }, delivery_mode)
}

const SCENES: [Scene; 5] = [
    (
        "resumes_where_the_store_says_and_saves_after_each_item",
        || every(1),
        "loaded a5 | begin | receive welcome@a5 a6 ephemeral a7 | handled | handled | saved | handled | handled | saved | receive caught@a7 | handled | stop",
        r#"
        load within 5000, connecting
        dial 0 within 5000
        subscribe 1 from "a5" within 5000
        read within 5000, connecting at "a5"
        deliver welcome@a5
        deliver a6
        save a6 within 5000
        deliver ephemeral
        deliver a7
        save a7 within 5000
        read within 15000, catching up at "a7"
        deliver caughtup@a7
        read within 15000, live at "a7"
        stopped at "a7"
        "#,
    ),
    (
        "an_empty_store_leaves_the_start_alone_and_learns_it_from_the_welcome",
        || Config { start: "oldest".into(), ..every(1) },
        "loaded | begin | receive welcome@a3 | handled | saved | stop",
        r#"
        load within 5000, connecting
        dial 0 within 5000
        subscribe 1 from "oldest" within 5000
        read within 5000, connecting at "oldest"
        deliver welcome@a3
        save a3 within 5000
        read within 15000, catching up at "a3"
        stopped at "a3"
        "#,
    ),
    (
        "a_store_that_cannot_be_read_is_told_and_does_not_wedge",
        || every(1),
        "unloadable | timer | unloadable | timer | timer | timer | unloadable | timer | unloadable | handled | saved | begin",
        r#"
        load within 5000, connecting
        wait 200, backing off at ""
        load within 5000, backing off
        wait 200, backing off at ""
        load within 5000, backing off
        wait 400, backing off at ""
        load within 5000, backing off
        wait 800, backing off at ""
        load within 5000, backing off
        deliver gap:CursorUnreadable:..
        save oldest within 5000
        dial 0 within 5000
        subscribe 1 from "oldest" within 5000
        read within 5000, connecting at "oldest"
        "#,
    ),
    (
        "at_most_once_waits_for_a_store_that_cannot_be_read",
        || before(DeliveryMode::Items),
        "unloadable | timer | unloadable | timer | unloadable | timer | unloadable | timer | unloadable | timer | loaded a5",
        r#"
        load within 5000, connecting
        wait 200, backing off at ""
        load within 5000, backing off
        wait 200, backing off at ""
        load within 5000, backing off
        wait 400, backing off at ""
        load within 5000, backing off
        wait 800, backing off at ""
        load within 5000, backing off
        wait 1600, backing off at ""
        load within 5000, backing off
        dial 0 within 5000
        "#,
    ),
    (
        "at_most_once_saves_before_each_call_and_calls_nobody_without",
        || before(DeliveryMode::Items),
        "loaded a5 | begin | receive welcome@a5 a6 ephemeral a7 | handled | unsaved | timer | saved | handled | handled | saved | handled | stop",
        r#"
        load within 5000, connecting
        dial 0 within 5000
        subscribe 1 from "a5" within 5000
        read within 5000, connecting at "a5"
        deliver welcome@a5
        save a6 within 5000
        pause 200, catching up at "a5"
        save a6 within 5000
        deliver a6
        deliver ephemeral
        save a7 within 5000
        deliver a7
        read within 15000, catching up at "a7"
        stopped at "a7"
        "#,
    ),
];

#[test]
fn what_is_loaded_and_saved_and_when() {
    check_all(&SCENES);
}

#[test]
fn saves_every_few_items_or_after_a_while_or_before_it_waits_or_ends() {
    check_with(
        every(3),
        "loaded a5 | begin | receive welcome@a5 a6 a7 a8 a9 | handled | saved | handled | timer | saved | timer | timer",
        r#"
        load within 5000, connecting
        dial 0 within 5000
        subscribe 1 from "a5" within 5000
        read within 5000, connecting at "a5"
        deliver welcome@a5 a6 a7
        save a7 within 5000
        deliver a8 a9
        read within 1000, catching up at "a9"
        save a9 within 5000
        read within 14000, catching up at "a9"
        read within 100, catching up at "a9"
        wait 200, backing off at "a9"
        "#,
    );
    for (end, expected) in [("lost", "wait 200, backing off at \"a6\""), ("stop", "stopped at \"a6\"")] {
        let mut world = World::new(every(3));
        world.play_all(&["loaded a5", "begin", "receive welcome@a5 a6", "handled", end, "saved"]);
        let lines: Vec<_> = world.transcript.lines().collect();
        assert_eq!(lines[lines.len() - 2..], ["save a6 within 5000", expected]);
    }
    let mut world = World::new(every(3));
    world.play_all(&["loaded a5", "begin", "receive welcome@a5 a6 a7", "fails 2", "saved"]);
    let lines: Vec<_> = world.transcript.lines().collect();
    assert_eq!(lines[lines.len() - 2..], ["save a6 within 5000", "pause 200, catching up at \"a6\""]);
}

#[test]
fn batches_count_as_one_call_each() {
    let config = stored(Storing { every: 2, ..Storing::default() }, DeliveryMode::Batches);
    let mut world = World::new(config);
    world.play_all(&[
        "loaded a5",
        "begin",
        "receive welcome@a5 a6 a7",
        "handled",
        "receive a8 a9",
        "handled",
    ]);
    assert_eq!(world.transcript.lines().last().unwrap(), "save a9 within 5000");
    world.play("saved");
    assert_eq!(world.link.status().stored, long("a9"));
}

#[test]
fn a_store_that_cannot_save_holds_nobody_up_and_is_tried_again_later() {
    check_with(
        every(1),
        "loaded a5 | begin | receive welcome@a5 a6 a7 | handled | handled | unsaved | handled | timer | unsaved | timer | saved",
        r#"
        load within 5000, connecting
        dial 0 within 5000
        subscribe 1 from "a5" within 5000
        read within 5000, connecting at "a5"
        deliver welcome@a5
        deliver a6
        save a6 within 5000
        deliver a7
        read within 1000, catching up at "a7"
        save a7 within 5000
        read within 200, catching up at "a7"
        save a7 within 5000
        read within 13800, catching up at "a7"
        "#,
    );
    let mut world = World::new(every(1));
    world.play_all(&["loaded a5", "begin", "receive welcome@a5 a6", "handled", "handled", "timer"]);
    let trouble = world.link.status().store.clone().unwrap();
    assert_eq!((&*trouble.error, trouble.failures), ("the cursor store did not answer in time", 1));
    assert_eq!(world.link.status().counters.store_failures, 1);
    world.play_all(&["timer", "saved"]);
    assert_eq!(world.link.status().store, None);
}

#[test]
fn what_a_slow_line_brings_between_two_saves_counts_against_silence() {
    let read_on = |bytes: &str, timers: usize| {
        let mut world = World::new(every(3));
        world.play_all(&["loaded a5", "begin", "receive welcome@a5 a6", "handled"]);
        for _ in 0..timers {
            world.play(&format!("vain {bytes}"));
            if matches!(world.action, Action::Save { .. }) {
                world.play("unsaved");
            }
        }
        (world.now, world.transcript.lines().last().unwrap().to_owned())
    };
    // The store is tried again and again, so that no single wait brings 64 bytes for each of the 15 s.
    let (now, last) = read_on("700", 20);
    assert!(now > Duration::from_secs(60) && last.starts_with("read within"), "{now:?}: {last}");
    let (now, last) = read_on("10", 20);
    assert!(last.starts_with("wait "), "{now:?}: {last}");
}

#[test]
fn a_stop_saves_once_more_and_ends_whatever_the_store_says() {
    for answer in ["saved", "unsaved", "timer", "stop"] {
        let mut world = World::new(every(9));
        world.play_all(&["loaded a5", "begin", "receive welcome@a5 a6 a7", "stop"]);
        assert_eq!(world.transcript.lines().last().unwrap(), "stopped at \"a5\"", "nothing is owed");
        let mut world = World::new(every(9));
        world.play_all(&["loaded a5", "begin", "receive welcome@a5 a6", "handled", "stop", answer]);
        let lines: Vec<_> = world.transcript.lines().collect();
        assert_eq!(lines[lines.len() - 2..], ["save a6 within 5000", "stopped at \"a6\""], "{answer}");
    }
    let mut world = World::new(every(1));
    world.play("stop");
    assert_eq!(world.transcript.lines().last().unwrap(), "stopped at \"\"", "nothing was loaded yet");
}

#[test]
fn what_is_stored_goes_to_the_hub_as_it_is_but_nothing_is_not_taken_for_the_head() {
    check_with(
        every(1),
        "loaded 3.rubbish | begin | status 3 CURSOR_MALFORMED | handled | saved",
        r#"
        load within 5000, connecting
        dial 0 within 5000
        subscribe 1 from "3.rubbish" within 5000
        read within 5000, connecting at "3.rubbish"
        deliver gap:CursorUnreadable:3.rubbish..
        save oldest within 5000
        dial 0 within 5000
        "#,
    );
    check_with(
        every(1),
        "loaded \"\" | handled | saved",
        r#"
        load within 5000, connecting
        deliver gap:CursorUnreadable:..
        save oldest within 5000
        dial 0 within 5000
        "#,
    );
}

#[test]
fn at_most_once_never_takes_back_what_it_stored() {
    let retry = RetryPolicy::times(3);
    let mut world = World::new(Config { retry, ..before(DeliveryMode::Batches) });
    world.play_all(&["loaded a5", "begin", "receive welcome@a5 a6 a7", "saved"]);
    world.play_all(&["fails 1", "timer", "handled", "fails", "timer", "stop"]);
    let lines: Vec<_> = world.transcript.lines().skip(4).collect();
    assert_eq!(
        lines,
        [
            "save a7 within 5000",
            "deliver welcome@a5 a6 a7",
            "pause 200, catching up at \"a5\"",
            "deliver a6",
            "deliver a7",
            "pause 200, catching up at \"a6\"",
            "deliver a7",
            "stopped at \"a6\"",
        ]
    );
    assert_eq!(world.link.status().stored, long("a7"));
}

#[test]
fn settings_that_cannot_work_are_refused() {
    for bad in [
        Storing { every: 0, ..Storing::default() },
        Storing { deadline: Duration::ZERO, ..Storing::default() },
    ] {
        assert!(Link::try_new(stored(bad, DeliveryMode::Items)).is_err());
    }
}
