//! Real threads: one appends and dispatches, others read. Where a connection leaves scanning for its mailbox, nothing may
//! fall between the two.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::cursor::{Ask, Cursor, Epoch};
use galaxy_push_core::frame::{EventView, message, put_event_frame};
use galaxy_push_core::reader::Settings;
use galaxy_push_core::window::{Bounds, Traits};
use galaxy_push_core::wire::put_bytes;

use super::*;
use crate::clock::Clock;
use crate::edge::Change;
use crate::grants::Grants;
use crate::metrics::Metrics;
use crate::routes::Letter;

const EVENTS: u64 = 30_000;

/// The event's number in its log; every third is for ann, every other for bob, none for eve.
fn recipient(number: u64) -> &'static str {
    if number.is_multiple_of(3) { "user:ann" } else { "user:bob" }
}

fn write(edge: &Edge) {
    let mut cursor = Cursor::start(Epoch(1));
    for number in 1..=EVENTS {
        cursor = cursor.next();
        let mut event = Vec::new();
        edge.apply(&[append(cursor, recipient(number), number, &mut event)]);
    }
}

/// An event of this number. Its bytes are put into `event`.
fn append<'a>(cursor: Cursor, to: &str, number: u64, event: &'a mut Vec<u8>) -> Change<'a> {
    let mut frame = Vec::new();
    put_bytes(event, 1, to.as_bytes());
    put_bytes(event, 2, number.to_string().as_bytes());
    put_event_frame(&mut frame, Some(cursor), event, 1);
    Change::Append { cursor, traits: Traits::PLAIN, frame: frame.into(), event: Some(EventView::of(event)) }
}

/// A connection at the beginning of the log.
fn open(edge: &Arc<Edge>, user: &str) -> Connection {
    let identity =
        Identity { user: Some(user.to_owned()), grants: Grants::everything(), ..Identity::default() };
    let reader = edge
        .read(edge.clock.now(), |window| Reader::open(window, Ask::Oldest, "oldest", Settings::default()));
    let limits = Limits { topics: 1, turn_bytes: 1_000 };
    Connection::open(edge.clone(), reader, identity, BTreeSet::new(), limits).unwrap()
}

fn edge() -> Arc<Edge> {
    let clock = Clock::start(Ambient::new(|| 0, || 0));
    let edge = Edge::new(Bounds::default(), 3, clock, Arc::new(Metrics::default()));
    edge.apply(&[Change::Begin(Cursor::start(Epoch(1)))]);
    edge
}

/// Reads to the end of the log and returns the numbers of the events it was sent.
fn read(edge: Arc<Edge>, user: &str) -> Vec<u64> {
    let mut connection = open(&edge, user);
    let (mut seen, mut out) = (Vec::new(), Vec::new());
    while connection.reader.passed().seq.0 < EVENTS {
        connection.visit(edge.clock.now(), &mut out);
        for outgoing in out.drain(..) {
            if let Outgoing::Entry { framed, .. } = outgoing {
                let view = galaxy_push_core::frame::FrameView::read(message(&framed)).unwrap();
                seen.push(view.event().unwrap().id().parse().unwrap());
            }
        }
        std::thread::yield_now();
    }
    seen
}

/// One writer and four readers, each of which sees exactly what is for it. Returns how many mailboxes overflowed.
fn race() -> u64 {
    let edge = edge();
    std::thread::scope(|threads| {
        let readers: Vec<_> = ["ann", "bob", "eve", "ann"]
            .into_iter()
            .map(|user| {
                let edge = edge.clone();
                (user, threads.spawn(move || read(edge, user)))
            })
            .collect();
        threads.spawn(|| write(&edge));
        for (user, reader) in readers {
            let theirs = format!("user:{user}");
            let wanted: Vec<u64> = (1..=EVENTS).filter(|number| recipient(*number) == theirs).collect();
            let seen = reader.join().unwrap();
            let differ = seen.iter().zip(&wanted).position(|(seen, wanted)| seen != wanted);
            assert_eq!((differ, seen.len()), (None, wanted.len()), "{user}");
        }
    });
    edge.metrics.mailbox_overflows.get()
}

#[test]
fn nothing_falls_between_scanning_and_the_mailbox() {
    // Readers that are scheduled well keep up; then it is run again.
    assert!((0..30).any(|_| race() > 0), "the mailboxes never overflowed");
}

/// The fault: a connection took its mail, then asked how far was dispatched, and passed over what was put into its mailbox
/// between the two. Here a dispatch has begun when it looks, and goes on while it is in the middle of that.
#[test]
fn nothing_falls_between_the_mail_and_how_far_was_dispatched() {
    for round in 0..20 {
        let edge = edge();
        let mut connection = open(&edge, "ann");
        let mut out = Vec::new();
        while !matches!(connection.visit(edge.clock.now(), &mut out), Rest::Until(_)) {}
        out.clear();
        let mut event = Vec::new();
        let change = append(Cursor::start(Epoch(1)).next(), "user:ann", 1, &mut event);
        let (_, upto) = edge.hold(std::slice::from_ref(&change));
        let Change::Append { frame, event, .. } = &change else { unreachable!() };
        let letter = Letter { slot: Slot::default(), bytes: frame.len(), event: *event };
        let (begun, looks) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while !begun.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
                looks.store(true, Ordering::Release);
                connection.visit(edge.clock.now(), &mut out);
            });
            // The table is locked when the letters are asked for.
            let letters = std::iter::once_with(|| {
                begun.store(true, Ordering::Release);
                while !looks.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
                (0..1_000).for_each(|_| std::thread::yield_now()); // it gets as far as it can
                letter
            });
            edge.routes.dispatch(letters, upto);
        });
        while !matches!(connection.visit(edge.clock.now(), &mut out), Rest::Until(_)) {}
        // Where these threads had to wait for a processor there may be a Progress too.
        let entries = out.iter().filter(|each| matches!(each, Outgoing::Entry { .. }));
        assert_eq!(entries.count(), 1, "round {round}: {out:?}");
    }
}
