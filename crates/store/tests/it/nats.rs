//! The store on a real broker: it keeps what every store promises, hubs agree, and it says what it cannot keep. Left out, and said, where
//! there is no nats-server.

mod broken;
mod cluster;
mod fence;
mod secure;
mod settings;
mod standing;

use std::collections::HashMap;
use std::future::ready;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{self, StreamExt as _};
use galaxy_push_core::Now;
use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::cursor::Cursor;
use galaxy_push_core::frame::LogKind;
use galaxy_push_proto::v1;
use galaxy_push_store::fence::{Question, Stream};
use galaxy_push_store::jetstream::{Notice, OpenError, Options};
use galaxy_push_store::{
    Appended, Batch, Committed, Error, Holder, NatsStore, Refused, Sink, Store, conformance,
};
use galaxy_push_testkit::broker::{self, Broker, Settings};
use tokio::sync::watch;
use tokio::time::timeout;

/// How long anything may take, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(180);

/// A broker that syncs before it acknowledges, or nothing where there is none.
fn broker() -> Option<Broker> {
    let program: PathBuf = broker::program()?;
    Some(Broker::start(&program, &Settings::default()).unwrap())
}

/// Different numbers each time, in each process.
fn ambient() -> Ambient {
    use std::hash::{BuildHasher as _, RandomState};
    Ambient::new(|| 1_700_000_000_000, || RandomState::new().hash_one(0))
}

fn options(broker: &Broker, prefix: &str) -> Options {
    let mut options = Options::new(vec![broker.url()], ambient());
    prefix.clone_into(&mut options.prefix);
    options
}

/// What a hub's window is told, and what its operator is.
#[derive(Default)]
struct Seen {
    base: Option<Cursor>,
    entries: Vec<Committed>,
    /// How many of them were there before.
    restored: usize,
    gaps: Vec<(Cursor, Cursor)>,
    end: Option<Cursor>,
    notices: Vec<Notice>,
    death: Option<String>,
    /// Takeovers and events, one after the other.
    happened: Vec<Happened>,
    /// The instances that have a stream here.
    streams: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Happened {
    Taken(String, Box<Holder>),
    Committed(String),
}

/// A window that forgets nothing. It rings when anything happens.
struct Window {
    seen: Mutex<Seen>,
    bell: watch::Sender<()>,
}

impl Default for Window {
    fn default() -> Self {
        Self { seen: Mutex::default(), bell: watch::Sender::new(()) }
    }
}

impl Window {
    fn look<T>(&self, at: impl FnOnce(&mut Seen) -> T) -> T {
        at(&mut self.seen.lock().unwrap())
    }

    fn change(&self, at: impl FnOnce(&mut Seen)) {
        self.look(at);
        self.bell.send_replace(());
    }

    /// Waits until it has seen this.
    async fn until(&self, what: &str, is_so: impl Fn(&Seen) -> bool) {
        let mut bell = self.bell.subscribe();
        let waited = timeout(PATIENCE, async {
            while !self.look(|seen| is_so(seen)) {
                bell.changed().await.unwrap();
            }
        });
        waited.await.unwrap_or_else(|_| panic!("nobody has seen that {what}"));
    }

    /// Positions and ids, in order.
    fn log(&self) -> Vec<(Cursor, String)> {
        self.look(|seen| seen.entries.iter().map(|each| (each.cursor, id(each))).collect())
    }
}

impl Sink for Window {
    fn begin(&self, base: Cursor) {
        self.change(|seen| assert_eq!(seen.base.replace(base), None, "once"));
    }

    fn committed(&self, batches: &[Committed]) {
        self.change(|seen| {
            assert!(seen.base.is_some());
            seen.entries.extend_from_slice(batches);
            seen.happened.extend(batches.iter().map(|each| Happened::Committed(id(each))));
        });
    }

    fn restored(&self, batches: &[Committed]) {
        self.change(|seen| seen.restored += batches.len());
        self.committed(batches);
    }

    fn damaged(&self, from: Cursor, to: Cursor) {
        self.change(|seen| seen.gaps.push((from, to)));
    }

    fn advanced(&self, to: Cursor) {
        self.change(|seen| seen.end = Some(to));
    }

