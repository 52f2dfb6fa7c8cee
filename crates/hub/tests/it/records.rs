//! Standing records on their way in: both surfaces, what is filled in, every refusal.

use axum::body::{Body, to_bytes};
use galaxy_push_hub::Config;
use galaxy_push_proto::v1::publisher_client::PublisherClient;
use galaxy_push_proto::v1::{
    self, InvalidateRequest, Membership, PushEvent, SessionInvalidation, SetMembershipRequest,
};
use galaxy_push_proto::{Failure, Reason};
use http::Request;
use prost::Message as _;
use prost_types::Timestamp;
use serde_json::{Value, json};
use tonic::Code;
use tower::ServiceExt as _;

use crate::services::scrape;
use crate::world::{START_UNIX_MS, World, text};

const NOW_S: i64 = (START_UNIX_MS / 1_000) as i64;

pub(crate) fn invalidation(recipient: &str) -> SessionInvalidation {
    SessionInvalidation { recipient: recipient.to_owned(), ..SessionInvalidation::default() }
}

pub(crate) fn membership(recipient: &str, topic: &str, member: bool) -> Membership {
    Membership { recipient: recipient.to_owned(), topic: topic.to_owned(), member, expires_at: None }
}

fn held(world: &World) -> Vec<PushEvent> {
    world.hub.log_dump().iter().map(|held| PushEvent::decode(held.message.clone()).unwrap()).collect()
}

