//! What only the development mode has: the page and the way to publish; and what is not built yet.

use std::collections::BTreeMap;

use axum::extract::Request as AxumRequest;
use axum::routing::post;
use galaxy_push_client::Io;

use super::*;
use crate::Keys;
use crate::app::hub_connector::HubConnector;

#[tokio::test(start_paused = true)]
async fn the_page_is_served_with_a_strict_policy() {
    let world = World::new();
    let page = world.get("/").await;
    assert_eq!(
        (page.status().as_u16(), page.headers()["content-type"].to_str().unwrap()),
        (200, "text/html; charset=utf-8")
    );
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"));
    assert_eq!(world.get("/tryit/main.js").await.headers()["content-type"], "text/javascript; charset=utf-8");
    for nothing in ["/tryit/nothing.js", "/tryit/%ff"] {
        let response = world.get(nothing).await;
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{nothing}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_development_there_is_neither_page_nor_proxy() {
    let mut config = config();
    let set = br#"{"keys":[{"kty":"oct","k":"YSBzZWNyZXQgb2YgYXQgbGVhc3QgMzIgYnl0ZXMsIG9r"}]}"#;
    config.access = Access::keys(Keys::from_jwks(set).unwrap());
    let world = World::with(config);
    for (request, status) in [
        (Request::get("/"), 404),
        (Request::get("/tryit/main.js"), 404),
        (Request::post("/v1/events"), 404),
        (Request::post("/v1/tickets"), 501),
        (Request::delete("/v1/stream"), 405),
    ] {
        let response = world.ask(request).await;
        assert_eq!(
            (response.status().as_u16(), response.headers()["content-type"].to_str().unwrap()),
            (status, "application/problem+json")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_grpc_service_says_that_it_is_not_built_yet() {
    let world = World::new();
    let response =
        world.ask(Request::post("/push.v1.Edge/Connect").header("content-type", "application/grpc")).await;
    assert_eq!(
        (response.status().as_u16(), response.headers()["grpc-status"].to_str().unwrap()),
        (200, "12")
    );
    assert_eq!(response.headers()["content-type"], "application/grpc");
}

/// A gateway whose way to the hub leads to this app, or nowhere.
fn gateway(app: Option<axum::Router>) -> axum::Router {
    let connector = move |host: String, port: u16| {
        let app = app.clone();
        async move {
            assert_eq!((host.as_str(), port), ("hub", 7400));
            let Some(app) = app else { return Err(io::Error::from(io::ErrorKind::ConnectionRefused)) };
            let (here, there) = tokio::io::duplex(1 << 16);
            let service = hyper_util::service::TowerToHyperService::new(app);
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(hyper_util::rt::TokioIo::new(there), service);
            tokio::spawn(connection);
            Ok(Box::new(here) as Box<dyn Io>)
        }
    };
    let line = HubConnector::new(Arc::new(connector), "http://hub:7400", None);
    let ambient = Ambient::new(|| NOW_MS, || 1);
    Gateway::assemble(config(), Heads(Arc::default()), Some(line), ambient).unwrap().0.router()
}

fn publish(body: impl Into<Body>) -> Request<Body> {
    Request::post("/v1/events?namespace=default")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("ce-id", "1")
        .header("cookie", "private")
        .header("authorization", "Bearer private")
        .body(body.into())
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_publish_is_passed_on_and_the_answer_back() {
    let hub = axum::Router::new().route(
        "/v1/events",
        post(|request: AxumRequest| async move {
            let (head, sent) = request.into_parts();
            let headers: BTreeMap<_, _> = head
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                .collect();
            // The hub bounds what it reads; the edge passes on as it comes.
            let read = axum::body::to_bytes(sent, 4 << 20).await;
            let (sent, status) = match read {
                Ok(sent) if sent.is_empty() => (sent, 400),
                Ok(sent) => (sent, 200),
                Err(_) => (bytes::Bytes::new(), 413),
            };
            (
                http::StatusCode::from_u16(status).unwrap(),
                format!("{} {headers:?} {}", head.uri, String::from_utf8_lossy(&sent)),
            )
        }),
    );
    let response = gateway(Some(hub.clone())).oneshot(publish("{}")).await.unwrap();
    assert_eq!(response.status(), 200);
    let text = body(response).await;
    assert!(
        text.contains(r#""ce-id": "1""#) && text.contains(r#""content-type": "application/json""#),
        "{text}"
    );
    assert!(text.starts_with("/v1/events?namespace=default "), "{text}");
    assert!(text.ends_with(" {}") && !text.contains("private"), "{text}");
    assert_eq!(gateway(Some(hub.clone())).oneshot(publish("")).await.unwrap().status(), 400);
    let large = vec![b' '; (4 << 20) + 1];
    assert_eq!(gateway(Some(hub)).oneshot(publish(large)).await.unwrap().status(), 413);
}

/// The fault: whether the hub's answer or the broken connection to it was seen first, was chance.
#[tokio::test(start_paused = true)]
async fn a_publish_that_is_too_large_is_told_so_and_not_passed_on() {
    let hasty = || axum::Router::new().route("/v1/events", post(|| async { http::StatusCode::BAD_GATEWAY }));
    let large = vec![b' '; 5 << 20];
    assert_eq!(gateway(None).oneshot(publish(large.clone())).await.unwrap().status(), 413, "nobody is asked");
    let pieces = large.chunks(64 << 10).map(|piece| Ok::<_, io::Error>(piece.to_vec()));
    let unsized_body = Body::from_stream(futures_util::stream::iter(pieces.collect::<Vec<_>>()));
    let reading = axum::Router::new().route(
        "/v1/events",
        post(|request: AxumRequest| async {
            _ = axum::body::to_bytes(request.into_body(), 8 << 20).await;
            http::StatusCode::BAD_REQUEST
        }),
    );
    let response = gateway(Some(reading)).oneshot(publish(unsized_body)).await.unwrap();
    assert_eq!(response.status(), 413);
    assert_eq!(gateway(Some(hasty())).oneshot(publish("{}")).await.unwrap().status(), 502);
}

/// The fault: each took a connection and a file descriptor, without end.
#[tokio::test(start_paused = true)]
async fn so_many_publishes_are_passed_on_at_a_time() {
    let silent =
        axum::Router::new().route("/v1/events", post(|| async { std::future::pending::<()>().await }));
    let gateway = gateway(Some(silent));
    let passed_on: Vec<_> =
        (0..crate::PROXIED_MAX).map(|_| tokio::spawn(gateway.clone().oneshot(publish("{}")))).collect();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let refused = gateway.clone().oneshot(publish("{}")).await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    assert!(body(refused).await.contains("nothing was published"));
    for passed_on in passed_on {
        passed_on.await.unwrap().unwrap();
    }
    assert_eq!(gateway.oneshot(publish("{}")).await.unwrap().status(), 504, "there is room again");
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_is_away_is_a_bad_gateway() {
    let response = gateway(None).oneshot(publish("{}")).await.unwrap();
    assert_eq!(response.status(), 502);
    assert!(body(response).await.contains("nothing was published"));
    let slow = Body::from_stream(futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
    let impatient =
        axum::Router::new().route("/v1/events", post(|| async { http::StatusCode::REQUEST_TIMEOUT }));
    let response = gateway(Some(impatient)).oneshot(publish(slow)).await.unwrap();
    assert_eq!(response.status(), 408, "the hub's word on a body that does not come is passed back");
    let silent =
        axum::Router::new().route("/v1/events", post(|| async { std::future::pending::<()>().await }));
    assert_eq!(gateway(Some(silent)).oneshot(publish("{}")).await.unwrap().status(), 504);
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let start = |config: Config| {
        Gateway::assemble(config, Heads(Arc::default()), None, Ambient::new(|| 0, || 0))
            .map(drop)
            .map_err(|error| error.to_string())
    };
    for origin in ["*", "app.example", "https://app.example/path", "https://*.example", ""] {
        let mut config = config();
        config.allowed_origins = vec![origin.to_owned()];
        assert!(start(config).is_err(), "{origin:?}");
    }
    let mut config = config();
    config.access = Access::default();
    assert!(start(config).unwrap_err().contains("key set"));
}
