//! Tests of the conversion, on payloads of the test's own.

use super::*;

fn convert(payload: &str) -> CloudEvent {
    let raw: Box<RawValue> = serde_json::from_str(payload).expect("the test's payload is JSON");
    event("pull_request", "github", "api.github.com/pull_request/0", 61, &raw).expect("it converts")
}

#[test]
fn names_the_sender_and_the_repository() {
    let event =
        convert(r#"{"action":"opened","sender":{"login":"mona"},"repository":{"full_name":"mona/web"}}"#);
    assert_eq!(event.to, "user:mona,topic:mona/web");
    assert_eq!(event.source, "github/mona/web");
    assert_eq!(event.r#type, "github.pull_request.opened");
    assert_eq!(event.time, "2024-01-01T00:01:01Z");
}

#[test]
fn a_payload_that_names_nobody_is_for_all() {
    let event = convert(r#"{"security_advisory":{}}"#);
    assert_eq!((event.to.as_str(), event.source.as_str()), ("all", "github"));
    assert_eq!(event.r#type, "github.pull_request");
}

#[test]
fn keeps_the_payload_but_for_white_space_between_tokens() {
    let event =
        convert("{\n  \"z\": 1.0,\n  \"a\": \"two  words \\\" and \\\\\",\n  \"b\": [ 1e3, null ]\n}");
    assert_eq!(event.data.get(), r#"{"z":1.0,"a":"two  words \" and \\","b":[1e3,null]}"#);
}

#[test]
fn one_event_is_one_line_of_cloudevents_json() {
    let event = convert("{\n\"sender\": {\"login\": \"mona\"}}");
    let line = serde_json::to_string(&event).expect("it serializes");
    assert_eq!(
        line,
        r#"{"specversion":"1.0","id":"api.github.com/pull_request/0","source":"github","type":"github.pull_request","time":"2024-01-01T00:01:01Z","to":"user:mona","datacontenttype":"application/json","data":{"sender":{"login":"mona"}}}"#
    );
}

#[test]
fn makes_any_name_a_valid_id() {
    assert_eq!(recipient_id("a b,c\td"), "a-b-c-d");
    assert_eq!(recipient_id(""), "-");
    let long = recipient_id(&"é".repeat(200));
    assert_eq!(long.len(), 254);
}
