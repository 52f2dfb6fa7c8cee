//! Frames: our own readers of bytes and the generated code say the same, and what is written is read again.

use bytes::Bytes;
use galaxy_push_core::cursor::{Cursor, Epoch, Seq};
use galaxy_push_core::frame::{EventView, FrameView, Kind, LogKind, message, put_log_frame};
use galaxy_push_core::wire::{Fields, Value};
use galaxy_push_proto::v1::{self, ClientFrame, PushEvent, push_event};
use galaxy_push_proto::{codec, json};
use prost::Message as _;

/// The first byte says what the others are: a `PushEvent`, a `ClientFrame`, or one of those in JSON.
pub fn frames(data: &[u8]) {
    let Some((form, bytes)) = data.split_first() else { return };
    match form % 3 {
        0 => push_event(bytes),
        1 => client_frame(bytes),
        _ => {
            if let Ok(frame) = json::parse_client_frame(bytes) {
                assert_eq!(ClientFrame::decode(&*frame.encode_to_vec()), Ok(frame));
            }
        }
    }
}

fn push_event(bytes: &[u8]) {
    let view = FrameView::read(bytes);
    if let Ok(view) = view {
        // Any accessor of any bytes.
        let _ = view.gap();
        view.event().into_iter().for_each(|event| {
            let _ = (
                event.recipients().count(),
                event.attributes().count(),
                event.time_unix_ns(),
                event.ttl_ms(),
            );
        });
    }
    let Ok(frame) = PushEvent::decode(bytes) else { return };
    // Groups are long deprecated, and nothing of ours reads past one.
    let Ok(fields) = Fields::of(bytes).collect::<Result<Vec<_>, _>>() else { return };
    let Ok(view) = view else { panic!("generated code reads what our own reader does not") };
    assert_eq!((view.cursor(), view.appended_unix_ms()), (&*frame.cursor, frame.appended_unix_ms));
    let mut known =
        fields.iter().filter(|(field, value)| kind_of(*field).is_some() && matches!(value, Value::Bytes(_)));
    if known.clone().count() <= 1 {
        // A kind that comes twice is merged by generated code; nobody sends it.
        assert_eq!(view.kind() != Kind::Unknown, frame.kind.is_some(), "unknown kinds are skipped");
        assert_eq!(
            known.next_back().and_then(|(field, _)| kind_of(*field)).unwrap_or(Kind::Unknown),
            view.kind()
        );
    }
    let encoded = frame.encode_to_vec();
    assert_eq!(PushEvent::decode(&*encoded).as_ref(), Ok(&frame), "encoded and decoded");
    let Ok(view) = FrameView::read(&encoded) else { panic!("our own encoding is not read") };
    let Some(kind) = &frame.kind else { return };
    if let push_event::Kind::Event(event) = kind {
        let Some(view) = view.event() else { panic!("no event any more") };
        same_event(view, event);
        in_log(event, frame.appended_unix_ms);
    }
    // In JSON: an object of the cursor and exactly one key, the kind.
    if let push_event::Kind::Event(event) = kind
        && galaxy_push_proto::validate::event(event, 1 << 20).is_err()
    {
        return; // what no hub takes is never shown
    }
    let text = json::frame(&frame, json::View::Full);
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(&text) else {
        panic!("no JSON: {}", String::from_utf8_lossy(&text))
    };
    let Some(keys) = value.as_object() else { panic!("no object") };
    assert!(keys.len() <= 2 && keys.len() >= usize::from(!frame.cursor.is_empty()), "{value}");
}

/// The contract's kinds, once more.
fn kind_of(field: u32) -> Option<Kind> {
    Some(match field {
        2 => Kind::Event,
        3 => Kind::SessionInvalidation,
        4 => Kind::Membership,
        10 => Kind::Welcome,
        11 => Kind::Progress,
        12 => Kind::Gap,
        13 => Kind::CaughtUp,
        14 => Kind::FellBehind,
        15 => Kind::Goodbye,
        16 => Kind::Standing,
        17 => Kind::Subscribed,
        _ => return None,
    })
}

fn same_event(view: EventView<'_>, event: &v1::Event) {
    assert!(view.recipients().eq(event.to.iter().map(String::as_str)), "recipients");
    assert_eq!(
        [
            view.id(),
            view.event_type(),
            view.source(),
            view.content_type(),
            view.subject(),
            view.collapse_key()
        ],
        [
            &*event.id,
            &*event.r#type,
            &*event.source,
            &*event.data_content_type,
            &*event.subject,
            &*event.collapse_key
        ]
    );
    assert_eq!((view.data(), view.ephemeral()), (&*event.data, event.ephemeral));
    for (name, value) in &event.attributes {
        assert_eq!(view.attribute(name), Some(&**value), "{name}");
    }
    assert_eq!(view.attributes().count(), event.attributes.len());
    if let Some(time) = &event.time
        && (0..1_000_000_000).contains(&time.nanos)
    {
        let ns = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
        assert_eq!(view.time_unix_ns(), Some(ns), "time");
    }
    match &event.ttl {
        None => assert_eq!(view.ttl_ms(), None),
        Some(ttl) if ttl.seconds >= 0 && ttl.nanos >= 0 => {
            let ms = (ttl.seconds as u64).saturating_mul(1_000).saturating_add(ttl.nanos as u64 / 1_000_000);
            assert_eq!(view.ttl_ms(), Some(ms), "ttl");
        }
        Some(_) => {}
    }
}

/// As a store frames it.
fn in_log(event: &v1::Event, appended_unix_ms: u64) {
    let cursor = Cursor { epoch: Epoch(7), seq: Seq(appended_unix_ms) };
    let mut framed = Vec::new();
    put_log_frame(&mut framed, LogKind::Event, Some(cursor), &event.encode_to_vec(), appended_unix_ms);
    let Ok(frame) = PushEvent::decode(message(&framed)) else { panic!("a log frame is not read") };
    assert_eq!((frame.cursor, frame.appended_unix_ms), (cursor.to_string(), appended_unix_ms));
    assert_eq!(frame.kind, Some(push_event::Kind::Event(event.clone())));
}

fn client_frame(bytes: &[u8]) {
    let ours = codec::decode::<ClientFrame>(Bytes::copy_from_slice(bytes));
    let generated = ClientFrame::decode(bytes);
    match (ours, generated) {
        (Ok(ours), Ok(generated)) => {
            assert_eq!(ours, generated);
            assert_eq!(ClientFrame::decode(&*generated.encode_to_vec()), Ok(generated));
        }
        (Ok(_), Err(error)) => panic!("ours reads what is no message: {error}"),
        // What is counted and found too long, or holds a group.
        (Err(_), Ok(_)) => {
            assert!(
                bytes.len() >= 64 || Fields::of(bytes).any(|field| field.is_err()) || has_group(bytes),
                "refused"
            );
        }
        (Err(_), Err(_)) => {}
    }
}

/// Whether a field inside a field is none that our own reader takes.
fn has_group(bytes: &[u8]) -> bool {
    Fields::of(bytes).any(|field| match field {
        Ok((_, Value::Bytes(inner))) => Fields::of(inner).any(|field| field.is_err()),
        Ok(_) => false,
        Err(_) => true,
    })
}
