//! CloudEvents over HTTP: what the hub takes keeps every rule, and what went in is what lies in the log, and in each form again.

use axum::body::Body;
use bytes::Bytes;
use galaxy_push_core::frame::FrameView;
use galaxy_push_proto::v1::{self, PushEvent, push_event};
use galaxy_push_proto::{cloudevents as forms, validate};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use prost::Message as _;
use tower::ServiceExt as _;

use crate::world::{START_UNIX_MS, hub, run};

/// The largest data of one event that the hub takes, in bytes.
const DATA_MAX: usize = 64 << 10;

/// Headers, a line each, an empty line, and the body.
pub fn cloudevents(data: &[u8]) {
    let (headers, body) = request(data);
    let parsed = forms::from_http(&headers, Bytes::copy_from_slice(body));
    if let Ok(events) = &parsed {
        for event in events.iter().take(4) {
            again(event);
        }
    }
    let mut expected = parsed.unwrap_or_default();
    expected.iter_mut().for_each(|event| validate::fill_in(event, START_UNIX_MS));
    let may_be_taken = !expected.is_empty() && validate::batch(&expected, DATA_MAX).is_ok();
    run(async {
        let hub = hub();
        let mut request =
            Request::post("/v1/events").body(Body::from(Bytes::copy_from_slice(body))).unwrap_or_default();
        let is_simple = headers.keys().all(|name| name == "content-type" || name.as_str().starts_with("ce-"));
        let is_plain = !headers.contains_key("content-encoding");
        *request.headers_mut() = headers;
        let response = match hub.router().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let status = response.status();
        assert!(!status.is_server_error(), "{status}");
        let answer = axum::body::to_bytes(response.into_body(), 1 << 22).await.unwrap_or_default();
        let Ok(answer) = serde_json::from_slice::<serde_json::Value>(&answer) else {
            panic!("{status}, and no JSON")
        };
        let held = hub.log_dump();
        let is_right = matches!(status, StatusCode::OK | StatusCode::CONFLICT);
        assert!(is_right || !(is_simple && may_be_taken), "keeps every rule, and refused: {answer}");
        if status != StatusCode::OK {
            assert!(held.is_empty(), "refused with {status}, and yet in the log");
            assert!(answer["status"] == status.as_u16(), "{answer}");
            return;
        }
        if !is_plain {
            return; // inflated, it is another body
        }
        assert!(may_be_taken || expected.is_empty(), "taken against the rules: {expected:?}");
        assert_eq!(answer["results"].as_array().map(Vec::len), Some(expected.len()), "{answer}");
        same(&held.iter().map(|held| &*held.message).collect::<Vec<_>>(), expected);
    });
}

/// What lies in the log is what was sent, but for what came twice.
fn same(held: &[&[u8]], expected: Vec<v1::Event>) {
    let mut seen = Vec::new();
    let mut left = held.iter();
    for event in expected {
        let key = (event.source.clone(), event.id.clone());
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        let Some(message) = left.next() else { panic!("an event is not in the log") };
        assert!(FrameView::read(message).is_ok(), "a frame that is none");
        let frame = PushEvent::decode(*message).unwrap_or_default();
        assert_eq!(frame.kind, Some(push_event::Kind::Event(event)), "what went in");
    }
    assert!(left.next().is_none(), "more is in the log than was sent");
}

/// Written as JSON and read again, an event that keeps the rules is the same.
fn again(event: &v1::Event) {
    let mut event = event.clone();
    validate::fill_in(&mut event, START_UNIX_MS);
    if validate::event(&event, validate::DATA_BYTES_MAX).is_err() {
        return;
    }
    let json = forms::to_structured(&event);
    match forms::parse_structured(&json) {
        Ok(again) => assert_eq!(comparable(again), comparable(event), "{}", String::from_utf8_lossy(&json)),
        Err(invalid) => panic!("{invalid:?}: {}", String::from_utf8_lossy(&json)),
    }
}

/// That data is JSON may be said or left unsaid.
fn comparable(mut event: v1::Event) -> v1::Event {
    if event.data_content_type.is_empty() {
        event.data_content_type = "application/json".to_owned();
    }
    event
}

fn request(data: &[u8]) -> (HeaderMap, &[u8]) {
    let mut headers = HeaderMap::new();
    let mut rest = data;
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let (line, behind) = rest.split_at(end);
        rest = behind.get(1..).unwrap_or_default();
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return (headers, rest) };
        let (name, value) =
            (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(line[colon + 1..].trim_ascii()));
        if let (Ok(name), Ok(value)) = (name, value)
            && headers.len() < 64
        {
            headers.append(name, value);
        }
    }
}
