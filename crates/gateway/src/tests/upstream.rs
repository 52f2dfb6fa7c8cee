//! What the hub sends, as it lies in the edge window.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use galaxy_push_core::cursor::{Cursor, Epoch, Seq};
use galaxy_push_core::frame::{FrameView, message};
use galaxy_push_proto::v1;

use super::*;

/// The window in one line: floor, entries, head.
fn window(world: &World) -> String {
    let edge = &world.gateway.shared().admission.edge;
    let position = |cursor: Cursor| format!("{}.{}", cursor.epoch.0, cursor.seq.0);
    edge.read(edge.clock.now(), |window| {
        let mut line = format!("({}", position(window.floor()));
        for entry in window.entries(window.oldest()..window.end()) {
            let view = FrameView::read(message(entry.frame)).unwrap();
            line += &match view.event() {
                Some(event) => format!(" {}", event.id()),
                None => format!(" gap→{}", position(entry.cursor)),
            };
        }
        format!("{line} | {}", position(window.head()))
    })
}

fn at(epoch: u128, seq: u64) -> Cursor {
    Cursor { epoch: Epoch(epoch), seq: Seq(seq) }
}

#[tokio::test(start_paused = true)]
async fn the_window_begins_where_the_hub_says_and_holds_its_frames() {
    let mut world = World::unready(config());
    world.hub.head = at(1, 40);
    world.hub.welcome(v1::Outcome::Fresh, at(1, 40));
    world.hub.standing(&[], &[], false);
    world.hub.publish(&["user:a"]);
    world.hub.publish_ephemeral(&["user:a"]);
    assert!(!world.gateway.shared().admission.edge.is_caught_up());
    world.hub.caught_up();
    world.hub.progress(2);
    assert_eq!(window(&world), "(1.40 e1 e2 | 1.43");
    assert!(world.gateway.shared().admission.edge.is_caught_up());
}

#[tokio::test(start_paused = true)]
async fn resuming_adds_nothing_and_repeats_are_left_out() {
    let mut world = World::new();
    world.hub.publish(&["user:a"]);
    world.hub.cut();
    world.hub.welcome(v1::Outcome::Resumed, world.hub.head);
    world.hub.publish(&["user:a"]);
    assert_eq!(window(&world), "(1.0 e1 e2 | 1.2");
}

#[tokio::test(start_paused = true)]
async fn gaps_are_entries_and_lead_into_another_epoch() {
    let mut world = World::new();
    world.hub.publish(&["user:a"]);
    world.hub.gap(v1::GapReason::Lapped, at(1, 9));
    world.hub.publish(&["user:a"]);
    world.hub.restart();
    world.hub.publish(&["user:a"]);
    assert_eq!(window(&world), "(1.0 e1 gap→1.9 e2 gap→2.0 e3 | 2.1");
    assert!(world.metrics().contains("push_upstream_gaps_total 2"));
}

