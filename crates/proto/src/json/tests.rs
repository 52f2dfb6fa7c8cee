//! The JSON form of every kind of frame, both views, and everything a user may send.

use expect_test::{Expect, expect};
use proptest::prelude::*;
use prost_types::{Duration, Timestamp};

use super::*;
use crate::v1::{client_frame::Kind as Asked, *};

fn event() -> Event {
    Event {
        to: vec!["user:42".into(), "topic:orders".into()],
        id: "a".into(),
        r#type: "order.shipped".into(),
        data: r#"{"total": 1.50,"n":[1, 2]}"#.into(),
        data_content_type: "application/json".into(),
        time: Some(Timestamp { seconds: 1_700_000_000, nanos: 250_000_000 }),
        source: "/orders".into(),
        subject: "7".into(),
        collapse_key: "order-7".into(),
        ttl: Some(Duration { seconds: 30, nanos: 0 }),
        attributes: [("traceparent".into(), "00-1-2-01".into()), ("region".into(), "eu".into())].into(),
        ephemeral: true,
    }
}

fn of_kind(kind: Kind) -> PushEvent {
    PushEvent { cursor: "2.e.a7".into(), kind: Some(kind), appended_unix_ms: 9 }
}

#[track_caller]
fn check(kind: Kind, wanted: Expect) {
    let frame = of_kind(kind);
    let json = super::frame(&frame, View::Full);
    wanted.assert_eq(str::from_utf8(&json).unwrap());

    // What server-sent events print is the object inside the frame.
    let whole: serde_json::Value = serde_json::from_slice(&json).unwrap();
    if let Some((name, data)) = control(frame.kind.as_ref().unwrap()) {
        assert!(name.starts_with("push."));
        let inner: serde_json::Value = serde_json::from_slice(&data).unwrap();
        assert_eq!(whole.as_object().unwrap().values().filter(|value| **value == inner).count(), 1);
    }
}

#[test]
fn an_event_in_full() {
    check(
        Kind::Event(event()),
        expect![[
            r#"{"cursor":"2.e.a7","event":{"specversion":"1.0","id":"a","source":"/orders","type":"order.shipped","subject":"7","time":"2023-11-14T22:13:20.250Z","datacontenttype":"application/json","to":"user:42,topic:orders","collapsekey":"order-7","ttl":30,"ephemeral":true,"region":"eu","traceparent":"00-1-2-01","data":{"total": 1.50,"n":[1, 2]}}}"#
        ]],
    );
}

#[test]
fn an_event_at_the_edge_hides_recipients_and_extensions() {
    let json = |edge: &EdgeView| String::from_utf8(event_data(&event(), View::Edge(edge))).unwrap();
    expect![[
        r#"{"specversion":"1.0","id":"a","source":"/orders","type":"order.shipped","subject":"7","time":"2023-11-14T22:13:20.250Z","datacontenttype":"application/json","data":{"total": 1.50,"n":[1, 2]}}"#
    ]]
    .assert_eq(&json(&EdgeView::default()));
    expect![[
        r#"{"specversion":"1.0","id":"a","source":"/orders","type":"order.shipped","subject":"7","time":"2023-11-14T22:13:20.250Z","datacontenttype":"application/json","ttl":30,"region":"eu","data":{"total": 1.50,"n":[1, 2]}}"#
    ]]
    .assert_eq(&json(&EdgeView::showing(["region", "ttl", "to"])));
}

#[test]
fn the_stripped_binary_form_shows_what_the_json_form_shows() {
    let mut with_schema = event();
    with_schema.attributes.insert("dataschema".into(), "https://example.com/s".into());
    let frame = of_kind(Kind::Event(with_schema));
    for edge in
        [EdgeView::default(), EdgeView::showing(["region", "to"]), EdgeView::showing(["ttl", "ephemeral"])]
    {
        let stripped = strip_for_edge(&frame, &edge);
        let Some(Kind::Event(event)) = &stripped.kind else { panic!("still an event") };
        assert!(event.to.is_empty());
        assert_eq!(event.attributes["dataschema"], "https://example.com/s");
        let full: serde_json::Value = serde_json::from_slice(&super::frame(&stripped, View::Full)).unwrap();
        let mut full = full.clone();
        assert_eq!(full["event"].as_object_mut().unwrap().remove("to"), Some("".into()));
        let edge_json = super::frame(&frame, View::Edge(&edge));
        assert_eq!(full, serde_json::from_slice::<serde_json::Value>(&edge_json).unwrap());
    }
}

