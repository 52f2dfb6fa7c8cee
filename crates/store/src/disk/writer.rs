//! The threads of a disk store, and the way to them.
//!
//! Two threads share the [`Engine`] behind a lock that is never held while the disk works. The *keeper* takes batches off the
//! inbox, gives them positions, and tells of what is durable. The *syncer* writes and syncs a group; when it is durable, it takes
//! at once whatever has gathered meanwhile, without waiting for the keeper: a disk that works never waits for a change of
//! thread. It sleeps when nothing gathers. A small group that nobody waits behind is written by the keeper itself, which saves two
//! such changes.
//!
//! The inbox is bounded: beyond it a batch is refused. One group is on its way at a time.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

use super::engine::{Engine, Reply, lock};
use super::files::Files;
use super::format::CLOSED;
use super::segments::{self, Job, Outcome, Segments};
use super::{OnDeath, SyncTimes};
use crate::{Appended, Batch, Error, Refused, Sink};

/// The most batches that wait to be looked at: each has a request of a publisher behind it, and the hub bounds these by their
/// bytes.
const INBOX_MAX: usize = 65_536;

/// The most bytes of them, in all: twice what a hub lets in at a time, because whoever asked may be gone before a disk that hangs
/// has answered, and come again.
const INBOX_BYTES_MAX: usize = 128 << 20;

/// A group of at most so many bytes is written by the keeper itself, if nobody waits behind it.
const ALONE_BYTES_MAX: usize = 4_096;

type Answer = Result<Vec<Appended>, Error>;

/// What a store has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// Groups that were made durable, or tried to be.
    pub syncs: u64,
    /// Entries that these made durable.
    pub entries: u64,
    /// The files of all segments together, in bytes.
    pub disk_bytes: u64,
    /// There was no room for the last batches, and nothing was written since.
    pub is_full: bool,
    /// How long syncs have taken, those of heads and ends of segments included.
    pub sync_times: SyncTimes,
    /// How many bytes may still be written where the files lie. `None`: nobody knows.
    pub free_bytes: Option<u64>,
    /// How many bytes the log may still need, by the bounds it was given.
    pub needed_bytes: u64,
    /// How long it took to read what was there.
    pub opened_in: Duration,
}

/// A way to the threads, which end with it.
pub(crate) struct Writer {
    pub(super) shared: Arc<Shared>,
    /// None where tasks take their place.
    pub(super) threads: Vec<JoinHandle<()>>,
}

/// What the threads share. Of these locks no two are held at once, but for the turn.
pub(super) struct Shared {
    engine: Mutex<Engine<Sender>>,
    /// Held by whoever waits for the engine, who therefore has it next: else the keeper, which lets go of it only to take it
    /// again, would keep a syncer out whose disk has nothing to do.
    turn: Mutex<()>,
    /// Held while the disk works, by whoever has the group on its way.
    segments: Mutex<Segments>,
    inbox: Mutex<Inbox>,
    /// The keeper waits for this.
    grown: Condvar,
    /// The syncer waits for this.
    due: Condvar,
    /// The same for a keeper and a syncer that are tasks.
    #[cfg(any(test, feature = "simulated"))]
    pub(super) rung: super::task::Rung,
}

#[derive(Default)]
struct Inbox {
    batches: VecDeque<(Batch, Sender)>,
    /// How many bytes they are, and those that were taken off last and may not all have been looked at.
    bytes: usize,
    bytes_taken: usize,
    /// How late it is by the clock of the log, if that was told since the keeper looked.
    log_time: Option<Duration>,
    /// Something has become of a group, or there is one less on its way.
    landed: bool,
    /// A group gathers or a segment is to go, and nothing is on its way.
    due: bool,
    /// Nothing is taken any more.
    closed: bool,
    /// One of the threads has ended.
    ended: bool,
    keeper_waits: bool,
    figures: Figures,
}

/// The way back to whoever appends.
pub(crate) struct Sender(oneshot::Sender<Answer>);

impl Reply for Sender {
    fn answer(self, answer: Answer) {
        _ = self.0.send(answer); // whoever asked may be gone
    }
}

