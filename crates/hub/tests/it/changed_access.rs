//! Whom the hub lets in is changed while it runs.

use std::time::Duration;

use axum::body::Body;
use galaxy_push_core::recipient::Pattern;
use galaxy_push_hub::{Access, Config, Hub, Identity, Role};
use galaxy_push_listener::PeerNames;
use galaxy_push_proto::v1::PublishRequest;
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use tokio::time::timeout;
use tonic::Code;
use tower::ServiceExt as _;

use crate::world::{World, ambient, event, framed, from};

fn access(identities: impl IntoIterator<Item = Identity>) -> Access {
    identities.into_iter().fold(Access::open(), |access, identity| access.with(identity, None).unwrap())
}

fn backend() -> Identity {
    Identity::new("backend", Role::Publisher)
}

fn edge(number: u8) -> Identity {
    Identity::new(format!("edge-{number}"), Role::Gateway)
}

fn request(who: &str, path: &str, body: Body) -> Request<Body> {
    let request = Request::post(path).header("content-type", "application/grpc");
    request.extension(PeerNames([who.to_owned()].into())).body(body).unwrap()
}

async fn open(world: &World, who: &str) -> Body {
    let body = Body::from(framed(&from(who, "")));
    let response =
        world.hub.router().oneshot(request(who, "/push.v1.Push/SubscribePush", body)).await.unwrap();
    assert!(response.headers().get("grpc-status").is_none(), "{who}: {response:?}");
    response.into_body()
}

/// The trailers of a stream, if it ends within a minute.
async fn end(mut body: Body) -> Option<HeaderMap> {
    let reading = async {
        loop {
            if let Ok(trailers) = body.frame().await?.ok()?.into_trailers() {
                return Some(trailers);
            }
        }
    };
    timeout(Duration::from_secs(60), reading).await.ok().flatten()
}

async fn publish(world: &World, who: &str, id: &str) -> Code {
    let body = framed(&PublishRequest { events: vec![event(id)], ..Default::default() });
    let request = request(who, "/push.v1.Publisher/Publish", Body::from(body));
    let response = world.hub.router().oneshot(request).await.unwrap();
    response.headers().get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()))
}

/// The fault: a credential that was taken out was good until the hub was restarted, with every stream it had opened.
#[tokio::test(start_paused = true)]
async fn whoever_is_named_no_more_is_refused_and_its_streams_end() {
    let first = access([backend(), edge(1), edge(2), edge(3)]);
    let world = World::over(Hub::in_memory(Config::default().access(first), ambient()).unwrap());
    let (gone, narrowed, same) =
        (open(&world, "edge-1").await, open(&world, "edge-2").await, open(&world, "edge-3").await);
    assert_eq!(publish(&world, "backend", "a").await, Code::Ok);

    let news = Pattern::parse("topic:news").unwrap();
    world.hub.set_access(access([
        Identity::new("new", Role::Publisher),
        edge(2).recipients([news]),
        edge(3),
    ]));
    assert_eq!(publish(&world, "backend", "b").await, Code::Unauthenticated);
    assert_eq!(publish(&world, "new", "c").await, Code::Ok);
    for (what, stream) in [("gone", gone), ("narrowed", narrowed)] {
        let trailers = end(stream).await.expect(what);
        assert_eq!(trailers["grpc-status"], "14", "{what}: {trailers:?}");
        assert!(trailers["grpc-message"].to_str().unwrap().contains("credentials"), "{what}: {trailers:?}");
    }
    assert!(end(same).await.is_none(), "who is as before stays");
    let again = request("edge-1", "/push.v1.Push/SubscribePush", Body::from(framed(&from("edge-1", ""))));
    let refused = world.hub.router().oneshot(again).await.unwrap();
    assert_eq!(refused.headers()["grpc-status"], "16");
}

#[tokio::test(start_paused = true)]
async fn an_open_publish_stream_of_whoever_is_named_no_more_takes_nothing_more() {
    let first = access([backend(), edge(1)]);
    let world = World::over(Hub::in_memory(Config::default().access(first), ambient()).unwrap());
    let (sender, requests) = tokio::sync::mpsc::channel(4);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let body =
        Body::from_stream(tokio_stream::StreamExt::map(requests, Ok::<Vec<u8>, std::convert::Infallible>));
    let stream = request("backend", "/push.v1.Publisher/PublishStream", body);
    let mut answers = world.hub.router().oneshot(stream).await.unwrap().into_body();
    let batch = |id: &str| framed(&PublishRequest { events: vec![event(id)], ..Default::default() });
    sender.send(batch("a")).await.unwrap();
    assert!(answers.frame().await.unwrap().unwrap().is_data());
    let before = world.hub.head();
    sender.send(batch("b")).await.unwrap();
    world.hub.set_access(access([edge(1)]));
    assert_eq!(end(answers).await.unwrap()["grpc-status"], "14");
    assert_eq!(world.hub.head(), before);
}

/// The gateway in the hub's own process is in no file.
#[tokio::test(start_paused = true)]
async fn a_gateway_in_the_same_process_stays() {
    let world =
        World::over(Hub::in_memory(Config::default().access(access([backend()])), ambient()).unwrap());
    let inside = world.hub.router_for(edge(9));
    let subscribe = Request::post("/push.v1.Push/SubscribePush").header("content-type", "application/grpc");
    let subscribe = subscribe.body(Body::from(framed(&from("edge-9", "")))).unwrap();
    let stream = inside.oneshot(subscribe).await.unwrap();
    assert!(stream.headers().get("grpc-status").is_none());
    world.hub.set_access(access([edge(1)]));
    assert!(end(stream.into_body()).await.is_none());
}
