//! Every rule, kept and broken.

use expect_test::{Expect, expect};
use prost_types::{Duration, Timestamp};

use super::*;

fn valid() -> v1::Event {
    v1::Event {
        to: vec!["user:42".into()],
        id: "a".into(),
        source: "/orders".into(),
        r#type: "order.shipped".into(),
        data: r#"{"n":1}"#.into(),
        ..v1::Event::default()
    }
}

#[track_caller]
fn check(change: impl FnOnce(&mut v1::Event), wanted: Expect) {
    let mut event = valid();
    change(&mut event);
    let verdict = match super::event(&event, DATA_BYTES_DEFAULT) {
        Ok(()) => "ok".to_owned(),
        Err(invalid) => format!("{} {invalid}", invalid.reason),
    };
    wanted.assert_eq(&verdict);
}

#[test]
fn a_plain_event_is_valid() {
    check(|_| {}, expect!["ok"]);
    check(|event| event.data = Default::default(), expect!["ok"]);
    check(|event| event.attributes = [("traceparent".into(), "00-1-2-01".into())].into(), expect!["ok"]);
    check(|event| event.ttl = Some(Duration { seconds: 0, nanos: 1 }), expect!["ok"]);
    check(
        |event| {
            event.data_content_type = "image/png".into();
            event.data = vec![0xff; DATA_BYTES_DEFAULT].into();
        },
        expect!["ok"],
    );
}

