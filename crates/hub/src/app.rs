//! The middle floor: what a hub is made of, how it starts, what a program calls on it, and how it ends.
//!
//! [`Hub`] is a handle. All parts of a hub are in one `Shared`, which handles, services and streams hold; nothing in it
//! holds them, so the hub ends with the last of them.
//!
//! ```text
//! start    Hub::new: check the settings, begin the log, open the store, spawn the trimming task
//! run      publish.rs   every event and record goes in here
//!          status.rs    what an operator sees;  metrics.rs, scrape.rs: what a scrape sees
//! end      drain.rs     refuse what is new, finish publishes, send the streams away at a rate
//! ```
//!
//! Methods that hand out something to serve, such as [`Hub::router`], are written in `surface.rs`: this floor does not
//! import that one.
pub(crate) mod config;
pub(crate) mod metrics;
pub(crate) mod shared;

pub(crate) mod on_disk;
#[cfg(feature = "nats")]
pub(crate) mod on_nats;
pub(crate) mod recovery;

pub(crate) mod publish;
mod spans;

pub(crate) mod drain;
mod scrape;
pub(crate) mod status;

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use galaxy_push_core::FOR_EVER;
use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::cursor::{Cursor, Epoch};
use galaxy_push_listener::{Clock, LogLimiter};
use galaxy_push_proto::{Failure, v1};
use galaxy_push_store::{DedupBounds, Maker, MemoryStore};
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::app::config::{Config, InvalidConfig};
use crate::app::metrics::Metrics;
use crate::app::publish::{Published, RecordId};
use crate::app::recovery::Recovery;
use crate::app::scrape::Scraped;
use crate::app::shared::Shared;
use crate::app::status::Status;
use crate::state::access::{Access, Caller, LiveAccess};
use crate::state::in_flight::{InFlight, RequestKind};
use crate::state::log::{Head, Log, LogEntry};
use crate::state::ownership::FlapEvents;
use crate::state::record_capacity::RecordCapacity;

/// The longest pause between two looks for events that are too old, so that an idle hub gives their memory back. Short
/// windows are looked at eight times within their age, at most a hundred times a second.
const TRIM_EVERY: Duration = Duration::from_secs(1);

/// What gateways ask (subscribe, report, reflection) may hold while it arrives, in bytes. Apart from publishes, so that
/// neither keeps the other out.
const QUESTION_BYTES_MAX: usize = 16 << 20;

/// What anybody asks about health may hold while it arrives, in bytes.
const PROBE_BYTES_MAX: usize = 4 << 20;

/// A running hub. Cheap to clone; clones are the same hub, which ends with the last of them and of its routers and
/// streams.
///
/// | to | call |
/// |---|---|
/// | start one | [`Hub::in_memory`], [`Hub::on_disk`], or [`Hub::new`] over a store of your own |
/// | serve it | [`Hub::router`]; or [`Hub::push_service`] and [`Hub::publisher_service`] in a server of yours |
/// | publish from this process | [`Hub::publish`], [`Hub::invalidate`], [`Hub::set_memberships`] |
/// | look at it | [`Hub::head`], [`Hub::status`], [`Hub::register`] for metrics, [`Hub::health`] for probes |
/// | change who is let in | [`Hub::set_access`] |
/// | end it | [`Hub::drain`] |
///
/// ```
/// # use galaxy_push_core::ambient::Ambient;
/// # use galaxy_push_hub::{Config, Hub};
/// # use galaxy_push_proto::v1::{Event, Membership, SessionInvalidation};
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hub = Hub::in_memory(Config::default(), Ambient::new(|| 1_700_000_000_000, || 4))?;
/// let (id, source, kind) = ("1".to_owned(), "/shop".to_owned(), "order.shipped".to_owned());
/// let event = Event { to: vec!["user:42".into()], id, source, r#type: kind, ..Event::default() };
/// hub.publish(vec![event]).await?;
/// hub.invalidate(SessionInvalidation { recipient: "session:9".into(), ..Default::default() }).await?;
/// let member = Membership { recipient: "user:42".into(), topic: "news".into(), ..Default::default() };
/// hub.set_memberships(vec![member]).await?;
/// assert_eq!(hub.status().window.events, 3); // records lie in the log like events
///
/// hub.drain(Duration::from_secs(10)).await; // nobody is connected, so it returns at once
/// assert!(hub.status().draining && hub.publish(Vec::new()).await.is_err());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Hub {
    pub(crate) shared: Arc<Shared>,
}

