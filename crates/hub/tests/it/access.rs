//! Who may do what: every role at every method, every cell of it, and what an identity may not do inside its role.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, to_bytes};
use galaxy_push_core::recipient::Pattern;
use galaxy_push_hub::{Access, Config, Fingerprint, Hub, Identity, Role};
use galaxy_push_listener::PeerNames;
use galaxy_push_proto::v1::push_event::Kind;
use galaxy_push_proto::v1::{
    GatewayReport, GatewaySubscribeRequest, InvalidateRequest, Membership, PublishRequest, PushEvent,
    SessionInvalidation, SetMembershipRequest,
};
use http::{Request, Version};
use prost::Message;
use serde_json::Value;
use tokio_stream::StreamExt as _;
use tower::ServiceExt as _;

use crate::services::scrape;
use crate::world::{World, ambient, event, event_to, framed, from};

/// Who knocks: by certificate, but for the last two.
const WHO: [&str; 5] = ["backend", "edge-1", "ops", "stranger", "wrong token"];

/// A method, a request for it, its body, and what each of [`WHO`] is answered.
type Row = (&'static str, Box<dyn Fn() -> http::request::Builder>, Vec<u8>, [u16; 5]);

fn access() -> Access {
    let scope = ["user:*", "topic:news", "all"].map(|text| Pattern::parse(text).unwrap());
    let backend = Identity::new("backend", Role::Publisher).recipients(scope).events_per_second(1_000);
    Access::open()
        .with(backend, Some(Fingerprint::of("token of the backend")))
        .and_then(|access| access.with(Identity::new("edge-1", Role::Gateway), None))
        .and_then(|access| access.with(Identity::new("ops", Role::Operator), None))
        .unwrap()
}

fn world() -> World {
    World::over(Hub::in_memory(Config::default().access(access()), ambient()).unwrap())
}

/// What a method answers: a gRPC status code, or an HTTP status.
async fn ask(world: &World, who: &str, request: http::request::Builder, body: Vec<u8>) -> u16 {
    let request = match who {
        "wrong token" => request.header("authorization", "Bearer of nothing"),
        _ => request.extension(PeerNames([who.to_owned()].into())),
    };
    let response = world.hub.router().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    if response.status() == 401 {
        assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"galaxy-push hub\"");
    }
    let status = response.status().as_u16();
    match response.headers().get("grpc-status") {
        Some(code) => code.to_str().unwrap().parse().unwrap(),
        None if status == 200 && response.headers()["content-type"] == "application/grpc" => 0,
        None => status,
    }
}

fn grpc(path: &str) -> http::request::Builder {
    Request::post(path).header("content-type", "application/grpc")
}

fn json(path: &str, media_type: &str) -> http::request::Builder {
    Request::post(path).header("content-type", media_type)
}

