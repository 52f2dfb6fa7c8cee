//! A gateway that ends together with its hub: its users have nowhere else to take what was acknowledged from.

use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep};

use super::*;

fn data() -> String {
    format!("\"{}\"", "x".repeat(20_000))
}

/// Both halves.
async fn shut_down(gateway: &Gateway, head: Cursor, seconds: u64) {
    let limit = Duration::from_secs(seconds);
    gateway.finish_upstream(head, limit).await;
    gateway.deliver_and_drain(limit).await;
}

#[tokio::test(start_paused = true)]
async fn a_user_that_is_behind_has_the_whole_time() {
    let mut world = World::new();
    let mut slow = world.shake("push.v1.json", "/v1/ws", &[], 4 << 10).await.unwrap();
    slow.send(r#"{"connect":{"user":"a"}}"#).await;
    slow.until("caughtUp").await;
    let mut quick = world.stream("/v1/stream?user=a").await;
    quick.until("push.caught_up").await;
    for _ in 0..30 {
        world.hub.publish_data(&["user:a"], &data());
    }
    let mut head = world.hub.head;
    head.seq.0 += 1; // the hub has one more, which is on its way
    let gateway = world.gateway.clone();
    let began = Instant::now();
    let over = tokio::spawn(async move { shut_down(&gateway, head, 60).await });
    sleep(Duration::from_millis(100)).await;
    assert_eq!(world.get("/v1/stream?user=b").await.status(), 503, "nobody is let in");
    world.hub.publish(&["user:a"]);
    let reading = tokio::spawn(async move { quick.until("push.goodbye").await });
    for number in 1..=30 {
        sleep(Duration::from_secs(1)).await;
        assert!(slow.text().await.contains(&format!("\"e{number}\"")));
    }
    assert!(slow.text().await.contains("\"e31\""));
    let (lines, code, _) = slow.closed().await;
    assert!(lines.contains("DRAINING") && code == 1012, "{lines}");
    assert!(began.elapsed() > Duration::from_secs(30));
    assert!(reading.await.unwrap().contains("\"e31\""));
    drop(slow);
    over.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(35), "nobody is waited for who has everything");
    assert!(world.metrics().contains("push_cut_off_total 0"));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_take_everything_in_time_is_cut_off_and_counted() {
    let mut world = World::new();
    let mut slow = world.shake("push.v1.json", "/v1/ws", &[], 4 << 10).await.unwrap();
    slow.send(r#"{"connect":{"user":"a"}}"#).await;
    slow.until("caughtUp").await;
    let mut asleep = world.stream("/v1/stream?user=a").await;
    asleep.until("push.caught_up").await;
    for _ in 0..30 {
        world.hub.publish_data(&["user:a"], &data());
    }
    let _begun = asleep.body.next().await;
    let (gateway, head) = (world.gateway.clone(), world.hub.head);
    let began = Instant::now();
    let over = tokio::spawn(async move {
        gateway.finish_upstream(head, Duration::ZERO).await;
        gateway.deliver_and_drain(Duration::from_millis(3_400)).await; // between two looks at the stalled
    });
    for number in 1..=3 {
        sleep(Duration::from_secs(1)).await;
        assert!(slow.text().await.contains(&format!("\"e{number}\"")));
    }
    over.await.unwrap();
    // The fault: who stood in a stream that HTTP asked for nothing was looked for a second later, when the process was gone.
    assert!(began.elapsed() < Duration::from_millis(4_000), "{:?}", began.elapsed());
    assert!(world.metrics().contains("push_cut_off_total 2"), "{}", world.metrics());
}

/// The fault: whoever took nothing for too long was gone before the time was over, and was named nowhere.
#[tokio::test(start_paused = true)]
async fn who_takes_nothing_while_the_shutdown_waits_is_cut_off_and_counted() {
    let mut world = World::new();
    let mut socket = world.shake("push.v1.json", "/v1/ws", &[], 4 << 10).await.unwrap();
    socket.send(r#"{"connect":{"user":"a"}}"#).await;
    socket.until("caughtUp").await;
    let mut asked_for_nothing = world.stream("/v1/stream?user=a").await;
    asked_for_nothing.until("push.caught_up").await;
    let mut blocked = world.dial(4 << 10).await;
    tokio::io::AsyncWriteExt::write_all(
        &mut blocked,
        b"GET /v1/stream?user=a HTTP/1.1\r\nhost: localhost\r\n\r\n",
    )
    .await
    .unwrap();
    sleep(Duration::from_secs(1)).await;
    for _ in 0..30 {
        world.hub.publish_data(&["user:a"], &data());
    }
    let _begun = asked_for_nothing.body.next().await;
    let began = Instant::now();
    shut_down(&world.gateway, world.hub.head, 60).await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let metrics = world.metrics();
    assert!(
        metrics.contains("push_cut_off_total 3") && metrics.contains(r#"push_ended_total{reason="SLOW"} 3"#),
        "{metrics}"
    );
}

/// The fault: what HTTP still held, because the peer's window was closed, counted as taken.
#[tokio::test(start_paused = true)]
async fn a_user_has_taken_what_http_has_let_go_of() {
    for holds in [true, false] {
        let mut world = World::new();
        let mut stream = world.stream("/v1/stream?user=a").await;
        stream.until("push.caught_up").await;
        world.hub.publish(&["user:a"]);
        let event = stream.body.next().await.unwrap().unwrap();
        assert!(event.starts_with(b"event: ") && event.ends_with(b"\n\n"));
        let held = holds.then_some(event);
        let (gateway, head) = (world.gateway.clone(), world.hub.head);
        let over = tokio::spawn(async move { shut_down(&gateway, head, 3).await });
        sleep(Duration::from_secs(1)).await;
        let _goodbye = stream.body.next().await;
        over.await.unwrap();
        drop(held);
        let cut_off = format!("push_cut_off_total {}", u8::from(holds));
        assert!(world.metrics().contains(&cut_off), "{holds}");
    }
}

/// Whatever ends a stream: its goodbye says where to go on, and hides nothing that still waited for the socket.
#[tokio::test(start_paused = true)]
async fn a_goodbye_comes_behind_what_still_waits_for_the_socket() {
    let mut world = World::new();
    let mut slow = world.shake("push.v1.json", "/v1/ws", &[], 4 << 10).await.unwrap();
    slow.send(r#"{"connect":{"user":"a"}}"#).await;
    slow.until("caughtUp").await;
    for _ in 0..30 {
        world.hub.publish_data(&["user:a"], &data());
    }
    sleep(Duration::from_secs(1)).await;
    let gateway = world.gateway.clone();
    let over = tokio::spawn(async move { gateway.drain().await });
    let (lines, code, _) = slow.closed().await;
    let (events, goodbye) = lines.rsplit_once("{\"cursor\":").unwrap();
    assert!(goodbye.contains("DRAINING") && code == 1012, "{goodbye}");
    let last = Events::ids(events).len();
    assert!(last > 1 && last < 30, "{last} were on their way");
    let cursor = format!(".a{last}\"");
    let cursor = if last < 10 { cursor } else { cursor.replace(".a", ".b") };
    assert!(goodbye.split(',').next().unwrap().ends_with(&cursor), "{goodbye} behind {last} events");
    drop(slow);
    over.await.unwrap();
}

/// Elsewhere there is a gateway with the same window.
#[tokio::test(start_paused = true)]
async fn users_of_a_gateway_alone_are_not_waited_for() {
    let mut world = World::new();
    let mut slow = world.shake("push.v1.json", "/v1/ws", &[], 4 << 10).await.unwrap();
    slow.send(r#"{"connect":{"user":"a"}}"#).await;
    slow.until("caughtUp").await;
    let mut asleep = world.stream("/v1/stream?user=a").await;
    asleep.until("push.caught_up").await;
    for _ in 0..30 {
        world.hub.publish_data(&["user:a"], &data());
    }
    let _begun = asleep.body.next().await;
    let began = Instant::now();
    world.gateway.drain().await;
    assert!(began.elapsed() <= Duration::from_secs(4), "{:?}", began.elapsed());
}

/// A stream that was opened before its user has used up its part, and has read nothing yet.
async fn over_its_share(world: &mut World) -> Events {
    for _ in 0..30 {
        world.hub.publish(&["user:a"]);
    }
    let stream = world.stream("/v1/stream?user=a&cursor=oldest").await;
    // No time passes: those beyond the part wait for their turn, and leave.
    for _ in 0..7_000 {
        drop(world.get("/v1/stream?user=a&cursor=oldest").now_or_never());
    }
    stream
}

/// The fault: to wait for one's turn counted as having taken everything, and what was left was thrown away, untold.
#[tokio::test(start_paused = true)]
async fn a_user_that_waits_for_its_turn_to_replay_has_the_whole_time() {
    let mut world = World::new();
    let mut stream = over_its_share(&mut world).await;
    let (gateway, head) = (world.gateway.clone(), world.hub.head);
    let began = Instant::now();
    let over = tokio::spawn(async move { shut_down(&gateway, head, 60).await });
    sleep(Duration::from_millis(100)).await;
    let text = stream.until("push.goodbye").await;
    let all: Vec<_> = (1..=30).map(|number| format!("e{number}")).collect();
    assert_eq!(Events::ids(&text), all, "{text}");
    assert!(began.elapsed() > Duration::from_secs(1), "it had to wait: {:?}", began.elapsed());
    drop(stream);
    over.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(world.metrics().contains("push_cut_off_total 0"));
}

#[tokio::test(start_paused = true)]
async fn a_user_whose_turn_to_replay_does_not_come_in_time_is_cut_off_and_counted() {
    let mut world = World::new();
    let mut stream = over_its_share(&mut world).await;
    let (gateway, head) = (world.gateway.clone(), world.hub.head);
    let began = Instant::now();
    let over = tokio::spawn(async move { shut_down(&gateway, head, 1).await });
    let text = stream.until("push.goodbye").await;
    assert_eq!(Events::ids(&text), Vec::<String>::new());
    drop(stream);
    over.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(world.metrics().contains("push_cut_off_total 1"), "{}", world.metrics());
}