/// Why a hub cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting cannot be kept.
    #[error("the hub cannot start with these settings")]
    Config(#[from] InvalidConfig),
    /// The store did not open.
    #[error("the hub cannot open its store")]
    Store(#[from] galaxy_push_store::Error),
}

impl Hub {
    /// Starts a hub over the store that `store` opens. Needs a tokio runtime: a task of its own trims the window.
    ///
    /// # Errors
    ///
    /// A setting that cannot be kept, or a store that does not open.
    pub fn new(config: Config, store: Maker, ambient: Ambient) -> Result<Self, Error> {
        config.check()?;
        let (clock, metrics) = (Clock::start(ambient, config.window.age.min(FOR_EVER)), Metrics::default());
        let log = Arc::new(Log::new(config.window, clock.clone(), metrics.appended.clone()));
        let store = store(log.clone())?;
        let trim_every = (config.window.age / 8).clamp(Duration::from_millis(10), TRIM_EVERY);
        let shared = Arc::new(Shared {
            publishes_in_flight: InFlight::new(
                RequestKind::Publishes,
                config.publish_requests_max,
                config.publish_bytes_max,
                clock.ambient().clone(),
            ),
            queries_in_flight: InFlight::new(
                RequestKind::Questions,
                usize::MAX,
                QUESTION_BYTES_MAX,
                clock.ambient().clone(),
            ),
            probes_in_flight: InFlight::new(
                RequestKind::Probes,
                usize::MAX,
                PROBE_BYTES_MAX,
                clock.ambient().clone(),
            ),
            refusals: LogLimiter::default(),
            unread_gaps: LogLimiter::default(),
            record_capacity: RecordCapacity::default(),
            access: LiveAccess::new(config.access),
            config: Config { access: Access::open(), ..config },
            clock,
            metrics,
            log,
            store,
            draining: watch::Sender::new(false),
            publishes: TaskTracker::new(),
            streams: TaskTracker::new(),
        });
        tokio::spawn(trim(Arc::downgrade(&shared), trim_every));
        if shared.store.disk_figures().is_some() {
            tokio::spawn(on_disk::watch(Arc::downgrade(&shared)));
        }
        Ok(Self { shared })
    }

    /// Starts a hub over a memory store with a new epoch and the default dedup window.
    ///
    /// # Errors
    ///
    /// A setting that cannot be kept.
    pub fn in_memory(config: Config, ambient: Ambient) -> Result<Self, Error> {
        let epoch = Epoch(ambient.random_128());
        let records_max = config.standing_records_max;
        let store = MemoryStore::maker_with_records(epoch, DedupBounds::default(), records_max);
        Self::new(config, store, ambient)
    }

    /// Starts a hub over a log in this folder, which no other process may have: the one that is there, with its epoch, its events
    /// and its standing records, or a new one. An acknowledgement then means that the event is on the disk.
    /// `examples/on_disk.rs` shows it.
    ///
    /// Returns when everything held was read, which blocks the thread: some seconds for a large window. Call it from a thread that
    /// may be blocked, inside the runtime ([`tokio::task::spawn_blocking`]).
    ///
    /// `on_death` is called once, from another thread, if the disk has failed. Nothing is appended any more then: end the
    /// process, and start it again.
    ///
    /// # Errors
    ///
    /// A setting that cannot be kept; the folder is another process's, cannot be used, or holds what cannot be judged.
    pub fn on_disk(
        config: Config,
        folder: &Path,
        ambient: Ambient,
        on_death: galaxy_push_store::disk::OnDeath,
    ) -> Result<Self, Error> {
        Self::on_disk_telling(config, folder, ambient, on_death, Recovery::of(folder))
    }

    /// As [`Hub::on_disk`], telling meanwhile how far it is: probes can then be answered, and peers be told to come again.
    ///
    /// # Errors
    ///
    /// As [`Hub::on_disk`].
    pub fn on_disk_telling(
        config: Config,
        folder: &Path,
        ambient: Ambient,
        on_death: galaxy_push_store::disk::OnDeath,
        recovery: Recovery,
    ) -> Result<Self, Error> {
        let store = on_disk::maker(&config, folder, &ambient, on_death, recovery);
        Self::new(config, store, ambient)
    }

    /// Starts a hub over a log on NATS JetStream, which any number of hubs share: each reads it into its own window, and publishers
    /// may publish through any. An acknowledgement then means what the brokers keep; `options` says which they are. What
    /// there is of the window and the sizes in it, and how many standing records are held, is taken from `config`.
    ///
    /// Returns when everything held was read, which blocks the thread, and keeps tasks in the runtime that it is called inside
    /// of: call it from a thread that may be blocked ([`tokio::task::spawn_blocking`]).
    ///
    /// `on_death` is called once, from a task, if the stream turns out to be another log, or to lack what was read of it. Nothing
    /// is appended any more then: end the process, and start it again.
    ///
    /// # Errors
    ///
    /// A setting that cannot be kept; no broker was reached within 30 s, or the stream that is there will not do.
    #[cfg(feature = "nats")]
    pub fn on_nats(
        config: Config,
        options: galaxy_push_store::jetstream::Options,
        ambient: Ambient,
        on_death: galaxy_push_store::jetstream::OnDeath,
        recovery: Recovery,
    ) -> Result<Self, Error> {
        let store = on_nats::maker(&config, options, on_death, recovery);
        Self::new(config, store, ambient)
    }

    /// Puts an access in force, in place of [`Config::access`] or of an earlier call.
    ///
    /// New requests go by it at once. Open streams of an identity that is gone, or has changed, or whose token was another
    /// one, end within a few seconds; the connection of a peer that does not take that end is closed. An identity that stays
    /// goes on with what is left of its rate.
    ///
    /// Listeners that were set up for a hub without identities are not changed by it: start a hub with the identities that
    /// it is to have.
    ///
    /// ```
    /// # use galaxy_push_core::ambient::Ambient;
    /// # use galaxy_push_hub::{Access, Config, Fingerprint, Hub, Identity, Role};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let hub = Hub::in_memory(Config::default(), Ambient::new(|| 0, || 4))?;
    /// let token = Fingerprint::of("the new token, 32 random bytes");
    /// hub.set_access(Access::closed().with(Identity::new("shop", Role::Publisher), Some(token))?);
    /// # Ok(()) }
    /// ```
    pub fn set_access(&self, access: Access) {
        self.shared.access.replace(access, self.shared.clock.now().mono);
    }

    /// Publishes a batch: what `time` and media type are missing is filled in, everything is checked, then the store
    /// appends it contiguously or not at all. The results are in the order of the events.
    ///
    /// Cancel safe in that a dropped future leaves the batch appended as a whole or not at all; publish it again with
    /// the same ids to find out.
    ///
    /// # Errors
    ///
    /// Nothing was appended: an event breaks a rule (`field` says which, such as `events[3].to[0]`), there are more than
    /// 1,000, too much is being published already, the hub is draining, or the store is unavailable.
    pub async fn publish(&self, mut events: Vec<v1::Event>) -> Result<Vec<Published>, Failure> {
        publish::publish(
            &self.shared,
            &Caller::process(),
            self.shared.publishes_in_flight.permit(None),
            &mut events,
        )
        .await
    }

    /// Voids the tokens of a session or user that were issued before the present second, unless the record says before
    /// when, which may be 30 s ahead. Readers
    /// are told in the order of the log; the record is kept until it expires, a day unless it says, and told to every
    /// reader that comes without a place. Returns its position.
    ///
    /// To say it again does no harm. Cancel safe as [`Hub::publish`].
    ///
    /// # Errors
    ///
    /// As [`Hub::publish`]; or as many records of its kind are held as there is room for (`RECORDS_FULL`).
    pub async fn invalidate(&self, record: v1::SessionInvalidation) -> Result<Cursor, Failure> {
        let (shared, permit) = (&self.shared, self.shared.publishes_in_flight.permit(None));
        let id = RecordId::default();
        Ok(publish::invalidate(shared, &Caller::process(), permit, record, &id).await?.cursor)
    }

    /// Makes users or sessions members of topics, or ends that: of each recipient and topic the latest record holds,
    /// until it expires. The records, at most 1,000, are appended together. Returns the position of the last.
    ///
    /// To say it again does no harm. Cancel safe as [`Hub::publish`].
    ///
    /// # Errors
    ///
    /// As [`Hub::invalidate`].
    pub async fn set_memberships(&self, records: Vec<v1::Membership>) -> Result<Cursor, Failure> {
        let (shared, permit) = (&self.shared, self.shared.publishes_in_flight.permit(None));
        let id = RecordId::default();
        Ok(publish::set_memberships(shared, &Caller::process(), permit, records, &id).await?.cursor)
    }

    /// Where the log is now, as far as this hub has read it: pair it with a snapshot of your own state, and subscribe from
    /// there.
    #[must_use]
    pub fn head(&self) -> Head {
        self.shared.log.head()
    }

    /// Who is connected and how far each has read, which gateway ids flap, and how full the window is.
    ///
    /// Takes the lock that publishers and streams share, for about a microsecond per stream.
    #[must_use]
    pub fn status(&self) -> Status {
        status::status(&self.shared)
    }

    /// Shuts down what the hub serves: nothing new is admitted, publishes in flight finish, every stream is handed what was
    /// published and sent away with a `Goodbye`, at the configured rate. Returns when all streams have ended, or after
    /// `limit`; then it is time to close the connections.
    ///
    /// Cancel safe: what was begun goes on; call again for the rest.
    pub async fn drain(&self, limit: Duration) {
        drain::drain(&self.shared, limit.min(FOR_EVER)).await;
    }

    /// Admits nothing new, and waits until the publishes in flight are finished, or for `limit`: the head is then the last
    /// position that is acknowledged. [`Hub::drain`] does so, too; call this first if somebody else is to take what is left.
    ///
    /// Cancel safe: what was begun goes on.
    pub async fn finish_publishes(&self, limit: Duration) -> Head {
        drain::finish_publishes(&self.shared, limit.min(FOR_EVER)).await;
        self.head()
    }

    /// Adds the hub's metrics to a registry. Their names begin with `push_`, so the registry needs no prefix.
    pub fn register(&self, registry: &mut Registry) {
        self.shared.metrics.register(registry);
        registry.register_collector(Box::new(Scraped(Arc::downgrade(&self.shared))));
    }

    /// Every entry held, oldest first: the truth that tests compare deliveries with. Copies the whole window.
    #[must_use]
    pub fn log_dump(&self) -> Vec<LogEntry> {
        self.shared.log.dump()
    }
}

/// Trims the window of a hub, its dedup window and what is remembered of flapping ids, until the hub is gone. It holds a
/// weak handle, so it keeps no hub alive.
async fn trim(shared: Weak<Shared>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(shared) = shared.upgrade() else { return };
        for (gateway, FlapEvents { count, unlogged, .. }) in
            shared.log.with_state(|state, now| state.gateways.expire(now.mono))
        {
            tracing::warn!(%gateway, happenings = count, untold = unlogged, "this gateway id is no longer fought over");
        }
        shared.store.trim(shared.clock.now().mono);
    }
}

#[cfg(test)]
mod tests {
    use galaxy_push_core::window::Bounds;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_idle_hub_gives_the_memory_of_old_events_back() {
        let bounds = Bounds { age: Duration::from_secs(60), ..Bounds::default() };
        let hub = Hub::in_memory(Config::default().window(bounds), Ambient::new(|| 0, || 4)).unwrap();
        let event = v1::Event {
            to: vec!["all".into()],
            id: "a".into(),
            source: "/s".into(),
            r#type: "t".into(),
            ..v1::Event::default()
        };
        hub.publish(vec![event]).await.unwrap();
        let held = || hub.shared.log.lock().window.len(); // not `look`, which trims
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert_eq!(held(), 1);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(held(), 0);
    }
}
