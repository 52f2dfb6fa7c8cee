//! Requests that are begun and not ended: what has arrived of them counts, on every surface, and not for ever.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use galaxy_push_core::frame::Deframer;
use galaxy_push_hub::{Access, Config, Hub, Identity, Role};
use galaxy_push_listener::PeerNames;
use galaxy_push_proto::v1::publisher_client::PublisherClient;
use galaxy_push_proto::v1::{HeadRequest, PublishRequest};
use galaxy_push_proto::{Failure, Reason};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};
use tower::ServiceExt as _;

use crate::services::scrape;
use crate::stores;
use crate::world::{World, ambient, event, framed};

/// The beginning of a message of 4 MiB less a little.
fn begun(bytes: usize) -> Bytes {
    let mut begun = vec![0, 0, 0x3f, 0xff, 0xff];
    begun.resize(bytes, 7);
    begun.into()
}

/// Sends the beginning of a request and then nothing.
fn unfinished(world: &World, path: &str, bytes: usize) -> JoinHandle<Response<Body>> {
    left_open(world, path, &begun(bytes))
}

/// Sends these bytes and then nothing, not even an end.
fn left_open(world: &World, path: &str, sent: &[u8]) -> JoinHandle<Response<Body>> {
    let (router, grpc) = (world.hub.router(), !path.starts_with("/v1/"));
    let kind = match path {
        _ if grpc => "application/grpc",
        "/v1/events" => "application/cloudevents+json",
        _ => "application/json",
    };
    let parts = sent.chunks(16_384).map(Bytes::copy_from_slice).collect::<Vec<_>>();
    let parts = stream::iter(parts).map(|part| Ok::<_, Status>(Frame::data(part))).chain(stream::pending());
    let request =
        Request::post(path).header("content-type", kind).body(Body::new(StreamBody::new(parts))).unwrap();
    tokio::spawn(async move { router.oneshot(request).await.unwrap() })
}

fn status(response: &Response<Body>) -> Option<Code> {
    response.headers().get("grpc-status").map(|status| Code::from_bytes(status.as_bytes()))
}

/// The code of an answer, wherever it stands.
async fn code(response: Response<Body>) -> Code {
    if let Some(code) = status(&response) {
        return code;
    }
    let body = response.into_body().collect().await.unwrap();
    Status::from_header_map(body.trailers().unwrap()).unwrap().code()
}

fn bytes_of_publishes(world: &World) -> f64 {
    let scraped = scrape(world);
    let figure = |line: &str| line.strip_prefix("push_publish_under_way_bytes ")?.parse().ok();
    scraped.lines().find_map(figure).unwrap()
}

/// A gRPC message without a field.
const EMPTY: [u8; 5] = [0; 5];

const PUBLISHES: [&str; 7] = [
    "/v1/events",
    "/v1/invalidations",
    "/v1/memberships",
    "/push.v1.Publisher/Publish",
    "/push.v1.Publisher/PublishStream",
    "/push.v1.Publisher/Invalidate",
    "/push.v1.Publisher/SetMembership",
];

