//! `GET /v1/stream` as a user sees it.

use expect_test::expect;
use galaxy_push_core::cursor::{Cursor, Epoch, Seq};
use galaxy_push_proto::v1;

use super::*;

const EPOCH_1: &str = "2.AAAAAAAAAAAAAAAAAAAAAQ";

#[tokio::test(start_paused = true)]
async fn golden() {
    let mut world = World::new();
    world.hub.publish(&["user:42"]);
    let response = world.get("/v1/stream?user=42&topic=news&cursor=oldest").await;
    let headers: Vec<_> = response
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    expect![[r#"
        content-type: text/event-stream
        cache-control: no-store, no-transform
        x-content-type-options: nosniff
        x-accel-buffering: no
        vary: origin"#]]
    .assert_eq(&headers.join("\n"));
    let mut events = Events::of(response);
    let mut text = events.until("push.caught_up").await;
    world.hub.publish_data(&["user:7", "topic:news"], "[\n1,\n2]");
    world.hub.publish(&["user:7"]);
    world.hub.publish(&["all", "user:42"]);
    world.hub.publish_ephemeral(&["user:42"]);
    world.hub.gap(v1::GapReason::Lapped, Cursor { epoch: Epoch(1), seq: Seq(9) });
    text += &events.now().await;
    tokio::time::advance(Duration::from_secs(25)).await;
    text += &events.now().await;
    expect![[r#"
        retry: 1433
        event: push.welcome
        data: {"outcome":"FRESH","epoch":"AAAAAAAAAAAAAAAAAAAAAQ","head":"2.AAAAAAAAAAAAAAAAAAAAAQ.a1","oldest":"2.AAAAAAAAAAAAAAAAAAAAAQ.a0","generation":"0","heartbeatInterval":"25s","limits":{"maxEventBytes":65536,"maxFrameBytes":4194304,"windowEvents":"1048576","windowBytes":"268435456","windowAge":"600s"},"connectionId":"12345678-0"}
        id: 2.AAAAAAAAAAAAAAAAAAAAAQ.a0

        event: turn.ready
        data: {"specversion":"1.0","id":"e1","source":"/game","type":"turn.ready","data":{"n":1}}
        id: 2.AAAAAAAAAAAAAAAAAAAAAQ.a1

        event: push.caught_up
        data: {}
        id: 2.AAAAAAAAAAAAAAAAAAAAAQ.a1

        event: turn.ready
        data: {"specversion":"1.0","id":"e2","source":"/game","type":"turn.ready","data":[ 1, 2]}
        id: 2.AAAAAAAAAAAAAAAAAAAAAQ.a2

        event: turn.ready
        data: {"specversion":"1.0","id":"e4","source":"/game","type":"turn.ready","data":{"n":1}}
        id: 2.AAAAAAAAAAAAAAAAAAAAAQ.a4

        event: turn.ready
        data: {"specversion":"1.0","id":"e5","source":"/game","type":"turn.ready","data":1}

        event: push.gap
        data: {"reason":"LAPPED","from":"2.AAAAAAAAAAAAAAAAAAAAAQ.a4","to":"2.AAAAAAAAAAAAAAAAAAAAAQ.a9","count":"5","repairAfter":"0.970s"}
        id: 2.AAAAAAAAAAAAAAAAAAAAAQ.a9

        event: push.progress
        data: {}
        id: 2.AAAAAAAAAAAAAAAAAAAAAQ.a9

    "#]]
    .assert_eq(&text);
}

#[tokio::test(start_paused = true)]
async fn the_last_event_id_beats_the_cursor_in_the_url() {
    let mut world = World::new();
    let cursors: Vec<_> = (0..4).map(|_| world.hub.publish(&["user:a"])).collect();
    for (header, query, first) in [
        (Some(cursors[2].as_str()), cursors[0].as_str(), "e4"),
        (Some(""), cursors[1].as_str(), "e3"),
        (None, cursors[0].as_str(), "e2"),
        (Some(cursors[1].as_str()), "", "e3"),
        (Some("oldest"), "", "e1"),
    ] {
        let mut request = Request::get(format!("/v1/stream?user=a&cursor={query}"));
        if let Some(value) = header {
            request = request.header("last-event-id", value);
        }
        let text = Events::of(world.ask(request).await).until("push.caught_up").await;
        assert_eq!(Events::ids(&text)[0], first, "{header:?} {query}");
    }
}

#[tokio::test(start_paused = true)]
async fn plain_messages_for_who_asks_for_them() {
    let mut world = World::new();
    world.hub.publish(&["all"]);
    let text = world.stream("/v1/stream?cursor=oldest&event=message").await.until("push.caught_up").await;
    assert!(!text.contains("event: turn.ready") && text.contains("event: message\ndata: {\"specversion\""));
    assert_eq!(world.get("/v1/stream?event=typed").await.status(), 400);
}

#[tokio::test(start_paused = true)]
async fn every_cursor_has_its_outcome() {
    let mut config = config();
    config.window.events = 4;
    let mut world = World::with(config);
    for _ in 0..3 {
        world.hub.publish(&["user:a"]);
    }
    world.hub.restart();
    for _ in 0..3 {
        world.hub.publish(&["user:a"]);
    }
    // Held: the gap into the second epoch, then e4, e5, e6.
    let (head, epoch_2) = (world.hub.head.to_string(), "2.AAAAAAAAAAAAAAAAAAAAAg");
    for (cursor, head_of_hub, outcome, told) in [
        (String::new(), None, "FRESH", "caught_up"),
        ("oldest".into(), None, "FRESH", "gap e4 e5 e6 caught_up"),
        (head.clone(), None, "RESUMED", "caught_up"),
        (format!("{epoch_2}.a1"), None, "RESUMED", "e5 e6 caught_up"),
        (format!("{EPOCH_1}.a3"), None, "RESUMED", "gap e4 e5 e6 caught_up"),
        (format!("{EPOCH_1}.a1"), None, "TRIMMED", "gap gap e4 e5 e6 caught_up"),
        (format!("{epoch_2}.a9"), Some(world.hub.head), "AHEAD", "gap caught_up"),
        (
            "2.AAAAAAAAAAAAAAAAAAAACQ.a1".into(),
            Some(world.hub.head),
            "EPOCH_CHANGED",
            "gap gap e4 e5 e6 caught_up",
        ),
        ("1.AAAAAAAAAAAAAAAAAAAAAg.1".into(), None, "EPOCH_CHANGED", "gap gap e4 e5 e6 caught_up"),
        ("3.from-the-future".into(), None, "EPOCH_CHANGED", "gap gap e4 e5 e6 caught_up"),
    ] {
        world.heads.lock().unwrap().extend(head_of_hub.map(Some));
        let text =
            world.stream(&format!("/v1/stream?user=a&cursor={cursor}")).await.until("push.caught_up").await;
        assert!(text.contains(&format!("\"outcome\":\"{outcome}\"")), "{cursor}: {text}");
        let mut seen = Vec::new();
        for block in
            text.split("\n\n").filter(|block| block.contains("data: ") && !block.contains("push.welcome"))
        {
            let name = block.split("event: push.").nth(1).and_then(|rest| rest.lines().next());
            seen.push(name.map_or_else(|| Events::ids(block)[0].clone(), str::to_owned));
        }
        assert_eq!(seen.join(" "), told, "{cursor}: {text}");
    }
    for malformed in ["2", "x", "2.AAAAAAAAAAAAAAAAAAAAAQ.b01", "latest", "%00", &"3".repeat(129)] {
        let response = world.get(&format!("/v1/stream?cursor={malformed}")).await;
        assert_eq!(
            (response.status().as_u16(), response.headers()["content-type"].to_str().unwrap()),
            (400, "application/problem+json")
        );
        assert!(body(response).await.contains("CURSOR_MALFORMED"), "{malformed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cursor_that_only_the_hub_knows_is_waited_for() {
    let mut world = World::new();
    world.hub.publish(&["user:a"]);
    world.heads.lock().unwrap().push_back(Some(Cursor { epoch: Epoch(1), seq: Seq(5) }));
    let mut events = world.stream(&format!("/v1/stream?user=a&cursor={EPOCH_1}.a3")).await;
    assert!(events.until("push.caught_up").await.contains("RESUMED"));
    for _ in 0..4 {
        world.hub.publish(&["user:a"]);
    }
    assert_eq!(Events::ids(&events.now().await), ["e4", "e5"], "e2 and e3 lie before the cursor");
    let text =
        world.stream(&format!("/v1/stream?user=a&cursor={EPOCH_1}.a5")).await.until("push.caught_up").await;
    assert!(text.contains("RESUMED"));
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_does_not_answer_costs_a_second_and_a_503() {
    let world = World::new();
    let began = tokio::time::Instant::now();
    let response = world.get(&format!("/v1/stream?cursor={EPOCH_1}.a3")).await;
    assert_eq!((response.status().as_u16(), began.elapsed()), (503, Duration::from_secs(1)));
    assert_eq!(response.headers()["retry-after"], "1");
    world.heads.lock().unwrap().push_back(None);
    assert_eq!(world.get(&format!("/v1/stream?cursor={EPOCH_1}.a3")).await.status(), 503);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_admitted_before_the_first_catch_up() {
    let mut world = World::unready(config());
    let refused = world.get("/v1/stream").await;
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    world.hub.welcome(v1::Outcome::Fresh, world.hub.head);
    world.hub.publish(&["all"]);
    assert_eq!(world.get("/v1/stream").await.status(), 503);
    world.hub.caught_up();
    assert_eq!(world.get("/v1/stream").await.status(), 503, "it knows no standing records");
    world.hub.cut();
    world.hub.welcome(v1::Outcome::Fresh, world.hub.head);
    world.hub.standing(&[], &[], true);
    world.hub.standing(&[], &[], false);
    assert_eq!(world.get("/v1/stream").await.status(), 503, "it has not caught up");
    world.hub.caught_up();
    assert_eq!(world.get("/v1/stream").await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_user_that_reads_late_gets_everything_and_one_that_reads_too_late_is_told() {
    let mut config = config();
    (config.window.events, config.mailbox_slots, config.write_stall) = (100, 4, Duration::MAX);
    let mut world = World::with(config);
    let mut events = world.stream("/v1/stream?user=a").await;
    events.until("push.caught_up").await;
    for _ in 0..90 {
        world.hub.publish(&["user:a"]);
        world.hub.publish(&["user:b"]);
    }
    let text = events.until("push.caught_up").await;
    // One hundred entries are held, half of them this user's.
    assert_eq!(text.matches("push.gap").count(), 1, "{text}");
    let ids: Vec<_> = (81..180).step_by(2).map(|n| format!("e{n}")).collect();
    assert_eq!(Events::ids(&text), ids);
    assert!(world.metrics().contains("push_mailbox_overflows_total 1"));
    assert!(world.metrics().contains(r#"push_edge_gaps_total{reason="LAPPED"} 1"#));
    for _ in 0..20 {
        world.hub.publish(&["user:a"]);
    }
    let text = events.now().await;
    assert_eq!((Events::ids(&text).len(), text.matches("push.gap").count()), (20, 0));
}

#[tokio::test(start_paused = true)]
async fn a_quiet_user_does_not_age_out_untold() {
    let mut config = config();
    config.window.events = 80;
    let mut world = World::with(config);
    let mut quiet = world.stream("/v1/stream?user=quiet").await;
    let mut cursor = last_id(&quiet.until("push.caught_up").await).unwrap();
    for _ in 0..1_000 {
        world.hub.publish(&["user:busy"]);
        cursor = last_id(&quiet.now().await).unwrap_or(cursor);
    }
    drop(quiet);
    let text =
        world.stream(&format!("/v1/stream?user=quiet&cursor={cursor}")).await.until("push.caught_up").await;
    assert!(text.contains("RESUMED"), "{text}");
}

fn last_id(text: &str) -> Option<String> {
    text.lines().rev().find_map(|line| line.strip_prefix("id: ")).map(str::to_owned)
}

#[tokio::test(start_paused = true)]
async fn an_expired_event_is_not_sent() {
    let mut world = World::new();
    world.hub.publish_expiring(&["user:a"], Duration::from_secs(5));
    world.hub.publish(&["user:a"]);
    let text = world.stream("/v1/stream?user=a&cursor=oldest").await.until("push.caught_up").await;
    assert_eq!(Events::ids(&text), ["e1", "e2"]);
    tokio::time::advance(Duration::from_secs(6)).await;
    let text = world.stream("/v1/stream?user=a&cursor=oldest").await.until("push.caught_up").await;
    assert_eq!(Events::ids(&text), ["e2"]);
    assert!(world.metrics().contains("push_expired_total 1"));
}

#[tokio::test(start_paused = true)]
async fn a_hub_restart_is_a_gap_in_every_stream() {
    let mut world = World::new();
    let mut events = world.stream("/v1/stream?user=a").await;
    events.until("push.caught_up").await;
    world.hub.publish(&["user:a"]);
    world.hub.restart();
    world.hub.publish(&["user:a"]);
    let text = events.now().await;
    assert!(text.contains(r#""reason":"EPOCH_CHANGED""#));
    assert_eq!(Events::ids(&text), ["e1", "e2"]);
    assert_eq!(last_id(&text).unwrap(), world.hub.head.to_string());
}

/// The fault: common readers hand each block to the program, which reads its data as JSON; the first one held `retry:` alone.
#[tokio::test(start_paused = true)]
async fn every_block_has_a_name_and_data_and_the_first_one_says_when_to_come_back() {
    let mut world = World::new();
    world.hub.publish(&["all"]);
    for query in ["", "&event=message"] {
        let mut events = world.stream(&format!("/v1/stream?cursor=oldest{query}")).await;
        let mut text = events.until("push.caught_up").await;
        text += &events.until("push.progress").await;
        world.hub.publish_ephemeral(&["all"]);
        text += &events.now().await;
        let blocks: Vec<_> = text.split_terminator("\n\n").collect();
        assert!(blocks.len() >= 5, "{text}");
        for (block, number) in blocks.iter().zip(0..) {
            let fields: Vec<_> = block.lines().map(|line| line.split_once(": ").unwrap()).collect();
            let values = |name: &str| fields.iter().filter(|(field, _)| *field == name).count();
            assert_eq!((values("event"), values("data")), (1, 1), "{block}");
            assert_eq!(values("retry"), usize::from(number == 0), "{block}");
            let (_, data) = fields.iter().find(|(name, _)| *name == "data").unwrap();
            assert!(serde_json::from_str::<serde_json::Value>(data).unwrap().is_object(), "{block}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_user_is_told_where_it_stands_as_often_as_is_set() {
    let mut config = config();
    config.progress_interval = Duration::from_secs(7);
    let world = World::with(config);
    let mut events = world.stream("/v1/stream?user=a").await;
    assert!(events.until("push.caught_up").await.contains(r#""heartbeatInterval":"7s""#));
    events.now().await;
    let began = tokio::time::Instant::now();
    for round in 1..=3 {
        events.until("push.progress").await;
        events.now().await;
        assert_eq!(began.elapsed(), Duration::from_secs(7) * round);
    }
}
