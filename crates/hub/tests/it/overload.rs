//! More publishes than the hub takes at a time are refused on every surface, before anything is appended, and are told
//! when to come back.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use galaxy_push_hub::Config;
use galaxy_push_proto::v1::publisher_client::PublisherClient;
use galaxy_push_proto::v1::{self, Event, PublishRequest};
use galaxy_push_proto::{Failure, Reason};
use http::Request;
use tokio::time::sleep;
use tonic::Code;
use tower::ServiceExt as _;

use crate::services::scrape;
use crate::stores;
use crate::world::event;

#[tokio::test(start_paused = true)]
async fn every_surface_refuses_and_says_when_to_come_back() {
    let (world, go) = stores::slow(Config::default().publishes_in_flight(2, 4 << 20));
    let running: Vec<_> = ["a", "b"]
        .map(|id| {
            let hub = world.hub.clone();
            tokio::spawn(async move { hub.publish(vec![event(id)]).await })
        })
        .into();
    sleep(Duration::from_millis(10)).await;

    let in_process = world.hub.publish(vec![event("c")]).await.unwrap_err();
    let record = v1::SessionInvalidation { recipient: "user:1".into(), ..Default::default() };
    let record = world.hub.invalidate(record).await.unwrap_err();
    let mut client = PublisherClient::new(world.connection());
    let request = || PublishRequest { events: vec![event("c")], request_id: 9, namespace: String::new() };
    let unary = Failure::of(&client.publish(request()).await.unwrap_err());
    for failure in [in_process, record, unary] {
        assert_eq!((failure.code, failure.reason), (Code::ResourceExhausted, Some(Reason::Overloaded)));
        let wait = failure.retry_after.unwrap();
        assert!(wait >= Duration::from_millis(500) && wait < Duration::from_secs(1), "{wait:?}");
    }

    let mut answers = client.publish_stream(tokio_stream::iter([request()])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    let [result] = &answer.results[..] else { panic!("{answer:?}") };
    assert_eq!((answer.request_id, &*result.id, &*result.reason), (9, "c", "OVERLOADED"));
    assert_eq!(Code::from(result.code), Code::ResourceExhausted);

    let body = r#"{"specversion":"1.0","id":"c","source":"/s","type":"t","to":"all"}"#;
    let post = Request::post("/v1/events").header("content-type", "application/cloudevents+json");
    let response = world.hub.router().oneshot(post.body(Body::from(body)).unwrap()).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (429, &"1".parse().unwrap())
    );
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let problem: serde_json::Value = serde_json::from_slice(&problem).unwrap();
    assert_eq!(problem["reason"], "OVERLOADED");

    assert!(scrape(&world).contains("push_publish_refused_total{reason=\"OVERLOADED\"} 5\n"));
    go.add_permits(3);
    for publish in running {
        publish.await.unwrap().unwrap();
    }
    let admitted = world.hub.publish(vec![event("c")]).await.unwrap();
    assert_eq!(
        (admitted[0].cursor.map(|at| at.seq.0), admitted[0].duplicate),
        (Some(3), false),
        "refused before"
    );
}

#[tokio::test(start_paused = true)]
async fn bytes_are_bounded_too() {
    let (world, go) =
        stores::slow(Config::default().event_bytes_max(1 << 20).publishes_in_flight(100, 4 << 20));
    let large = |id: &str| Event { data: vec![b'1'; 1 << 20].into(), ..event(id) };
    for id in ["a", "b", "c"] {
        let (hub, large) = (world.hub.clone(), large(id));
        tokio::spawn(async move { hub.publish(vec![large]).await });
    }
    sleep(Duration::from_millis(10)).await;
    let refused = world.hub.publish(vec![large("d")]).await.unwrap_err();
    assert_eq!(refused.reason, Some(Reason::Overloaded));
    let hub = world.hub.clone();
    let small = tokio::spawn(async move { hub.publish(vec![event("e")]).await });
    go.add_permits(4);
    small.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_goes_away_gives_its_share_back() {
    let (world, _go) = stores::slow(Config::default().publishes_in_flight(1, 4 << 20));
    let hub = world.hub.clone();
    let publish = tokio::spawn(async move { hub.publish(vec![event("a")]).await });
    sleep(Duration::from_millis(10)).await;
    assert!(world.hub.publish(vec![event("b")]).await.is_err());
    publish.abort();
    assert!(publish.await.unwrap_err().is_cancelled());
    assert!(scrape(&world).contains("push_publishes_under_way 0.0\n"));
}
