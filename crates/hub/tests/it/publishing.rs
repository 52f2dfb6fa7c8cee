//! `Publisher` over gRPC and in process: results, refusals, and that a refused batch leaves nothing behind.

use std::time::Duration;

use galaxy_push_hub::Config;
use galaxy_push_proto::v1::publisher_client::PublisherClient;
use galaxy_push_proto::v1::{Event, HeadRequest, PublishRequest, PublishResult, PushEvent};
use galaxy_push_proto::{Failure, Reason};
use prost::Message as _;
use tonic::Code;
use tonic::transport::Channel;

use crate::services::scrape;
use crate::stores;
use crate::world::{START_UNIX_MS, World, at, event};

fn client(world: &World) -> PublisherClient<Channel> {
    PublisherClient::new(world.connection())
}

async fn publish(world: &World, events: Vec<Event>) -> Result<Vec<PublishResult>, Failure> {
    let request = PublishRequest { events, request_id: 7, namespace: "default".to_owned() };
    let response = client(world).publish(request).await.map_err(|status| Failure::of(&status))?.into_inner();
    assert_eq!(response.request_id, 7);
    Ok(response.results)
}

fn texts(results: &[PublishResult]) -> Vec<String> {
    results
        .iter()
        .map(|r| format!("{}{}{}", r.id, at(&r.cursor), if r.duplicate { " again" } else { "" }))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn results_are_positions_in_the_order_of_the_events() {
    let world = World::new(Config::default());
    let ephemeral = Event { ephemeral: true, ..event("b") };
    let first = publish(&world, vec![event("a"), ephemeral, event("c")]).await.unwrap();
    assert_eq!(texts(&first), ["a@1", "b@\"\"", "c@2"]);
    let again = publish(&world, vec![event("c"), event("d"), event("d"), event("a")]).await.unwrap();
    assert_eq!(texts(&again), ["c@2 again", "d@3", "d@3 again", "a@1 again"]);
    let other = publish(&world, vec![Event { source: "/other".into(), ..event("a") }]).await.unwrap();
    assert_eq!(texts(&other), ["a@4"]);
    assert_eq!(publish(&world, vec![]).await.unwrap(), []);
    assert!(scrape(&world).contains("push_publish_duplicates_total 3\n"));
}

#[tokio::test(start_paused = true)]
async fn an_id_may_be_used_again_after_two_minutes() {
    let world = World::new(Config::default());
    publish(&world, vec![event("a")]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(119)).await;
    assert_eq!(texts(&publish(&world, vec![event("a")]).await.unwrap()), ["a@1 again"]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(texts(&publish(&world, vec![event("a")]).await.unwrap()), ["a@2"]);
}

#[tokio::test(start_paused = true)]
async fn the_hub_fills_in_the_time_and_stamps_the_append() {
    let world = World::new(Config::default());
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    publish(&world, vec![event("a"), Event { time: Some(prost_types::Timestamp::default()), ..event("b") }])
        .await
        .unwrap();
    let held: Vec<_> =
        world.hub.log_dump().iter().map(|held| PushEvent::decode(held.message.clone()).unwrap()).collect();
    let time = |frame: &PushEvent| match &frame.kind {
        Some(galaxy_push_proto::v1::push_event::Kind::Event(event)) => event.time,
        other => panic!("{other:?}"),
    };
    let filled = prost_types::Timestamp { seconds: (START_UNIX_MS / 1000) as i64 + 1, nanos: 500_000_000 };
    assert_eq!(time(&held[0]), Some(filled));
    assert_eq!(time(&held[1]), Some(prost_types::Timestamp::default()));
    assert_eq!(held[0].appended_unix_ms, START_UNIX_MS + 1_500);
}

#[tokio::test(start_paused = true)]
async fn a_batch_with_one_bad_event_is_refused_as_a_whole() {
    let world = World::new(Config::default());
    let good = || vec![event("a"), event("b"), event("c")];
    let large = vec![b' '; (64 << 10) + 1];
    for (bad, field, reason) in [
        (Event { to: vec!["group:1".into()], ..event("x") }, "to[0]", Reason::RecipientInvalid),
        (Event { to: vec![], ..event("x") }, "to", Reason::RecipientInvalid),
        (Event { id: String::new(), ..event("x") }, "id", Reason::RequestInvalid),
        (Event { r#type: "push.gap".into(), ..event("x") }, "type", Reason::RequestInvalid),
        (
            Event { data: large.into(), data_content_type: "text/plain".into(), ..event("x") },
            "data",
            Reason::EventTooLarge,
        ),
    ] {
        let failure = publish(&world, good().into_iter().chain([bad]).collect()).await.unwrap_err();
        assert_eq!((failure.code, failure.reason), (Code::InvalidArgument, Some(reason)));
        assert_eq!(failure.field, Some(format!("events[3].{field}")));
    }
    let too_many = publish(&world, (0..1_001).map(|i| event(&i.to_string())).collect()).await.unwrap_err();
    assert_eq!((too_many.code, too_many.field.as_deref()), (Code::InvalidArgument, Some("events")));
    assert_eq!(world.hub.log_dump(), [], "refused before anything is appended");
    assert_eq!(
        texts(&publish(&world, good()).await.unwrap()),
        ["a@1", "b@2", "c@3"],
        "and before it is remembered"
    );
    assert!(scrape(&world).contains("push_publish_refused_total{reason=\"RECIPIENT_INVALID\"} 2\n"));
}

#[tokio::test(start_paused = true)]
async fn a_request_above_four_mebibytes_is_refused() {
    let world = World::new(Config::default());
    let data = vec![b' '; 64 << 10];
    let events = |count: usize| {
        let large = |i: usize| Event {
            data: data.clone().into(),
            data_content_type: "text/plain".into(),
            ..event(&i.to_string())
        };
        (0..count).map(large).collect()
    };
    assert_eq!(publish(&world, events(63)).await.unwrap().len(), 63);
    let failure = publish(&world, events(64)).await.unwrap_err();
    assert_eq!((failure.code, failure.reason), (Code::InvalidArgument, Some(Reason::RequestInvalid)));
    assert!(failure.message.contains("split the batch"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn head_tells_where_the_log_is() {
    let world = World::new(Config::default());
    world.publish("a b").await;
    let head = client(&world).head(HeadRequest::default()).await.unwrap().into_inner();
    assert_eq!((&*head.cursor, &*head.oldest), (&*world.at(2), &*world.at(0)));
    assert_eq!(head.epoch, world.hub.head().cursor.epoch.to_string());
}

#[tokio::test(start_paused = true)]
async fn other_namespaces_do_not_exist() {
    let world = World::new(Config::default());
    let request = PublishRequest { namespace: "other".into(), ..PublishRequest::default() };
    let publish = client(&world).publish(request).await.unwrap_err();
    let head = client(&world).head(HeadRequest { namespace: "other".into() }).await.unwrap_err();
    for status in [publish, head] {
        assert_eq!(
            (status.code(), Failure::of(&status).field.as_deref()),
            (Code::NotFound, Some("namespace"))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_nothing_is_unavailable_and_streams_go_on() {
    let world = stores::full();
    let mut reading = world.read("gw", "").await;
    reading.until("caught up").await;
    let failure = publish(&world, vec![event("a")]).await.unwrap_err();
    assert_eq!((failure.code, failure.reason), (Code::Unavailable, Some(Reason::StoreUnavailable)));
    assert!(failure.retry_after.is_some() && failure.message.contains("the disk is full"), "{failure}");
    assert_eq!(reading.next().await, "progress @0");
}
