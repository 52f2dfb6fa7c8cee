//! Members to whom an event may be owed: granted when it was appended and now, or told where nobody can tell.

use galaxy_push_core::cursor::{Cursor, Epoch, Seq};
use galaxy_push_proto::v1::{self, Membership, push_event::Kind};
use serde_json::json;

use super::access::{token, with_keys, with_token};
use super::*;

impl World {
    fn member(&mut self, recipient: &str, topic: &str, member: bool) {
        let record =
            Membership { recipient: recipient.into(), topic: topic.into(), member, expires_at: None };
        self.hub.record(Kind::Membership(record));
    }

    /// Begins with what the hub's window holds after this position, and the memberships that hold at its end.
    fn begins_after(cursor: Cursor, holds: &[(&str, &str)]) -> Self {
        let mut world = Self::unready(config());
        world.hub.head = cursor;
        world.hub.welcome(v1::Outcome::Fresh, cursor);
        let records = holds.iter().map(|(recipient, topic)| Membership {
            recipient: (*recipient).into(),
            topic: (*topic).into(),
            member: true,
            expires_at: None,
        });
        world.hub.standing(&[], &records.collect::<Vec<_>>(), false);
        world
    }

    async fn replay(&self, query: &str, cursor: Cursor) -> String {
        self.stream(&format!("/v1/stream?{query}&cursor={cursor}")).await.until("push.caught_up").await
    }
}

fn at(seq: u64) -> Cursor {
    Cursor { epoch: Epoch(1), seq: Seq(seq) }
}

fn gaps(text: &str) -> usize {
    text.matches("push.gap").count()
}

