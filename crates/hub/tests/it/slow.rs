//! Readers that pause: the smallest events do not end the connection, and nothing is lost.

use axum::body::Body;
use galaxy_push_core::frame::{Deframer, FrameView, Kind as FrameKind, message};
use galaxy_push_hub::Config;
use galaxy_push_proto::v1::push_event::Kind;
use http::Request;
use http_body_util::BodyExt as _;
use prost::Message as _;
use tower::ServiceExt as _;

use crate::world::{World, event, from};

/// HTTP/2 implementations count small DATA frames that a receiver leaves unread and end the connection when they are
/// too many. With the windows of DESIGN.md §7 even one frame per smallest event stays within that budget.
#[tokio::test(start_paused = true)]
async fn a_paused_reader_of_the_smallest_events_keeps_its_connection() {
    const EVENTS: u64 = 60_000;
    let world = World::new(Config::default());
    let mut reading = world.read("gw", "").await;
    reading.until("caught up").await;
    for i in 0..EVENTS {
        world.publish_all(vec![event(&i.to_string())]).await;
        tokio::task::yield_now().await; // so that it goes out alone
    }
    let mut next = 1;
    while next <= EVENTS {
        let frame = reading.frame().await.unwrap().unwrap();
        match frame.kind.unwrap() {
            Kind::Event(_) => {
                assert_eq!(frame.cursor, world.at(next));
                next += 1;
            }
            Kind::Progress(_) | Kind::CaughtUp(_) | Kind::FellBehind(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// A replay travels in large pieces: what is ready goes out together, the frames of sealed chunks without a copy.
#[tokio::test(start_paused = true)]
async fn what_is_ready_goes_out_in_large_pieces() {
    const EVENTS: usize = 20_000;
    let world = World::new(Config::default());
    for i in 0..EVENTS / 1_000 {
        world.publish_all((0..1_000).map(|n| event(&format!("{i}.{n}"))).collect()).await;
    }
    let message_of_request = from("gw", "oldest").encode_to_vec();
    let request = [&[0, 0, 0, 0, message_of_request.len() as u8], &*message_of_request].concat();
    let request = Request::post("/push.v1.Push/SubscribePush")
        .header("content-type", "application/grpc")
        .body(Body::from(request));
    let mut body = world.hub.router().oneshot(request.unwrap()).await.unwrap().into_body();
    let (mut deframer, mut pieces, mut events, mut caught_up) =
        (Deframer::new(1 << 20), Vec::new(), 0, false);
    while !caught_up {
        let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
        pieces.push(piece.len());
        deframer.push(piece);
        while let Some(framed) = deframer.next_message().unwrap() {
            match FrameView::read(message(&framed)).unwrap().kind() {
                FrameKind::Event => events += 1,
                FrameKind::CaughtUp => caught_up = true,
                _ => {}
            }
        }
        assert!(deframer.is_at_boundary(), "a piece holds whole frames");
    }
    assert_eq!(events, EVENTS);
    let total: usize = pieces.iter().sum();
    assert!(pieces.iter().all(|piece| *piece <= 256 << 10), "{pieces:?}");
    assert!(pieces.len() <= total / (128 << 10) + 3, "{pieces:?}");
}
