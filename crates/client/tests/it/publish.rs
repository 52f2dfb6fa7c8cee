//! The publisher sends until it is answered.

use std::time::Duration;

use galaxy_push_client::{Failure, Publisher, PublisherBuilder};
use galaxy_push_core::cursor::{Cursor, Epoch, Seq};
use galaxy_push_proto::Reason;
use galaxy_push_proto::v1::{self, PublishRequest};
use prost::Message;
use tokio::time::Instant;
use tonic::Code;

use crate::hub::{Dial, Hub, Step, code, status};

fn publisher(hub: &Hub) -> Publisher {
    builder(hub).build().unwrap()
}

fn builder(hub: &Hub) -> PublisherBuilder {
    Publisher::builder().hub("http://hub,http://b").connector(hub.connector()).random(|| u64::MAX)
}

fn answer(message: &impl Message) -> Dial {
    let mut framed = vec![0; 5];
    framed[4] = message.encoded_len() as u8;
    framed.extend(message.encode_to_vec());
    Dial::Serve(vec![Step::Send(framed), code(Code::Ok)])
}

fn accepted(id: &str) -> v1::PublishResult {
    v1::PublishResult { id: id.into(), cursor: "1.x".into(), ..Default::default() }
}

fn event(id: &str) -> v1::Event {
    v1::Event { id: id.into(), ..Default::default() }
}

#[tokio::test(start_paused = true)]
async fn sends_the_same_ids_until_it_is_answered() {
    let refused =
        v1::PublishResult { id: "b".into(), code: 3, reason: "EVENT_TOO_LARGE".into(), ..Default::default() };
    let hub = Hub::new([
        Dial::Refused,
        Dial::Serve(vec![Step::Cut]),
        Dial::Serve(vec![code(Code::Unavailable)]),
        answer(&v1::PublishResponse { results: vec![accepted("a"), refused], request_id: 0 }),
    ]);
    let published = publisher(&hub).publish(vec![event("a"), event("b")]).await.unwrap();
    assert_eq!(published.len(), 2);
    assert_eq!(hub.dialed_hosts(), ["hub", "b", "hub", "b"]);
    let ids = |request: PublishRequest| request.events.into_iter().map(|event| event.id).collect::<String>();
    assert_eq!(hub.requests().into_iter().map(ids).collect::<Vec<_>>(), ["ab", "ab", "ab"]);
}

