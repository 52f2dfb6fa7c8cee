//! The store of one simulated hub: the real door and its drive, over simulated brokers.
//!
//! It is what `jetstream.rs` and `jetstream/pump.rs` of the store are over real ones. Opening it takes no time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::cursor::Cursor;
use galaxy_push_core::frame::LogKind;
use galaxy_push_store::nats::stream_view::{Answer, Judge, LastRead, Verdict};
use galaxy_push_store::nats::{
    ClaimBounds, Door, Driver, DriverIo, HubId, Limits, Message, Next, Read, Record, Sealed, Settings, pack,
};
use galaxy_push_store::standing::{Count, Fill, Key, Page};
use galaxy_push_store::{Appended, Batch, DedupBounds, Error, Fence, Maker, Refused, Sink, Store};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::At;
use super::cluster::To;
use super::fence::HubFence;
use super::records::{Asked, Keeper, Reply};
use super::stream::Which;

/// How often it is looked whether anything has come: a step of simulated time.
const TICK: Duration = Duration::from_millis(10);

/// How often the leader is asked which log it has.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often what is too old is let go of.
const TRIM_EVERY: Duration = Duration::from_millis(500);

/// Messages that come in one step at most.
const READ_AT_ONCE: usize = 64;

const INBOX_MAX: usize = 65_536;

struct Append {
    batch: Batch,
    reply: Reply,
}

/// Who waits for an answer; for one that says where standing records are, these as well.
type Waiting = (Reply, Option<Box<Asked>>);

#[derive(Default)]
struct Shared {
    read: AtomicU64,
    is_stale: AtomicBool,
    horizon_ms: AtomicU64,
}

/// A hub's way to the log.
pub(super) struct HubStore {
    at: At,
    appends: mpsc::Sender<Append>,
    shared: Arc<Shared>,
    fence: Arc<HubFence>,
    keeper: Arc<Keeper>,
    _task: AbortOnDropHandle<()>,
}

struct Pump {
    drive: Driver<Waiting>,
    with: Parts,
    judge: Judge,
    begun: Instant,
    looked: Instant,
    trimmed: Instant,
    /// The message to be read next.
    next: u64,
}