impl Writer {
    pub(crate) fn start(
        engine: Engine<Sender>,
        segments: Segments,
        on_death: Option<OnDeath>,
    ) -> io::Result<Self> {
        let keeper = Keeper::new(engine, segments, on_death, ALONE_BYTES_MAX);
        let shared = keeper.shared.clone();
        let syncer = Ending(shared.clone());
        let syncer =
            thread::Builder::new().name("push-store-sync".to_owned()).spawn(move || syncer.0.sync())?;
        let keeper = thread::Builder::new().name("push-store".to_owned()).spawn(move || keeper.run())?;
        Ok(Self { shared, threads: vec![keeper, syncer] })
    }

    /// Appends a batch: in the order of first polls.
    pub(crate) async fn append(&self, batch: Batch) -> Answer {
        let (sender, answer) = oneshot::channel();
        self.shared.push(batch, Sender(sender))?;
        answer.await.unwrap_or_else(|_| {
            Err(Error::Unknown("the store ended while it was appended; restart the hub".to_owned()))
        })
    }

    /// It is so late by the clock of the log: what is too old goes.
    pub(crate) fn age(&self, now: Duration) {
        self.shared.tell(|inbox| inbox.log_time = Some(now));
    }

    pub(crate) fn figures(&self) -> Figures {
        lock(&self.shared.inbox).figures
    }
}

impl Drop for Writer {
    /// What was taken is finished; then the directory is free.
    fn drop(&mut self) {
        self.shared.tell(|inbox| inbox.closed = true);
        for thread in self.threads.drain(..) {
            _ = thread.join(); // a panic has been told by whoever lost its answer
        }
    }
}

impl Shared {
    fn push(&self, batch: Batch, sender: Sender) -> Result<(), Refused> {
        let mut inbox = lock(&self.inbox);
        if inbox.closed {
            let why = "an earlier append did not finish; restart the hub";
            return Err(Refused::Unavailable(why.to_owned()));
        }
        if inbox.batches.len() >= INBOX_MAX {
            return Err(Refused::Unavailable(format!("{INBOX_MAX} batches wait to be appended already")));
        }
        let bytes = batch.bytes();
        let held = inbox.bytes + inbox.bytes_taken;
        if held > 0 && held + bytes > INBOX_BYTES_MAX {
            return Err(Refused::Unavailable(format!("{held} bytes wait to be appended already")));
        }
        inbox.bytes += bytes;
        inbox.batches.push_back((batch, sender));
        self.wake_keeper(inbox);
        Ok(())
    }

    fn engine(&self) -> MutexGuard<'_, Engine<Sender>> {
        let _turn = lock(&self.turn);
        lock(&self.engine)
    }

    fn tell(&self, what: impl FnOnce(&mut Inbox)) {
        let mut inbox = lock(&self.inbox);
        what(&mut inbox);
        self.wake_keeper(inbox);
    }

    /// Only a keeper that waits needs a call to the system; and it finds the lock free.
    fn wake_keeper(&self, mut inbox: MutexGuard<'_, Inbox>) {
        let waits = std::mem::take(&mut inbox.keeper_waits);
        drop(inbox);
        if waits {
            self.grown.notify_one();
            #[cfg(any(test, feature = "simulated"))]
            self.rung.keeper.notify_one();
        }
    }

    fn wake_syncer(&self) {
        self.due.notify_one();
        #[cfg(any(test, feature = "simulated"))]
        self.rung.syncer.notify_one();
    }

    /// The syncer: writes one group after the other as long as something gathers, and waits until it does.
    fn sync(&self) {
        loop {
            {
                let due = |inbox: &mut Inbox| !inbox.due && !inbox.ended;
                let inbox = lock(&self.inbox);
                let mut inbox = self.due.wait_while(inbox, due).unwrap_or_else(PoisonError::into_inner);
                if inbox.ended {
                    return;
                }
                inbox.due = false;
            }
            let mut next = self.first();
            while let Some(job) = next {
                let outcome = self.run(job);
                next = self.next(outcome);
            }
        }
    }

    /// Whether a group is to be written now. `None`: never again.
    #[cfg(any(test, feature = "simulated"))]
    pub(super) fn take_due(&self) -> Option<bool> {
        let mut inbox = lock(&self.inbox);
        (!inbox.ended).then(|| std::mem::take(&mut inbox.due))
    }

    /// The group that gathers, to be written. `None`: there is none, or it needs no sync.
    pub(super) fn first(&self) -> Option<Job> {
        let first = self.engine().seal();
        if first.is_none() {
            self.tell(|inbox| inbox.landed = true);
        }
        first
    }

    /// The group on its way has come to this. Returns the one that has gathered meanwhile.
    pub(super) fn next(&self, outcome: Outcome) -> Option<Job> {
        let next = self.done(outcome).seal();
        // What needs no sync is to be told, too.
        self.tell(|inbox| inbox.landed = true);
        next
    }

    fn done(&self, outcome: Outcome) -> MutexGuard<'_, Engine<Sender>> {
        let mut engine = self.engine();
        engine.done(outcome);
        engine
    }

    /// Writes and syncs a group.
    pub(super) fn run(&self, job: Job) -> Outcome {
        let run = || lock(&self.segments).run(&job);
        // Whatever happens, the group on its way has an outcome.
        let outcome = catch_unwind(AssertUnwindSafe(run));
        let outcome =
            outcome.unwrap_or_else(|_| Outcome::Failed(io::Error::other("writing broke off in a panic")));
        match &outcome {
            // Nobody is refused for it.
            Outcome::Full { .. } if job.is_release => {}
            outcome => lock(&self.inbox).figures.is_full = matches!(outcome, Outcome::Full { .. }),
        }
        outcome
    }
}