#[test]
fn required_fields() {
    check(|event| event.id.clear(), expect!["REQUEST_INVALID id: is required"]);
    check(|event| event.source.clear(), expect!["REQUEST_INVALID source: is required"]);
    check(|event| event.r#type.clear(), expect!["REQUEST_INVALID type: is required"]);
    check(
        |event| event.to.clear(),
        expect!["RECIPIENT_INVALID to: is required: name at least one recipient, such as user:42"],
    );
}

#[test]
fn recipients() {
    check(
        |event| event.to.push("group:7".into()),
        expect!["RECIPIENT_INVALID to[1]: must be user:<id>, session:<id>, topic:<name> or all"],
    );
    check(|event| event.to = vec!["all".into(); 256], expect!["ok"]);
    check(
        |event| event.to = vec!["all".into(); 257],
        expect![
            "RECIPIENT_INVALID to: 257 recipients are more than 256: publish to a topic, or split the event"
        ],
    );
}

#[test]
fn names_that_look_alike_are_refused() {
    for field in ["id", "source", "type", "collapse_key"] {
        let verdict = |text: &str| {
            let mut event = valid();
            let place = match field {
                "id" => &mut event.id,
                "source" => &mut event.source,
                "type" => &mut event.r#type,
                _ => &mut event.collapse_key,
            };
            *place = text.to_owned();
            super::event(&event, DATA_BYTES_DEFAULT).map_err(|invalid| invalid.to_string())
        };
        for spaced in [" a", "a ", "\u{a0}a", "a\u{3000}", " "] {
            assert_eq!(
                verdict(spaced),
                Err(format!("{field}: must not begin or end with a space")),
                "{spaced:?}"
            );
        }
        for unseen in ["a\u{200b}b", "\u{feff}a", "a\u{202e}b", "a\u{2066}", "a\u{ad}b", "a\u{e0041}"] {
            assert!(
                verdict(unseen).is_err_and(|why| why.contains("format characters")),
                "{field} {unseen:?}"
            );
        }
        assert_eq!(verdict("a b/ü"), Ok(()), "{field}");
    }
    // A subject is for people, and some scripts need them.
    check(|event| event.subject = "می\u{200c}خواهم".into(), expect!["ok"]);
}

#[test]
fn json_nested_deeper_than_readers_take_is_refused() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let objects = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    check(|event| event.data = nested(128).into(), expect!["ok"]);
    check(|event| event.data = objects(128).into(), expect!["ok"]);
    check(
        |event| event.data = format!(r#"["{}\"[[", {}]"#, "[".repeat(500), nested(127)).into(),
        expect!["ok"],
    );
    let refused = "REQUEST_INVALID data: is nested deeper than 128 levels: flatten it, or send it as another data_content_type";
    for deep in [nested(129), objects(129), nested(30_000), format!("[1, {}]", nested(128))] {
        let mut event = valid();
        event.data = deep.clone().into();
        // Said to be JSON, or found to be.
        for content_type in ["", "application/json", "application/problem+json"] {
            event.data_content_type = content_type.into();
            fill_in(&mut event, 0);
            let invalid = super::event(&event, DATA_BYTES_DEFAULT).unwrap_err();
            assert_eq!(format!("{} {invalid}", invalid.reason), refused);
        }
        event.data_content_type = "text/plain".into();
        assert!(super::event(&event, DATA_BYTES_DEFAULT).is_ok());
    }
}

#[test]
fn texts() {
    check(|event| event.id = "x".repeat(1024), expect!["ok"]);
    check(|event| event.id = "x".repeat(1025), expect!["REQUEST_INVALID id: is longer than 1024 bytes"]);
    check(
        |event| event.subject = "a\nb".into(),
        expect!["REQUEST_INVALID subject: must not hold control characters"],
    );
    check(
        |event| event.data_content_type = "json".into(),
        expect!["REQUEST_INVALID data_content_type: must be a media type such as application/json"],
    );
}

#[test]
fn reserved_types() {
    for name in ["open", "error", "push.gap", "push."] {
        let mut event = valid();
        event.r#type = name.into();
        assert_eq!(super::event(&event, DATA_BYTES_DEFAULT).unwrap_err().field, "type", "{name}");
    }
    for name in ["opened", "errors", "pushed.gap", "push"] {
        check(|event| event.r#type = name.into(), expect!["ok"]);
    }
}

#[test]
fn data() {
    check(|event| event.data = vec![b'1'; DATA_BYTES_DEFAULT].into(), expect!["ok"]);
    check(
        |event| event.data = vec![b'1'; DATA_BYTES_DEFAULT + 1].into(),
        expect![
            "EVENT_TOO_LARGE data: 65537 bytes are more than the 65536 bytes an event may carry: send a \
             reference instead"
        ],
    );
    check(
        |event| event.data = "{".into(),
        expect![
            "REQUEST_INVALID data: is not valid JSON (EOF while parsing an object at line 1 column 1): \
             correct it, or name another data_content_type"
        ],
    );
    let mut not_utf8 = valid();
    not_utf8.data = b"\"\xff\"".to_vec().into();
    assert_eq!(super::event(&not_utf8, DATA_BYTES_DEFAULT).unwrap_err().field, "data");
    let mut large = valid();
    large.data = vec![b'1'; DATA_BYTES_MAX + 1].into();
    assert_eq!(super::event(&large, usize::MAX).unwrap_err().reason, Reason::EventTooLarge);
}

#[test]
fn attributes() {
    for name in ["", "Upper", "under_score", "to", "id", "data", "ttl", "é", "a b"] {
        let mut event = valid();
        event.attributes.insert(name.into(), "x".into());
        let invalid = super::event(&event, DATA_BYTES_DEFAULT).unwrap_err();
        assert!(invalid.field.starts_with("attributes."), "{name:?}: {invalid}");
    }
    check(
        |event| event.attributes = [("a".into(), "b\r\n".into())].into(),
        expect!["REQUEST_INVALID attributes.a: must not hold control characters"],
    );
    check(
        |event| event.attributes = [("a".into(), "b".repeat(ATTRIBUTES_BYTES_MAX))].into(),
        expect!["REQUEST_INVALID attributes: names and values are longer than 16384 bytes together"],
    );
}

#[test]
fn times() {
    for ttl in [(0, 0), (-1, 0), (0, -1), (1, 1_000_000_000)] {
        check(
            |event| event.ttl = Some(Duration { seconds: ttl.0, nanos: ttl.1 }),
            expect![
                "REQUEST_INVALID ttl: must be longer than 0: leave it out to keep the event as long as others"
            ],
        );
    }
    check(
        |event| event.time = Some(Timestamp { seconds: i64::MAX, nanos: 0 }),
        expect!["REQUEST_INVALID time: must lie in the years 1 to 9999"],
    );
}

#[test]
fn filling_in_keeps_what_is_there() {
    let mut event = valid();
    fill_in(&mut event, 1_500);
    assert_eq!(event.time, Some(Timestamp { seconds: 1, nanos: 500_000_000 }));
    assert_eq!(event.data_content_type, "");
    fill_in(&mut event, 9_000);
    assert_eq!(event.time, Some(Timestamp { seconds: 1, nanos: 500_000_000 }));

    for data in [&b"hello"[..], b"\"\xff\""] {
        let mut event = v1::Event { data: data.to_vec().into(), ..valid() };
        fill_in(&mut event, 0);
        assert_eq!(event.data_content_type, "application/octet-stream");
        super::event(&event, DATA_BYTES_DEFAULT).unwrap();
    }
    let mut declared =
        v1::Event { data: "hello".into(), data_content_type: "application/json".into(), ..valid() };
    fill_in(&mut declared, 0);
    assert_eq!(super::event(&declared, DATA_BYTES_DEFAULT).unwrap_err().field, "data");
}

#[test]
fn a_batch_names_the_event_at_fault() {
    let broken = v1::Event { to: vec!["nobody".into()], ..valid() };
    let invalid = batch(&[valid(), broken], DATA_BYTES_DEFAULT).unwrap_err();
    assert_eq!(invalid.field, "events[1].to[0]");
    let failure = Failure::from(invalid.clone());
    assert_eq!(failure.field.as_deref(), Some("events[1].to[0]"));
    assert!(failure.message.starts_with("events[1].to[0]: "));
    assert_eq!(Failure::of(&failure.status()), failure);

    assert_eq!(batch(&vec![valid(); EVENTS_MAX], DATA_BYTES_DEFAULT), Ok(()));
    assert_eq!(batch(&vec![valid(); EVENTS_MAX + 1], DATA_BYTES_DEFAULT).unwrap_err().field, "events");
}
