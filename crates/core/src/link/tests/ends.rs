//! How streams end, how long the link waits then, and what it does next.

use super::*;

#[test]
fn waits_by_what_a_server_said_and_by_nothing_a_transport_invents() {
    for (end, expected) in [
        ("lost", "wait 200, backing off"),
        ("status 14", "wait 200, backing off"),
        ("status 14 DRAINING 3", "wait 3200, backing off"),
        ("status 8 OVERLOADED", "wait 200, backing off"),
        ("status 2", "wait 200, backing off"),
        ("status 10 REPLACED", "wait 10000, conflicted"),
        ("status 10 STALE_ATTEMPT", "wait 10000, conflicted"),
        ("status 8 HELD_OFF 60", "wait 60200, conflicted"),
        ("status 3", "wait 60000, refused"),
        ("status 7 NOT_GRANTED", "wait 60000, refused"),
        ("status 12", "wait 60000, refused"),
        ("status 16", "wait 60000, refused"),
    ] {
        let mut world = World::new(Config::default());
        world.play("begin");
        world.play(end);
        assert_eq!(world.transcript.lines().last().unwrap(), format!("{expected} at \"\""), "{end}");
    }
}

#[test]
fn a_rival_is_met_at_every_hub_and_anything_else_is_tried_at_the_next() {
    let hub_after = |end: &str| {
        let mut world = World::new(Config { hubs: 3, ..Config::default() });
        world.play("begin");
        world.play(end);
        world.link.status().hub
    };
    assert_eq!(["status 10", "status 8 HELD_OFF", "status 16", "lost"].map(hub_after), [0, 0, 1, 1]);
}

#[test]
fn goodbyes() {
    for (goodbye, end, expected) in [
        ("goodbye:1@a5", "lost", "wait 200, backing off"),
        ("goodbye:1:7@a5", "status 14 DRAINING", "wait 7200, backing off"),
        ("goodbye:1:7@a5", "status 14 DRAINING 2", "wait 2200, backing off"),
        ("goodbye:1:7@a5", "timer", "wait 7200, backing off"),
        ("goodbye:2@a5", "status 14", "wait 10000, conflicted"),
        ("goodbye:2@a5", "status 10 REPLACED", "wait 10000, conflicted"),
        ("goodbye:4@a5", "lost", "wait 200, backing off"),
        ("goodbye:3@a5", "lost", "wait 60000, refused"),
        ("goodbye:3:0:reconnect@a5", "lost", "wait 200, backing off"),
        ("goodbye:77@a5", "lost", "wait 60000, refused"),
        ("goodbye:77@a5", "status 16", "wait 60000, refused"),
    ] {
        let mut world = World::new(Config { start: long("a5"), ..Config::default() });
        world.play_all(&["begin", "receive welcome@a5", "handled"]);
        world.play(&format!("receive {goodbye}"));
        assert_eq!(world.transcript.lines().last().unwrap(), "deliver goodbye@a5");
        world.play("handled");
        assert_eq!(world.transcript.lines().last().unwrap(), "read within 1000, catching up at \"a5\"");
        world.play(end);
        assert_eq!(
            world.transcript.lines().last().unwrap(),
            format!("{expected} at \"a5\""),
            "{goodbye} {end}"
        );
    }
}

#[test]
fn each_end_is_counted_once_under_one_name() {
    let lost = |failure: Failure| (vec!["begin"], Some(failure));
    let not_grpc = |status| Failure::NotGrpc { status, content_type: String::new() };
    let welcomed = ["begin", "receive welcome@a5", "handled"];
    let parted = |goodbye, end| [&welcomed[..], &[goodbye, "handled", end]].concat();
    for ((script, failure), expected) in [
        ((vec!["timer"], None), "unreachable"),
        (lost(Failure::Unreachable("refused".into())), "unreachable"),
        ((vec!["begin", "timer", "timer"], None), "no_welcome"),
        (([&welcomed[..], &["timer", "timer"]].concat(), None), "silence"),
        ((vec!["begin", "lost"], None), "transport"),
        (lost(Failure::Ended), "ended"),
        ((vec!["begin", "status 14 DRAINING"], None), "status"),
        (lost(not_grpc(502)), "not_grpc"),
        (lost(not_grpc(404)), "refused"),
        ((vec!["begin", "status 12"], None), "refused"),
        ((vec!["begin", "status 10 STALE_ATTEMPT"], None), "conflict"),
        ((vec!["begin", "receive a1"], None), "protocol"),
        ((parted("receive goodbye:1@a5", "status 14 DRAINING"), None), "goodbye"),
        ((parted("receive goodbye:4@a5", "timer"), None), "goodbye"),
        ((parted("receive goodbye:2@a5", "status 10 REPLACED"), None), "conflict"),
        ((parted("receive goodbye:3@a5", "lost"), None), "refused"),
    ] {
        let mut world = World::new(Config { start: long("a5"), ..Config::default() });
        world.play_all(&script);
        if let Some(failure) = failure {
            world.step(Input::Failed(failure));
        }
        let status = world.link.status();
        let counted: Vec<_> = status.counters.ends.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(status.last_end.unwrap(), 1)], "{script:?}");
        assert_eq!(counted[0].0.name(), expected, "{script:?}");
        let counters = &status.counters;
        assert_eq!(counters.lost + counters.conflicts + counters.refusals, 1, "{script:?}");
    }
}

