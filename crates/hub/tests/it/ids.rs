//! Idempotency by id and source: whose an id is, what counts as the same, and that standing records have it alike.

use axum::body::{Body, to_bytes};
use galaxy_push_core::recipient::Pattern;
use galaxy_push_hub::{Access, Config, Fingerprint, Hub, Identity, Role};
use galaxy_push_proto::v1::publisher_client::PublisherClient;
use galaxy_push_proto::v1::{self, InvalidateRequest, PublishRequest, RecordResponse, SetMembershipRequest};
use galaxy_push_proto::{Failure, Reason};
use http::Request;
use serde_json::{Value, json};
use tonic::Code;
use tower::ServiceExt as _;

use crate::records::{invalidation, membership};
use crate::world::{World, ambient, at, event};

/// POSTs as whoever has this token; empty: as nobody.
async fn post(world: &World, token: &str, path: &str, body: &Value) -> (u16, Value) {
    let media_type = match (path, body) {
        ("/v1/events", Value::Array(_)) => "application/cloudevents-batch+json",
        ("/v1/events", _) => "application/cloudevents+json",
        _ => "application/json",
    };
    let mut request = Request::post(path).header("content-type", media_type);
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Body::from(body.to_string())).unwrap();
    let response = world.hub.router().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

fn cloud_event(id: &str, to: &str, data: u64) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/orders", "type": "t", "to": to, "data": data})
}