/// The record that began it has left the hub's window, so this gateway sees the renewal only.
#[tokio::test(start_paused = true)]
async fn a_membership_said_twice_is_told_at_a_gateway_that_began_later() {
    let from = at(121);
    let mut world = World::begins_after(from, &[("user:ann", "t"), ("user:eve", "t"), ("user:bob", "other")]);
    for _ in 0..3 {
        world.hub.publish(&["topic:t"]); // e1 to e3, at 122 to 124
    }
    world.member("user:ann", "t", true);
    world.hub.publish(&["topic:t"]); // e4, at 126
    world.hub.caught_up();

    let text = world.replay("user=ann", from).await;
    let to = at(124);
    let gap = format!(r#"{{"reason":"UPSTREAM","from":"{from}","to":"{to}","count":"3""#);
    assert!(text.contains("RESUMED") && text.contains(&gap), "{text}");
    assert_eq!((gaps(&text), Events::ids(&text)), (1, vec!["e4".into()]));

    let text = world.replay("user=eve", from).await;
    assert_eq!((gaps(&text), Events::ids(&text).len()), (0, 4), "no record of it lies in the window: {text}");
    let text = world.replay("user=bob", from).await;
    assert_eq!((gaps(&text), Events::ids(&text).len()), (0, 0), "not even the topic is for bob: {text}");
    let text = world.replay("user=ann&topic=t", from).await;
    assert_eq!((gaps(&text), Events::ids(&text).len()), (0, 4), "asked for: {text}");
}

/// What has expired before the gateway began is named nowhere.
#[tokio::test(start_paused = true)]
async fn a_membership_that_expired_before_the_gateway_began_is_told_once_it_is_back() {
    let from = at(0);
    let mut world = World::begins_after(from, &[]);
    world.hub.publish(&["topic:t"]);
    world.hub.caught_up();
    let text = world.replay("user=ann", from).await;
    assert_eq!((gaps(&text), Events::ids(&text).len()), (0, 0), "nobody's: {text}");
    world.member("user:ann", "t", true);
    world.hub.publish(&["topic:t"]);
    let text = world.replay("user=ann", from).await;
    assert_eq!((gaps(&text), Events::ids(&text)), (1, vec!["e2".into()]));
}

/// With a `Progress` of a replay the hub says its present time, and what comes behind it may be older than that by far.
#[tokio::test(start_paused = true)]
async fn what_a_replay_brings_late_is_told_whatever_time_it_is_at_the_hub() {
    for is_replayed in [true, false] {
        let mut world = World::new();
        let expires_at = Some(prost_types::Timestamp { seconds: (NOW_MS / 1_000) as i64 + 5, nanos: 0 });
        let member = Membership { recipient: "user:ann".into(), topic: "t".into(), member: true, expires_at };
        world.hub.record(Kind::Membership(member));
        tokio::time::advance(Duration::from_secs(100)).await;
        let head = world.hub.head;
        if is_replayed {
            world.hub.cut();
            world.hub.welcome(v1::Outcome::Resumed, head);
        }
        world.hub.progress_at(NOW_MS + 100_000);
        world.hub.publish(&["topic:t"]);
        world.hub.caught_up();
        world.member("user:ann", "t", true);
        let text = world.replay("user=ann", head).await;
        assert_eq!((gaps(&text), Events::ids(&text).len()), (usize::from(is_replayed), 0), "{text}");
    }
}

/// The fault: a member who stayed connected was handed a position past what a gateway that was cut off got late, and no gap.
#[tokio::test(start_paused = true)]
async fn what_a_replay_brings_late_is_told_to_a_member_who_stayed_connected() {
    for late_record in [false, true] {
        let mut world = World::new();
        let seconds = (NOW_MS / 1_000) as i64 + 2;
        let expires_at = Some(prost_types::Timestamp { seconds, nanos: 0 });
        let member = Membership { recipient: "user:ann".into(), topic: "t".into(), member: true, expires_at };
        if !late_record {
            world.hub.record(Kind::Membership(member.clone()));
        }
        let mut ann = world.stream("/v1/stream?user=ann").await;
        ann.until("push.caught_up").await;
        world.hub.cut();
        tokio::time::advance(Duration::from_secs(3)).await;
        world.hub.welcome(v1::Outcome::Resumed, world.hub.head);
        if late_record {
            world.hub.record(Kind::Membership(member));
        }
        world.hub.publish(&["topic:t"]);
        world.hub.publish(&["user:ann"]);
        assert_eq!(ann.now().await, "", "the renewal may be still to come");
        world.member("user:ann", "t", true);
        world.hub.caught_up();
        let text = ann.now().await;
        assert_eq!((gaps(&text), Events::ids(&text)), (1, vec!["e2".into()]), "{text}");
    }
}

/// Where nothing has expired of late, a stream that resumes holds nobody back.
#[tokio::test(start_paused = true)]
async fn a_replay_that_finds_every_membership_as_it_was_is_handed_on_at_once() {
    let mut world = World::new();
    world.member("user:ann", "t", true);
    let mut ann = world.stream("/v1/stream?user=ann").await;
    ann.until("push.caught_up").await;
    world.hub.cut();
    tokio::time::advance(Duration::from_secs(3)).await;
    world.hub.welcome(v1::Outcome::Resumed, world.hub.head);
    world.hub.publish(&["topic:t"]);
    assert_eq!(Events::ids(&ann.now().await), ["e1"]);
    world.hub.caught_up();
    world.hub.publish(&["topic:t"]);
    let text = ann.now().await;
    assert_eq!((gaps(&text), Events::ids(&text)), (0, vec!["e2".into()]), "{text}");
}

/// The farewell and the end of the membership arrive together, and one after the other.
#[tokio::test(start_paused = true)]
async fn an_event_just_before_the_end_of_a_membership_reaches_a_member_who_keeps_up() {
    let mut world = World::new();
    let mut ann = world.stream("/v1/stream?user=ann").await;
    ann.until("push.caught_up").await;
    for round in 0..2 {
        world.member("user:ann", "t", true);
        let farewell = Kind::Event(world.hub.event(&["topic:t"], "1"));
        let leaves =
            Membership { recipient: "user:ann".into(), topic: "t".into(), member: false, expires_at: None };
        let kinds = [farewell, Kind::Membership(leaves), Kind::Event(world.hub.event(&["topic:t"], "2"))];
        let frames = kinds.map(|kind| {
            world.hub.head = world.hub.head.next();
            let cursor = world.hub.head.to_string();
            v1::PushEvent { cursor, kind: Some(kind), appended_unix_ms: NOW_MS }
        });
        if round == 0 {
            world.hub.send(&frames);
        } else {
            frames.iter().for_each(|frame| world.hub.send(std::slice::from_ref(frame)));
        }
        assert_eq!(Events::ids(&ann.now().await), [format!("e{}", 2 * round + 1)]);
    }
    // Who takes it later than that is slow, and who comes back later is no member.
    world.member("user:ann", "t", true);
    world.hub.publish(&["topic:t"]);
    world.member("user:ann", "t", false);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(Events::ids(&ann.now().await), [""; 0]);
    let text = world.replay("user=ann", at(0)).await;
    assert_eq!((gaps(&text), Events::ids(&text).len()), (0, 0), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_member_who_was_never_out_loses_nothing_when_the_record_that_grants_changes() {
    for (number, (first, second)) in [
        (("user:u", "game.*"), ("user:u", "game.7")),
        (("user:u", "game.7"), ("user:u", "game.*")),
        (("user:u", "game.7"), ("session:S", "game.7")),
        (("session:S", "game.*"), ("user:u", "g*")),
    ]
    .into_iter()
    .enumerate()
    {
        let mut world = World::with(with_keys());
        let signed = token(&json!({"sub": "u", "sid": "S", "exp": NOW_MS / 1_000 + 600}));
        let from = world.hub.head;
        world.member(first.0, first.1, true);
        world.hub.publish(&["topic:game.7"]); // e1
        world.member(second.0, second.1, true);
        world.member(first.0, first.1, false);
        world.hub.publish(&["topic:game.7"]); // e2
        let path = format!("/v1/stream?cursor={from}");
        let replay = async |world: &World| {
            Events::of(world.ask(with_token(&path, &signed)).await).until("push.caught_up").await
        };
        let text = replay(&world).await;
        assert_eq!((gaps(&text), Events::ids(&text)), (0, vec!["e1".into(), "e2".into()]), "{number}");
        world.member(second.0, second.1, false);
        let text = replay(&world).await;
        assert_eq!((gaps(&text), Events::ids(&text).len()), (0, 0), "{number}: {text}");
    }
}
