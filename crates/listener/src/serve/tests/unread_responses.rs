//! Peers that do not take what they asked for, or do not ask to the end: neither keeps a place from others.

use http::request::Parts;
use tokio::io::DuplexStream;
use tokio::time::{Instant, sleep};

use super::slots::{Crowd, ask, closed_after, crowd};
use super::*;
use crate::SlotPolicy;

pub(super) const SETTINGS: u8 = 4;
pub(super) const HEADERS: u8 = 1;
pub(super) const END_STREAM_AND_HEADERS: u8 = 5;
pub(super) const INITIAL_WINDOW_SIZE: u8 = 4;

pub(super) fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Header fields, as literals that no table remembers.
pub(super) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let field = |(name, value): &(&str, &str)| {
        [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
    };
    fields.iter().flat_map(field).collect()
}

/// Asks over HTTP/2 and gives the answer no room.
async fn without_window(crowd: &Crowd, path: &str) -> DuplexStream {
    let mut io = crowd.connect([1, 1, 1, 1]).await;
    let head =
        fields(&[(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "localhost")]);
    let begin = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(SETTINGS, 0, 0, &[0, INITIAL_WINDOW_SIZE, 0, 0, 0, 0]),
        frame(HEADERS, END_STREAM_AND_HEADERS, 1, &head),
    ];
    io.write_all(&begin.concat()).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    io
}

fn policy(reserved: usize) -> SlotPolicy {
    let always = |request: &Parts| matches!(request.uri.path(), "/livez" | "/take" | "/stream");
    SlotPolicy { reserved, always: Some(always), ..SlotPolicy::default() }
}

async fn response_complete(crowd: &Crowd) -> bool {
    let from = Instant::now();
    let mut probe = crowd.connect([1, 1, 1, 1]).await;
    ask(&mut probe, "/livez").await.starts_with("HTTP/1.1 200") && from.elapsed() < Duration::from_millis(100)
}

/// The fault: an answer for which there was no room was under way for ever, and with it the place was taken.
#[tokio::test(start_paused = true)]
async fn who_gives_its_answers_no_room_gives_way() {
    let crowd = crowd(4, SlotPolicy::default());
    let mut crowding = Vec::new();
    for _ in 0..4 {
        crowding.push(without_window(&crowd, "/livez").await);
    }
    sleep(Duration::from_secs(2)).await;
    assert_eq!(crowd.slots.taken().authenticated, 4);
    assert!(response_complete(&crowd).await);
    assert_eq!(closed_after(crowding.remove(0)).await, 0);
}

/// Over HTTP/1 the answer waits in the server's buffers.
#[tokio::test(start_paused = true)]
async fn who_does_not_read_a_large_answer_gives_way() {
    let crowd = crowd(1, SlotPolicy::default());
    let mut unread = crowd.connect([1, 1, 1, 1]).await;
    unread.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert!(response_complete(&crowd).await);
    assert_eq!(closed_after(unread).await, 0);
}

#[tokio::test(start_paused = true)]
async fn who_takes_no_answer_is_let_go_and_who_takes_no_stream_is_not() {
    let crowd = crowd(4, SlotPolicy::default());
    let answer = without_window(&crowd, "/livez").await;
    let stream = without_window(&crowd, "/stream").await;
    let after = closed_after(answer).await;
    assert!((5..=12).contains(&after), "{after} s");
    assert_eq!(crowd.slots.taken().authenticated, 1, "a stream has judges of its own");
    drop(stream);
}

#[tokio::test(start_paused = true)]
async fn who_takes_no_answer_on_a_kept_place_has_the_leash_for_it() {
    let crowd = crowd(1, policy(1));
    let mut busy = crowd.connect([1, 1, 1, 1]).await;
    busy.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    sleep(Duration::from_secs(3)).await;
    let probe = without_window(&crowd, "/livez").await;
    assert_eq!(crowd.slots.taken().reserved, 1);
    assert!((2..=4).contains(&closed_after(probe).await));
    assert!(response_complete(&crowd).await);
}

/// The fault: a drain waited for it to the last.
#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_who_takes_no_answer() {
    let crowd = crowd(4, SlotPolicy::default());
    let unread = without_window(&crowd, "/livez").await;
    sleep(Duration::from_secs(1)).await;
    crowd.drain.draining.cancel();
    assert!((3..=6).contains(&closed_after(unread).await));
}

/// The fault: on a place that is kept back a request could be under way without ever being there.
#[tokio::test(start_paused = true)]
async fn who_does_not_ask_to_the_end_keeps_no_place_from_others() {
    const OWED: &[u8] = b"POST /take HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nfour";
    let crowd = crowd(2, policy(1));
    let mut owing = Vec::new();
    for _ in 0..3 {
        let mut io = crowd.connect([1, 1, 1, 1]).await;
        io.write_all(OWED).await.unwrap();
        owing.push(io);
    }
    assert_eq!(crowd.slots.taken().reserved, 1);
    assert!((1..=4).contains(&closed_after(owing.pop().unwrap()).await), "the leash");
    assert!(response_complete(&crowd).await, "the older of the two gave way");
    assert_eq!(closed_after(owing.remove(0)).await, 0);
    owing[0].write_all(b"sixmore").await.unwrap();
    let mut answer = [0; 15];
    owing[0].read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK", "whoever has its place is answered");
}

/// A stream that goes both ways is never whole, and is under way all the same.
#[tokio::test(start_paused = true)]
async fn who_is_answered_by_a_stream_owes_nothing() {
    let crowd = crowd(1, policy(1));
    let mut both = crowd.connect([1, 1, 1, 1]).await;
    both.write_all(b"POST /stream HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n").await.unwrap();
    sleep(Duration::from_secs(10)).await;
    assert!(response_complete(&crowd).await, "on the place that is kept back");
    assert_eq!(crowd.slots.taken().authenticated, 1);
    drop(both);
}
