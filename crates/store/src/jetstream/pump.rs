//! The one task that owns the [`Driver`] and so the door: takes batches, publishes packs, and is told what was read.
//!
//! All decisions are the door's, and the order of things is the drive's. What this adds is time and the connection.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, ErrorCode};
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use galaxy_push_core::cursor::Cursor;
use tokio::sync::{mpsc, oneshot};
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep_until};

use super::connect::Link;
use super::reader::Event;
use super::register_bucket::RegisterBucket;
use super::standing::{Asked, Keeper, Reply};
use super::stream::Log;
use super::watch::Seen;
use super::{Notice, Options, Shared};
use crate::nats::stream_view::StreamView;
use crate::nats::{Door, Driver, DriverIo, Message, Read, Record, Sealed};
use crate::{Appended, Batch, Error, Sink};

/// How many batches are taken off the inbox before the other things have their turn.
const TAKEN_AT_ONCE: usize = 4_096;

/// How often it is looked whether anything was heard, and what is too old is let go of.
const TICK: Duration = Duration::from_millis(500);

/// A batch, and who waits for its answer.
pub(super) struct Append {
    pub(super) batch: Batch,
    pub(super) reply: Reply,
}

/// Who waits for an answer; for one that says where standing records are, these as well.
pub(super) type Waiting = (Reply, Option<Box<Asked>>);

/// What a broker says of a pack, if anybody knows.
type Ack = (u64, Option<Result<(), String>>);

/// What a pump works with.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) sink: Arc<dyn Sink>,
    pub(super) shared: Arc<Shared>,
    pub(super) log: Log,
    pub(super) fence: Arc<RegisterBucket>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) link: Link,
    pub(super) options: Options,
}

pub(super) struct Pump {
    drive: Driver<Waiting>,
    with: Parts,
    /// Bounded by what the door lets be under way; one that is not answered ends with its time.
    acks: Acks,
    opening: Option<Opening>,
    begun: Instant,
    /// When it was looked at the time last.
    looked: Instant,
}

type Acks = FuturesUnordered<BoxFuture<'static, Ack>>;

/// How far what there was in the stream was read when the store was opened.
struct Opening {
    bytes: u64,
    bytes_read: u64,
    done: oneshot::Sender<()>,
}

/// What the drive works with.
struct AtBrokers<'a> {
    with: &'a Parts,
    acks: &'a mut Acks,
    opening: &'a mut Option<Opening>,
}

impl Pump {
    pub(super) fn new(
        door: Door<Waiting>,
        with: Parts,
        at_start: StreamView,
        done: oneshot::Sender<()>,
    ) -> Self {
        let now = Instant::now();
        let opening = Some(Opening { bytes: at_start.bytes, bytes_read: 0, done });
        let drive = Driver::new(door, at_start.last, Duration::ZERO);
        Self { drive, with, acks: FuturesUnordered::new(), opening, begun: now, looked: now }
    }

    /// Runs until the store is dropped, or must end.
    pub(super) async fn run(
        mut self,
        mut appends: mpsc::Receiver<Append>,
        mut reading: mpsc::Receiver<Event>,
        mut watched: mpsc::Receiver<Seen>,
    ) {
        let (mut fence_known, mut records_read) = (self.with.fence.known(), self.with.keeper.read_upto());
        let why = loop {
            let due = self.due();
            tokio::select! {
                biased;
                Some(seen) = watched.recv() => match seen {
                    Seen::Led => self.drive.heard(self.begun.elapsed()),
                    Seen::Lost => {}
                    Seen::End(why) => break why,
                },
                Some((number, said)) = self.acks.next(), if !self.acks.is_empty() => self.acked(number, said),
                Some(event) = reading.recv(), if !self.drive.is_holding() => self.came(event),
                Ok(()) = fence_known.changed(), if self.drive.is_holding() => {}
                Ok(()) = records_read.changed(), if self.drive.waits_for_records() => {
                    let done = *records_read.borrow_and_update();
                    self.drive.records_read(done);
                }
                append = appends.recv() => match append {
                    Some(append) => self.take(append, &mut appends),
                    None => return, // the store was dropped
                },
                () = sleep_until(due) => {}
            }
            if let Err(why) = self.turn() {
                break why;
            }
            self.look_at_the_time();
        };
        let _ = self.with.shared.ended.set(why.clone()); // it ends once
        self.with.shared.is_stale.store(true, Ordering::Relaxed);
        let (drive, mut hands) = self.hands();
        drive.end(&why, &mut hands);
        drop(appends);
        if let (None, Some(on_death)) = (&self.opening, &self.with.options.on_death) {
            on_death(&why);
        }
    }

