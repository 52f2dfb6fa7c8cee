//! The table by itself: which connections are found, woken and asked for progress.

use galaxy_push_core::cursor::{Epoch, Seq};
use galaxy_push_core::wire::put_bytes;
use std::collections::VecDeque;

use super::*;
use crate::state::grants::Identity;

fn routes(mailbox_slots: usize, events: u64) -> Arc<Routes> {
    let bounds = Bounds { events, ..Bounds::default() };
    Routes::new(Cursor::start(Epoch(1)), bounds, mailbox_slots, Arc::new(Counters::default()))
}

fn place(slot: u64) -> DispatchedUpTo {
    DispatchedUpTo { slot: Slot::default().plus(slot), cursor: Cursor { epoch: Epoch(1), seq: Seq(slot) } }
}

/// Dispatches one event per list of recipients, from this slot on.
fn dispatch(routes: &Routes, from: u64, events: &[&[&str]]) {
    let bodies: Vec<Vec<u8>> = events
        .iter()
        .map(|to| {
            let mut body = Vec::new();
            to.iter().for_each(|to| put_bytes(&mut body, 1, to.as_bytes()));
            body
        })
        .collect();
    let dispatches = bodies.iter().zip(from..).map(|(body, slot)| Dispatch {
        slot: place(slot).slot,
        cursor: place(slot).cursor,
        bytes: 100,
        event: Some(EventView::of(body)),
    });
    routes.dispatch(dispatches, place(from + events.len() as u64));
}

fn listening(routes: &Arc<Routes>, recipients: &[&str]) -> Registration {
    let mut identity = Identity::default();
    let mut topics = Vec::new();
    for recipient in recipients {
        match recipient.split_once(':').unwrap() {
            ("user", id) => identity.user = Some(id.to_owned()),
            ("session", id) => identity.session = Some(id.to_owned()),
            _ => topics.push((*recipient).to_owned()),
        }
    }
    let registration = routes.register(&identity, topics, 0).unwrap();
    assert!(registration.go_live(routes.dispatched().slot, None).is_some());
    registration
}

fn mail(registration: &Registration) -> Vec<u64> {
    let mut inbox = VecDeque::new();
    assert!(matches!(registration.mailbox().receive(&mut inbox), Received::Slots { .. }));
    inbox.iter().map(|queued: &QueuedSlot| queued.slot.since(Slot::default())).collect()
}

#[test]
fn an_event_for_several_recipients_of_one_connection_comes_once() {
    let routes = routes(16, 1_000);
    let ann = listening(&routes, &["user:ann", "session:1", "topic:t"]);
    let bob = listening(&routes, &["user:bob"]);
    dispatch(
        &routes,
        0,
        &[&["user:ann", "topic:t", "session:1", "all"], &["user:bob"], &["user:eve"], &["topic:t"]],
    );
    assert_eq!(mail(&ann), [0, 3]);
    assert_eq!(mail(&bob), [0, 1]);
}

#[test]
fn a_gap_is_for_everybody() {
    let routes = routes(16, 1_000);
    let (ann, nobody) = (listening(&routes, &["user:ann"]), listening(&routes, &[]));
    routes.dispatch(
        [Dispatch { slot: place(0).slot, cursor: place(0).cursor, bytes: 10, event: None }],
        place(1),
    );
    assert_eq!((mail(&ann), mail(&nobody)), (vec![0], vec![0]));
}

#[tokio::test]
async fn a_batch_wakes_a_connection_once_and_the_others_not_at_all() {
    let routes = routes(16, 1_000);
    let (ann, bob) = (listening(&routes, &["user:ann"]), listening(&routes, &["user:bob"]));
    dispatch(&routes, 0, &[&["user:ann"], &["user:ann"], &["user:ann"]]);
    let woken = |registration: &Registration| {
        use futures_util::FutureExt as _;
        registration.mailbox().woken().now_or_never().is_some()
    };
    assert!(woken(&ann));
    assert!(!woken(&ann));
    assert!(!woken(&bob));
    dispatch(&routes, 3, &[&["user:bob"]]);
    assert!(woken(&bob) && !woken(&ann));
}