    fn taken(&self, gateway: &str, by: &Holder) {
        self.change(|seen| seen.happened.push(Happened::Taken(gateway.to_owned(), Box::new(by.clone()))));
    }

    fn asked(&self, question: &Question) -> BoxFuture<'static, Option<Stream>> {
        let has_it = self.look(|seen| seen.streams.contains(&question.instance));
        ready(has_it.then(Stream::default)).boxed()
    }
}

/// Of a standing record, which has none, what it is.
fn id(each: &Committed) -> String {
    if each.kind != LogKind::Event {
        return format!("{:?}", each.kind);
    }
    let event: v1::Event = prost::Message::decode(each.message()).unwrap();
    event.id
}

/// A store with the window that it fills.
struct Hub {
    store: Arc<NatsStore>,
    window: Arc<Window>,
}

impl Hub {
    async fn open(options: Options) -> Self {
        Self::try_open(options).await.unwrap()
    }

    async fn try_open(mut options: Options) -> Result<Self, OpenError> {
        let window = Arc::new(Window::default());
        let (notices, death) = (window.clone(), window.clone());
        options.on_notice =
            Some(Arc::new(move |notice| notices.change(|seen| seen.notices.push(notice.clone()))));
        options.on_death = Some(Arc::new(move |why| death.change(|seen| seen.death = Some(why.to_owned()))));
        let store = Arc::new(NatsStore::open(options, window.clone()).await?);
        Ok(Self { store, window })
    }

    async fn append(&self, ids: &[&str]) -> Result<Vec<Appended>, Error> {
        self.store.append(batch(ids)).await
    }

    /// Publishes until it is acknowledged, as publishers do: what came of it, and how often it was said again.
    async fn publish(&self, id: &str) -> (Appended, u32) {
        let mut again = 0;
        loop {
            match self.append(&[id]).await {
                Ok(appended) => return (appended[0], again),
                Err(error) => assert!(is_passing(&error), "{error}"),
            }
            again += 1;
            tokio::task::yield_now().await;
        }
    }
}

impl Hub {
    /// Appends these together, however often it must be said.
    async fn appended(&self, ids: &[&str]) -> Vec<Appended> {
        let appended = timeout(PATIENCE, async {
            loop {
                match self.append(ids).await {
                    Ok(appended) => return appended,
                    Err(error) => assert!(is_passing(&error), "{error}"),
                }
                tokio::task::yield_now().await;
            }
        });
        appended.await.expect("it is appended")
    }

    /// Where the log ends, as its leader says: on a machine that is busy with other things it is asked more than once.
    async fn end(&self) -> Cursor {
        let asked = timeout(PATIENCE, async {
            loop {
                if let Ok(end) = self.store.head().await {
                    return end;
                }
            }
        });
        asked.await.expect("the leader says where the log ends")
    }
}

/// Whether a publisher says it again.
fn is_passing(error: &Error) -> bool {
    matches!(error, Error::Unknown(_) | Error::Refused(Refused::Unavailable(_)))
}

fn batch(ids: &[&str]) -> Batch {
    let event = |id: &&str| v1::Event {
        to: vec!["user:1".to_owned()],
        id: (*id).to_owned(),
        r#type: "t".to_owned(),
        source: "/s".to_owned(),
        data: vec![b'x'; 200].into(),
        ..v1::Event::default()
    };
    let events: Vec<_> = ids.iter().map(event).collect();
    Batch::encode(&events, &Arc::default(), Now { mono: Duration::ZERO, unix_ms: 1_700_000_000_000 })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let Some(broker) = broker() else { return };
    let count = std::sync::atomic::AtomicU64::new(0);
    conformance::check(|sink| {
        let prefix = format!("log{}", count.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let opening = NatsStore::open(options(&broker, &prefix), sink);
        let opened = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(opening));
        Ok(Arc::new(opened.unwrap()))
    })
    .await;
}

