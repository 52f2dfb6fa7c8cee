//! The fence of several hubs on a real broker: registers in a [`Bucket`], and a task that tells this hub what the others take.
//!
//! What a register says is decided in [`fence`](crate::fence), and changed by compare-and-set of its revision. The task reads the
//! bucket for as long as the store lives, all of it again whenever it has lost its place. Several times a second it writes a
//! *beat*, a key of this hub's own. Once a beat is read back, everything has been read that was written before it: so a hub knows
//! until when it knows the fence, also one whose broker lags behind the others without knowing. The pump hands on nothing while
//! that is too long ago ([`RegisterBucket::is_known`]); what a hub missed of the log it has missed of the fence as well.

use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::{Message as Delivered, Subscriber};
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::bucket::{Bucket, Value};
use super::connect::Link;
use super::probes::Probes;
use super::reader::{OTHER_CONNECTION, Place, answer_status, consumer};
use super::{Notice, Options};
use crate::fence::{self, Question, Stream};
use crate::nats::HubId;
use crate::nats::register::{self, Beat, Register};
use crate::nats::register_view::{ANEW_AFTER, BEAT_EVERY, Beats, Known, KnownAt, PAUSE, REACHED_FOR};
use crate::{Error, Fence, Holder, Refused, Sink};

/// The fence as one hub has it: its bucket, and what was read of that.
#[derive(Debug)]
pub(super) struct RegisterBucket {
    /// This hub, in what it writes.
    door: HubId,
    bucket: Bucket,
    link: Link,
    asking: Arc<Probes>,
    known: Mutex<Known>,
    /// Up to when everything that was written has been read. `None`: it was never read to its end.
    known_at: watch::Sender<Option<KnownAt>>,
}

impl RegisterBucket {
    pub(super) fn new(door: HubId, bucket: Bucket, link: Link, options: &Options) -> Self {
        let asking = Arc::new(Probes::new(door, link.clone(), options));
        Self { door, bucket, link, asking, known: Mutex::default(), known_at: watch::Sender::new(None) }
    }

    /// What hubs ask each other.
    pub(super) fn asking(&self) -> Arc<Probes> {
        self.asking.clone()
    }

    /// Whether everything that was taken until a moment ago has been told; after a lost connection, by the new one.
    pub(super) fn is_known(&self) -> bool {
        let made = self.link.made();
        self.known_at.borrow().is_some_and(|known| known.is_known(made, Instant::now()))
    }

    pub(super) fn was_known_within(&self, time: Duration) -> bool {
        self.known_at.borrow().is_some_and(|known| known.is_within(time, Instant::now()))
    }

    /// Rings when it has been read up to now again.
    pub(super) fn known(&self) -> watch::Receiver<Option<KnownAt>> {
        self.known_at.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the sink what the other hubs take, for as long as it is polled.
    pub(super) async fn run(self: Arc<Self>, sink: Arc<dyn Sink>, options: Options) {
        let mut beats = Beats::default();
        loop {
            let why = Watch { fence: &self, sink: &*sink, options: &options, beats: &mut beats, made: 0 }
                .read()
                .await;
            options.notice(&Notice::Trouble(format!("the fence is read anew: {why}")));
            sleep(PAUSE).await;
        }
    }
}

/// One consumer, read to its end.
struct Watch<'a> {
    fence: &'a RegisterBucket,
    sink: &'a dyn Sink,
    options: &'a Options,
    beats: &'a mut Beats,
    /// The connection that it came by.
    made: u64,
}

