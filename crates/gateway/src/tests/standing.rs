//! Standing records: sessions that end, topics that are joined and left, and what a gateway does that lost its place.

use std::time::Duration;

use galaxy_push_core::cursor::{Cursor, Epoch, Seq};
use galaxy_push_proto::v1::{self, Membership, SessionInvalidation, push_event::Kind};
use prost_types::Timestamp;
use serde_json::json;

use super::access::{token, with_keys, with_token};
use super::*;

fn seconds(seconds: u64) -> Option<Timestamp> {
    Some(Timestamp { seconds: seconds as i64, nanos: 0 })
}

const NOW_S: u64 = NOW_MS / 1_000;

fn invalidation(recipient: &str, issued_before: u64) -> SessionInvalidation {
    SessionInvalidation {
        recipient: recipient.into(),
        reason: "signed out".into(),
        issued_before: seconds(issued_before),
        expires_at: seconds(NOW_S + 86_400),
    }
}

fn membership(recipient: &str, topic: &str, member: bool) -> Membership {
    Membership { recipient: recipient.into(), topic: topic.into(), member, expires_at: None }
}

impl World {
    fn joins(&mut self, recipient: &str, topic: &str) {
        self.hub.record(Kind::Membership(membership(recipient, topic, true)));
    }

    fn leaves(&mut self, recipient: &str, topic: &str) {
        self.hub.record(Kind::Membership(membership(recipient, topic, false)));
    }

    fn invalidate(&mut self, recipient: &str, issued_before: u64) {
        self.hub.record(Kind::SessionInvalidation(invalidation(recipient, issued_before)));
    }
}

/// The ids of the events that arrive at once.
async fn ids(events: &mut Events) -> Vec<String> {
    Events::ids(&events.now().await)
}

fn ann(session: &str, issued: u64) -> String {
    token(&json!({"sub": "ann", "sid": session, "iat": issued, "exp": NOW_S + 600}))
}

