//! What a store that outlives its process must do, as a test: it is closed, opened again, and has forgotten nothing.

use std::sync::Arc;
use std::time::Duration;

use galaxy_push_core::Now;
use galaxy_push_core::cursor::Cursor;
use galaxy_push_core::frame::LogKind;
use galaxy_push_core::window::Traits;
use galaxy_push_proto::v1;
use prost_types::Timestamp;

use super::{NOW, Recorder, World, event};
use crate::standing::Count;
use crate::{Appended, Batch, Committed, Content, Error, Key, Refused, Sink, Store};

/// Runs the suite. `place` makes a place without a log, of which several are needed; `open` opens the log there, and must
/// find what an earlier store, dropped by then, has left.
///
/// # Panics
///
/// When the store breaks a promise.
pub async fn check_durable<P>(
    place: impl Fn() -> P,
    open: impl Fn(&P, Arc<dyn Sink>) -> Result<Arc<dyn Store>, Error>,
) {
    let open = opening(open);
    everything_is_there_again(&open, &place()).await;
    an_empty_log_keeps_its_epoch(&open, &place());
    duplicates_are_recognised_in_the_next_life(&open, &place()).await;
    keys_are_forgotten_by_their_age_in_all_lives(&open, &place()).await;
    many_lives_are_one_log(&open, &place()).await;
    hold_records(&open, &place).await;
}

/// As [`check_durable`], of standing records only.
///
/// # Panics
///
/// When the store breaks a promise.
pub async fn check_durable_records<P>(
    place: impl Fn() -> P,
    open: impl Fn(&P, Arc<dyn Sink>) -> Result<Arc<dyn Store>, Error>,
) {
    hold_records(&opening(open), &place).await;
}

async fn hold_records<P>(open: &impl Fn(&P) -> World, place: &impl Fn() -> P) {
    records_hold_in_the_next_life(&open, &place()).await;
}

/// Opens a world at a place.
fn opening<P>(open: impl Fn(&P, Arc<dyn Sink>) -> Result<Arc<dyn Store>, Error>) -> impl Fn(&P) -> World {
    move |place: &P| {
        let sink = Arc::new(Recorder::default());
        let store = open(place, sink.clone());
        World { store: store.unwrap_or_else(|error| panic!("a log opens again: {error}")), sink }
    }
}

/// What a reader of the log is sent: what is for live readers only has no next life.
fn entries(world: &World) -> Vec<Committed> {
    let seen = world.sink.committed();
    seen.into_iter().filter(|each| !each.traits.has(Traits::EPHEMERAL)).collect()
}

fn later(seconds: u64) -> Now {
    Now { mono: NOW.mono + Duration::from_secs(seconds), unix_ms: NOW.unix_ms + 1_000 * seconds }
}

async fn publish(world: &World, batch: Batch) -> Appended {
    match world.store.append(batch).await {
        Ok(appended) => appended[0],
        Err(error) => panic!("it is taken: {error}"),
    }
}

async fn everything_is_there_again<P>(open: &impl Fn(&P) -> World, place: &P) {
    let first = open(place);
    let expiring = v1::Event { ttl: Some(prost_types::Duration { seconds: 9, nanos: 0 }), ..event("a") };
    let binary = v1::Event { data: vec![0; 3_000].into(), ..event("zeros") };
    let live = v1::Event { ephemeral: true, ..event("live") };
    first.append(&[expiring, event("b"), live.clone()]).await;
    first.append(&[binary, live, event("c"), event("b")]).await;
    let (held, base, head) = (entries(&first), first.base(), first.head().await);
    drop(first);
    let second = open(place);
    assert_eq!(second.base(), base, "the same epoch, from its beginning");
    assert_eq!(second.head().await, head);
    let again = entries(&second);
    assert_eq!(again.len(), held.len());
    for (before, after) in held.iter().zip(&again) {
        // What is for live readers only is gone, and may have been the end of its batch.
        let whole =
            |each: &Committed| Committed { traits: each.traits.with(Traits::CONTINUES), ..each.clone() };
        assert_eq!(whole(before), whole(after));
    }
    let is_end = |each: &Committed| !each.traits.has(Traits::CONTINUES);
    assert!(again.last().is_some_and(is_end), "the end is the end of a batch");
    let next = second.append_one(event("d")).await;
    assert_eq!(next.cursor, Some(head.next()), "no position is used twice");
}

fn an_empty_log_keeps_its_epoch<P>(open: &impl Fn(&P) -> World, place: &P) {
    let base = open(place).base();
    assert_eq!(open(place).base(), base, "whoever has seen the epoch finds it again");
}

