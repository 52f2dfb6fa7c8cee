//! The one task that owns the [`Door`]: takes batches, publishes packs, tells the sink what was read, and gives the answers.
//!
//! All decisions are the door's. What this adds is time, the connection, and the order of things: what was read is in the sink
//! before anybody is answered, and standing records are with their [`Keeper`] before they are in the sink.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, ErrorCode};
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep_until};

use super::connect::Link;
use super::fence::SharedFence;
use super::reader::Event;
use super::standing::{Asked, Keeper, Reply};
use super::stream::{Log, Look};
use super::watch::Seen;
use super::{Notice, Options, Shared};
use crate::nats::{Door, Read, Sealed, Told};
use crate::{Batch, Sink};

/// How many batches are taken off the inbox before the other things have their turn.
const TAKEN_AT_ONCE: usize = 4_096;

/// How often it is looked whether anything was heard, and what is too old is let go of.
const TICK: Duration = Duration::from_millis(500);

/// Without a sign of the leader for so long, the log may have gone on elsewhere.
const STALE_AFTER: Duration = Duration::from_secs(4);

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
    pub(super) fence: Arc<SharedFence>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) link: Link,
    pub(super) options: Options,
}

pub(super) struct Pump {
    door: Door<Waiting>,
    with: Parts,
    /// Bounded by what the door lets be under way; one that is not answered ends with its time.
    acks: FuturesUnordered<BoxFuture<'static, Ack>>,
    /// What was read and may not be handed on yet: the fence was not asked after it came, or is not known, or the standing records are
    /// read again.
    held: Option<Event>,
    /// Which reading of the standing records what is held waits for, and since when.
    waits_for: Option<(u64, Instant)>,
    opening: Option<Opening>,
    begun: Instant,
    /// When there was a sign of the leader last.
    heard: Instant,
    /// When it was looked at the time last.
    looked: Instant,
    told: Vec<Told>,
}

/// What there was in the stream when the store was opened is being read.
struct Opening {
    last: u64,
    bytes: u64,
    bytes_read: u64,
    done: oneshot::Sender<()>,
}

