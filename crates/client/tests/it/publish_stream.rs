//! Publishing without waiting for the answers, against the generated server with a script of what it does.

mod server;

use std::time::Duration;

use futures_util::future::{self};
use galaxy_push_client::{Failure, PublishStream};
use galaxy_push_proto::Reason;
use galaxy_push_proto::v1::{self};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};

use crate::hub::settle;

use server::{Reply, Server, event};

/// Sends one event per id without waiting, then tells what became of each: its position, `=` before a duplicate's.
async fn publish(stream: &PublishStream, ids: &str) -> String {
    let mut acks = Vec::new();
    for id in ids.split(' ') {
        acks.push(stream.send(vec![event(id)]).await.unwrap());
    }
    let mut text = Vec::new();
    for ack in acks {
        text.push(match timeout(Duration::from_secs(600), ack).await.expect("an answer") {
            Ok(published) => {
                let sign = if published[0].duplicate { "=" } else { "" };
                format!("{sign}{}", published[0].cursor)
            }
            Err(Failure::Status(status)) => format!("status {}", status.code),
            Err(failure) => failure.to_string(),
        });
    }
    text.join(" ")
}

fn overloaded(seconds: u64) -> Reply {
    let failure = galaxy_push_proto::Failure::new(Reason::Overloaded, "busy").code(Code::ResourceExhausted);
    Reply::End(failure.retry_after(Duration::from_secs(seconds)).status())
}

