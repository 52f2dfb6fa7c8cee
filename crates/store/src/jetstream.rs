//! The log that several hubs share, on a real broker: the I/O half of [`nats`](crate::nats), which has the rules.
//!
//! A hub opens a [`NatsStore`] where it would open another store. Six tasks live with it, and end with it:
//!
//! | task | what it does |
//! |---|---|
//! | `pump` | owns the [`Door`]: takes batches, publishes packs, tells the sink what was read, gives answers |
//! | `reader` | has a consumer on the stream, and another one whenever that one falls silent; hands its messages to the pump |
//! | `register_bucket` | reads who takes which gateway id at the other hubs, and tells the sink |
//! | `asking` | answers other hubs whether a stream is alive, and brings their answers |
//! | `standing` | sees to it that the standing records that hold are in a bucket, which outlives what the log keeps |
//! | `watch` | asks the stream's leader every 2 s which log it has and how far that goes |
//!
//! # What an acknowledgement means
//!
//! The brokers have stored the pack, on a majority of its replicas, and this hub has read it back. Whether a broker syncs before it
//! says so is a setting of the broker ([`AckMeaning`]). Of standing records: they are in their bucket besides. If that is not so within 5 s,
//! the answer is *unknown*, and whoever publishes them again with their id finds out, or has it done.
//!
//! # Recovery
//!
//! While no broker answers, batches wait for up to 5 s and are refused; what was sent and is not read back within 5 s is answered
//! *unknown*. The store is stale meanwhile ([`Store::is_stale`]), readers go on with what there is, and everything goes on by itself
//! once a broker answers. Only where the log is another one, or shorter than what was read of it, the store ends
//! ([`Options::on_death`]): a hub that starts again finds out what there is.
//!
//! Nothing is handed on, and nothing acknowledged, while it is not known whom the other hubs have let in of late: an older stream
//! here must end within 1 s. That is so whenever the fence's bucket cannot be written and read back.

mod ack_meaning;
mod bucket;
mod connect;
mod probes;
mod pump;
mod reader;
mod register_bucket;
mod standing;
mod stream;
#[cfg(test)]
mod tests;
mod watch;

pub use ack_meaning::AckMeaning;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::cursor::{Cursor, Epoch};
use galaxy_push_core::frame::LogKind;
use galaxy_push_core::window::Bounds;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::nats::stream_view::LastRead;
use crate::nats::{ClaimBounds, Door, HubId, Limits, Settings};
use crate::standing::{Count, Fill, Key, Page, RECORDS_MAX};
use crate::{Appended, Batch, DedupBounds, Error, Fence, Refused, Sink, Store};
use bucket::{Bucket, Holds};
use connect::{Link, START_WITHIN};
use pump::{Append, Parts, Pump};
use register_bucket::RegisterBucket;
use standing::Keeper;
use stream::Log;

/// The most batches that wait to be looked at: each has a request of a publisher behind it, and a hub bounds these by their bytes.
const INBOX_MAX: usize = 65_536;

/// What a pack takes beside the events of a request, at most: an event may be as large as is said, and its recipients and
/// attributes besides.
pub const PAYLOAD_BESIDES: usize = 64 << 10;

/// How long the leader may take to say how far the log goes.
const HEAD_WITHIN: Duration = Duration::from_secs(1);

/// Is told once, with the reason, that the store has ended.
pub type OnDeath = Arc<dyn Fn(&str) + Send + Sync>;

/// Is told how far the log has been read: bytes, of so many.
pub type OnProgress = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// Is told what happens.
pub type OnNotice = Arc<dyn Fn(&Notice) + Send + Sync>;

/// What whoever operates a hub wants to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// There is a connection to a broker again.
    Connected,
    /// There is none.
    Disconnected,
    /// A broker complains, or a connection cannot be made.
    Trouble(String),
    /// Reading has begun anew behind this message, and why.
    ReadAnew {
        /// The last message read.
        behind: u64,
        /// What ended the reading before.
        why: String,
    },
    /// A message was skipped, and why.
    Skipped {
        /// Its number in the stream.
        message: u64,
        /// What it was.
        why: String,
    },
    /// This hub does not hear what it says to itself: its user may not publish or subscribe on the subject. It asks no other hub whether
    /// a stream there is alive, and is asked by none. Told once for each connection.
    Unasked {
        /// What its user needs.
        subject: String,
    },
    /// Messages up to this one are gone, or cannot be judged: readers are told a gap.
    Lost {
        /// The last position missed.
        upto: Cursor,
    },
    /// No leader has answered of late, or it has no majority: nothing can be acknowledged.
    Stale,
    /// That is over.
    Fresh,
}