async fn post(world: &World, path: &str, body: &str) -> (u16, Value) {
    let request = Request::post(path).header("content-type", "application/json; charset=utf-8");
    let response =
        world.hub.router().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let media_type = if status == 200 { "application/json" } else { "application/problem+json" };
    assert_eq!(response.headers()["content-type"], media_type);
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test(start_paused = true)]
async fn over_grpc_a_record_answers_its_position() {
    let world = World::new(Config::default());
    let mut client = PublisherClient::new(world.connection());
    let request = InvalidateRequest { invalidation: Some(invalidation("session:s")), ..Default::default() };
    let first = client.invalidate(request).await.unwrap().into_inner();
    let memberships = vec![membership("user:1", "a", true), membership("user:1", "b/*", true)];
    let request = SetMembershipRequest { memberships, namespace: "default".into(), ..Default::default() };
    let second = client.set_membership(request).await.unwrap().into_inner();
    assert_eq!((first.cursor, second.cursor), (world.at(1), world.at(3)), "that of the last");
    world.publish("x").await;
    let texts: Vec<_> = held(&world).iter().map(text).collect();
    assert_eq!(texts, ["void session:s @1", "user:1+a @2", "user:1+b/* @3", "event x @4"]);
    let Some(v1::push_event::Kind::SessionInvalidation(record)) = &held(&world)[0].kind else { panic!() };
    assert_eq!(record.issued_before.map(|at| at.seconds), Some(NOW_S), "what was issued until now");
    assert_eq!(record.expires_at.map(|at| at.seconds), Some(NOW_S + 86_400), "as long as a token lives");
    assert_eq!(held(&world)[0].appended_unix_ms, START_UNIX_MS);
    let metrics = scrape(&world);
    for line in [
        "push_standing_records{kind=\"invalidation\"} 1.0\n",
        "push_standing_records{kind=\"membership\"} 2.0\n",
        "push_events_appended_total 4\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn over_http_in_both_forms() {
    let world = World::new(Config::default());
    let expires = "2023-11-15T22:13:20Z";
    for (path, body, cursor) in [
        (
            "/v1/invalidations",
            json!({"recipient": "user:1", "reason": "stolen", "issuedBefore": "2023-11-14T22:13:20Z",
                   "expiresAt": expires}),
            1,
        ),
        ("/v1/invalidations?namespace=default", json!({"invalidation": {"recipient": "session:s"}}), 2),
        ("/v1/memberships", json!({"recipient": "user:1", "topic": "a", "member": true}), 3),
        (
            "/v1/memberships",
            json!({"memberships": [
                {"recipient": "user:1", "topic": "b", "member": true, "expiresAt": expires},
                {"recipient": "user:1", "topic": "a", "member": false}]}),
            5,
        ),
    ] {
        let (status, answer) = post(&world, path, &body.to_string()).await;
        assert_eq!((status, &answer["cursor"]), (200, &json!(world.at(cursor))), "{body}");
        assert_eq!(answer["issuedBefore"].is_string(), path.contains("invalidations"), "{answer}");
    }
    let texts: Vec<_> = held(&world).iter().map(text).collect();
    assert_eq!(texts, ["void user:1 @1", "void session:s @2", "user:1+a @3", "user:1+b @4", "user:1-a @5"]);
    let metrics = scrape(&world);
    assert!(metrics.contains("push_standing_records{kind=\"membership\"} 1.0\n"), "one has ended");
}

#[tokio::test(start_paused = true)]
async fn every_bad_record_is_a_problem_that_says_what_to_do() {
    let world = World::new(Config::default());
    for (path, body, status, reason, field) in [
        ("/v1/invalidations", "", 400, "REQUEST_INVALID", ""),
        ("/v1/invalidations", "[]", 400, "REQUEST_INVALID", ""),
        ("/v1/invalidations", "{}", 400, "REQUEST_INVALID", "invalidation"),
        (
            "/v1/invalidations",
            r#"{"recipient":"topic:a"}"#,
            400,
            "RECIPIENT_INVALID",
            "invalidation.recipient",
        ),
        (
            "/v1/invalidations",
            r#"{"recipient":"user:1","expiresAt":"2020-01-01T00:00:00Z"}"#,
            400,
            "REQUEST_INVALID",
            "invalidation.expires_at",
        ),
        (
            "/v1/invalidations",
            r#"{"recipient":"user:1","expiresAt":"tomorrow"}"#,
            400,
            "REQUEST_INVALID",
            "invalidation.expires_at",
        ),
        (
            "/v1/invalidations?namespace=other",
            r#"{"recipient":"user:1"}"#,
            404,
            "REQUEST_INVALID",
            "namespace",
        ),
        (
            "/v1/memberships",
            r#"{"recipient":"user:1","topic":"a"}"#,
            400,
            "REQUEST_INVALID",
            "memberships[0]",
        ),
        ("/v1/memberships", r#"{"memberships":[]}"#, 400, "REQUEST_INVALID", "memberships"),
        (
            "/v1/memberships",
            r#"{"memberships":[{"recipient":"user:1","topic":"a","member":true},{"recipient":"all","topic":"a","member":true}]}"#,
            400,
            "RECIPIENT_INVALID",
            "memberships[1].recipient",
        ),
        (
            "/v1/memberships",
            r#"{"recipient":"user:1","topic":"a*b","member":true}"#,
            400,
            "REQUEST_INVALID",
            "memberships[0].topic",
        ),
    ] {
        let (answered, problem) = post(&world, path, body).await;
        assert_eq!((answered, &problem["reason"]), (status, &json!(reason)), "{path} {body} {problem}");
        assert_eq!(problem["field"].as_str().unwrap_or_default(), field, "{path} {body} {problem}");
    }
    let form = Request::post("/v1/invalidations").header("content-type", "text/plain").body(Body::from("{}"));
    assert_eq!(world.hub.router().oneshot(form.unwrap()).await.unwrap().status(), 415);
    assert_eq!(held(&world), [], "nothing of them was appended");
}

#[tokio::test(start_paused = true)]
async fn over_grpc_the_field_at_fault_is_named() {
    let world = World::new(Config::default());
    let mut client = PublisherClient::new(world.connection());
    let nothing = client.invalidate(InvalidateRequest::default()).await.unwrap_err();
    let elsewhere = InvalidateRequest { namespace: "other".into(), ..Default::default() };
    let elsewhere = client.invalidate(elsewhere).await.unwrap_err();
    let none = client.set_membership(SetMembershipRequest::default()).await.unwrap_err();
    for (status, code, field) in [
        (nothing, Code::InvalidArgument, "invalidation.recipient"),
        (elsewhere, Code::NotFound, "namespace"),
        (none, Code::InvalidArgument, "memberships"),
    ] {
        let failure = Failure::of(&status);
        assert_eq!((failure.code, failure.field.as_deref()), (code, Some(field)), "{failure}");
    }
    assert_eq!(held(&world), [], "nothing of them was appended");
}

#[tokio::test(start_paused = true)]
async fn a_full_store_refuses_and_appends_nothing() {
    let world = World::new(Config::default().standing_records_max(2));
    let soon = Some(Timestamp { seconds: NOW_S + 60, nanos: 0 });
    let brief = Membership { expires_at: soon, ..membership("user:1", "a", true) };
    world.hub.set_memberships(vec![brief, membership("user:1", "b", true)]).await.unwrap();
    let refused = world.hub.set_memberships(vec![membership("user:1", "c", true)]).await.unwrap_err();
    assert_eq!((refused.code, refused.reason), (Code::ResourceExhausted, Some(Reason::RecordsFull)));
    assert!(refused.message.contains("2 memberships are held"), "{refused}");
    assert_eq!(refused.retry_after, None, "waiting does not help");
    let joins = r#"{"recipient":"user:1","topic":"c","member":true}"#;
    let (status, problem) = post(&world, "/v1/memberships", joins).await;
    assert_eq!((status, &problem["reason"]), (429, &json!("RECORDS_FULL")));
    assert_eq!(held(&world).len(), 2);
    let metrics = scrape(&world);
    assert!(metrics.contains("push_standing_fill_ratio{kind=\"membership\"} 1.0\n"), "{metrics}");
    world.publish("x").await;
    world.hub.set_memberships(vec![membership("user:1", "b", false)]).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(61)).await;
    world.hub.set_memberships(vec![membership("user:1", "c", true)]).await.unwrap();
    assert_eq!(world.hub.head().cursor.to_string(), world.at(5));
}

#[tokio::test(start_paused = true)]
async fn a_full_set_of_memberships_takes_every_invalidation() {
    let world = World::new(Config::default().standing_records_max(2));
    let members = ["a", "b"].map(|topic| membership("user:1", topic, true));
    world.hub.set_memberships(members.to_vec()).await.unwrap();
    world.hub.invalidate(invalidation("user:1")).await.unwrap();
    let (status, _) = post(&world, "/v1/invalidations", r#"{"recipient":"session:s"}"#).await;
    assert_eq!(status, 200);
    let refused = world.hub.invalidate(invalidation("user:2")).await.unwrap_err();
    assert_eq!(refused.reason, Some(Reason::RecordsFull));
    world.hub.invalidate(invalidation("user:1")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_answer_names_the_second_before_which_tokens_are_void() {
    let world = World::new(Config::default());
    tokio::time::sleep(std::time::Duration::from_millis(999)).await;
    let (_, answer) = post(&world, "/v1/invalidations", r#"{"recipient":"user:1"}"#).await;
    assert_eq!(answer["issuedBefore"], "2023-11-14T22:13:20Z", "{answer}");
    let mut client = PublisherClient::new(world.connection());
    let request = InvalidateRequest { invalidation: Some(invalidation("session:s")), ..Default::default() };
    let answer = client.invalidate(request).await.unwrap();
    assert_eq!(answer.metadata().get("push-issued-before").unwrap(), "2023-11-14T22:13:20Z");
    for event in held(&world) {
        let Some(v1::push_event::Kind::SessionInvalidation(record)) = event.kind else { panic!() };
        assert_eq!(record.issued_before, Some(Timestamp { seconds: NOW_S, nanos: 0 }));
    }
    let ahead = |seconds| SessionInvalidation {
        issued_before: Some(Timestamp { seconds: NOW_S + seconds, nanos: 0 }),
        ..invalidation("user:1")
    };
    world.hub.invalidate(ahead(30)).await.unwrap();
    let refused = world.hub.invalidate(ahead(32)).await.unwrap_err();
    assert_eq!(refused.field.as_deref(), Some("invalidation.issued_before"));
}

#[tokio::test(start_paused = true)]
async fn memberships_end_by_themselves_where_a_life_is_set() {
    let life = Some(std::time::Duration::from_secs(60));
    let world = World::new(Config::default().membership_life(life));
    world.hub.set_memberships(vec![membership("user:1", "a", true)]).await.unwrap();
    let metric = |count: &str| format!("push_standing_records{{kind=\"membership\"}} {count}\n");
    assert!(scrape(&world).contains(&metric("1.0")));
    tokio::time::sleep(std::time::Duration::from_secs(61)).await;
    assert!(scrape(&world).contains(&metric("0.0")));
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_shuts_down_takes_no_records() {
    let world = World::new(Config::default());
    world.hub.drain(std::time::Duration::from_secs(1)).await;
    let refused = world.hub.invalidate(invalidation("user:1")).await.unwrap_err();
    assert_eq!(refused.reason, Some(Reason::Draining));
}
