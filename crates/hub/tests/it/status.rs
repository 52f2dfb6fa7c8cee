//! What a hub says of itself.

use std::time::Duration;

use galaxy_push_core::window::Bounds;
use galaxy_push_hub::{Config, Lag, StreamPhase};
use galaxy_push_proto::v1::GatewaySubscribeRequest;
use tokio::time::sleep;

use crate::world::{World, event_to, from};

#[tokio::test(start_paused = true)]
async fn it_says_who_is_connected_and_where_they_stand() {
    let world = World::new(Config::default());
    let named = GatewaySubscribeRequest { instance_id: "i1".into(), ..from("b", "") };
    let mut live = world.subscribe(named).await.unwrap();
    live.until("caught up").await;
    sleep(Duration::from_secs(3)).await;
    let _stalled = world.read("a", "").await;
    world.flood(200).await;
    sleep(Duration::from_secs(1)).await;
    while !live.next().await.starts_with("event 199") {}
    sleep(Duration::from_secs(1)).await;
    let status = world.hub.status();
    assert_eq!((status.head, status.draining), (world.hub.head(), false));
    let [a, b] = &status.streams[..] else { panic!("{status:?}") };
    assert_eq!((a.gateway.as_str(), b.gateway.as_str(), b.instance.as_str()), ("a", "b", "i1"));
    assert_eq!((b.phase, b.lag), (StreamPhase::Live, Lag::default()));
    assert!(a.lag.events > 100 && a.lag.age >= Duration::from_secs(2), "{a:?}");
    assert!(a.generation > b.generation && b.open_for > a.open_for, "{status:?}");
    assert!(b.peer.starts_with("10.0.0.1:"));
    assert!(status.flapping.is_empty());
}

#[tokio::test(start_paused = true)]
async fn it_says_how_long_the_window_holds_at_this_rate() {
    let bounds = Bounds { age: Duration::from_secs(600), events: 100, bytes: 1 << 20 };
    let world = World::new(Config::default().window(bounds));
    assert_eq!(world.hub.status().window.holds, bounds.age, "nothing binds");
    for i in 0..50 {
        world.publish(&i.to_string()).await;
        sleep(Duration::from_millis(100)).await;
    }
    let window = world.hub.status().window;
    assert_eq!(
        (window.events, window.age, window.holds),
        (50, Duration::from_secs(5), Duration::from_secs(10))
    );
    assert!((window.fill[1] - 0.5).abs() < 1e-9, "{window:?}");
    world.publish_all((0..100).map(|i| event_to(&format!("b{i}"), "user:1")).collect()).await;
    sleep(Duration::from_millis(500)).await;
    let window = world.hub.status().window;
    assert_eq!(
        (window.events, window.holds),
        (100, Duration::from_millis(500)),
        "that is the rate of a burst"
    );
}