/// How a store is opened.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// The brokers, as `nats://` or `tls://` URLs. One that is reached is enough. The first that names a user and a password, or a token,
    /// names it for all.
    pub servers: Vec<String>,
    /// A file of credentials (a JWT and the seed of its key), if the brokers ask for one.
    pub credentials: Option<PathBuf>,
    /// A file of certificates (PEM) of the authorities that the brokers' certificates come from. `None`: the system's.
    pub authorities: Option<PathBuf>,
    /// What the names of stream and subject begin with: letters, digits, `-` and `_`. Products on one cluster have one each.
    pub prefix: String,
    /// How many brokers keep the log, where it is made: 1 to 5. One that is there must have as many at least.
    pub replicas: usize,
    /// What the hub's window holds: the stream keeps more than that.
    pub window: Bounds,
    /// How far back repetitions are recognised.
    pub dedup: DedupBounds,
    /// The largest data of one event, in bytes.
    pub event_bytes_max: usize,
    /// The most standing records of each kind that are held.
    pub records_max: usize,
    /// Where the random numbers of a new epoch come from.
    pub ambient: Ambient,
    /// Is told how far a start has read.
    pub on_progress: Option<OnProgress>,
    /// Is told what happens.
    pub on_notice: Option<OnNotice>,
    /// Is told that nothing more is appended: the log is another one, or lacks what was read of it.
    pub on_death: Option<OnDeath>,
}

impl Options {
    /// For these brokers, with the default window and one replica, under the prefix `galaxy-push`.
    #[must_use]
    pub fn new(servers: Vec<String>, ambient: Ambient) -> Self {
        Self {
            servers,
            credentials: None,
            authorities: None,
            prefix: "galaxy-push".to_owned(),
            replicas: 1,
            window: Bounds::default(),
            dedup: DedupBounds::default(),
            event_bytes_max: 64 << 10,
            records_max: RECORDS_MAX,
            ambient,
            on_progress: None,
            on_notice: None,
            on_death: None,
        }
    }

    fn notice(&self, notice: &Notice) {
        if let Some(on_notice) = &self.on_notice {
            on_notice(notice);
        }
    }
}

/// Why a store was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting is not one, or does not fit what the brokers have.
    #[error("{0}")]
    Setting(String),
    /// No broker was reached, or it did not let this hub in.
    #[error("no broker of {servers} lets this hub in")]
    Connect {
        /// The brokers, without what is secret of their URLs.
        servers: String,
        /// What was tried last.
        #[source]
        source: async_nats::Error,
    },
    /// The stream cannot be made or read.
    #[error("the stream {name} cannot be used")]
    Stream {
        /// Its name.
        name: String,
        /// What the brokers say.
        #[source]
        source: async_nats::Error,
    },
    /// The store has ended before it had read the log, and why.
    #[error("the log cannot be read: {0}")]
    Ended(String),
}

/// What the tasks of a store and its handle share.
#[derive(Debug, Default)]
struct Shared {
    /// The last message read, or known to be lost.
    read: AtomicU64,
    /// The last message read, with its stamp. Not further on than `read` says.
    last_read: Mutex<LastRead>,
    /// Nothing can be acknowledged at present, as far as is known.
    is_stale: AtomicBool,
    /// More than one broker keeps the stream.
    is_replicated: AtomicBool,
    /// How far back duplicates are known, in milliseconds.
    horizon_ms: AtomicU64,
    /// Why nothing is taken any more.
    ended: OnceLock<String>,
}

/// A hub's way to a log in a JetStream stream.
pub struct NatsStore {
    appends: mpsc::Sender<Append>,
    shared: Arc<Shared>,
    log: Log,
    fence: Arc<RegisterBucket>,
    keeper: Arc<Keeper>,
    epoch: Epoch,
    meaning: AckMeaning,
    /// Ended with the store.
    _tasks: JoinSet<()>,
}

impl NatsStore {
    /// Opens the log that these brokers have under this prefix, or begins one, and reads what is in it. Needs a tokio runtime, in
    /// which its tasks go on. Returns once everything was read that was there when it began.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: no broker was reached within 30 s, or a setting does not fit what is there.
    pub async fn open(options: Options, sink: Arc<dyn Sink>) -> Result<Self, OpenError> {
        let link = Link::connect(&options).await?;
        let log = Log::open(&link, &options).await?;
        let bucket = Bucket::open(&link, &options, Holds::Fence).await?;
        let payload_bytes = link.payload_bytes(&options)?;
        let records = Bucket::open(&link, &options, Holds::Records).await?;
        let (contents, values) = standing::read_at_start(&link, &records, &options).await?;
        // After the records were read, so that what they lack is in the log still.
        let at_start = log.look().await.map_err(|source| log.failed(source))?;
        let epoch = at_start.epoch.ok_or_else(|| OpenError::Ended("the stream lost its epoch".to_owned()))?;
        if let Some(stamp) = log.last_stamp(&at_start).await {
            sink.stamped_until(stamp);
        }
        let hub = HubId(options.ambient.random_128());
        let door = Door::new(Settings {
            epoch,
            hub,
            first: at_start.first,
            dedup: options.dedup,
            claims: ClaimBounds::default(),
            limits: Limits { payload_bytes, ..Limits::default() },
        });
        let shared = Arc::new(Shared::default());
        shared.read.store(at_start.first - 1, Ordering::Relaxed);
        shared.is_replicated.store(at_start.replicas > 1, Ordering::Relaxed);
        let mut tasks = JoinSet::new();
        let (read, reading) = mpsc::channel(reader::EVENTS_MAX);
        let (seen, watched) = mpsc::channel(1);
        tasks.spawn(reader::run(log.clone(), link.clone(), at_start.first, read));
        let fence = Arc::new(RegisterBucket::new(hub, bucket, link.clone(), &options));
        tasks.spawn(fence.asking().run(sink.clone(), options.clone()));
        tasks.spawn(fence.clone().run(sink.clone(), options.clone()));
        let end = Cursor::end_of_message(epoch, at_start.last);
        let (keeper, jobs) = Keeper::start(link.clone(), records, &options, end, values);
        tasks.spawn(standing::run(keeper.clone(), jobs, contents, options.clone()));
        let ambient = options.ambient.clone();
        tasks.spawn(watch::run(log.clone(), (epoch, at_start.made), ambient, shared.clone(), seen));
        let meaning = AckMeaning::find(&link, &at_start).await;
        let (appends, taken) = mpsc::channel(INBOX_MAX);
        let (opened, is_open) = oneshot::channel();
        let parts = Parts { sink, shared, log, fence, keeper, link, options };
        tasks.spawn(Pump::new(door, parts.clone(), at_start, opened).run(taken, reading, watched));
        let Parts { shared, log, fence, keeper, .. } = parts;
        if is_open.await.is_err() {
            return Err(OpenError::Ended(shared.why()));
        }
        let mut known = fence.known();
        if timeout(START_WITHIN, known.wait_for(Option::is_some)).await.is_err() {
            let why = format!("who has which gateway id was not read within {START_WITHIN:?}");
            return Err(OpenError::Ended(why));
        }
        Ok(Self { appends, shared, log, fence, keeper, epoch, meaning, _tasks: tasks })
    }

