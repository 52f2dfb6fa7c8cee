//! The text of server-sent events, as the HTML standard has them: what `curl -N` shows.
//!
//! Each frame is a block of `event:`, `data:` and `id:` lines, progress too: readers that are no browser hand every block to
//! the program, which reads its data as JSON.

use galaxy_push_proto::json::{self, EdgeView, View};
use galaxy_push_proto::v1::{self, PushEvent, push_event::Kind};

/// Whether events arrive under their own types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Naming {
    /// `event:` is the event's type.
    #[default]
    Types,
    /// `event: message`, so that a browser's plain `message` listener sees every event.
    Messages,
}

/// The name under which a browser's plain `message` listener is called, as it is for a block without one.
const MESSAGE: &str = "message";

/// The block of one frame.
pub(crate) fn frame(frame: &PushEvent, view: &EdgeView, naming: Naming) -> Vec<u8> {
    let mut out = Vec::new();
    match &frame.kind {
        Some(Kind::Event(event)) => {
            let name = if naming == Naming::Types { &*event.r#type } else { MESSAGE };
            line(&mut out, b"event", name.as_bytes());
            data(&mut out, &json::event_data(event, View::Edge(view)));
        }
        kind => {
            // A kind from the future says only how far the stream is.
            let progress = Kind::Progress(v1::Progress::default());
            if let Some((name, json)) = json::control(kind.as_ref().unwrap_or(&progress)) {
                line(&mut out, b"event", name.as_bytes());
                data(&mut out, &json);
            }
        }
    }
    // The last line: a reader that keeps it as soon as it is read would pass over an event that is cut off in the middle.
    if !frame.cursor.is_empty() {
        line(&mut out, b"id", frame.cursor.as_bytes());
    }
    out.push(b'\n');
    out
}

/// How long a browser waits before it reconnects: the first line of a stream, and of its first block.
pub(crate) fn retry(milliseconds: u128) -> String {
    format!("retry: {milliseconds}\n")
}

/// One field. A line break in a value would begin another field, so what comes after it is left out; the hub refuses
/// such types and never makes such cursors.
fn line(out: &mut Vec<u8>, field: &[u8], value: &[u8]) {
    let value = value.split(|byte| matches!(byte, b'\n' | b'\r' | 0)).next().unwrap_or_default();
    out.extend_from_slice(field);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Data of several lines is several fields, which the browser joins again.
fn data(out: &mut Vec<u8>, data: &[u8]) {
    for part in data.split(|byte| *byte == b'\n') {
        line(out, b"data", part.strip_suffix(b"\r").unwrap_or(part));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galaxy_push_proto::frame::{goodbye_frame, progress_frame};
    use galaxy_push_proto::v1::{Event, GoodbyeReason};

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn blocks() {
        let event = Event {
            to: vec!["user:secret".into()],
            id: "a1".into(),
            r#type: "turn.ready".into(),
            source: "/game".into(),
            data: "{\n  \"turn\": 7\r\n}".into(),
            ..Event::default()
        };
        let event =
            PushEvent { cursor: "2.x.a7".into(), kind: Some(Kind::Event(event)), appended_unix_ms: 9 };
        let named = frame(&event, &EdgeView::default(), Naming::Types);
        expect_test::expect![[r#"
            event: turn.ready
            data: {"specversion":"1.0","id":"a1","source":"/game","type":"turn.ready","data":{   "turn": 7  }}
            id: 2.x.a7

        "#]]
        .assert_eq(text(&named));
        let plain = frame(&event, &EdgeView::default(), Naming::Messages);
        assert!(text(&plain).starts_with("event: message\ndata: {"));
        for naming in [Naming::Types, Naming::Messages] {
            let progress = frame(&progress_frame("2.x.a8"), &EdgeView::default(), naming);
            assert_eq!(text(&progress), "event: push.progress\ndata: {}\nid: 2.x.a8\n\n");
        }
        let unknown = PushEvent { cursor: "2.x.a8".into(), kind: None, appended_unix_ms: 9 };
        let unknown = frame(&unknown, &EdgeView::default(), Naming::Types);
        assert_eq!(text(&unknown), "event: push.progress\ndata: {}\nid: 2.x.a8\n\n");
        let goodbye = frame(
            &goodbye_frame("2.x.a8", GoodbyeReason::Draining, None),
            &EdgeView::default(),
            Naming::Types,
        );
        expect_test::expect![[r#"
            event: push.goodbye
            data: {"reason":"DRAINING","reconnect":true}
            id: 2.x.a8

        "#]]
        .assert_eq(text(&goodbye));
    }

    #[test]
    fn an_event_cut_in_the_middle_has_not_said_its_id() {
        let event = Event { id: "a".into(), r#type: "t".into(), source: "s".into(), ..Event::default() };
        let event =
            PushEvent { cursor: "2.x.a7".into(), kind: Some(Kind::Event(event)), appended_unix_ms: 9 };
        for naming in [Naming::Types, Naming::Messages] {
            let block = frame(&event, &EdgeView::default(), naming);
            let (before, rest) = text(&block).split_once("\nid: ").unwrap();
            assert!(before.contains("data: {") && before.ends_with('}'), "{before}");
            assert_eq!(rest, "2.x.a7\n\n");
        }
    }

    #[test]
    fn an_event_without_a_cursor_leaves_the_last_id_alone() {
        let event = Event { id: "a".into(), r#type: "t".into(), source: "s".into(), ..Event::default() };
        let event = PushEvent { cursor: String::new(), kind: Some(Kind::Event(event)), appended_unix_ms: 9 };
        assert!(text(&frame(&event, &EdgeView::default(), Naming::Types)).starts_with("event: t\n"));
    }

    #[test]
    fn no_value_begins_another_field() {
        let mut out = Vec::new();
        line(&mut out, b"event", b"a\nid: 9");
        data(&mut out, b"one\r\ntwo\n\rthree");
        assert_eq!(text(&out), "event: a\ndata: one\ndata: two\ndata: \n");
    }
}
