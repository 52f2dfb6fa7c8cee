//! What every gRPC server and every scrape expects: health, reflection, metrics.

use std::time::Duration;

use expect_test::expect;
use galaxy_push_hub::{Config, PushService};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tonic::Code;
use tonic::server::NamedService;
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
    let figures: Vec<_> = scraped.lines().filter(|line| !line.starts_with('#')).collect();
    expect![[r#"
        push_streams 0
        push_events_appended_total 2
        push_bytes_appended_total 134
        push_bytes_sent_total 337
        push_subscribes_total{outcome="fresh"} 1
        push_publish_duplicates_total 0
        push_window_events 2.0
        push_window_bytes 134.0
        push_window_age_seconds 3.0
        push_dedup_horizon_seconds 120.0"#]]
    .assert_eq(&figures.join("\n"));
}

#[test]
fn the_push_service_can_be_embedded() {
    const fn name<S: NamedService>() -> &'static str {
        S::NAME
    }
    assert_eq!(name::<PushService>(), "push.v1.Push");
}