impl Pump {
    pub(super) fn new(door: Door<Waiting>, with: Parts, at_start: Look, done: oneshot::Sender<()>) -> Self {
        let now = Instant::now();
        let opening = Some(Opening { last: at_start.last, bytes: at_start.bytes, bytes_read: 0, done });
        let (acks, told) = (FuturesUnordered::new(), Vec::new());
        let (held, waits_for) = (None, None);
        Self { door, with, acks, held, waits_for, opening, begun: now, heard: now, looked: now, told }
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
            let mut ended = tokio::select! {
                biased;
                Some(seen) = watched.recv() => self.seen(seen),
                Some((number, said)) = self.acks.next(), if !self.acks.is_empty() => {
                    self.acked(number, said);
                    Ok(())
                }
                Some(event) = reading.recv(), if self.held.is_none() => {
                    self.hold(event);
                    Ok(())
                }
                Ok(()) = fence_known.changed(), if self.held.is_some() => Ok(()),
                Ok(()) = records_read.changed(), if self.waits_for.is_some() => {
                    let done = *records_read.borrow_and_update();
                    self.waits_for.take_if(|(asked, _)| *asked <= done);
                    Ok(())
                }
                append = appends.recv() => match append {
                    Some(append) => {
                        self.take(append, &mut appends);
                        Ok(())
                    }
                    None => return, // the store was dropped
                },
                () = sleep_until(due) => Ok(()),
            };
            // Asked now, and not before it came: the connection may have become another one since.
            if self.may_read()
                && let Some(event) = self.held.take()
            {
                ended = ended.and_then(|()| self.read(event));
            }
            if let Err(why) = ended {
                break why;
            }
            self.door.expire(self.now());
            self.publish();
            self.answer();
            self.look_at_the_time();
        };
        let _ = self.with.shared.ended.set(why.clone()); // it ends once
        self.with.shared.is_stale.store(true, Ordering::Relaxed);
        self.door.end(&why);
        self.answer();
        drop(appends);
        if let (None, Some(on_death)) = (&self.opening, &self.with.options.on_death) {
            on_death(&why);
        }
    }

    /// Whether what was read may be handed on: somebody may have been let in at another hub that is to have it instead of a stream
    /// here. While this hub reads what was there before it, it has no streams.
    fn may_read(&self) -> bool {
        self.waits_for.is_none() && (self.opening.is_some() || self.with.fence.is_known())
    }

    /// What comes next of the stream. If messages before it are lost, standing records may have been among them: these are read again
    /// from their bucket before anybody is told of the hole, and so is told what holds.
    fn hold(&mut self, event: Event) {
        let has_lost = match &event {
            Event::Message(message) => message.number > self.door.last_read() + 1,
            Event::AtEnd => self.opening.as_ref().is_some_and(|opening| opening.last > self.door.last_read()),
            Event::Anew(_) => false,
        };
        if has_lost {
            self.waits_for = Some((self.with.keeper.read_again(), Instant::now()));
        }
        self.held = Some(event);
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn due(&self) -> Instant {
        let tick = Instant::now() + TICK;
        self.door.next_expiry().map_or(tick, |due| tick.min(self.begun + due))
    }

    fn take(&mut self, first: Append, more: &mut mpsc::Receiver<Append>) {
        let now = self.now();
        self.offer(first, now);
        for _ in 1..TAKEN_AT_ONCE {
            let Ok(append) = more.try_recv() else { break };
            self.offer(append, now);
        }
    }

    fn offer(&mut self, Append { batch, reply }: Append, now: Duration) {
        if !batch.items.iter().any(|item| item.change.is_some()) {
            return self.door.offer(batch, (reply, None), now);
        }
        let is_known = self.door.knows(&batch, now);
        match self.with.keeper.begin(&batch, is_known) {
            Ok(asked) => self.door.offer(batch, (reply, Some(Box::new(asked))), now),
            Err(refused) => self.door.refuse((reply, None), refused),
        }
    }

    /// Publishes what there is, unless there is no connection: what was not sent can be refused.
    fn publish(&mut self) {
        while self.with.link.is_connected() {
            let Some(sealed) = self.door.seal(self.now()) else { return };
            let number = sealed.number;
            match self.hand_over(sealed) {
                Ok(ack) => self.acks.push(ack),
                Err(why) => self.door.refused(number, &why),
            }
        }
    }

    /// Hands a pack to the client library, which writes what it is handed in that order.
    ///
    /// # Errors
    ///
    /// It did not take it.
    fn hand_over(&self, sealed: Sealed) -> Result<BoxFuture<'static, Ack>, String> {
        let Sealed { number, payload } = sealed;
        let message = PublishMessage::build().payload(payload).expected_stream(self.with.log.name());
        let send = self.with.link.publishing.send_publish(self.with.log.subject().to_owned(), message);
        // A task that has done much in one turn is told "not now" by whatever it asks; that would be taken for a full connection.
        match unconstrained(send).now_or_never() {
            None => Err("the connection takes nothing at present".to_owned()),
            Some(Err(error)) => Err(error.to_string()),
            Some(Ok(ack)) => Ok(async move {
                let said = match ack.await {
                    Ok(_) => Some(Ok(())),
                    Err(error) => surely_not(&error).map(Err),
                };
                (number, said)
            }
            .boxed()),
        }
    }

    fn acked(&mut self, number: u64, said: Option<Result<(), String>>) {
        match said {
            Some(Ok(())) => {
                self.heard = Instant::now();
                self.door.stored(number);
            }
            Some(Err(why)) => self.door.refused(number, &why),
            None => {}
        }
    }

    /// # Errors
    ///
    /// The store must end, and why.
    fn read(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Message(message) => {
                self.heard = Instant::now();
                let now = self.now();
                let (number, length) = (message.number, message.payload.len());
                let read =
                    self.door.read(&message, now, &mut self.told).map_err(|fatal| fatal.to_string())?;
                self.with.shared.read.store(number, Ordering::Relaxed);
                self.tell();
                self.say(number, &read);
                if let Some(opening) = &mut self.opening {
                    opening.bytes_read += length as u64;
                    if let Some(on_progress) = &self.with.options.on_progress {
                        on_progress(opening.bytes_read.min(opening.bytes), opening.bytes);
                    }
                }
                if self.opening.as_ref().is_some_and(|opening| number >= opening.last) {
                    self.opened();
                }
            }
            Event::AtEnd => {
                if let Some(opening) = &self.opening {
                    // What it had then is gone by now.
                    self.door.lost(opening.last, &mut self.told);
                    self.opened();
                }
            }
            Event::Anew(why) => {
                let behind = self.door.last_read();
                self.with.options.notice(&Notice::ReadAnew { behind, why });
            }
        }
        Ok(())
    }

    /// Everything that was there at the start was read.
    fn opened(&mut self) {
        self.tell();
        let Some(opening) = self.opening.take() else { return };
        self.door.caught_up(&mut self.told);
        self.tell();
        self.with.shared.read.store(self.door.last_read(), Ordering::Relaxed);
        let _ = opening.done.send(()); // whoever opens it may be gone
    }

    /// Hands the sink what was read.
    fn tell(&mut self) {
        for told in self.told.drain(..) {
            match told {
                Told::Begin(base) => self.with.sink.begin(base),
                Told::Entries(entries) if self.opening.is_some() => self.with.sink.restored(&entries),
                Told::Entries(entries) => self.with.sink.committed(&entries),
                Told::Gap { from, to } => {
                    self.with.sink.damaged(from, to);
                    self.with.options.notice(&Notice::Lost { upto: to });
                }
                Told::Upto(to) => self.with.sink.advanced(to),
                Told::Records(records) => self.with.keeper.read(&records),
            }
        }
    }

    fn say(&self, message: u64, read: &Read) {
        let why = match read {
            Read::Foreign => "no hub wrote it".to_owned(),
            Read::OtherEpoch(epoch) => format!("it was written for the epoch {epoch}"),
            Read::Impossible => "it says that its writer had read what came behind it".to_owned(),
            Read::Again | Read::Overtaken(..) | Read::Pack(_) => return,
        };
        self.with.options.notice(&Notice::Skipped { message, why });
    }

    fn answer(&mut self) {
        for ((reply, asked), answer) in self.door.take_answers() {
            match asked {
                Some(asked) => self.with.keeper.answer(*asked, reply, answer),
                None => _ = reply.send(answer), // whoever asked may be gone
            }
        }
    }

    /// # Errors
    ///
    /// The store must end, and why.
    fn seen(&mut self, seen: Seen) -> Result<(), String> {
        match seen {
            Seen::Led => self.heard = Instant::now(),
            Seen::Lost => {}
            Seen::End(why) => return Err(why),
        }
        Ok(())
    }

    fn look_at_the_time(&mut self) {
        if self.looked.elapsed() < TICK {
            return;
        }
        self.looked = Instant::now();
        let now = self.now();
        let is_held_up = self.opening.is_none() && !self.with.fence.was_known_within(STALE_AFTER)
            || self.waits_for.is_some_and(|(_, since)| since.elapsed() >= STALE_AFTER);
        let is_stale = is_held_up || self.heard.elapsed() >= STALE_AFTER;
        if self.with.shared.is_stale.swap(is_stale, Ordering::Relaxed) != is_stale {
            self.with.options.notice(if is_stale { &Notice::Stale } else { &Notice::Fresh });
        }
        self.door.trim(now);
        let horizon = self.door.dedup_horizon(now);
        let horizon = u64::try_from(horizon.as_millis()).unwrap_or(u64::MAX);
        self.with.shared.horizon_ms.store(horizon, Ordering::Relaxed);
    }
}

/// Why a pack surely never comes: nobody leads the stream, or the leader refused it before it handed it on. An error of storing
/// is not among them, for some brokers may have stored it.
fn surely_not(error: &PublishError) -> Option<String> {
    match error.kind() {
        PublishErrorKind::StreamNotFound => Some("nobody leads the stream at present".to_owned()),
        _ => {
            let error = error.source()?.downcast_ref::<jetstream::Error>()?;
            REFUSALS.contains(&error.error_code()).then(|| error.to_string())
        }
    }
}

/// What a leader says before it hands a message on.
const REFUSALS: [ErrorCode; 8] = [
    ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM,
    ErrorCode::INSUFFICIENT_RESOURCES,
    ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
    ErrorCode::MEMORY_RESOURCES_EXCEEDED,
    ErrorCode::STORAGE_RESOURCES_EXCEEDED,
    ErrorCode::STREAM_SEALED,
    ErrorCode::STREAM_NOT_MATCH,
    ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT,
];

#[cfg(test)]
mod tests;