#[tokio::test]
async fn a_hub_that_starts_later_has_the_same_log() {
    let Some(broker) = broker() else { return };
    let first = Hub::open(options(&broker, "p")).await;
    let a = first.appended(&["a", "b"]).await;
    let c = first.appended(&["c"]).await;
    let second = Hub::open(options(&broker, "p")).await;
    assert_eq!(
        second.window.look(|seen| (seen.base, seen.restored)),
        (first.window.look(|seen| seen.base), 3)
    );
    assert_eq!(second.window.log(), first.window.log());
    assert_eq!(second.end().await, c[0].cursor.unwrap());
    let again = second.appended(&["a"]).await;
    assert_eq!(again, [Appended { duplicate: true, ..a[0] }], "what another hub has appended is known");
    let d = second.appended(&["d"]).await;
    first.window.until("what the other hub has appended", |seen| seen.end == d[0].cursor).await;
    assert_eq!(first.window.log(), second.window.log());
    drop((first, second));
    let third = Hub::open(options(&broker, "p")).await;
    assert_eq!(third.window.look(|seen| (seen.restored, seen.gaps.len())), (4, 0));
}

/// What publishers were told, by id.
type Told = HashMap<String, Cursor>;

/// Publishes so many events with as many at a time, each until it is acknowledged.
async fn publish_all(hub: &Hub, name: &str, count: usize) -> Told {
    let ids = (0..count).map(|n| format!("{name}{n}"));
    let published = stream::iter(ids).map(|id| async move {
        let (appended, _) = hub.publish(&id).await;
        (id, appended.cursor.unwrap())
    });
    published.buffer_unordered(8_000).collect().await
}

/// Whoever publishes as fast as it can waits longer: nothing is refused that a broker would take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_nothing_is_refused() {
    let Some(broker) = broker() else { return };
    let hub = Hub::open(options(&broker, "p")).await;
    let appended = stream::iter(0..100_000).map(|n| {
        let hub = &hub;
        async move { hub.append(&[&n.to_string()]).await }
    });
    let refused: Vec<_> = appended
        .buffer_unordered(8_000)
        .filter_map(|answer| std::future::ready(answer.err()))
        .collect()
        .await;
    assert_eq!(refused, []);
}

/// Every acknowledged event is in the log once, where its publisher was told, and both hubs have the same.
fn judge(hubs: [&Hub; 2], told: &Told) {
    let [log, other] = hubs.map(|hub| hub.window.log());
    assert!(log.windows(2).all(|pair| pair[1].0.follows(pair[0].0)), "positions rise");
    assert!(log == other, "both hubs have the same log: {} and {} entries", log.len(), other.len());
    let mut found = HashMap::new();
    for (cursor, id) in log {
        assert_eq!(found.insert(id.clone(), cursor), None, "{id} is there twice");
    }
    for (id, cursor) in told {
        assert_eq!(found.get(id), Some(cursor), "{id} is not where it was acknowledged");
    }
    assert_eq!(found.len(), told.len(), "everything was published until it was acknowledged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hubs_lose_nothing_and_double_nothing_while_the_broker_is_killed() {
    const EACH: usize = 100_000;
    let Some(mut broker) = broker() else { return };
    let (a, b) = (Hub::open(options(&broker, "p")).await, Hub::open(options(&broker, "p")).await);
    let kills = async {
        for part in 1..=3 {
            a.window.until("events are appended", |seen| seen.entries.len() > part * EACH / 3).await;
            broker.kill();
            tokio::task::block_in_place(|| broker.restart()).unwrap();
        }
    };
    let (of_a, of_b, ()) = tokio::join!(publish_all(&a, "a", EACH), publish_all(&b, "b", EACH), kills);
    let told: Told = of_a.into_iter().chain(of_b).collect();
    assert_eq!(told.len(), 2 * EACH);
    let end = a.end().await;
    for hub in [&a, &b] {
        hub.window.until("the log is read to its end", |seen| seen.end == Some(end)).await;
    }
    judge([&a, &b], &told);
    let late = Hub::open(options(&broker, "p")).await;
    judge([&a, &late], &told);
}

/// The same events through both hubs at once: one of them appends each, and both say where.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_at_two_hubs_at_once_is_appended_once() {
    let Some(broker) = broker() else { return };
    let (a, b) = (Hub::open(options(&broker, "p")).await, Hub::open(options(&broker, "p")).await);
    let (of_a, of_b) = tokio::join!(publish_all(&a, "e", 5_000), publish_all(&b, "e", 5_000));
    assert!(of_a == of_b, "both hubs say the same");
    let end = a.end().await;
    for hub in [&a, &b] {
        hub.window.until("the log is read to its end", |seen| seen.end == Some(end)).await;
    }
    judge([&a, &b], &of_a);
}