#[test]
fn data_that_is_not_json_is_base64() {
    let data = |content_type: &str, data: &[u8]| {
        let event = Event {
            data_content_type: content_type.into(),
            data: data.to_vec().into(),
            id: "a".into(),
            ..Event::default()
        };
        let json: serde_json::Value = serde_json::from_slice(&event_data(&event, View::Full)).unwrap();
        (json.get("data").cloned(), json.get("data_base64").and_then(|text| text.as_str()).map(str::to_owned))
    };
    assert_eq!(data("text/plain", b"hi"), (None, Some("aGk=".into())));
    assert_eq!(data("", b"[1]"), (Some(serde_json::json!([1])), None));
    assert_eq!(data("application/vnd.a+json", b"null"), (Some(serde_json::Value::Null), None));
    assert_eq!(data("application/json", b""), (None, None));
    // Never published like this, but it must not break the line of every reader.
    assert_eq!(data("application/json", b"{"), (None, Some("ew==".into())));
    assert_eq!(data("application/json", b"\"\xff\""), (None, Some("Iv8i".into())));
}

#[test]
fn every_output_is_one_line() {
    let pretty = Event { data: "{\r\n  \"a\": \"x\\ny\"\n}\n".into(), ..event() };
    let json = event_data(&pretty, View::Full);
    assert!(!json.contains(&b'\n') && !json.contains(&b'\r'));
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["data"]["a"], "x\ny");
}