/// Gives positions, and tells.
pub(super) struct Keeper {
    pub(super) shared: Arc<Shared>,
    sink: Arc<dyn Sink>,
    files: Arc<dyn Files>,
    on_death: Option<OnDeath>,
    /// Taken off the inbox, and not looked at yet.
    waiting: VecDeque<(Batch, Sender)>,
    log_time: Option<Duration>,
    /// Nothing can be staged before a group has landed.
    is_full: bool,
    /// A group is on its way, as far as is known.
    is_flying: bool,
    /// Groups of up to so many bytes it writes itself, if nobody waits behind them.
    alone_bytes_max: usize,
    _ending: Ending,
}

impl Keeper {
    pub(super) fn new(
        engine: Engine<Sender>,
        segments: Segments,
        on_death: Option<OnDeath>,
        alone_bytes_max: usize,
    ) -> Self {
        let (sink, files) = (engine.sink(), segments.files());
        let figures = Figures { disk_bytes: engine.disk_bytes(), ..Figures::default() };
        let shared = Arc::new(Shared {
            engine: Mutex::new(engine),
            turn: Mutex::default(),
            segments: Mutex::new(segments),
            inbox: Mutex::new(Inbox { figures, ..Inbox::default() }),
            grown: Condvar::new(),
            due: Condvar::new(),
            #[cfg(any(test, feature = "simulated"))]
            rung: super::task::Rung::default(),
        });
        let (waiting, log_time, _ending) = (VecDeque::new(), None, Ending(shared.clone()));
        let (is_full, is_flying) = (false, false);
        Self {
            shared,
            sink,
            files,
            on_death,
            waiting,
            log_time,
            is_full,
            is_flying,
            alone_bytes_max,
            _ending,
        }
    }

    fn run(mut self) {
        while self.take() {
            self.step();
        }
        self.close();
    }

    /// Does what can be done without waiting.
    pub(super) fn step(&mut self) {
        self.tell();
        if let Some(now) = self.log_time.take() {
            self.shared.engine().age(now);
        }
        self.stage();
        self.start();
    }

    /// Nothing more comes.
    pub(super) fn close(mut self) {
        // The last group may have landed since.
        self.tell();
        let (end_offset, lives) = {
            let engine = self.shared.engine();
            (engine.end_offset(), engine.dead().is_none())
        };
        if lives {
            // If it cannot be said, the next life finds the end by itself.
            _ = lock(&self.shared.segments).end(end_offset, CLOSED);
        }
    }