fn two_publishers() -> World {
    let narrow = [Pattern::parse("user:9").unwrap()];
    let access = Access::open()
        .with(Identity::new("orders", Role::Publisher), Some(Fingerprint::of("orders' token")))
        .and_then(|access| {
            let identity = Identity::new("narrow", Role::Publisher).recipients(narrow);
            access.with(identity, Some(Fingerprint::of("narrow's token")))
        });
    World::over(Hub::in_memory(Config::default().access(access.unwrap()), ambient()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn an_id_that_another_publisher_used_makes_nothing_vanish_and_tells_nothing() {
    let world = two_publishers();
    let result = async |token: &str, event: Value| {
        let (status, answer) = post(&world, token, "/v1/events", &event).await;
        assert_eq!(status, 200, "{answer}");
        format!(
            "{} {}",
            at(answer["results"][0]["cursor"].as_str().unwrap()),
            answer["results"][0]["duplicate"]
        )
    };
    // Guessed before, guessed behind, with the same content and with another: all the same to everybody.
    assert_eq!(result("narrow's token", cloud_event("1", "user:9", 1)).await, "@1 false");
    assert_eq!(result("orders' token", cloud_event("1", "user:9", 1)).await, "@2 false");
    assert_eq!(result("orders' token", cloud_event("2", "user:1", 2)).await, "@3 false");
    assert_eq!(result("narrow's token", cloud_event("2", "user:9", 3)).await, "@4 false");
    assert_eq!(result("orders' token", cloud_event("1", "user:9", 1)).await, "@2 true");
    assert_eq!(result("orders' token", cloud_event("2", "user:1", 2)).await, "@3 true");
}

#[tokio::test(start_paused = true)]
async fn another_content_under_a_known_id_is_refused_and_never_acknowledged() {
    for world in [two_publishers(), World::new(Config::default())] {
        let token = "orders' token";
        let publish = async |body: Value| post(&world, token, "/v1/events", &body).await;
        publish(cloud_event("a", "user:1,topic:x", 1)).await;
        let (status, again) = publish(cloud_event("a", "topic:x,user:1,user:1", 1)).await;
        assert_eq!((status, &again["results"][0]["duplicate"]), (200, &json!(true)), "{again}");
        let mut other_type = cloud_event("a", "user:1,topic:x", 1);
        other_type["type"] = json!("u");
        let mut later = cloud_event("a", "user:1,topic:x", 1);
        (later["time"], later["ttl"], later["traceparent"]) =
            (json!("2026-11-24T07:05:00Z"), json!(60), json!("00-1"));
        assert_eq!(publish(later).await.1["results"][0]["duplicate"], true, "they do not count");
        for (body, field) in [
            (cloud_event("a", "user:1,topic:x", 2), "events[0].id"),
            (cloud_event("a", "user:1", 1), "events[0].id"),
            (other_type, "events[0].id"),
            (json!([cloud_event("new", "all", 1), cloud_event("a", "all", 1)]), "events[1].id"),
            (
                json!([cloud_event("b", "all", 1), cloud_event("c", "all", 1), cloud_event("b", "all", 2)]),
                "events[2].id",
            ),
        ] {
            let (status, problem) = publish(body).await;
            assert_eq!(
                (status, &problem["reason"], &problem["field"]),
                (409, &json!("ID_REUSED"), &json!(field))
            );
            assert!(problem["detail"].as_str().unwrap().contains("an id of its own"), "{problem}");
        }
        let fresh = publish(json!([cloud_event("new", "all", 1), cloud_event("b", "all", 3)])).await.1;
        let fresh: Vec<_> =
            fresh["results"].as_array().unwrap().iter().map(|each| &each["duplicate"]).collect();
        assert_eq!(fresh, [false, false], "what was refused was neither appended nor remembered");
        assert_eq!(world.hub.log_dump().len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn over_grpc_the_item_that_reuses_an_id_is_named() {
    let world = World::new(Config::default());
    let mut client = PublisherClient::new(world.connection());
    world.publish("a").await;
    let other = v1::Event { data: "2".into(), ..event("a") };
    let request = PublishRequest { events: vec![event("b"), other], ..PublishRequest::default() };
    let failure = Failure::of(&client.publish(request.clone()).await.unwrap_err());
    assert_eq!((failure.code, failure.reason), (Code::AlreadyExists, Some(Reason::IdReused)), "{failure}");
    assert_eq!(failure.field.as_deref(), Some("events[1].id"));
    let mut answers = client.publish_stream(tokio_stream::iter([request])).await.unwrap().into_inner();
    let results = answers.message().await.unwrap().unwrap().results;
    let results: Vec<_> = results.iter().map(|each| (&*each.id, each.code, &*each.reason)).collect();
    assert_eq!(results, [("b", Code::Aborted as i32, ""), ("a", Code::AlreadyExists as i32, "ID_REUSED")]);
}

#[tokio::test(start_paused = true)]
async fn standing_records_with_an_id_are_appended_once() {
    let world = World::new(Config::default());
    let mut client = PublisherClient::new(world.connection());
    let (id, source) = ("r1".to_owned(), "/auth".to_owned());
    let void = InvalidateRequest {
        invalidation: Some(invalidation("session:s")),
        id: id.clone(),
        source: source.clone(),
        ..InvalidateRequest::default()
    };
    let first = client.invalidate(void.clone()).await.unwrap().into_inner();
    // What the hub fills in differs by then.
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let again = client.invalidate(void.clone()).await.unwrap().into_inner();
    assert_eq!((first.duplicate, again), (false, RecordResponse { duplicate: true, ..first }));
    let other = InvalidateRequest { invalidation: Some(invalidation("user:1")), ..void.clone() };
    let failure = Failure::of(&client.invalidate(other).await.unwrap_err());
    assert_eq!((failure.reason, failure.field.as_deref()), (Some(Reason::IdReused), Some("id")), "{failure}");

    let set = SetMembershipRequest {
        memberships: vec![membership("user:1", "a", true), membership("user:1", "b", true)],
        id: "m1".to_owned(),
        source,
        ..SetMembershipRequest::default()
    };
    let first = client.set_membership(set.clone()).await.unwrap().into_inner();
    let again = client.set_membership(set.clone()).await.unwrap().into_inner();
    assert_eq!((&*first.cursor, first.duplicate), (&*world.at(3), false));
    assert_eq!(again, RecordResponse { duplicate: true, ..first });
    let fewer = SetMembershipRequest { memberships: set.memberships[..1].to_vec(), ..set.clone() };
    assert_eq!(client.set_membership(fewer).await.unwrap_err().code(), Code::AlreadyExists);
    let nowhere = SetMembershipRequest { source: String::new(), ..set };
    assert_eq!(
        Failure::of(&client.set_membership(nowhere).await.unwrap_err()).field.as_deref(),
        Some("source")
    );
    assert_eq!(world.hub.log_dump().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn over_http_standing_records_have_an_id_beside_them() {
    let world = World::new(Config::default());
    let void = json!({"recipient": "session:s", "id": "r1", "source": "/auth"});
    let whole = json!({"invalidation": {"recipient": "session:s"}, "id": "r1", "source": "/auth"});
    let member = json!({"recipient": "user:1", "topic": "a", "member": true});
    let members = json!({"memberships": [member, member], "id": "m1", "source": "/auth"});
    let records = async |path: &str, body: &Value| post(&world, "", path, body).await;
    let first = records("/v1/invalidations", &void).await;
    let issued_before = "2023-11-14T22:13:20Z";
    let said = json!({"cursor": world.at(1), "duplicate": false, "issuedBefore": issued_before});
    assert_eq!(first, (200, said));
    for same in [void, whole] {
        let again = records("/v1/invalidations", &same).await;
        assert_eq!(again, (200, json!({"cursor": world.at(1), "duplicate": true})));
    }
    assert_eq!(
        records("/v1/memberships", &members).await.1,
        json!({"cursor": world.at(3), "duplicate": false})
    );
    assert_eq!(
        records("/v1/memberships", &members).await.1,
        json!({"cursor": world.at(3), "duplicate": true})
    );
    let other = json!({"recipient": "user:2", "topic": "a", "member": true, "id": "m1", "source": "/auth"});
    let (status, problem) = records("/v1/memberships", &other).await;
    assert_eq!((status, &problem["reason"], &problem["field"]), (409, &json!("ID_REUSED"), &json!("id")));
    let (status, problem) = records("/v1/memberships", &json!({"memberships": [], "id": "m2"})).await;
    assert_eq!((status, &problem["field"]), (400, &json!("source")), "{problem}");
}