    /// What an acknowledgement of it means, as far as the brokers say.
    #[must_use]
    pub const fn meaning(&self) -> &AckMeaning {
        &self.meaning
    }

    /// The name of the stream.
    #[must_use]
    pub fn stream(&self) -> &str {
        self.log.name()
    }
}

impl Shared {
    /// The last message read, with its stamp if it was not lost.
    fn last_read(&self) -> LastRead {
        let last = *self.last_read.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.read.load(Ordering::Relaxed);
        if last.number == number { last } else { LastRead { number, stamp_unix_ms: None } }
    }

    fn has_read(&self, number: u64, stamp_unix_ms: u64) {
        let last = LastRead { number, stamp_unix_ms: Some(stamp_unix_ms) };
        *self.last_read.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }

    /// Why nothing is taken any more.
    fn why(&self) -> String {
        self.ended.get().cloned().unwrap_or_else(|| "the store has ended".to_owned())
    }
}

impl Store for NatsStore {
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<Vec<Appended>, Error>> {
        async move {
            let (reply, answer) = oneshot::channel();
            let unavailable = |why: String| Error::from(Refused::Unavailable(why));
            match self.appends.try_send(Append { batch, reply }) {
                Ok(()) => answer.await.unwrap_or_else(|_| Err(Error::Unknown(self.shared.why()))),
                Err(mpsc::error::TrySendError::Full(_)) => {
                    Err(unavailable("as many batches wait as may wait".to_owned()))
                }
                Err(mpsc::error::TrySendError::Closed(_)) => Err(unavailable(self.shared.why())),
            }
        }
        .boxed()
    }

    fn head(&self) -> BoxFuture<'_, Result<Cursor, Error>> {
        async move {
            let nobody_says = |why: String| Error::from(Refused::Unavailable(why));
            let look = timeout(HEAD_WITHIN, self.log.look()).await;
            let look =
                look.map_err(|_| nobody_says("the leader of the stream does not answer".to_owned()))?;
            let look = look.map_err(|error| nobody_says(format!("the stream cannot be asked: {error}")))?;
            let end = look.end(self.epoch, self.shared.read.load(Ordering::Relaxed));
            end.map_err(|why| nobody_says(why.to_owned()))
        }
        .boxed()
    }

    fn fence(&self) -> Option<&dyn Fence> {
        Some(&*self.fence)
    }

    fn ack_meaning(&self) -> Option<String> {
        Some(self.meaning.to_string())
    }

    fn is_stale(&self) -> bool {
        self.shared.is_stale.load(Ordering::Relaxed)
    }

    fn dedup_horizon(&self, _: Duration) -> Duration {
        Duration::from_millis(self.shared.horizon_ms.load(Ordering::Relaxed))
    }

    fn standing(&self, after: Option<&Key>, bytes_max: usize, bytes_each: usize, now_unix_ms: u64) -> Page {
        self.keeper.records().page(after, bytes_max, bytes_each, now_unix_ms)
    }

    fn standing_count(&self, now_unix_ms: u64) -> Count {
        self.keeper.records().count(now_unix_ms)
    }

    fn standing_fill(&self, kind: LogKind, publisher: Option<&str>, now_unix_ms: u64) -> Fill {
        self.keeper.records().fill(kind, publisher, now_unix_ms)
    }
}

impl fmt::Debug for NatsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsStore").field("stream", &self.log.name()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Servers may name secrets.
        f.debug_struct("Options").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