#[tokio::test(start_paused = true)]
async fn requests_go_out_without_waiting_for_answers() {
    let server = Server::new([Reply::Slow(1), Reply::Slow(1), Reply::Slow(1)]);
    let stream = server.stream();
    assert_eq!(publish(&stream, "a b c d").await, "1.0 1.1 1.2 1.3");
    assert_eq!(server.0.dials.lock().unwrap().len(), 1);
    let ack = stream.send(vec![event("e"), event("f")]).await.unwrap();
    let published = ack.await.unwrap();
    assert_eq!(published.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), ["e", "f"]);
    assert_eq!(server.log(), "a b c d e f");
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_connection_did_not_answer_is_sent_again_and_appended_once() {
    let server = Server::new([Reply::Accept, Reply::AcceptAndCut]);
    let stream = server.stream();
    assert_eq!(publish(&stream, "a b c").await, "1.0 =1.1 1.2");
    assert_eq!(server.log(), "a b c");
    assert_eq!(*server.0.dials.lock().unwrap(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_hub_is_given_the_time_it_asks_for() {
    let server = Server::new([Reply::Accept, overloaded(7)]);
    assert_eq!(publish(&server.stream(), "a b c").await, "1.0 1.1 1.2");
    assert_eq!(server.log(), "a b c");
    let seen = server.seen();
    let again: Vec<_> = seen.iter().filter(|(at, _)| *at > 0).map(|(at, ids)| (*at, ids.as_str())).collect();
    assert_eq!(again, [(7200, "b"), (7200, "c")], "7 s, and 200 ms of jitter: {seen:?}");
}

#[tokio::test(start_paused = true)]
async fn an_overload_told_per_request_pauses_the_stream_and_loses_nothing() {
    for code in [Code::ResourceExhausted, Code::Unavailable] {
        let server = Server::new([Reply::Accept, Reply::Results(code), Reply::Accept, Reply::Results(code)]);
        assert_eq!(publish(&server.stream(), "a b c").await, "1.0 1.2 1.1");
        assert_eq!(server.log(), "a c b");
        let b: Vec<_> = server.seen().into_iter().filter(|(_, ids)| ids == "b").map(|(at, _)| at).collect();
        assert_eq!(b, [0, 200, 400], "{code:?}");
        assert_eq!(server.0.dials.lock().unwrap().len(), 1, "the stream stays");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_good_is_told_and_the_rest_goes_on() {
    let server = Server::new([Reply::Accept, Reply::Results(Code::InvalidArgument)]);
    let stream = server.stream();
    assert!(stream.send(vec![event("a")]).await.unwrap().await.unwrap()[0].refusal.is_none());
    let refused = stream.send(vec![event("b")]).await.unwrap().await.unwrap();
    assert_eq!(refused[0].refusal.as_ref().unwrap().code, 3);

    let server = Server::new([Reply::Accept, Reply::End(Status::invalid_argument("too large"))]);
    assert_eq!(publish(&server.stream(), "a b c").await, "1.0 status 3 1.1", "the first one not answered");
    assert_eq!(server.log(), "a c");

    let refused = || Reply::End(Status::unauthenticated("who?"));
    let server = Server::new([refused(), refused()]); // at both hubs
    let stream = server.stream();
    assert_eq!(publish(&stream, "a b").await, "status 16 status 16");
    assert_eq!(publish(&stream, "c").await, "1.0", "it can be used again");
}

/// The fault: whoever gave a publish a time limit of its own was not told that it may be in two logs.
#[tokio::test(start_paused = true)]
async fn a_publish_whose_future_was_dropped_is_one_without_an_answer() {
    for (log, other_log) in [(2, true), (1, false)] {
        let server = Server::new([Reply::AppendTo(1), Reply::Slow(60), Reply::AppendTo(log)]);
        let mut publisher = server.builder().build().unwrap();
        publisher.publish(vec![event("first")]).await.unwrap();
        timeout(Duration::from_secs(1), publisher.publish(vec![event("a")])).await.unwrap_err();
        let published = publisher.publish(vec![event("a")]).await.unwrap();
        assert_eq!(published[0].other_log, other_log, "appended to log {log}");
    }
}

/// The fault: the first request of the calls was refused for what was wrong with one that was sent before it.
#[tokio::test(start_paused = true)]
async fn what_the_hub_finds_wrong_is_in_the_first_request_that_was_sent_and_not_answered() {
    let wrong = || Reply::End(Status::invalid_argument("no"));
    for first in [Reply::Refuse(Reason::Overloaded), Reply::Results(Code::Unavailable)] {
        let server = Server::new([first.clone(), wrong(), Reply::Accept]);
        assert_eq!(publish(&server.stream(), "a b").await, "1.0 status 3", "{first:?}");
        assert_eq!(server.log(), "a");
        let server = Server::new([first.clone(), Reply::Accept, wrong(), Reply::Accept]);
        assert_eq!(publish(&server.stream(), "a b c").await, "1.1 1.0 status 3", "{first:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_falls_silent_is_left_for_the_next() {
    let server = Server::new([Reply::Silence]);
    let before = Instant::now();
    assert_eq!(publish(&server.stream(), "a").await, "1.0");
    assert!((10..11).contains(&before.elapsed().as_secs()), "{:?}", before.elapsed());
    assert_eq!(*server.0.dials.lock().unwrap(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_answered_in_time_is_given_up_with_the_real_error() {
    let server = Server::new((0..100).map(|_| Reply::End(Status::unavailable("down"))));
    let stream = server.stream();
    let before = Instant::now();
    assert_eq!(publish(&stream, "a b").await, "status 14 status 14");
    assert_eq!(before.elapsed().as_secs(), 30);
    server.0.script.lock().unwrap().clear();
    assert_eq!(publish(&stream, "c").await, "1.0");
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_bound_is_in_flight() {
    let server = Server::new((0..100).map(|_| Reply::Slow(1)));
    let stream = server.builder().in_flight_bytes(4 * 1100).build().unwrap().stream();
    let mut acks = Vec::new();
    while let Ok(ack) = timeout(Duration::from_millis(10), stream.send(vec![event("same size")])).await {
        acks.push(ack.unwrap());
    }
    assert_eq!(acks.len(), 4);
    let ack = timeout(Duration::from_secs(2), stream.send(vec![event("later")])).await.unwrap().unwrap();
    drop(acks);
    assert!(ack.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_is_brought_to_its_answer_when_the_last_handle_is_gone() {
    let server = Server::new([Reply::Slow(1), Reply::AcceptAndCut]);
    let stream = server.stream();
    let acks = [stream.send(vec![event("a")]).await.unwrap(), stream.send(vec![event("b")]).await.unwrap()];
    drop(stream);
    let [a, b] = future::join_all(acks).await.try_into().unwrap();
    assert!(a.is_ok() && b.unwrap()[0].duplicate);
    settle().await;
    assert_eq!(server.log(), "a b");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_while_nothing_is_under_way_costs_nothing() {
    let server = Server::default();
    let stream = server.stream();
    assert_eq!(publish(&stream, "a").await, "1.0");
    server.0.cut.lock().unwrap().drain(..).for_each(|task| task.abort());
    sleep(Duration::from_secs(600)).await;
    assert_eq!(server.0.dials.lock().unwrap().len(), 1, "no dial without a need");
    let before = Instant::now();
    assert_eq!(publish(&stream, "b").await, "1.1");
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn who_sends_on_after_a_refusal_costs_the_hub_no_connection_each() {
    let server = Server::new((0..500).map(|_| Reply::End(Status::permission_denied("no"))));
    let stream = server.stream();
    let before = Instant::now();
    for id in 0..10 {
        let failure = stream.send(vec![event(&id.to_string())]).await.unwrap().await.unwrap_err();
        assert!(matches!(failure, Failure::Status(_)), "{failure}");
    }
    assert_eq!(server.0.dials.lock().unwrap().join(""), "ab".repeat(10), "each hub once for each of them");
    // 0.2, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10 s
    assert_eq!(before.elapsed().as_secs(), 32);
}

/// Whether these replies to one event, after one that told which log the hub holds, end with a second log being told. The
/// event is published until it is answered.
async fn tells_other_log(replies: Vec<Reply>) -> bool {
    let server = Server::new([Reply::AppendTo(1)].into_iter().chain(replies));
    let stream = server.builder().give_up_after(Duration::from_secs(5)).build().unwrap().stream();
    stream.send(vec![event("first")]).await.unwrap().await.unwrap();
    loop {
        if let Ok(published) = stream.send(vec![event("a")]).await.unwrap().await {
            let again = stream.send(vec![event("a")]).await.unwrap().await.unwrap();
            assert!(!again[0].other_log, "told once");
            return published[0].other_log;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_tells_of_another_log_whatever_left_the_event_without_an_answer() {
    let refused = || Reply::End(Status::unauthenticated("who?"));
    for unanswered in [
        vec![Reply::Silence],                      // given up while it was under way
        vec![Reply::AcceptAndCut, refused()],      // given up by a later stream
        vec![Reply::AcceptAndCut, Reply::Silence], // at two hubs
        vec![Reply::Results(Code::Unavailable)],   // answered, but nobody knows
        vec![Reply::Results(Code::Unavailable), refused()],
    ] {
        let replies = |log| [unanswered.clone(), vec![Reply::AppendTo(log), Reply::AppendTo(log)]].concat();
        assert!(tells_other_log(replies(2)).await, "{unanswered:?}");
    }
    for surely_not in [vec![], vec![refused()], vec![Reply::Results(Code::ResourceExhausted)]] {
        let replies = [surely_not.clone(), vec![Reply::AppendTo(2), Reply::AppendTo(2)]].concat();
        assert!(!tells_other_log(replies).await, "{surely_not:?}");
    }
    let same_log = vec![Reply::Results(Code::Unavailable), Reply::AppendTo(1), Reply::AppendTo(1)];
    assert!(!tells_other_log(same_log).await, "it was that very log");
}

fn events(ids: &str) -> Vec<v1::Event> {
    ids.split(' ').map(event).collect()
}

/// Requests as they came.
fn requests(server: &Server) -> Vec<String> {
    server.seen().into_iter().map(|(_, ids)| ids).collect()
}

/// What a store that appends two events at once at most makes of five.
fn takes_two() -> Server {
    let (large, fits) = (|| Reply::Refuse(Reason::BatchTooLarge), || Reply::Accept);
    Server::new([large(), fits(), large(), fits(), fits()])
}

const IN_PARTS: [&str; 5] = ["a b c d e", "a b", "c d e", "c", "d e"];

#[tokio::test(start_paused = true)]
async fn what_the_store_does_not_take_at_once_is_sent_in_parts_in_its_order() {
    let ids = |published: Vec<galaxy_push_client::Published>| {
        let each = published.into_iter().map(|event| format!("{} {}", event.id, event.cursor));
        each.collect::<Vec<_>>()
    };
    let expected = ["a 1.0", "b 1.1", "c 1.2", "d 1.3", "e 1.4"];
    let server = takes_two();
    let published = server.builder().build().unwrap().publish(events("a b c d e")).await.unwrap();
    assert_eq!(
        (ids(published), requests(&server)),
        (expected.map(Into::into).into(), IN_PARTS.map(Into::into).into())
    );
    let server = takes_two();
    let stream = server.stream();
    let published = stream.send(events("a b c d e")).await.unwrap().await.unwrap();
    assert_eq!(
        (ids(published), requests(&server)),
        (expected.map(Into::into).into(), IN_PARTS.map(Into::into).into())
    );
    assert_eq!(publish(&stream, "f").await, "1.5", "and the stream goes on");
}

#[tokio::test(start_paused = true)]
async fn a_part_that_is_lost_is_sent_again_and_appended_once() {
    let script = || [Reply::Refuse(Reason::BatchTooLarge), Reply::Accept, Reply::AcceptAndCut];
    for unary in [false, true] {
        let server = Server::new(script());
        let published = if unary {
            server.builder().build().unwrap().publish(events("a b c d")).await.unwrap()
        } else {
            server.stream().send(events("a b c d")).await.unwrap().await.unwrap()
        };
        let duplicates: Vec<_> = published.iter().map(|event| event.duplicate).collect();
        assert_eq!(duplicates, [false, false, true, true], "unary: {unary}");
        assert_eq!((server.log(), requests(&server).len()), ("a b c d".into(), 4));
    }
}

#[tokio::test(start_paused = true)]
async fn one_event_that_the_store_does_not_take_is_refused_and_a_part_that_is_says_which_event() {
    let large = || Reply::Refuse(Reason::BatchTooLarge);
    let server = Server::new([large(), large()]);
    let failure = server.builder().build().unwrap().publish(events("a")).await.unwrap_err();
    assert!(failure.is_batch_too_large(), "{failure}");
    let refused = server.stream().send(events("a")).await.unwrap().await.unwrap();
    assert_eq!(refused[0].refusal.as_ref().map(|refusal| refusal.reason.as_str()), Some("BATCH_TOO_LARGE"));
    assert_eq!(requests(&server), ["a", "a"]);

    let server = Server::new([large(), Reply::Accept, Reply::Refuse(Reason::IdReused)]);
    let failure = server.builder().build().unwrap().publish(events("a b c d")).await.unwrap_err();
    assert!(matches!(&failure, Failure::Status(status) if status.message == "events[2]: no"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_to_a_hub_that_cannot_reach_its_store_goes_on_at_the_next() {
    let server = Server::new([Reply::Accept, Reply::Refuse(Reason::StoreUnavailable)]);
    assert_eq!(publish(&server.stream(), "a b").await, "1.0 1.1");
    assert_eq!(*server.0.dials.lock().unwrap(), ["a", "b"]);
}
