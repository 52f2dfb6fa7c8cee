//! A simulated store that several hubs share: one log behind several doors, as a broker would keep it.
//!
//! It carries positions, what was published before, the standing records and the fence. It outlives every hub: one that
//! is started again finds the same log, and replays it. A door may lag: it is handed what others append up to two
//! seconds later, in order. Takeovers are made known within a second, lag or not. Now and then the store does not answer,
//! and whether it appended nobody knows; or it refuses.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use galaxy_push_core::cursor::{Cursor, Epoch};
use galaxy_push_core::frame::LogKind;
use galaxy_push_core::window::Traits;
use galaxy_push_proto::v1;
use galaxy_push_store::fence::{ASKED_WITHIN, PINGED_WITHIN, Question, Register, Stream};
use galaxy_push_store::standing::{self, Change};
use galaxy_push_store::{
    Appended, Batch, Committed, DedupBounds, Error, Fence, Holder, Maker, MemoryStore, Refused, Sink,
    Standing, Store,
};
use galaxy_push_testkit::Recorder;
use prost::Message as _;
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::rng::{Rng, now_us};
use crate::truth::Truth;

/// The longest time until another door is told of a takeover.
const TAKEN_WITHIN: Duration = Duration::from_millis(900);

/// The longest time the store takes to answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(20);

/// A log and its doors. Clones are the same log.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "the store inside has none worth reading")]
pub struct SharedLog {
    order: Arc<MemoryStore>,
    state: Arc<Mutex<State>>,
    /// Rings when there is something to hand on.
    grown: watch::Sender<()>,
    /// Writes down what is acknowledged, before any door has it.
    truth: Option<Truth>,
}

struct State {
    base: Cursor,
    /// Every batch, without what is for live readers only.
    batches: Vec<Arc<[Committed]>>,
    registers: BTreeMap<String, Register>,
    doors: Vec<Weak<Door>>,
    /// How many doors were opened so far.
    opened: u128,
    rng: Rng,
    /// While this is not over, the store fails now and then.
    trouble_until: Duration,
}

/// Orders what is appended for the doors.
struct FanOut {
    state: Arc<Mutex<State>>,
    grown: watch::Sender<()>,
}

/// What one hub has opened.
struct Door {
    log: SharedLog,
    number: u128,
    sink: Arc<dyn Sink>,
    lag_max: Duration,
    queue: Mutex<Queue>,
    /// The records as they hold where this door is.
    standing: Mutex<Standing>,
}

#[derive(Default)]
struct Queue {
    batches: VecDeque<(u64, Arc<[Committed]>)>,
    taken: VecDeque<(u64, String, Holder)>,
    /// What other doors ask, and who waits for the answer.
    asked: Vec<(Question, oneshot::Sender<Option<Stream>>)>,
}

impl SharedLog {
    /// An empty log. What it acknowledges is written down, if there is a `recorder`; until `trouble_until` the store fails now
    /// and then.
    #[must_use]
    pub fn new(epoch: Epoch, rng: Rng, recorder: Option<Recorder>, trouble_until: Duration) -> Self {
        let truth = recorder.map(Truth::new);
        if let Some(truth) = &truth {
            truth.begins(Cursor::start(epoch));
        }
        let state = State {
            base: Cursor::start(epoch),
            batches: Vec::new(),
            registers: BTreeMap::new(),
            doors: Vec::new(),
            opened: 0,
            rng,
            trouble_until,
        };
        let (state, grown) = (Arc::new(Mutex::new(state)), watch::Sender::new(()));
        let sink = FanOut { state: state.clone(), grown: grown.clone() };
        let order = Arc::new(MemoryStore::new(epoch, DedupBounds::default(), Arc::new(sink)));
        Self { order, state, grown, truth }
    }

