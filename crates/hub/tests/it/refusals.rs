//! Subscribe requests that are not in order: the status, its details, and that it comes before any stream does.

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use galaxy_push_hub::Config;
use galaxy_push_proto::v1::{GatewaySubscribeRequest, ReplayRequest};
use galaxy_push_proto::{Failure, Reason, v1::push_client::PushClient};
use http::{Request, Response};
use prost::Message as _;
use tonic::Code;
use tower::ServiceExt as _;

use crate::world::{World, from};

#[tokio::test(start_paused = true)]
async fn each_names_the_field_and_the_reason() {
    let world = World::new(Config::default());
    let plain = || from("gw", "");
    let as_instance =
        |cursor: &str| GatewaySubscribeRequest { instance_id: "i".into(), ..from("gw", cursor) };
    let long = "x".repeat(256);
    for (request, code, reason, field) in [
        (from("", ""), Code::InvalidArgument, Reason::RequestInvalid, "gateway_client_id"),
        (from(&long, ""), Code::InvalidArgument, Reason::RequestInvalid, "gateway_client_id"),
        (from("a\nb", ""), Code::InvalidArgument, Reason::RequestInvalid, "gateway_client_id"),
        (as_instance("garbage"), Code::InvalidArgument, Reason::CursorMalformed, "cursor"),
        (as_instance("2.short.a7"), Code::InvalidArgument, Reason::CursorMalformed, "cursor"),
        (as_instance(&"2".repeat(129)), Code::InvalidArgument, Reason::CursorMalformed, "cursor"),
        (
            GatewaySubscribeRequest { namespace: "other".into(), ..plain() },
            Code::NotFound,
            Reason::RequestInvalid,
            "namespace",
        ),
        (
            GatewaySubscribeRequest { instance_id: long.clone(), ..plain() },
            Code::InvalidArgument,
            Reason::RequestInvalid,
            "instance_id",
        ),
        (
            GatewaySubscribeRequest { max_receive_bytes: 1_023, ..plain() },
            Code::InvalidArgument,
            Reason::RequestInvalid,
            "max_receive_bytes",
        ),
        (
            GatewaySubscribeRequest { recipients: vec!["all".into(), "group:*".into()], ..plain() },
            Code::InvalidArgument,
            Reason::RecipientInvalid,
            "recipients[1]",
        ),
    ] {
        let status = world.subscribe(request.clone()).await.map(|_| ()).unwrap_err();
        let failure = Failure::of(&status);
        assert_eq!((failure.code, failure.reason), (code, Some(reason)), "{request:?}");
        assert_eq!(failure.field.as_deref(), Some(field), "{failure}");
    }
    let scraped = crate::services::scrape(&world);
    assert!(scraped.contains("push_subscribes_total{outcome=\"refused\"} 10\n"), "{scraped}");
    assert!(scraped.contains("push_streams 0\n"));
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let mut framed = vec![flag];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(message);
    framed
}

async fn call(world: &World, path: &str, body: impl Into<Bytes>) -> Response<Body> {
    let request =
        Request::post(path).header("content-type", "application/grpc").body(Body::from(body.into()));
    world.hub.router().oneshot(request.unwrap()).await.unwrap()
}

/// The code of a response that consists of headers alone, as the protocol calls trailers-only.
async fn trailers_only(response: Response<Body>) -> Code {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let status = tonic::Status::from_header_map(response.headers())
        .unwrap_or_else(|| panic!("a status in {response:?}"));
    assert!(to_bytes(response.into_body(), 100).await.unwrap().is_empty());
    status.code()
}

#[tokio::test(start_paused = true)]
async fn what_is_no_request_is_refused_without_a_stream() {
    let world = World::new(Config::default());
    let good = from("gw", "").encode_to_vec();
    let large = GatewaySubscribeRequest { recipients: vec!["user:1".into(); 10_000], ..from("gw", "") };
    let twice = [framed(0, &good), framed(0, &good)].concat();
    for (body, code) in [
        (vec![], Code::InvalidArgument),
        (framed(0, &good)[..8].to_vec(), Code::InvalidArgument),
        (twice, Code::InvalidArgument),
        (framed(0, &[0xff; 20]), Code::InvalidArgument),
        (framed(0, &large.encode_to_vec()), Code::InvalidArgument),
        (framed(0, &vec![0; 80 << 10]), Code::InvalidArgument),
        (framed(1, &good), Code::Internal),
        (framed(2, &good), Code::Internal),
        (framed(0, b""), Code::InvalidArgument),
    ] {
        let response = call(&world, "/push.v1.Push/SubscribePush", body.clone()).await;
        let start = format!("{:?}", &body[..body.len().min(20)]);
        assert_eq!(trailers_only(response).await, code, "{start}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_arrive_is_given_up() {
    let world = World::new(Config::default());
    let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::convert::Infallible>>());
    let request =
        Request::post("/push.v1.Push/SubscribePush").header("content-type", "application/grpc").body(never);
    let response = world.hub.router().oneshot(request.unwrap()).await.unwrap();
    assert_eq!(trailers_only(response).await, Code::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn methods_that_are_not_served_say_so() {
    let world = World::new(Config::default());
    let status = PushClient::new(world.connection()).replay(ReplayRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("not served yet"), "{status}");
    for path in ["/push.v1.Push/Nothing", "/push.v1.Edge/Connect", "/other.Service/Method"] {
        assert_eq!(trailers_only(call(&world, path, "").await).await, Code::Unimplemented, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_browser_on_a_grpc_path_is_told() {
    let world = World::new(Config::default());
    for request in [
        Request::get("/push.v1.Push/SubscribePush").body(Body::empty()),
        Request::post("/push.v1.Push/SubscribePush")
            .header("content-type", "application/json")
            .body(Body::empty()),
    ] {
        let response = world.hub.router().oneshot(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), 415);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
}