/// gRPC codes: 0 OK, 7 PERMISSION_DENIED, 12 UNIMPLEMENTED, 16 UNAUTHENTICATED.
#[tokio::test(start_paused = true)]
async fn every_role_at_every_method() {
    const PUBLISHERS: [u16; 5] = [0, 7, 7, 16, 16];
    let subscribe = framed(&from("edge-1", ""));
    let report = framed(&GatewayReport { gateway_client_id: "edge-1".into(), ..Default::default() });
    let publish = framed(&PublishRequest { events: vec![event("a")], ..Default::default() });
    let record = SessionInvalidation { recipient: "user:1".into(), ..Default::default() };
    let invalidate = framed(&InvalidateRequest { invalidation: Some(record), ..Default::default() });
    let member =
        Membership { recipient: "user:1".into(), topic: "news".into(), member: true, expires_at: None };
    let set = framed(&SetMembershipRequest { memberships: vec![member], ..Default::default() });
    let cloud_event = br#"{"specversion":"1.0","id":"h","source":"/s","type":"t","to":"all"}"#.to_vec();
    let (event_type, plain) = ("application/cloudevents+json", "application/json");
    let empty = framed(&GatewaySubscribeRequest::default());
    let rows: Vec<Row> = vec![
        ("SubscribePush", Box::new(|| grpc("/push.v1.Push/SubscribePush")), subscribe, [7, 0, 0, 16, 16]),
        ("Replay", Box::new(|| grpc("/push.v1.Push/Replay")), empty.clone(), [7, 12, 12, 16, 16]),
        ("Report", Box::new(|| grpc("/push.v1.Push/Report")), report, [7, 0, 7, 16, 16]),
        ("Push/Other", Box::new(|| grpc("/push.v1.Push/Other")), empty.clone(), [7, 7, 7, 16, 16]),
        ("Publish", Box::new(|| grpc("/push.v1.Publisher/Publish")), publish.clone(), PUBLISHERS),
        ("PublishStream", Box::new(|| grpc("/push.v1.Publisher/PublishStream")), publish, PUBLISHERS),
        ("Invalidate", Box::new(|| grpc("/push.v1.Publisher/Invalidate")), invalidate, PUBLISHERS),
        ("SetMembership", Box::new(|| grpc("/push.v1.Publisher/SetMembership")), set, PUBLISHERS),
        ("Head", Box::new(|| grpc("/push.v1.Publisher/Head")), empty.clone(), [0, 0, 0, 16, 16]),
        ("Publisher/Other", Box::new(|| grpc("/push.v1.Publisher/Other")), empty.clone(), [7, 7, 7, 16, 16]),
        ("Health", Box::new(|| grpc("/grpc.health.v1.Health/Check")), framed(&()), [0, 0, 0, 0, 0]),
        (
            "reflection",
            Box::new(|| grpc("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")),
            vec![],
            [0, 0, 0, 16, 16],
        ),
        ("another service", Box::new(|| grpc("/push.v1.Edge/Connect")), empty, [7, 7, 7, 16, 16]),
        ("events", Box::new(move || json("/v1/events", event_type)), cloud_event, [200, 403, 403, 401, 401]),
        (
            "invalidations",
            Box::new(move || json("/v1/invalidations", plain)),
            br#"{"recipient":"user:1"}"#.to_vec(),
            [200, 403, 403, 401, 401],
        ),
        (
            "memberships",
            Box::new(move || json("/v1/memberships", plain)),
            br#"{"recipient":"user:1","topic":"news","member":true}"#.to_vec(),
            [200, 403, 403, 401, 401],
        ),
        ("head", Box::new(|| Request::get("/v1/head")), vec![], [200, 200, 200, 401, 401]),
        ("another path", Box::new(|| Request::get("/v1/other")), vec![], [403, 403, 403, 401, 401]),
    ];
    let world = world();
    for (name, request, body, expected) in rows {
        for (who, expected) in WHO.into_iter().zip(expected) {
            assert_eq!(ask(&world, who, request(), body.clone()).await, expected, "{name} by {who}");
        }
    }
    let scraped = scrape(&world);
    assert!(scraped.contains("push_peers_refused_total{reason=\"denied\"} 30\n"), "{scraped}");
    assert!(scraped.contains("push_peers_refused_total{reason=\"unauthenticated\"} 34\n"), "{scraped}");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_cannot_take_the_id_of_another() {
    let world = world();
    let subscribe = |who: &'static str, id: &'static str| {
        ask(&world, who, grpc("/push.v1.Push/SubscribePush"), framed(&from(id, "")))
    };
    assert_eq!(subscribe("edge-1", "edge-2").await, 7);
    assert_eq!(subscribe("edge-1", "edge-1").await, 0);
    assert_eq!(subscribe("ops", "tail-1").await, 0, "an operator may have any id");
    let other = GatewayReport { gateway_client_id: "edge-2".into(), ..Default::default() };
    let report = ask(&world, "edge-1", grpc("/push.v1.Push/Report"), framed(&other)).await;
    assert_eq!(report, 7, "nobody speaks for another gateway");
}

#[tokio::test(start_paused = true)]
async fn the_hub_writes_who_published() {
    let world = world();
    let lie =
        br#"{"specversion":"1.0","id":"a","source":"/s","type":"t","to":"user:1","publisher":"the boss"}"#;
    let request = json("/v1/events", "application/cloudevents+json");
    assert_eq!(ask(&world, "backend", request, lie.to_vec()).await, 200);
    let held = &world.hub.log_dump()[0];
    let Some(Kind::Event(event)) = PushEvent::decode(held.message.clone()).unwrap().kind else { panic!() };
    assert_eq!(event.attributes["publisher"], "backend");
}

#[tokio::test(start_paused = true)]
async fn a_scope_holds_on_every_surface_and_leaves_nothing_behind() {
    let world = world();
    let before = world.hub.head();
    let out = vec![event_to("a", "user:1"), event_to("b", "topic:secret")];
    let publish = framed(&PublishRequest { events: out, ..Default::default() });
    assert_eq!(ask(&world, "backend", grpc("/push.v1.Publisher/Publish"), publish).await, 7);
    let request =
        json("/v1/memberships", "application/json").extension(PeerNames(["backend".to_owned()].into()));
    let body = Body::from(r#"{"recipient":"user:1","topic":"secret","member":true}"#);
    let response = world.hub.router().oneshot(request.body(body).unwrap()).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (403, &"application/problem+json".parse().unwrap())
    );
    let problem: Value =
        serde_json::from_slice(&to_bytes(response.into_body(), 4_096).await.unwrap()).unwrap();
    assert_eq!(
        (problem["reason"].as_str(), problem["field"].as_str()),
        (Some("NOT_GRANTED"), Some("memberships[0].topic"))
    );
    assert_eq!(world.hub.head(), before);
}

#[tokio::test(start_paused = true)]
async fn a_router_for_one_identity_is_that_identity_whatever_the_request_says() {
    let world = world();
    let app = world.hub.router_for(Identity::new("inside", Role::Gateway));
    let call = async |path: &str, body: Vec<u8>| {
        let request = grpc(path)
            .header("authorization", "Bearer token of the backend")
            .extension(PeerNames(["backend".to_owned()].into()));
        let response = app.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        response.headers().get("grpc-status").map_or(0, |code| code.to_str().unwrap().parse().unwrap())
    };
    assert_eq!(call("/push.v1.Push/SubscribePush", framed(&from("inside", ""))).await, 0);
    assert_eq!(call("/push.v1.Push/SubscribePush", framed(&from("edge-1", ""))).await, 7);
    assert_eq!(call("/push.v1.Publisher/Publish", framed(&PublishRequest::default())).await, 7);
    let outside = world.hub.router();
    let request = grpc("/push.v1.Push/SubscribePush").body(Body::from(framed(&from("inside", "")))).unwrap();
    assert_eq!(outside.layer(Extension(())).oneshot(request).await.unwrap().headers()["grpc-status"], "16");
}

/// Over HTTP/2 curl before 8 takes an answer that does not wait for the body for a broken stream.
#[tokio::test(start_paused = true)]
async fn whoever_is_refused_is_heard_out() {
    let world = world();
    let ask = async |content_type: &str, token: &str, chunks: usize| {
        let read = Arc::new(AtomicUsize::new(0));
        let counted = read.clone();
        let body = tokio_stream::iter(0..chunks).map(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>([b'x'; 1_024].to_vec())
        });
        let request =
            Request::post("/v1/events").version(Version::HTTP_2).header("content-type", content_type);
        let request = request.header("authorization", format!("Bearer {token}"));
        let request = request.body(Body::from_stream(body)).unwrap();
        let status = world.hub.router().oneshot(request).await.unwrap().status().as_u16();
        (status, read.load(Ordering::Relaxed))
    };
    let event_type = "application/cloudevents+json";
    assert_eq!(ask(event_type, "of nothing", 3).await, (401, 3));
    assert_eq!(ask("text/plain", "token of the backend", 3).await, (415, 3));
    let (status, read) = ask(event_type, "of nothing", 10_000).await;
    assert!(status == 401 && read < 100, "nobody known makes it read {read} KiB");
    let silent = Body::from_stream(tokio_stream::pending::<Result<Vec<u8>, Infallible>>());
    let request = Request::post("/v1/events").version(Version::HTTP_2).body(silent).unwrap();
    let answered = tokio::time::timeout(Duration::from_secs(2), world.hub.router().oneshot(request)).await;
    assert_eq!(answered.expect("it is not waited for").unwrap().status(), 401);
}

