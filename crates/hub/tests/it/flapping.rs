//! Two instances that fight over one gateway id: the one that has the stream keeps it while it is alive, and the other
//! is told how long to stay away. Old clients have no names, and the last of them wins.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use galaxy_push_core::window::Bounds;
use galaxy_push_hub::Config;
use galaxy_push_proto::{Failure, Reason};
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::fencing::claim;
use crate::services::scrape;
use crate::world::{Reading, World, from, large};

/// Rises with each subscription, whoever's it is.
fn attempt() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1_000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Takes the id for one instance after another, every five seconds. Returns the last one's stream.
async fn fight(world: &World, instances: &str) -> Reading {
    let mut last = None::<Reading>;
    for instance in instances.split(' ') {
        let mut newer = world.subscribe(claim(instance.trim_matches('_'), attempt())).await.unwrap();
        newer.until("caught up").await;
        if let Some(mut older) = last.replace(newer) {
            assert_eq!(older.status().await.code(), Code::Aborted);
        }
        sleep(Duration::from_secs(5)).await;
    }
    last.unwrap()
}

async fn refused(world: &World, instance: &str) -> Failure {
    Failure::of(&world.subscribe(claim(instance, attempt())).await.map(|_| ()).unwrap_err())
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_back_the_fifth_time_is_held_off() {
    let world = World::new(Config::default());
    let mut incumbent = fight(&world, "a b a b a b").await;
    incumbent.next().await; // a heartbeat
    sleep(Duration::from_millis(10)).await;
    let asked_at = Instant::now();
    let held_off = refused(&world, "a").await;
    assert!(asked_at.elapsed() < Duration::from_millis(100), "at once");
    assert_eq!((held_off.code, held_off.reason), (Code::ResourceExhausted, Some(Reason::HeldOff)));
    assert_eq!(held_off.retry_after, Some(Duration::from_secs(60)));
    assert_eq!((&*held_off.metadata["instance"], &*held_off.metadata["peer"]), ("b", "10.0.0.1:6"));
    assert_eq!(incumbent.next().await, "progress @0", "the ping");
    world.publish("x").await;
    assert_eq!(incumbent.next().await, "event x @1", "and nothing else happened to it");
    let metrics = scrape(&world);
    for line in ["push_held_off_total 1\n", "push_duels 1.0\n", "push_takeovers_total{kind=\"rival\"} 5\n"] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }

    sleep(Duration::from_secs(60)).await;
    assert_eq!(refused(&world, "a").await.retry_after, Some(Duration::from_secs(120)));
    sleep(Duration::from_secs(120 + 301)).await;
    assert!(scrape(&world).contains("push_duels 0.0\n"), "five quiet minutes");
    world.subscribe(claim("a", attempt())).await.unwrap();
    assert_eq!(incumbent.until("status").await.rsplit(" | ").next(), Some("status Aborted"));
}