    /// # Errors
    ///
    /// The store must end, and why.
    fn turn(&mut self) -> Result<(), String> {
        let now = self.begun.elapsed();
        let (drive, mut hands) = self.hands();
        drive.turn(&mut hands, now).map_err(|fatal| fatal.to_string())?;
        if !self.drive.is_opening()
            && let Some(opening) = self.opening.take()
        {
            let _ = opening.done.send(()); // whoever opens it may be gone
        }
        Ok(())
    }

    const fn hands(&mut self) -> (&mut Driver<Waiting>, AtBrokers<'_>) {
        let Self { drive, with, acks, opening, .. } = self;
        (drive, AtBrokers { with, acks, opening })
    }

    fn came(&mut self, event: Event) {
        match event {
            Event::Next(next) => {
                let now = self.begun.elapsed();
                let (drive, mut hands) = self.hands();
                drive.hold(next, &mut hands, now);
            }
            Event::Anew(why) => {
                let behind = self.drive.door().last_read();
                self.with.options.notice(&Notice::ReadAnew { behind, why });
            }
        }
    }

    fn due(&mut self) -> Instant {
        let tick = Instant::now() + TICK;
        self.drive.door().next_expiry().map_or(tick, |due| tick.min(self.begun + due))
    }

    fn take(&mut self, first: Append, more: &mut mpsc::Receiver<Append>) {
        let now = self.begun.elapsed();
        self.offer(first, now);
        for _ in 1..TAKEN_AT_ONCE {
            let Ok(append) = more.try_recv() else { break };
            self.offer(append, now);
        }
    }

    fn offer(&mut self, Append { batch, reply }: Append, now: Duration) {
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

    fn acked(&mut self, number: u64, said: Option<Result<(), String>>) {
        match said {
            Some(Ok(())) => {
                self.drive.heard(self.begun.elapsed());
                self.drive.door().stored(number);
            }
            Some(Err(why)) => self.drive.door().refused(number, &why),
            None => {}
        }
    }

    fn look_at_the_time(&mut self) {
        if self.looked.elapsed() < TICK {
            return;
        }
        self.looked = Instant::now();
        let now = self.begun.elapsed();
        let (drive, hands) = self.hands();
        let is_stale = drive.is_stale(&hands, now);
        if self.with.shared.is_stale.swap(is_stale, Ordering::Relaxed) != is_stale {
            self.with.options.notice(if is_stale { &Notice::Stale } else { &Notice::Fresh });
        }
        self.drive.door().trim(now);
        let horizon = self.drive.door().dedup_horizon(now);
        let horizon = u64::try_from(horizon.as_millis()).unwrap_or(u64::MAX);
        self.with.shared.horizon_ms.store(horizon, Ordering::Relaxed);
    }
}

impl DriverIo<Waiting> for AtBrokers<'_> {
    fn sink(&self) -> &dyn Sink {
        &*self.with.sink
    }

    fn fence_is_known(&self) -> bool {
        self.with.fence.is_known()
    }

    fn fence_was_known_within(&self, time: Duration) -> bool {
        self.with.fence.was_known_within(time)
    }

    fn keep(&mut self, records: &[Record]) {
        self.with.keeper.read(records);
    }

