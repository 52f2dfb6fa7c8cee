//! Bodies in parts of every size, with room that is counted.

use std::convert::Infallible;
use std::pin::Pin;

use bytes::BufMut as _;
use futures_util::{StreamExt as _, future, stream};
use galaxy_push_core::ambient::Ambient;
use http_body::Frame;
use http_body_util::StreamBody;
use proptest::prelude::*;
use tokio::time::Instant;
use tonic::Status;

use super::*;
use crate::state::in_flight::{InFlight, RequestKind, Usage};

const LIMIT: usize = 300_000;

fn room(bytes: usize) -> InFlight {
    InFlight::new(RequestKind::Publishes, 10, bytes, Ambient::new(|| 0, || 4))
}

type Parts = Pin<Box<dyn futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>;

/// A body of these parts, which then ends or rests for ever.
fn parts(parts: Vec<Bytes>, ends: bool) -> StreamBody<Parts> {
    let parts = stream::iter(parts).map(|part| Ok(Frame::data(part)));
    StreamBody::new(if ends { parts.boxed() } else { parts.chain(stream::pending()).boxed() })
}

fn cut(bytes: &Bytes, at: &[usize]) -> Vec<Bytes> {
    let mut rest = bytes.clone();
    let mut parts: Vec<_> = at.iter().map(|at| rest.split_to((*at).min(rest.len()))).collect();
    parts.push(rest);
    parts
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut framed = vec![0];
    framed.put_u32(message.len() as u32);
    framed.extend_from_slice(message);
    framed
}

fn messages(body: StreamBody<Parts>, from: Deadline, room: &InFlight) -> Messages<StreamBody<Parts>> {
    Messages::new(body, LIMIT, from, WITHIN, room.clone())
}

/// What a reader of the body gets, and how it ends.
async fn all(mut body: Messages<StreamBody<Parts>>) -> (Vec<u8>, Option<Status>) {
    let mut got = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => got.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Err(status) => return (got, Some(status)),
        }
    }
    (got, None)
}

fn blocking<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future)
}

proptest! {
    /// However it comes, a body is read as it was sent, and never takes more than the limit while it is counted whole.
    #[test]
    fn a_body_is_read_as_it_was_sent(length in 0_usize..LIMIT, at in prop::collection::vec(0_usize..90_000, 0..20)) {
        let sent: Bytes = (0..length).map(|i| i as u8).collect::<Vec<_>>().into();
        let room = room(LIMIT);
        let mut permit = room.permit(None);
        let read = blocking(read(parts(cut(&sent, &at), true), LIMIT, WITHIN, &mut permit)).unwrap();
        prop_assert_eq!(read, sent);
        prop_assert!(room.usage().bytes >= length && room.usage().bytes <= LIMIT);
    }

    /// However they come, messages are handed on as they were sent, each with its share, and none is left behind.
    #[test]
    fn messages_are_handed_on_whole(
        lengths in prop::collection::vec(prop_oneof![0_usize..20, 0_usize..100_000], 1..5),
        at in prop::collection::vec(prop_oneof![0_usize..7, 0_usize..90_000], 0..20),
    ) {
        let sent: Vec<u8> = lengths.iter().flat_map(|length| framed(&vec![7; *length])).collect();
        // Nobody takes the shares here, so that of one message is held until the next one is whole.
        let room = room(2 * LIMIT);
        let body = messages(parts(cut(&sent.clone().into(), &at), true), Deadline::FromTheFirstByte, &room);
        let (got, end) = blocking(all(body));
        prop_assert!(end.is_none(), "{end:?}");
        prop_assert_eq!(got, sent);
        prop_assert_eq!(room.usage(), Usage::default());
    }
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_message_is_held_here_and_handed_on_only_when_it_is_whole() {
    let room = room(LIMIT);
    let sent: Bytes = framed(&[7; 100_000]).into();
    let mut body = messages(
        parts(cut(&sent.slice(..sent.len() - 1), &[3, 20_000]), false),
        Deadline::FromTheFirstByte,
        &room,
    );
    let received = body.received();
    assert!(timeout(Duration::from_secs(29), body.frame()).await.is_err(), "nothing is handed on");
    let held = room.usage().bytes;
    assert!((99_999..=99_999 + (64 << 10)).contains(&held), "{held} bytes are counted");
    let late = body.frame().await.unwrap().unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    drop(body);
    assert!(received.take().is_none());
    assert_eq!(room.usage(), Usage::default());
}

#[tokio::test(start_paused = true)]
async fn the_share_of_a_whole_message_is_its_readers() {
    let room = room(LIMIT);
    let mut body = messages(parts(vec![framed(&[7; 9_000]).into()], false), Deadline::FromTheStart, &room);
    let received = body.received();
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(room.usage().bytes, 9_000);
    drop(received.take());
    assert_eq!(room.usage(), Usage::default());
}

#[tokio::test(start_paused = true)]
async fn a_whole_message_whose_request_does_not_end_is_late_and_gives_its_share_back() {
    let room = room(LIMIT);
    let mut body = messages(parts(vec![framed(&[7; 9_000]).into()], false), Deadline::FromTheStart, &room);
    let _received = body.received();
    let begun = Instant::now();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), 9_005);
    assert_eq!(room.usage().bytes, 9_000);
    let late = body.frame().await.unwrap().unwrap_err();
    assert_eq!((late.code(), begun.elapsed()), (Code::DeadlineExceeded, WITHIN));
    assert_eq!(room.usage(), Usage::default());
}

