//! One stream per gateway id: who gives way, what it is told, and that nothing reaches it afterwards.

use std::sync::Arc;
use std::time::Duration;

use galaxy_push_core::cursor::Cursor;
use galaxy_push_hub::Config;
use galaxy_push_proto::v1::GatewaySubscribeRequest;
use galaxy_push_proto::v1::push_event::Kind;
use galaxy_push_proto::{Failure, Reason};
use tonic::Code;

use crate::services::scrape;
use crate::world::{World, event, from};

pub(crate) fn claim(instance: &str, attempt: u64) -> GatewaySubscribeRequest {
    GatewaySubscribeRequest { instance_id: instance.to_owned(), attempt, ..from("gw", "") }
}

#[tokio::test(start_paused = true)]
async fn a_rival_takes_over_and_the_older_is_told_by_whom() {
    let world = World::new(Config::default());
    let mut older = world.subscribe(claim("a", 9)).await.unwrap();
    older.until("caught up").await;
    let mut newer = world.subscribe(claim("b", 1)).await.unwrap();
    assert_eq!(newer.take(2).await, "welcome FRESH @0..@0 @0 | caught up @0");
    world.publish("x").await;
    assert_eq!(older.next().await, "goodbye REPLACED @0", "nothing appended after the takeover");
    let failure = Failure::of(&older.status().await);
    assert_eq!((failure.code, failure.reason), (Code::Aborted, Some(Reason::Replaced)));
    assert_eq!((&*failure.metadata["instance"], &*failure.metadata["peer"]), ("b", "10.0.0.1:2"));
    assert!(failure.message.contains("\"b\" at 10.0.0.1:2"), "old clients log only this: {failure}");
    assert_eq!(newer.next().await, "event x @1");
    assert!(scrape(&world).contains("push_takeovers_total{kind=\"rival\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn the_same_instance_comes_back_quietly_and_never_goes_back() {
    let world = World::new(Config::default());
    let mut first = world.subscribe(claim("a", 1)).await.unwrap();
    let mut second = world.subscribe(claim("a", 2)).await.unwrap();
    assert_eq!(first.status().await.code(), Code::Aborted);
    let late = world.subscribe(claim("a", 1)).await.map(|_| ()).unwrap_err();
    assert_eq!((late.code(), Failure::of(&late).reason), (Code::Aborted, Some(Reason::StaleAttempt)));
    second.until("caught up").await;
    world.publish("x").await;
    assert_eq!(second.next().await, "event x @1", "a late duplicate disturbs nobody");
    let mut retried = world.subscribe(claim("a", 2)).await.unwrap();
    assert_eq!(second.status().await.code(), Code::Aborted);
    retried.until("caught up").await;
    let metrics = scrape(&world);
    assert!(
        metrics.contains("push_takeovers_total{kind=\"quiet\"} 2\n")
            && metrics.contains("{kind=\"rival\"} 0\n"),
        "{metrics}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_older_stream_does_not_free_the_id() {
    let world = World::new(Config::default());
    let older = world.subscribe(claim("a", 1)).await.unwrap();
    let mut newer = world.subscribe(claim("b", 1)).await.unwrap();
    newer.until("caught up").await;
    drop(older);
    newer.next().await; // a Progress: time for the older to be cleaned up
    let _third = world.subscribe(claim("c", 1)).await.unwrap();
    assert_eq!(newer.take(2).await, "goodbye REPLACED @0 | status Aborted", "it was still known");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_left_leaves_no_trace_but_its_attempt() {
    let world = World::new(Config::default());
    let reading = world.subscribe(claim("a", 5)).await.unwrap();
    drop(reading);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(scrape(&world).contains("push_streams 0\n"));
    let late = world.subscribe(claim("a", 1)).await.map(|_| ()).unwrap_err();
    assert_eq!(Failure::of(&late).reason, Some(Reason::StaleAttempt));
    tokio::time::sleep(Duration::from_secs(61)).await;
    let mut lower = world.subscribe(claim("a", 1)).await.unwrap();
    lower.until("caught up").await;
}

#[tokio::test(start_paused = true)]
async fn a_late_duplicate_of_an_instance_that_lost_the_id_is_stale() {
    let world = World::new(Config::default());
    let mut lost = world.subscribe(claim("a", 9)).await.unwrap();
    lost.until("caught up").await;
    let mut holder = world.subscribe(claim("b", 1)).await.unwrap();
    holder.until("caught up").await;
    let status = lost.status().await;
    assert!(status.message().contains("\"b\" at 10.0.0.1:2"), "old clients log only this: {status}");
    for _ in 0..10 {
        let late = world.subscribe(claim("a", 8)).await.map(|_| ()).unwrap_err();
        assert_eq!((late.code(), Failure::of(&late).reason), (Code::Aborted, Some(Reason::StaleAttempt)));
        assert!(late.message().contains("\"b\" at 10.0.0.1:2"), "{late}");
    }
    world.publish("x").await;
    assert_eq!(holder.next().await, "event x @1", "and nothing happened to it");
    assert!(scrape(&world).contains("push_duels 0.0\n"));
}

#[tokio::test(start_paused = true)]
async fn an_older_stream_with_much_unsent_ends_where_it_is() {
    let world = World::new(Config::default());
    let mut older = world.subscribe(claim("a", 1)).await.unwrap();
    older.until("caught up").await;
    world.flood(200).await;
    let mut newer = world.subscribe(claim("b", 1)).await.unwrap();
    assert_eq!(newer.next().await, "welcome FRESH @0..@200 @200");
    let (mut last, mut events) = (0, 0);
    while let Ok(Some(frame)) = older.frame().await {
        let seq = Cursor::parse(&frame.cursor).unwrap().seq.0;
        assert!(seq >= last);
        last = seq;
        events += u64::from(matches!(frame.kind, Some(Kind::Event(_))));
    }
    assert_eq!(events, last, "without a hole, the goodbye at the last of them");
    assert!(last > 10 && last < 150, "what was on its way, not all {last}");
}

/// A9 on many threads: the head at which the newer is accepted is the last position that the older may see.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_appended_after_a_takeover_reaches_the_older() {
    for round in 0..100 {
        let world = Arc::new(World::new(Config::default()));
        let mut older = world.subscribe(claim("a", 1)).await.unwrap();
        let publisher = {
            let world = world.clone();
            tokio::spawn(async move {
                for i in 0..150 {
                    world.publish_all(vec![event(&i.to_string())]).await;
                    tokio::task::yield_now().await;
                }
            })
        };
        let newer = {
            let world = world.clone();
            tokio::spawn(async move {
                let mut newer = world.subscribe(claim("b", 1)).await.unwrap();
                newer.frame().await.unwrap().unwrap()
            })
        };
        let (mut last, mut goodbye) = (String::new(), String::new());
        let status = loop {
            match older.frame().await {
                Ok(Some(frame)) if matches!(frame.kind, Some(Kind::Goodbye(_))) => goodbye = frame.cursor,
                Ok(Some(frame)) => last = frame.cursor,
                Ok(None) => panic!("ended without a status"),
                Err(status) => break status,
            }
        };
        let accepted_at = newer.await.unwrap().cursor;
        publisher.await.unwrap();
        assert_eq!(status.code(), Code::Aborted);
        assert_eq!(goodbye, last, "round {round}: a goodbye is at the last position passed");
        if last.is_empty() {
            continue; // where the machine is busy, the id is taken before the older is welcomed: then it says nothing
        }
        let seq = |cursor: &str| Cursor::parse(cursor).unwrap().seq.0;
        assert!(seq(&last) <= seq(&accepted_at), "round {round}: {last} after {accepted_at}");
    }
}
