//! Standing records of several hubs: acknowledged is what is in the log and in the bucket, and holds at every hub, in every life.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, Weak};

use async_nats::jetstream;
use async_nats::jetstream::stream::Stream;
use galaxy_push_core::cursor::Epoch;
use galaxy_push_store::nats::standing::{Value, key};
use galaxy_push_store::nats::{ClaimBounds, Door, HubId, Limits, Settings as DoorSettings};
use galaxy_push_store::standing::{Count, Matter};
use galaxy_push_store::{Content, DedupBounds, Key};
use galaxy_push_testkit::broker::Way;
use prost_types::Timestamp;
use tokio::time::Instant;

use super::*;

const NOW_MS: u64 = 1_700_000_000_000;
const NOW: Now = Now { mono: Duration::ZERO, unix_ms: NOW_MS };
const BUCKET: &str = "KV_p-default-standing";

/// The tokens of this user are void, for 100 s; with this id of the request.
pub(super) fn revoke(user: &str, id: &str) -> Batch {
    let from_now = |seconds| Some(Timestamp { seconds: NOW_MS.cast_signed() / 1_000 + seconds, nanos: 0 });
    let record = v1::SessionInvalidation {
        recipient: format!("user:{user}"),
        issued_before: from_now(0),
        expires_at: from_now(100),
        ..v1::SessionInvalidation::default()
    };
    Batch::invalidation(&record, NOW).with_key(Some((named(id), Content::of([id.as_bytes()]))))
}

fn named(id: &str) -> Key {
    Key::new(&Arc::default(), "/s", id)
}

fn member(topic: &str, member: bool) -> Batch {
    let (recipient, topic) = ("user:1".to_owned(), topic.to_owned());
    Batch::memberships(&[v1::Membership { recipient, topic, member, expires_at: None }], NOW)
}

fn tokens(user: &str) -> Matter {
    Matter::Tokens(format!("user:{user}").into())
}

async fn context(broker: &Broker) -> jetstream::Context {
    jetstream::new(async_nats::connect(broker.url()).await.unwrap())
}

/// What the bucket has of a matter.
async fn stands(bucket: &Stream, matter: &Matter) -> Option<Value> {
    let under = key(matter);
    let found = bucket.get_last_raw_message_by_subject(&format!("$KV.p-default-standing.{under}")).await;
    Some(Value::read(&under, &found.ok()?.payload).unwrap())
}

