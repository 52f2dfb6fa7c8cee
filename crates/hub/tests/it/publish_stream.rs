//! `PublishStream`: requests in a row, answers in the same order, refusals that do not end the stream.

use std::time::Duration;

use galaxy_push_hub::Config;
use galaxy_push_proto::v1::publisher_client::PublisherClient;
use galaxy_push_proto::v1::{Event, PublishRequest, PublishResponse};
use galaxy_push_proto::{Failure, Reason};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::services::scrape;
use crate::stores;
use crate::world::{World, at, event};

/// An open stream of requests.
struct Publishing {
    requests: mpsc::Sender<PublishRequest>,
    answers: Streaming<PublishResponse>,
}

impl Publishing {
    async fn open(world: &World) -> Self {
        let (requests, receiver) = mpsc::channel(1_000);
        let mut client = PublisherClient::new(world.connection());
        let answers = client.publish_stream(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Self { requests, answers }
    }

    async fn send(&self, request_id: u64, events: Vec<Event>) {
        self.requests.send(PublishRequest { events, request_id, namespace: String::new() }).await.unwrap();
    }

    async fn answer(&mut self) -> Result<String, Status> {
        let answer = self.answers.message().await?.expect("an answer");
        let results = answer.results.iter().map(|result| match (result.code, &*result.reason) {
            (0, "") if result.duplicate => format!("{}{} again", result.id, at(&result.cursor)),
            (0, "") => format!("{}{}", result.id, at(&result.cursor)),
            (code, reason) => {
                assert!(result.cursor.is_empty());
                format!("{}:{:?} {reason}", result.id, Code::from(code)).trim_end().to_owned()
            }
        });
        Ok(format!("{}: {}", answer.request_id, results.collect::<Vec<_>>().join(", ")))
    }
}

#[tokio::test(start_paused = true)]
async fn answers_come_in_the_order_of_the_requests() {
    let world = World::new(Config::default());
    let mut publishing = Publishing::open(&world).await;
    publishing.send(7, vec![event("a"), event("b")]).await;
    publishing.send(3, vec![event("b"), Event { ephemeral: true, ..event("c") }, event("d")]).await;
    publishing.send(8, vec![]).await;
    assert_eq!(publishing.answer().await.unwrap(), "7: a@1, b@2");
    assert_eq!(publishing.answer().await.unwrap(), "3: b@2 again, c@\"\", d@3");
    assert_eq!(publishing.answer().await.unwrap(), "8: ");
    drop(publishing.requests);
    assert!(publishing.answers.message().await.unwrap().is_none(), "it ends when the publisher does");
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_is_answered_and_the_stream_goes_on() {
    let world = World::new(Config::default());
    let mut publishing = Publishing::open(&world).await;
    let bad = Event { to: vec!["group:1".into()], ..event("bad") };
    let large = Event { data: vec![b'1'; (64 << 10) + 1].into(), ..event("large") };
    publishing.send(1, vec![event("a"), bad, event("b")]).await;
    publishing.send(2, vec![large]).await;
    let elsewhere = PublishRequest { events: vec![event("c")], request_id: 3, namespace: "other".into() };
    publishing.requests.send(elsewhere).await.unwrap();
    let nothing = PublishRequest { events: vec![], request_id: 4, namespace: "other".into() };
    publishing.requests.send(nothing).await.unwrap();
    publishing.send(5, vec![event("a")]).await;
    for expected in [
        "1: a:Aborted, bad:InvalidArgument RECIPIENT_INVALID, b:Aborted",
        "2: large:InvalidArgument EVENT_TOO_LARGE",
        "3: c:NotFound REQUEST_INVALID",
        "4: :NotFound REQUEST_INVALID",
        "5: a@1",
    ] {
        assert_eq!(publishing.answer().await.unwrap(), expected);
    }
    publishing.send(6, (0..1_001).map(|i| event(&i.to_string())).collect()).await;
    let answer = publishing.answers.message().await.unwrap().unwrap();
    assert_eq!(answer.results.len(), 1_001);
    assert!(answer.results.iter().all(|result| result.code == Code::InvalidArgument as i32));
    assert_eq!(world.hub.log_dump().len(), 1);
    assert!(scrape(&world).contains("push_publish_refused_total{reason=\"REQUEST_INVALID\"} 3\n"));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_read_ends_the_stream_after_what_came_before() {
    let world = World::new(Config::default());
    let mut publishing = Publishing::open(&world).await;
    publishing.send(1, vec![event("a")]).await;
    let huge = Event { data: vec![b'1'; 4 << 20].into(), ..event("huge") };
    publishing.send(2, vec![huge]).await;
    assert_eq!(publishing.answer().await.unwrap(), "1: a@1");
    let failure = Failure::of(&publishing.answer().await.unwrap_err());
    assert_eq!((failure.code, failure.reason), (Code::InvalidArgument, Some(Reason::RequestInvalid)));
    assert!(failure.message.contains("split the batch"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn requests_are_appended_in_their_order_however_slow_the_store() {
    let (world, go) = stores::slow(Config::default());
    let mut publishing = Publishing::open(&world).await;
    for i in 0..10 {
        publishing.send(i, vec![event(&format!("{i}a")), event(&format!("{i}b"))]).await;
    }
    sleep(Duration::from_secs(1)).await;
    assert!(scrape(&world).contains("push_publishes_under_way 10.0\n"));
    go.add_permits(10);
    for i in 0..10u64 {
        let expected = format!("{i}: {i}a@{}, {i}b@{}", 2 * i + 1, 2 * i + 2);
        assert_eq!(publishing.answer().await.unwrap(), expected);
    }
    let metrics = scrape(&world);
    assert!(metrics.contains("push_publishes_under_way 0.0\n"), "{metrics}");
    assert!(metrics.contains("push_publish_under_way_bytes 0.0\n"));
}

/// A publisher that sends and sends makes the hub hold a bounded number of requests, and a bounded number of bytes.
#[tokio::test(start_paused = true)]
async fn what_one_stream_has_under_way_is_bounded() {
    for (data, in_flight) in [(1, 64), (900 << 10, 5)] {
        let (world, go) = stores::slow(Config::default().event_bytes_max(1 << 20));
        let mut publishing = Publishing::open(&world).await;
        for i in 0..100 {
            let event = Event { data: vec![b'1'; data].into(), ..event(&i.to_string()) };
            publishing.send(i, vec![event]).await;
        }
        sleep(Duration::from_secs(1)).await;
        let metrics = scrape(&world);
        assert!(metrics.contains(&format!("push_publishes_under_way {in_flight}.0\n")), "{metrics}");
        go.add_permits(100);
        for i in 0..100u64 {
            assert_eq!(publishing.answer().await.unwrap(), format!("{i}: {i}@{}", i + 1));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_answers_what_is_under_way_and_ends_the_stream() {
    let (world, go) = stores::slow(Config::default());
    let mut publishing = Publishing::open(&world).await;
    let mut idle = Publishing::open(&world).await;
    publishing.send(1, vec![event("a")]).await;
    sleep(Duration::from_millis(10)).await;
    let hub = world.hub.clone();
    let drain = tokio::spawn(async move { hub.drain(Duration::from_secs(10)).await });
    sleep(Duration::from_millis(10)).await;
    go.add_permits(1);
    assert_eq!(publishing.answer().await.unwrap(), "1: a@1");
    for publishing in [&mut publishing, &mut idle] {
        let failure = Failure::of(&publishing.answer().await.unwrap_err());
        assert_eq!((failure.code, failure.reason), (Code::Unavailable, Some(Reason::Draining)));
        assert!(failure.retry_after.is_some());
    }
    drain.await.unwrap();
    let late = PublisherClient::new(world.connection()).publish_stream(tokio_stream::empty()).await;
    assert_eq!(Failure::of(&late.map(|_| ()).unwrap_err()).reason, Some(Reason::Draining));
}