#[tokio::test(start_paused = true)]
async fn two_living_processes_with_one_instance_id_make_it_flap() {
    let world = World::new(Config::default());
    let mut incumbent = world.subscribe(claim("a", 1)).await.unwrap();
    for attempt in 2..6 {
        incumbent.until("caught up").await;
        sleep(Duration::from_secs(5)).await;
        let newer = world.subscribe(claim("a", attempt)).await.unwrap();
        let status = incumbent.status().await;
        assert_eq!(Failure::of(&status).reason, Some(Reason::StaleAttempt));
        let named = format!("attempt {attempt} of the same instance, \"a\" at 10.0.0.1:{attempt}");
        assert!(status.message().contains(&named), "{status}");
        incumbent = newer;
    }
    incumbent.until("caught up").await;
    sleep(Duration::from_secs(5)).await;
    let held_off = Failure::of(&world.subscribe(claim("a", 6)).await.map(|_| ()).unwrap_err());
    assert_eq!((held_off.code, held_off.reason), (Code::ResourceExhausted, Some(Reason::HeldOff)));
    assert_eq!(held_off.retry_after, Some(Duration::from_secs(15)));
    assert!(held_off.message.contains("\"a\" at 10.0.0.1:5"), "{held_off}");
    world.publish("x").await;
    assert!(incumbent.until("event x @1").await.ends_with("event x @1"), "and nothing else happened to it");
    assert!(scrape(&world).contains("push_duels 1.0\n"));
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_connections_break_is_never_held_off() {
    let world = World::new(Config::default());
    for attempt in 1..30 {
        let mut reading = world.subscribe(claim("a", attempt)).await.unwrap();
        reading.until("caught up").await;
        drop(reading);
        sleep(Duration::from_millis(50)).await;
    }
    let _stalled = world.subscribe(claim("a", 30)).await.unwrap();
    for attempt in 31..40 {
        for i in 0..200 {
            world.publish_all(vec![large(&format!("{attempt} {i}"))]).await; // more than fits on the way to a reader that pauses
            tokio::task::yield_now().await;
        }
        sleep(Duration::from_secs(3)).await;
        std::mem::forget(world.subscribe(claim("a", attempt)).await.unwrap());
    }
    assert!(scrape(&world).contains("push_held_off_total 0\n"));
}

#[tokio::test(start_paused = true)]
async fn the_same_instance_is_not_held_off_for_a_fight_with_another() {
    let world = World::new(Config::default());
    let mut incumbent = fight(&world, "a b a b a b").await;
    assert_eq!(refused(&world, "a").await.reason, Some(Reason::HeldOff));
    let mut again = world.subscribe(claim("b", attempt())).await.unwrap();
    again.until("caught up").await;
    assert_eq!(incumbent.status().await.code(), Code::Aborted);
}

#[tokio::test(start_paused = true)]
async fn an_incumbent_that_takes_nothing_gives_way_after_two_seconds() {
    let world = World::new(Config::default());
    let mut incumbent = fight(&world, "a b a b a b").await;
    world.flood(200).await; // more than fits between the hub and a reader that pauses
    sleep(Duration::from_secs(3)).await;
    let asked_at = Instant::now();
    let mut newer = world.subscribe(claim("a", attempt())).await.unwrap();
    let waited = asked_at.elapsed();
    assert!(waited >= Duration::from_secs(2) && waited < Duration::from_millis(2_500), "{waited:?}");
    newer.until("caught up").await;
    assert_eq!(incumbent.status().await.code(), Code::Aborted);
    let metrics = scrape(&world);
    assert!(metrics.contains("push_takeovers_total{kind=\"unanswered\"} 1\n"), "{metrics}");
    assert!(metrics.contains("push_held_off_total 0\n"));
}

#[tokio::test(start_paused = true)]
async fn an_incumbent_that_leaves_makes_way_at_once() {
    let world = World::new(Config::default());
    let incumbent = fight(&world, "a b a b a b").await;
    assert_eq!(refused(&world, "a").await.reason, Some(Reason::HeldOff));
    drop(incumbent);
    sleep(Duration::from_millis(100)).await;
    world.subscribe(claim("a", attempt())).await.unwrap().until("caught up").await;
}

#[tokio::test(start_paused = true)]
async fn restarts_make_no_id_flap() {
    let world = World::new(Config::default());
    fight(&world, "a b c d e f g h i j k l").await;
    assert!(scrape(&world).contains("push_duels 0.0\n"));
}

#[tokio::test(start_paused = true)]
async fn of_clients_without_an_instance_the_last_wins_and_the_flapping_shows() {
    let world = World::new(Config::default());
    fight(&world, "_ _ _ _ _ _ _ _ named _").await;
    let metrics = scrape(&world);
    assert!(metrics.contains("push_duels 1.0\n") && metrics.contains("push_held_off_total 0\n"), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn gaps_told_to_clients_that_cannot_understand_them_are_counted() {
    let world = World::new(Config::default().window(Bounds { events: 1, ..Bounds::default() }));
    world.publish("a b").await;
    let untold = |count: u32| format!("push_gaps_to_untold_readers_total {count}\n");
    world.read("old", &world.at(1)).await.until("caught up").await;
    assert!(scrape(&world).contains(&untold(0)), "nothing was missed");
    for request in [
        galaxy_push_proto::v1::GatewaySubscribeRequest {
            instance_id: "i".into(),
            ..from("new", &world.at(0))
        },
        galaxy_push_proto::v1::GatewaySubscribeRequest {
            features: vec!["gzip".into()],
            ..from("new", &world.at(0))
        },
    ] {
        world.subscribe(request).await.unwrap().until("caught up").await;
        assert!(scrape(&world).contains(&untold(0)));
    }
    world.read("old", &world.at(0)).await.until("caught up").await;
    assert!(scrape(&world).contains(&untold(1)));
}