/// The fault: requests that were refused for what they held cost their publisher's rate nothing.
#[tokio::test(start_paused = true)]
async fn a_request_that_is_refused_counts_as_what_was_read_of_it() {
    let limited = Identity::new("backend", Role::Publisher).events_per_second(10).bytes_per_second(100_000);
    let access = Access::open().with(limited, None).unwrap();
    let world = World::over(Hub::in_memory(Config::default().access(access), ambient()).unwrap());
    let zeros = format!("[{}0]", "0,".repeat(50_000)).into_bytes();
    let batch = || json("/v1/events", "application/cloudevents-batch+json");
    let good = br#"[{"specversion":"1.0","id":"h","source":"/s","type":"t","to":"all"}]"#;
    assert_eq!(ask(&world, "backend", batch(), zeros.clone()).await, 400);
    assert_eq!(
        ask(&world, "backend", batch(), zeros.clone()).await,
        429,
        "before anything of it is looked at"
    );
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(ask(&world, "backend", batch(), good.to_vec()).await, 200, "what the rate leaves is there");
    tokio::time::sleep(Duration::from_secs(5)).await;

    let mut many = PublishRequest { events: vec![event("a")], ..Default::default() };
    many.events[0].to = vec![String::new(); 60_000];
    let publish = || grpc("/push.v1.Publisher/Publish");
    assert_eq!(ask(&world, "backend", publish(), framed(&many)).await, 3);
    assert_eq!(ask(&world, "backend", publish(), framed(&many)).await, 8, "RESOURCE_EXHAUSTED");
    tokio::time::sleep(Duration::from_secs(5)).await;

    let records = || json("/v1/memberships", "application/json");
    for _ in 0..10 {
        assert_eq!(ask(&world, "backend", records(), b"{}".to_vec()).await, 400);
    }
    assert_eq!(ask(&world, "backend", records(), b"{}".to_vec()).await, 429, "each counted as one event");
    tokio::time::sleep(Duration::from_secs(5)).await;
    for _ in 0..10 {
        assert_eq!(ask(&world, "backend", batch(), br#"{"to":"x"}"#.to_vec()).await, 400);
    }
    let (status, limit) = (ask(&world, "backend", batch(), good.to_vec()).await, 429);
    assert_eq!(status, limit);
    for _ in 0..50 {
        assert_eq!(ask(&world, "backend", batch(), good.to_vec()).await, limit, "of that nothing counts");
    }
    tokio::time::sleep(Duration::from_millis(101)).await;
    assert_eq!(ask(&world, "backend", batch(), good.to_vec()).await, 200);
}
