//! What a server, or something in its place, can answer instead of a stream.

use std::time::Duration;

use galaxy_push_client::{BuildError, Failure, MemoryCursorStore, PushClient, State, backoff};
use galaxy_push_proto::Reason;
use http::HeaderMap;
use tonic::Code;

use crate::hub::{Dial, Hub, Notes, Step, at, caught_up, code, event, settle, status, until, welcome};

/// The state shown and the seconds waited after a stream that a dial's script ends.
async fn after(dial: Dial) -> (State, f64, Failure) {
    let hub = Hub::new([dial]);
    let client = hub.client().start(Notes::default().handler()).unwrap();
    let shown = until(&client, |status| status.last_error.is_some()).await;
    hub.dialed(2).await;
    (shown.state, (hub.dial_times()[1] * 10.0).round() / 10.0, Failure::clone(&shown.last_error.unwrap()))
}

fn failure(reason: Reason) -> galaxy_push_proto::Failure {
    galaxy_push_proto::Failure::new(reason, "no")
}

#[tokio::test(start_paused = true)]
async fn an_aborted_stream_cools_down() {
    for end in [status(&failure(Reason::StaleAttempt)), code(Code::Aborted)] {
        let (state, waited, _) = after(Dial::Serve(vec![end])).await;
        assert_eq!((state, waited), (State::Conflicted, 10.0));
    }
    let replaced = status(&galaxy_push_proto::Failure::replaced("other", "10.0.0.2"));
    let (state, waited, error) = after(Dial::Serve(vec![welcome(&at(1)), caught_up(1), replaced])).await;
    assert_eq!((state, waited), (State::Conflicted, 10.0));
    assert!(error.to_string().contains("ABORTED REPLACED"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_that_is_held_off_waits_as_told() {
    let held_off = failure(Reason::HeldOff).retry_after(Duration::from_secs(60));
    let (state, waited, _) = after(Dial::Serve(vec![status(&held_off)])).await;
    assert_eq!((state, waited), (State::Conflicted, 60.2));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_polled_slowly_and_recovers() {
    for refused in [Code::Unauthenticated, Code::PermissionDenied, Code::Unimplemented, Code::InvalidArgument]
    {
        let hub = Hub::new([
            Dial::Serve(vec![code(refused)]),
            Dial::Serve(vec![welcome(&at(1)), caught_up(1), Step::Sleep(Duration::MAX)]),
        ]);
        let client = hub.client().start(Notes::default().handler()).unwrap();
        until(&client, |status| status.state == State::Refused).await;
        until(&client, |status| status.state == State::Live).await;
        assert_eq!(hub.dial_times()[1].round(), 60.0, "{refused:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_no_hub_said_is_a_broken_connection() {
    for (dial, expected) in [
        (Dial::Refused, "cannot reach the hub: http://hub: connection refused"),
        (Dial::Serve(vec![Step::Cut]), "the connection broke"),
        (Dial::Serve(vec![welcome(&at(1)), Step::Cut]), "the connection broke"),
        (Dial::Serve(vec![]), "the connection broke: the stream ended without a status"),
        (Dial::Serve(vec![Step::Http(503, "text/html")]), "no gRPC server answered (HTTP status 503"),
        (Dial::Serve(vec![Step::Http(200, "text/html")]), "no gRPC server answered (HTTP status 200"),
        (Dial::Serve(vec![code(Code::Unavailable)]), "the hub answered UNAVAILABLE: no"),
        (Dial::Serve(vec![welcome(&at(1)), code(Code::Ok)]), "the hub ended the stream"),
        (
            Dial::Serve(vec![event(1)]),
            "the hub broke the contract: a stream that does not begin with a welcome",
        ),
        (Dial::Serve(vec![Step::Send(vec![0, 0, 0, 0, 1, 255])]), "the hub broke the contract: a frame"),
        (Dial::Serve(vec![Step::Send(vec![0, 0, 80, 0, 0])]), "the hub sent a message of 5242880 bytes"),
        (Dial::Serve(vec![Step::Send(vec![1, 0, 0, 0, 1])]), "the hub sent a compressed message"),
    ] {
        let (state, waited, error) = after(dial).await;
        assert!(error.to_string().starts_with(expected), "{error} is not {expected}");
        assert_eq!((state, waited), (State::BackingOff, 0.2), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_hub_is_polled_slowly() {
    for http in [401, 404, 307] {
        let (state, waited, error) = after(Dial::Serve(vec![Step::Http(http, "text/html")])).await;
        assert!(error.to_string().contains("check the hub's URL"), "{error}");
        assert_eq!((state, waited), (State::Refused, 60.0), "{http}");
    }
    let (state, waited, _) = after(Dial::Serve(vec![Step::Http(429, "text/html")])).await;
    assert_eq!((state, waited), (State::BackingOff, 0.2), "that passes");
}

#[tokio::test(start_paused = true)]
async fn details_that_are_no_base64_harm_nobody() {
    let mut headers = HeaderMap::new();
    headers.insert("grpc-status", "16".parse().unwrap());
    headers.insert("grpc-status-details-bin", "%%%".parse().unwrap());
    let (state, waited, _) = after(Dial::Serve(vec![Step::End(headers)])).await;
    assert_eq!((state, waited), (State::Refused, 60.0));
}

#[tokio::test(start_paused = true)]
async fn a_malformed_cursor_is_told_and_the_stream_starts_from_the_oldest() {
    let hub = Hub::new([
        Dial::Serve(vec![status(&failure(Reason::CursorMalformed))]),
        Dial::Serve(vec![welcome(&at(0)), event(1), caught_up(1), Step::Sleep(Duration::MAX)]),
    ]);
    let notes = Notes::default();
    let client = hub.client().cursor("3.from-elsewhere").start(notes.handler()).unwrap();
    until(&client, |status| status.state == State::Live && status.cursor == at(1)).await;
    settle().await;
    assert_eq!(hub.cursors(), ["3.from-elsewhere", "oldest"]);
    assert_eq!(notes.text(), "gap:CursorUnreadable Welcome 1 CaughtUp");
    assert!(hub.dial_times()[1] < 0.1, "nothing to wait for");
    assert_eq!(client.counters().unreadable_cursors, 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_cursor_is_told_and_never_sent() {
    for stored in ["broken store".to_owned(), "7".repeat(70_000)] {
        let hub = Hub::new([Dial::Serve(vec![
            welcome(&at(0)),
            event(1),
            caught_up(1),
            Step::Sleep(Duration::MAX),
        ])]);
        let (notes, store) = (Notes::default(), MemoryCursorStore::holding(stored));
        let client = hub.client().cursor_store(store.clone()).start(notes.handler()).unwrap();
        until(&client, |status| status.state == State::Live && status.cursor == at(1)).await;
        settle().await;
        assert_eq!(
            (hub.cursors(), notes.text().as_str()),
            (vec!["oldest".to_owned()], "gap:CursorUnreadable Welcome 1 CaughtUp")
        );
        assert_eq!(store.cursor(), Some(at(1)), "it heals");
    }
}

#[tokio::test(start_paused = true)]
async fn settings_that_cannot_work_are_refused_before_anything_starts() {
    let builder = || PushClient::builder("g").hub("http://hub").random(|| 0);
    let start = |builder: galaxy_push_client::Builder| builder.start(Notes::default().handler()).unwrap_err();
    assert!(matches!(start(PushClient::builder("g")), BuildError::NoHub));
    assert!(matches!(start(PushClient::builder("g").hub("hub:1")), BuildError::HubUrl { .. }));
    assert!(matches!(start(PushClient::builder("").hub("http://hub")), BuildError::NoGatewayId));
    assert!(matches!(start(builder().connect_deadline(Duration::ZERO)), BuildError::ZeroDeadline("connect")));
    for bytes in [0, 1, 1023] {
        assert!(matches!(
            start(builder().max_receive_bytes(bytes)),
            BuildError::ReceiveBytes { min: 1024, .. }
        ));
    }
    drop(builder().max_receive_bytes(1024).start(Notes::default().handler()).unwrap());
    for url in ["http://hub:99999", "http://hub:"] {
        assert!(matches!(start(PushClient::builder("g").hub(url)), BuildError::HubUrl { .. }));
    }
    for id in ["a b", "a,b", "a\nb", "\u{200b}", &"x".repeat(256)] {
        let error = start(PushClient::builder(id).hub("http://hub"));
        assert!(matches!(error, BuildError::GatewayId { .. }), "{id:?}: {error}");
    }
    let never = backoff::Config::default().first(Duration::ZERO).cap(Duration::ZERO);
    assert!(matches!(start(builder().backoff(never)), BuildError::Backoff(_)));
}