impl Watch<'_> {
    /// Returns why it is read no more.
    async fn read(&mut self) -> String {
        let mut bell = self.fence.link.bell.clone();
        bell.borrow_and_update();
        self.made = self.fence.link.made();
        self.beats.begin_anew();
        let mut messages = match self.begin().await {
            Ok(messages) => messages,
            Err(error) => return format!("no consumer can be made: {error}"),
        };
        let (mut delivered, mut progress) = (0, Instant::now());
        let mut ticks = interval(BEAT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = bell.changed() => return OTHER_CONNECTION.to_owned(),
                now = ticks.tick() => {
                    if now.saturating_duration_since(progress) > ANEW_AFTER {
                        return format!("nothing new has come for {ANEW_AFTER:?}");
                    }
                    self.beat();
                }
                message = messages.next() => {
                    let Some(message) = message else { return "its subscription has ended".to_owned() };
                    if self.fence.link.made() != self.made {
                        return OTHER_CONNECTION.to_owned();
                    }
                    match self.take(message, &mut delivered).await {
                        Ok(true) => progress = Instant::now(),
                        Ok(false) => {}
                        Err(why) => return why,
                    }
                }
            }
        }
    }

    /// A consumer of all that there is.
    async fn begin(&self) -> Result<Subscriber, async_nats::Error> {
        let link = &self.fence.link;
        let inbox = link.client.new_inbox();
        let messages = link.client.subscribe(inbox.clone()).await?;
        let config = consumer(inbox, DeliverPolicy::All);
        if self.fence.bucket.consume(config.clone()).await.is_err() {
            self.fence.bucket.find_or_make().await?; // somebody may have removed it
            self.fence.bucket.consume(config).await?;
        }
        Ok(messages)
    }

    /// Writes a beat, if that can be done without waiting.
    fn beat(&mut self) {
        let fence = self.fence;
        if !fence.link.is_connected() {
            return;
        }
        let number = self.beats.next(Instant::now());
        let beat = Beat { number, highest: fence.lock().highest() };
        let subject = fence.bucket.subject(&register::beat_key(fence.door));
        // One that is not sent does not come back.
        let _sent = unconstrained(fence.link.client.publish(subject, beat.write().into())).now_or_never();
    }

    /// Takes one delivery. Returns whether the fence is known better by it: where beats return and more is always said to come, the
    /// broker may have miscounted.
    ///
    /// # Errors
    ///
    /// Why this consumer must be read no more.
    async fn take(&mut self, message: Delivered, delivered: &mut u64) -> Result<bool, String> {
        if let Some(status) = message.status {
            answer_status(&self.fence.link, status, &message, *delivered).await?;
            return Ok(false);
        }
        let place = Place::of(&message, delivered)?;
        let key = self.fence.bucket.key(&message.subject).unwrap_or_default();
        let is_beat = key.starts_with("hub.");
        if is_beat {
            self.take_beat(key, &message.payload);
        } else {
            self.take_register(place.number, &message.payload);
        }
        let known = self.beats.take_known(place.pending);
        if let Some(at) = known {
            self.fence.known_at.send_replace(Some(KnownAt { at, made: self.made }));
        }
        Ok(!is_beat || known.is_some())
    }

    fn take_beat(&mut self, key: &str, bytes: &[u8]) {
        let Ok(beat) = Beat::read(bytes) else { return };
        let mut known = self.fence.lock();
        known.heard(key, beat, Instant::now());
        drop(known);
        if key == register::beat_key(self.fence.door) {
            self.beats.came_back(beat.number);
        }
    }

    fn take_register(&self, revision: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return; // deleted
        }
        match Register::read(bytes) {
            Ok(register) => {
                let is_told = self.fence.lock().read(revision, &register, self.fence.door);
                if is_told {
                    self.sink.taken(&register.gateway, &register.holder);
                }
            }
            Err(error) => {
                let what = format!("change {revision} of the fence is skipped: {error}");
                self.options.notice(&Notice::Trouble(what));
            }
        }
    }
}

impl RegisterBucket {
    async fn find(&self, gateway: &str) -> Result<fence::Register, Error> {
        self.check_link()?;
        let found = self.bucket.read(&register::key(gateway)).await;
        let found = found.map_err(|error| unavailable(error.to_string()))?;
        self.lock().found(found.as_ref().map(|Value { revision, bytes }| (*revision, &**bytes)))
    }

    async fn write(&self, gateway: &str, revision: u64, holder: Holder) -> Result<bool, Error> {
        self.check_link()?;
        let register = Register { door: self.door, gateway: gateway.to_owned(), holder };
        let swapped = self.bucket.swap(&register::key(gateway), revision, register.write()).await;
        let swapped = swapped.map_err(|error| Error::Unknown(error.to_string()))?;
        if let Some(revision) = swapped {
            self.lock().wrote(gateway, revision, register.holder);
        }
        Ok(swapped.is_some())
    }

    /// Under the name of the door that wrote it before: its hub reads that the id is its own still, and every other that it is not.
    async fn rewrite(&self, gateway: &str, found: &fence::Register) -> Result<bool, Error> {
        self.check_link()?;
        let fence::Register { holder, revision, door, .. } = found;
        let register = Register { door: HubId(*door), gateway: gateway.to_owned(), holder: holder.clone() };
        let swapped = self.bucket.swap(&register::key(gateway), *revision, register.write()).await;
        Ok(swapped.map_err(|error| Error::Unknown(error.to_string()))?.is_some())
    }

    fn check_link(&self) -> Result<(), Error> {
        if self.link.is_connected() { Ok(()) } else { Err(unavailable("no broker is reached".to_owned())) }
    }
}

fn unavailable(why: String) -> Error {
    Refused::Unavailable(why).into()
}

impl Fence for RegisterBucket {
    fn read<'a>(&'a self, gateway: &'a str) -> BoxFuture<'a, Result<fence::Register, Error>> {
        self.find(gateway).boxed()
    }

    fn swap<'a>(
        &'a self,
        gateway: &'a str,
        revision: u64,
        holder: Holder,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        self.write(gateway, revision, holder).boxed()
    }

    fn amend<'a>(
        &'a self,
        gateway: &'a str,
        register: &'a fence::Register,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        self.rewrite(gateway, register).boxed()
    }

    fn door(&self) -> u128 {
        self.door.0
    }

    /// A hub whose beats do not come is not asked: who waits for it waits for nothing.
    fn ask(&self, door: u128, question: Question) -> BoxFuture<'_, Option<Stream>> {
        if !self.lock().is_alive(HubId(door), Instant::now()) {
            return ready(None).boxed();
        }
        self.asking.ask(HubId(door), question).boxed()
    }

    fn is_reached(&self) -> bool {
        self.link.is_connected() && self.was_known_within(REACHED_FOR)
    }

    fn held(&self, gateway: &str) -> Option<Holder> {
        self.lock().holder(gateway)
    }
}

#[cfg(test)]
mod tests;