#[tokio::test(start_paused = true)]
async fn where_nobody_takes_the_share_only_what_is_unfinished_counts() {
    let room = room(LIMIT);
    let sent = Bytes::from(framed(&[7; 900]));
    let mut full = room.permit(None);
    full.reserve(LIMIT).unwrap();
    let new = |parts_of| messages(parts(parts_of, false), Deadline::FromTheFirstByte, &room);
    let mut whole = new(vec![sent.clone()]).counting_unfinished_only();
    whole.frame().await.unwrap().expect("what comes whole needs no room");
    let mut halves = new(cut(&sent, &[400])).counting_unfinished_only();
    assert_eq!(halves.frame().await.unwrap().unwrap_err().code(), Code::ResourceExhausted);
    drop(full);
    let mut halves = new(cut(&sent, &[400])).counting_unfinished_only();
    halves.frame().await.unwrap().unwrap();
    assert_eq!(room.usage(), Usage::default(), "though the request rests");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_beside_others_is_refused_while_it_arrives() {
    let room = room(150_000);
    let half = || {
        parts(
            vec![framed(&[7; 200_000]).split_off(0).into_iter().take(80_000).collect::<Vec<_>>().into()],
            false,
        )
    };
    let mut first = messages(half(), Deadline::FromTheFirstByte, &room);
    assert!(timeout(Duration::from_secs(1), first.frame()).await.is_err());
    let mut second = messages(half(), Deadline::FromTheFirstByte, &room);
    let refused = Failure::of(&second.frame().await.unwrap().unwrap_err());
    assert_eq!((refused.code, refused.reason), (Code::ResourceExhausted, Some(Reason::Overloaded)));
    assert!(refused.retry_after.is_some());
    let mut permit = room.permit(None);
    let begun = parts(vec![vec![7; 80_000].into()], true);
    assert!(matches!(read(begun, LIMIT, WITHIN, &mut permit).await, Err(BodyError::Overloaded(_))));
}

/// The fault: a request of 200 bytes held 200,000, and counted as 16 KiB.
#[tokio::test(start_paused = true)]
async fn what_is_inflated_counts_as_what_it_becomes() {
    use std::io::Write as _;

    const INFLATED: usize = 200_000;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&[7; INFLATED]).unwrap();
    let packed: Bytes = encoder.finish().unwrap().into();
    let mut message = framed(&packed);
    message[0] = 1;
    let (packed, message) =
        (|| parts(vec![packed.clone()], true), || parts(vec![message.clone().into()], true));
    let messages = |room| messages(message(), Deadline::FromTheFirstByte, room).encoded(Encoding::Gzip);

    let room_for_it = room(LIMIT);
    let mut permit = room_for_it.permit(None);
    let read = read_plain(packed(), Encoding::Gzip, LIMIT, WITHIN, &mut permit).await.unwrap();
    assert_eq!((read.len(), room_for_it.usage().bytes >= INFLATED), (INFLATED, true));
    drop(permit);
    let mut whole = messages(&room_for_it);
    whole.frame().await.unwrap().unwrap();
    assert!(room_for_it.usage().bytes >= INFLATED, "{:?}", room_for_it.usage());

    let too_little = room(INFLATED - 1);
    let mut permit = too_little.permit(None);
    let read = read_plain(packed(), Encoding::Gzip, LIMIT, WITHIN, &mut permit).await;
    assert!(matches!(read, Err(BodyError::Overloaded(_))));
    drop(permit);
    let refused = messages(&too_little).frame().await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(too_little.usage(), Usage::default(), "nothing is kept of it");
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_rest_between_messages_and_a_request_may_not() {
    let rests = |from| {
        let room = room(LIMIT);
        async move {
            let begun = Instant::now();
            let mut body = messages(parts(vec![], false), from, &room);
            let _ = timeout(Duration::from_secs(3_600), body.frame()).await;
            begun.elapsed()
        }
    };
    let (one, stream) = future::join(rests(Deadline::FromTheStart), rests(Deadline::FromTheFirstByte)).await;
    assert_eq!((one, stream), (WITHIN, Duration::from_secs(3_600)));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_large_is_passed_on_for_its_reader_to_refuse() {
    let room = room(LIMIT);
    let sent = framed(&vec![7; LIMIT + 1]);
    let (got, end) =
        all(messages(parts(vec![sent.clone().into()], true), Deadline::FromTheFirstByte, &room)).await;
    assert!(end.is_none() && got == sent);
    let (_, end) = all(messages(
        parts(vec![framed(&[7; 9])[..8].to_vec().into()], true),
        Deadline::FromTheFirstByte,
        &room,
    ))
    .await;
    assert_eq!(end.unwrap().code(), Code::InvalidArgument, "cut off");
}
