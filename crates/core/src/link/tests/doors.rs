//! Several hubs that may hold different logs: which of them is gone to, and when another log is.

use super::*;

/// A link that has read position 5 of log a at the first of two hubs, and has just lost the stream.
fn lost() -> World {
    let mut world = World::asked(Config { hubs: 2, start: long("a5"), ..Config::default() });
    world.play_all(&["doors a b", "begin", "receive welcome@a5 caught@a5", "handled", "lost", "timer"]);
    assert_eq!(last(&world), "ask, 1 first, for a within 5000");
    world
}

fn last(world: &World) -> &str {
    world.transcript.lines().last().unwrap()
}

/// What comes after these answers: the hub that is dialed, or how long is waited.
fn after(mut world: World, doors: &str) -> String {
    world.play(&format!("doors {doors}"));
    let last = last(&world);
    last.split(" within").next().unwrap().split(',').next().unwrap().to_owned()
}

/// At the first of two hubs, with log a lost on the way; or at its beginning, with this cursor.
#[test]
fn what_the_hubs_answer_decides_where_the_next_stream_is() {
    let beginning = |start: &str| World::asked(Config { hubs: 2, start: start.into(), ..Config::default() });
    let (anywhere, stored) = (|| beginning("oldest"), || beginning(&long("b7")));
    for (shows, world, answers) in [
        (
            "a hub that holds the log is gone to, whatever the others hold; the next one, as ever",
            &lost as &dyn Fn() -> World,
            &[
                ("a a", "dial 1"),
                ("a b", "dial 0"),
                ("b a", "dial 1"),
                ("a -", "dial 0"),
                ("- a", "dial 1"),
                ("a .", "dial 0"),
            ][..],
        ),
        (
            "a hub that does not say is no split",
            &lost,
            &[("? ?", "dial 1"), ("? b", "dial 0"), ("b ?", "dial 1"), ("? a", "dial 1"), ("a ?", "dial 0")],
        ),
        (
            "another log is taken at once where every hub answers, at the same door first: it was restarted without its log",
            &lost,
            &[("c b", "dial 0"), ("b b", "dial 0")],
        ),
        (
            "who begins anywhere goes to the first that answers",
            &anywhere,
            &[("a b", "dial 0"), ("- b", "dial 1"), ("? b", "dial 0"), ("- -", "wait 200")],
        ),
        (
            "who begins at a stored cursor looks for its log",
            &stored,
            &[("a b", "dial 1"), ("a c", "dial 0"), ("a -", "wait 200")],
        ),
    ] {
        for (doors, expected) in answers {
            assert_eq!(after(world(), doors), *expected, "{shows}: {doors}");
        }
    }
}

#[test]
fn while_a_hub_does_not_answer_another_log_is_taken_only_after_a_while() {
    let mut world = lost();
    let missed_at = world.now;
    let mut waited = Vec::new();
    loop {
        world.play("doors - b");
        if !last(&world).starts_with("wait") {
            break;
        }
        assert!(last(&world).ends_with("backing off at \"a5\""), "{}", last(&world));
        assert!(matches!(world.link.status().last_error.as_deref(), Some(Failure::OtherLog { silent: 1 })));
        world.play("timer");
        waited.push(world.now - missed_at);
    }
    assert_eq!(last(&world), "dial 1 within 5000");
    assert_eq!(waited.last(), Some(&Duration::from_secs(30)), "neither before nor after: {waited:?}");
    // Then it stays: the log it came from is another one now.
    world.play_all(&["begin", "receive welcome@a5 gap:2:a5@b0 b1", "handled", "lost", "timer", "doors a b"]);
    assert_eq!(last(&world), "dial 1 within 5000");
    let status = world.link.status();
    assert_eq!((status.counters.log_changes, status.is_split()), (1, true));
}

#[test]
fn a_hub_that_comes_back_in_time_keeps_its_readers_and_the_time_begins_anew() {
    let mut world = lost();
    world.play_all(&["doors - b", "later 25", "timer", "doors a b"]);
    assert_eq!(last(&world), "dial 0 within 5000");
    world.play_all(&["lost", "timer", "doors - b"]);
    assert!(last(&world).starts_with("wait"), "{}", last(&world));
    world.play_all(&["later 25", "timer", "doors - b"]);
    assert!(last(&world).starts_with("wait"), "25 s after the second loss: {}", last(&world));
}

