//! Publishing over HTTP: the three modes of CloudEvents, and every bad input with its status.

use axum::body::{Body, to_bytes};
use galaxy_push_hub::Config;
use galaxy_push_proto::v1::push_event::Kind;
use galaxy_push_proto::v1::{self, PushEvent};
use http::Request;
use http::request::Builder;
use prost::Message as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::world::{World, at};

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

struct Answer {
    status: u16,
    media_type: String,
    retry_after: Option<String>,
    json: Value,
}

async fn send(world: &World, request: Builder, body: impl Into<Body>) -> Answer {
    let response = world.hub.router().oneshot(request.body(body.into()).unwrap()).await.unwrap();
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (status, media_type) = (response.status().as_u16(), header("content-type").unwrap_or_default());
    let retry_after = header("retry-after");
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    Answer { status, media_type, retry_after, json: serde_json::from_slice(&body).unwrap_or(Value::Null) }
}

fn post(media_type: &str) -> Builder {
    Request::post("/v1/events").header("content-type", media_type)
}

fn cloud_event(id: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/s", "type": "t", "to": "user:1,topic:x", "data": {"n": 1}})
}

fn with(mut event: Value, name: &str, value: Value) -> String {
    event[name] = value;
    event.to_string()
}

fn held(world: &World) -> Vec<v1::Event> {
    let decode =
        |held: &galaxy_push_hub::LogEntry| match PushEvent::decode(held.message.clone()).unwrap().kind {
            Some(Kind::Event(event)) => event,
            other => panic!("{other:?}"),
        };
    world.hub.log_dump().iter().map(decode).collect()
}