/// What the drive works with.
struct Parts {
    at: At,
    sink: Arc<dyn Sink>,
    shared: Arc<Shared>,
    fence: Arc<HubFence>,
    keeper: Arc<Keeper>,
    /// Records on their way to their bucket, with who waits for them.
    jobs: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl At {
    /// Opens the log. Needs a tokio runtime: a task drives it.
    #[must_use]
    pub fn maker(self, ambient: &Ambient) -> Maker {
        let ambient = ambient.clone();
        Box::new(move |sink| Ok(Arc::new(HubStore::open(self, &ambient, sink)?)))
    }
}

impl HubStore {
    fn open(at: At, ambient: &Ambient, sink: Arc<dyn Sink>) -> Result<Self, Error> {
        let nobody = || Error::from(Refused::Unavailable("nobody leads".to_owned()));
        let values = at.read_all(Which::Records).ok_or_else(nobody)?;
        let look = at.look().ok_or_else(nobody)?;
        if let Some(last) = at.deliver(Which::Log, look.last, 1).0.pop() {
            let pack = pack::read(&last.payload).ok();
            let written =
                pack.and_then(|pack| pack.requests.iter().map(|request| request.stamp_unix_ms).max());
            sink.stamped_until(written.unwrap_or(last.stamp_unix_ms));
        }
        let id = HubId(ambient.random_128());
        let fence = HubFence::new(at.clone(), id);
        let end = Cursor::end_of_message(at.epoch(), look.last);
        let keeper = Keeper::start(at.clone(), ambient.clone(), &values, end);
        if look.first > 1 {
            at.meets("LateStart");
        }
        let door = Door::new(Settings {
            epoch: at.epoch(),
            hub: id,
            first: look.first,
            dedup: DedupBounds::default(),
            claims: ClaimBounds::default(),
            limits: Limits::default(),
        });
        let now = Instant::now();
        let shared = Arc::new(Shared::default());
        let with = Parts {
            at: at.clone(),
            sink,
            shared: shared.clone(),
            fence: fence.clone(),
            keeper: keeper.clone(),
            jobs: FuturesUnordered::new(),
        };
        let (drive, judge) = (Driver::new(door, look.last, Duration::ZERO), Judge::new(at.epoch(), 1));
        let mut pump = Pump { drive, with, judge, begun: now, looked: now, trimmed: now, next: look.first };
        while pump.drive.is_opening() {
            let read = pump.next;
            pump.read().map_err(Refused::Unavailable)?;
            if pump.next == read && pump.drive.is_opening() {
                pump.hold(Next::AtEnd).map_err(Refused::Unavailable)?;
            }
            if pump.drive.is_holding() {
                return Err(nobody()); // not all of it is there
            }
        }
        let (appends, taken) = mpsc::channel(INBOX_MAX);
        let task = AbortOnDropHandle::new(tokio::spawn(pump.run(taken)));
        Ok(Self { at, appends, shared, fence, keeper, _task: task })
    }
}

impl Pump {
    async fn run(mut self, mut appends: mpsc::Receiver<Append>) {
        self.with.jobs.push(self.with.keeper.clone().run().boxed());
        let why = loop {
            tokio::select! {
                biased;
                Some(()) = self.with.jobs.next() => {}
                append = appends.recv() => match append {
                    Some(append) => self.take(append, &mut appends),
                    None => return, // the store was dropped
                },
                () = sleep(TICK) => {}
            }
            if let Err(why) = self.turn() {
                break why;
            }
        };
        self.with.at.meets("HubEnded");
        self.drive.end(&why, &mut self.with);
        self.with.shared.is_stale.store(true, Ordering::Relaxed);
        drop(appends);
        while self.with.jobs.next().await.is_some() {}
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// # Errors
    ///
    /// The store must end, and why.
    fn turn(&mut self) -> Result<(), String> {
        let now = self.now();
        self.with.fence.turn(&*self.with.sink);
        for (number, is_stored) in self.with.at.take_acks() {
            if is_stored {
                self.drive.heard(now);
                self.drive.door().stored(number);
            } else {
                self.drive.door().refused(number, "nobody leads the stream at present");
            }
        }
        self.drive.records_read(self.with.keeper.read_upto());
        self.drive.turn(&mut self.with, now).map_err(|fatal| fatal.to_string())?;
        self.read()?;
        self.look()?;
        self.look_at_the_time();
        Ok(())
    }

    /// Reads what has come, as long as nothing is held.
    fn read(&mut self) -> Result<(), String> {
        if self.drive.is_holding() {
            return Ok(());
        }
        let at = self.with.at.clone();
        let (entries, _) = at.deliver(Which::Log, self.next, READ_AT_ONCE);
        for entry in entries {
            if self.drive.is_holding() {
                break;
            }
            if entry.number > self.next {
                // The leader is asked before it is believed that those between are gone.
                match at.next_from(self.next) {
                    Ok(next) if next.is_none_or(|next| next >= entry.number) => at.meets("Hole"),
                    _ => break,
                }
            }
            self.next = entry.number + 1;
            let (number, stamp_unix_ms, payload) = (entry.number, entry.stamp_unix_ms, entry.payload);
            self.hold(Next::Message(Message { number, stamp_unix_ms, payload }))?;
        }
        Ok(())
    }

    fn hold(&mut self, next: Next) -> Result<(), String> {
        let now = self.now();
        self.drive.hold(next, &mut self.with, now);
        self.drive.turn(&mut self.with, now).map_err(|fatal| fatal.to_string())
    }

    fn look(&mut self) -> Result<(), String> {
        if self.looked.elapsed() < LOOK_EVERY {
            return Ok(());
        }
        self.looked = Instant::now();
        // Nobody puts these brokers back to an earlier state: a number is enough.
        let number = self.with.shared.read.load(Ordering::Relaxed);
        let answer = self.with.at.look().map_or(Answer::None, Answer::StreamView);
        match self.judge.judge(&answer, LastRead { number, stamp_unix_ms: None }) {
            Verdict::Led => self.drive.heard(self.now()),
            Verdict::Lost => {}
            Verdict::End(why) | Verdict::BeginAnew(why) => return Err(why),
        }
        match answer {
            Answer::StreamView(look) => self.look_for_a_hole(look.first),
            Answer::Gone | Answer::None => Ok(()),
        }
    }

    /// Where messages are gone and nothing has come behind them, the leader alone can tell, by the first that it still has.
    fn look_for_a_hole(&mut self, first: u64) -> Result<(), String> {
        let at = self.with.at.clone();
        let may_come = || !at.deliver(Which::Log, self.next, 1).0.is_empty();
        if first <= self.next || self.drive.is_holding() || may_come() {
            return Ok(());
        }
        at.meets("HoleAtTheEnd");
        self.next = first;
        self.hold(Next::Gone(first - 1))
    }

    fn look_at_the_time(&mut self) {
        if self.trimmed.elapsed() < TRIM_EVERY {
            return;
        }
        self.trimmed = Instant::now();
        let now = self.now();
        let is_stale = self.drive.is_stale(&self.with, now);
        if !self.with.shared.is_stale.swap(is_stale, Ordering::Relaxed) && is_stale {
            self.with.at.meets("HubStale");
        }
        self.drive.door().trim(now);
        let horizon = u64::try_from(self.drive.door().dedup_horizon(now).as_millis());
        self.with.shared.horizon_ms.store(horizon.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn take(&mut self, first: Append, more: &mut mpsc::Receiver<Append>) {
        self.offer(first);
        while let Ok(append) = more.try_recv() {
            self.offer(append);
        }
    }

    fn offer(&mut self, Append { batch, reply }: Append) {
        let now = self.now();
        let door = self.drive.door();
        if !batch.items.iter().any(|item| item.change.is_some()) {
            return door.offer(batch, (reply, None), now);
        }
        let is_known = door.knows(&batch, now);
        match self.with.keeper.begin(&batch, is_known) {
            Ok(asked) => door.offer(batch, (reply, Some(Box::new(asked))), now),
            Err(refused) => door.refuse((reply, None), refused),
        }
    }
}

impl DriverIo<Waiting> for Parts {
    fn sink(&self) -> &dyn Sink {
        &*self.sink
    }

    fn fence_is_known(&self) -> bool {
        self.fence.is_known()
    }

    fn fence_was_known_within(&self, time: Duration) -> bool {
        self.fence.was_known_within(time)
    }

    fn keep(&mut self, records: &[Record]) {
        self.keeper.read(records);
    }

    fn read_records_again(&mut self) -> u64 {
        self.keeper.read_again()
    }

    fn is_connected(&self) -> bool {
        self.at.is_connected()
    }

    fn publish(&mut self, sealed: Sealed) -> Result<(), String> {
        let Sealed { number, payload } = sealed;
        self.at.send(Which::Log, "", None, payload, To::Pack(number));
        Ok(())
    }

    fn answer(&mut self, (reply, asked): Waiting, answer: Result<Vec<Appended>, Error>) {
        match asked {
            Some(asked) => self.jobs.push(self.keeper.clone().answer(*asked, reply, answer).boxed()),
            None => _ = reply.send(answer), // whoever asked may be gone
        }
    }

    fn has_read(&mut self, message: u64) {
        self.shared.read.store(message, Ordering::Relaxed);
    }

    fn has_judged(&mut self, _: &Message, read: &Read) {
        if matches!(read, Read::Overtaken(..)) {
            self.at.meets("OvertakenRead");
        }
    }

    fn has_lost(&mut self, _: Cursor) {
        self.at.meets("LossTold");
    }
}

impl Store for HubStore {
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<Vec<Appended>, Error>> {
        async move {
            let (reply, answer) = oneshot::channel();
            let ended = || "the store has ended".to_owned();
            match self.appends.try_send(Append { batch, reply }) {
                Ok(()) => answer.await.unwrap_or_else(|_| Err(Error::Unknown(ended()))),
                Err(_) => Err(Refused::Unavailable(ended()).into()),
            }
        }
        .boxed()
    }

    fn head(&self) -> BoxFuture<'_, Result<Cursor, Error>> {
        async move {
            sleep(self.at.latency()).await;
            let nobody_says = |why: &str| Error::from(Refused::Unavailable(why.to_owned()));
            let look = self.at.look();
            let look = look.ok_or_else(|| nobody_says("the leader of the stream does not answer"))?;
            look.end(self.at.epoch(), self.shared.read.load(Ordering::Relaxed)).map_err(nobody_says)
        }
        .boxed()
    }

    fn fence(&self) -> Option<&dyn Fence> {
        Some(&*self.fence)
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