    /// Opens a door that is handed everything, and what is appended from now on up to so much later. Needs a tokio
    /// runtime: a task hands on.
    #[must_use]
    pub fn door(&self, lag_max: Duration) -> Maker {
        let log = self.clone();
        Box::new(move |sink| {
            let number = {
                let mut state = lock(&log.state);
                state.opened += 1;
                state.opened
            };
            let door = Arc::new(Door {
                log: log.clone(),
                number,
                sink: sink.clone(),
                lag_max,
                queue: Mutex::default(),
                standing: Mutex::new(Standing::new(standing::RECORDS_MAX)),
            });
            let mut state = lock(&log.state);
            sink.begin(state.base);
            state.batches.iter().for_each(|batch| door.hand_on(batch));
            state.doors.retain(|door| door.strong_count() > 0);
            state.doors.push(Arc::downgrade(&door));
            drop(state);
            tokio::spawn(hand_on(Arc::downgrade(&door), log.grown.subscribe()));
            Ok(door)
        })
    }
}

impl Sink for FanOut {
    fn begin(&self, _: Cursor) {}

    fn committed(&self, batch: &[Committed]) {
        let now = now_us();
        let batch: Arc<[Committed]> = batch.into();
        let mut state = lock(&self.state);
        let State { doors, rng, batches, .. } = &mut *state;
        for door in doors.iter().filter_map(Weak::upgrade) {
            // Mostly at once; and nothing overtakes.
            let lag =
                if rng.percent(70) { Duration::ZERO } else { rng.between(Duration::ZERO, door.lag_max) };
            let mut queue = lock(&door.queue);
            let before = queue.batches.back().map_or(0, |(due, _)| *due);
            let due = before.max(now + lag.as_micros() as u64);
            // Handed on by each door's own hub: its clock is not that of whoever appends.
            queue.batches.push_back((due, batch.clone()));
        }
        let lasting = batch.iter().filter(|each| !each.traits.has(Traits::EPHEMERAL)).cloned();
        batches.push(lasting.collect());
        drop(state);
        self.grown.send_replace(());
    }

    /// What lies in memory is not damaged.
    fn damaged(&self, _: Cursor, _: Cursor) {}
}

impl Door {
    fn hand_on(&self, batch: &[Committed]) {
        if batch.is_empty() {
            return;
        }
        let mut standing = lock(&self.standing);
        for change in batch.iter().filter_map(change) {
            standing.apply(&change, None, 0); // what has expired is left out by whoever reads
        }
        drop(standing);
        self.sink.committed(batch);
    }

    fn hand_on_due(&self, now: u64) {
        let mut queue = lock(&self.queue);
        while queue.taken.front().is_some_and(|(due, ..)| *due <= now) {
            let Some((_, gateway, holder)) = queue.taken.pop_front() else { break };
            self.sink.taken(&gateway, &holder);
        }
        while queue.batches.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, batch)) = queue.batches.pop_front() else { break };
            self.hand_on(&batch);
        }
    }

    /// In the time of this door's own hub, whose streams they are.
    fn answer(&self) {
        let asked = std::mem::take(&mut lock(&self.queue).asked);
        for (question, reply) in asked {
            let answer = self.sink.asked(&question);
            tokio::spawn(async move { reply.send(answer.await) });
        }
    }

    fn next_due(&self) -> Option<u64> {
        let queue = lock(&self.queue);
        let batch = queue.batches.front().map(|(due, _)| *due);
        let taken = queue.taken.front().map(|(due, ..)| *due);
        batch.into_iter().chain(taken).min()
    }

    /// How long the store takes to answer.
    fn latency(&self) -> Duration {
        lock(&self.log.state).rng.between(Duration::ZERO, ANSWER_WITHIN)
    }

    fn is_in_trouble(&self, percent: u64) -> bool {
        let mut state = lock(&self.log.state);
        u128::from(now_us()) < state.trouble_until.as_micros() && state.rng.percent(percent)
    }
}