#[tokio::test(start_paused = true)]
async fn one_event_in_json() {
    let world = World::new(Config::default());
    let mut event = cloud_event("a");
    event["ttl"] = json!(30);
    event["traceparent"] = json!("00-1");
    let answer = send(&world, post(STRUCTURED), event.to_string()).await;
    assert_eq!((answer.status, &*answer.media_type), (200, "application/json"));
    assert_eq!(answer.json, json!({"results": [{"id": "a", "cursor": world.at(1), "duplicate": false}]}));
    let again = send(&world, post("application/cloudevents+json; charset=utf-8"), event.to_string()).await;
    assert_eq!(again.json, json!({"results": [{"id": "a", "cursor": world.at(1), "duplicate": true}]}));
    let [held] = &held(&world)[..] else { panic!("one event") };
    assert_eq!((held.to.join(" "), &*held.data), ("user:1 topic:x".to_owned(), &br#"{"n":1}"#[..]));
    assert_eq!(held.ttl.map(|ttl| ttl.seconds), Some(30));
    assert_eq!(held.attributes["traceparent"], "00-1");
    assert!(held.time.is_some(), "filled in");
}

#[tokio::test(start_paused = true)]
async fn a_batch_in_json() {
    let world = World::new(Config::default());
    let mut ephemeral = cloud_event("b");
    ephemeral["ephemeral"] = json!(true);
    let batch = json!([cloud_event("a"), ephemeral, cloud_event("a")]);
    let answer = send(&world, post(BATCH), batch.to_string()).await;
    assert_eq!(answer.status, 200);
    let results: Vec<_> = answer.json["results"].as_array().unwrap().iter().collect();
    let text = |result: &Value| {
        format!("{}{} {}", result["id"], at(result["cursor"].as_str().unwrap()), result["duplicate"])
    };
    assert_eq!(
        results.into_iter().map(text).collect::<Vec<_>>(),
        ["\"a\"@1 false", "\"b\"@\"\" false", "\"a\"@1 true"]
    );
    let empty = send(&world, post(BATCH), "[]").await;
    assert_eq!((empty.status, empty.json), (200, json!({"results": []})));
}

#[tokio::test(start_paused = true)]
async fn one_event_in_headers() {
    let world = World::new(Config::default());
    let request = post("text/plain")
        .header("ce-specversion", "1.0")
        .header("ce-id", "a")
        .header("ce-source", "/s")
        .header("ce-type", "t")
        .header("ce-to", "user:1");
    let answer = send(&world, request, "hello").await;
    assert_eq!((answer.status, &answer.json["results"][0]["cursor"]), (200, &json!(world.at(1))));
    let held = &held(&world)[0];
    assert_eq!((&*held.data, &*held.data_content_type), (&b"hello"[..], "text/plain"));
}

#[tokio::test(start_paused = true)]
async fn every_bad_input_is_a_problem_that_says_what_to_do() {
    let world = World::new(Config::default());
    let good = cloud_event("a").to_string();
    let large = with(cloud_event("a"), "data", json!("x".repeat(64 << 10)));
    let huge = "x".repeat((4 << 20) + 1);
    let many = json!((0..1_001).map(|i| cloud_event(&i.to_string())).collect::<Vec<_>>()).to_string();
    let second_bad = json!([cloud_event("a"), {"specversion": "1.0", "id": "b", "source": "/s", "type": "t", "to": "nobody"}]);
    for (media_type, body, status, reason, field) in [
        ("application/json", good.clone(), 415, "REQUEST_INVALID", "content-type"),
        ("application/cloudevents+protobuf", good.clone(), 415, "REQUEST_INVALID", "content-type"),
        (
            "application/cloudevents+json; charset=latin1",
            good.clone(),
            415,
            "REQUEST_INVALID",
            "content-type",
        ),
        (STRUCTURED, "{".into(), 400, "REQUEST_INVALID", ""),
        (STRUCTURED, String::new(), 400, "REQUEST_INVALID", ""),
        (STRUCTURED, "[]".into(), 400, "REQUEST_INVALID", ""),
        (BATCH, good.clone(), 400, "REQUEST_INVALID", ""),
        (
            STRUCTURED,
            with(cloud_event("a"), "specversion", json!("0.3")),
            400,
            "REQUEST_INVALID",
            "specversion",
        ),
        (STRUCTURED, with(cloud_event("a"), "id", json!("")), 400, "REQUEST_INVALID", "id"),
        (STRUCTURED, with(cloud_event("a"), "to", json!("")), 400, "RECIPIENT_INVALID", "to"),
        (
            STRUCTURED,
            with(cloud_event("a"), "to", json!("user:1,group:2")),
            400,
            "RECIPIENT_INVALID",
            "events[0].to[1]",
        ),
        (
            STRUCTURED,
            with(cloud_event("a"), "type", json!("error")),
            400,
            "REQUEST_INVALID",
            "events[0].type",
        ),
        (STRUCTURED, with(cloud_event("a"), "time", json!("noon")), 400, "REQUEST_INVALID", "time"),
        (STRUCTURED, large, 413, "EVENT_TOO_LARGE", "events[0].data"),
        (STRUCTURED, huge, 413, "REQUEST_INVALID", ""),
        (BATCH, many, 400, "REQUEST_INVALID", "events"),
        (BATCH, second_bad.to_string(), 400, "RECIPIENT_INVALID", "events[1].to[0]"),
    ] {
        let start: String = body.chars().take(120).collect();
        let answer = send(&world, post(media_type), body).await;
        assert_eq!(
            (answer.status, &*answer.media_type),
            (status, "application/problem+json"),
            "{media_type} {start}"
        );
        assert_eq!(answer.json["reason"], reason, "{} {start}", answer.json);
        assert_eq!(answer.json["field"].as_str().unwrap_or_default(), field, "{} {start}", answer.json);
        assert!(answer.json["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{}", answer.json);
    }
    assert_eq!(held(&world), [], "nothing of them was appended");
}

#[tokio::test(start_paused = true)]
async fn head_and_the_routes_around_it() {
    let world = World::new(Config::default());
    world.publish("a b").await;
    let head = send(&world, Request::get("/v1/head"), "").await;
    let epoch = world.hub.head().cursor.epoch.to_string();
    assert_eq!(head.status, 200);
    assert_eq!(head.json, json!({"cursor": world.at(2), "oldest": world.at(0), "epoch": epoch}));
    for (request, status) in [
        (Request::get("/v1/head?namespace=other"), 404),
        (Request::get("/v1/head?namespace=default"), 200),
        (Request::get("/v1/head?cursor=x"), 400),
        (Request::post("/v1/events?namespace=other").header("content-type", STRUCTURED), 404),
        (Request::get("/v1/events"), 405),
        (Request::put("/v1/events"), 405),
        (Request::post("/v1/head"), 405),
        (Request::get("/v1/invalidations"), 405),
        (Request::post("/v1/memberships"), 415),
        (Request::get("/nothing"), 404),
    ] {
        let described = format!("{request:?}");
        let answer = send(&world, request, "").await;
        assert_eq!(answer.status, status, "{described}");
        let media_type = if status == 200 { "application/json" } else { "application/problem+json" };
        assert_eq!(answer.media_type, media_type, "{described}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_publisher_is_told_to_come_back_after_a_drain() {
    let world = World::new(Config::default());
    world.hub.drain(std::time::Duration::from_secs(1)).await;
    let answer = send(&world, post(STRUCTURED), cloud_event("a").to_string()).await;
    assert_eq!((answer.status, answer.retry_after.as_deref()), (503, Some("1")));
    assert_eq!(answer.json["reason"], "DRAINING");
    let head = send(&world, Request::get("/v1/head"), "").await;
    assert_eq!((head.status, head.json["reason"].as_str()), (503, Some("DRAINING")));
}