#[test]
fn deadlines() {
    check(
        "timer | connected | timer | timer | begin | timer | timer | timer | begin | receive welcome@a1 | handled | timer | receive a2 | handled | timer | timer",
        r#"
        dial 0 within 5000
        dial 1 within 5000
        subscribe 1 from "" within 5000
        wait 200, backing off at ""
        dial 0 within 5000
        subscribe 2 from "" within 5000
        read within 5000, connecting at ""
        read within 100, connecting at ""
        wait 400, backing off at ""
        dial 1 within 5000
        subscribe 3 from "" within 5000
        read within 5000, connecting at ""
        deliver welcome@a1
        read within 15000, catching up at "a1"
        read within 100, catching up at "a1"
        deliver a2
        read within 15000, catching up at "a2"
        read within 100, catching up at "a2"
        wait 800, backing off at "a2"
        "#,
    );
}

#[test]
fn the_welcome_deadline_counts_from_the_connection() {
    check(
        "connected | later 3 | subscribed | later 1 | receive new | later 9 | receive welcome@a1 | later 60 | handled",
        r#"
        dial 0 within 5000
        subscribe 1 from "" within 5000
        read within 2000, connecting at ""
        read within 1000, connecting at ""
        deliver welcome@a1
        read within 15000, catching up at "a1"
        "#,
    );
}

#[test]
fn only_proven_health_resets_the_backoff() {
    let waits = |life: &[&str]| {
        let mut world = World::new(Config::default());
        for _ in 0..6 {
            world.play_all(&["begin", "receive welcome@a1 caught@a1", "handled"]);
            life.iter().for_each(|line| world.play(line));
            world.play_all(&["lost", "timer"]);
        }
        let waits = world.transcript.lines().filter_map(|line| line.strip_prefix("wait "));
        waits.map(|rest| rest.split(',').next().unwrap().parse().unwrap()).collect::<Vec<u32>>()
    };
    let grows = [200, 200, 400, 800, 1600, 3200];
    assert_eq!(waits(&[]), grows, "a welcome proves nothing");
    assert_eq!(waits(&["later 9", "receive progress@a1", "handled"]), grows, "nor does a short life");
    assert_eq!(waits(&["later 99"]), grows, "nor does silence");
    assert_eq!(waits(&["later 99", "receive caught@a1", "handled"]), grows);
    assert_eq!(waits(&["later 10", "receive progress@a1", "handled"]), [200; 6]);
    assert_eq!(waits(&["receive fell@a1", "handled", "later 10", "receive ephemeral", "handled"]), [200; 6]);
}

#[test]
fn a_peer_that_breaks_the_contract_is_left_and_what_came_before_is_kept() {
    for broken in ["broken", "huge", "welcome@a6"] {
        let mut world = World::new(Config { start: long("a5"), ..Config::default() });
        world.play("begin");
        world.play(&format!("receive welcome@a5 a6 {broken} a7"));
        assert_eq!(world.transcript.lines().last().unwrap(), "deliver welcome@a5 a6");
        world.play("handled");
        assert_eq!(world.transcript.lines().last().unwrap(), "wait 200, backing off at \"a6\"");
    }
    let mut world = World::new(Config::default());
    world.play("begin");
    world.play("receive a6");
    assert_eq!(world.transcript.lines().last().unwrap(), "wait 200, backing off at \"\"");
}

