//! A hub that cannot reach its store is left for one that can, after a while.

use super::*;

/// A link that is live at the first of two hubs, both of which hold log a; the hub has just said that it cannot reach its store.
fn stale() -> World {
    let mut world = live(2);
    world.play("receive progress:1@a5");
    assert_eq!(world.link.status().stale_since, Some(world.now));
    world
}

fn live(hubs: usize) -> World {
    let mut world = World::asked(Config { hubs, start: long("a5"), ..Config::default() });
    if hubs > 1 {
        world.play("doors a a");
    }
    world.play_all(&["begin", "receive welcome@a5 caught@a5", "handled"]);
    assert_eq!(world.link.status().state, State::Live);
    world
}

/// Its hub repeats every 5 s that it cannot reach its store, until the others are asked; how long that took.
fn until_asked(world: &mut World) -> Duration {
    let begun = world.now;
    while !world.link.pop_hub_query() {
        assert!(world.now < begun + Duration::from_secs(60), "nobody is asked");
        let next = world.until().min(world.now + Duration::from_secs(5));
        if next == world.until() {
            world.play("timer");
        } else {
            world.now = next;
            world.play("receive progress:1@a5");
        }
        if world.action == Action::Deliver {
            world.play("handled");
        }
    }
    world.now - begun
}

fn last(world: &World) -> &str {
    world.transcript.lines().last().unwrap()
}

#[test]
fn a_hub_that_stays_stale_is_left_for_one_with_the_same_log_that_is_not() {
    let mut world = stale();
    assert_eq!(until_asked(&mut world), Duration::from_secs(15), "every delay takes its upper bound");
    assert!(!world.link.pop_hub_query(), "said once");
    world.play("doors a~ a");
    assert_eq!(last(&world), "wait 200, backing off at \"a5\"");
    let status = world.link.status();
    assert_eq!((status.last_end, status.stale_since), (Some(StreamEnd::Stale), None));
    world.play_all(&["timer", "doors a~ a"]);
    assert_eq!(last(&world), "dial 1 within 5000");
    world.play_all(&["begin", "receive welcome@a5 caught@a5 progress:0@a5"]);
    assert_eq!(world.link.status().stale_since, None);
}

#[test]
fn each_link_waits_from_10_to_15_seconds() {
    for (random, expected) in [(0, 10_000), (u64::MAX / 2, 12_500), (u64::MAX, 15_000)] {
        let mut link = live(2).link;
        let now = Duration::from_secs(100);
        let said = Input::Received(frame("progress:1@a5").into());
        link.step(said, now, random);
        link.step(Input::Handled, now, random);
        let ask_at = link.next_hub_query().unwrap() - now;
        assert!(ask_at.abs_diff(Duration::from_millis(expected)) < Duration::from_millis(1), "{ask_at:?}");
    }
}

#[test]
fn where_no_other_is_better_it_stays_and_asks_again() {
    for doors in ["a~ a~", "a~ b", "a~ ?", "a~ -", "a b", "a -"] {
        let mut world = stale();
        for _ in 0..3 {
            assert_eq!(until_asked(&mut world), Duration::from_secs(15), "{doors}");
            world.play(&format!("doors {doors}"));
            assert!(last(&world).starts_with("read"), "{doors}: {}", last(&world));
            assert!(world.link.status().stale_since.is_some());
        }
        world.play("doors a~ a");
        assert!(last(&world).starts_with("wait"), "any round tells it then: {}", last(&world));
    }
}

#[test]
fn nobody_is_left_before_that_nor_once_it_is_over() {
    let mut world = stale();
    world.play_all(&["handled", "later 9", "doors a~ a"]);
    assert!(last(&world).starts_with("read"), "{}", last(&world));
    world.play_all(&["receive progress:0@a5", "handled", "later 9", "doors a a"]);
    assert!(last(&world).starts_with("read"), "{}", last(&world));
    assert_eq!(world.link.status().stale_since, None);
    assert!(!world.link.pop_hub_query());
}

#[test]
fn a_busy_stream_has_no_progress_to_tell_and_what_it_brings_says_as_much() {
    let mut world = stale();
    world.play_all(&["handled", "receive a6", "handled"]);
    assert_eq!(world.link.status().stale_since, None);
    // What the hub had before it was cut off says nothing.
    let mut world = stale();
    world.play_all(&["handled", "receive fell@a5 a6", "handled"]);
    assert!(world.link.status().stale_since.is_some());
}

#[test]
fn with_one_hub_there_is_nobody_to_ask() {
    let mut world = live(1);
    world.play_all(&["receive progress:1@a5", "handled"]);
    for _ in 0..9 {
        world.play_all(&["later 5", "receive progress:1@a5", "handled"]);
        assert!(!world.link.pop_hub_query());
    }
    assert!(last(&world).starts_with("read"), "{}", last(&world));
    assert!(world.link.status().stale_since.is_some());
}

#[test]
fn who_comes_anew_prefers_a_hub_that_can_reach_its_store() {
    for (doors, expected) in
        [("a~ a", "1"), ("a a~", "0"), ("a~ a~", "0"), ("a~ b", "0"), ("a~ ?", "0"), ("b a~", "1")]
    {
        let mut world = World::asked(Config { hubs: 2, start: long("a5"), ..Config::default() });
        world.play(&format!("doors {doors}"));
        assert_eq!(last(&world), format!("dial {expected} within 5000"), "{doors}");
    }
    let mut world = World::asked(Config { hubs: 2, ..Config::default() });
    world.play("doors a~ a");
    assert_eq!(last(&world), "dial 1 within 5000", "and who begins anywhere, too");
}
