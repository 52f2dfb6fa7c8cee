//! The clock of the log: it is read off the wall once, and then never steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::window::Bounds;
use galaxy_push_hub::{Config, Hub};
use galaxy_push_proto::v1;
use galaxy_push_proto::v1::push_event::Kind;
use tokio::time::{Instant, sleep};

use crate::records::{invalidation, membership};
use crate::world::{World, event};

const START_MS: u64 = 1_700_000_000_000;

#[tokio::test(start_paused = true)]
async fn stamps_never_step_with_the_wall_clock() {
    let (began, wall) = (Instant::now(), Arc::new(AtomicU64::new(START_MS)));
    let shown = wall.clone();
    let ambient = Ambient::new(move || shown.load(Ordering::Relaxed), || 4);
    let world = World::over(Hub::in_memory(Config::default(), ambient).unwrap());
    let log = || START_MS + began.elapsed().as_millis() as u64;
    let expires = |id: &str| v1::Event { ttl: Duration::from_secs(10).try_into().ok(), ..event(id) };
    let mut published = Vec::new();
    for (id, steps_to) in [("a", START_MS + 3_600_000), ("b", START_MS - 3_600_000), ("c", 0)] {
        sleep(Duration::from_secs(1)).await;
        wall.store(steps_to, Ordering::Relaxed);
        world.publish_all(vec![expires(id)]).await;
        published.push((id, log()));
        let mut reading = world.read(id, "oldest").await;
        let mut seen = Vec::new();
        loop {
            let frame = reading.frame().await.unwrap().unwrap();
            match frame.kind.unwrap() {
                Kind::Event(event) => {
                    let taken = published.iter().find(|(id, _)| *id == event.id).unwrap().1;
                    assert_eq!(frame.appended_unix_ms, taken, "a stamp tells when it was");
                    seen.push(event.id);
                }
                Kind::Welcome(_) => assert_eq!(frame.appended_unix_ms, log()),
                Kind::CaughtUp(_) => {
                    assert_eq!(frame.appended_unix_ms, log());
                    break;
                }
                _ => assert_eq!(frame.appended_unix_ms, 0),
            }
        }
        assert_eq!(seen.last().unwrap(), id, "a step of the wall makes nothing old");
        let progress = reading.frame().await.unwrap().unwrap();
        assert!(matches!(progress.kind, Some(Kind::Progress(_))), "{progress:?}");
        assert_eq!(progress.appended_unix_ms, log());
    }
    sleep(Duration::from_secs(11)).await;
    let mut reading = world.read("late", "oldest").await;
    let told = reading.until("caught up").await;
    assert!(!told.contains("event"), "they have expired, whatever the wall says: {told}");
}

#[tokio::test(start_paused = true)]
async fn every_duration_may_be_as_long_as_can_be_written() {
    const MAX: Duration = Duration::MAX;
    let bounds = Bounds { age: MAX, events: 1, ..Bounds::default() };
    let config =
        Config::default().window(bounds).repair_spread(MAX).invalidation_life(MAX).membership_life(Some(MAX));
    assert!(Config::default().heartbeat(MAX).check().is_err(), "gateways would take it for dead");
    let world = World::new(config);
    world.publish("a b").await;
    world.hub.invalidate(invalidation("user:1")).await.unwrap();
    world.hub.set_memberships(vec![membership("user:1", "x", true)]).await.unwrap();
    let forever =
        v1::Event { ttl: Some(prost_types::Duration { seconds: 315_576_000_000, nanos: 0 }), ..event("c") };
    world.publish_all(vec![forever]).await;
    let mut reading = world.read("gateway", &world.at(1)).await;
    let told = reading.until("caught up").await;
    assert!(told.contains("gap") && told.contains("event c"), "{told}");
    let hub = world.hub.clone();
    let drain = tokio::spawn(async move {
        hub.finish_publishes(MAX).await;
        hub.drain(MAX).await;
    });
    reading.until("status").await;
    drain.await.unwrap();
}