#[test]
fn what_is_no_hub_is_asked_slowly_unless_it_may_only_be_unwell() {
    for (status, expected) in [
        (404, "wait 60000, refused"),
        (401, "wait 60000, refused"),
        (301, "wait 60000, refused"),
        (408, "wait 200, backing off"),
        (429, "wait 200, backing off"),
        (502, "wait 200, backing off"),
        (200, "wait 200, backing off"),
    ] {
        let mut world = World::new(Config::default());
        world.play("begin");
        world.step(Input::Failed(Failure::NotGrpc { status, content_type: "text/html".into() }));
        assert_eq!(world.transcript.lines().last().unwrap(), format!("{expected} at \"\""), "{status}");
    }
}

#[test]
fn failures_in_a_row_are_shown_until_health_is_proven() {
    let mut world = World::new(Config::default());
    world.play_all(&["lost", "timer", "begin", "status 16", "timer"]);
    assert_eq!((world.link.status().failures, world.link.status().attempt), (2, 1));
    world.play_all(&["begin", "receive welcome@a1 caught@a1", "handled"]);
    assert_eq!(world.link.status().failures, 2);
    world.play_all(&["later 10", "receive progress@a1"]);
    assert_eq!(world.link.status().failures, 0);
}

#[test]
fn a_frame_in_pieces_is_a_sign_of_life() {
    let mut world = World::new(Config::default());
    world.play_all(&["begin", "receive welcome@a5", "handled", "later 14"]);
    let bytes = Bytes::from(frame("a6"));
    world.step(Input::Received(bytes.slice(..7)));
    assert_eq!(world.transcript.lines().last().unwrap(), "read within 15000, catching up at \"a5\"");
    world.step(Input::Received(bytes.slice(7..)));
    assert_eq!(world.transcript.lines().last().unwrap(), "deliver a6");
}

#[test]
fn a_large_frame_that_comes_slowly_is_no_silence_and_answers_to_pings_are_nothing_else() {
    let begun = ["begin", "receive welcome@a1", "handled"];
    let end = |vain: &str, times: usize| {
        let mut world = World::new(Config::default());
        world.play_all(&begun);
        (0..times).for_each(|_| world.play(vain));
        world.transcript.lines().last().unwrap().to_owned()
    };
    // 64 bytes a second are a line that moves; a ping every 10 s and its answer are not.
    assert_eq!(end("vain 960", 20), "read within 15000, catching up at \"a1\"");
    assert_eq!(end("vain 120", 1), "read within 100, catching up at \"a1\"", "a last look");
    assert_eq!(end("vain 120", 2), "wait 200, backing off at \"a1\"");
    // A hub that has not said welcome sends nothing that could take long.
    let mut world = World::new(Config::default());
    world.play_all(&["begin", "vain 9999", "vain 9999"]);
    assert_eq!(world.transcript.lines().last().unwrap(), "wait 200, backing off at \"\"");
}

#[test]
fn every_wait_may_be_as_long_as_can_be_written() {
    let storing = Storing { every: 9, within: Duration::MAX, deadline: Duration::MAX, ..Storing::default() };
    let config = Config {
        hubs: 2,
        leave_log_after: Duration::MAX,
        connect_deadline: Duration::MAX,
        welcome_deadline: Duration::MAX,
        silence_deadline: Duration::MAX,
        healthy_after: Duration::MAX,
        storing: Some(storing),
        ..Config::default()
    };
    let mut world = World::asked(config);
    world.play_all(&[
        "later 99",
        "loaded a1",
        "doors a b",
        "begin",
        "receive welcome@a1 caught@a1 a2",
        "handled",
    ]);
    world.play_all(&[
        "vain 1",
        "receive progress@a2",
        "handled",
        "lost",
        "saved",
        "timer",
        "doors - b",
        "timer",
        "doors - b",
    ]);
    assert!(world.transcript.lines().last().unwrap().starts_with("wait"), "{}", world.transcript);
}

#[test]
fn what_comes_after_a_goodbye_does_not_prolong_it() {
    let mut world = World::new(Config { start: long("a5"), ..Config::default() });
    world.play_all(&["begin", "receive welcome@a5", "handled", "receive goodbye:1@a5", "handled"]);
    let left = |world: &World| world.until().saturating_sub(world.now).as_millis();
    assert_eq!(left(&world), 1_000);
    for expected in [600, 200] {
        world.now += Duration::from_millis(400);
        world.play("receive progress@a5");
        world.now += Duration::from_secs(5); // the handler's time counts for nothing
        world.play("handled");
        assert_eq!(left(&world), expected);
    }
    world.play("timer");
    assert_eq!(world.transcript.lines().last().unwrap(), "wait 200, backing off at \"a5\"");
}