#[tokio::test(start_paused = true)]
async fn a_request_counts_from_its_first_byte_on_every_surface() {
    // What a stream is sent is read as its answers are; the next test has it.
    for path in PUBLISHES.into_iter().filter(|path| !path.ends_with("Stream")) {
        let world = World::new(Config::default().publishes_in_flight(100, 4 << 20));
        let mut begun = vec![];
        for _ in 0..3 {
            begun.push(unfinished(&world, path, 1 << 20));
        }
        sleep(Duration::from_millis(10)).await;
        let bytes = bytes_of_publishes(&world);
        assert!(bytes >= f64::from((3 << 20) - 15), "{path}: {bytes}"); // prefixes do not count
        assert!(scrape(&world).contains("push_publishes_under_way 0.0\n"), "none has arrived");

        // One more than there is room for, on any surface.
        let refused = unfinished(&world, "/v1/events", 2 << 20).await.unwrap();
        assert_eq!(refused.status(), 429, "{path}");
        assert!(refused.headers().contains_key("retry-after"));
        let refused = unfinished(&world, "/push.v1.Publisher/Publish", 2 << 20).await.unwrap();
        assert_eq!(status(&refused), Some(Code::ResourceExhausted), "{path}");
        world.hub.publish(vec![event("small")]).await.expect("what fits goes on");

        begun.into_iter().for_each(|begun| begun.abort());
        sleep(Duration::from_millis(10)).await;
        let left = bytes_of_publishes(&world);
        assert!(left <= 0.0, "{path}: {left}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_publish_stream_is_told_and_ended_when_its_message_does_not_fit() {
    let world = World::new(Config::default().publishes_in_flight(100, 4 << 20));
    let first = unfinished(&world, "/push.v1.Publisher/PublishStream", 3 << 20).await.unwrap();
    let mut first = first.into_body();
    assert!(tokio::time::timeout(Duration::from_secs(1), first.frame()).await.is_err());
    let second = unfinished(&world, "/push.v1.Publisher/PublishStream", 2 << 20).await.unwrap();
    let ended = second.into_body().collect().await.unwrap();
    let failure = Failure::of(&Status::from_header_map(ended.trailers().unwrap()).unwrap());
    assert_eq!((failure.code, failure.reason), (Code::ResourceExhausted, Some(Reason::Overloaded)));
    assert!(failure.retry_after.is_some());
}

/// Thirty seconds for a publisher, five for a gateway's question.
#[tokio::test(start_paused = true)]
async fn an_unfinished_request_ends_in_time_on_every_surface() {
    let others = [
        "/push.v1.Publisher/Head",
        "/push.v1.Push/SubscribePush",
        "/push.v1.Push/Report",
        "/grpc.health.v1.Health/Check",
    ];
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    for path in PUBLISHES.into_iter().chain(others).chain([reflection]) {
        let world = World::new(Config::default());
        let from = Instant::now();
        let response = unfinished(&world, path, 500).await.unwrap();
        let code = match response.status().as_u16() {
            408 if path.starts_with("/v1/") => Some(Code::DeadlineExceeded),
            _ if path.starts_with("/v1/") => None,
            _ => Some(code(response).await),
        };
        let within = if path.ends_with("SubscribePush") { 5 } else { 30 };
        // A message larger than these take is refused at its prefix.
        let refused = matches!(code, Some(Code::OutOfRange | Code::InvalidArgument)) || path == reflection;
        assert!(code == Some(Code::DeadlineExceeded) || refused, "{path}: {code:?}");
        let elapsed = from.elapsed();
        assert!(refused || elapsed.as_secs() == within, "{path}: after {elapsed:?}");
    }
}

/// The message is whole, and the end of the request never comes.
#[tokio::test(start_paused = true)]
async fn a_whole_message_whose_request_stays_open_ends_in_time_on_every_surface() {
    let event = r#"{"specversion":"1.0","id":"c","source":"/s","type":"t","to":"all"}"#.as_bytes();
    for (path, sent, within) in [
        ("/v1/events", event, 30),
        ("/v1/invalidations", br#"{"recipient":"user:1"}"#, 30),
        ("/v1/memberships", br#"{"recipient":"user:1","topic":"t","member":true}"#, 30),
        ("/push.v1.Publisher/Publish", &EMPTY, 30),
        ("/push.v1.Publisher/Invalidate", &EMPTY, 30),
        ("/push.v1.Publisher/SetMembership", &EMPTY, 30),
        ("/push.v1.Publisher/Head", &EMPTY, 30),
        ("/push.v1.Push/SubscribePush", &EMPTY, 5),
        ("/grpc.health.v1.Health/Check", &EMPTY, 30),
        ("/grpc.health.v1.Health/Watch", &EMPTY, 30),
    ] {
        let world = World::new(Config::default());
        let begun = Instant::now();
        let response = left_open(&world, path, sent);
        let response = tokio::time::timeout(Duration::from_secs(60), response).await.expect(path).unwrap();
        if path.starts_with("/v1/") {
            assert_eq!(response.status(), 408, "{path}");
        } else {
            assert_eq!(code(response).await, Code::DeadlineExceeded, "{path}");
        }
        assert_eq!(begun.elapsed().as_secs(), within, "{path}");
        assert!(bytes_of_publishes(&world) <= 0.0, "{path}: the share is given back");
    }
    // A stream may stay open, and holds nothing while it rests.
    let world = World::new(Config::default());
    let mut answers =
        left_open(&world, "/push.v1.Publisher/PublishStream", &EMPTY).await.unwrap().into_body();
    answers.frame().await.unwrap().unwrap();
    let rests = tokio::time::timeout(Duration::from_secs(3_600), answers.frame()).await;
    assert!(rests.is_err() && bytes_of_publishes(&world) <= 0.0);
}

/// As many as the room for probes has places of 4 KiB, and some more.
#[tokio::test(start_paused = true)]
async fn questions_about_health_that_do_not_end_take_no_room_from_others() {
    let world = World::new(Config::default());
    let open: Vec<_> =
        (0..66 * 16).map(|_| left_open(&world, "/grpc.health.v1.Health/Check", &EMPTY)).collect();
    sleep(Duration::from_secs(1)).await;
    let mut honest = tonic_health::pb::health_client::HealthClient::new(world.connection());
    honest.check(tonic_health::pb::HealthCheckRequest::default()).await.expect("an answer");
    sleep(Duration::from_secs(30)).await;
    assert!(open.iter().all(JoinHandle::is_finished), "each has its 30 s");
}

#[tokio::test(start_paused = true)]
async fn head_counts_among_the_questions_and_answers_while_publishes_fill_their_room() {
    let world = World::new(Config::default().publishes_in_flight(100, 4 << 20));
    let _full = unfinished(&world, "/push.v1.Publisher/Publish", (4 << 20) - 100);
    sleep(Duration::from_millis(10)).await;
    let refused = unfinished(&world, "/push.v1.Publisher/Publish", 100).await.unwrap();
    assert_eq!(status(&refused), Some(Code::ResourceExhausted), "their room is full");
    let before = bytes_of_publishes(&world);
    let mut client = PublisherClient::new(world.connection());
    client.head(HeadRequest::default()).await.expect("an answer");
    let _open = left_open(&world, "/push.v1.Publisher/Head", &EMPTY);
    sleep(Duration::from_millis(10)).await;
    assert!((bytes_of_publishes(&world) - before).abs() < 1.0);
    let large = HeadRequest { namespace: "x".repeat(2_000) };
    let refused = client.head(large).await.unwrap_err();
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("1024 bytes"), "{refused}");
}

/// The store hangs: whoever waits is told so, and holds its share no longer.
#[tokio::test(start_paused = true)]
async fn a_publish_that_the_store_does_not_answer_ends_in_time() {
    let (world, _go) = stores::slow(Config::default());
    let begun = Instant::now();
    let failure = world.hub.publish(vec![event("a")]).await.unwrap_err();
    assert_eq!((failure.code, failure.reason, begun.elapsed().as_secs()), (Code::Unavailable, None, 30));
    assert!(bytes_of_publishes(&world) <= 0.0);
}

/// The fault: one publisher that left its requests unfinished kept all others out.
#[tokio::test(start_paused = true)]
async fn none_of_several_publishers_takes_the_room_of_the_others() {
    let publisher = |name: &str| Identity::new(name, Role::Publisher);
    let access =
        Access::open().with(publisher("greedy"), None).unwrap().with(publisher("other"), None).unwrap();
    let config = Config::default().publishes_in_flight(100, 8 << 20).access(access);
    let world = World::over(Hub::in_memory(config, ambient()).unwrap());
    let begin = |who: &str, path: &str, kind: &str| {
        let parts =
            stream::iter(begun(2 << 20).chunks(16_384).map(Bytes::copy_from_slice).collect::<Vec<_>>());
        let parts = parts.map(|part| Ok::<_, Status>(Frame::data(part))).chain(stream::pending());
        let request =
            Request::post(path).header("content-type", kind).extension(PeerNames([who.to_owned()].into()));
        let request = request.body(Body::new(StreamBody::new(parts))).unwrap();
        let router = world.hub.router();
        tokio::spawn(async move { router.oneshot(request).await.unwrap() })
    };
    let (http, grpc) = ("application/cloudevents+json", "application/grpc");
    let _held = [begin("greedy", "/v1/events", http), begin("greedy", "/push.v1.Publisher/Publish", grpc)];
    sleep(Duration::from_millis(10)).await;
    let refused = begin("greedy", "/v1/events", http).await.unwrap();
    assert_eq!(refused.status(), 429);
    let refused = refused.into_body().collect().await.unwrap().to_bytes();
    let refused = String::from_utf8_lossy(&refused);
    assert!(
        refused.contains("of greedy are under way") && refused.contains("nothing was appended"),
        "{refused}"
    );
    let refused = begin("greedy", "/push.v1.Publisher/SetMembership", grpc).await.unwrap();
    assert_eq!(status(&refused), Some(Code::ResourceExhausted));
    let other = begin("other", "/v1/events", http);
    assert!(tokio::time::timeout(Duration::from_secs(1), other).await.is_err(), "it is read");
}

/// The fault: what a publisher did not read the answers of kept its room for as long as its connection lived, though the store had
/// taken it long ago. HTTP/2 asks for no more of a body whose reader has no room.
#[tokio::test(start_paused = true)]
async fn requests_whose_answers_nobody_reads_give_back_their_room() {
    let (world, go) = stores::slow(Config::default());
    let ids: Vec<_> = (0..64).map(|n| n.to_string()).collect();
    let request = |id: &String| PublishRequest { events: vec![event(id)], ..PublishRequest::default() };
    let requests: Vec<_> = ids.iter().map(|id| framed(&request(id))).collect();
    let path = "/push.v1.Publisher/PublishStream";
    let mut answers = left_open(&world, path, &requests.concat()).await.unwrap().into_body();
    assert!(tokio::time::timeout(Duration::from_secs(1), answers.frame()).await.is_err());
    assert!(scrape(&world).contains("push_publishes_under_way 64.0\n"));
    go.add_permits(64);
    sleep(Duration::from_secs(1)).await;
    assert!(scrape(&world).contains("push_publishes_under_way 0.0\n"), "nobody has polled for an answer");
    assert!(bytes_of_publishes(&world) <= 0.0);
    let (mut deframer, mut read) = (Deframer::new(1 << 20), 0);
    while read < 64 {
        let piece = tokio::time::timeout(Duration::from_secs(1), answers.frame()).await;
        deframer.push(piece.expect("they wait for their reader").unwrap().unwrap().into_data().unwrap());
        while deframer.next_message().unwrap().is_some() {
            read += 1;
        }
    }
}
