//! What gateways report of themselves: where it shows, and whose is not taken.

use std::time::Duration;

use galaxy_push_core::window::Bounds;
use galaxy_push_hub::{Config, Report, StreamStatus};
use galaxy_push_proto::v1::push_client::PushClient;
use galaxy_push_proto::v1::{GatewayReport, Presence};
use galaxy_push_proto::{Failure, Reason};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::fencing::claim;
use crate::services::scrape;
use crate::world::World;

fn by(instance: &str, handled_cursor: String) -> GatewayReport {
    GatewayReport {
        gateway_client_id: "gw".into(),
        instance_id: instance.into(),
        handled_cursor,
        ..GatewayReport::default()
    }
}

async fn report(
    world: &World,
    reports: impl IntoIterator<Item = GatewayReport, IntoIter: Send + 'static>,
) -> Result<(), Status> {
    PushClient::new(world.connection()).report(tokio_stream::iter(reports)).await.map(|_| ())
}

fn stream(world: &World) -> StreamStatus {
    world.hub.status().streams.remove(0)
}

fn reported(world: &World) -> Report {
    stream(world).report.expect("a report was taken")
}

/// How many events are not handled, and how old the oldest of them is.
fn handled_lag(world: &World) -> (u64, Duration) {
    let lag = stream(world).handled_lag.expect("a position was reported");
    (lag.events, lag.age)
}

