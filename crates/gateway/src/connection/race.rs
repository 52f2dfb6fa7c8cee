//! Real threads: one appends and dispatches, others read. Where a connection leaves scanning for its mailbox, nothing may
//! fall between the two.

use std::collections::BTreeSet;
use std::sync::Arc;

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

const EVENTS: u64 = 30_000;

/// The event's number in its log; every third is for ann, every other for bob, none for eve.
fn recipient(number: u64) -> &'static str {
    if number.is_multiple_of(3) { "user:ann" } else { "user:bob" }
}

fn write(edge: &Edge) {
    let mut cursor = Cursor::start(Epoch(1));
    for number in 1..=EVENTS {
        cursor = cursor.next();
        let (mut event, mut frame) = (Vec::new(), Vec::new());
        put_bytes(&mut event, 1, recipient(number).as_bytes());
        put_bytes(&mut event, 2, number.to_string().as_bytes());
        put_event_frame(&mut frame, Some(cursor), &event, 1);
        let change = Change::Append {
            cursor,
            traits: Traits::PLAIN,
            frame: frame.into(),
            event: Some(EventView::of(&event)),
        };
        edge.apply(&[change]);
    }
}

/// Reads to the end of the log and returns the numbers of the events it was sent.
fn read(edge: Arc<Edge>, user: &str) -> Vec<u64> {
    let identity =
        Identity { user: Some(user.to_owned()), grants: Grants::everything(), ..Identity::default() };
    let reader = edge
        .read(edge.clock.now(), |window| Reader::open(window, Ask::Oldest, "oldest", Settings::default()));
    let limits = Limits { topics: 1, turn_bytes: 1_000 };
    let mut connection = Connection::open(edge.clone(), reader, identity, BTreeSet::new(), limits).unwrap();
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
    let clock = Clock::start(Ambient::new(|| 0, || 0));
    let edge = Edge::new(Bounds::default(), 3, clock, Arc::new(Metrics::default()));
    edge.apply(&[Change::Begin(Cursor::start(Epoch(1)))]);
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