async fn hand_on(door: Weak<Door>, mut grown: watch::Receiver<()>) {
    loop {
        grown.borrow_and_update();
        let due = {
            let Some(door) = door.upgrade() else { return };
            door.hand_on_due(now_us());
            door.answer();
            door.next_due()
        };
        let wait = due.map_or(Duration::from_secs(1), |due| {
            Duration::from_micros(due.saturating_sub(now_us())).max(Duration::from_millis(1))
        });
        tokio::select! {
            biased;
            _ = grown.changed() => {}
            () = sleep(wait) => {}
        }
    }
}

impl Store for Door {
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<Vec<Appended>, Error>> {
        async move {
            if self.is_in_trouble(1) {
                return Err(Refused::Unavailable("the broker has no leader".into()).into());
            }
            let lost = self.is_in_trouble(1);
            let items = batch.items.clone();
            let appended = self.log.order.append(batch).await;
            if let (Some(truth), Ok(appended)) = (&self.log.truth, &appended) {
                truth.acknowledged(&items, appended);
            }
            self.hand_on_due(now_us());
            sleep(self.latency()).await;
            if lost { Err(Error::Unknown("the broker did not answer".into())) } else { appended }
        }
        .boxed()
    }

    fn head(&self) -> BoxFuture<'_, Result<Cursor, Error>> {
        async move {
            sleep(self.latency()).await;
            self.log.order.head().await
        }
        .boxed()
    }

    fn fence(&self) -> Option<&dyn Fence> {
        Some(self)
    }

    fn dedup_horizon(&self, now: Duration) -> Duration {
        self.log.order.dedup_horizon(now)
    }

    fn standing(
        &self,
        after: Option<&standing::Key>,
        bytes_max: usize,
        bytes_each: usize,
        now_unix_ms: u64,
    ) -> standing::Page {
        lock(&self.standing).page(after, bytes_max, bytes_each, now_unix_ms)
    }

    fn standing_count(&self, now_unix_ms: u64) -> standing::Count {
        lock(&self.standing).count(now_unix_ms)
    }

    fn standing_fill(&self, kind: LogKind, publisher: Option<&str>, now_unix_ms: u64) -> standing::Fill {
        // Refusals are the order's, so how full it is, too.
        self.log.order.standing_fill(kind, publisher, now_unix_ms)
    }
}

impl Fence for Door {
    fn read<'a>(&'a self, gateway: &'a str) -> BoxFuture<'a, Result<Register, Error>> {
        async move {
            sleep(self.latency()).await;
            Ok(lock(&self.log.state).registers.get(gateway).cloned().unwrap_or_default())
        }
        .boxed()
    }

    fn swap<'a>(
        &'a self,
        gateway: &'a str,
        revision: u64,
        holder: Holder,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        async move {
            let swapped = self.log.take(gateway, Register { holder, behind: 0, revision, door: self.number });
            sleep(self.latency()).await;
            Ok(swapped)
        }
        .boxed()
    }

    fn amend<'a>(&'a self, gateway: &'a str, register: &'a Register) -> BoxFuture<'a, Result<bool, Error>> {
        async move {
            let written = self.log.write(gateway, register.clone());
            sleep(self.latency()).await;
            Ok(written)
        }
        .boxed()
    }

    fn door(&self) -> u128 {
        self.number
    }

    fn ask(&self, door: u128, question: Question) -> BoxFuture<'_, Option<Stream>> {
        async move {
            sleep(self.latency()).await;
            let within = if question.pings { PINGED_WITHIN } else { ASKED_WITHIN };
            let (reply, answer) = oneshot::channel();
            {
                let state = lock(&self.log.state);
                let other =
                    state.doors.iter().filter_map(Weak::upgrade).find(|other| other.number == door)?;
                lock(&other.queue).asked.push((question, reply));
            }
            self.log.grown.send_replace(());
            timeout(within, answer).await.ok()?.ok()?
        }
        .boxed()
    }
}

