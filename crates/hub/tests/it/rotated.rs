//! Tokens that are replaced or taken out while what they opened is open, and peers that do not take their end.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use galaxy_push_hub::{Access, Config, Fingerprint, Hub, Identity, Role};
use galaxy_push_proto::v1::push_client::PushClient;
use galaxy_push_proto::v1::{GatewayReport, PublishRequest, PublishResponse};
use galaxy_push_proto::{Failure, Reason};
use http::Request;
use http_body_util::BodyExt as _;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tower::ServiceExt as _;

use crate::world::{World, ambient, event, framed, from};

fn backend() -> Identity {
    Identity::new("backend", Role::Publisher)
}

fn gw() -> Identity {
    Identity::new("gw", Role::Gateway)
}

fn access(identities: impl IntoIterator<Item = (Identity, &'static str)>) -> Access {
    identities.into_iter().fold(Access::open(), |access, (identity, token)| {
        access.with(identity, Some(Fingerprint::of(token))).unwrap()
    })
}

fn world(first: Access) -> World {
    World::over(Hub::in_memory(Config::default().access(first), ambient()).unwrap())
}

fn batch(id: &str) -> Vec<u8> {
    framed(&PublishRequest { events: vec![event(id)], ..Default::default() })
}

/// A request that stays open: what is sent goes out as it is.
fn open(token: &str, path: &str, first: Vec<u8>) -> (mpsc::Sender<Vec<u8>>, Request<Body>) {
    let (sender, parts) = mpsc::channel(64);
    sender.try_send(first).unwrap();
    let body = Body::from_stream(ReceiverStream::new(parts).map(Ok::<_, Infallible>));
    let request = Request::post(path).header("content-type", "application/grpc");
    (sender, request.header("authorization", format!("Bearer {token}")).body(body).unwrap())
}

/// How an answer ends, and after how long; `None`: not within a minute.
async fn end(world: &World, request: Request<Body>) -> Option<(Duration, Failure)> {
    let (began, router) = (Instant::now(), world.hub.router());
    let reading = async move {
        let response = router.oneshot(request).await.unwrap();
        let headers = response.headers().clone();
        let body = response.into_body().collect().await.unwrap();
        Failure::of(&Status::from_header_map(body.trailers().unwrap_or(&headers)).unwrap())
    };
    let failure = timeout(Duration::from_secs(60), reading).await.ok()?;
    Some((began.elapsed(), failure))
}

/// Opens everything that stays open, and changes the access behind it.
async fn ends_after(change: Access) -> [Option<(Duration, Failure)>; 3] {
    let world = world(access([(backend(), "publishes"), (gw(), "reads")]));
    let report = GatewayReport { gateway_client_id: "gw".into(), ..Default::default() };
    // The other senders are held, so that no request ends by itself.
    let (reads_sender, reads) = open("reads", "/push.v1.Push/SubscribePush", framed(&from("gw", "")));
    drop(reads_sender);
    let (_reports_sender, reports) = open("reads", "/push.v1.Push/Report", framed(&report));
    let (_publishes_sender, publishes) = open("publishes", "/push.v1.Publisher/PublishStream", batch("a"));
    let changing = async {
        sleep(Duration::from_secs(1)).await;
        world.hub.set_access(change);
    };
    let (reads, reports, publishes, ()) =
        tokio::join!(end(&world, reads), end(&world, reports), end(&world, publishes), changing);
    [reads, reports, publishes]
}

/// The fault: a token that had been rotated after a leak kept its streams for as long as the identity was there, and
/// reports and idle publish streams were not ended at all.
#[tokio::test(start_paused = true)]
async fn what_was_opened_with_a_token_ends_with_it() {
    for (what, change) in [
        ("rotated", access([(backend(), "publishes-2"), (gw(), "reads-2")])),
        ("swapped", access([(backend(), "reads"), (gw(), "publishes")])),
        ("removed", access([(Identity::new("other", Role::Operator), "other")])),
    ] {
        for (stream, end) in ["reads", "reports", "publishes"].into_iter().zip(ends_after(change).await) {
            let (after, failure) = end.unwrap_or_else(|| panic!("{what}: {stream} stays open"));
            assert_eq!(failure.code, Code::Unavailable, "{what}: {stream}: {failure:?}");
            // A reason says that the hub refused, so that no publisher takes it for an unknown outcome.
            assert_eq!(failure.reason, Some(Reason::NotGranted), "{what}: {stream}");
            assert!(after < Duration::from_secs(3), "{what}: {stream} ended after {after:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_opened_with_a_token_that_is_as_before_stays() {
    let same =
        access([(gw(), "reads"), (backend(), "publishes"), (Identity::new("new", Role::Gateway), "3")]);
    assert_eq!(ends_after(same).await.map(|end| end.is_none()), [true; 3]);
}

/// The fault: each SIGHUP gave an open publish stream its old rate beside the new one.
#[tokio::test(start_paused = true)]
async fn a_reload_gives_nobody_a_second_rate() {
    let limited = |rate| access([(backend().events_per_second(rate), "publishes"), (gw(), "reads")]);
    let world = world(limited(2));
    let (sender, request) = open("publishes", "/push.v1.Publisher/PublishStream", batch("a"));
    let mut answers = world.hub.router().oneshot(request).await.unwrap().into_body();
    let mut answer = async || {
        let data = answers.frame().await.unwrap().unwrap().into_data().unwrap();
        PublishResponse::decode(&data[5..]).unwrap().results[0].code
    };
    assert_eq!(answer().await, 0);
    world.hub.set_access(limited(2));
    sender.send(batch("b")).await.unwrap();
    assert_eq!(answer().await, 0);
    world.hub.set_access(limited(2));
    sender.send(batch("c")).await.unwrap();
    assert_eq!(answer().await, Code::ResourceExhausted as i32, "two a second, and this is the third");
    // Nor is a new limit a new beginning.
    world.hub.set_access(limited(3));
    let (_sender, request) = open("publishes", "/push.v1.Publisher/PublishStream", batch("c"));
    let mut answers = world.hub.router().oneshot(request).await.unwrap().into_body();
    let data = answers.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(PublishResponse::decode(&data[5..]).unwrap().results[0].code, 0, "one more than before");
}

/// Its window is closed, so no end of the stream can be sent: the connection ends.
#[tokio::test(start_paused = true)]
async fn who_may_not_stay_and_takes_no_end_is_cut_off() {
    let world = world(access([(backend(), "publishes"), (gw(), "reads")]));
    let mut subscribe = tonic::Request::new(from("gw", ""));
    subscribe.metadata_mut().insert("authorization", "Bearer reads".parse().unwrap());
    let mut client = PushClient::new(world.connection()).max_decoding_message_size(8 << 20);
    let stream = client.subscribe_push(subscribe).await.unwrap().into_inner();
    world.flood(200).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.hub.status().streams.len(), 1, "a slow reader is no reason");
    world.hub.set_access(access([(backend(), "publishes"), (gw(), "reads-2")]));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(world.hub.status().streams.len(), 1, "it has a moment to take the end");
    sleep(Duration::from_secs(6)).await;
    assert_eq!(world.hub.status().streams.len(), 0);
    drop(stream);
}
