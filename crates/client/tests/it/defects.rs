//! The ten defects of the hand-written gateway client that this one replaces, as far as they are a client's. Each test
//! fails on a client that has the defect.
//!
//! What a hub must do about 3 (an id that flaps is found and settled), 5 (nothing larger than the peer takes is sent) and 10 (the
//! gateway id belongs to a credential) is tested there.

use std::future::{pending, ready};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use galaxy_push_client::backoff::{Backoff, Cause, Config};
use galaxy_push_client::{
    BuildError, Failure, GapReason, HandlerError, Item, PushClient, RetryPolicy, State,
};
use galaxy_push_core::cursor::{Cursor, Epoch, Seq};
use galaxy_push_proto::Reason;
use galaxy_push_proto::v1::{self, push_event::Kind};
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::hub::{
    Dial, Hub, Notes, Step, at, caught_up, code, event, frame, heartbeats, settle, status, until, welcome,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn failure(reason: Reason) -> Step {
    status(&galaxy_push_proto::Failure::new(reason, "no"))
}

#[tokio::test(start_paused = true)]
async fn seed_defect_01_backoff_never_resets() {
    let week = [vec![welcome(&at(5)), caught_up(5)], heartbeats(5, 7 * 24 * 720), vec![Step::Cut]].concat();
    let healthy = vec![welcome(&at(5)), caught_up(5), Step::Sleep(Duration::MAX)];
    let hub = Hub::new((0..20).map(|_| Dial::Refused).chain([Dial::Serve(week), Dial::Serve(healthy)]));
    let client = hub.client().start(Notes::default().handler()).unwrap();
    hub.dialed(21).await;
    let times = hub.dial_times();
    assert!(times[20] - times[19] > 9.9, "an outage has driven the wait up to the cap");
    until(&client, |status| status.state == State::Live).await;
    tokio::time::timeout(8 * DAY, hub.dialed(22)).await.unwrap();
    let times = hub.dial_times();
    let wait = times[21] - times[20] - (7 * 24 * 3600) as f64;
    assert!(wait < 0.3, "one blip after a week costs {wait} s and not the cap");
}

#[tokio::test(start_paused = true)]
async fn seed_defect_02_a_half_open_link_hangs_for_ever() {
    let live = [vec![welcome(&at(5)), caught_up(5)], heartbeats(5, 2), vec![Step::Freeze]].concat();
    for (steps, frozen_at) in
        [(live, 10.0), (vec![Step::Freeze], 0.0), (vec![Step::Ignore, Step::Freeze], 0.0)]
    {
        let hub = Hub::new([Dial::Serve(steps)]);
        let client = hub.client().start(Notes::default().handler()).unwrap();
        hub.dialed(2).await;
        let found = hub.dial_times()[1] - frozen_at;
        assert!(found <= 20.0, "found after {found} s");
        client.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn seed_defect_03_an_evicted_gateway_evicts_its_rival_at_once() {
    let replaced = status(&galaxy_push_proto::Failure::replaced("other", "10.0.0.2"));
    let evicted = || Dial::Serve(vec![welcome(&at(5)), caught_up(5), replaced.clone()]);
    let held_off =
        galaxy_push_proto::Failure::new(Reason::HeldOff, "no").retry_after(Duration::from_secs(60));
    let hub = Hub::new((0..100).map(|_| evicted()));
    let client = hub.client().random(|| 0).start(Notes::default().handler()).unwrap();
    sleep(Duration::from_secs(300)).await;
    let dials = hub.dial_times().len();
    assert!((50..=61).contains(&dials), "{dials} evictions in 300 s, at the shortest waits");
    assert_eq!(client.status().borrow().state, State::Conflicted, "and an operator sees why");
    client.shutdown().await;

    let hub = Hub::new((0..100).map(|_| Dial::Serve(vec![status(&held_off)])));
    let client = hub.client().random(|| 0).start(Notes::default().handler()).unwrap();
    sleep(Duration::from_secs(300)).await;
    assert_eq!(hub.dial_times().len(), 5, "held off, it comes back when it was told to");
    client.shutdown().await;
}

#[test]
fn seed_defect_04_jitter_overshoots_the_cap_and_keeps_a_herd_together() {
    let config = Config::default();
    let herd: Vec<_> = (0..1000u64)
        .map(|peer| {
            let mut backoff = Backoff::try_new(config.clone()).unwrap();
            let random = |n: u64| {
                (peer * 31 + n)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .rotate_left(31)
                    .wrapping_mul(0xbf58_476d_1ce4_e5b9)
            };
            (0..40).map(|n| backoff.delay(Cause::Lost, None, random(n))).last().unwrap()
        })
        .collect();
    assert!(herd.iter().all(|delay| *delay <= config.cap), "never above the cap");
    for tenth in 0..10 {
        let (from, to) = (config.cap * tenth / 10, config.cap * (tenth + 1) / 10);
        let share = herd.iter().filter(|delay| **delay >= from && **delay < to).count();
        assert!((60..=140).contains(&share), "{share} of 1000 peers come in tenth {tenth} of the wait");
    }
}

#[tokio::test(start_paused = true)]
async fn seed_defect_05_an_event_too_large_comes_again_for_ever() {
    // The hub is told what fits, and tells a gap in place of what does not: the stream goes on.
    let gap = v1::Gap {
        reason: v1::GapReason::TooLarge.into(),
        from: at(5),
        to: at(6),
        count: Some(1),
        ..Default::default()
    };
    let steps = vec![welcome(&at(5)), frame(&at(6), Kind::Gap(gap)), event(7), caught_up(7)];
    let hub = Hub::new([Dial::Serve([steps, vec![Step::Sleep(Duration::MAX)]].concat())]);
    let notes = Notes::default();
    let client = hub.client().max_receive_bytes(1024).start(notes.handler()).unwrap();
    until(&client, |status| status.state == State::Live && status.cursor == at(7)).await;
    settle().await;
    assert_eq!(notes.text(), "Welcome gap:TooLarge 7 CaughtUp");
    assert_eq!(hub.requests::<v1::GatewaySubscribeRequest>()[0].max_receive_bytes, 1024);
    client.shutdown().await;

    // A hub that sends it all the same is no hot loop, and an operator reads what to change.
    let large = v1::Event { data: vec![0; 2000].into(), ..Default::default() };
    let steps = vec![welcome(&at(5)), event(6), frame(&at(7), Kind::Event(large))];
    let hub = Hub::new((0..1000).map(|_| Dial::Serve(steps.clone())));
    let client = hub.client().max_receive_bytes(1024).start(Notes::default().handler()).unwrap();
    sleep(Duration::from_secs(300)).await;
    let (dials, status) = (hub.dial_times().len(), client.status().borrow().clone());
    assert!((30..40).contains(&dials), "{dials} dials in 300 s");
    assert_eq!(status.cursor, at(6), "what came before it is kept");
    assert!(matches!(*status.last_error.unwrap(), Failure::Unsplittable(_)));
}

#[tokio::test(start_paused = true)]
async fn seed_defect_06_refusals_are_retried_as_if_they_would_pass() {
    for refused in [Code::Unauthenticated, Code::PermissionDenied, Code::InvalidArgument, Code::Unimplemented]
    {
        let hub = Hub::new((0..1000).map(|_| Dial::Serve(vec![code(refused)])));
        let client = hub.client().start(Notes::default().handler()).unwrap();
        sleep(Duration::from_secs(600)).await;
        let dials = hub.dial_times().len();
        assert!((10..=21).contains(&dials), "{refused:?}: {dials} dials in 10 minutes");
        assert_eq!(client.status().borrow().state, State::Refused);
        client.shutdown().await;
    }
    let hub = Hub::new([Dial::Serve(vec![failure(Reason::NotGranted)])]);
    let client = hub.client().start(Notes::default().handler()).unwrap();
    let status = until(&client, |status| status.state == State::Refused).await;
    assert!(status.last_error.unwrap().to_string().contains("PERMISSION_DENIED NOT_GRANTED"));
}

#[tokio::test(start_paused = true)]
async fn seed_defect_07_somebody_elses_cancellation_ends_the_client() {
    // Whatever a foreign dialer says, and even if it panics, only the owner ends a client.
    let dials = std::sync::Arc::new(AtomicU32::new(0));
    let counted = dials.clone();
    let connector = move |_: String, _: u16| {
        let number = counted.fetch_add(1, Ordering::Relaxed);
        assert!(number != 3, "context canceled");
        ready(Err::<tokio::io::DuplexStream, _>(match number {
            0 => io::Error::other("context canceled"),
            1 => io::ErrorKind::Interrupted.into(),
            2 => io::ErrorKind::UnexpectedEof.into(),
            _ => io::ErrorKind::ConnectionAborted.into(),
        }))
    };
    let client = Hub::new([]).client().connector(connector).start(Notes::default().handler()).unwrap();
    let status = until(&client, |status| status.counters.lost == 4).await;
    assert!(status.last_error.unwrap().to_string().contains("the connector panicked: context canceled"));
    until(&client, |status| status.counters.dials >= 6).await;
    assert_eq!(client.shutdown().await.state, State::Stopped);

    // A status CANCELLED is a server's word and no order either.
    let healthy = vec![welcome(&at(5)), caught_up(5), Step::Sleep(Duration::MAX)];
    let hub = Hub::new([Dial::Serve(vec![code(Code::Cancelled)]), Dial::Serve(healthy)]);
    let client = hub.client().start(Notes::default().handler()).unwrap();
    until(&client, |status| status.state == State::Live).await;
    assert_eq!(client.counters().lost, 1);
}

#[tokio::test(start_paused = true)]
async fn seed_defect_08_a_handler_that_blocks_panics_or_fails_stalls_all() {
    let steps =
        [vec![welcome(&at(5)), event(6), event(7), event(8), event(9), caught_up(9)], heartbeats(9, 99)];
    let hub = Hub::new([Dial::Serve(steps.concat())]);
    let letters = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let taken = letters.clone();
    let builder = hub.client().retry(RetryPolicy::times(1)).handler_deadline(Duration::from_secs(40));
    let builder = builder.dead_letter(move |item: Item, error: HandlerError| {
        taken.lock().unwrap().push(format!("{}: {error}", item.frame().view().event().unwrap().id()));
        ready(Ok(()))
    });
    let client = builder.start(async |item: Item| {
        match item.frame().view().event().map(|event| event.id().to_owned()).as_deref() {
            Some("6") => pending().await,
            Some("7") => panic!("seven"),
            Some("8") => Err(HandlerError::msg("eight")),
            _ => Ok(()),
        }
    });
    let client = client.unwrap();
    let busy = until(&client, |status| status.handling_since.is_some()).await;
    assert!(busy.state == State::CatchingUp);
    until(&client, |status| status.cursor == at(9) && status.state == State::Live).await;
    let said = letters.lock().unwrap().clone();
    assert_eq!(said, ["6: the handler was not done after 40s", "7: the handler panicked: seven", "8: eight"]);
    assert_eq!(client.counters().dials, 1, "and the stream outlives 80 s without reading");
}

#[tokio::test(start_paused = true)]
async fn seed_defect_09_a_cursor_without_an_epoch_names_another_log() {
    let second = |seq| Cursor { epoch: Epoch(2), seq: Seq(seq) }.to_string();
    let other = frame(&second(7), Kind::Event(v1::Event { id: "other".into(), ..Default::default() }));
    // Not believed without being told, though the position alone would fit...
    let untold = vec![welcome(&at(5)), event(6), other.clone()];
    // ... and told, it is a gap that the handler sees.
    let gap = v1::Gap {
        reason: v1::GapReason::EpochChanged.into(),
        from: at(6),
        to: second(6),
        ..Default::default()
    };
    let told = vec![welcome(&at(6)), frame(&second(6), Kind::Gap(gap)), other, Step::Sleep(Duration::MAX)];
    let hub = Hub::new([Dial::Serve(untold), Dial::Serve(told)]);
    let notes = Notes::default();
    let client = hub.client().start(notes.handler()).unwrap();
    until(&client, |status| status.cursor == second(7)).await;
    assert_eq!(notes.text(), format!("Welcome 6 Welcome gap:{:?} other", GapReason::EpochChanged));
    assert_eq!(hub.cursors(), ["".to_owned(), at(6)]);
    assert_eq!(client.counters().lost, 1);
}

#[tokio::test(start_paused = true)]
async fn seed_defect_10_the_gateway_id_is_taken_on_trust() {
    // The client's share: it proves itself with a token, and names its process, so that a hub need not trust the id.
    let hub = Hub::new([Dial::Serve(vec![welcome(&at(5)), Step::Cut]), Dial::Serve(vec![Step::Ignore])]);
    let client = hub.client().token("s3cr3t").start(Notes::default().handler()).unwrap();
    hub.dialed(3).await;
    assert_eq!(hub.authorizations(), ["Bearer s3cr3t", "Bearer s3cr3t"]);
    let requests = hub.requests::<v1::GatewaySubscribeRequest>();
    assert_eq!(requests.iter().map(|request| request.attempt).collect::<Vec<_>>(), [1, 2]);
    assert!(requests.iter().all(|request| request.instance_id.len() == 32));
    assert!(!format!("{client:?}").contains("s3cr3t"));
    let builder = || PushClient::builder("g").hub("http://hub").random(|| 0);
    for bad in ["", "two words", "new\nline", "h\u{e4}"] {
        let refused = builder().token(bad).start(Notes::default().handler()).unwrap_err();
        assert!(matches!(refused, BuildError::Token), "{bad:?}");
    }
    let before = Instant::now();
    client.shutdown().await;
    assert_eq!(before.elapsed(), Duration::ZERO);
}
