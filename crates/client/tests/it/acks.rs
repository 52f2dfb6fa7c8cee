//! The stream form: many items out at once, acked in any order.

use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use galaxy_push_client::{
    BuildError, Delivery, HandlerError, Item, MemoryCursorStore, PushStream, RetryPolicy, State,
};
use galaxy_push_proto::v1::{self, push_event::Kind};
use tokio::time::{Instant, timeout};

use crate::hub::{Dial, Hub, Step, at, caught_up, event, frame, settle, until, welcome};

fn hub(events: std::ops::RangeInclusive<u64>) -> Hub {
    let last = *events.end();
    let frames = [welcome(&at(5))].into_iter().chain(events.map(event));
    Hub::new([Dial::Serve(frames.chain([caught_up(last), Step::Sleep(Duration::MAX)]).collect())])
}

/// The next event; what only says where the stream stands is dropped, which acks it.
async fn next(stream: &mut PushStream) -> Delivery {
    loop {
        let delivery = timeout(Duration::from_secs(600), stream.next()).await.unwrap().unwrap();
        if delivery.item().matters() {
            return delivery;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_cursor_moves_over_what_is_acked_without_a_hole() {
    let mut stream = hub(6..=9).client().stream().unwrap();
    let (six, seven) = (next(&mut stream).await, next(&mut stream).await);
    let (eight, nine) = (next(&mut stream).await, next(&mut stream).await);
    seven.ack();
    nine.ack();
    settle().await;
    assert_eq!(stream.client().cursor(), at(5));
    six.ack();
    settle().await;
    assert_eq!(stream.client().cursor(), at(7));
    eight.ack();
    settle().await;
    assert_eq!(stream.client().cursor(), at(9));
    let status = stream.client().status().borrow().clone();
    assert_eq!(status.in_flight_items, 1, "the caught-up, not taken yet");
    assert!(status.in_flight_bytes > 128);
    assert_eq!(status.counters.handled, 5);
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_comes_back_and_what_only_informs_does_not() {
    let mut stream = hub(6..=7).client().stream().unwrap();
    let before = Instant::now();
    drop(next(&mut stream).await);
    next(&mut stream).await.ack();
    let again = next(&mut stream).await;
    assert_eq!((again.item().cursor(), again.failures()), (&*at(6), 1));
    assert_eq!(before.elapsed().as_millis() / 100, 2, "after 200 ms");
    let trouble = stream.client().status().borrow().handler.clone().unwrap();
    assert_eq!(&*trouble.error, "the delivery was dropped without an ack");
    again.fail(HandlerError::msg("not yet"));
    let (item, ack) = next(&mut stream).await.into_parts();
    assert_eq!(item.cursor(), at(6));
    ack.ack();
    let status = until(stream.client(), |status| status.cursor == at(7) && status.state == State::Live).await;
    assert_eq!((status.handler, status.counters.handler_failures, status.counters.dials), (None, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_beyond_the_bound_in_bytes() {
    let big = |seq: u64| {
        let event = v1::Event { id: seq.to_string(), data: vec![0; 100_000].into(), ..Default::default() };
        frame(&at(seq), Kind::Event(event))
    };
    let frames = [welcome(&at(5))].into_iter().chain((6..=105).map(big));
    let hub = Hub::new([Dial::Serve(frames.chain([Step::Sleep(Duration::MAX)]).collect())]);
    let mut stream = hub.client().in_flight_bytes(1_000_000).stream().unwrap();
    let mut held = Vec::new();
    while let Ok(Some(delivery)) = timeout(Duration::from_secs(60), stream.next()).await {
        held.push(delivery);
    }
    let status = stream.client().status().borrow().clone();
    let events = held.iter().filter(|delivery| delivery.item().matters()).count();
    assert_eq!(events, 9, "nine of 100,000 bytes, and their overhead");
    assert!(status.in_flight_bytes <= 1_000_000, "{}", status.in_flight_bytes);
    let read = status.counters.bytes;
    assert!(read < 2_100_000, "{read} bytes were read: the bound and one frame more, of 10 MB that wait");
    assert_eq!(status.counters.dials, 1, "a full stream is not a dead one");
    for delivery in held {
        delivery.ack();
    }
    let mut count = events;
    while count < 100 {
        next(&mut stream).await.ack();
        count += 1;
    }
    until(stream.client(), |status| status.cursor == at(105) && status.in_flight_items == 0).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_out_survives_a_reconnect_and_is_not_delivered_twice() {
    let hub = Hub::new([
        Dial::Serve(vec![welcome(&at(5)), event(6), event(7), Step::Cut]),
        Dial::Serve(vec![welcome(&at(7)), event(7), event(8), caught_up(8), Step::Sleep(Duration::MAX)]),
    ]);
    let mut stream = hub.client().stream().unwrap();
    let (six, seven) = (next(&mut stream).await, next(&mut stream).await);
    hub.dialed(2).await;
    let eight = next(&mut stream).await;
    assert_eq!(hub.cursors(), ["".to_owned(), at(7)], "from what is out, not from what is acked");
    assert_eq!((eight.item().cursor(), stream.client().cursor()), (&*at(8), at(5)));
    [six, seven, eight].into_iter().for_each(Delivery::ack);
    until(stream.client(), |status| status.cursor == at(8)).await;
}

#[tokio::test(start_paused = true)]
async fn acks_count_while_there_is_no_connection() {
    let hub =
        Hub::new([Dial::Serve(vec![welcome(&at(5)), event(6), Step::Cut]), Dial::Refused, Dial::Refused]);
    let mut stream = hub.client().stream().unwrap();
    let six = next(&mut stream).await;
    until(stream.client(), |status| status.state == State::BackingOff).await;
    six.ack();
    let status = until(stream.client(), |status| status.cursor == at(6)).await;
    assert_eq!(status.state, State::BackingOff);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_acked_is_delivered_again_by_the_next_process() {
    let store = MemoryCursorStore::default();
    let hub = Hub::new((0..2).map(|_| {
        Dial::Answer(Arc::new(|cursor| {
            let from = (5..9).find(|seq| at(*seq) == cursor).unwrap_or(5);
            let frames = [welcome(&at(from))].into_iter().chain((from + 1..=9).map(event));
            frames.chain([Step::Sleep(Duration::MAX)]).collect()
        }))
    }));
    let mut stream = hub.client().cursor_store(store.clone()).stream().unwrap();
    let (six, _seven, eight) = (next(&mut stream).await, next(&mut stream).await, next(&mut stream).await);
    six.ack();
    eight.ack();
    let last = stream.shutdown().await;
    assert_eq!((last.state, last.cursor), (State::Stopped, at(6)), "an ack before the shutdown counts");
    assert_eq!(store.cursor(), Some(at(6)));
    let mut stream = hub.client().cursor_store(store).stream().unwrap();
    for seq in 7..=9 {
        let delivery = next(&mut stream).await;
        assert_eq!(delivery.item().cursor(), at(seq), "8 once more: its ack had a hole before it");
        delivery.ack();
    }
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_keeps_failing_becomes_a_dead_letter() {
    let letters = Arc::new(Mutex::new(Vec::new()));
    let taken = letters.clone();
    let builder = hub(6..=7).client().retry(RetryPolicy::times(2)).dead_letter(
        move |item: Item, error: HandlerError| {
            taken.lock().unwrap().push(format!("{} {error}", item.cursor()));
            ready(Ok(()))
        },
    );
    let mut stream = builder.stream().unwrap();
    let (mut sixes, mut sevens) = (0, 0);
    while stream.client().cursor() != at(7) {
        let Ok(Some(delivery)) = timeout(Duration::from_secs(1), stream.next()).await else { continue };
        match delivery.item() {
            Item::Event(frame) if frame.cursor() == at(6) => {
                sixes += 1;
                delivery.fail(HandlerError::msg("no"));
            }
            Item::Event(_) => {
                sevens += 1;
                delivery.ack();
            }
            _ => delivery.ack(),
        }
    }
    assert_eq!((sixes, sevens), (3, 1));
    assert_eq!(*letters.lock().unwrap(), [format!("{} no", at(6))]);
}

#[tokio::test(start_paused = true)]
async fn ends_with_the_client_and_the_client_with_it() {
    let mut stream = hub(6..=7).client().stream().unwrap();
    let client = stream.client().clone();
    next(&mut stream).await.ack();
    let late = next(&mut stream).await;
    let last = client.shutdown().await;
    assert_eq!(last.cursor, at(6));
    while let Some(delivery) = futures_util::StreamExt::next(&mut stream).await {
        assert!(!delivery.item().matters());
    }
    late.ack(); // too late, and harmless

    let stream = hub(6..=7).client().stream().unwrap();
    let client = stream.client().clone();
    until(&client, |status| status.state == State::Live).await;
    drop(stream);
    until(&client, |status| status.state == State::Stopped).await;
}

#[tokio::test(start_paused = true)]
async fn stops_at_once_while_everything_is_out() {
    let mut stream = hub(6..=20).client().in_flight_bytes(1).stream().unwrap();
    let _held = next(&mut stream).await;
    let before = Instant::now();
    stream.shutdown().await;
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_bound_of_nothing_is_refused() {
    assert!(matches!(Hub::new([]).client().in_flight_bytes(0).stream(), Err(BuildError::ZeroInFlight)));
}
