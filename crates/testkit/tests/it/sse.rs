//! The SSE parser, by the rules of the format.

use galaxy_push_testkit::sse::{SseEvent, SseParser};

/// Parses a stream whole and byte by byte, and writes each event as `id|event|data`.
#[track_caller]
fn check(stream: &[u8], expected: &[&str]) -> SseParser {
    let show = |event: SseEvent| {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        format!("{}|{}|{}", or_none(event.id), event.event, or_none(event.data))
    };
    let mut whole = SseParser::new();
    let events: Vec<_> = whole.push(stream).into_iter().map(show).collect();
    assert_eq!(events, expected, "parsed whole");
    let mut cut = SseParser::new();
    let events: Vec<_> = stream.chunks(1).flat_map(|byte| cut.push(byte)).map(show).collect();
    assert_eq!(events, expected, "parsed byte by byte");
    assert_eq!((whole.last_event_id(), whole.retry_ms()), (cut.last_event_id(), cut.retry_ms()));
    whole
}

#[test]
fn an_event_has_id_type_and_data() {
    let parser =
        check(b"id: 2.e.a5\nevent: turn.ready\ndata: {\"turn\":7}\n\n", &["2.e.a5|turn.ready|{\"turn\":7}"]);
    assert_eq!(parser.last_event_id(), "2.e.a5");
}

#[test]
fn a_bare_id_is_an_update_without_data() {
    let parser = check(b"id: 5\n\nid: 6\n\ndata: x\n\n", &["5|message|-", "6|message|-", "-|message|x"]);
    assert_eq!(parser.last_event_id(), "6");
}

#[test]
fn lines_end_with_cr_lf_or_both() {
    check(b"data: a\r\rdata: b\r\n\r\ndata: c\n\n", &["-|message|a", "-|message|b", "-|message|c"]);
    check(b"data: a\r\ndata: b\r\r\ndata: c\n\r", &["-|message|a\nb", "-|message|c"]);
}

#[test]
fn data_lines_are_joined_and_one_space_is_stripped() {
    check(b"data:a\ndata:  b\ndata\ndata: \n\n", &["-|message|a\n b\n\n"]);
    check(b"data\n\n", &["-|message|"]);
}

#[test]
fn comments_unknown_fields_and_empty_blocks_are_nothing() {
    check(b": keep-alive\n\n\nfoo: bar\n\nDATA: x\n\nevent: y\n\ndata: z\n\n", &["-|message|z"]);
}

#[test]
fn a_byte_order_mark_counts_only_at_the_start() {
    check(b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\ndata: c\n\n", &["-|message|a", "-|message|c"]);
}

#[test]
fn an_id_with_nul_is_ignored_and_an_empty_one_resets() {
    let parser = check(b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n", &["1|message|a", "-|message|b"]);
    assert_eq!(parser.last_event_id(), "1");
    assert_eq!(check(b"id: 1\n\nid\n\n", &["1|message|-", "|message|-"]).last_event_id(), "");
}

#[test]
fn retry_takes_digits_only() {
    let parser = check(b"retry: 3000\n\nretry: 5s\nretry: -1\nretry:\nretry: 99999999999999999999\n\n", &[]);
    assert_eq!(parser.retry_ms(), Some(3_000));
}

#[test]
fn characters_may_be_cut_and_bad_ones_are_replaced() {
    check("data: żółć 🚀\n\n".as_bytes(), &["-|message|żółć 🚀"]);
    check(b"data: \xff\n\n", &["-|message|\u{fffd}"]);
}

#[test]
fn an_unfinished_block_is_never_given() {
    assert_eq!(check(b"id: 1\ndata: a\n", &[]).last_event_id(), "");
}
