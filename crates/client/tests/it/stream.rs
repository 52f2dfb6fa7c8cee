//! Streams begin, break, resume, and are found dead.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use galaxy_push_client::{Batch, BatchHandler, Builder, Failure, HandlerError, Item, State, Waited};
use galaxy_push_proto::v1::{self, push_event::Kind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep};

use crate::hub::{
    Dial, Hub, Notes, Step, at, caught_up, event, frame, heartbeats, progress, seconds, settle, until,
    welcome,
};

#[tokio::test(start_paused = true)]
async fn resumes_after_a_cut_with_the_last_cursor() {
    let hub = Hub::new([
        Dial::Serve(vec![welcome(&at(5)), event(6), event(7), caught_up(7), Step::Cut]),
        Dial::Serve(vec![
            welcome(&at(7)),
            event(7),
            event(8),
            caught_up(8),
            seconds(1),
            progress(9),
            Step::Cut,
        ]),
    ]);
    let notes = Notes::default();
    let client =
        hub.client().instance_id("i").features(["standing"]).max_receive_bytes(1024).start(notes.handler());
    let client = client.unwrap();
    hub.dialed(3).await;
    assert_eq!(hub.cursors(), ["".to_owned(), at(7)]);
    assert_eq!(client.cursor(), at(9));
    assert_eq!(notes.text(), "Welcome 6 7 CaughtUp Welcome 8 CaughtUp Progress");
    let counters = client.counters();
    assert_eq!((counters.dials, counters.streams, counters.records, counters.duplicates), (3, 2, 3, 1));
    for (i, request) in hub.requests::<v1::GatewaySubscribeRequest>().into_iter().enumerate() {
        assert_eq!((request.attempt, request.instance_id.as_str()), (i as u64 + 1, "i"));
        assert_eq!((request.gateway_client_id.as_str(), request.max_receive_bytes), ("gateway-1", 1024));
        assert_eq!(request.features, ["standing"]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_id_is_drawn_when_none_is_given() {
    let hub = Hub::new([Dial::Serve(vec![Step::Ignore])]);
    let client = hub.client().start(Notes::default().handler()).unwrap();
    hub.dialed(2).await;
    assert_eq!(hub.requests::<v1::GatewaySubscribeRequest>()[0].instance_id, "f".repeat(32));
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_half_open_link_is_found_within_20_seconds() {
    let beats = heartbeats(5, 3);
    let hub = Hub::new([
        Dial::Serve([vec![welcome(&at(5)), caught_up(5)], beats, vec![Step::Freeze]].concat()),
        Dial::Serve(vec![welcome(&at(5)), caught_up(5), Step::Sleep(Duration::MAX)]),
    ]);
    let client = hub.client().start(Notes::default().handler()).unwrap();
    hub.dialed(2).await;
    let frozen_at = 15.0;
    let found = hub.dial_times()[1] - frozen_at;
    assert!((10.0..=20.0).contains(&found), "found after {found} s");
    until(&client, |status| status.state == State::Live).await;
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_answers_pings_and_says_nothing_is_dead_too() {
    let hub = Hub::new([Dial::Serve(vec![welcome(&at(5)), caught_up(5), Step::Sleep(Duration::MAX)])]);
    let client = hub.client().start(Notes::default().handler()).unwrap();
    hub.dialed(2).await;
    assert_eq!(hub.dial_times()[1].round(), 15.0);
    let error = client.status().borrow().last_error.clone().unwrap();
    assert_eq!(*error, Failure::TimedOut(Waited::Sign));
}

#[tokio::test(start_paused = true)]
async fn deadlines_for_the_connection_and_the_welcome() {
    let hub = Hub::new([
        Dial::Hang,
        Dial::Serve(vec![Step::Ignore]),
        Dial::Serve(vec![Step::Sleep(Duration::MAX)]),
    ]);
    let client = hub.client().start(Notes::default().handler()).unwrap();
    hub.dialed(4).await;
    let times: Vec<_> = hub.dial_times().iter().map(|time| (time * 10.0).round() / 10.0).collect();
    assert_eq!(times, [0.0, 5.2, 10.4, 15.9]);
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_is_not_taken_for_a_dead_peer() {
    let hub = Hub::new([Dial::Serve(vec![
        welcome(&at(5)),
        event(6),
        caught_up(6),
        event(7),
        Step::Sleep(Duration::MAX),
    ])]);
    let notes = Notes::default();
    let noted = notes.clone();
    let client = hub.client().start(move |item: Item| {
        let notes = noted.clone();
        async move {
            if matches!(item, Item::Event(_)) {
                sleep(Duration::from_secs(120)).await;
            }
            notes.note(&item);
            Ok(())
        }
    });
    let client = client.unwrap();
    until(&client, |status| status.cursor == at(7)).await;
    assert_eq!(notes.text(), "Welcome 6 CaughtUp 7");
    assert_eq!(client.counters().dials, 1, "no reconnect in 240 s of work");
}

#[tokio::test(start_paused = true)]
async fn a_link_that_dies_while_the_handler_works_is_found_right_after() {
    let hub = Hub::new([Dial::Serve(vec![welcome(&at(5)), event(6), Step::Freeze])]);
    let client = hub.client().start(async |item: Item| {
        if matches!(item, Item::Event(_)) {
            sleep(Duration::from_secs(120)).await;
        }
        Ok(())
    });
    let client = client.unwrap();
    hub.dialed(2).await;
    let found = hub.dial_times()[1];
    assert!((120.0..121.0).contains(&found), "{found}: pings had found it, and the handler's result is kept");
    assert_eq!(client.cursor(), at(6));
}

/// A hub at the end of a line of 20 KB/s, which falls silent after so many bytes.
fn over_a_slow_line(hub: &Hub, bytes: usize) -> Builder {
    let connect = hub.connector();
    hub.client().connector(move |host: String, port: u16| {
        let connecting = connect(host, port);
        async move {
            let (mut from, mut to) = tokio::io::split(connecting.await?);
            let (near, far) = tokio::io::duplex(1 << 10);
            let (mut up, mut down) = tokio::io::split(far);
            tokio::spawn(async move { tokio::io::copy(&mut up, &mut to).await });
            tokio::spawn(async move {
                let mut left = bytes;
                let mut piece = [0; 1 << 10];
                while let Ok(read @ 1..) = from.read(&mut piece).await {
                    sleep(Duration::from_millis(50)).await;
                    if left < read || down.write_all(&piece[..read]).await.is_err() {
                        std::future::pending::<()>().await;
                    }
                    left -= read;
                }
            });
            Ok(near)
        }
    })
}

fn large_event(seq: u64) -> Step {
    let data = vec![b'x'; 1 << 20].into();
    frame(&at(seq), Kind::Event(v1::Event { id: seq.to_string(), data, ..Default::default() }))
}

#[tokio::test(start_paused = true)]
async fn a_large_frame_on_a_slow_line_is_no_silence() {
    let steps = vec![welcome(&at(5)), large_event(6), caught_up(6), Step::Sleep(Duration::MAX)];
    let hub = Hub::new([Dial::Serve(steps)]);
    let notes = Notes::default();
    let before = Instant::now();
    let client = over_a_slow_line(&hub, usize::MAX).start(notes.handler()).unwrap();
    until(&client, |status| status.state == State::Live).await;
    assert!(before.elapsed() > Duration::from_secs(50), "{:?}", before.elapsed());
    assert_eq!((notes.text().as_str(), client.counters().dials), ("Welcome 6 CaughtUp", 1));
}

#[tokio::test(start_paused = true)]
async fn a_line_that_breaks_off_inside_a_frame_is_found_dead() {
    let steps = vec![welcome(&at(5)), large_event(6), Step::Sleep(Duration::MAX)];
    let hub = Hub::new([Dial::Serve(steps)]);
    let client = over_a_slow_line(&hub, 400 << 10).start(Notes::default().handler()).unwrap();
    hub.dialed(2).await;
    // Its last byte comes after 20 s.
    let found = hub.dial_times()[1] - 20.0;
    assert!((10.0..=20.5).contains(&found), "found after {found} s, the wait for the next dial included");
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_failing_handler_gets_the_same_item_again_and_is_seen() {
    let hub = Hub::new([Dial::Serve(
        [vec![welcome(&at(5)), event(6), event(7), caught_up(7)], heartbeats(7, 20)].concat(),
    )]);
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let notes = Notes::default();
    let noted = notes.clone();
    let client = hub.client().start(move |item: Item| {
        noted.note(&item);
        async move {
            if item.cursor() == at(7) && matches!(item, Item::Event(_)) {
                match CALLS.fetch_add(1, Ordering::Relaxed) {
                    0 => return Err(HandlerError::msg("full")),
                    1 => panic!("bug"),
                    2 => Err(std::io::Error::other("disk"))?,
                    _ => {}
                }
            }
            Ok(())
        }
    });
    let client = client.unwrap();
    let trouble = until(&client, |status| status.handler.is_some()).await;
    assert_eq!((&*trouble.handler.unwrap().error, trouble.cursor), ("full", at(6)));
    let trouble = until(&client, |status| status.handler.as_ref().is_some_and(|t| t.failures == 2)).await;
    assert_eq!(&*trouble.handler.unwrap().error, "the handler panicked: bug");
    let trouble = until(&client, |status| status.handler.as_ref().is_some_and(|t| t.failures == 3)).await;
    assert_eq!((&*trouble.handler.unwrap().error, trouble.cursor), ("disk", at(6)));
    until(&client, |status| status.handler.is_none() && status.cursor == at(7)).await;
    settle().await;
    assert_eq!(notes.text(), "Welcome 6 7 7 7 7 CaughtUp");
    assert_eq!((client.counters().handler_failures, client.counters().dials), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn backoff_resets_only_after_proven_health() {
    let closes_at_once = || Dial::Serve(vec![welcome(&at(5)), caught_up(5), Step::Cut]);
    let hub = Hub::new((0..1000).map(|_| closes_at_once()));
    let client = hub.client().start(Notes::default().handler()).unwrap();
    sleep(Duration::from_secs(300)).await;
    let dials = hub.dial_times().len();
    assert!((30..40).contains(&dials), "{dials} dials in 300 s: accepting and closing proves nothing");
    client.shutdown().await;

    let healthy =
        || Dial::Serve([vec![welcome(&at(5)), caught_up(5)], heartbeats(5, 2), vec![Step::Cut]].concat());
    let hub = Hub::new((0..10).map(|_| closes_at_once()).chain([healthy(), healthy()]));
    let client = hub.client().start(Notes::default().handler()).unwrap();
    hub.dialed(13).await;
    let times = hub.dial_times();
    let waits: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits[9] > 9.9, "{waits:?}");
    assert!(waits[10] < 10.3 && waits[11] < 10.3, "10 s of life and 0.2 s of waiting: {waits:?}");
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn hubs_are_tried_in_turn() {
    let hub = Hub::new([
        Dial::Refused,
        Dial::Hang,
        Dial::Serve(vec![welcome(&at(5)), Step::Cut]),
        Dial::Serve(vec![welcome(&at(5)), caught_up(5), Step::Sleep(Duration::MAX)]),
    ]);
    let hub = hub.of_several();
    let client = hub.client().hub("http://b:1,http://c:2").start(Notes::default().handler()).unwrap();
    until(&client, |status| status.state == State::Live).await;
    assert_eq!(hub.dialed_hosts(), ["hub", "b", "c", "hub"]);
    assert_eq!(client.status().borrow().hub, 0);
}

#[tokio::test(start_paused = true)]
async fn another_hub_takes_over_where_the_first_one_died() {
    let live = |from: u64, to| vec![welcome(&at(from)), event(to), caught_up(to)];
    let hub = Hub::new([
        Dial::Serve([live(5, 6), heartbeats(6, 3), vec![Step::Cut]].concat()),
        Dial::Serve([live(6, 7), heartbeats(7, 3), vec![Step::Freeze]].concat()),
        Dial::Refused,
        Dial::Hang,
        Dial::Serve([live(7, 8), vec![Step::Sleep(Duration::MAX)]].concat()),
    ]);
    let notes = Notes::default();
    let hub = hub.of_several();
    let client = hub.client().hub("http://b:1").start(notes.handler()).unwrap();
    until(&client, |status| status.cursor == at(8) && status.state == State::Live).await;
    assert_eq!(hub.dialed_hosts(), ["hub", "b", "hub", "b", "hub"]);
    assert_eq!(hub.cursors(), ["".to_owned(), at(6), at(7), at(7), at(7)]);
    let times = hub.dial_times();
    assert!(times[1] - 15.0 < 0.3, "from a dead hub to the next in 200 ms: {times:?}");
    assert!(times[2] - times[1] - 15.0 <= 20.3, "and from a frozen one in 20 s");
    let text = notes.text().replace(" Progress", "");
    assert_eq!(text, "Welcome 6 CaughtUp Welcome 7 CaughtUp Welcome 8 CaughtUp");
}

#[tokio::test(start_paused = true)]
async fn every_state_shows_with_the_error_that_led_there() {
    let goodbye = v1::Goodbye { reason: v1::GoodbyeReason::Slow.into(), ..Default::default() };
    let fell = v1::FellBehind { events: 9, ..Default::default() };
    let hub = Hub::new([
        Dial::Refused,
        Dial::Serve(vec![crate::hub::code(tonic::Code::Unauthenticated)]),
        Dial::Serve(vec![crate::hub::code(tonic::Code::Aborted)]),
        Dial::Serve(vec![
            welcome(&at(5)),
            seconds(1),
            caught_up(5),
            seconds(1),
            frame(&at(5), Kind::FellBehind(fell)),
            seconds(1),
            caught_up(5),
            seconds(1),
            frame(&at(5), Kind::Goodbye(goodbye)),
            crate::hub::code(tonic::Code::Unavailable),
        ]),
    ]);
    let client = hub.client().start(Notes::default().handler()).unwrap();
    let mut shown = client.status();
    let mut states = Vec::new(); // a state that lasts no time is not seen, such as connecting in here
    while hub.dialed_hosts().len() < 5 {
        let status = shown.borrow_and_update().clone();
        let error = status.last_error.map(|error| error.to_string()).unwrap_or_default();
        let line = format!("{} {}", status.state, error.split(':').next().unwrap_or_default());
        if states.last() != Some(&line) {
            states.push(line);
        }
        shown.changed().await.unwrap();
    }
    let (unreachable, unauthenticated) = ("cannot reach the hub", "the hub answered UNAUTHENTICATED");
    let (aborted, unavailable) = ("the hub answered ABORTED", "the hub answered UNAVAILABLE");
    let expected = [
        ("connecting", ""),
        ("backing off", unreachable),
        ("refused", unauthenticated),
        ("conflicted", aborted),
        ("catching up", aborted),
        ("live", aborted),
        ("catching up", aborted),
        ("live", aborted),
        ("backing off", unavailable),
    ];
    assert_eq!(states, expected.map(|(state, error)| format!("{state} {error}")));
    assert_eq!(client.shutdown().await.state.to_string(), "stopped");
}

#[tokio::test(start_paused = true)]
async fn frames_are_found_however_the_bytes_are_cut() {
    let all: Vec<u8> = [welcome(&at(0))]
        .into_iter()
        .chain((1..=5000).map(event))
        .chain([caught_up(5000)])
        .map(bytes)
        .collect::<Vec<_>>()
        .concat();
    for size in [1, 7, 4096, all.len()] {
        let some = if size == 1 { 3000 } else { all.len() };
        let mut steps: Vec<_> = all[..some].chunks(size).map(|chunk| Step::Send(chunk.to_vec())).collect();
        steps.extend([Step::Send(all[some..].to_vec()), Step::Sleep(Duration::MAX)]);
        let hub = Hub::new([Dial::Serve(steps)]);
        let client = hub.client().start_batches(Counting::default()).unwrap();
        let status = until(&client, |status| status.state == State::Live && status.cursor == at(5000)).await;
        assert_eq!((status.counters.records, status.counters.handled), (5000, 5002));
        assert_eq!(status.counters.bytes, all.len() as u64);
    }
}

fn bytes(step: Step) -> Vec<u8> {
    match step {
        Step::Send(bytes) => bytes,
        _ => Vec::new(),
    }
}

#[derive(Default)]
struct Counting(u64);

impl BatchHandler for Counting {
    async fn handle(&mut self, batch: &mut Batch) -> Result<(), HandlerError> {
        for item in batch.items().iter().filter(|item| matches!(item, Item::Event(_))) {
            self.0 += 1;
            assert_eq!(item.cursor(), at(self.0));
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_names_the_wait() {
    let goodbye = v1::Goodbye {
        reason: v1::GoodbyeReason::Draining.into(),
        retry_after: Some("3s".parse().unwrap()),
        reconnect: true,
    };
    let hub = Hub::new([Dial::Serve(vec![
        welcome(&at(5)),
        event(6),
        frame(&at(6), Kind::Goodbye(goodbye)),
        crate::hub::code(tonic::Code::Unavailable),
    ])]);
    let client = hub.client().start(Notes::default().handler()).unwrap();
    hub.dialed(2).await;
    assert_eq!((hub.dial_times()[1] * 10.0).round(), 32.0);
    assert_eq!(client.cursor(), at(6));
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_handles_are_gone_stops() {
    let hub = Hub::new([Dial::Serve(vec![welcome(&at(5)), caught_up(5), Step::Sleep(Duration::MAX)])]);
    let client = hub.client().start(Notes::default().handler()).unwrap();
    let mut status = client.status();
    status.wait_for(|status| status.state == State::Live).await.unwrap();
    let other = client.clone();
    drop(client);
    settle().await;
    assert_eq!(status.borrow().state, State::Live, "one handle is left");
    drop(other);
    let before = Instant::now();
    let stopped = status.wait_for(|status| status.state == State::Stopped);
    tokio::time::timeout(Duration::from_secs(60), stopped).await.unwrap().unwrap();
    assert_eq!(before.elapsed(), Duration::ZERO);
}