#[tokio::test(start_paused = true)]
async fn tells_what_became_of_each_event() {
    let refused =
        v1::PublishResult { id: "b".into(), code: 3, reason: "EVENT_TOO_LARGE".into(), ..Default::default() };
    let response = v1::PublishResponse { results: vec![accepted("a"), refused], request_id: 0 };
    let hub = Hub::new([Dial::Refused, answer(&response)]);
    let mut publisher = publisher(&hub);
    for _ in 0..2 {
        let published = publisher.publish(vec![event("a"), event("b")]).await.unwrap();
        assert_eq!((published[0].id.as_str(), published[0].cursor.as_str()), ("a", "1.x"));
        assert_eq!(published[0].refusal, None);
        let refusal = published[1].refusal.as_ref().unwrap();
        assert_eq!((refusal.code, refusal.reason.as_str()), (3, "EVENT_TOO_LARGE"));
    }
    assert_eq!(hub.dialed_hosts(), ["hub", "b"], "the second call uses the connection of the first");
    let failure = publisher.publish(vec![event("a")]).await.unwrap_err();
    assert!(matches!(failure, Failure::Protocol(_)), "two results for one event");
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_hub_is_given_the_time_it_asks_for() {
    let overloaded =
        galaxy_push_proto::Failure::new(Reason::Overloaded, "busy").code(Code::ResourceExhausted);
    let hub = Hub::new([Dial::Serve(vec![status(&overloaded.retry_after(Duration::from_secs(7)))])]);
    let before = Instant::now();
    let mut publisher = builder(&hub).give_up_after(Duration::from_secs(20)).build().unwrap();
    publisher.publish(vec![event("a")]).await.unwrap_err();
    assert_eq!(before.elapsed(), Duration::from_millis(14_400), "7.2 s, twice; the third would be too late");
    let ids = hub.requests::<PublishRequest>().into_iter().map(|request| request.events[0].id.clone());
    assert_eq!(ids.collect::<Vec<_>>(), ["a"; 3]);
}

#[tokio::test(start_paused = true)]
async fn records_are_appended_and_answered_with_their_position() {
    let response = v1::RecordResponse { cursor: "1.x".into(), duplicate: false };
    let hub = Hub::new([Dial::Refused, answer(&response)]);
    let mut publisher = publisher(&hub);
    let invalidation = v1::SessionInvalidation { recipient: "user:42".into(), ..Default::default() };
    let invalidated = publisher.invalidate(invalidation.clone()).await.unwrap();
    assert_eq!((invalidated.cursor.as_str(), invalidated.issued_before.as_str()), ("1.x", ""));
    let member = v1::Membership { recipient: "user:42".into(), topic: "a".into(), ..Default::default() };
    assert_eq!(publisher.set_memberships(vec![member.clone()]).await.unwrap(), "1.x");
    let asked = hub.request::<v1::InvalidateRequest>(0);
    assert_eq!(asked.invalidation, Some(invalidation));
    assert_eq!(hub.request::<v1::SetMembershipRequest>(1).memberships, [member]);
    assert_eq!(hub.paths(), ["/push.v1.Publisher/Invalidate", "/push.v1.Publisher/SetMembership"]);
}

#[tokio::test(start_paused = true)]
async fn stops_at_a_refusal() {
    // What is wrong with the request is wrong everywhere; who is not let in here may be let in there.
    for (refused, hubs) in [
        (Code::Unauthenticated, 2),
        (Code::PermissionDenied, 2),
        (Code::InvalidArgument, 1),
        (Code::AlreadyExists, 1),
        (Code::Unimplemented, 2),
    ] {
        let hub = Hub::new((0..hubs).map(|_| Dial::Serve(vec![code(refused)])));
        let before = Instant::now();
        let mut publisher = builder(&hub).give_up_after(Duration::from_secs(600)).build().unwrap();
        let failure = publisher.publish(vec![event("a")]).await.unwrap_err();
        assert!(matches!(failure, Failure::Status(status) if status.code == refused as i32));
        assert_eq!((before.elapsed(), hub.dial_times().len()), (Duration::ZERO, hubs), "{refused:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_does_not_let_it_in_costs_no_time_where_another_does() {
    for closed in [Dial::Refused, Dial::Serve(vec![code(Code::PermissionDenied)])] {
        let hub =
            Hub::new([closed, answer(&v1::PublishResponse { results: vec![accepted("a")], request_id: 0 })]);
        let before = Instant::now();
        let published = publisher(&hub).publish(vec![event("a")]).await.unwrap();
        assert_eq!((published[0].cursor.as_str(), before.elapsed()), ("1.x", Duration::ZERO));
        assert_eq!(hub.dialed_hosts(), ["hub", "b"]);
    }
    // A refusal is the answer where the others are not there.
    let hub = Hub::new([Dial::Serve(vec![code(Code::PermissionDenied)]), Dial::Refused]);
    let failure = publisher(&hub).publish(vec![event("a")]).await.unwrap_err();
    assert!(matches!(failure, Failure::Status(_)), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn gives_up_in_time_with_the_real_error() {
    let hub = Hub::new((0..100).map(|_| Dial::Refused));
    let before = Instant::now();
    let mut publisher = publisher(&hub);
    let call = tokio::time::timeout(Duration::from_secs(60), publisher.publish(vec![event("a")]));
    let failure = call.await.unwrap().unwrap_err();
    assert!(matches!(failure, Failure::Unreachable(_)), "{failure}");
    assert_eq!(before.elapsed(), Duration::from_secs(30), "neither before nor after");
    let waits = hub.dial_times();
    assert!((16..24).contains(&waits.len()), "two hubs in each round: {waits:?}");
    assert_eq!(waits.last(), Some(&30.0), "the last try is made at the end: {waits:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_may_not_come_back_in_time_is_told_at_once() {
    let overloaded =
        galaxy_push_proto::Failure::new(Reason::Overloaded, "busy").code(Code::ResourceExhausted);
    let hub = Hub::new([Dial::Serve(vec![status(&overloaded.retry_after(Duration::from_secs(40)))])]);
    let before = Instant::now();
    let failure = publisher(&hub).publish(vec![event("a")]).await.unwrap_err();
    assert!(failure.to_string().contains("OVERLOADED"), "{failure}");
    assert_eq!((before.elapsed(), hub.dial_times().len()), (Duration::ZERO, 1));
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_hangs_is_left_for_the_next() {
    let response =
        v1::HeadResponse { cursor: "c".into(), oldest: "o".into(), epoch: "e".into(), stale: false };
    let hub = Hub::new([Dial::Hang, Dial::Serve(vec![Step::Ignore]), answer(&response)]);
    let head = publisher(&hub).head().await.unwrap();
    assert_eq!((head.cursor.as_str(), head.oldest.as_str(), head.epoch.as_str()), ("c", "o", "e"));
    assert_eq!(hub.dialed_hosts(), ["hub", "b", "hub"]);
}

/// docs/semantics.md: UNAVAILABLE without a reason is an unknown outcome, with one a refusal. Two doors to two logs show it.
#[tokio::test(start_paused = true)]
async fn what_is_unavailable_without_a_reason_may_be_in_another_log_and_what_is_refused_is_not() {
    let refused = |reason| galaxy_push_proto::Failure::new(reason, "no").code(Code::Unavailable);
    let unknown = galaxy_push_proto::Failure::without_reason(Code::Unavailable, "nothing within 30 s");
    for (first, in_doubt) in [
        (unknown, true),
        (refused(Reason::NotGranted), false), // the credentials have changed while it was connected
        (refused(Reason::StoreUnavailable), false),
        (refused(Reason::Draining), false),
        (refused(Reason::Overloaded), false),
    ] {
        let cursor = Cursor { epoch: Epoch(2), seq: Seq(1) }.to_string();
        let results = vec![v1::PublishResult { id: "a".into(), cursor, ..Default::default() }];
        let answered = answer(&v1::PublishResponse { results, request_id: 0 });
        let hub = Hub::new([Dial::Serve(vec![status(&first)]), answered]);
        let published = publisher(&hub).publish(vec![event("a")]).await.unwrap();
        assert_eq!(hub.dialed_hosts(), ["hub", "b"], "{first}");
        assert_eq!(published[0].other_log, in_doubt, "{first}");
    }
}

#[tokio::test(start_paused = true)]
async fn publishing_can_be_spawned() {
    let hub = Hub::new([answer(&v1::PublishResponse { results: vec![accepted("a")], request_id: 0 })]);
    let mut publisher = publisher(&hub);
    let published = tokio::spawn(async move { publisher.publish(vec![event("a")]).await }).await.unwrap();
    assert_eq!(published.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_record_keeps_its_id_over_retries_and_another_call_has_another() {
    let response = v1::RecordResponse { cursor: "2.x".into(), duplicate: false };
    let away = || Dial::Serve(vec![code(Code::Unavailable)]);
    let hub = Hub::new([away(), away(), answer(&response), away(), answer(&response)]);
    let mut number = 0;
    let counted = move || {
        number += 1;
        number
    };
    let mut publisher = builder(&hub).random(counted).build().unwrap();
    let invalidation = v1::SessionInvalidation { recipient: "user:42".into(), ..Default::default() };
    publisher.invalidate(invalidation.clone()).await.unwrap();
    publisher.invalidate(invalidation).await.unwrap();
    let asked = hub.requests::<v1::InvalidateRequest>();
    let ids: Vec<_> = asked.iter().map(|asked| &*asked.id).collect();
    assert!(ids[0].len() == 32 && asked.iter().all(|asked| !asked.source.is_empty()), "{asked:?}");
    let (first, second) = ids.split_at(3);
    assert!(first.iter().all(|id| *id == first[0]), "two tries in vain and one answered: {ids:?}");
    assert!(!second.is_empty() && second.iter().all(|id| *id == second[0] && *id != first[0]), "{ids:?}");
}
