//! What a handler is given becomes streams, whatever ends them.

use std::slice::from_ref;

use galaxy_push_core::link::Frame;
use galaxy_push_proto::v1::push_event::Kind;

use super::*;
use crate::unknown::REASON;

fn item(cursor: &str, kind: Kind) -> Item {
    let message =
        v1::PushEvent { cursor: cursor.to_owned(), appended_unix_ms: 0, kind: Some(kind) }.encode_to_vec();
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend(message);
    // The journal reads the frame: which kind of item it is in says nothing.
    Item::Event(Frame::read(framed.into()).unwrap())
}

fn welcome(cursor: &str) -> Item {
    let welcome = v1::Welcome {
        outcome: v1::Outcome::Resumed.into(),
        epoch: "e".to_owned(),
        head: cursor.to_owned(),
        oldest: cursor.to_owned(),
        ..v1::Welcome::default()
    };
    item(cursor, Kind::Welcome(welcome))
}

#[test]
fn a_goodbye_that_nobody_knows_ends_its_stream_and_the_next_one_continues() {
    let recorder = Recorder::new(100);
    let mut journal =
        Journal::new("app", recorder.process("app"), || 5, Arc::new(AtomicU64::new(3)), Cursor::Oldest);
    let goodbye = v1::Goodbye { reason: REASON, reconnect: true, ..v1::Goodbye::default() };
    for item in [welcome("2.e.a1"), item("2.e.a1", Kind::Goodbye(goodbye)), welcome("2.e.a1")] {
        let _done = journal.take(&item, false).unwrap();
    }
    journal.offer(from_ref(&welcome("2.e.a1"))).unwrap();
    let told = recorder.finish().unwrap();
    let told: Vec<_> = told
        .iter()
        .filter_map(|record| match &record.what {
            What::Open(open) => Some(format!("open {}", open.continues)),
            What::Close(close) => Some(format!("close {}", close.code)),
            What::UnknownFrame(_) => Some("unknown".to_owned()),
            _ => None,
        })
        .collect();
    let expected = [
        "open false",
        "unknown",
        "close a goodbye that nobody knows",
        "open true",
        "close ended",
        "open true",
    ];
    assert_eq!(told, expected);
}
