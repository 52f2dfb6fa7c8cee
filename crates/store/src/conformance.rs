//! What every store must do, as a test that any of them runs.
//!
//! Called by the tests of each store with a way to make an empty one. [`check`] panics with what is broken; there everything
//! happens within one life. [`check_durable`] is for stores that live on when their process ends: it closes and opens them
//! again; [`check_durable_records`] is its part for those whose positions have holes. What a crash leaves behind, each store has tests of its own for. [`check_fence`] is for stores with several doors.

mod durable;
mod fence;

pub use durable::{check_durable, check_durable_records};
pub use fence::check_fence;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use galaxy_push_core::Now;
use galaxy_push_core::cursor::Cursor;
use galaxy_push_core::frame::{EventView, FrameView, LogKind};
use galaxy_push_core::window::Traits;
use galaxy_push_proto::v1;
use prost::Message as _;
use prost_types::Timestamp;

use crate::standing::Count;
use crate::{Appended, Batch, Committed, Content, Error, Key, Refused, Sink, Store};

/// So often it is asked where the log ends, on a machine that is busy with other things.
const HEADS_MAX: u32 = 60;

const NOW: Now = Now { mono: Duration::from_secs(1), unix_ms: 1_700_000_000_000 };

/// What a sink was told.
#[derive(Debug, Default)]
struct Seen {
    base: Option<Cursor>,
    batches: Vec<Vec<Committed>>,
}

#[derive(Debug, Default)]
struct Recorder(Mutex<Seen>);

