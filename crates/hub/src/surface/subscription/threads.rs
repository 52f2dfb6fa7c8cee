//! Models of streams beside appends, takeovers and a drain (`cargo xtask threads`): the real log, ownership table and subscriptions under
//! schedules that shuttle chooses. Events go straight into the log, as a store puts them there.

use std::sync::atomic::{AtomicBool, Ordering};

use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::cursor::{Cursor, Seq};
use galaxy_push_core::frame::{LogKind, put_log_frame};
use galaxy_push_core::window::Traits;
use galaxy_push_listener::Outflow;
use galaxy_push_proto::v1::push_event::Kind;
use galaxy_push_proto::v1::{Event, GatewaySubscribeRequest, PushEvent};
use galaxy_push_store::{Committed, Sink as _};
use prost::Message as _;
use shuttle::future::block_on;
use shuttle::thread;

use super::request::SubscribeRequest;
use super::*;
use crate::app::Hub;
use crate::app::config::Config;
use crate::schedules::{Seen, explore};
use crate::state::access::Caller;

fn hub() -> Hub {
    Hub::in_memory(Config::default(), Ambient::new(|| 0, || 4)).unwrap()
}

/// Appends the event of this position.
fn append(hub: &Hub, seq: u64) {
    let (kind, mut frame) = (LogKind::Event, Vec::new());
    let cursor = Cursor { seq: Seq(seq), ..hub.head().cursor };
    put_log_frame(&mut frame, kind, Some(cursor), b"\x0a\x03all", 0);
    let event = Committed { kind, cursor, traits: Traits::PLAIN, frame: frame.into(), appended_unix_ms: 0 };
    hub.shared.log.committed(&[event]);
}

fn subscribe(hub: &Hub, instance: &str) -> Result<Box<Subscription>, Failure> {
    let request = GatewaySubscribeRequest {
        gateway_client_id: "gw".to_owned(),
        instance_id: instance.to_owned(),
        attempt: 1,
        ..GatewaySubscribeRequest::default()
    };
    let wanted = SubscribeRequest::check(request, "peer".to_owned(), &Caller::process()).unwrap();
    block_on(Subscription::open(&hub.shared, wanted, Outflow::default(), None))
}

/// The frames of the next piece; `None` at the end, or with the trailers.
fn frames(stream: &mut Subscription) -> Option<Vec<PushEvent>> {
    let mut piece = block_on(stream.next())?.into_data().ok()?;
    let mut frames = Vec::new();
    while !piece.is_empty() {
        let prefix = piece.split_to(5);
        let bytes = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        frames.push(PushEvent::decode(&piece.split_to(bytes)[..]).unwrap());
    }
    Some(frames)
}

fn seq(frame: &PushEvent) -> u64 {
    Cursor::parse(&frame.cursor).unwrap().seq.0
}

fn is_goodbye(frame: &PushEvent) -> bool {
    matches!(frame.kind, Some(Kind::Goodbye(_)))
}

#[test]
fn nothing_appended_after_a_takeover_reaches_the_older() {
    let (before, after) = (Seen::default(), Seen::default());
    let sights = (before.clone(), after.clone());
    explore(
        "hub: takeover",
        "what is appended after the position at which a newer stream was accepted does not reach the older one",
        move || {
            let hub = hub();
            let mut older = subscribe(&hub, "a").unwrap();
            let reader = thread::spawn(move || {
                let mut all = Vec::new();
                while let Some(frames) = frames(&mut older) {
                    all.extend(frames);
                }
                all
            });
            let appender = {
                let hub = hub.clone();
                thread::spawn(move || (1..=3).for_each(|seq| append(&hub, seq)))
            };
            let newer = subscribe(&hub, "b").unwrap();
            let accepted_at = newer.reader.position().seq.0;
            let all = reader.join().unwrap();
            appender.join().unwrap();
            let last = all.iter().map(seq).max().unwrap_or_default();
            assert!(last <= accepted_at, "{last} after {accepted_at}");
            let passed = all.iter().rfind(|frame| !is_goodbye(frame)).map(seq);
            // A stream that was not welcomed yet says nothing.
            assert_eq!(all.last().filter(|last| is_goodbye(last)).map(seq), passed, "{all:?}");
            sights.0.count(u64::from(accepted_at > 0));
            sights.1.count(u64::from(accepted_at < 3));
        },
    );
    assert!(before.in_some() && after.in_some(), "it shows nothing");
}

