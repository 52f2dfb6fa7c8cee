//! Failures round-trip through a status, as any `google.rpc` client reads them, and have the right HTTP form.

use expect_test::expect;
use proptest::prelude::*;
use tonic_types::StatusExt as _;

use super::*;

#[test]
fn another_implementation_reads_the_details() {
    let status = Failure::replaced("i-2", "10.0.0.7:5000")
        .retry_after(Duration::from_millis(1500))
        .field("x")
        .status();
    assert_eq!(status.code(), Code::Aborted);
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("REPLACED", "push.v1"));
    assert_eq!(
        (info.metadata["instance"].as_str(), info.metadata["peer"].as_str()),
        ("i-2", "10.0.0.7:5000")
    );
    assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_millis(1500)));
    assert_eq!(details.bad_request().unwrap().field_violations[0].field, "x");
}

#[test]
fn a_status_without_details_reads_as_its_code_and_message() {
    let failure = Failure::of(&Status::unavailable("gone"));
    assert_eq!(failure, Failure::without_reason(Code::Unavailable, "gone"));
    assert!(failure.status().details().is_empty());
}

#[test]
fn foreign_and_malformed_details_are_left_out() {
    let mut foreign = tonic_types::ErrorDetails::new();
    foreign.set_error_info("REPLACED", "other.example", std::collections::HashMap::new());
    assert_eq!(Failure::of(&Status::with_error_details(Code::Aborted, "x", foreign)).reason, None);

    let malformed = Status::with_details(Code::Aborted, "x", bytes::Bytes::from_static(b"\xff\xff\xff"));
    assert_eq!(Failure::of(&malformed).reason, None);

    let mut newer = tonic_types::ErrorDetails::new();
    newer.set_error_info("NEWER", DOMAIN, std::collections::HashMap::new());
    assert_eq!(Failure::of(&Status::with_error_details(Code::Aborted, "x", newer)).reason, None);
}

#[test]
fn reasons_have_a_code_and_an_http_status() {
    let table: String = Reason::ALL
        .iter()
        .map(|&reason| {
            let problem = Failure::new(reason, "").problem();
            format!("{reason} {:?} {} {}\n", reason.code(), problem.status, problem.title())
        })
        .collect();
    expect![[r#"
        REPLACED Aborted 409 Replaced by a newer subscription
        HELD_OFF ResourceExhausted 429 Held off
        STALE_ATTEMPT Aborted 409 Stale attempt
        CURSOR_MALFORMED InvalidArgument 400 Malformed cursor
        EVENT_TOO_LARGE InvalidArgument 413 Event too large
        BATCH_TOO_LARGE InvalidArgument 413 Batch too large
        RECIPIENT_INVALID InvalidArgument 400 Invalid recipient
        NOT_GRANTED PermissionDenied 403 Not granted
        ID_REUSED AlreadyExists 409 Id used for another content
        RECORDS_FULL ResourceExhausted 429 No room for standing records
        OVERLOADED Unavailable 503 Overloaded
        DRAINING Unavailable 503 Shutting down
        STORE_UNAVAILABLE Unavailable 503 Store unavailable
        REQUEST_INVALID InvalidArgument 400 Invalid request
    "#]]
    .assert_eq(&table);
}

#[test]
fn problems_are_rfc_9457() {
    let json = |failure: &Failure| String::from_utf8(failure.problem().to_json()).unwrap();
    let full = Failure::new(Reason::HeldOff, "wait")
        .field("gateway_client_id")
        .retry_after(Duration::from_secs(60))
        .metadata("a", "b");
    expect![[r#"{"type":"urn:push.v1:HELD_OFF","title":"Held off","status":429,"detail":"wait","reason":"HELD_OFF","field":"gateway_client_id","retryAfter":"60s"}"#]]
    .assert_eq(&json(&full));
    let plain = Failure::without_reason(Code::InvalidArgument, "send POST").http_status(405);
    expect![[r#"{"type":"about:blank","title":"Method Not Allowed","status":405,"detail":"send POST"}"#]]
        .assert_eq(&json(&plain));
}

proptest! {
    #[test]
    fn a_failure_reads_back(
        reason in prop::sample::select(&Reason::ALL[..]),
        message in ".*",
        field in prop::option::of(".*"),
        wait in prop::option::of((0..1_000_000_000u64, 0..1_000_000_000u32)),
        metadata in prop::collection::btree_map(".*", ".*", 0..4),
    ) {
        let mut failure = Failure::new(reason, message);
        failure.field = field;
        failure.retry_after = wait.map(|(seconds, nanos)| Duration::new(seconds, nanos));
        failure.metadata = metadata;
        let status = failure.status();
        prop_assert_eq!(status.details(), details::encode(&failure));
        prop_assert_eq!(Failure::of(&status), failure);
    }
}
