//! Several hosts that are asked which log they hold, and where it stands.

use std::time::Duration;

use galaxy_push_client::{Door, PushClient, State};
use galaxy_push_core::cursor::{Cursor, Epoch, Seq};
use galaxy_push_proto::{Failure, Reason, v1};
use prost::Message as _;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

use crate::hub::{Dial, Hub, Notes, Step, at, caught_up, code, heartbeats, status, until, welcome};

/// The answer of a host that holds this log, up to position 9.
fn holds(epoch: u128) -> Vec<Step> {
    let cursor = Cursor { epoch: Epoch(epoch), seq: Seq(9) }.to_string();
    let head = v1::HeadResponse { cursor, epoch: Epoch(epoch).to_string(), ..Default::default() };
    let mut framed = vec![0; 5];
    framed[4] = head.encoded_len() as u8;
    framed.extend(head.encode_to_vec());
    vec![Step::Send(framed), code(Code::Ok)]
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
    let draining = Failure::new(Reason::Draining, "it drains").retry_after(Duration::from_secs(1));
    hub.says("hub", vec![status(&draining)]);
    let client = live(&hub).await;
    assert_eq!(hub.dialed_hosts(), ["b"]);
    assert!(matches!(client.status().borrow().doors[0], Door::Silent(_)));
}
