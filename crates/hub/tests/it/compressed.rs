//! Requests that come compressed, over HTTP and gRPC: taken as what they hold, bounded by what they hold.

use std::io::Write as _;

use axum::body::{Body, to_bytes};
use flate2::Compression;
use flate2::write::GzEncoder;
use galaxy_push_hub::Config;
use galaxy_push_proto::v1::push_event::Kind;
use galaxy_push_proto::v1::{
    GatewayReport, HeadRequest, Membership, PublishRequest, PushEvent, SetMembershipRequest,
};
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use prost::Message;
use serde_json::Value;
use tonic::Code;
use tower::ServiceExt as _;

use crate::world::{World, event, from};

const EVENT: &str = r#"{"specversion":"1.0","id":"a","source":"/s","type":"t","to":"all","data":{"n":1}}"#;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// So many MiB of zeros, a thousandth as long.
fn bomb(mib: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    for _ in 0..mib {
        encoder.write_all(&[0; 1 << 20]).unwrap();
    }
    encoder.finish().unwrap()
}

/// The status, headers and document of an answer over HTTP.
async fn post(world: &World, path: &str, encodings: &[&str], body: Vec<u8>) -> (u16, HeaderMap, Value) {
    let media_type = if path == "/v1/events" { "application/cloudevents+json" } else { "application/json" };
    let mut request = Request::post(path).header("content-type", media_type);
    for encoding in encodings {
        request = request.header("content-encoding", *encoding);
    }
    let response = world.hub.router().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    (head.status.as_u16(), head.headers, serde_json::from_slice(&body).unwrap())
}

