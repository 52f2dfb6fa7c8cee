//! What every gRPC server and every scrape expects: health, reflection, metrics.

use std::time::Duration;

use expect_test::expect;
use galaxy_push_hub::Config;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1, v1alpha};

use crate::world::World;

/// The hub's metrics in text form.
pub(crate) fn scrape(world: &World) -> String {
    let mut registry = Registry::default();
    world.hub.register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    text
}

#[tokio::test(start_paused = true)]
async fn health_follows_the_drain() {
    let world = World::new(Config::default());
    let mut client = HealthClient::new(world.connection());
    let ask = |service: &str| HealthCheckRequest { service: service.to_owned() };
    let mut watch = client.watch(ask("push.v1.Push")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 1);
    for service in ["", "push.v1.Push", "push.v1.Publisher"] {
        assert_eq!(client.check(ask(service)).await.unwrap().into_inner().status, 1, "{service:?}");
    }
    assert_eq!(client.check(ask("push.v1.Edge")).await.unwrap_err().code(), Code::NotFound);
    let mut unknown = client.watch(ask("push.v1.Edge")).await.unwrap().into_inner();
    assert_eq!(unknown.message().await.unwrap().unwrap().status, 3);
    world.hub.drain(Duration::from_secs(1)).await;
    assert_eq!(watch.message().await.unwrap().unwrap().status, 2);
    assert_eq!((watch.message().await.unwrap(), unknown.message().await.unwrap()), (None, None));
    assert_eq!(client.check(ask("")).await.unwrap().into_inner().status, 2);
}

/// Whoever it is: health asks nobody.
#[tokio::test(start_paused = true)]
async fn nobody_makes_a_hub_hold_a_large_question_about_its_health() {
    let world = World::new(Config::default());
    let mut client = HealthClient::new(world.connection());
    let large = HealthCheckRequest { service: "x".repeat(2_000) };
    assert_eq!(client.check(large.clone()).await.unwrap_err().code(), Code::OutOfRange);
    assert_eq!(client.watch(large).await.unwrap_err().code(), Code::OutOfRange);
}

