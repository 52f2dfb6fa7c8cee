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

/// What it shows, what lies in the window then, and what the hub has sent behind one event.
type Scene = (&'static str, &'static str, fn(&mut World));

fn publish(world: &mut World, events: usize) {
    (0..events).for_each(|_| _ = world.hub.publish(&["user:a"]));
}

const SCENES: [Scene; 6] = [
    ("resuming adds nothing, and repeats are left out", "(1.0 e1 e2 | 1.2", |world| {
        world.hub.cut();
        world.hub.welcome(v1::Outcome::Resumed, world.hub.head);
        publish(world, 1);
    }),
    ("gaps are entries, and lead into another epoch", "(1.0 e1 gap→1.9 e2 gap→2.0 e3 | 2.1", |world| {
        world.hub.gap(v1::GapReason::Lapped, at(1, 9));
        publish(world, 1);
        world.hub.restart();
        publish(world, 1);
        assert!(world.metrics().contains("push_upstream_gaps_total 2"));
    }),
    ("a hub that is behind takes nothing back", "(1.0 e1 e2 | 1.2", |world| {
        publish(world, 1);
        world.hub.cut();
        world.hub.welcome(v1::Outcome::Ahead, at(1, 2));
        world.hub.gap(v1::GapReason::Ahead, at(1, 1));
        world.hub.caught_up();
    }),
    ("a welcome beyond the window is a gap in it", "(1.0 e1 gap→1.7 e2 | 1.8", |world| {
        world.hub.cut();
        world.hub.head = at(1, 7);
        world.hub.welcome(v1::Outcome::Fresh, at(1, 7));
        publish(world, 1);
    }),
    (
        "a log that comes back is not appended a second time: the hub replays it as it lies there, the first two included",
        "(1.0 e1 e2 gap→2.0 e3 gap→1.2 e6 | 1.3",
        |world| {
            there_and_back(world);
            publish(world, 3);
        },
    ),
    (
        "a log that comes back after an unreadable cursor is not appended a second time",
        "(1.0 e1 e2 gap→2.0 gap→1.2 e5 | 1.3",
        |world| {
            publish(world, 1);
            world.hub.gap(v1::GapReason::EpochChanged, at(2, 0));
            world.hub.cursor_unreadable();
            world.hub.head = at(1, 0);
            world.hub.welcome(v1::Outcome::Fresh, at(1, 0));
            world.hub.standing(&[], &[], false);
            publish(world, 3);
        },
    ),
];

#[tokio::test(start_paused = true)]
async fn what_the_hub_sends_lies_in_its_place() {
    for (shows, expected, send) in SCENES {
        let mut world = World::new();
        publish(&mut world, 1);
        send(&mut world);
        assert_eq!(window(&world), expected, "{shows}");
    }
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

/// Behind one event more the gateway was led to another log, and is led back; both gaps are told from where the hub of each begins.
fn there_and_back(world: &mut World) {
    publish(world, 1);
    world.hub.gap(v1::GapReason::EpochChanged, at(2, 0));
    world.hub.publish(&["user:a"]);
    world.hub.gap(v1::GapReason::EpochChanged, at(1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_cursor_before_the_first_catch_up_leaves_no_hole() {
    for (through_another_log, expected) in [(false, "(1.0 e1 e2 e5 | 1.3"), (true, "(1.2 e5 | 1.3")] {
        let mut world = World::unready(config());
        world.hub.welcome(v1::Outcome::Fresh, at(1, 0));
        world.hub.standing(&[], &[], false);
        publish(&mut world, 2);
        if through_another_log {
            world.hub.gap_alone(v1::GapReason::EpochChanged, at(2, 0));
            world.hub.standing(&[], &[], false);
        }
        assert!(!world.gateway.shared().admission.edge.is_caught_up());
        world.hub.cursor_unreadable();
        world.hub.head = at(1, 0);
        world.hub.welcome(v1::Outcome::Fresh, at(1, 0));
        world.hub.standing(&[], &[], false);
        publish(&mut world, 3);
        world.hub.caught_up();
        assert_eq!(window(&world), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_from_before_a_log_came_back_is_told_and_the_hub_is_not_asked() {
    let mut world = World::new();
    let mut stays = world.stream("/v1/stream?user=a").await;
    stays.until("push.caught_up").await;
    publish(&mut world, 1);
    there_and_back(&mut world);
    publish(&mut world, 3);
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
