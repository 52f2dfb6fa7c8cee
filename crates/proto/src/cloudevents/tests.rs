//! Every mode read, everything that cannot be read, and round trips.

use expect_test::{Expect, expect};
use http::HeaderValue;
use proptest::prelude::*;
use prost_types::{Duration, Timestamp};

use super::*;
use crate::validate;

const PLAIN: &str =
    r#"{"specversion":"1.0","id":"a","source":"/orders","type":"order.shipped","to":"user:42"}"#;

/// The plain event with one more member.
fn with(member: &str) -> String {
    format!("{},{member}}}", PLAIN.trim_end_matches('}'))
}

fn without(name: &str) -> String {
    let mut members: serde_json::Map<String, serde_json::Value> = serde_json::from_str(PLAIN).unwrap();
    members.remove(name).unwrap();
    serde_json::to_string(&members).unwrap()
}

#[track_caller]
fn check_errors(inputs: &[String], wanted: Expect) {
    let table: String = inputs
        .iter()
        .map(|json| format!("{}\n", parse_structured(json.as_bytes()).expect_err(json)))
        .collect();
    wanted.assert_eq(&table);
}

#[test]
fn a_structured_event_with_everything() {
    let json = r#" {"specversion":"1.0","id":"a","source":"/orders","type":"order.shipped","subject":"7",
        "time":"2023-11-14T23:13:20.25+01:00","datacontenttype":"application/json","dataschema":"urn:s",
        "to":"user:42, topic:orders","collapsekey":"order-7","ttl":30,"ephemeral":true,
        "traceparent":"00-1-2-01","flag":false,"count":-5,"nothing":null,"data":{"total": 1.50,"n":[1,  2]}}"#;
    let wanted = v1::Event {
        to: vec!["user:42".into(), "topic:orders".into()],
        id: "a".into(),
        r#type: "order.shipped".into(),
        data: r#"{"total": 1.50,"n":[1,  2]}"#.into(),
        data_content_type: "application/json".into(),
        time: Some(Timestamp { seconds: 1_700_000_000, nanos: 250_000_000 }),
        source: "/orders".into(),
        subject: "7".into(),
        collapse_key: "order-7".into(),
        ttl: Some(Duration { seconds: 30, nanos: 0 }),
        attributes: [
            ("dataschema", "urn:s"),
            ("traceparent", "00-1-2-01"),
            ("flag", "false"),
            ("count", "-5"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        ephemeral: true,
    };
    assert_eq!(parse_structured(json.as_bytes()), Ok(wanted));
}

#[test]
fn data_in_its_forms() {
    let data = |member: &str| parse_structured(with(member).as_bytes()).unwrap().data;
    assert_eq!(data(r#""data":"text""#), r#""text""#);
    assert_eq!(data(r#""data":null"#), "null");
    assert_eq!(data(r#""data_base64":"aGk=""#), "hi");
    assert_eq!(data(r#""data_base64":null"#), "");
    assert_eq!(data(r#""data":"a\nb","datacontenttype":"text/plain""#), "a\nb");
    assert_eq!(data(r#""datacontenttype":"text/plain","data":[1]"#), "[1]");
    assert_eq!(parse_structured(PLAIN.as_bytes()).unwrap().data, "");
}

#[test]
fn ttls() {
    let ttl = |value: &str| parse_structured(with(&format!(r#""ttl":{value}"#)).as_bytes()).unwrap().ttl;
    assert_eq!(ttl("5"), Some(Duration { seconds: 5, nanos: 0 }));
    assert_eq!(ttl(r#""0.5""#), Some(Duration { seconds: 0, nanos: 500_000_000 }));
    assert_eq!(ttl("null"), None);
}

#[test]
fn missing_attributes_are_named() {
    let inputs = ["specversion", "id", "source", "type", "to"].map(without);
    check_errors(
        &inputs,
        expect![[r#"
        specversion: is required, and must be "1.0"
        id: is required
        source: is required
        type: is required
        to: is required: name at least one recipient, such as user:42
    "#]],
    );
    let invalid = parse_structured(without("to").as_bytes()).unwrap_err();
    assert_eq!((invalid.field.as_str(), invalid.reason), ("to", Reason::RecipientInvalid));
}

#[test]
fn what_is_no_event() {
    check_errors(
        &[
            String::new(),
            "[]".into(),
            "{".into(),
            format!("{PLAIN} x"),
            PLAIN.replace("1.0", "0.3"),
            PLAIN.replace(r#""a""#, "5"),
            PLAIN.replace(r#""user:42""#, r#"["user:42"]"#),
            PLAIN.replace(r#""user:42""#, r#"" , ""#),
            with(r#""id":"b""#),
            with(r#""time":"yesterday""#),
            with(r#""ttl":-1"#),
            with(r#""ttl":"1h""#),
            with(r#""ttl":[1]"#),
            with(r#""ephemeral":"maybe""#),
            with(r#""Upper":"x""#),
            with(r#""some_name":"x""#),
            with(r#""nested":{"a":1}"#),
            with(r#""fraction":1.5"#),
            with(r#""half":"\ud800""#),
            with(r#""data_base64":"?""#),
            with(r#""data_base64":5"#),
            with(r#""data_base64":"aGk=","data":1"#),
        ],
        expect![[r#"
            an event must be a JSON object: EOF while parsing a value at line 1 column 0
            an event must be a JSON object: invalid type: sequence, expected an object at line 1 column 0
            an event must be a JSON object: EOF while parsing an object at line 1 column 1
            an event must be a JSON object: trailing characters at line 1 column 89
            specversion: must be "1.0"
            id: must be a string
            to: must be a string
            to: is required: name at least one recipient, such as user:42
            id: is named twice
            time: must be a time in RFC 3339 such as 2026-01-31T12:00:00Z
            ttl: must be a number of seconds such as 30
            ttl: must be a number of seconds such as 30
            ttl: must be a string, a boolean or an integer
            ephemeral: must be true or false
            attributes.Upper: must be a name of lower-case letters a-z and digits
            attributes.some_name: must be a name of lower-case letters a-z and digits
            nested: must be a string, a boolean or an integer
            fraction: must be a string, a boolean or an integer
            half: is not Unicode text
            data_base64: is not Base64: Invalid symbol 63, offset 0.
            data_base64: must be a string
            data_base64: must not stand beside data
        "#]],
    );
}

/// The fault: all of them were read first, at a hundred times their size.
#[test]
fn what_has_too_many_of_something_is_refused_at_the_first_too_many() {
    let event = |to: usize, attributes: usize| {
        let attributes: String = (0..attributes).map(|number| format!(r#","a{number}":1"#)).collect();
        let to = format!("all{}", ",all".repeat(to - 1));
        format!(r#"{{"specversion":"1.0","id":"a","source":"/s","type":"t","to":"{to}"{attributes}}}"#)
    };
    let parse = |json: &str| parse_structured(json.as_bytes());
    let most = parse(&event(256, 64)).unwrap();
    assert_eq!((most.to.len(), most.attributes.len()), (256, 64));
    let recipients = parse(&event(257, 0)).unwrap_err();
    assert_eq!((recipients.field.as_str(), recipients.reason), ("to", Reason::RecipientInvalid));
    for attributes in [65, 76, 100, 5_000] {
        assert_eq!(parse(&event(1, attributes)).unwrap_err().field, "attributes", "{attributes}");
    }
    let batch = |events: usize| {
        let events = vec![event(1, 0); events].join(",");
        parse_batch(format!("[{events}").as_bytes()) // which does not end
    };
    assert!(batch(1_000).unwrap_err().message.contains("must be a JSON array"));
    assert_eq!(batch(1_001).unwrap_err().field, "events");
    let data = event(1, 0).replace(r#""to""#, r#""data":[0,0],"to""#);
    assert_eq!(parse(&data).unwrap().data, "[0,0]");
}

#[test]
fn batches_and_lines_name_the_place() {
    let batch = |json: &str| parse_batch(json.as_bytes());
    assert_eq!(batch("[]"), Ok(vec![]));
    assert_eq!(batch(&format!("[{PLAIN}, {PLAIN}]")).unwrap().len(), 2);
    assert_eq!(
        batch(&format!("[{PLAIN},{}]", without("id"))).unwrap_err().to_string(),
        "events[1].id: is required"
    );
    assert_eq!(batch("[5]").unwrap_err().field, "events[0]");
    assert!(batch(PLAIN).unwrap_err().to_string().starts_with("a batch must be a JSON array: "));

    assert_eq!(parse_line(b" \r\n", 3), Ok(None));
    assert!(parse_line(PLAIN.as_bytes(), 3).unwrap().is_some());
    assert!(parse_line(format!("\u{feff}{PLAIN}\n").as_bytes(), 1).unwrap().is_some());
    let error = parse_line(without("id").as_bytes(), 3).unwrap_err();
    assert_eq!(error.to_string(), "line 3, id: is required");
    assert!(
        parse_line(b"x", 4).unwrap_err().to_string().starts_with("line 4: an event must be a JSON object: ")
    );
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

const BINARY: [(&str, &str); 5] = [
    ("ce-specversion", "1.0"),
    ("ce-id", "a"),
    ("ce-source", "/orders"),
    ("ce-type", "order.shipped"),
    ("ce-to", "user:42,topic:orders"),
];

#[test]
fn a_binary_event() {
    let mut all = headers(&BINARY);
    all.extend(headers(&[
        ("content-type", "text/plain"),
        ("ce-time", "2023-11-14T22:13:20Z"),
        ("ce-ttl", "30"),
        ("ce-ephemeral", "true"),
        ("ce-subject", "Euro%20%E2%82%AC%20100%"),
        ("ce-region", r#""a \"b\" %41""#),
        ("authorization", "Bearer x"),
    ]));
    let events = from_http(&all, Bytes::from_static(b"hi")).unwrap();
    let wanted = v1::Event {
        to: vec!["user:42".into(), "topic:orders".into()],
        id: "a".into(),
        r#type: "order.shipped".into(),
        data: "hi".into(),
        data_content_type: "text/plain".into(),
        time: Some(Timestamp { seconds: 1_700_000_000, nanos: 0 }),
        source: "/orders".into(),
        subject: "Euro € 100%".into(),
        ttl: Some(Duration { seconds: 30, nanos: 0 }),
        attributes: [("region".to_owned(), "a \"b\" A".to_owned())].into(),
        ephemeral: true,
        ..v1::Event::default()
    };
    assert_eq!(events, [wanted]);
}

#[test]
fn binary_events_that_cannot_be_read() {
    let check = |more: &[(&'static str, &str)], field: &str| {
        let mut all = headers(&BINARY);
        for (name, value) in more {
            all.append(*name, value.parse().unwrap());
        }
        let failure = from_http(&all, Bytes::new()).unwrap_err();
        assert_eq!(failure.field.as_deref(), Some(field), "{failure}");
        assert_eq!(failure.problem().status, 400);
    };
    check(&[("ce-id", "b")], "ce-id");
    check(&[("ce-datacontenttype", "text/plain")], "ce-datacontenttype");
    check(&[("ce-x_y", "b")], "attributes.x_y");
    check(&[("ce-data", "b")], "attributes.data");
    check(&[("ce-subject", "%ff")], "ce-subject");
    for (missing, _) in BINARY.iter().skip(1) {
        let mut some = headers(&BINARY);
        some.remove(*missing);
        let failure = from_http(&some, Bytes::new()).unwrap_err();
        assert_eq!(failure.field.as_deref(), missing.strip_prefix("ce-"));
    }
    let mut raw = headers(&BINARY);
    raw.insert("ce-subject", HeaderValue::from_bytes(b"\xff").unwrap());
    assert_eq!(from_http(&raw, Bytes::new()).unwrap_err().field.as_deref(), Some("ce-subject"));
}

#[test]
fn modes() {
    let of = |content_type: &str| mode(&headers(&[("content-type", content_type)]));
    assert_eq!(of("application/cloudevents+json"), Ok(Mode::Structured));
    assert_eq!(of("Application/CloudEvents+JSON; charset=UTF-8"), Ok(Mode::Structured));
    assert_eq!(of("application/cloudevents-batch+json"), Ok(Mode::Batch));
    assert_eq!(mode(&headers(&BINARY)), Ok(Mode::Binary));
    let batch = from_http(
        &headers(&[("content-type", "application/cloudevents-batch+json")]),
        format!("[{PLAIN}]").into(),
    );
    assert_eq!(batch.unwrap().len(), 1);

    let table: String = [
        "",
        "application/json",
        "application/cloudevents+xml",
        "application/cloudevents+json; charset=latin1",
    ]
    .map(|content_type| {
        let failure = of(content_type).unwrap_err();
        format!("{} {failure}\n", failure.problem().status)
    })
    .concat();
    expect![[r#"
        415 not a CloudEvent: send Content-Type application/cloudevents+json, application/cloudevents-batch+json, or the headers ce-specversion, ce-id, ce-source, ce-type and ce-to
        415 not a CloudEvent: send Content-Type application/cloudevents+json, application/cloudevents-batch+json, or the headers ce-specversion, ce-id, ce-source, ce-type and ce-to
        415 application/cloudevents+xml is not supported: send application/cloudevents+json or application/cloudevents-batch+json
        415 the charset latin1 is not supported: send UTF-8
    "#]].assert_eq(&table);
}

prop_compose! {
    /// Any event that may be published.
    fn valid_event()(
        to in prop::collection::vec("(user|session|topic):[a-z/*€]{1,20}|all", 1..5),
        texts in prop::collection::vec("[^\\p{C}\\p{Z}]([^\\p{C}\\p{Zl}\\p{Zp}]{0,18}[^\\p{C}\\p{Z}])?", 5),
        data in prop_oneof![
            Just((String::new(), Vec::new())),
            "[a-z]{1,9}".prop_map(|text| (String::new(), format!(r#"{{"a":"{text}"}}"#).into_bytes())),
            prop::collection::vec(any::<u8>(), 1..40).prop_map(|bytes| ("image/png".to_owned(), bytes)),
        ],
        time in prop::option::of((0..4_000_000_000i64, 0..1_000_000_000)),
        ttl in prop::option::of((0..4_000_000_000i64, 1..1_000_000_000)),
        attributes in prop::collection::btree_map("x[a-z0-9]{1,9}", "[^\\p{C}]{0,20}", 0..4),
        ephemeral: bool,
    ) -> v1::Event {
        v1::Event {
            to,
            id: texts[0].clone(),
            r#type: format!("a{}", texts[1]),
            data_content_type: data.0,
            data: data.1.into(),
            time: time.map(|(seconds, nanos)| Timestamp { seconds, nanos }),
            source: texts[2].clone(),
            subject: texts[3].clone(),
            collapse_key: texts[4].clone(),
            ttl: ttl.map(|(seconds, nanos)| Duration { seconds, nanos }),
            attributes,
            ephemeral,
        }
    }
}

proptest! {
    #[test]
    fn a_valid_event_reads_back(event in valid_event()) {
        prop_assert_eq!(validate::event(&event, validate::DATA_BYTES_DEFAULT), Ok(()));
        let json = to_structured(&event);
        prop_assert_eq!(parse_structured(&json), Ok(event.clone()));
        prop_assert_eq!(parse_line(&json, 1), Ok(Some(event)));
    }

    #[test]
    fn any_bytes_are_an_event_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = parse_structured(&bytes);
        let _ = parse_batch(&bytes);
        let mut all = headers(&BINARY);
        if let Ok(value) = HeaderValue::from_bytes(&bytes) {
            all.insert("ce-subject", value);
        }
        let _ = from_http(&all, Bytes::new());
    }
}