    fn read_records_again(&mut self) -> u64 {
        self.with.keeper.read_again()
    }

    fn is_connected(&self) -> bool {
        self.with.link.is_connected()
    }

    /// Hands a pack to the client library, which writes what it is handed in that order.
    fn publish(&mut self, sealed: Sealed) -> Result<(), String> {
        let Sealed { number, payload } = sealed;
        let message = PublishMessage::build().payload(payload).expected_stream(self.with.log.name());
        let send = self.with.link.publishing.send_publish(self.with.log.subject().to_owned(), message);
        // A task that has done much in one turn is told "not now" by whatever it asks; that would be taken for a full connection.
        let ack = match unconstrained(send).now_or_never() {
            None => return Err("the connection takes nothing at present".to_owned()),
            Some(Err(error)) => return Err(error.to_string()),
            Some(Ok(ack)) => ack,
        };
        let shared = self.with.shared.clone();
        let said = async move {
            let said = match ack.await {
                Ok(_) => Some(Ok(())),
                Err(error) => surely_not(&error, shared.is_replicated.load(Ordering::Relaxed)).map(Err),
            };
            (number, said)
        };
        self.acks.push(said.boxed());
        Ok(())
    }

    fn answer(&mut self, (reply, asked): Waiting, answer: Result<Vec<Appended>, Error>) {
        match asked {
            Some(asked) => self.with.keeper.answer(*asked, reply, answer),
            None => _ = reply.send(answer), // whoever asked may be gone
        }
    }

    fn has_read(&mut self, message: u64) {
        self.with.shared.read.store(message, Ordering::Relaxed);
    }

    fn has_judged(&mut self, message: &Message, read: &Read) {
        self.say(message.number, read);
        self.with.shared.has_read(message.number, message.stamp_unix_ms);
        if let Some(opening) = self.opening {
            opening.bytes_read += message.payload.len() as u64;
            if let Some(on_progress) = &self.with.options.on_progress {
                on_progress(opening.bytes_read.min(opening.bytes), opening.bytes);
            }
        }
    }

    fn has_lost(&mut self, upto: Cursor) {
        self.with.options.notice(&Notice::Lost { upto });
    }
}

impl AtBrokers<'_> {
    fn say(&self, message: u64, read: &Read) {
        let why = match read {
            Read::Foreign => "no hub wrote it".to_owned(),
            Read::OtherEpoch(epoch) => format!("it was written for the epoch {epoch}"),
            Read::Impossible => "it says that its writer had read what came behind it".to_owned(),
            Read::Again | Read::Overtaken(..) | Read::Pack(_) => return,
        };
        self.with.options.notice(&Notice::Skipped { message, why });
    }
}

/// Why a pack surely never comes: nobody leads the stream, or the leader refused it before it handed it on. An error of storing
/// is not among them, for some brokers may have stored it.
fn surely_not(error: &PublishError, is_replicated: bool) -> Option<String> {
    match error.kind() {
        PublishErrorKind::StreamNotFound => Some("nobody leads the stream at present".to_owned()),
        _ => {
            let error = error.source()?.downcast_ref::<jetstream::Error>()?;
            let code = error.error_code();
            let is_refused = REFUSALS.contains(&code) || !is_replicated && REFUSALS_OF_ONE.contains(&code);
            is_refused.then(|| error.to_string())
        }
    }
}

/// What a leader says before it hands a message on.
const REFUSALS: [ErrorCode; 5] = [
    ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
    ErrorCode::MEMORY_RESOURCES_EXCEEDED,
    ErrorCode::STORAGE_RESOURCES_EXCEEDED,
    ErrorCode::STREAM_NOT_MATCH,
    ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT,
];

/// What it says when it stores a message. Where several keep the stream the others were handed it before, and store it if they can.
const REFUSALS_OF_ONE: [ErrorCode; 3] =
    [ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM, ErrorCode::INSUFFICIENT_RESOURCES, ErrorCode::STREAM_SEALED];

#[cfg(test)]
mod tests;
