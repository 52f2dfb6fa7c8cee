//! Models of a connection that reads while the dispatcher writes (`cargo xtask threads`): the real window, routes, mailbox and
//! connection, under schedules that shuttle chooses.

use std::collections::BTreeSet;
use std::sync::Arc;

use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::cursor::{Cursor, Epoch, Seq, StartFrom};
use galaxy_push_core::frame::{EventView, FrameView, LogKind, message, put_log_frame};
use galaxy_push_core::reader::Settings;
use galaxy_push_core::window::{Bounds, Traits};
use galaxy_push_core::wire::put_bytes;
use galaxy_push_listener::Clock;
use shuttle::future::block_on;
use shuttle::thread;

use super::*;
use crate::schedules::{Seen, explore};
use crate::state::close::PendingClose;
use crate::state::counters::Counters;
use crate::state::edge::Change;
use crate::state::grants::Grants;

/// Appends one batch of events, which are numbered from `first` and for these recipients.
fn append(edge: &Edge, first: u64, to: &[&str]) {
    let bodies: Vec<Vec<u8>> = (first..)
        .zip(to)
        .map(|(number, to)| {
            let mut body = Vec::new();
            put_bytes(&mut body, 1, to.as_bytes());
            put_bytes(&mut body, 2, number.to_string().as_bytes());
            body
        })
        .collect();
    let changes: Vec<_> = (first..)
        .zip(&bodies)
        .map(|(number, body)| {
            let cursor = Cursor { epoch: Epoch(1), seq: Seq(number) };
            let mut frame = Vec::new();
            put_log_frame(&mut frame, LogKind::Event, Some(cursor), body, 1);
            let event = Some(EventView::of(body));
            Change::Append { cursor, traits: Traits::PLAIN, frame: frame.into(), event }
        })
        .collect();
    edge.apply(&changes);
}

/// A connection at the beginning of the log.
fn open(edge: &Arc<Edge>, user: &str) -> Connection {
    let identity =
        Identity { user: Some(user.to_owned()), grants: Grants::everything(), ..Identity::default() };
    let reader = edge.read(edge.clock.now(), |window| {
        Reader::open(window, StartFrom::Oldest, "oldest", Settings::default())
    });
    let limits = Limits { topics: 1, turn_bytes: 1_000 };
    Connection::open(edge.clone(), reader, identity, BTreeSet::new(), limits).unwrap()
}

/// One that has nothing to do, and listens.
fn listening(edge: &Arc<Edge>, user: &str) -> Connection {
    let mut connection = open(edge, user);
    while !matches!(connection.collect(edge.clock.now(), &mut Vec::new()), Wait::Until(_)) {}
    connection
}

fn edge(mailbox_slots: usize) -> Arc<Edge> {
    let clock = Clock::start(Ambient::new(|| 0, || 0), Duration::ZERO);
    let edge = Edge::new(Bounds::default(), mailbox_slots, clock, Arc::new(Counters::default()));
    edge.apply(&[Change::Begin(Cursor::start(Epoch(1)))]);
    edge
}

/// The numbers of the events among these.
fn numbers(sent: &[Outgoing]) -> impl Iterator<Item = u64> {
    sent.iter().filter_map(|outgoing| {
        let Outgoing::Entry { framed, .. } = outgoing else { return None };
        Some(FrameView::read(message(framed)).unwrap().event().unwrap().id().parse().unwrap())
    })
}

/// Everything that the connection is sent, up to the event of this number.
fn sent_until(connection: &mut Connection, last: u64) -> Vec<Outgoing> {
    let (mut sent, mut out) = (Vec::new(), Vec::new());
    while !numbers(&sent).any(|number| number == last) {
        block_on(connection.next(&mut out)).unwrap();
        sent.append(&mut out);
    }
    sent
}

