//! Frames read back as they were written, and splitting does not depend on where a stream is cut.

use bytes::Bytes;

use super::*;
use crate::cursor::{Epoch, Seq};
use proptest::prelude::*;

fn event(to: &[&str], id: &str, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    to.iter().for_each(|to| put_bytes(&mut out, event::TO, to.as_bytes()));
    put_bytes(&mut out, event::ID, id.as_bytes());
    put_bytes(&mut out, event::DATA, data);
    out
}

#[test]
fn a_frame_reads_back() {
    let cursor = Cursor { epoch: Epoch(7), seq: Seq(300) };
    let mut out = Vec::new();
    put_log_frame(
        &mut out,
        LogKind::Event,
        Some(cursor),
        &event(&["user:42", "all"], "a", b"{}"),
        1_700_000_000_000,
    );
    assert_eq!(u32::from_be_bytes(out[1..5].try_into().unwrap()) as usize, out.len() - PREFIX_BYTES);
    let view = FrameView::read(message(&out)).unwrap();
    assert_eq!(view.cursor(), cursor.to_string());
    assert_eq!((view.kind(), view.appended_unix_ms()), (Kind::Event, 1_700_000_000_000));
    let event = view.event().unwrap();
    assert_eq!(event.recipients().collect::<Vec<_>>(), ["user:42", "all"]);
    assert_eq!((event.id(), event.data(), event.ttl_ms(), event.ephemeral()), ("a", &b"{}"[..], None, false));
}

#[test]
fn an_ephemeral_frame_has_no_cursor() {
    let mut body = event(&["all"], "a", b"");
    body.extend_from_slice(&[12 << 3, 1]);
    let mut out = Vec::new();
    put_log_frame(&mut out, LogKind::Event, None, &body, 1);
    let view = FrameView::read(message(&out)).unwrap();
    assert_eq!(view.cursor(), "");
    assert!(view.event().unwrap().ephemeral());
}

#[test]
fn a_field_of_a_newer_contract_does_not_hide_the_kind() {
    for unknown_first in [true, false] {
        let mut out = Vec::new();
        if unknown_first {
            put_bytes(&mut out, 99, b"new");
        }
        put_bytes(&mut out, 2, b"");
        put_bytes(&mut out, 98, b"new");
        assert_eq!(FrameView::read(&out).unwrap().kind(), Kind::Event);
    }
}

#[test]
fn a_kind_of_a_newer_contract_is_unknown_and_keeps_its_cursor() {
    let mut out = Vec::new();
    put_bytes(&mut out, 1, b"1.x");
    put_bytes(&mut out, 99, b"new");
    let view = FrameView::read(&out).unwrap();
    assert_eq!((view.kind(), view.cursor()), (Kind::Unknown, "1.x"));
}

#[test]
fn a_ttl_reads_in_milliseconds() {
    let mut body = event(&["all"], "a", b"");
    put_bytes(&mut body, event::TTL, &[8, 2, 16, 0x80, 0xca, 0xb5, 0xee, 0x01]); // 2 s, 500,000,000 ns
    assert_eq!(EventView::of(&body).ttl_ms(), Some(2_500));
}

proptest! {
    #[test]
    fn splitting_does_not_depend_on_the_cuts(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12),
        cuts in prop::collection::vec(1usize..30, 1..40),
    ) {
        let mut stream = Vec::new();
        for message in &messages {
            let start = stream.len();
            stream.extend_from_slice(&[0; PREFIX_BYTES]);
            stream.extend_from_slice(message);
            put_prefix(&mut stream, start);
        }
        let (mut deframer, mut seen, mut rest) = (Deframer::new(40), Vec::new(), &stream[..]);
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            deframer.push(Bytes::copy_from_slice(now));
            while let Some(framed) = deframer.next_message().unwrap() {
                seen.push(message(&framed).to_vec());
            }
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(deframer.is_at_boundary());
        prop_assert_eq!(seen, messages);
    }

    #[test]
    fn any_bytes_view_or_err(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(view) = FrameView::read(&bytes) {
            let event = EventView::of(view.body());
            let _ = (event.recipients().count(), event.id(), event.data(), event.ttl_ms(), event.ephemeral());
        }
    }
}

#[test]
fn a_message_over_the_limit_is_refused_before_it_is_buffered() {
    let mut deframer = Deframer::new(10);
    deframer.push(Bytes::from_static(&[0, 0, 0, 0, 11]));
    assert_eq!(deframer.next_message(), Err(DeframeError::TooLarge { length: 11, limit: 10 }));
    deframer = Deframer::new(10);
    deframer.push(Bytes::from_static(&[1, 0, 0, 0, 1, 0]));
    assert_eq!(deframer.next_message(), Err(DeframeError::Compressed));
}

/// Standing records, in place and put together, read back with the generated names' numbers.
#[test]
fn standing_records_keep_their_bytes() {
    let cursor = Cursor { epoch: Epoch(7), seq: Seq(3) };
    let mut out = Vec::new();
    put_log_frame(&mut out, LogKind::Membership, Some(cursor), b"\x0a\x01m", 5);
    let view = FrameView::read(message(&out)).unwrap();
    assert_eq!((view.kind(), view.body(), view.appended_unix_ms()), (Kind::Membership, &b"\x0a\x01m"[..], 5));
    assert_eq!(view.cursor(), cursor.to_string());

    let mut frame = StandingFrame::default();
    frame.push(LogKind::SessionInvalidation, b"i");
    frame.push(LogKind::Membership, b"m");
    frame.push(LogKind::Event, b"never");
    let framed = frame.finish("oldest", true);
    let view = FrameView::read(message(&framed)).unwrap();
    assert_eq!((view.kind(), view.cursor()), (Kind::Standing, "oldest"));
    let fields: Vec<_> = Fields::of(view.body()).map(|field| field.unwrap()).collect();
    assert_eq!(fields, [(1, Value::Bytes(b"i")), (2, Value::Bytes(b"m")), (3, Value::Varint(1))]);
    assert!(
        framed.len()
            <= PREFIX_BYTES + StandingFrame::OVERHEAD_BYTES + 2 * (1 + StandingFrame::RECORD_OVERHEAD_BYTES)
    );
}