#[test]
fn frames_without_a_cursor_or_a_kind() {
    let ephemeral = PushEvent { kind: Some(Kind::Event(Event::default())), ..PushEvent::default() };
    let json = super::frame(&ephemeral, View::Edge(&EdgeView::default()));
    expect![[r#"{"event":{"specversion":"1.0","id":"","source":"","type":""}}"#]]
        .assert_eq(str::from_utf8(&json).unwrap());
    let unknown = PushEvent { cursor: "2.e.a7".into(), ..PushEvent::default() };
    assert_eq!(super::frame(&unknown, View::Full), br#"{"cursor":"2.e.a7"}"#);
}

#[test]
fn welcome() {
    let limits = Limits {
        max_event_bytes: 65_536,
        max_frame_bytes: 4_194_304,
        window_events: 1_048_576,
        window_bytes: 268_435_456,
        window_age: Some(Duration { seconds: 600, nanos: 0 }),
    };
    check(
        Kind::Welcome(Welcome {
            outcome: Outcome::Resumed.into(),
            epoch: "e".into(),
            head: "2.e.a9".into(),
            oldest: "2.e.a0".into(),
            generation: 3,
            heartbeat_interval: Some(Duration { seconds: 5, nanos: 0 }),
            limits: Some(limits),
            connection_id: "c1".into(),
        }),
        expect![[
            r#"{"cursor":"2.e.a7","welcome":{"outcome":"RESUMED","epoch":"e","head":"2.e.a9","oldest":"2.e.a0","generation":"3","heartbeatInterval":"5s","limits":{"maxEventBytes":65536,"maxFrameBytes":4194304,"windowEvents":"1048576","windowBytes":"268435456","windowAge":"600s"},"connectionId":"c1"}}"#
        ]],
    );
    check(
        Kind::Welcome(Welcome { outcome: 77, ..Welcome::default() }),
        expect![[r#"{"cursor":"2.e.a7","welcome":{"outcome":77,"generation":"0"}}"#]],
    );
}

#[test]
fn control_frames() {
    check(Kind::Progress(Progress::default()), expect![[r#"{"cursor":"2.e.a7","progress":{}}"#]]);
    check(
        Kind::Progress(Progress { stale: true }),
        expect![[r#"{"cursor":"2.e.a7","progress":{"stale":true}}"#]],
    );
    check(Kind::CaughtUp(CaughtUp {}), expect![[r#"{"cursor":"2.e.a7","caughtUp":{}}"#]]);
    check(
        Kind::FellBehind(FellBehind { events: 12, lag: Some(Duration { seconds: 1, nanos: 500_000_000 }) }),
        expect![[r#"{"cursor":"2.e.a7","fellBehind":{"events":"12","lag":"1.500s"}}"#]],
    );
    check(
        Kind::Goodbye(Goodbye {
            reason: GoodbyeReason::SessionEnded.into(),
            retry_after: Some(Duration { seconds: 2, nanos: 0 }),
            reconnect: false,
        }),
        expect![[
            r#"{"cursor":"2.e.a7","goodbye":{"reason":"SESSION_ENDED","retryAfter":"2s","reconnect":false}}"#
        ]],
    );
    check(
        Kind::Subscribed(Subscribed { topics: vec!["orders".into()] }),
        expect![[r#"{"cursor":"2.e.a7","subscribed":{"topics":["orders"]}}"#]],
    );
    check(
        Kind::Subscribed(Subscribed::default()),
        expect![[r#"{"cursor":"2.e.a7","subscribed":{"topics":[]}}"#]],
    );
}

#[test]
fn gaps() {
    check(
        Kind::Gap(Gap {
            reason: GapReason::CursorUnreadable.into(),
            from: "2.e.a2".into(),
            to: "2.e.a7".into(),
            count: Some(5),
            repair_after: Some(Duration { seconds: 0, nanos: 40_000_000 }),
        }),
        expect![[
            r#"{"cursor":"2.e.a7","gap":{"reason":"CURSOR_UNREADABLE","from":"2.e.a2","to":"2.e.a7","count":"5","repairAfter":"0.040s"}}"#
        ]],
    );
    check(
        Kind::Gap(Gap { to: "2.e.a7".into(), count: Some(0), ..Gap::default() }),
        expect![[
            r#"{"cursor":"2.e.a7","gap":{"reason":"UNSPECIFIED","from":"","to":"2.e.a7","count":"0"}}"#
        ]],
    );
}

#[test]
fn standing_records() {
    let invalidation = SessionInvalidation {
        recipient: "session:s".into(),
        reason: "signed out".into(),
        issued_before: Some(Timestamp { seconds: 0, nanos: 0 }),
        expires_at: Some(Timestamp { seconds: 86_400, nanos: 0 }),
    };
    let membership = Membership { recipient: "user:42".into(), topic: "a/*".into(), ..Membership::default() };
    check(
        Kind::SessionInvalidation(invalidation.clone()),
        expect![[
            r#"{"cursor":"2.e.a7","sessionInvalidation":{"recipient":"session:s","reason":"signed out","issuedBefore":"1970-01-01T00:00:00Z","expiresAt":"1970-01-02T00:00:00Z"}}"#
        ]],
    );
    check(
        Kind::Membership(membership.clone()),
        expect![[r#"{"cursor":"2.e.a7","membership":{"recipient":"user:42","topic":"a/*","member":false}}"#]],
    );
    check(
        Kind::Standing(Standing {
            invalidations: vec![invalidation],
            memberships: vec![membership],
            more: true,
        }),
        expect![[
            r#"{"cursor":"2.e.a7","standing":{"invalidations":[{"recipient":"session:s","reason":"signed out","issuedBefore":"1970-01-01T00:00:00Z","expiresAt":"1970-01-02T00:00:00Z"}],"memberships":[{"recipient":"user:42","topic":"a/*","member":false}],"more":true}}"#
        ]],
    );
}

#[test]
fn client_frames() {
    let parse = |json: &str| parse_client_frame(json.as_bytes()).unwrap().kind.unwrap();
    let connect = r#"{"connect":{"token":"t","cursor":"2.e.a7","topics":["a","b"],"user":"42","session":"s",
        "features":["membership"],"maxReceiveBytes":65536,"namespace":"default","newer":[1]},"newer":true}"#;
    let wanted = Connect {
        token: "t".into(),
        cursor: "2.e.a7".into(),
        topics: vec!["a".into(), "b".into()],
        user: "42".into(),
        session: "s".into(),
        features: vec!["membership".into()],
        max_receive_bytes: 65_536,
        namespace: "default".into(),
    };
    assert_eq!(parse(connect), Asked::Connect(wanted));
    let bytes = |max_receive_bytes| Asked::Connect(Connect { max_receive_bytes, ..Connect::default() });
    assert_eq!(parse(r#"{"connect":{}}"#), bytes(0));
    assert_eq!(parse(r#"{"connect":{"maxReceiveBytes":"7","token":null}}"#), bytes(7));
    assert_eq!(parse(r#"{"connect":{"max_receive_bytes":7}}"#), bytes(7));

    let topics = Topics { topics: vec!["a".into()] };
    assert_eq!(parse(r#"{"subscribe":{"topics":["a"]}}"#), Asked::Subscribe(topics.clone()));
    assert_eq!(parse(r#"{"unsubscribe":{"topics":["a"]}}"#), Asked::Unsubscribe(topics));
    let refresh = Refresh { token: "t2".into() };
    assert_eq!(parse(r#"{"refresh":{"token":"t2"}}"#), Asked::Refresh(refresh));
}

#[test]
fn a_client_frame_of_a_newer_kind_is_none_and_no_fault() {
    assert_eq!(parse_client_frame(br#"{"publish":{"to":["all"]}}"#), Ok(v1::ClientFrame { kind: None }));
}

#[test]
fn client_frames_that_are_none() {
    let table: String = [
        "",
        "hello",
        "[]",
        "{}",
        r#"{"publish":{},"other":{}}"#,
        r#"{"connect":{},"subscribe":{}}"#,
        // The fault: the second one held, whatever the first one was.
        r#"{"connect":{},"connect":{}}"#,
        r#"{"connect":{"user":"a"},"x":0,"\u0063onnect":{"user":"b"}}"#,
        r#"{"connect":null}"#,
        r#"{"connect":["token"]}"#,
        r#"{"connect":{"token":5}}"#,
        r#"{"connect":{"maxReceiveBytes":-1}}"#,
        r#"{"subscribe":{"topics":"a"}}"#,
    ]
    .iter()
    .map(|json| format!("{json} => {}\n", parse_client_frame(json.as_bytes()).unwrap_err()))
    .collect();
    expect![[r#"
         => a frame must be a JSON object: EOF while parsing a value at line 1 column 0
        hello => a frame must be a JSON object: expected value at line 1 column 1
        [] => a frame must be a JSON object: what stands before column 0 of line 1 is of the wrong type
        {} => a frame must hold exactly one of `connect`, `subscribe`, `unsubscribe` and `refresh`
        {"publish":{},"other":{}} => a frame must hold exactly one of `connect`, `subscribe`, `unsubscribe` and `refresh`
        {"connect":{},"subscribe":{}} => a frame must hold exactly one of `connect`, `subscribe`, `unsubscribe` and `refresh`
        {"connect":{},"connect":{}} => connect: is named twice
        {"connect":{"user":"a"},"x":0,"\u0063onnect":{"user":"b"}} => connect: is named twice
        {"connect":null} => connect: must be a JSON object
        {"connect":["token"]} => connect: must be a JSON object
        {"connect":{"token":5}} => connect: what stands before column 10 of line 1 is of the wrong type
        {"connect":{"maxReceiveBytes":-1}} => connect: what stands before column 22 of line 1 is of the wrong type
        {"subscribe":{"topics":"a"}} => subscribe: what stands before column 13 of line 1 is of the wrong type
    "#]].assert_eq(&table);
}

#[test]
fn lists_of_a_client_frame_end_somewhere() {
    let frame =
        |topics: usize| format!(r#"{{"subscribe":{{"topics":["a"{}]}}}}"#, r#","a""#.repeat(topics - 1));
    assert!(parse_client_frame(frame(1_024).as_bytes()).is_ok(), "the gateway says how many there may be");
    assert!(parse_client_frame(frame(1_025).as_bytes()).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_a_client_frame_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = parse_client_frame(&bytes);
    }

    #[test]
    fn any_event_is_one_line_of_json(
        texts in prop::collection::vec(".*", 7),
        data in prop::collection::vec(any::<u8>(), 0..40),
        (seconds, nanos) in any::<(i64, i32)>(),
    ) {
        let event = Event {
            to: vec![texts[0].clone()],
            id: texts[1].clone(),
            r#type: texts[2].clone(),
            data: data.into(),
            data_content_type: texts[3].clone(),
            time: Some(Timestamp { seconds, nanos }),
            source: texts[4].clone(),
            subject: texts[5].clone(),
            collapse_key: texts[6].clone(),
            ttl: Some(Duration { seconds, nanos }),
            attributes: [("a".to_owned(), texts[0].clone())].into(),
            ephemeral: true,
        };
        let json = super::frame(&of_kind(Kind::Event(event)), View::Full);
        prop_assert!(!json.contains(&b'\n'));
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&json).is_ok());
    }
}