#[test]
fn nothing_falls_between_scanning_and_the_mailbox() {
    let (overflown, listened) = (Seen::default(), Seen::default());
    let sights = (overflown.clone(), listened.clone());
    explore(
        "gateway: mailbox",
        "a connection that scans, listens and overflows while events are dispatched is sent each of its events once, in order",
        move || {
            let edge = edge(1);
            let reader = {
                let edge = edge.clone();
                thread::spawn(move || {
                    let mut connection = open(&edge, "ann");
                    let sent = sent_until(&mut connection, 6);
                    (numbers(&sent).collect::<Vec<_>>(), connection.scanning)
                })
            };
            append(&edge, 1, &["user:ann"]);
            append(&edge, 2, &["user:ann", "user:bob"]);
            append(&edge, 4, &["user:ann", "user:ann"]);
            append(&edge, 6, &["user:ann"]);
            let (seen, scanning) = reader.join().unwrap();
            assert_eq!(seen, [1, 2, 4, 5, 6]);
            sights.0.count(edge.counters.mailbox_overflows.get());
            sights.1.count(u64::from(!scanning));
        },
    );
    assert!(overflown.in_some() && listened.in_some(), "it shows nothing");
}

/// Two faults are looked for: a connection that received its slots and then asked how far was dispatched passed over what was put
/// into its mailbox between the two; and a wake-up that comes after the look at the mailbox and before the wait must be kept.
#[test]
fn mail_that_comes_while_a_connection_looks_is_found() {
    explore(
        "gateway: mail and place, bell",
        "a connection that listens is sent what is dispatched between its looks, and woken for it",
        || {
            let edge = edge(8);
            let mut connection = listening(&edge, "ann");
            let writer = {
                let edge = edge.clone();
                thread::spawn(move || (1..=2).for_each(|number| append(&edge, number, &["user:ann"])))
            };
            assert_eq!(numbers(&sent_until(&mut connection, 2)).collect::<Vec<_>>(), [1, 2]);
            writer.join().unwrap();
        },
    );
}

#[test]
fn whoever_is_told_to_end_hears_it() {
    explore(
        "gateway: end",
        "a connection that is told to end while events come ends, and one that is to leave has taken everything before",
        || {
            let edge = edge(8);
            let mut connection = listening(&edge, "ann");
            let mailbox = edge.routes.mailboxes().remove(0);
            append(&edge, 1, &["user:ann"]);
            let close = PendingClose { reason: CloseReason::TooSlow, deadline: Duration::MAX };
            let sender = {
                let edge = edge.clone();
                thread::spawn(move || {
                    append(&edge, 2, &["user:ann"]);
                    let is_first = mailbox.close_when_delivered(close);
                    append(&edge, 3, &["user:ann"]);
                    is_first
                })
            };
            let (mut sent, mut out) = (Vec::new(), Vec::new());
            while block_on(connection.next(&mut out)).is_ok() {
                sent.append(&mut out);
            }
            assert!(numbers(&sent).take(2).eq([1, 2]), "what came before it was told");
            assert!(sender.join().unwrap());
        },
    );
}

#[test]
fn a_topic_counts_from_the_cursor_that_was_told() {
    explore(
        "gateway: subscribe",
        "a topic that is asked for while its events come is received from the cursor of `Subscribed`, without a hole and no earlier",
        || {
            let edge = edge(2);
            let mut connection = listening(&edge, "ann");
            let writer = {
                let edge = edge.clone();
                thread::spawn(move || {
                    for number in 1..=3 {
                        append(&edge, number, &["topic:t"]);
                    }
                    append(&edge, 4, &["user:ann"]);
                })
            };
            connection.subscribe(&["t".to_owned()]).unwrap();
            let sent = sent_until(&mut connection, 4);
            let from = sent.iter().find_map(|outgoing| match outgoing {
                Outgoing::Subscribed { cursor, .. } => Some(Cursor::parse(cursor).unwrap().seq.0),
                _ => None,
            });
            let expected: Vec<u64> = (from.unwrap() + 1..=4).collect();
            assert_eq!(numbers(&sent).collect::<Vec<_>>(), expected);
            writer.join().unwrap();
        },
    );
}
