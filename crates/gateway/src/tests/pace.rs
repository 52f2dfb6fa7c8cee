//! How fast a user's frames are read.

use futures_util::SinkExt as _;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::*;

/// The fault: a user's frames were read as fast as they came.
#[tokio::test(start_paused = true)]
async fn frames_beyond_the_rate_wait_and_nobody_is_closed() {
    let mut world = World::new();
    let began = Instant::now();
    let mut socket = world.connected(r#"{"user":"a"}"#).await;
    for number in 1..=40 {
        socket.send(&format!(r#"{{"subscribe":{{"topics":["t{number}"]}}}}"#)).await;
    }
    let answered = socket.until(r#""t19""#).await;
    assert!(
        began.elapsed() < Duration::from_millis(100),
        "with `connect` twenty at once: {:?}",
        began.elapsed()
    );
    assert!(!answered.contains(r#""t20""#), "{answered}");
    world.hub.publish(&["user:a"]);
    socket.until(r#""e1""#).await;
    assert!(began.elapsed() < Duration::from_millis(100), "what is sent waits for nothing");
    socket.until(r#""t40""#).await;
    assert_eq!(began.elapsed().as_millis() / 100, 21, "ten in each second: {:?}", began.elapsed());
    let metrics = world.metrics();
    assert!(metrics.contains("push_client_frame_pauses_total 22"), "{metrics}");
    sleep(Duration::from_secs(2)).await;
    let began = Instant::now();
    socket.send(r#"{"unsubscribe":{"topics":["t1"]}}"#).await;
    socket.until("subscribed").await;
    assert!(began.elapsed() < Duration::from_millis(100), "who pauses has earned it");
}

/// What waits to be read is no silence: a pong lies behind it, and so does a close frame.
#[tokio::test(start_paused = true)]
async fn who_sends_too_fast_is_not_taken_for_dead_and_may_leave() {
    let world = World::new();
    let mut socket = world.connected(r#"{"user":"a"}"#).await;
    for number in 0..1_000 {
        let topic = number % 100;
        socket.send(&format!(r#"{{"subscribe":{{"topics":["t{topic}"]}}}}"#)).await;
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(70) {
        assert!(socket.text().await.contains("cursor"));
    }
    let open = r#"push_connections{transport="ws_json"} "#;
    assert!(world.metrics().contains(&format!("{open}1")));
    socket.stream.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.stream.next().await {}
    assert!(began.elapsed() < Duration::from_secs(110), "{:?}", began.elapsed());
    sleep(Duration::from_secs(2)).await;
    assert!(world.metrics().contains(&format!("{open}0")));
}

/// The fault: frames before `connect` were read as fast as they came, too.
#[tokio::test(start_paused = true)]
async fn frames_before_the_first_one_count() {
    let world = World::new();
    let mut socket = world.socket().await;
    let began = Instant::now();
    for _ in 0..30 {
        socket.send(r#"{"of":"the future"}"#).await;
    }
    socket.send(r#"{"connect":{}}"#).await;
    socket.until("caughtUp").await;
    assert_eq!(began.elapsed().as_millis() / 100, 11, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_a_setting() {
    let mut config = config();
    config.client_frames_per_second = 1;
    let world = World::with(config);
    let began = Instant::now();
    let mut socket = world.connected("{}").await;
    for topic in ["a", "b", "c"] {
        socket.send(&format!(r#"{{"subscribe":{{"topics":["{topic}"]}}}}"#)).await;
    }
    socket.until(r#""c""#).await;
    assert_eq!(began.elapsed().as_secs(), 2);
}

/// A piece of a message of this many bytes, which is neither its beginning nor its end.
fn piece(bytes: usize) -> Message {
    Message::Frame(Frame::message(vec![b' '; bytes], OpCode::Data(Data::Continue), false))
}

/// The fault: pieces of a message, which may be empty and without an end, were read as fast as they came, before `connect`
/// too.
#[tokio::test(start_paused = true)]
async fn pieces_of_a_message_count_as_frames() {
    let world = World::new();
    let mut socket = world.socket().await;
    let began = Instant::now();
    let first = Frame::message("{\"connect\"", OpCode::Data(Data::Text), false);
    socket.stream.send(Message::Frame(first)).await.unwrap();
    for bytes in [0, 1, 125, 126].into_iter().cycle().take(38) {
        socket.stream.send(piece(bytes)).await.unwrap();
    }
    let last = Frame::message(":{}}", OpCode::Data(Data::Continue), true);
    socket.stream.send(Message::Frame(last)).await.unwrap();
    socket.until("caughtUp").await;
    assert_eq!(began.elapsed().as_millis() / 100, 20, "{:?}", began.elapsed());
}

/// Whoever sends a long message piece by piece is there.
#[tokio::test(start_paused = true)]
async fn who_sends_a_message_in_pieces_is_not_taken_for_dead() {
    let world = World::new();
    let mut socket = world.connected(r#"{"user":"a"}"#).await;
    socket.until("caughtUp").await;
    let first = Frame::message("{\"of\":0", OpCode::Data(Data::Text), false);
    socket.stream.send(Message::Frame(first)).await.unwrap();
    for _ in 0..150 {
        sleep(Duration::from_secs(1)).await;
        socket.stream.send(piece(1)).await.unwrap();
    }
    let last = Frame::message("}", OpCode::Data(Data::Continue), true);
    socket.stream.send(Message::Frame(last)).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert!(world.metrics().contains("push_client_frames_skipped_total 1"), "{}", world.metrics());
}