async fn duplicates_are_recognised_in_the_next_life<P>(open: &impl Fn(&P) -> World, place: &P) {
    let (recipient, topic) = ("user:1".to_owned(), "t".to_owned());
    let member = v1::Membership { recipient, topic, member: true, expires_at: None };
    let key = Some((Key::new(&Arc::default(), "/s", "r"), Content::of([&b"r"[..]])));
    let records = Batch::memberships(&[member], NOW).with_key(key);
    let ephemeral = v1::Event { ephemeral: true, ..event("live") };
    let of = |name: &str, event: v1::Event| Batch::encode(&[event], &name.into(), NOW);
    let first = open(place);
    let batches = [of("", event("a")), of("p", event("a")), of("p", ephemeral), records];
    let mut firsts = Vec::new();
    for batch in &batches {
        firsts.push(publish(&first, batch.clone()).await);
    }
    drop(first);
    let second = open(place);
    for (batch, first) in batches.iter().zip(&firsts) {
        let again = publish(&second, batch.clone()).await;
        assert_eq!(again, Appended { duplicate: true, ..*first }, "{batch:?}");
    }
    let other = v1::Event { data: "2".into(), ..event("a") };
    let refused = second.store.append(of("p", other)).await;
    assert_eq!(refused, Err(Refused::IdReused { item: Some(0) }.into()), "nor another content for the first");
    assert!(!publish(&second, of("q", event("a"))).await.duplicate, "keys still belong to their publisher");
}

async fn keys_are_forgotten_by_their_age_in_all_lives<P>(open: &impl Fn(&P) -> World, place: &P) {
    let of = |id: &str, now: Now| Batch::encode(&[event(id)], &Arc::default(), now);
    let first = open(place);
    assert!(!publish(&first, of("a", later(0))).await.duplicate);
    assert!(!publish(&first, of("b", later(100))).await.duplicate);
    drop(first);
    // Monotonic time begins anew with each life; the log's own clock goes on.
    let second = open(place);
    let at = |mono: u64, seconds: u64| Now { mono: Duration::from_secs(mono), ..later(seconds) };
    assert!(publish(&second, of("a", at(0, 119))).await.duplicate);
    assert!(!publish(&second, of("a", at(4, 123))).await.duplicate);
    drop(second);
    let third = open(place);
    assert!(publish(&third, of("b", at(0, 219))).await.duplicate, "each by its own age");
    assert!(!publish(&third, of("b", at(4, 223))).await.duplicate);
    assert!(publish(&third, of("a", at(5, 224))).await.duplicate);
}

async fn records_hold_in_the_next_life<P>(open: &impl Fn(&P) -> World, place: &P) {
    let member = |topic: &str, member| v1::Membership {
        recipient: "user:1".to_owned(),
        topic: topic.to_owned(),
        member,
        expires_at: None,
    };
    let void = |seconds: i64| v1::SessionInvalidation {
        recipient: "user:1".to_owned(),
        issued_before: Some(Timestamp { seconds: 1_700_000_000 + seconds, nanos: 0 }),
        expires_at: Some(Timestamp { seconds: 1_700_000_200 - 10 * seconds, nanos: 0 }),
        ..v1::SessionInvalidation::default()
    };
    let first = open(place);
    let said = [member("a", true), member("b", true), member("b", false)];
    first.append_records(Batch::memberships(&said, NOW).sharing_room(Some("p"))).await;
    // More than are held of one user: two become one.
    for seconds in 1..=10 {
        first.append_records(Batch::invalidation(&void(seconds), NOW)).await;
    }
    let page = |world: &World| world.store.standing(None, 1 << 20, 0, NOW.unix_ms);
    let fill = |world: &World| world.store.standing_fill(LogKind::Membership, Some("p"), NOW.unix_ms);
    let (held, filled) = (page(&first), fill(&first));
    assert_eq!((held.records.len(), filled.held), (9, 1));
    drop(first);
    let second = open(place);
    assert_eq!((page(&second), fill(&second)), (held, filled), "what holds, and in whose share of the room");
    let count = second.store.standing_count(NOW.unix_ms + 1_000_000);
    assert_eq!(count, Count { invalidations: 0, memberships: 1 }, "until it expires");
}

async fn many_lives_are_one_log<P>(open: &impl Fn(&P) -> World, place: &P) {
    let mut expected = Vec::new();
    for life in 0..6_u64 {
        let world = open(place);
        assert_eq!(entries(&world), expected);
        if life % 3 == 2 {
            continue; // a life in which nothing is published
        }
        for n in 0..=life {
            world.append(&[event(&format!("{life}.{n}")), event(&format!("{life}.{n}+"))]).await;
        }
        expected = entries(&world);
    }
    let mut cursor = Cursor::start(expected[0].cursor.epoch);
    for each in &expected {
        cursor = cursor.next();
        assert_eq!(each.cursor, cursor, "one position behind the other, through all lives");
    }
}
