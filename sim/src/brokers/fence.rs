//! The fence of one simulated hub: what it reads of the bucket, the beats that it writes, and its registers.
//!
//! What was read and until when that is all there was is judged by the store's own code; here is only when it is read and written.

use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use galaxy_push_store::fence::{Question, Register as Found, Stream};
use galaxy_push_store::nats::HubId;
use galaxy_push_store::nats::fence::{ANEW_AFTER, BEAT_EVERY, Beats, Known, KnownAt, PAUSE, REACHED_FOR};
use galaxy_push_store::nats::register::{self, Beat, Register};
use galaxy_push_store::{Error, Fence, Holder, Refused, Sink};
use tokio::time::{Instant, sleep, timeout};

use super::At;
use super::cluster::{Said, To};
use super::stream::{Entry, Which};

/// How long a question to the brokers may take.
const WITHIN: Duration = Duration::from_secs(2);

/// So much is read at a time.
const AT_ONCE: usize = 64;

pub(super) struct HubFence {
    at: At,
    door: HubId,
    state: Mutex<State>,
}

struct State {
    known: Known,
    beats: Beats,
    known_at: Option<KnownAt>,
    /// Where it reads, and by which connection.
    next: u64,
    made: u64,
    begins_at: Instant,
    beats_at: Instant,
    progress: Instant,
}

impl HubFence {
    pub(super) fn new(at: At, door: HubId) -> Arc<Self> {
        let now = Instant::now();
        let state = State {
            known: Known::default(),
            beats: Beats::default(),
            known_at: None,
            next: 1,
            made: at.made(),
            begins_at: now,
            beats_at: now,
            progress: now,
        };
        Arc::new(Self { at, door, state: Mutex::new(state) })
    }

    pub(super) fn is_known(&self) -> bool {
        let made = self.at.made();
        self.lock().known_at.is_some_and(|known| known.is_known(made, Instant::now()))
    }

    pub(super) fn was_known_within(&self, time: Duration) -> bool {
        self.lock().known_at.is_some_and(|known| known.is_within(time, Instant::now()))
    }

    /// Reads what has come, and writes a beat when it is time.
    pub(super) fn turn(&self, sink: &dyn Sink) {
        let (now, made) = (Instant::now(), self.at.made());
        let mut state = self.lock();
        if made != state.made || now.saturating_duration_since(state.progress) > ANEW_AFTER {
            state.beats.begin_anew();
            (state.made, state.next, state.progress, state.begins_at) = (made, 1, now, now + PAUSE);
        }
        if now < state.begins_at {
            return;
        }
        if now >= state.beats_at && self.at.is_connected() {
            state.beats_at = now + BEAT_EVERY;
            let number = state.beats.next(now);
            let beat = Beat { number, highest: state.known.highest() }.write();
            let key = register::beat_key(self.door);
            self.at.send(Which::Fence, &key, None, beat.into(), To::Nobody);
        }
        let (entries, left) = self.at.deliver(Which::Fence, state.next, AT_ONCE);
        let count = entries.len();
        let mut taken = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let pending = left + (count - 1 - index) as u64;
            state.next = entry.number + 1;
            let is_beat = entry.key.starts_with("hub.");
            taken.extend(self.take(&mut state, &entry));
            let known = state.beats.take_known(pending);
            if let Some(at) = known {
                state.known_at = Some(KnownAt { at, made });
            }
            if !is_beat || known.is_some() {
                state.progress = now;
            }
        }
        drop(state);
        // Told before it is said that all is known: both are seen when this returns.
        taken.iter().for_each(|(gateway, holder)| sink.taken(gateway, holder));
        self.at.brokers.questions.answer(&self.at, self.door, sink);
    }

    fn take(&self, state: &mut State, entry: &Entry) -> Option<(String, Holder)> {
        if entry.key.starts_with("hub.") {
            let beat = Beat::read(&entry.payload).ok()?;
            state.known.heard(&entry.key, beat, Instant::now());
            if *entry.key == *register::beat_key(self.door) {
                state.beats.came_back(beat.number);
            }
            return None;
        }
        let register = Register::read(&entry.payload).ok()?;
        let is_told = state.known.read(entry.number, &register, self.door);
        is_told.then_some((register.gateway, register.holder))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn find(&self, gateway: &str) -> Result<Found, Error> {
        sleep(self.at.latency()).await;
        let value = self.at.read(Which::Fence, &register::key(gateway));
        let Ok(value) = value else {
            sleep(WITHIN).await;
            return Err(Refused::Unavailable("no leader answers".to_owned()).into());
        };
        self.lock().known.found(value.as_ref().map(|(revision, bytes)| (*revision, &**bytes)))
    }

    async fn write(&self, gateway: &str, revision: u64, holder: Holder) -> Result<bool, Error> {
        let register = Register { door: self.door, gateway: gateway.to_owned(), holder };
        let written = self.put(&register, revision).await?;
        if let Some(revision) = written {
            self.lock().known.wrote(gateway, revision, register.holder);
        }
        Ok(written.is_some())
    }

    /// Returns its revision; `None`: another was written meanwhile.
    async fn put(&self, register: &Register, revision: u64) -> Result<Option<u64>, Error> {
        let key = register::key(&register.gateway);
        let answer = self.at.write(Which::Fence, &key, revision, register.write());
        match timeout(WITHIN, answer).await {
            Ok(Ok(Said::Stored(revision))) => Ok(Some(revision)),
            Ok(Ok(Said::Changed)) => Ok(None),
            _ => Err(Error::Unknown("no leader answers".to_owned())),
        }
    }

    async fn rewrite(&self, gateway: &str, found: &Found) -> Result<bool, Error> {
        let Found { holder, revision, door, .. } = found;
        let register = Register { door: HubId(*door), gateway: gateway.to_owned(), holder: holder.clone() };
        Ok(self.put(&register, *revision).await?.is_some())
    }
}

impl Fence for HubFence {
    fn read<'a>(&'a self, gateway: &'a str) -> BoxFuture<'a, Result<Found, Error>> {
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

    fn amend<'a>(&'a self, gateway: &'a str, register: &'a Found) -> BoxFuture<'a, Result<bool, Error>> {
        self.rewrite(gateway, register).boxed()
    }

    fn door(&self) -> u128 {
        self.door.0
    }

    fn ask(&self, door: u128, question: Question) -> BoxFuture<'_, Option<Stream>> {
        let door = HubId(door);
        if !self.lock().known.is_alive(door, Instant::now()) {
            return ready(None).boxed();
        }
        self.at.brokers.questions.ask(&self.at, door, question).boxed()
    }

    fn is_reached(&self) -> bool {
        self.at.is_connected() && self.was_known_within(REACHED_FOR)
    }

    fn held(&self, gateway: &str) -> Option<Holder> {
        self.lock().known.holder(gateway)
    }
}
