//! Time to live where no two clocks agree: only the hub's counts, as far as its stamps tell it.

use std::time::Duration;

use galaxy_push_proto::v1::{self, PushEvent, push_event::Kind};
use tokio::time::{Instant, sleep};

use super::*;

/// A hub whose wall clock is `ahead` ms ahead of the gateway's, which is behind if that is negative.
struct Hubs {
    ahead: i64,
    began: Instant,
}

impl Hubs {
    fn now(&self) -> u64 {
        (NOW_MS + self.began.elapsed().as_millis() as u64).saturating_add_signed(self.ahead)
    }

    fn control(&self, world: &mut World, kind: Kind) {
        let cursor = world.hub.head.to_string();
        world.hub.send(&[PushEvent { cursor, kind: Some(kind), appended_unix_ms: self.now() }]);
    }

    /// An event that was taken `ago` ms ago.
    fn publish(&self, world: &mut World, ttl: u64, ago: u64) {
        world.hub.head = world.hub.head.next();
        let ttl = Duration::from_secs(ttl).try_into().ok();
        let event = Kind::Event(v1::Event { ttl, ..world.hub.event(&["user:a"], "1") });
        let cursor = world.hub.head.to_string();
        world.hub.send(&[PushEvent { cursor, kind: Some(event), appended_unix_ms: self.now() - ago }]);
    }
}

async fn sent(world: &World) -> Vec<String> {
    let mut events = world.stream("/v1/stream?user=a&cursor=oldest").await;
    Events::ids(&events.until("push.caught_up").await)
}

fn start(ahead: i64) -> (World, Hubs) {
    let mut world = World::unready(config());
    let hub = Hubs { ahead, began: Instant::now() };
    hub.control(&mut world, Kind::Welcome(v1::Welcome::default()));
    (world, hub)
}

#[tokio::test(start_paused = true)]
async fn a_time_to_live_counts_by_the_hubs_clock_whatever_the_gateways_says() {
    for ahead in [0, -20_000, 20_000, -86_400_000, 86_400_000] {
        let (mut world, hub) = start(ahead);
        // Replayed: it has lived for four of its five seconds, and for six.
        hub.publish(&mut world, 5, 4_000);
        hub.publish(&mut world, 5, 6_000);
        world.hub.standing(&[], &[], false);
        hub.control(&mut world, Kind::CaughtUp(v1::CaughtUp {}));
        hub.publish(&mut world, 10, 0);
        hub.publish(&mut world, 3, 0);
        assert_eq!(sent(&world).await, ["e1", "e3", "e4"], "{ahead} ms ahead");
        sleep(Duration::from_secs(4)).await;
        assert_eq!(sent(&world).await, ["e3"], "{ahead} ms ahead");
        sleep(Duration::from_secs(7)).await;
        assert_eq!(sent(&world).await, [""; 0], "{ahead} ms ahead");
    }
}