/// Waits until the bucket has this of a matter.
async fn until_stands(bucket: &Stream, matter: &Matter, is_so: impl Fn(Option<Value>) -> bool) {
    let waited = timeout(PATIENCE, async {
        while !is_so(stands(bucket, matter).await) {
            tokio::task::yield_now().await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("the bucket never has what is said of {matter:?}"));
}

/// Records that hold.
fn held(hub: &Hub) -> Vec<(LogKind, bytes::Bytes)> {
    hub.store.standing(None, 1 << 20, 0, NOW_MS).records
}

fn count(hub: &Hub) -> (usize, usize) {
    let Count { invalidations, memberships } = hub.store.standing_count(NOW_MS);
    (invalidations, memberships)
}

/// Publishes until it is acknowledged, as publishers do.
pub(super) async fn say(hub: &Hub, batch: &Batch) -> Appended {
    loop {
        match hub.store.append(batch.clone()).await {
            Ok(appended) => return *appended.last().unwrap(),
            Err(error) => assert!(is_passing(&error), "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_hold_in_the_next_life_of_a_hub() {
    let Some(broker) = broker() else { return };
    let lives = AtomicU64::new(0);
    let place = || format!("log{}", lives.fetch_add(1, Ordering::Relaxed));
    let open = |prefix: &String, sink| {
        let opening = NatsStore::open(options(&broker, prefix), sink);
        let opened = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(opening));
        Ok(Arc::new(opened.unwrap()) as Arc<dyn Store>)
    };
    conformance::check_durable_records(place, open).await;
}

/// Whether the log still has it, has let go of it, or is another log by now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_hub_is_told_holds_at_the_others_and_when_the_log_is_gone() {
    let Some(broker) = broker() else { return };
    let (a, b) = (Hub::open(options(&broker, "p")).await, Hub::open(options(&broker, "p")).await);
    let first = say(&a, &revoke("1", "r1")).await;
    say(&a, &member("x", true)).await;
    say(&b, &member("y", true)).await;
    let last = say(&b, &member("y", false)).await;
    for hub in [&a, &b] {
        hub.window.until("the records are read", |seen| seen.end == last.cursor).await;
        assert_eq!(count(hub), (1, 1));
    }
    let again = say(&b, &revoke("1", "r1")).await;
    assert_eq!(again, Appended { duplicate: true, ..first }, "what another hub was told is known");
    let other = Batch { key: Some((named("r1"), Content::of([&b"other"[..]]))), ..revoke("1", "r1") };
    let refused = b.store.append(other).await;
    assert_eq!(refused, Err(Refused::IdReused { item: None }.into()));
    let expected = held(&a);
    assert_eq!(held(&b), expected);
    drop((a, b));

    let context = context(&broker).await;
    context.get_stream("p-default").await.unwrap().purge().await.unwrap();
    let late = Hub::open(options(&broker, "p")).await;
    assert_eq!((held(&late), late.window.log().len()), (expected.clone(), 0), "the log has let go of them");
    drop(late);
    context.delete_stream("p-default").await.unwrap();
    let next = Hub::open(options(&broker, "p")).await;
    assert_eq!(held(&next), expected, "in another log too");
    assert!(next.window.look(|seen| seen.base.unwrap().epoch) != first.cursor.unwrap().epoch);
    say(&next, &member("x", false)).await;
    say(&next, &revoke("2", "r2")).await;
    assert_eq!(count(&next), (2, 0), "and this one has the last word");
    drop(next);
    context.get_stream("p-default").await.unwrap().purge().await.unwrap();
    assert_eq!(count(&Hub::open(options(&broker, "p")).await), (2, 0));
}

/// A hub that dies when its record is in the log, and before the bucket has it.
async fn half_said(broker: &Broker, batch: Batch) -> Cursor {
    let context = context(broker).await;
    let mut stream = context.get_stream("p-default").await.unwrap();
    let info = stream.info().await.unwrap();
    let epoch: Epoch = info.config.metadata["galaxy-push-epoch"].parse().unwrap();
    let mut door = Door::new(DoorSettings {
        epoch,
        hub: HubId(ambient().random_128()),
        first: info.state.last_sequence + 1,
        dedup: DedupBounds::default(),
        claims: ClaimBounds::default(),
        limits: Limits::default(),
    });
    door.caught_up(&mut Vec::new());
    door.offer(batch, (), Duration::ZERO);
    let payload = door.seal(Duration::ZERO).unwrap().payload;
    let ack = context.publish("p.default.log", payload).await.unwrap().await.unwrap();
    Cursor::in_message(epoch, ack.sequence, 0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_hub_that_died_has_only_begun_to_say_others_write_down() {
    let Some(broker) = broker() else { return };
    let hub = Hub::open(options(&broker, "p")).await;
    let cursor = half_said(&broker, revoke("1", "r1")).await;
    hub.window.until("it is read", |seen| seen.end == Some(cursor)).await;
    assert_eq!(count(&hub), (1, 0), "it holds");
    let bucket = context(&broker).await.get_stream(BUCKET).await.unwrap();
    until_stands(&bucket, &tokens("1"), |value| value.is_some_and(|value| value.at == cursor)).await;
    // Whoever repeats it at once finds it out, and has it done.
    let cursor = half_said(&broker, revoke("2", "r2")).await;
    hub.window.until("it is read", |seen| seen.end == Some(cursor)).await;
    let again = say(&hub, &revoke("2", "r2")).await;
    assert_eq!(again, Appended { cursor: Some(cursor), duplicate: true });
    assert_eq!(stands(&bucket, &tokens("2")).await.map(|value| value.at), Some(cursor));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_bucket_takes_nothing_nothing_is_known_and_a_repeat_finds_out() {
    let Some(broker) = broker() else { return };
    let hub = Hub::open(options(&broker, "p")).await;
    say(&hub, &revoke("1", "r1")).await;
    let context = context(&broker).await;
    let bucket = context.get_stream(BUCKET).await.unwrap();
    let config = bucket.cached_info().config.clone();
    let full = jetstream::stream::Config { max_messages: 2, ..config.clone() };
    context.update_stream(full).await.unwrap();
    let asked = Instant::now();
    let unknown = hub.store.append(revoke("2", "r2")).await;
    assert!(matches!(&unknown, Err(Error::Unknown(why)) if why.contains("maximum")), "{unknown:?}");
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    assert_eq!((count(&hub), hub.window.log().len()), ((2, 0), 2), "it holds, though nobody was told so");
    assert_eq!(stands(&bucket, &tokens("2")).await, None);
    hub.publish("events are not concerned").await;
    context.update_stream(config).await.unwrap();
    let again = say(&hub, &revoke("2", "r2")).await;
    assert!(again.duplicate, "{again:?}");
    assert_eq!(stands(&bucket, &tokens("2")).await.map(|value| value.at), again.cursor);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_of_records_that_somebody_removed_is_made_and_filled_again() {
    let Some(broker) = broker() else { return };
    let (a, b) = (Hub::open(options(&broker, "p")).await, Hub::open(options(&broker, "p")).await);
    let first = say(&a, &revoke("1", "r1")).await;
    say(&a, &member("x", true)).await;
    let context = context(&broker).await;
    context.delete_stream(BUCKET).await.unwrap();
    say(&b, &revoke("2", "r2")).await;
    let bucket = context.get_stream(BUCKET).await.unwrap();
    until_stands(&bucket, &tokens("1"), |value| value.is_some_and(|value| Some(value.at) == first.cursor))
        .await;
    let membership = Matter::Membership("user:1".into(), "x".into());
    until_stands(&bucket, &membership, |value| value.is_some()).await;
    let expected = held(&b);
    drop((a, b));
    context.get_stream("p-default").await.unwrap().purge().await.unwrap();
    assert_eq!(held(&Hub::open(options(&broker, "p")).await), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hubs_that_write_at_once_lose_nothing_of_each_other() {
    const EACH: usize = 300;
    let Some(mut broker) = broker() else { return };
    let (a, b) = (Hub::open(options(&broker, "p")).await, Hub::open(options(&broker, "p")).await);
    let all = async |hub: &Hub, name: &str| {
        let each = (0..EACH).map(|n| {
            let (user, topic) = (format!("{}", n % 40), format!("{}", n % 7));
            let batch =
                if n % 3 == 0 { revoke(&user, &format!("{name}{n}")) } else { member(&topic, n % 2 == 0) };
            async move { say(hub, &batch).await }
        });
        stream::iter(each).buffer_unordered(50).count().await
    };
    let kill = async {
        a.window.until("records are appended", |seen| seen.entries.len() > EACH).await;
        broker.kill();
        tokio::task::block_in_place(|| broker.restart()).unwrap();
    };
    let (of_a, of_b, ()) = tokio::join!(all(&a, "a"), all(&b, "b"), kill);
    assert_eq!((of_a, of_b), (EACH, EACH));
    let end = a.store.head().await.unwrap();
    for hub in [&a, &b] {
        hub.window.until("the log is read to its end", |seen| seen.end == Some(end)).await;
    }
    let expected = held(&a);
    assert_eq!((held(&b), expected.len() >= 40), (expected.clone(), true));
    drop((a, b));
    context(&broker).await.get_stream("p-default").await.unwrap().purge().await.unwrap();
    assert_eq!(held(&Hub::open(options(&broker, "p")).await), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_room_for_a_record_is_refused_before_anything_is_appended() {
    let Some(broker) = broker() else { return };
    let mut few = options(&broker, "p");
    few.records_max = 1;
    let hub = Hub::open(few).await;
    let first = say(&hub, &revoke("1", "r1")).await;
    let refused = hub.store.append(revoke("2", "r2")).await;
    assert!(matches!(refused, Err(Error::Refused(Refused::StandingFull(_)))), "{refused:?}");
    assert_eq!(say(&hub, &revoke("1", "r1")).await, Appended { duplicate: true, ..first }, "it has its room");
    say(&hub, &member("x", true)).await;
    assert_eq!((hub.window.log().len(), count(&hub)), (2, (1, 1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_expired_leaves_the_bucket() {
    let Some(broker) = broker() else { return };
    static CLOCK: AtomicU64 = AtomicU64::new(NOW_MS);
    let random = ambient();
    let mut asked = options(&broker, "p");
    asked.ambient = Ambient::new(|| CLOCK.load(Ordering::Relaxed), move || random.random());
    let hub = Hub::open(asked).await;
    say(&hub, &revoke("1", "r1")).await;
    say(&hub, &member("x", true)).await;
    CLOCK.store(NOW_MS + 103_000, Ordering::Relaxed);
    let bucket = context(&broker).await.get_stream(BUCKET).await.unwrap();
    until_stands(&bucket, &tokens("1"), |value| value.is_none()).await;
    let membership = Matter::Membership("user:1".into(), "x".into());
    assert!(stands(&bucket, &membership).await.is_some(), "it has no end");
}

/// Looks how many records hold when it is told that something is lost.
#[derive(Default)]
struct Asking {
    store: OnceLock<Weak<NatsStore>>,
    counts: watch::Sender<Option<Count>>,
}

impl Sink for Asking {
    fn begin(&self, _: Cursor) {}

    fn committed(&self, _: &[Committed]) {}

    fn damaged(&self, _: Cursor, _: Cursor) {
        let store = self.store.get().and_then(Weak::upgrade).unwrap();
        self.counts.send_replace(Some(store.standing_count(NOW_MS)));
    }
}

/// What a hub has missed of the log it has missed of the records in it. Who is told of the hole is told what holds behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_has_missed_records_knows_them_before_it_tells_of_the_hole() {
    misses_records(Some("behind it")).await;
}

/// Nobody publishes any more: it is the leader alone that can tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_has_missed_records_knows_them_though_nothing_comes_behind_the_hole() {
    misses_records(None).await;
}

async fn misses_records(behind: Option<&str>) {
    let Some(broker) = broker() else { return };
    let way = Way::to(&broker).unwrap();
    let mut by_way = options(&broker, "p");
    by_way.servers = vec![way.url()];
    let (gone, is_gone) = (watch::Sender::new(false), Arc::new(Asking::default()));
    let mut cut = gone.subscribe();
    by_way.on_notice = Some(Arc::new(move |notice| {
        if *notice == Notice::Disconnected {
            gone.send_replace(true);
        }
    }));
    let (asking, b) = (is_gone, Hub::open(options(&broker, "p")).await);
    let a = Arc::new(NatsStore::open(by_way, asking.clone()).await.unwrap());
    asking.store.set(Arc::downgrade(&a)).unwrap();
    way.cut();
    timeout(PATIENCE, cut.wait_for(|is_gone| *is_gone)).await.unwrap().unwrap();
    say(&b, &revoke("1", "r1")).await;
    context(&broker).await.get_stream("p-default").await.unwrap().purge().await.unwrap();
    if let Some(id) = behind {
        b.publish(id).await;
    }
    way.mend();
    let mut told = asking.counts.subscribe();
    let told = timeout(PATIENCE, told.wait_for(Option::is_some)).await.unwrap().unwrap();
    assert_eq!(*told, Some(Count { invalidations: 1, memberships: 0 }));
}
