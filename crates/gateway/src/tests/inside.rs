//! Users that come from another gateway, and stand in the middle of what this one was told to have missed.

use galaxy_push_core::cursor::{Cursor, Epoch, Seq};
use galaxy_push_proto::v1;

use super::*;

fn at(seq: u64) -> Cursor {
    Cursor { epoch: Epoch(1), seq: Seq(seq) }
}

/// Reason, both ends and count of each gap in a text, in order.
fn gaps(text: &str) -> Vec<String> {
    let told = |data: &str| {
        let frame: serde_json::Value = serde_json::from_str(data).unwrap();
        let position = |name: &str| Cursor::parse(frame[name].as_str().unwrap()).unwrap().seq.0;
        let count = frame["count"].as_str().unwrap_or("?");
        assert!(frame["repairAfter"].is_string(), "{frame}");
        format!("{} {}..{}={count}", frame["reason"].as_str().unwrap(), position("from"), position("to"))
    };
    text.split("event: push.gap")
        .skip(1)
        .map(|rest| told(rest.split_once("data: ").unwrap().1.lines().next().unwrap()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_user_is_told_of_what_the_gateway_missed_from_where_the_user_stands() {
    for (reason, name, own) in [
        (v1::GapReason::Damaged, "DAMAGED", "DAMAGED"),
        (v1::GapReason::TooLarge, "TOO_LARGE", "TOO_LARGE"),
        // The gateway was late; the user was not.
        (v1::GapReason::Lapped, "LAPPED", "UPSTREAM"),
        (v1::GapReason::Trimmed, "TRIMMED", "UPSTREAM"),
        (v1::GapReason::Upstream, "UPSTREAM", "UPSTREAM"),
    ] {
        let mut world = World::new();
        world.hub.publish(&["user:a"]);
        world.hub.gap(reason, at(5));
        world.hub.publish(&["user:a"]);
        for (cursor, told) in [
            ("oldest".to_owned(), Some((name, "1..5=4"))),
            (at(0).to_string(), Some((name, "1..5=4"))),
            (at(1).to_string(), Some((name, "1..5=4"))),
            (at(2).to_string(), Some((own, "2..5=3"))),
            (at(4).to_string(), Some((own, "4..5=1"))),
            (at(5).to_string(), None),
            (at(6).to_string(), None),
        ] {
            let mut user = world.stream(&format!("/v1/stream?user=a&cursor={cursor}")).await;
            let text = user.until("push.caught_up").await;
            let expected: Vec<_> = told.iter().map(|(name, told)| format!("{name} {told}")).collect();
            assert_eq!(gaps(&text), expected, "{cursor}");
            assert_eq!(text.contains("\"id\":\"e2\""), cursor != at(6).to_string(), "{cursor}: {text}");
        }
    }
}

/// It is further than its gateway, which misses something on the way to where it is and beyond.
#[tokio::test(start_paused = true)]
async fn a_user_that_waits_for_its_gateway_is_told_of_what_lies_behind_it() {
    let mut world = World::new();
    world.hub.publish(&["user:a"]);
    world.heads.lock().unwrap().push_back(Some(at(9)));
    let mut user = world.stream(&format!("/v1/stream?user=a&cursor={}", at(3))).await;
    user.until("push.caught_up").await;
    world.hub.gap(v1::GapReason::Damaged, at(5));
    world.hub.publish(&["user:a"]);
    let text = user.until("\"id\":\"e2\"").await;
    assert_eq!(gaps(&text), ["DAMAGED 3..5=2"]);
}

#[tokio::test(start_paused = true)]
async fn a_gap_of_the_user_s_own_is_counted_by_its_reason() {
    let mut world = World::new();
    world.hub.gap(v1::GapReason::Damaged, at(5));
    for cursor in [at(0), at(2)] {
        world.stream(&format!("/v1/stream?user=a&cursor={cursor}")).await.until("push.caught_up").await;
    }
    let metrics = world.metrics();
    assert!(metrics.contains(r#"push_edge_gaps_total{reason="DAMAGED"} 2"#), "{metrics}");
}