/// The first frame was held up on its way; a later one tells better, also of what came before it.
#[tokio::test(start_paused = true)]
async fn the_frame_that_was_least_long_on_its_way_tells_the_time() {
    let mut world = World::unready(config());
    let hub = Hubs { ahead: 0, began: Instant::now() };
    let late = Hubs { ahead: -8_000, began: hub.began };
    late.control(&mut world, Kind::Welcome(v1::Welcome::default()));
    hub.publish(&mut world, 5, 6_000);
    world.hub.standing(&[], &[], false);
    late.control(&mut world, Kind::CaughtUp(v1::CaughtUp {}));
    assert_eq!(sent(&world).await, ["e1"], "nobody can know better yet");
    hub.control(&mut world, Kind::Progress(v1::Progress::default()));
    late.control(&mut world, Kind::Progress(v1::Progress::default()));
    assert_eq!(sent(&world).await, [""; 0]);
    // Another stream, perhaps of a hub with another clock: what was known of the one before counts no longer.
    let other = Hubs { ahead: -60_000, began: hub.began };
    world.hub.cut();
    let resumed = v1::Welcome { outcome: v1::Outcome::Resumed.into(), ..v1::Welcome::default() };
    other.control(&mut world, Kind::Welcome(resumed));
    other.control(&mut world, Kind::CaughtUp(v1::CaughtUp {}));
    other.publish(&mut world, 5, 0);
    sleep(Duration::from_secs(4)).await;
    assert!(sent(&world).await.contains(&"e2".to_owned()));
    sleep(Duration::from_secs(2)).await;
    assert!(!sent(&world).await.contains(&"e2".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn without_any_stamp_age_counts_from_arrival() {
    let mut world = World::new();
    world.hub.head = world.hub.head.next();
    let event =
        v1::Event { ttl: Duration::from_secs(5).try_into().ok(), ..world.hub.event(&["user:a"], "1") };
    let cursor = world.hub.head.to_string();
    world.hub.send(&[PushEvent { cursor, kind: Some(Kind::Event(event)), appended_unix_ms: 0 }]);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(sent(&world).await, ["e1"]);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(sent(&world).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn how_soon_events_are_delivered_is_a_histogram_by_the_hubs_clock_in_which_replays_do_not_count() {
    let (mut world, hub) = start(86_400_000);
    hub.publish(&mut world, 600, 4_000);
    world.hub.standing(&[], &[], false);
    hub.control(&mut world, Kind::CaughtUp(v1::CaughtUp {}));
    sleep(Duration::from_secs(1)).await;
    let mut events = world.stream("/v1/stream?user=a&cursor=oldest").await;
    assert_eq!(Events::ids(&events.until("push.caught_up").await), ["e1"]);
    assert!(world.metrics().contains("push_delivery_seconds_count 0"));
    // It was 200 ms on its way, and the best the gateway has seen was none.
    hub.publish(&mut world, 600, 200);
    assert_eq!(Events::ids(&events.until("e2").await), ["e2"]);
    let metrics = world.metrics();
    for line in [r#"bucket{le="0.1"} 0"#, r#"bucket{le="0.25"} 1"#, "sum 0.2", "count 1"] {
        assert!(metrics.contains(&format!("push_delivery_seconds_{line}\n")), "{line} in {metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_duration_may_be_as_long_as_can_be_written() {
    const MAX: Duration = Duration::MAX;
    let settings: [fn(&mut Config); 8] = [
        |config| config.window.age = MAX,
        |config| config.progress_interval = MAX,
        |config| config.dead_after = MAX,
        |config| config.greeting = MAX,
        |config| config.write_stall = MAX,
        |config| config.retry = MAX,
        |config| config.repair_spread = MAX,
        |config| (config.leave_log_after, config.report_every) = (MAX, Some(MAX)),
    ];
    for set in settings {
        let mut config = config();
        set(&mut config);
        let mut world = World::with(config);
        let mut web_socket = world.shake("push.v1.json", "/v1/ws", &[], 4 << 10).await.unwrap();
        web_socket.send(r#"{"connect":{"user":"a"}}"#).await;
        web_socket.until("caughtUp").await;
        let garbage = Request::get("/v1/stream?user=a").header("last-event-id", "garbage!");
        let mut stream = Events::of(world.ask(garbage).await);
        assert!(stream.until("push.caught_up").await.contains("push.gap"));
        // Whoever does not read is soon too slow.
        let _nothing = timeout(Duration::from_secs(20), stream.until("what never comes")).await;
        world.hub.publish(&["user:a"]);
        stream.until("\"e1\"").await;
        assert!(web_socket.text().await.contains("\"e1\""));
        let (gateway, head) = (world.gateway.clone(), world.hub.head);
        let over = tokio::spawn(async move {
            gateway.finish_upstream(head, MAX).await;
            gateway.deliver_and_drain(MAX).await;
        });
        stream.until("push.goodbye").await;
        drop((stream, web_socket));
        over.await.unwrap();
    }
}