/// Hubs on one log are to be within a second of each other. Nobody could see that they were not.
#[tokio::test(start_paused = true)]
async fn hubs_whose_clocks_differ_are_seen() {
    let mut world = World::new();
    let door = Arc::new(AtomicUsize::new(0));
    let at = door.clone();
    world.hub.upstream.at_door(move || Some(at.load(Ordering::Relaxed)));
    let apart = |world: &World| {
        let metrics = world.metrics();
        let value = metrics.lines().find_map(|line| line.strip_prefix("push_upstream_clocks_apart_seconds "));
        value.unwrap().parse::<f64>().unwrap()
    };
    for (hub, ahead_ms, expected) in
        [(0, 0, 0.0), (1, 400, 0.4), (0, 0, 0.4), (2, 2_500, 2.5), (1, 2_400, 2.4)]
    {
        world.hub.cut();
        door.store(hub, Ordering::Relaxed);
        world.hub.welcome(v1::Outcome::Resumed, world.hub.head);
        world.hub.caught_up();
        world.hub.progress_at(super::NOW_MS + ahead_ms);
        assert!((apart(&world) - expected).abs() < 0.01, "{hub}: {}", apart(&world));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_is_behind_takes_nothing_back() {
    let mut world = World::new();
    world.hub.publish(&["user:a"]);
    world.hub.publish(&["user:a"]);
    world.hub.cut();
    world.hub.welcome(v1::Outcome::Ahead, at(1, 2));
    world.hub.gap(v1::GapReason::Ahead, at(1, 1));
    world.hub.caught_up();
    assert_eq!(window(&world), "(1.0 e1 e2 | 1.2");
}

#[tokio::test(start_paused = true)]
async fn a_welcome_beyond_the_window_is_a_gap_in_it() {
    let mut world = World::new();
    world.hub.publish(&["user:a"]);
    world.hub.cut();
    world.hub.head = at(1, 7);
    world.hub.welcome(v1::Outcome::Fresh, at(1, 7));
    world.hub.publish(&["user:a"]);
    assert_eq!(window(&world), "(1.0 e1 gap→1.7 e2 | 1.8");
}

#[tokio::test(start_paused = true)]
async fn age_empties_the_window_of_a_silent_hub() {
    let mut config = config();
    config.window.age = Duration::from_secs(10);
    let mut world = World::with(config);
    world.hub.publish(&["user:a"]);
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(window(&world), "(1.0 e1 | 1.1");
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(window(&world), "(1.1 | 1.1");
}

/// The gateway was led to another log and is led back; both gaps are told from where the hub of each begins.
fn there_and_back(world: &mut World) {
    world.hub.publish(&["user:a"]);
    world.hub.publish(&["user:a"]);
    world.hub.gap(v1::GapReason::EpochChanged, at(2, 0));
    world.hub.publish(&["user:a"]);
    world.hub.gap(v1::GapReason::EpochChanged, at(1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_comes_back_is_not_appended_a_second_time() {
    let mut world = World::new();
    there_and_back(&mut world);
    // What the hub replays is the log as it lies there, the first two included.
    for _ in 0..3 {
        world.hub.publish(&["user:a"]);
    }
    assert_eq!(window(&world), "(1.0 e1 e2 gap→2.0 e3 gap→1.2 e6 | 1.3");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_comes_back_after_an_unreadable_cursor_is_not_appended_a_second_time() {
    let mut world = World::new();
    world.hub.publish(&["user:a"]);
    world.hub.publish(&["user:a"]);
    world.hub.gap(v1::GapReason::EpochChanged, at(2, 0));
    world.hub.cursor_unreadable();
    world.hub.head = at(1, 0);
    world.hub.welcome(v1::Outcome::Fresh, at(1, 0));
    world.hub.standing(&[], &[], false);
    for _ in 0..3 {
        world.hub.publish(&["user:a"]);
    }
    assert_eq!(window(&world), "(1.0 e1 e2 gap→2.0 gap→1.2 e5 | 1.3");
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_cursor_before_the_first_catch_up_leaves_no_hole() {
    for (through_another_log, expected) in [(false, "(1.0 e1 e2 e5 | 1.3"), (true, "(1.2 e5 | 1.3")] {
        let mut world = World::unready(config());
        world.hub.welcome(v1::Outcome::Fresh, at(1, 0));
        world.hub.standing(&[], &[], false);
        world.hub.publish(&["user:a"]);
        world.hub.publish(&["user:a"]);
        if through_another_log {
            world.hub.gap_alone(v1::GapReason::EpochChanged, at(2, 0));
            world.hub.standing(&[], &[], false);
        }
        assert!(!world.gateway.shared().admission.edge.is_caught_up());
        world.hub.cursor_unreadable();
        world.hub.head = at(1, 0);
        world.hub.welcome(v1::Outcome::Fresh, at(1, 0));
        world.hub.standing(&[], &[], false);
        (0..3).for_each(|_| _ = world.hub.publish(&["user:a"]));
        world.hub.caught_up();
        assert_eq!(window(&world), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_from_before_a_log_came_back_is_told_and_the_hub_is_not_asked() {
    let mut world = World::new();
    let mut stays = world.stream("/v1/stream?user=a").await;
    stays.until("push.caught_up").await;
    there_and_back(&mut world);
    (0..3).for_each(|_| _ = world.hub.publish(&["user:a"]));
    let text = stays.now().await;
    assert_eq!(Events::ids(&text), ["e1", "e2", "e3", "e6"]);
    assert_eq!(text.matches("push.gap").count(), 2);
    // No answer is prepared: whoever asked would wait for ever.
    for from_before in [at(1, 1), at(1, 2), at(2, 0), at(2, 1)] {
        let mut user = world.stream(&format!("/v1/stream?user=a&cursor={from_before}")).await;
        let text = user.until("push.caught_up").await;
        assert!(text.contains("EPOCH_CHANGED") && text.contains("push.gap"), "{from_before}: {text}");
        assert_eq!(Events::ids(&text), ["e6"], "{from_before}");
    }
    let mut user = world.stream(&format!("/v1/stream?user=a&cursor={}", at(1, 3))).await;
    assert!(user.until("push.caught_up").await.contains("RESUMED"));
}
