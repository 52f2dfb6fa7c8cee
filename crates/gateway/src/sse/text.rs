//! The text of server-sent events, as the HTML standard has them: what `curl -N` shows.
//!
//! An event or control frame is a block of `id:`, `event:` and `data:` lines; progress is a bare `id:` line, which moves
//! the browser's `Last-Event-ID` without waking a script.

use galaxy_push_proto::json::{self, EdgeView, View};
use galaxy_push_proto::v1::{PushEvent, push_event::Kind};

use super::Naming;

/// The block of one frame.
pub(crate) fn frame(frame: &PushEvent, view: &EdgeView, naming: Naming) -> Vec<u8> {
    let mut out = Vec::new();
    if !frame.cursor.is_empty() {
        line(&mut out, b"id", frame.cursor.as_bytes());
    }
    match &frame.kind {
        Some(Kind::Event(event)) => {
            if naming == Naming::Types {
                line(&mut out, b"event", event.r#type.as_bytes());
            }
            data(&mut out, &json::event_data(event, View::Edge(view)));
        }
        Some(Kind::Progress(_)) | None => {}
        Some(kind) => {
            if let Some((name, json)) = json::control(kind) {
                line(&mut out, b"event", name.as_bytes());
                data(&mut out, &json);
            }
        }
    }
    out.push(b'\n');
    out
}

/// How long a browser waits before it reconnects.
pub(crate) fn retry(milliseconds: u128) -> String {
    format!("retry: {milliseconds}\n\n")
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
            id: 2.x.a7
            event: turn.ready
            data: {"specversion":"1.0","id":"a1","source":"/game","type":"turn.ready","data":{   "turn": 7  }}

        "#]]
        .assert_eq(text(&named));
        let plain = frame(&event, &EdgeView::default(), Naming::Messages);
        assert!(!text(&plain).contains("event:"));
        let progress = frame(&progress_frame("2.x.a8"), &EdgeView::default(), Naming::Types);
        assert_eq!(text(&progress), "id: 2.x.a8\n\n");
        let goodbye = frame(
            &goodbye_frame("2.x.a8", GoodbyeReason::Draining, None),
            &EdgeView::default(),
            Naming::Types,
        );
        expect_test::expect![[r#"
            id: 2.x.a8
            event: push.goodbye
            data: {"reason":"DRAINING","reconnect":true}

        "#]]
        .assert_eq(text(&goodbye));
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
