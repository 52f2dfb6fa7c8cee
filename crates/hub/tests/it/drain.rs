//! A hub that shuts down: what it acknowledged is handed over, then everybody is sent away in order.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use galaxy_push_hub::Config;
use galaxy_push_proto::v1::HeadRequest;
use galaxy_push_proto::v1::publisher_client::PublisherClient;
use galaxy_push_proto::v1::push_event::Kind;
use galaxy_push_proto::{Failure, Reason};
use http::Request;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tower::ServiceExt as _;

use crate::stores;
use crate::world::{World, event, from, text};

#[tokio::test(start_paused = true)]
async fn readers_are_handed_everything_and_sent_away() {
    let world = World::new(Config::default());
    world.publish("a b").await;
    let mut live = world.read("live", "").await;
    live.until("caught up").await;
    let mut opening = world.read("opening", "oldest").await;
    world.publish("c").await;
    let hub = world.hub.clone();
    let drain = tokio::spawn(async move { hub.drain(Duration::from_secs(10)).await });
    assert_eq!(live.take(2).await, "event c @3 | goodbye DRAINING @3");
    let failure = Failure::of(&live.status().await);
    assert_eq!((failure.code, failure.reason), (Code::Unavailable, Some(Reason::Draining)));
    assert!(failure.retry_after.is_some());
    assert_eq!(
        opening.until("status").await,
        "welcome FRESH @0..@2 @0 | event a @1 | event b @2 | caught up @2 | event c @3 | goodbye DRAINING @3 | \
         status Unavailable"
    );
    drain.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_comes_during_a_drain_is_refused() {
    let world = World::new(Config::default());
    world.hub.drain(Duration::from_secs(10)).await;
    let subscribe = Failure::of(&world.subscribe(from("gw", "")).await.map(|_| ()).unwrap_err());
    let publish = world.hub.publish(vec![event("a")]).await.unwrap_err();
    for failure in [subscribe, publish] {
        assert_eq!((failure.code, failure.reason), (Code::Unavailable, Some(Reason::Draining)));
        assert_eq!(failure.retry_after, Some(Duration::from_secs(1)));
    }
    assert!(!world.hub.health().checks()[0].ok);
    // Whoever looks for a door must not take it for one.
    let head = PublisherClient::new(world.connection()).head(HeadRequest::default()).await.unwrap_err();
    assert_eq!(Failure::of(&head).reason, Some(Reason::Draining));
}

#[tokio::test(start_paused = true)]
async fn returns_are_spread() {
    let world = World::new(Config::default().return_rate(10));
    let mut readings = Vec::new();
    for i in 0..4 {
        let mut reading = world.read(&format!("gw{i}"), "").await;
        reading.until("caught up").await;
        readings.push(reading);
    }
    let start = Instant::now();
    let hub = world.hub.clone();
    let drain = tokio::spawn(async move { hub.drain(Duration::from_secs(10)).await });
    for (i, mut reading) in (0..).zip(readings) {
        let frame = reading.frame().await.unwrap().unwrap();
        assert_eq!(start.elapsed().as_millis(), 100 * i, "{}", text(&frame));
        let Some(Kind::Goodbye(goodbye)) = frame.kind else { panic!("{frame:?}") };
        assert!(goodbye.reconnect);
        assert_eq!(goodbye.retry_after.unwrap(), Default::default(), "it is sent away when it may be back");
    }
    drain.await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1));
}

