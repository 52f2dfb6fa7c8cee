//! Users that come back, or could not: streams that nobody reads, "not now" for a browser, cursors of an epoch that is
//! ending, gaps told to a crowd.

use std::collections::BTreeSet;
use std::time::Duration;

use galaxy_push_core::cursor::{Cursor, Epoch, Seq};
use galaxy_push_proto::v1;

use super::*;

/// Over HTTP/2 a body is not polled while its peer gives no window; here nobody polls it at all.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_read_is_given_up_and_holds_no_drain() {
    let mut world = World::new();
    let never = world.get("/v1/stream").await;
    let mut begun = world.stream("/v1/stream").await;
    begun.until("push.caught_up").await;
    let before = world.hub.head;
    let mut waits = world.stream("/v1/stream").await;
    waits.until("push.caught_up").await;
    world.hub.publish(&["all"]);
    let gateway = world.gateway.clone();
    let drained = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(7)).await;
        tokio::time::timeout(Duration::from_secs(1), gateway.drain()).await
    });
    // The one that is being read waits for events, for as long as it likes.
    let reading = tokio::spawn(async move {
        waits.until("e1").await;
        waits.until("push.goodbye").await
    });
    drained.await.unwrap().expect("nobody is left");
    reading.await.unwrap();
    let metrics = world.metrics();
    assert!(metrics.contains(r#"push_ended_total{reason="SLOW"} 2"#), "{metrics}");
    assert!(metrics.contains(r#"push_connections{transport="sse"} 0"#), "{metrics}");
    let mut never = Events::of(never);
    for (events, retries, cursor) in
        [(&mut never, 1, String::new()), (&mut begun, 0, format!("id: {before}\n"))]
    {
        let text = events.now().await;
        assert!(events.over && text.ends_with("\n\n") && Events::ids(&text).is_empty(), "{text}");
        let lines: String = text.lines().skip(retries).map(|line| format!("{line}\n")).collect();
        assert!(
            lines.starts_with("event: push.goodbye") && lines.ends_with(&format!("}}\n{cursor}\n")),
            "{text}"
        );
        assert_eq!(
            text.starts_with("retry: "),
            retries == 1,
            "what comes first says when to come back: {text}"
        );
    }
}

fn retry(text: &str) -> u64 {
    text.strip_prefix("retry: ").and_then(|rest| rest.lines().next()).unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_browser_that_comes_too_early_or_too_late_is_told_to_come_back() {
    let world = World::unready(config());
    let browser = |path: &str| Request::get(path).header("accept", "text/html, Text/Event-Stream;q=0.9");
    let cursor = Cursor { epoch: Epoch(1), seq: Seq(7) }.to_string();
    let mut retries = BTreeSet::new();
    for _ in 0..5 {
        let answer = world.ask(browser("/v1/stream").header("last-event-id", &cursor)).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (200, &"text/event-stream".parse().unwrap())
        );
        let text = body(answer).await;
        assert!(text.contains("event: push.goodbye"), "{text}");
        assert!(text.ends_with(&format!("id: {cursor}\n\n")), "it keeps its place: {text}");
        assert_eq!(text.matches("\n\n").count(), 1, "one block: {text}");
        assert!(text.contains(r#""reconnect":true"#), "{text}");
        retries.insert(retry(&text));
    }
    assert!(retries.len() > 1 && retries.iter().all(|retry| (1_000..5_000).contains(retry)), "{retries:?}");
    assert!(!body(world.ask(browser("/v1/stream?cursor=oldest")).await).await.contains("id:"));
    assert_eq!(world.get("/v1/stream").await.status(), 503, "who asks for no events is told the usual way");
    assert_eq!(
        world.ask(browser("/v1/stream?user=a%20b")).await.status(),
        400,
        "to come back would not help"
    );
    let draining = World::new();
    draining.gateway.drain().await;
    assert!(body(draining.ask(browser("/v1/stream")).await).await.contains("push.goodbye"));
}

#[tokio::test(start_paused = true)]
async fn a_browser_that_loses_its_stream_waits_a_while_of_its_own() {
    let world = World::new();
    let mut retries = BTreeSet::new();
    for _ in 0..5 {
        let mut events = world.stream("/v1/stream").await;
        retries.insert(retry(&events.until("push.caught_up").await));
    }
    assert!(retries.len() > 1 && retries.iter().all(|retry| (1_000..2_000).contains(retry)), "{retries:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cursor_of_an_epoch_that_the_hub_has_left_waits_for_the_change() {
    let mut world = World::new();
    world.hub.publish(&["all"]);
    let cursor = Cursor { epoch: Epoch(1), seq: Seq(5) };
    let head = Cursor { epoch: Epoch(2), seq: Seq(3) };
    world.heads.lock().unwrap().push_back(Some(head));
    let mut events = world.stream(&format!("/v1/stream?cursor={cursor}")).await;
    let welcome = events.until("push.caught_up").await;
    assert!(welcome.contains("RESUMED") && !welcome.contains("push.gap"), "{welcome}");
    world.hub.restart();
    world.hub.publish(&["all"]);
    let text = events.until("e2").await;
    let from = format!(r#""reason":"EPOCH_CHANGED","from":"{cursor}","to":"{}""#, Cursor::start(Epoch(2)));
    assert!(text.contains(&from) && Events::ids(&text) == ["e2"], "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_gap_begins_where_the_reader_stands_that_was_ahead_of_its_gateway() {
    let mut world = World::new();
    let at = |seq| Cursor { epoch: Epoch(1), seq: Seq(seq) };
    world.hub.publish(&["all"]);
    world.heads.lock().unwrap().push_back(Some(at(40)));
    let mut ahead = world.stream(&format!("/v1/stream?cursor={}", at(15))).await;
    let mut here = world.stream(&format!("/v1/stream?cursor={}", at(1))).await;
    for events in [&mut ahead, &mut here] {
        events.until("push.caught_up").await;
    }
    world.hub.gap(v1::GapReason::Lapped, at(10));
    world.hub.publish(&["all"]);
    world.hub.gap(v1::GapReason::Lapped, at(30));
    let text = ahead.until("push.gap").await + &ahead.now().await;
    let gap = format!(r#""reason":"UPSTREAM","from":"{}","to":"{}","count":"15""#, at(15), at(30));
    assert!(text.contains(&gap) && text.matches("push.gap").count() == 1, "{text}");
    assert_eq!(here.now().await.matches("push.gap").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn those_who_miss_the_same_repair_it_at_different_times() {
    let mut world = World::new();
    let mut all = Vec::new();
    for _ in 0..5 {
        all.push(world.stream("/v1/stream").await);
    }
    for events in &mut all {
        events.until("push.caught_up").await;
    }
    world.hub.gap(v1::GapReason::Lapped, Cursor { epoch: Epoch(1), seq: Seq(9) });
    let mut times = BTreeSet::new();
    for events in &mut all {
        let text = events.now().await;
        let time = text.split(r#""repairAfter":""#).nth(1).unwrap().split('"').next().unwrap().to_owned();
        times.insert(time);
    }
    assert_eq!(times.len(), 5, "{times:?}");
    let far = Cursor { epoch: Epoch(9), seq: Seq(9) };
    world.heads.lock().unwrap().push_back(Some(world.hub.head));
    let mut one = world.stream(&format!("/v1/stream?cursor={far}")).await;
    assert!(one.until("push.caught_up").await.contains("repairAfter"), "a gap of its own, too");
}
