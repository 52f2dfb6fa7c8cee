//! Several hosts that are asked which log they hold, and where it stands.

use std::time::Duration;

use galaxy_push_client::{Door, Failure, PushClient, State};
use galaxy_push_core::cursor::{Cursor, Epoch, Seq};
use galaxy_push_proto::v1::{self, push_event::Kind};
use galaxy_push_proto::{Failure as Told, Reason};
use prost::Message as _;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

use crate::hub::{
    Dial, Hub, Notes, Step, at, caught_up, code, frame, heartbeats, seconds, status, until, welcome,
};

/// The answer of a host that holds this log, up to position 9.
fn holds(epoch: u128) -> Vec<Step> {
    let cursor = Cursor { epoch: Epoch(epoch), seq: Seq(9) }.to_string();
    answers(&v1::HeadResponse { cursor, epoch: Epoch(epoch).to_string(), ..Default::default() })
}

fn answers(head: &v1::HeadResponse) -> Vec<Step> {
    let mut framed = vec![0; 5];
    framed[4] = head.encoded_len() as u8;
    framed.extend(head.encode_to_vec());
    vec![Step::Send(framed), code(Code::Ok)]
}

/// The same, of a host that cannot reach its store.
fn is_stale(epoch: u128) -> Vec<Step> {
    let cursor = Cursor { epoch: Epoch(epoch), seq: Seq(7) }.to_string();
    answers(&v1::HeadResponse { cursor, epoch: Epoch(epoch).to_string(), stale: true, ..Default::default() })
}

/// A client that follows log 1 at the first of two hosts.
async fn live(hub: &Hub) -> PushClient {
    let client = hub.client().hub("http://b").start(Notes::default().handler()).unwrap();
    until(&client, |status| status.state == State::Live).await;
    client
}

fn hub() -> Hub {
    let steps = [vec![welcome(&at(5)), caught_up(5)], heartbeats(5, 99)].concat();
    let hub = Hub::new([Dial::Serve(steps)]).of_several();
    hub.says("hub", holds(1));
    hub
}

#[tokio::test(start_paused = true)]
async fn a_door_that_hangs_does_not_hide_the_head_that_another_one_knows() {
    let hub = hub();
    hub.says("b", holds(1));
    let client = live(&hub).await;
    hub.says("hub", vec![Step::Ignore]);
    for _ in 0..3 {
        let before = Instant::now();
        let head = timeout(Duration::from_secs(1), client.head()).await.expect("an answer in time").unwrap();
        assert_eq!((head.cursor, before.elapsed()), (at(9), Duration::from_millis(300)));
    }
    // Another log has no say but at the client's own door.
    hub.says("b", holds(2));
    assert!(timeout(Duration::from_secs(1), client.head()).await.is_err());
    hub.says("hub", vec![code(Code::Unavailable)]);
    assert!(client.head().await.is_err());
    for other in [2, 3] {
        hub.says("hub", holds(other));
        assert_eq!(client.head().await.unwrap().epoch, Epoch(other).to_string());
    }
    hub.says("b", holds(1));
    assert_eq!(client.head().await.unwrap().cursor, at(9));
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_is_asked_too_often_is_not_silent() {
    let hub = hub();
    hub.says("b", vec![code(Code::ResourceExhausted)]);
    let client = live(&hub).await;
    until(&client, |status| status.doors.get(1) == Some(&Door::Mute)).await;
    hub.says("b", holds(2));
    until(&client, |status| status.doors[1].epoch().is_some()).await;
    hub.says("b", vec![code(Code::ResourceExhausted)]);
    sleep(Duration::from_secs(120)).await;
    let doors = client.status().borrow().doors.clone();
    assert_eq!(doors[1], Door::Holds(Epoch(2).to_string().into()), "what it was known to hold");
}

#[tokio::test(start_paused = true)]
async fn the_connection_over_which_the_hub_answered_becomes_that_of_the_stream() {
    let hub = hub();
    hub.says("b", holds(1));
    let client = live(&hub).await;
    assert_eq!((hub.opened(), client.status().borrow().counters.dials), (2, 1), "one for each hub");
}

/// It holds the log, but lets nobody in: asked again and again, it would be gone to each time.
#[tokio::test(start_paused = true)]
async fn a_hub_that_drains_is_no_door() {
    let hub = hub();
    hub.says("b", holds(1));
    let draining = Told::new(Reason::Draining, "it drains").retry_after(Duration::from_secs(1));
    hub.says("hub", vec![status(&draining)]);
    let client = live(&hub).await;
    assert_eq!(hub.dialed_hosts(), ["b"]);
    assert!(matches!(client.status().borrow().doors[0], Door::Silent(_)));
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_cannot_reach_its_store_does_not_say_where_the_log_stands() {
    let hub = hub();
    hub.says("b", holds(1));
    let client = live(&hub).await;
    hub.says("hub", is_stale(1));
    assert_eq!(client.head().await.unwrap().cursor, at(9), "the other one can");
    hub.says("b", is_stale(1));
    assert_eq!(client.head().await, Err(Failure::Stale), "nobody is sent back by what a hub has itself");
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_cannot_reach_its_store_for_long_is_left_for_one_that_can() {
    let beat = [seconds(5), stale(5)];
    let beats = beat.iter().cycle().take(2 * 99).cloned();
    let steps = [welcome(&at(5)), caught_up(5)].into_iter().chain(beats).collect();
    let hub = Hub::new([Dial::Serve(steps)]).of_several();
    hub.says("hub", holds(1));
    hub.says("b", is_stale(1));
    let client = live(&hub).await;
    hub.says("hub", is_stale(1));
    until(&client, |status| status.stale_since.is_some()).await;
    let begun = Instant::now();
    sleep(Duration::from_secs(120)).await;
    assert_eq!(client.status().borrow().counters.streams, 1, "no other is better");
    assert!(client.stale_for().is_some_and(|lasts| lasts >= Duration::from_secs(120)));
    hub.then([Dial::Serve([vec![welcome(&at(5)), caught_up(5)], heartbeats(5, 99)].concat())]);
    hub.says("b", holds(1));
    until(&client, |status| status.counters.streams == 2 && status.state == State::Live).await;
    assert!(begun.elapsed() < Duration::from_secs(120 + 16), "{:?}", begun.elapsed());
    let status = client.status().borrow().clone();
    assert_eq!((status.door, status.stale_since, client.stale_for()), (Some(1), None, None));
}

/// What a host says that cannot reach its store.
fn stale(seq: u64) -> Step {
    frame(&at(seq), Kind::Progress(v1::Progress { stale: true }))
}