/// However short the drain: the herd comes back at the rate.
#[tokio::test(start_paused = true)]
async fn each_gateway_is_back_at_its_turn() {
    let world = World::new(Config::default().return_rate(10));
    let mut readings = Vec::new();
    for i in 0..10 {
        let mut reading = world.read(&format!("gw{i}"), "").await;
        reading.until("caught up").await;
        readings.push(reading);
    }
    let start = Instant::now();
    let hub = world.hub.clone();
    let drain = tokio::spawn(async move { hub.drain(Duration::from_secs(1)).await });
    for (i, mut reading) in (0..).zip(readings) {
        let Some(Kind::Goodbye(goodbye)) = reading.frame().await.unwrap().unwrap().kind else { panic!() };
        let wait = goodbye.retry_after.unwrap();
        let wait = Duration::new(wait.seconds.unsigned_abs(), wait.nanos.unsigned_abs());
        assert!(start.elapsed() <= Duration::from_millis(500), "the first half of the limit");
        assert_eq!((start.elapsed() + wait).as_millis(), 100 * i);
    }
    drain.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_read_does_not_hold_up_the_end() {
    let world = World::new(Config::default());
    let _stalled = world.read("gw", "").await;
    world.flood(200).await;
    let start = Instant::now();
    world.hub.drain(Duration::from_secs(10)).await;
    assert_eq!(start.elapsed().as_secs(), 10);
}

/// A store that commits when it is told to.
#[tokio::test(start_paused = true)]
async fn a_publish_under_way_reaches_the_readers_before_they_go() {
    let (world, go) = stores::slow(Config::default());
    let mut reading = world.read("gw", "").await;
    reading.until("caught up").await;
    let (publisher, drainer) = (world.hub.clone(), world.hub.clone());
    let publish = tokio::spawn(async move { publisher.publish(vec![event("a")]).await });
    sleep(Duration::from_millis(1)).await;
    let cancelled = drainer.clone();
    let cut = sleep(Duration::from_millis(50));
    tokio::select! {
        biased;
        () = cancelled.drain(Duration::from_secs(10)) => panic!("it waits for the publish"),
        () = cut => {}
    }
    let drain = tokio::spawn(async move { drainer.drain(Duration::from_secs(10)).await });
    sleep(Duration::from_millis(100)).await;
    go.add_permits(1);
    assert!(publish.await.unwrap().is_ok());
    assert_eq!(reading.until("status").await, "event a @1 | goodbye DRAINING @1 | status Unavailable");
    drain.await.unwrap();
}

/// Tools such as grpcurl's kin keep their reflection open for as long as they run.
#[tokio::test(start_paused = true)]
async fn reflection_ends_with_a_drain() {
    let world = World::new(Config::default());
    let mut client = ServerReflectionClient::new(world.connection());
    let never = tokio_stream::pending::<ServerReflectionRequest>();
    let mut answers = client.server_reflection_info(never).await.unwrap().into_inner();
    world.hub.drain(Duration::from_secs(1)).await;
    let end = timeout(Duration::from_secs(1), answers.message()).await;
    assert!(matches!(end, Ok(Ok(None))), "{end:?}");
}

/// Anybody may begin one, and need not end it.
#[tokio::test(start_paused = true)]
async fn half_a_question_about_health_ends_with_a_drain() {
    let world = World::new(Config::default());
    let half = tokio_stream::iter([Ok::<_, Infallible>(vec![0, 0, 0])]).chain(tokio_stream::pending());
    let request = Request::post("/grpc.health.v1.Health/Check").header("content-type", "application/grpc");
    let asked = world.hub.router().oneshot(request.body(Body::from_stream(half)).unwrap());
    let asked = tokio::spawn(asked);
    world.hub.drain(Duration::from_secs(1)).await;
    let answered = timeout(Duration::from_secs(1), asked).await;
    assert!(answered.is_ok(), "{answered:?}");
}

/// 200 events of 60,000 bytes, of which a slow reader takes one each 40 ms: it needs eight of the ten seconds.
#[tokio::test(start_paused = true)]
async fn a_reader_that_is_behind_has_the_whole_time() {
    let world = World::new(Config::default());
    let mut reading = world.read("gw", "").await;
    reading.until("caught up").await;
    world.flood(200).await;
    let hub = world.hub.clone();
    let drain = tokio::spawn(async move { hub.drain(Duration::from_secs(10)).await });
    let start = Instant::now();
    let mut events = 0;
    while let Ok(Some(frame)) = reading.frame().await {
        events += u32::from(matches!(frame.kind, Some(Kind::Event(_))));
        sleep(Duration::from_millis(40)).await;
    }
    assert_eq!(events, 200, "after {:?}", start.elapsed());
    assert!(start.elapsed() > Duration::from_secs(7));
    drain.await.unwrap();
}