/// The value of a gauge of live streams.
fn gauge(world: &World, name: &str) -> f64 {
    let (scraped, name) = (scrape(world), format!("{name}{{class=\"live\"}} "));
    scraped.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_report_moves_the_handled_lag() {
    let world = World::new(Config::default());
    let mut reading = world.subscribe(claim("a", 1)).await.unwrap();
    reading.until("caught up").await;
    world.publish("1 2").await;
    sleep(Duration::from_secs(3)).await;
    world.publish("3").await;
    reading.until("event 3").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!((stream(&world).report, gauge(&world, "push_streams_reporting")), (None, 0.0));

    report(&world, [by("a", world.at(1))]).await.unwrap();
    assert_eq!((stream(&world).lag.events, handled_lag(&world)), (0, (2, Duration::from_secs(4))));
    assert_eq!(gauge(&world, "push_streams_reporting"), 1.0);
    assert_eq!(gauge(&world, "push_handled_lag_events"), 2.0);
    assert_eq!(gauge(&world, "push_handled_lag_seconds"), 4.0);
    assert_eq!(gauge(&world, "push_stream_lag_events"), 0.0, "sent is another matter");

    world.publish("4").await;
    assert_eq!(handled_lag(&world).0, 3, "it rises without a report, too");
    let newer = GatewayReport { connections: 7, counts: [("gaps".into(), 2)].into(), ..by("a", world.at(4)) };
    report(&world, [by("a", world.at(3)), newer]).await.unwrap();
    assert_eq!(handled_lag(&world), (0, Duration::ZERO));
    let shown = reported(&world);
    assert_eq!((shown.connections, shown.counts), (7, [("gaps".to_owned(), 2)].into()));
    assert!(scrape(&world).contains("push_reported_connections 7.0"));
    assert!(scrape(&world).contains("push_reports_total{outcome=\"taken\"} 3"));
}

#[tokio::test(start_paused = true)]
async fn the_largest_and_the_sum_over_gateways() {
    let world = World::new(Config::default());
    let mut readings = Vec::new();
    for gateway in ["gw", "other", "silent"] {
        let mut reading = world.read(gateway, "").await;
        reading.until("caught up").await;
        readings.push(reading);
    }
    world.publish("1 2 3").await;
    for reading in &mut readings {
        reading.until("event 3").await;
    }
    let other = GatewayReport { gateway_client_id: "other".into(), ..by("", world.at(2)) };
    report(&world, [by("", world.at(0)), other]).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    let seen = ["push_handled_lag_events", "push_handled_lag_all_events", "push_handled_lag_all_seconds"];
    let seen = seen.map(|name| gauge(&world, name));
    assert_eq!((seen, gauge(&world, "push_streams_reporting")), ([3.0, 4.0, 4.0 + 0.2], 2.0));
}

#[tokio::test(start_paused = true)]
async fn what_has_left_the_window_is_counted_and_another_epoch_is_everything_held() {
    let bounds = Bounds { events: 2, ..Bounds::default() };
    let world = World::new(Config::default().window(bounds));
    let _reading = world.subscribe(claim("a", 1)).await.unwrap();
    world.publish("1 2 3 4 5").await;
    for (handled, expected) in [(world.at(1), 4), (world.at(3), 2), (world.at(9), 0)] {
        report(&world, [by("a", handled)]).await.unwrap();
        assert_eq!(handled_lag(&world).0, expected);
    }
    report(&world, [by("a", "2.AAAAAAAAAAAAAAAAAAAAAA.a5".into())]).await.unwrap();
    assert_eq!(handled_lag(&world).0, 2);
}

#[tokio::test(start_paused = true)]
async fn a_replaced_instance_is_ignored() {
    let world = World::new(Config::default());
    let _older = world.subscribe(claim("a", 1)).await.unwrap();
    report(&world, [by("a", world.at(0))]).await.unwrap();
    let _newer = world.subscribe(claim("b", 1)).await.unwrap();
    assert_eq!(stream(&world).report, None, "what the rival had handled says nothing of this one");
    report(&world, [by("a", world.at(0))]).await.unwrap();
    assert_eq!(stream(&world).report, None);
    assert!(scrape(&world).contains("push_reports_total{outcome=\"stale\"} 1"));
    report(&world, [by("b", world.at(0))]).await.unwrap();
    assert_eq!(handled_lag(&world).0, 0);
    let _again = world.subscribe(claim("b", 2)).await.unwrap();
    assert_eq!(handled_lag(&world).0, 0, "the same process goes on from there");
}

#[tokio::test(start_paused = true)]
async fn what_is_out_of_order_is_refused_and_moves_nothing() {
    let world = World::new(Config::default());
    let _reading = world.subscribe(claim("a", 1)).await.unwrap();
    let good = || by("a", world.at(0));
    let counts = |names: Vec<String>| GatewayReport {
        counts: names.into_iter().map(|name| (name, 1)).collect(),
        ..good()
    };
    let nobody = GatewayReport { gateway_client_id: String::new(), ..good() };
    let presence = Presence { recipient: "user:1".repeat(50), ..Presence::default() };
    let huge = GatewayReport { presence: vec![presence; 1_000], ..good() };
    let (many, long) = ((0..65).map(|i| i.to_string()).collect(), vec!["n".repeat(65)]);
    for (bad, field) in [
        (by("a", "no cursor!".into()), Some("handled_cursor")),
        (by("a", "oldest".into()), Some("handled_cursor")),
        (nobody, Some("gateway_client_id")),
        (counts(many), Some("counts")),
        (counts(long), Some("counts")),
        (counts(vec!["a\nb".into()]), Some("counts")),
        (huge, None),
    ] {
        let failure = Failure::of(&report(&world, [bad]).await.unwrap_err());
        assert_eq!((failure.code, failure.field.as_deref()), (Code::InvalidArgument, field));
        let malformed = (field == Some("handled_cursor")).then_some(Reason::CursorMalformed);
        assert_eq!(failure.reason, malformed.or(Some(Reason::RequestInvalid)));
        assert_eq!(stream(&world).report, None);
    }
    assert!(scrape(&world).contains("push_reports_total{outcome=\"refused\"} 7"));
    report(&world, [counts((0..64).map(|i| format!("{i:064}")).collect())]).await.unwrap();
    assert_eq!(reported(&world).counts.len(), 64);
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_reports_is_taken_as_it_comes_and_no_faster_than_ten_a_second() {
    let world = World::new(Config::default());
    let _reading = world.subscribe(claim("a", 1)).await.unwrap();
    world.publish("1 2 3").await;
    let (send, receive) = mpsc::channel(100);
    let (mut client, began) = (PushClient::new(world.connection()), Instant::now());
    let call = tokio::spawn(async move { client.report(ReceiverStream::new(receive)).await });
    for seq in 1..=2 {
        send.send(by("a", world.at(seq))).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(handled_lag(&world).0, 3 - seq, "the stream is still open");
    }
    for _ in 0..20 {
        send.send(by("a", world.at(3))).await.unwrap();
    }
    drop(send);
    call.await.unwrap().unwrap();
    let took = began.elapsed() - Duration::from_secs(2);
    assert!((1_900..2_100).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_a_stream_of_reports() {
    let world = World::new(Config::default());
    let (_send, receive) = mpsc::channel(1);
    let mut client = PushClient::new(world.connection());
    let call = tokio::spawn(async move { client.report(ReceiverStream::new(receive)).await });
    sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    world.hub.drain(Duration::from_secs(30)).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let failure = Failure::of(&call.await.unwrap().unwrap_err());
    assert_eq!((failure.code, failure.reason), (Code::Unavailable, Some(Reason::Draining)));
}