#[tokio::test(start_paused = true)]
async fn a_member_receives_a_topic_without_asking_from_the_record_on_and_until_the_next() {
    let mut world = World::new();
    let mut ann = world.stream("/v1/stream?user=ann").await;
    let mut bob = world.stream("/v1/stream?session=s").await;
    for events in [&mut ann, &mut bob] {
        events.now().await;
    }
    world.hub.publish(&["topic:orders/7"]);
    world.joins("user:ann", "orders/7");
    world.hub.publish(&["topic:orders/7"]);
    world.joins("session:s", "orders/*");
    world.hub.publish(&["topic:orders/7", "user:ann"]);
    world.hub.publish(&["topic:orders/8"]);
    world.hub.publish(&["topic:orders"]);
    assert_eq!(
        (ids(&mut ann).await, ids(&mut bob).await),
        (vec!["e2".into(), "e3".into()], vec!["e3".into(), "e4".into()])
    );
    world.leaves("user:ann", "orders/7");
    world.hub.publish(&["topic:orders/7"]);
    assert_eq!((ids(&mut ann).await, ids(&mut bob).await), (vec![], vec!["e6".into()]));
    world.leaves("session:s", "orders/*");
    world.hub.publish(&["topic:orders/7"]);
    assert_eq!((ids(&mut ann).await, ids(&mut bob).await), (vec![], vec![]));
    let metrics = world.metrics();
    assert!(metrics.contains(r#"push_standing_changes_total{change="JOINED"} 2"#), "{metrics}");
    assert!(metrics.contains("push_edge_memberships 0"), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn a_replay_grants_what_was_granted_then_and_is_now() {
    let mut world = World::new();
    let replay = async |world: &World, user: &str| {
        let mut events = world.stream(&format!("/v1/stream?user={user}&cursor=oldest")).await;
        Events::ids(&events.until("push.caught_up").await)
    };
    world.hub.publish(&["topic:t"]);
    world.joins("user:ann", "t");
    world.hub.publish(&["topic:t"]);
    world.leaves("user:ann", "t");
    world.hub.publish(&["topic:t"]);
    assert_eq!(replay(&world, "ann").await, [""; 0], "not now");
    world.joins("user:ann", "t");
    world.hub.publish(&["topic:t"]);
    assert_eq!(replay(&world, "ann").await, ["e2", "e4"]);
    assert_eq!(replay(&world, "bob").await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn one_record_in_the_middle_of_a_batch_parts_the_events_around_it() {
    let mut world = World::new();
    let mut ann = world.stream("/v1/stream?user=ann").await;
    ids(&mut ann).await;
    let mut batch = Vec::new();
    for member in [true, false, true] {
        for kind in [
            Kind::Membership(membership("user:ann", "t", member)),
            Kind::Event(world.hub.event(&["topic:t"], "1")),
        ] {
            world.hub.head = world.hub.head.next();
            let cursor = world.hub.head.to_string();
            batch.push(v1::PushEvent { cursor, kind: Some(kind), appended_unix_ms: NOW_MS });
        }
    }
    world.hub.send(&batch);
    assert_eq!(ids(&mut ann).await, ["e1", "e3"]);
}

#[tokio::test(start_paused = true)]
async fn memberships_do_not_count_among_the_topics_asked_for_and_one_may_be_both() {
    let mut config = config();
    config.topics = 1;
    let mut world = World::with(config);
    for topic in ["a", "b", "c"] {
        world.joins("user:ann", topic);
    }
    let mut ann = world.stream("/v1/stream?user=ann&topic=a").await;
    ids(&mut ann).await;
    world.hub.publish(&["topic:a", "topic:b"]);
    world.hub.publish(&["topic:c"]);
    world.leaves("user:ann", "a");
    world.hub.publish(&["topic:a"]);
    assert_eq!(ids(&mut ann).await, ["e1", "e2", "e3"]);
}

#[tokio::test(start_paused = true)]
async fn a_membership_that_expires_is_none() {
    let mut world = World::new();
    let until = Membership { expires_at: seconds(NOW_S + 5), ..membership("user:ann", "t", true) };
    world.hub.record(Kind::Membership(until));
    let mut ann = world.stream("/v1/stream?user=ann").await;
    ids(&mut ann).await;
    world.hub.publish(&["topic:t"]);
    assert_eq!(ids(&mut ann).await, ["e1"]);
    world.hub.publish(&["topic:t"]);
    tokio::time::advance(Duration::from_secs(5)).await;
    world.hub.publish(&["topic:t"]);
    assert_eq!(ids(&mut ann).await, [""; 0], "granted when it was appended, not now");
}

#[tokio::test(start_paused = true)]
async fn an_ended_session_is_closed_at_once_and_its_token_is_refused() {
    let mut world = World::with(with_keys());
    // So much later that no clock that is ahead can be the cause.
    let (old, new) = (ann("s1", NOW_S - 50), ann("s1", NOW_S - 1));
    let other = ann("s2", NOW_S - 10);
    let mut sse = Events::of(world.ask(with_token("/v1/stream", &old)).await);
    let mut socket = world.connected(&format!(r#"{{"token":"{old}"}}"#)).await;
    let mut newer = Events::of(world.ask(with_token("/v1/stream", &new)).await);
    let mut elsewhere = Events::of(world.ask(with_token("/v1/stream", &other)).await);
    socket.until("caughtUp").await;
    for events in [&mut sse, &mut newer, &mut elsewhere] {
        events.until("push.caught_up").await;
    }
    world.hub.publish(&["user:ann"]);
    world.invalidate("session:s1", NOW_S - 45);
    world.hub.publish(&["user:ann"]);

    let text = sse.now().await;
    assert!(
        text.contains("push.goodbye") && text.contains(r#""reason":"SESSION_ENDED","reconnect":false"#),
        "{text}"
    );
    assert!(sse.over && Events::ids(&text).is_empty(), "{text}");
    let (lines, code, reason) = socket.closed().await;
    assert_eq!((code, reason.as_str()), (4401, "the session was ended (signed out): sign in again"));
    assert!(lines.contains("SESSION_ENDED") && Events::ids(&lines).is_empty(), "{lines}");
    assert_eq!((ids(&mut newer).await.len(), ids(&mut elsewhere).await.len()), (2, 2));

    let refused = world.ask(with_token("/v1/stream", &old)).await;
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["www-authenticate"]),
        (401, &"Bearer".parse().unwrap())
    );
    let problem = body(refused).await;
    assert!(problem.contains("the session was ended (signed out): sign in again"), "{problem}");
    let mut refused = world.socket().await;
    refused.send(&format!(r#"{{"connect":{{"token":"{old}"}}}}"#)).await;
    assert_eq!(refused.closed().await.1, 4401);
    assert_eq!(world.ask(with_token("/v1/stream", &new)).await.status(), 200);

    world.invalidate("user:ann", NOW_S);
    for events in [&mut newer, &mut elsewhere] {
        events.now().await;
        assert!(events.over);
    }
    let silent = token(&json!({"sub": "ann", "exp": NOW_S + 600}));
    assert_eq!(
        world.ask(with_token("/v1/stream", &silent)).await.status(),
        401,
        "it does not say when it was issued"
    );
    assert_eq!(world.ask(with_token("/v1/stream", &ann("s3", NOW_S))).await.status(), 200);
    let metrics = world.metrics();
    assert!(metrics.contains(r#"push_ended_total{reason="SESSION_INVALIDATED"} 4"#), "{metrics}");
    assert!(metrics.contains("push_edge_invalidations 2"), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn a_newer_token_outlives_an_invalidation_and_an_older_one_does_not() {
    let mut world = World::with(with_keys());
    let refresh = |token: &str| format!(r#"{{"refresh":{{"token":"{token}"}}}}"#);
    let mut socket = world.connected(&format!(r#"{{"token":"{}"}}"#, ann("s1", NOW_S - 60))).await;
    socket.until("caughtUp").await;
    socket.send(&refresh(&ann("s1", NOW_S - 2))).await;
    world.hub.publish(&["user:ann"]);
    socket.until("e1").await;
    world.invalidate("session:s1", NOW_S - 45);
    world.hub.publish(&["user:ann"]);
    socket.until("e2").await;
    socket.send(&refresh(&ann("s1", NOW_S - 50))).await;
    assert_eq!(socket.closed().await.1, 4401);
}

/// The issuer's clock is 20 s ahead, so the stolen token says that it was issued after the record.
#[tokio::test(start_paused = true)]
async fn a_revoked_session_stays_ended_though_its_issuers_clock_is_ahead() {
    let mut world = World::with(with_keys());
    let stolen = ann("s1", NOW_S + 20);
    let mut there = Events::of(world.ask(with_token("/v1/stream", &stolen)).await);
    there.until("push.caught_up").await;
    world.invalidate("session:s1", NOW_S);
    there.now().await;
    assert!(there.over);
    for wait in [0, 1, 25, 60] {
        tokio::time::advance(Duration::from_secs(wait)).await;
        assert_eq!(world.ask(with_token("/v1/stream", &stolen)).await.status(), 401, "{wait}");
    }
    assert_eq!(
        world.ask(with_token("/v1/stream", &ann("s2", NOW_S + 20))).await.status(),
        200,
        "another session"
    );
}

/// Revoked and signed in anew within one second: tokens count whole seconds, and so does the record.
#[tokio::test(start_paused = true)]
async fn a_new_sign_in_within_the_second_of_a_users_record_is_good() {
    let mut world = World::with(with_keys());
    world.invalidate("user:ann", NOW_S);
    for (issued, status) in [(NOW_S - 1, 401), (NOW_S, 200), (NOW_S + 5, 200)] {
        let answer = world.ask(with_token("/v1/stream", &ann("s", issued))).await;
        assert_eq!(answer.status().as_u16(), status, "{issued}");
    }
}

#[tokio::test(start_paused = true)]
async fn in_development_whoever_was_there_before_the_record_is_ended() {
    let mut world = World::new();
    let mut before = world.stream("/v1/stream?session=s").await;
    ids(&mut before).await;
    tokio::time::advance(Duration::from_secs(2)).await;
    world.invalidate("session:s", NOW_S + 1);
    assert!(before.now().await.contains("SESSION_ENDED"));
    let mut after = world.stream("/v1/stream?session=s").await;
    world.hub.publish(&["session:s"]);
    assert_eq!(ids(&mut after).await, ["e1"]);
}

/// The gateway misses a part of the log.
#[tokio::test(start_paused = true)]
async fn a_lost_place_opens_nothing_before_all_is_known_and_then_everything_at_once() {
    let mut world = World::new();
    let at = |seq| Cursor { epoch: Epoch(1), seq: Seq(seq) };
    world.joins("user:ann", "left");
    world.joins("user:ann", "stays");
    world.hub.publish(&["topic:left", "topic:stays"]); // e1
    world.hub.publish(&["topic:left"]); // e2
    let mut ann = world.stream("/v1/stream?user=ann").await;
    ids(&mut ann).await;

    // In the part that is missed ann leaves `left`, joins `new`, and is signed out elsewhere.
    world.hub.gap_alone(v1::GapReason::Lapped, at(50));
    world.hub.standing(&[invalidation("session:s9", NOW_S)], &[membership("user:ann", "stays", true)], true);
    world.hub.standing(&[], &[membership("user:ann", "new", true)], false);
    world.joins("user:ann", "left"); // replayed, older than what is known
    world.hub.publish(&["topic:left", "topic:new"]); // e3, granted then by what was replayed
    world.hub.publish(&["user:ann"]); // e4
    assert_eq!(ids(&mut ann).await, [""; 0]);
    let replay = async |world: &World| {
        let mut events = world.stream("/v1/stream?user=ann&cursor=oldest").await;
        Events::ids(&events.until("push.caught_up").await)
    };
    assert_eq!(replay(&world).await, ["e1"], "by what holds now, up to the hole");
    assert!(world.metrics().contains("push_edge_held_back 1"));

    world.leaves("user:ann", "left");
    world.hub.publish(&["topic:stays"]); // e5
    world.hub.caught_up();
    let text = ann.now().await;
    assert_eq!(Events::ids(&text), ["e3", "e4", "e5"]);
    assert!(text.find("push.gap").unwrap() < text.find("\"e3\"").unwrap(), "{text}");
    assert_eq!(replay(&world).await, ["e1", "e3", "e4", "e5"]);
    assert!(world.metrics().contains("push_edge_held_back 0"));
    world.hub.publish(&["topic:new"]); // e6
    world.hub.publish(&["topic:left"]); // e7
    assert_eq!(ids(&mut ann).await, ["e6"]);
}

#[tokio::test(start_paused = true)]
async fn a_cut_before_the_standing_records_are_complete_misses_none() {
    let mut world = World::new();
    world.joins("user:ann", "t");
    let mut ann = world.stream("/v1/stream?user=ann").await;
    ids(&mut ann).await;
    let before = world.hub.head;
    world.hub.gap_alone(v1::GapReason::Lapped, Cursor { seq: Seq(50), ..before });
    world.hub.standing(&[], &[membership("user:ann", "u", true)], true);
    world.hub.head = before;
    world.hub.cut();
    assert_eq!(world.hub.asked(), before.to_string(), "not from behind the gap");
    world.hub.welcome(v1::Outcome::Resumed, before);
    world.leaves("user:ann", "t");
    world.hub.publish(&["topic:t"]);
    world.hub.head.seq = Seq(60);
    world.hub.caught_up();
    world.hub.publish(&["topic:t"]);
    world.joins("user:ann", "u");
    world.hub.publish(&["topic:u"]);
    assert_eq!(ids(&mut ann).await, ["e3"]);
}

#[tokio::test(start_paused = true)]
async fn a_gap_without_standing_records_takes_memberships_away() {
    let mut world = World::new();
    world.joins("user:ann", "t");
    let mut ann = world.stream("/v1/stream?user=ann").await;
    ids(&mut ann).await;
    world.hub.gap_alone(v1::GapReason::TooLarge, world.hub.head.next());
    world.hub.publish(&["topic:t"]);
    assert_eq!(ids(&mut ann).await, ["e1"], "too large hides no record");
    world.hub.gap_alone(v1::GapReason::Lapped, world.hub.head.next());
    world.hub.publish(&["topic:t", "all"]);
    world.hub.caught_up();
    world.hub.publish(&["topic:t"]);
    assert_eq!(ids(&mut ann).await, ["e2"]);
}

/// A hub that filters says how far it has looked in the middle of a replay, too.
#[tokio::test(start_paused = true)]
async fn progress_within_a_replay_lets_nothing_go() {
    let mut world = World::unready(config());
    world.hub.welcome(v1::Outcome::Fresh, world.hub.head);
    world.hub.standing(&[], &[], false);
    world.joins("user:ann", "t"); // and leaves it later, as `Standing` knows
    world.hub.publish(&["topic:t"]);
    world.hub.progress(10);
    assert_eq!(world.get("/v1/stream?user=ann").await.status(), 503);
    world.leaves("user:ann", "t");
    world.hub.caught_up();
    let mut ann = world.stream("/v1/stream?user=ann&cursor=oldest").await;
    assert_eq!(ids(&mut ann).await, [""; 0]);

    world.hub.gap_alone(v1::GapReason::Lapped, world.hub.head.next());
    world.hub.standing(&[], &[], false);
    world.joins("user:ann", "t");
    world.hub.publish(&["topic:t"]);
    world.hub.progress(10);
    assert_eq!(ids(&mut ann).await, [""; 0]);
    world.leaves("user:ann", "t");
    world.hub.caught_up();
    assert_eq!(ids(&mut ann).await, [""; 0]);

    // A hub that lives on in another epoch tells no catch-up: its live readers stay live.
    world.hub.gap_alone(v1::GapReason::EpochChanged, Cursor { epoch: Epoch(9), seq: Seq(0) });
    world.hub.standing(&[], &[membership("user:ann", "u", true)], false);
    world.hub.publish(&["topic:u"]);
    assert_eq!(ids(&mut ann).await, [""; 0]);
    world.hub.progress(0);
    assert_eq!(ids(&mut ann).await, ["e3"]);
}

#[tokio::test(start_paused = true)]
async fn across_a_change_of_log_invalidations_go_on_holding_and_memberships_are_replaced() {
    let mut world = World::with(with_keys());
    let (ended, bob) = (ann("s1", NOW_S - 10), token(&json!({"sub": "bob", "exp": NOW_S + 600})));
    world.invalidate("session:s1", NOW_S - 5);
    world.joins("user:bob", "of-a");
    let mut member = Events::of(world.ask(with_token("/v1/stream", &bob)).await);
    member.until("push.caught_up").await;
    // The other log knows nothing of the one and says something else of the other.
    world.hub.cut();
    world.hub.welcome(v1::Outcome::EpochChanged, world.hub.head);
    world.hub.standing(&[], &[membership("user:bob", "of-b", true)], false);
    world.hub.gap_alone(v1::GapReason::EpochChanged, Cursor::start(Epoch(2)));
    world.hub.caught_up();
    assert_eq!(world.ask(with_token("/v1/stream", &ended)).await.status(), 401, "it only refuses");
    world.hub.publish(&["topic:of-a"]);
    world.hub.publish(&["topic:of-b"]);
    let text = member.now().await;
    assert!(text.contains("push.gap") && Events::ids(&text) == ["e2"], "{text}");
}