impl SharedLog {
    /// Writes a register, if its revision still is that of this one.
    fn write(&self, gateway: &str, register: Register) -> bool {
        let mut state = lock(&self.state);
        let there = state.registers.entry(gateway.to_owned()).or_default();
        let is_same = there.revision == register.revision;
        if is_same {
            *there = Register { revision: register.revision + 1, ..register };
        }
        is_same
    }

    fn take(&self, gateway: &str, register: Register) -> bool {
        let holder = register.holder.clone();
        if !self.write(gateway, register) {
            return false;
        }
        let mut state = lock(&self.state);
        let State { doors, rng, .. } = &mut *state;
        for door in doors.iter().filter_map(Weak::upgrade) {
            let due = now_us() + rng.between(Duration::ZERO, TAKEN_WITHIN).as_micros() as u64;
            let mut queue = lock(&door.queue);
            let due = queue.taken.back().map_or(0, |(due, ..)| *due).max(due);
            queue.taken.push_back((due, gateway.to_owned(), holder.clone()));
        }
        drop(state);
        self.grown.send_replace(());
        true
    }
}

fn change(committed: &Committed) -> Option<Change> {
    let change = match committed.kind {
        LogKind::Event => return None,
        LogKind::SessionInvalidation => {
            Change::invalidation(&v1::SessionInvalidation::decode(committed.message()).ok()?).0
        }
        LogKind::Membership => Change::membership(&v1::Membership::decode(committed.message()).ok()?).0,
    };
    Some(change)
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering as Atomic};

    use galaxy_push_store::conformance;

    use super::*;

    #[derive(Default)]
    struct Place(Mutex<Option<Cursor>>);

    impl Sink for Place {
        fn begin(&self, base: Cursor) {
            *lock(&self.0) = Some(base);
        }

        fn damaged(&self, _: Cursor, _: Cursor) {}

        fn committed(&self, batch: &[Committed]) {
            *lock(&self.0) = batch.last().map(|last| last.cursor);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_shared_store_keeps_what_every_store_promises() {
        let epochs = AtomicU64::new(1);
        conformance::check(|sink| {
            let epoch = Epoch(epochs.fetch_add(1, Atomic::Relaxed).into());
            let rng = Rng::new(1, "store");
            SharedLog::new(epoch, rng, None, Duration::ZERO).door(Duration::ZERO)(sink)
        })
        .await;
    }

    #[test]
    fn the_shared_store_keeps_what_every_fence_promises() {
        // Notices are due by the clock of a simulation.
        let mut sim = turmoil::Builder::new().simulation_duration(Duration::from_secs(600)).build();
        sim.client("hubs", async {
            let log = SharedLog::new(Epoch(1), Rng::new(1, "store"), None, Duration::ZERO);
            conformance::check_fence(|sink| log.door(Duration::ZERO)(sink), Duration::from_secs(1)).await;
            Ok(())
        });
        assert!(sim.run().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_register_is_written_by_whoever_read_it_last() {
        let log = SharedLog::new(Epoch(1), Rng::new(1, "store"), None, Duration::ZERO);
        let doors = [0, 1].map(|_| log.door(Duration::ZERO)(Arc::new(Place::default())).ok());
        let fences: Vec<_> = doors.iter().flatten().filter_map(|door| door.fence()).collect();
        let take = |holder: &Holder| holder.succeeded_by("a", 1, "peer", 1).unwrap_or_default();
        let before = fences[0].read("g").await.unwrap_or_default();
        assert_eq!(fences[1].swap("g", before.revision, take(&before.holder)).await, Ok(true));
        assert_eq!(fences[0].swap("g", before.revision, take(&before.holder)).await, Ok(false));
        let now = fences[0].read("g").await.unwrap_or_default();
        assert_eq!((now.revision, now.holder.generation), (1, 1));
    }
}