impl Recorder {
    fn look<T>(&self, at: impl FnOnce(&mut Seen) -> T) -> T {
        at(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn committed(&self) -> Vec<Committed> {
        self.look(|seen| seen.batches.concat())
    }
}

impl Sink for Recorder {
    fn begin(&self, base: Cursor) {
        self.look(|seen| {
            assert!(seen.batches.is_empty(), "`begin` comes before anything is committed");
            assert_eq!(seen.base.replace(base), None, "`begin` is called once");
        });
    }

    fn committed(&self, batch: &[Committed]) {
        self.look(|seen| {
            assert!(seen.base.is_some(), "`begin` comes before anything is committed");
            assert!(!batch.is_empty(), "an empty batch is not handed on");
            batch.iter().for_each(check_frame);
            seen.batches.push(batch.to_vec());
        });
    }

    fn damaged(&self, from: Cursor, to: Cursor) {
        panic!("nothing was damaged, and yet a gap is told from {from} to {to}");
    }
}

/// What readers are sent says what the sink is told.
fn check_frame(each: &Committed) {
    let frame = FrameView::read(galaxy_push_core::frame::message(&each.frame));
    let frame = frame.unwrap_or_else(|_| panic!("a frame can be read: {each:?}"));
    let has_position = !each.traits.has(Traits::EPHEMERAL);
    let cursor = if has_position { each.cursor.to_string() } else { String::new() };
    assert_eq!((frame.cursor(), frame.appended_unix_ms()), (&*cursor, each.appended_unix_ms));
    assert_eq!(frame.event().is_some(), each.kind == LogKind::Event, "{each:?}");
}

/// A store with the sink that watches it.
struct World {
    sink: Arc<Recorder>,
    store: Arc<dyn Store>,
}

/// Runs the whole suite. `make` opens an empty store that hands what it commits to the given sink; it is called several times, each
/// time for a log of its own.
///
/// # Panics
///
/// When the store breaks a promise.
pub async fn check(make: impl Fn(Arc<dyn Sink>) -> Result<Arc<dyn Store>, Error>) {
    let world = || {
        let sink = Arc::new(Recorder::default());
        let store = make(sink.clone());
        World { store: store.unwrap_or_else(|error| panic!("an empty store opens: {error}")), sink }
    };
    positions_follow_the_base(&world()).await;
    events_arrive_as_they_were_sent(&world()).await;
    a_batch_says_where_it_continues(&world()).await;
    duplicates_answer_the_first_position(&world()).await;
    another_content_under_a_known_key_is_refused_whole(&world()).await;
    keys_belong_to_their_publisher(&world()).await;
    ephemeral_events_have_no_position(&world()).await;
    concurrent_batches_lie_apart(&world()).await;
    records_with_a_key_are_appended_once(&world()).await;
    records_have_positions_and_hold(&world()).await;
}

/// Whether a position is the next one behind another; where positions have holes, whether it lies behind it.
fn is_next(after: Cursor, before: Cursor) -> bool {
    if after.epoch.has_holes() { after.follows(before) } else { after == before.next() }
}

impl World {
    fn base(&self) -> Cursor {
        self.sink.look(|seen| seen.base).unwrap_or_else(|| panic!("`begin` was called"))
    }

    async fn append(&self, events: &[v1::Event]) -> Vec<Appended> {
        let appended = self.store.append(Batch::encode(events, &Arc::default(), NOW)).await;
        appended.unwrap_or_else(|error| panic!("an idle store takes a batch: {error}"))
    }

    async fn append_records(&self, batch: Batch) -> Vec<Appended> {
        let appended = self.store.append(batch).await;
        appended.unwrap_or_else(|error| panic!("an idle store takes records: {error}"))
    }

    /// Where the log ends: a store may ask others, who may be slow.
    async fn head(&self) -> Cursor {
        let mut head = self.store.head().await;
        for _ in 0..HEADS_MAX {
            if head.is_ok() {
                break;
            }
            head = self.store.head().await;
        }
        head.unwrap_or_else(|error| panic!("an idle store knows where its log ends: {error}"))
    }

    async fn append_one(&self, event: v1::Event) -> Appended {
        self.append(&[event]).await[0]
    }
}

fn event(id: &str) -> v1::Event {
    v1::Event {
        to: vec!["user:1".to_owned(), "topic:x".to_owned()],
        id: id.to_owned(),
        r#type: "t".to_owned(),
        source: "/s".to_owned(),
        ..v1::Event::default()
    }
}

async fn positions_follow_the_base(world: &World) {
    let base = world.base();
    assert_eq!(base, Cursor::start(base.epoch), "an empty log has given out no position");
    assert!(world.append(&[]).await.is_empty());
    let first = world.append_one(event("a")).await;
    let second = world.append_one(event("b")).await;
    assert!(!first.duplicate && !second.duplicate);
    assert!(first.cursor.is_some_and(|first| is_next(first, base)), "{first:?} behind {base}");
    assert!(
        second.cursor.zip(first.cursor).is_some_and(|(second, first)| is_next(second, first)),
        "{second:?}"
    );
    let seen: Vec<_> = world.sink.committed().iter().map(|event| Some(event.cursor)).collect();
    assert_eq!(seen, [first.cursor, second.cursor], "the sink has what was acknowledged");
    assert_eq!(Some(world.head().await), second.cursor, "the head is the last position given out");
}

async fn events_arrive_as_they_were_sent(world: &World) {
    let mut sent = event("a");
    sent.data = "{\"n\":1}".into();
    sent.ttl = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    sent.attributes.insert("traceparent".to_owned(), "00".to_owned());
    world.append(&[sent.clone(), event("b")]).await;
    let seen = world.sink.committed();
    assert_eq!(v1::Event::decode(seen[0].message()).as_ref(), Ok(&sent));
    let recipients: Vec<_> = EventView::of(seen[0].message()).recipients().collect();
    assert_eq!(recipients, sent.to, "`to` is first");
    assert_eq!(seen[0].appended_unix_ms, NOW.unix_ms);
    assert!(seen[0].traits.has(Traits::EXPIRES) && !seen[1].traits.has(Traits::EXPIRES));
}

async fn a_batch_says_where_it_continues(world: &World) {
    world.append(&[event("a"), event("b"), event("a"), event("c"), event("b")]).await;
    world.append_one(event("d")).await;
    let committed = world.sink.committed();
    let continues: Vec<_> = committed.iter().map(|event| event.traits.has(Traits::CONTINUES)).collect();
    assert_eq!(continues, [true, true, false, false], "all but the last of a batch that was appended");
}

async fn duplicates_answer_the_first_position(world: &World) {
    let first = world.append_one(event("a")).await;
    let again = world.append_one(event("a")).await;
    assert_eq!(again, Appended { duplicate: true, ..first });
    let other_source = world.append_one(v1::Event { source: "/other".to_owned(), ..event("a") }).await;
    assert!(!other_source.duplicate, "an id is unique for its source only");
    let batch = world.append(&[event("b"), event("b"), event("a")]).await;
    assert_eq!(batch.iter().map(|each| each.duplicate).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!((batch[0].cursor, batch[2].cursor), (batch[1].cursor, first.cursor));
    assert_eq!(world.sink.committed().len(), 3, "a duplicate is not appended");
}

async fn another_content_under_a_known_key_is_refused_whole(world: &World) {
    let sent = v1::Event { data: "1".into(), ..event("a") };
    let first = world.append_one(sent.clone()).await;
    let again = v1::Event {
        to: vec!["topic:x".to_owned(), "user:1".to_owned(), "topic:x".to_owned()],
        time: Some(Timestamp { seconds: 9, nanos: 0 }),
        ttl: Some(prost_types::Duration { seconds: 9, nanos: 0 }),
        attributes: [("traceparent".to_owned(), "01".to_owned())].into(),
        ..sent.clone()
    };
    assert_eq!(world.append_one(again).await, Appended { duplicate: true, ..first }, "the same once more");
    for other in [
        v1::Event { data: "2".into(), ..sent.clone() },
        v1::Event { r#type: "u".to_owned(), ..sent.clone() },
        v1::Event { to: vec!["user:1".to_owned()], ..sent.clone() },
    ] {
        let batch = Batch::encode(&[event("new"), other.clone()], &Arc::default(), NOW);
        let refused = world.store.append(batch).await;
        assert_eq!(refused, Err(Refused::IdReused { item: Some(1) }.into()), "{other:?}");
    }
    let twice = [event("b"), event("c"), v1::Event { data: "2".into(), ..event("b") }];
    let refused = world.store.append(Batch::encode(&twice, &Arc::default(), NOW)).await;
    assert_eq!(refused, Err(Refused::IdReused { item: Some(2) }.into()));
    assert_eq!(world.sink.committed().len(), 1, "nothing of a refused batch is appended");
    assert!(!world.append_one(event("new")).await.duplicate, "nor remembered");
}

async fn keys_belong_to_their_publisher(world: &World) {
    let publish = async |name: &str, event: v1::Event| {
        let appended = world.store.append(Batch::encode(&[event], &name.into(), NOW)).await;
        appended.unwrap_or_else(|error| panic!("one publisher's ids are nobody else's: {error}"))[0]
    };
    let other = v1::Event { data: "2".into(), ..event("a") };
    let firsts =
        [publish("a", event("a")).await, publish("b", other.clone()).await, publish("", event("a")).await];
    assert!(firsts.iter().all(|first| !first.duplicate), "{firsts:?}");
    assert_eq!(publish("a", event("a")).await, Appended { duplicate: true, ..firsts[0] });
    assert_eq!(publish("b", other).await, Appended { duplicate: true, ..firsts[1] });
}

async fn records_with_a_key_are_appended_once(world: &World) {
    let member = |topic: &str| v1::Membership {
        recipient: "user:1".to_owned(),
        topic: topic.to_owned(),
        member: true,
        expires_at: None,
    };
    let key = |content: &str| Some((Key::new(&Arc::default(), "/s", "r"), Content::of([content.as_bytes()])));
    let batch = Batch::memberships(&[member("a"), member("b")], NOW);
    let first = world.append_records(batch.clone().with_key(key("ab"))).await;
    let again = world.append_records(batch.clone().with_key(key("ab"))).await;
    assert_eq!(again.last().map(|last| (last.cursor, last.duplicate)), Some((first[1].cursor, true)));
    let refused = world.store.append(batch.clone().with_key(key("a"))).await;
    assert_eq!(refused, Err(Refused::IdReused { item: None }.into()));
    assert_eq!(world.sink.committed().len(), 2);
    assert!(!world.append_records(batch).await[1].duplicate, "without a key it is said again");
}

async fn ephemeral_events_have_no_position(world: &World) {
    let ephemeral = |id| v1::Event { ephemeral: true, ..event(id) };
    let alone = world.append_one(ephemeral("a")).await;
    let batch = world.append(&[event("b"), ephemeral("c"), event("d")]).await;
    assert_eq!(alone, Appended { cursor: None, duplicate: false });
    let cursors: Vec<_> = batch.iter().map(|each| each.cursor).collect();
    let [Some(b), None, Some(d)] = cursors[..] else { panic!("{cursors:?}") };
    assert!(is_next(b, world.base()) && is_next(d, b), "{cursors:?}");
    assert_eq!(world.append_one(ephemeral("c")).await, Appended { cursor: None, duplicate: true });
    let seen: Vec<_> = world
        .sink
        .committed()
        .iter()
        .map(|event| (event.cursor, event.traits.has(Traits::EPHEMERAL)))
        .collect();
    assert_eq!(seen, [(world.base(), true), (b, false), (b, true), (d, false)]);
}

async fn concurrent_batches_lie_apart(world: &World) {
    let batches: Vec<Vec<_>> =
        (0..20).map(|b| (0..5).map(|e| event(&format!("{b}.{e}"))).collect()).collect();
    let results = join_all(batches.iter().map(|batch| world.append(batch))).await;
    let seen: Vec<_> = world.sink.committed().iter().map(|each| each.cursor).collect();
    assert_eq!(seen.len(), 100);
    for appended in &results {
        let cursors: Vec<_> = appended.iter().filter_map(|each| each.cursor).collect();
        assert!(seen.windows(5).any(|five| five == cursors), "a batch is contiguous: {cursors:?}");
    }
    assert!(is_next(seen[0], world.base()));
    let is_in_order = |pair: &[Cursor]| is_next(pair[1], pair[0]);
    assert!(seen.windows(2).all(is_in_order), "the sink is called in the order of the log: {seen:?}");
}

async fn records_have_positions_and_hold(world: &World) {
    let member = |topic: &str, member| v1::Membership {
        recipient: "user:1".to_owned(),
        topic: topic.to_owned(),
        member,
        expires_at: None,
    };
    let void = v1::SessionInvalidation {
        recipient: "session:s".to_owned(),
        issued_before: Some(Timestamp { seconds: 1_700_000_000, nanos: 0 }),
        expires_at: Some(Timestamp { seconds: 1_700_000_100, nanos: 0 }),
        ..v1::SessionInvalidation::default()
    };
    let said = [member("a", true), member("b", true), member("a", true), member("b", false)];
    let first = world.append_one(event("e")).await;
    let members = world.append_records(Batch::memberships(&said, NOW)).await;
    let voided = world.append_records(Batch::invalidation(&void, NOW)).await;
    let mut before = first.cursor;
    for each in members.iter().chain(&voided) {
        let has_place = each.cursor.zip(before).is_some_and(|(cursor, before)| is_next(cursor, before));
        assert!(
            has_place && !each.duplicate,
            "a record has a position of its own: {each:?} behind {before:?}"
        );
        before = each.cursor;
    }
    let seen = world.sink.committed();
    let kinds: Vec<_> = seen.iter().map(|each| each.kind).collect();
    let (event, member) = (LogKind::Event, LogKind::Membership);
    assert_eq!(kinds, [event, member, member, member, member, LogKind::SessionInvalidation]);
    assert!(seen[1..].iter().all(|each| each.traits.has(Traits::STANDING)));
    assert!(seen[1..4].iter().all(|each| each.traits.has(Traits::CONTINUES)), "they are one batch");
    assert_eq!(v1::Membership::decode(seen[4].message()).as_ref(), Ok(&said[3]));

    let message = |index: usize| Bytes::copy_from_slice(seen[index].message());
    let page = world.store.standing(None, 1, 0, NOW.unix_ms);
    assert_eq!(page.records, [(LogKind::SessionInvalidation, message(5))], "one at least");
    let rest = world.store.standing(page.next.as_ref(), 1 << 20, 0, NOW.unix_ms);
    assert_eq!((rest.records, rest.next), (vec![(member, message(3))], None));
    let count = |unix_ms| world.store.standing_count(unix_ms);
    assert_eq!(count(NOW.unix_ms), Count { invalidations: 1, memberships: 1 });
    assert_eq!(count(NOW.unix_ms + 100_000), Count { invalidations: 0, memberships: 1 }, "it has expired");
}
