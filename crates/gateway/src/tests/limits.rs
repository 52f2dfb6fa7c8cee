//! What one user, one address and all together may have.

use galaxy_push_listener::{Peer, Proxies};

use super::*;
use crate::UserLimits;

fn world(set: impl FnOnce(&mut UserLimits)) -> World {
    let mut config = config();
    // In development only who says so may come through a proxy.
    config.access.development = Some(crate::Development::Proxied);
    config.trusted_proxies = Proxies::new([Proxies::network("10.0.0.0/8").unwrap()]);
    set(&mut config.limits);
    World::with(config)
}

async fn ask(world: &World, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = Request::get(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::empty()).unwrap();
    request.extensions_mut().insert(Peer(([10, 0, 0, 1], 9).into()));
    world.send(request).await
}

#[tokio::test(start_paused = true)]
async fn one_user_has_so_many_connections_and_no_more() {
    let world = world(|limits| limits.connections_per_user = Some(2));
    let first = ask(&world, "/v1/stream?user=ann", &[]).await;
    let _second = ask(&world, "/v1/stream?user=ann", &[]).await;
    let refused = ask(&world, "/v1/stream?user=ann", &[]).await;
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (429, "5"));
    assert!(body(refused).await.contains("--max-user-connections"));
    // Any other status would end a browser's reader for good.
    let browser = ask(&world, "/v1/stream?user=ann&cursor=oldest", &[("accept", "text/event-stream")]).await;
    assert_eq!(browser.status(), 200);
    let said = body(browser).await;
    assert!(said.starts_with("retry: ") && said.contains("push.goodbye"), "{said}");
    let (_, code, reason) = world.connected(r#"{"user":"ann"}"#).await.closed().await;
    assert!(code == 4429 && reason.contains("--max-user-connections"), "{code} {reason}");
    assert_eq!(ask(&world, "/v1/stream?user=bob", &[]).await.status(), 200, "another user");
    drop(first);
    assert_eq!(ask(&world, "/v1/stream?user=ann", &[]).await.status(), 200, "a place that was given back");
}

#[tokio::test(start_paused = true)]
async fn an_address_is_that_behind_a_trusted_proxy() {
    let world = world(|limits| limits.connections_per_address = Some(1));
    let from = |address: &'static str| [("x-forwarded-for", address)];
    let _one = ask(&world, "/v1/stream?user=a", &from("198.51.100.1")).await;
    let refused = ask(&world, "/v1/stream?user=b", &from("203.0.113.5, 198.51.100.1")).await;
    assert_eq!(refused.status(), 429, "what it made up itself does not count");
    assert!(body(refused).await.contains("--max-address-connections"));
    assert_eq!(ask(&world, "/v1/stream?user=b", &from("198.51.100.2")).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn the_process_has_so_many_connections_and_says_that_it_is_full() {
    let world = world(|limits| limits.connections = Some(1));
    let _one = ask(&world, "/v1/stream?user=a", &[]).await;
    let full = ask(&world, "/v1/stream?user=b", &[]).await;
    assert_eq!(full.status(), 503);
    assert!(body(full).await.contains("--max-connections"));
}

#[tokio::test(start_paused = true)]
async fn a_user_resumes_so_often_in_a_second() {
    let world = world(|limits| limits.resumes_per_second = Some(1));
    let status = async |path: &str| ask(&world, path, &[]).await.status().as_u16();
    assert_eq!(status("/v1/stream?user=ann&cursor=oldest").await, 200);
    assert_eq!(status("/v1/stream?user=ann&cursor=oldest").await, 429);
    assert_eq!(status("/v1/stream?user=ann").await, 200, "that resumes nothing");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(status("/v1/stream?user=ann&cursor=oldest").await, 200);
}

/// One user's threads read the whole window again and again. They are slowed down, everybody else is not, and each of them
/// still gets everything.
#[tokio::test(start_paused = true)]
async fn threads_that_replay_for_ever_do_not_take_a_core_from_the_others() {
    let mut world = world(|_| {});
    for _ in 0..2_000 {
        world.hub.publish(&["user:bob"]);
    }
    world.hub.publish(&["user:eve"]);
    let began = tokio::time::Instant::now();
    let rounds = 4_000;
    for _ in 0..rounds {
        let text = world.stream("/v1/stream?user=eve&cursor=oldest").await.until("push.caught_up").await;
        assert_eq!(Events::ids(&text), ["e2001"]);
    }
    let (took, worked) = (began.elapsed(), Duration::from_nanos(200_000 + 150 * 2_001) * rounds);
    // In all that time an eighth of a core, and a second at once.
    assert!(took >= (worked - Duration::from_secs(1)) * 8 * 9 / 10, "{took:?} for {worked:?} of work");
    let began = tokio::time::Instant::now();
    world.stream("/v1/stream?user=ann&cursor=oldest").await.until("push.caught_up").await;
    assert_eq!(began.elapsed(), Duration::ZERO, "another user waits for none of it");
    assert!(!world.metrics().contains("push_turns_awaited_total 0"));
}