#[test]
fn a_full_mailbox_is_emptied_and_joins_again_only_at_the_end() {
    let routes = routes(2, 1_000);
    let ann = listening(&routes, &["user:ann"]);
    dispatch(&routes, 0, &[&["user:ann"], &["user:ann"], &["user:ann"]]);
    assert_eq!(routes.counters.mailbox_overflows.get(), 1);
    let from = mailbox::ScanFrom { first: Slot::default(), lasting: Slot::default() };
    assert_eq!(ann.mailbox().receive(&mut VecDeque::new()), Received::Overflowed(Some(from)));
    dispatch(&routes, 3, &[&["user:ann"]]);
    assert_eq!(ann.go_live(place(3).slot, None), None, "one more was dispatched meanwhile");
    assert_eq!(ann.go_live(place(4).slot, None), Some(place(4)));
    dispatch(&routes, 4, &[&["user:ann"]]);
    assert_eq!(mail(&ann), [4]);
}

#[test]
fn everybody_is_asked_to_speak_when_an_eighth_of_the_window_has_passed() {
    let routes = routes(16, 80);
    let quiet = listening(&routes, &["user:quiet"]);
    let progress_requested = |registration: &Registration| {
        registration.mailbox().receive(&mut VecDeque::new()) == Received::Slots { progress_requested: true }
    };
    for slot in 0..10 {
        dispatch(&routes, slot, &[&["user:busy"]]);
    }
    assert!(!progress_requested(&quiet));
    dispatch(&routes, 10, &[&["user:busy"]]);
    assert!(progress_requested(&quiet));
    assert!(!progress_requested(&quiet));
}

#[test]
fn whoever_leaves_is_forgotten() {
    let routes = routes(16, 1_000);
    let mut ann = listening(&routes, &["user:ann", "topic:t"]);
    assert_eq!(ann.add(["topic:u".to_owned()], true), Added::At(place(0)));
    ann.remove(["topic:t".to_owned()]);
    dispatch(&routes, 0, &[&["topic:t"], &["topic:u"]]);
    assert_eq!(mail(&ann), [1]);
    dispatch(&routes, 2, &[&["topic:u"]]);
    assert_eq!(ann.add(["topic:v".to_owned()], true), Added::MustScan, "its slots were not received");
    assert_eq!(routes.len(), 1);
    drop(ann);
    assert_eq!(routes.len(), 0);
    assert!(routes.read().by_recipient.is_empty() && routes.read().members.is_empty());
}

/// A hub's clock may be behind: what it says holds may be over here.
#[test]
fn a_membership_that_is_over_when_it_is_named_leaves_nothing_behind() {
    use galaxy_push_proto::v1::Membership;

    let routes = routes(16, 1_000);
    let ann = listening(&routes, &["user:ann"]);
    let record = |seconds: Option<i64>| Membership {
        recipient: "user:ann".into(),
        topic: "t".into(),
        member: true,
        expires_at: seconds.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
    };
    let apply_access = |rule: AccessChange| {
        routes.apply_access([(&rule, Slot::default())], Slot::default(), Slot::default(), 5_000)
    };
    apply_access(AccessChange::Membership(record(None)));
    assert!(!routes.read().members.is_empty());
    apply_access(AccessChange::AllMemberships(vec![record(Some(5))]));
    assert!(routes.read().members.is_empty());
    apply_access(AccessChange::AllMemberships(vec![record(None)]));
    apply_access(AccessChange::AllMemberships(vec![Membership { member: false, ..record(None) }]));
    assert!(routes.read().members.is_empty(), "who is named as no member is none");
    apply_access(AccessChange::AllMemberships(vec![record(None)]));
    drop(ann);
    assert!(routes.read().members.is_empty());
}