#[tokio::test(start_paused = true)]
async fn reflection_lists_what_is_served() {
    let world = World::new(Config::default());
    let served = ["grpc.health.v1.Health", "push.v1.Publisher", "push.v1.Push"];

    use v1::server_reflection_request::MessageRequest::ListServices;
    use v1::server_reflection_response::MessageResponse::ListServicesResponse;
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(ListServices(String::new())),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(world.connection());
    let mut answers =
        client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(names, served);

    use v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol;
    use v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse;
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(FileContainingSymbol("push.v1.Push.SubscribePush".to_owned())),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(world.connection());
    let mut answers =
        client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    assert!(matches!(answer, Some(FileDescriptorResponse(_))), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_scrape_shows_the_window_and_what_happened() {
    let world = World::new(Config::default());
    world.publish("a b").await;
    world.read("gw", "oldest").await.until("caught up").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let scraped = scrape(&world);
    // Without what never happened: the labels of a counter come in any order.
    let never = |line: &str| line.contains('{') && line.ends_with(" 0");
    let figures: Vec<_> = scraped.lines().filter(|line| !line.starts_with('#') && !never(line)).collect();
    expect![[r#"
        push_streams 0
        push_events_appended_total 2
        push_bytes_appended_total 136
        push_bytes_sent_total 361
        push_subscribes_total{outcome="fresh"} 1
        push_held_off_total 0
        push_publish_duplicates_total 0
        push_gaps_to_untold_readers_total 0
        push_standing_frames_total 0
        push_window_events 2.0
        push_window_bytes 136.0
        push_window_age_seconds 3.0
        push_window_holds_seconds 600.0
        push_window_fill_ratio{bound="age"} 0.005
        push_window_fill_ratio{bound="events"} 0.0000019073486328125
        push_window_fill_ratio{bound="bytes"} 5.066394805908203e-7
        push_streams_by_class{class="catching_up"} 0.0
        push_streams_by_class{class="live"} 0.0
        push_streams_by_class{class="behind"} 0.0
        push_stream_lag_events{class="catching_up"} 0.0
        push_stream_lag_events{class="live"} 0.0
        push_stream_lag_events{class="behind"} 0.0
        push_stream_lag_seconds{class="catching_up"} 0.0
        push_stream_lag_seconds{class="live"} 0.0
        push_stream_lag_seconds{class="behind"} 0.0
        push_streams_reporting{class="catching_up"} 0.0
        push_streams_reporting{class="live"} 0.0
        push_streams_reporting{class="behind"} 0.0
        push_handled_lag_events{class="catching_up"} 0.0
        push_handled_lag_events{class="live"} 0.0
        push_handled_lag_events{class="behind"} 0.0
        push_handled_lag_seconds{class="catching_up"} 0.0
        push_handled_lag_seconds{class="live"} 0.0
        push_handled_lag_seconds{class="behind"} 0.0
        push_handled_lag_all_events{class="catching_up"} 0.0
        push_handled_lag_all_events{class="live"} 0.0
        push_handled_lag_all_events{class="behind"} 0.0
        push_handled_lag_all_seconds{class="catching_up"} 0.0
        push_handled_lag_all_seconds{class="live"} 0.0
        push_handled_lag_all_seconds{class="behind"} 0.0
        push_reported_connections 0.0
        push_duels 0.0
        push_dedup_horizon_seconds 120.0
        push_publishes_under_way 0.0
        push_publish_under_way_bytes 0.0
        push_standing_records{kind="invalidation"} 0.0
        push_standing_records{kind="membership"} 0.0
        push_standing_fill_ratio{kind="invalidation"} 0.0
        push_standing_fill_ratio{kind="membership"} 0.0
        push_streams_unaware_of_invalidations 0.0
        push_store_stale 0.0"#]]
    .assert_eq(&figures.join("\n"));
}

/// Every family has a help text and a name that says its unit; counters alone end in `_total`.
#[tokio::test(start_paused = true)]
async fn the_names_of_metrics_follow_the_conventions() {
    let world = World::new(Config::default());
    world.publish("a").await;
    let scraped = scrape(&world);
    let described = |keyword: &str| -> Vec<(String, String)> {
        let lines = scraped.lines().filter_map(|line| line.strip_prefix(&format!("# {keyword} ")));
        lines.filter_map(|line| line.split_once(' ')).map(|(name, text)| (name.into(), text.into())).collect()
    };
    let (types, helps) = (described("TYPE"), described("HELP"));
    assert!(types.len() > 15, "{types:?}");
    for (name, kind) in &types {
        assert!(name.starts_with("push_") && !name.ends_with("_total") && !name.contains(kind), "{name}");
        assert!(!["_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end)), "{name}");
        let help = helps.iter().find(|(of, _)| of == name).map(|(_, help)| help.trim_end_matches('.'));
        assert!(help.is_some_and(|help| help.len() > 10 && !help.ends_with('.')), "{name}: {help:?}");
    }
    for (name, unit) in described("UNIT") {
        assert!(name.ends_with(&unit), "{name} in {unit}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_lag_of_the_slowest_stream_shows_by_what_it_is_doing() {
    let world = World::new(Config::default());
    let mut live = world.read("live", "").await;
    live.until("caught up").await;
    let shown = |line: &str| {
        let metrics = scrape(&world);
        assert!(metrics.contains(&format!("{line}\n")), "{line} in {metrics}");
    };
    shown("push_streams_by_class{class=\"live\"} 1.0");
    shown("push_stream_lag_events{class=\"live\"} 0.0");
    let _stalled = world.read("asleep", "").await;
    world.flood(200).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    while live.next().await != "event 199 @200" {}
    shown("push_streams_by_class{class=\"live\"} 2.0");
    shown("push_stream_lag_seconds{class=\"live\"} 3.0");
    assert!(!scrape(&world).contains("push_stream_lag_events{class=\"live\"} 0.0\n"), "the slowest counts");
    drop(_stalled);
    tokio::time::sleep(Duration::from_millis(10)).await;
    shown("push_stream_lag_events{class=\"live\"} 0.0");
    shown("push_stream_lag_seconds{class=\"live\"} 0.0");
}