#[test]
fn a_stream_that_waits_hears_of_every_append() {
    explore(
        "hub: bell",
        "a stream that has nothing to do is woken for what is appended between its look at the log and its wait",
        || {
            let hub = hub();
            let mut stream = subscribe(&hub, "a").unwrap();
            let appender = {
                let hub = hub.clone();
                thread::spawn(move || (1..=3).for_each(|seq| append(&hub, seq)))
            };
            let mut seen = Vec::new();
            while seen.last() != Some(&3) {
                let frames = frames(&mut stream).expect("it goes on");
                seen.extend(frames.iter().filter(|each| matches!(each.kind, Some(Kind::Event(_)))).map(seq));
            }
            appender.join().unwrap();
            assert!(seen.is_sorted_by(|one, next| one + 1 == *next), "{seen:?}");
        },
    );
}

#[test]
fn whoever_comes_beside_a_drain_is_refused_or_waited_for() {
    let (admitted, refused) = (Seen::default(), Seen::default());
    let sights = (admitted.clone(), refused.clone());
    explore(
        "hub: drain",
        "a stream that is asked for while a drain begins is refused, or told to go and waited for",
        move || {
            let hub = hub();
            append(&hub, 1);
            let is_drained = Arc::new(AtomicBool::new(false));
            let comes = {
                let (hub, is_drained) = (hub.clone(), is_drained.clone());
                thread::spawn(move || {
                    let Ok(mut stream) = subscribe(&hub, "a") else { return false };
                    let mut all = Vec::new();
                    while let Some(frames) = frames(&mut stream) {
                        all.extend(frames);
                        assert!(!is_drained.load(Ordering::SeqCst), "it was not waited for");
                    }
                    assert!(all.last().is_some_and(is_goodbye), "it was not told");
                    true
                })
            };
            block_on(hub.drain(Duration::from_secs(10)));
            is_drained.store(true, Ordering::SeqCst);
            let was_admitted = comes.join().unwrap();
            sights.0.count(u64::from(was_admitted));
            sights.1.count(u64::from(!was_admitted));
        },
    );
    assert!(admitted.in_some() && refused.in_some(), "it shows nothing");
}

#[test]
fn what_is_acknowledged_is_before_the_last_position_that_a_drain_names() {
    let (acknowledged, refused) = (Seen::default(), Seen::default());
    let sights = (acknowledged.clone(), refused.clone());
    explore(
        "hub: publishes and drain",
        "the head after a drain has let the publishes finish is the last position that is acknowledged",
        move || {
            let hub = hub();
            let publisher = {
                let hub = hub.clone();
                thread::spawn(move || {
                    let event = Event {
                        to: vec!["all".into()],
                        id: "a".into(),
                        source: "/s".into(),
                        r#type: "t".into(),
                        ..Event::default()
                    };
                    block_on(hub.publish(vec![event])).is_ok()
                })
            };
            // Or the publisher never comes before the drain.
            (0..4).for_each(|_| thread::yield_now());
            let head = block_on(hub.finish_publishes(Duration::from_secs(10)));
            let was_acknowledged = publisher.join().unwrap();
            assert_eq!(head.cursor.seq.0, u64::from(was_acknowledged));
            sights.0.count(u64::from(was_acknowledged));
            sights.1.count(u64::from(!was_acknowledged));
        },
    );
    assert!(acknowledged.in_some() && refused.in_some(), "it shows nothing");
}
