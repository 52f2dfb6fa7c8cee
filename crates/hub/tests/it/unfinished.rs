//! Requests that are begun and not ended: what has arrived of them counts, on every surface, and not for ever.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use galaxy_push_hub::Config;
use galaxy_push_proto::{Failure, Reason};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};
use tower::ServiceExt as _;

use crate::services::scrape;
use crate::world::{World, event};

/// The beginning of a message of 4 MiB less a little.
fn begun(bytes: usize) -> Bytes {
    let mut begun = vec![0, 0, 0x3f, 0xff, 0xff];
    begun.resize(bytes, 7);
    begun.into()
}

/// Sends the beginning of a request and then nothing.
fn unfinished(world: &World, path: &str, bytes: usize) -> JoinHandle<Response<Body>> {
    let (router, grpc) = (world.hub.router(), !path.starts_with("/v1/"));
    let kind = match path {
        _ if grpc => "application/grpc",
        "/v1/events" => "application/cloudevents+json",
        _ => "application/json",
    };
    let parts = begun(bytes).chunks(16_384).map(Bytes::copy_from_slice).collect::<Vec<_>>();
    let parts = stream::iter(parts).map(|part| Ok::<_, Status>(Frame::data(part))).chain(stream::pending());
    let request =
        Request::post(path).header("content-type", kind).body(Body::new(StreamBody::new(parts))).unwrap();
    tokio::spawn(async move { router.oneshot(request).await.unwrap() })
}

fn status(response: &Response<Body>) -> Option<Code> {
    response.headers().get("grpc-status").map(|status| Code::from_bytes(status.as_bytes()))
}

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
        let world = World::new(Config::default().publishes_under_way(100, 4 << 20));
        let mut begun = vec![];
        for _ in 0..3 {
            begun.push(unfinished(&world, path, 1 << 20));
        }
        sleep(Duration::from_millis(10)).await;
        let under_way = |text: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix("push_publish_under_way_bytes ")?.parse::<f64>().ok())
        };
        let bytes = under_way(&scrape(&world)).unwrap();
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
        let left = under_way(&scrape(&world)).unwrap();
        assert!(left <= 0.0, "{path}: {left}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_publish_stream_is_told_and_ended_when_its_message_does_not_fit() {
    let world = World::new(Config::default().publishes_under_way(100, 4 << 20));
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
        let code = match status(&response) {
            Some(code) => Some(code),
            None if path.starts_with("/v1/") => (response.status() == 408).then_some(Code::DeadlineExceeded),
            None => {
                let body = response.into_body().collect().await.unwrap();
                Status::from_header_map(body.trailers().unwrap()).map(|status| status.code())
            }
        };
        let within = if path.ends_with("SubscribePush") { 5 } else { 30 };
        // A message larger than these take is refused at its prefix.
        let refused = matches!(code, Some(Code::OutOfRange | Code::InvalidArgument)) || path == reflection;
        assert!(code == Some(Code::DeadlineExceeded) || refused, "{path}: {code:?}");
        let elapsed = from.elapsed();
        assert!(refused || elapsed.as_secs() == within, "{path}: after {elapsed:?}");
    }
}