#[test]
fn time_in_which_nobody_asked_does_not_count_towards_leaving_the_log() {
    // It was told to stay away for ten minutes, and its door is silent in the one moment in which it asks again.
    let mut world = World::asked(Config { hubs: 2, start: long("a5"), ..Config::default() });
    world.play_all(&[
        "doors a b",
        "begin",
        "receive welcome@a5 caught@a5",
        "handled",
        "status 8 HELD_OFF 250",
    ]);
    world.play("timer");
    assert!(world.now >= Duration::from_secs(250), "{:?}", world.now);
    world.play("doors - b");
    assert!(last(&world).starts_with("wait"), "{}", last(&world));
    // And silence counts anew after each round in which the door was there.
    world.play_all(&["later 20", "doors a b", "later 20", "timer", "doors - b"]);
    assert!(last(&world).starts_with("wait"), "{}", last(&world));
    world.play_all(&["later 20", "doors . b", "later 20", "timer", "doors - b"]);
    assert_eq!(last(&world), "dial 1 within 5000", "rounds that did not find it give it no more time");
}

#[test]
fn where_no_hub_answers_that_is_what_is_told() {
    let mut world = lost();
    world.play_all(&["later 99", "doors - -"]);
    assert_eq!(last(&world), "wait 200, backing off at \"a5\"");
    assert!(matches!(world.link.status().last_error.as_deref(), Some(Failure::Unreachable(_))));
    world.play_all(&["timer", "timer"]);
    assert!(matches!(world.link.status().last_error.as_deref(), Some(Failure::TimedOut(Waited::Connect))));
}

#[test]
fn a_hub_that_does_not_let_the_client_in_is_passed_over_and_the_next_is_tried_at_once() {
    for refusal in ["status 7", "status 16", "status 12", "unreachable", "timer"] {
        let mut world = World::asked(Config { hubs: 3, ..Config::default() });
        world.play_all(&["doors a a a", refusal]);
        assert_eq!(
            last(&world),
            "ask, 1 first, for any within 5000",
            "{refusal}: within the round nobody waits"
        );
        world.play_all(&["doors a a a", refusal, "doors a a a"]);
        assert_eq!(last(&world), "dial 2 within 5000", "{refusal}");
        world.play(refusal);
        assert!(
            last(&world).starts_with("wait "),
            "{refusal}: all three have had their turn: {}",
            last(&world)
        );
        world.play_all(&["timer", "doors a a a"]);
        assert_eq!(last(&world), "dial 0 within 5000", "{refusal}: the next round");
        assert_eq!(world.link.status().counters.dials, 4);
    }
}

#[test]
fn what_passes_waits_as_ever_and_a_stream_that_had_begun_too() {
    let mut world = World::asked(Config { hubs: 2, ..Config::default() });
    world.play_all(&["doors a a", "begin", "status 14"]);
    assert_eq!(last(&world), "wait 200, backing off at \"\"");
    world.play_all(&["timer", "doors a a", "begin", "receive welcome@a5", "handled", "status 16"]);
    assert_eq!(last(&world), "wait 60000, refused at \"a5\"");
}

#[test]
fn a_hub_that_refuses_is_not_asked_for_a_stream_while_a_silent_one_is_waited_for() {
    let mut world = World::asked(Config { hubs: 2, ..Config::default() });
    world.play_all(&["doors a -", "begin", "status 16", "doors a -"]);
    assert!(last(&world).ends_with("refused at \"\""), "{}", last(&world));
    while world.now < Duration::from_secs(60) {
        assert!(last(&world).starts_with("wait "), "{}", last(&world));
        world.play_all(&["timer", "doors a -"]);
    }
    assert_eq!(last(&world), "dial 0 within 5000", "a minute is over");
    let refused_at = world.now;
    world.play_all(&["status 16", "doors a -", "timer", "doors a a"]);
    assert_eq!(last(&world), "dial 1 within 5000", "the other came back");
    let after = world.now - refused_at;
    assert!(after <= Duration::from_secs(10), "{after:?}: it was asked as soon as after any other loss");
}