    /// Waits for something to do. False: there is nothing more.
    fn take(&mut self) -> bool {
        let shared = self.shared.clone();
        let mut inbox = lock(&shared.inbox);
        while !self.is_ready(&mut inbox) {
            inbox = shared.grown.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
        self.take_up(inbox)
    }

    /// As [`Self::take`], but `None` if it would have to wait: then the keeper's [`Rung`](super::task::Rung) rings.
    #[cfg(any(test, feature = "simulated"))]
    pub(super) fn take_now(&mut self) -> Option<bool> {
        let shared = self.shared.clone();
        let mut inbox = lock(&shared.inbox);
        self.is_ready(&mut inbox).then(|| self.take_up(inbox))
    }

    /// Whether there is something to do, or nothing will ever be. If not, whoever brings something wakes the keeper.
    fn is_ready(&self, inbox: &mut Inbox) -> bool {
        let has_batches = !inbox.batches.is_empty() || !self.waiting.is_empty();
        let can_stage = has_batches && !self.is_full;
        let can_end = inbox.closed && !self.is_flying;
        let ready = inbox.landed || inbox.ended || inbox.log_time.is_some() || can_stage || can_end;
        inbox.keeper_waits = !ready;
        ready
    }

    fn take_up(&mut self, mut inbox: MutexGuard<'_, Inbox>) -> bool {
        if self.waiting.is_empty() {
            std::mem::swap(&mut self.waiting, &mut inbox.batches);
            inbox.bytes_taken = std::mem::take(&mut inbox.bytes);
        }
        self.log_time = inbox.log_time.take();
        let has_landed = std::mem::take(&mut inbox.landed);
        let has_work = has_landed || self.is_flying || !self.waiting.is_empty() || self.log_time.is_some();
        (has_work || !inbox.closed) && !inbox.ended
    }

    /// Tells of what is durable.
    fn tell(&mut self) {
        loop {
            let (landed, left, disk_bytes, died) = {
                let mut engine = self.shared.engine();
                let died = engine.dead().filter(|_| self.on_death.is_some()).map(str::to_owned);
                (engine.take_landed(), engine.take_left(), engine.disk_bytes(), died)
            };
            if let Some((reason, on_death)) = died.and_then(|died| Some((died, self.on_death.take()?))) {
                on_death(&reason);
            }
            left.into_iter().for_each(|number| segments::remove(&*self.files, number));
            let Some(landed) = landed else { return };
            if let Some(entries) = landed.synced {
                let figures = &mut lock(&self.shared.inbox).figures;
                figures.syncs += 1;
                figures.entries += u64::from(entries);
                figures.disk_bytes = disk_bytes;
            }
            let group = landed.tell(&*self.sink);
            self.shared.engine().reuse(group);
        }
    }

    /// Gives positions to what has come, as far as there is room.
    fn stage(&mut self) {
        loop {
            // Taken anew each time, so that a syncer whose group is durable need not wait for all of them.
            let mut engine = self.shared.engine();
            (self.is_full, self.is_flying) = (engine.is_full(), engine.is_flying());
            if self.is_full || self.waiting.is_empty() {
                return;
            }
            engine.stage_some(&mut self.waiting);
        }
    }

    /// Sees to it that what gathers gets to the disk, and that what is needed no more goes; unless a group is on its way: then the
    /// syncer does.
    fn start(&mut self) {
        let (bytes, is_due) = {
            let engine = self.shared.engine();
            self.is_flying = engine.is_flying();
            if self.is_flying {
                return;
            }
            (engine.gathering_bytes(), engine.due().is_some())
        };
        if bytes.is_none() && !is_due {
            return;
        }
        let is_small = bytes.is_some_and(|bytes| bytes <= self.alone_bytes_max) && !is_due;
        if !is_small || !self.waiting.is_empty() || !lock(&self.shared.inbox).batches.is_empty() {
            return self.hand_on();
        }
        let job = self.shared.engine().seal();
        if let Some(job) = job {
            let outcome = self.shared.run(job);
            drop(self.shared.done(outcome));
        }
        self.tell();
        if self.shared.engine().due().is_some() {
            self.hand_on();
        }
    }

    /// The next group is the syncer's.
    fn hand_on(&mut self) {
        self.is_flying = true;
        lock(&self.shared.inbox).due = true;
        self.shared.wake_syncer();
    }
}

/// However a thread ends, nobody waits for it any more.
pub(super) struct Ending(pub(super) Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.engine().abandon();
        let left = {
            let mut inbox = lock(&self.0.inbox);
            (inbox.closed, inbox.ended) = (true, true);
            std::mem::take(&mut inbox.batches)
        };
        drop(left);
        self.0.grown.notify_one();
        self.0.wake_syncer();
        #[cfg(any(test, feature = "simulated"))]
        self.0.rung.keeper.notify_one();
    }
}