/// The code, headers and message of an answer over gRPC to one framed message.
async fn call(world: &World, path: &str, encoding: &str, framed: Vec<u8>) -> (Code, HeaderMap, String) {
    let request = Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    let request = if encoding.is_empty() { request } else { request.header("grpc-encoding", encoding) };
    let response = world.hub.router().oneshot(request.body(Body::from(framed)).unwrap()).await.unwrap();
    let (mut headers, body) = (response.headers().clone(), response.into_body());
    if !headers.contains_key("grpc-status") {
        let body = body.collect().await.unwrap();
        headers.extend(body.trailers().cloned().unwrap_or_default());
    }
    let code = Code::from_bytes(headers["grpc-status"].as_bytes());
    let message = headers.get("grpc-message").map_or("", |message| message.to_str().unwrap()).to_owned();
    (code, headers, message)
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

fn packed(message: &impl Message) -> Vec<u8> {
    framed(1, &gzip(&message.encode_to_vec()))
}

/// The fault: compressed bytes were taken for the data, and handed to people.
#[tokio::test(start_paused = true)]
async fn a_body_in_gzip_is_taken_as_what_it_holds() {
    let world = World::new(Config::default());
    for encodings in [&["gzip"][..], &["GZIP"], &["x-gzip"], &["identity, gzip"], &["identity", "gzip"]] {
        let (status, _, answer) = post(&world, "/v1/events", encodings, gzip(EVENT.as_bytes())).await;
        assert_eq!(status, 200, "{encodings:?}: {answer}");
    }
    // Several members, one behind another, are one text (RFC 1952, section 2.2).
    let (first, second) = EVENT.as_bytes().split_at(20);
    let parts = [gzip(first), gzip(second)].concat();
    assert_eq!(post(&world, "/v1/events", &["gzip"], parts).await.0, 200);
    // Each costs work, also where it holds nothing: 4 MiB of them would keep a worker for seconds.
    let empty = gzip(b"").repeat(100_000);
    let (status, _, answer) = post(&world, "/v1/events", &["gzip"], empty).await;
    assert!(status == 400 && answer.to_string().contains("members"), "{status} {answer}");
    let [held] = &world.hub.log_dump()[..] else { panic!("one event, and duplicates") };
    let Some(Kind::Event(held)) = PushEvent::decode(held.message.clone()).unwrap().kind else { panic!() };
    assert_eq!(&held.data[..], br#"{"n":1}"#);
    let invalidation = gzip(br#"{"recipient":"user:1"}"#);
    assert_eq!(post(&world, "/v1/invalidations", &["gzip"], invalidation).await.0, 200);
    let membership = gzip(br#"{"recipient":"user:1","topic":"news","member":true}"#);
    assert_eq!(post(&world, "/v1/memberships", &["gzip"], membership).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn any_other_encoding_is_415_and_the_answer_says_which_is_taken() {
    let world = World::new(Config::default());
    for (path, body) in [
        ("/v1/events", EVENT),
        ("/v1/invalidations", r#"{"recipient":"user:1"}"#),
        ("/v1/memberships", r#"{"recipient":"user:1","topic":"news","member":true}"#),
    ] {
        for encodings in
            [&["br"][..], &["gzip, br"], &["gzip", "gzip"], &["deflate"], &["zstd"], &["aws-chunked"]]
        {
            let (status, headers, problem) = post(&world, path, encodings, gzip(body.as_bytes())).await;
            assert_eq!(
                (status, &headers["accept-encoding"]),
                (415, &"gzip".parse().unwrap()),
                "{encodings:?}"
            );
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains(&encodings.join(", ")) && detail.contains("send gzip"), "{problem}");
        }
        let (status, headers, _) = post(&world, path, &["identity"], body.into()).await;
        assert_eq!((status, headers.get("accept-encoding")), (200, None), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn broken_gzip_is_400_and_leaves_nothing_behind() {
    let world = World::new(Config::default());
    let before = world.hub.head();
    let good = gzip(EVENT.as_bytes());
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for (what, body) in [
        ("nothing", vec![]),
        ("plain", EVENT.into()),
        ("cut off", good[..good.len() - 9].to_vec()),
        ("another length", flipped),
        ("something behind it", [&good[..], b"more"].concat()),
    ] {
        let (status, _, problem) = post(&world, "/v1/events", &["gzip"], body).await;
        assert!(status == 400 && problem["detail"].as_str().unwrap().contains("gzip"), "{what}: {problem}");
    }
    assert_eq!(world.hub.head(), before);
}

#[tokio::test(start_paused = true)]
async fn what_is_inflated_counts_against_the_limit() {
    let world = World::new(Config::default());
    let bomb = bomb(64);
    assert!(bomb.len() < 100 << 10);
    let (status, _, problem) = post(&world, "/v1/events", &["gzip"], bomb.clone()).await;
    assert!(status == 413 && problem["detail"].as_str().unwrap().contains("4194304"), "{problem}");
    for path in ["/push.v1.Publisher/Publish", "/push.v1.Push/SubscribePush", "/push.v1.Push/Report"] {
        let (code, _, message) = call(&world, path, "gzip", framed(1, &bomb)).await;
        assert!(
            code == Code::InvalidArgument && message.contains("larger%20than"),
            "{path}: {code:?} {message}"
        );
    }
    // Spaces before the event fill the limit to the last byte.
    let padded = |spaces: usize| gzip(&[" ".repeat(spaces).as_bytes(), EVENT.as_bytes()].concat());
    let room = (4 << 20) - EVENT.len();
    assert_eq!(post(&world, "/v1/events", &["gzip"], padded(room)).await.0, 200);
    assert_eq!(post(&world, "/v1/events", &["gzip"], padded(room + 1)).await.0, 413);
}

/// The fault: it was INTERNAL, as if the hub were broken, where the same without compression was refused for its size.
#[tokio::test(start_paused = true)]
async fn what_is_too_large_already_when_packed_is_refused_like_what_is_not_packed() {
    let world = World::new(Config::default());
    let packed = vec![7; (4 << 20) + 1];
    for method in [
        "Publisher/Publish",
        "Publisher/PublishStream",
        "Publisher/Head",
        "Push/SubscribePush",
        "Push/Report",
    ] {
        let path = format!("/push.v1.{method}");
        let (plain, _, said) = call(&world, &path, "", framed(0, &packed)).await;
        let (code, _, message) = call(&world, &path, "gzip", framed(1, &packed)).await;
        assert_eq!((code, message), (plain, said), "{path}");
        assert_eq!(code, Code::InvalidArgument, "{path}");
        let (code, _, message) = call(&world, &path, "", framed(1, &packed)).await;
        let sized = path.ends_with("SubscribePush"); // its size is seen before its flag
        assert_eq!(code, if sized { Code::InvalidArgument } else { Code::Internal }, "{path}: {message}");
    }
}

/// The fault: a channel that compresses was UNIMPLEMENTED.
#[tokio::test(start_paused = true)]
async fn messages_in_gzip_are_taken_by_every_service() {
    let world = World::new(Config::default());
    let publish = PublishRequest { events: vec![event("a"), event("b")], ..Default::default() };
    let record =
        Membership { recipient: "user:1".into(), topic: "x".into(), member: true, ..Default::default() };
    let set = SetMembershipRequest { memberships: vec![record], ..Default::default() };
    let report = GatewayReport { gateway_client_id: "g".into(), ..Default::default() };
    for (path, message) in [
        ("/push.v1.Publisher/Publish", packed(&publish)),
        (
            "/push.v1.Publisher/PublishStream",
            [packed(&publish), framed(0, &publish.encode_to_vec())].concat(),
        ),
        ("/push.v1.Publisher/SetMembership", packed(&set)),
        ("/push.v1.Publisher/Head", packed(&HeadRequest::default())),
        ("/push.v1.Push/Report", [packed(&report), packed(&report)].concat()),
        ("/grpc.health.v1.Health/Check", framed(1, &gzip(b""))),
    ] {
        let (code, _, why) = call(&world, path, "gzip", message).await;
        assert_eq!(code, Code::Ok, "{path}: {why}");
    }
    let request = Request::post("/push.v1.Push/SubscribePush").header("content-type", "application/grpc");
    let request = request.header("grpc-encoding", "gzip").body(Body::from(packed(&from("g", "")))).unwrap();
    let response = world.hub.router().oneshot(request).await.unwrap();
    assert!(response.headers().get("grpc-status").is_none(), "{response:?}");
    assert_eq!(world.hub.log_dump().len(), 3, "two events and a membership");
}

#[tokio::test(start_paused = true)]
async fn other_encodings_of_messages_are_unimplemented_and_the_answer_says_which_is_taken() {
    let world = World::new(Config::default());
    let message = packed(&PublishRequest::default());
    for path in [
        "/push.v1.Publisher/Publish",
        "/push.v1.Push/SubscribePush",
        "/push.v1.Push/Report",
        "/grpc.health.v1.Health/Check",
    ] {
        let (code, headers, why) = call(&world, path, "deflate", message.clone()).await;
        assert!(code == Code::Unimplemented && why.contains("deflate"), "{path}: {code:?} {why}");
        assert_eq!(headers["grpc-accept-encoding"], "gzip,identity", "{path}");
        let (code, _, why) = call(&world, path, "", message.clone()).await;
        assert!(code == Code::Internal && why.contains("grpc-encoding"), "{path}: {code:?} {why}");
        let (code, _, why) = call(&world, path, "gzip", framed(1, b"no gzip")).await;
        assert!(code == Code::InvalidArgument && why.contains("gzip"), "{path}: {code:?} {why}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_order_mark_before_json_is_ignored_and_in_its_data_named() {
    let world = World::new(Config::default());
    let marked = |text: &str| format!("\u{feff}{text}").into_bytes();
    assert_eq!(post(&world, "/v1/events", &[], marked(EVENT)).await.0, 200);
    assert_eq!(post(&world, "/v1/invalidations", &[], marked(r#"{"recipient":"user:1"}"#)).await.0, 200);
    let membership = r#"{"recipient":"user:1","topic":"news","member":true}"#;
    assert_eq!(post(&world, "/v1/memberships", &[], marked(membership)).await.0, 200);
    let request = Request::post("/v1/events")
        .header("content-type", "application/cloudevents-batch+json")
        .body(Body::from(marked(&format!("[{EVENT}]"))));
    assert_eq!(world.hub.router().oneshot(request.unwrap()).await.unwrap().status(), 200);
    let request = Request::post("/v1/events")
        .header("content-type", "application/json")
        .header("ce-specversion", "1.0")
        .header("ce-id", "b")
        .header("ce-source", "/s")
        .header("ce-type", "t")
        .header("ce-to", "all");
    let answer = world.hub.router().oneshot(request.body(Body::from(marked("[1]"))).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 400);
    let problem = to_bytes(answer.into_body(), 4_096).await.unwrap();
    assert!(String::from_utf8_lossy(&problem).contains("byte order mark"), "{problem:?}");
}