#[test]
fn a_refusal_of_the_own_log_is_no_reason_to_leave_it() {
    let mut world = lost();
    world.play_all(&["doors a b", "begin", "status 16"]);
    for _ in 0..9 {
        world.play("doors a b");
        assert!(!last(&world).starts_with("dial 1"), "{}", last(&world));
        let next = if last(&world).starts_with("dial") { "status 16" } else { "timer" };
        world.play(next);
    }
}

/// It answers, so that it is known that the log is nowhere any more.
#[test]
fn a_hub_that_refuses_is_not_one_that_does_not_answer() {
    let mut world = lost();
    world.play_all(&["doors c b", "begin", "status 16", "doors c b"]);
    assert_eq!(last(&world), "dial 1 within 5000", "every hub answers, and none holds the log");
    // Where it is not known what the refusing hub holds, the log is not left at once.
    let mut world = lost();
    world.play_all(&["doors ? b", "begin", "status 16", "doors ? b"]);
    assert!(last(&world).starts_with("wait "), "{}", last(&world));
    let mut world = lost();
    world.play_all(&["doors ! b"]);
    assert!(last(&world).starts_with("wait "), "{}", last(&world));
}

#[test]
fn hubs_that_all_refuse_are_not_asked_again_before_a_refusal_is_over() {
    let mut world = World::asked(Config { hubs: 2, ..Config::default() });
    world.play_all(&["doors a !", "begin", "status 16", "doors a !"]);
    assert_eq!(last(&world), "wait 60000, refused at \"\"", "none of them is silent");
}

#[test]
fn a_refusal_does_not_keep_anybody_in_a_log_beyond_the_time_to_leave_it() {
    let config = Config { hubs: 3, start: long("a5"), ..Config::default() };
    let mut world = World::asked(config);
    world.play_all(&["doors a b c", "begin", "receive welcome@a5 caught@a5", "handled", "lost", "timer"]);
    let missed_at = world.now;
    world.play("doors - b c");
    while last(&world).starts_with("wait") {
        world.play_all(&["timer", "doors - b c"]);
    }
    assert_eq!(world.now, missed_at + Duration::from_secs(30));
    // The one that it goes to refuses, then the other one does not.
    world.play_all(&["begin", "status 16", "doors - b c"]);
    assert!(last(&world).starts_with("dial "), "{}", last(&world));
    // One has refused before the time came.
    let config =
        Config { hubs: 3, start: long("a5"), leave_log_after: Duration::from_secs(5), ..Config::default() };
    let mut world = World::asked(config);
    world.play_all(&["doors ? . .", "begin", "status 16", "doors b - c"]);
    let missed_at = world.now;
    while last(&world).starts_with("wait") {
        world.play_all(&["timer", "doors b - c"]);
    }
    assert_eq!((last(&world), world.now), ("dial 2 within 5000", missed_at + Duration::from_secs(5)));
}

#[test]
fn a_split_is_shown_and_so_is_its_end() {
    let mut world = lost();
    world.play_all(&["doors a b", "begin", "receive welcome@a5 caught@a5", "handled"]);
    assert!(world.link.status().is_split());
    for (doors, split) in
        [("a a", false), ("a ?", false), ("a -", false), ("a b", true), ("a .", true), (". a", false)]
    {
        let action = world.action.clone();
        world.play(&format!("doors {doors}"));
        assert_eq!(world.link.status().is_split(), split, "{doors}");
        assert_eq!(world.action, action, "reading goes on");
    }
    world.play("doors b b");
    assert!(world.link.status().is_split(), "the stream itself is of another log than the hubs");
}

#[test]
fn with_one_hub_nobody_is_asked() {
    let world = World::asked(Config { start: long("a5"), ..Config::default() });
    assert!(matches!(world.action, Action::Dial { hub: 0, .. }));
}
