//! The threads of a disk store, and the way to them.
//!
//! Two threads share the [`Engine`] behind a lock that is never held while the disk works. The *keeper* takes batches off the
//! inbox, gives them positions, and tells of what is durable. The *syncer* writes and syncs a group; when it is durable, it takes
//! at once whatever has gathered meanwhile, without waiting for the keeper: a disk that works never waits for a change of
//! thread. It sleeps when nothing gathers. A small group that nobody waits behind is written by the keeper itself, which saves two
//! such changes.
//!
//! The inbox is bounded: beyond it a batch is refused. One group is on its way at a time.

mod shared;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

use super::engine::Engine;
use super::files::Files;
use super::format::CLOSED;
use super::lock::lock;
use super::segments::{self, Segments};
use super::{OnDeath, SyncTimes};
use crate::{Appended, Batch, Error, Sink};
pub(super) use shared::Ending;
pub(crate) use shared::Sender;
use shared::{Inbox, Shared, refuse};

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
    /// There was no room for the last batches; none was written and not as much was freed since.
    pub is_full: bool,
    /// How long syncs have taken, those of heads and ends of segments included.
    pub sync_times: SyncTimes,
    /// How many bytes may still be written where the files lie. `None`: nobody knows.
    pub free_bytes: Option<u64>,
    /// How long ago that was looked at. What others do with the disk since is not in it.
    pub free_seen_ago: Duration,
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

    /// The segment that is written to.
    pub(crate) fn segment(&self) -> u64 {
        self.shared.engine().segment()
    }

    /// Nothing is taken any more, for this reason.
    pub(crate) fn die(&self, reason: String) {
        self.shared.engine().die(reason.clone());
        self.shared.died(&reason);
    }

    /// It is so late by the clock of the log: what is too old goes.
    pub(crate) fn age(&self, now: Duration) {
        self.shared.update_inbox(|inbox| inbox.log_time = Some(now));
    }

    pub(crate) fn figures(&self) -> Figures {
        let is_full = self.shared.engine().lacks_room();
        Figures { is_full, ..lock(&self.shared.inbox).figures }
    }
}

impl Drop for Writer {
    /// What was taken is finished; then the directory is free.
    fn drop(&mut self) {
        self.shared.update_inbox(|inbox| inbox.closed = true);
        for thread in self.threads.drain(..) {
            _ = thread.join(); // a panic has been told by whoever lost its answer
        }
    }
}

/// Gives positions, and tells.
pub(super) struct Keeper {
    pub(super) shared: Arc<Shared>,
    sink: Arc<dyn Sink>,
    files: Arc<dyn Files>,
    /// Taken off the inbox, and not looked at yet.
    waiting: VecDeque<(Batch, Sender)>,
    log_time: Option<Duration>,
    /// Nothing can be staged before a group has landed.
    must_wait: bool,
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
        let shared = Arc::new(Shared::new(engine, segments, on_death));
        let (waiting, log_time, _ending) = (VecDeque::new(), None, Ending(shared.clone()));
        let (must_wait, is_flying) = (false, false);
        Self { shared, sink, files, waiting, log_time, must_wait, is_flying, alone_bytes_max, _ending }
    }

    fn run(mut self) {
        while self.wait_for_work() {
            self.step();
        }
        self.close();
    }

    /// Does what can be done without waiting.
    pub(super) fn step(&mut self) {
        self.deliver();
        if let Some(now) = self.log_time.take() {
            self.shared.engine().age(now);
        }
        self.stage();
        self.start();
    }

    /// Nothing more comes.
    pub(super) fn close(mut self) {
        // The last group may have landed since.
        self.deliver();
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
    fn wait_for_work(&mut self) -> bool {
        let shared = self.shared.clone();
        let mut inbox = lock(&shared.inbox);
        while !self.is_ready(&mut inbox) {
            inbox = shared.grown.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
        self.accept_work(inbox)
    }

    /// As [`Self::wait_for_work`], but `None` if it would have to wait: then the keeper's `Wakeups` rings.
    #[cfg(any(test, feature = "simulated"))]
    pub(super) fn work_now(&mut self) -> Option<bool> {
        let shared = self.shared.clone();
        let mut inbox = lock(&shared.inbox);
        self.is_ready(&mut inbox).then(|| self.accept_work(inbox))
    }

    /// Whether there is something to do, or nothing will ever be. If not, whoever brings something wakes the keeper.
    fn is_ready(&self, inbox: &mut Inbox) -> bool {
        let has_batches = !inbox.batches.is_empty() || !self.waiting.is_empty();
        let can_stage = has_batches && !self.must_wait;
        let can_end = inbox.closed && !self.is_flying;
        let ready = inbox.landed || inbox.ended || inbox.log_time.is_some() || can_stage || can_end;
        // Under the inbox's lock, which the wait gives back: whoever brings something later finds it set.
        inbox.keeper_waits = !ready;
        ready
    }

    fn accept_work(&mut self, mut inbox: MutexGuard<'_, Inbox>) -> bool {
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
    fn deliver(&mut self) {
        loop {
            let (landed, left, disk_bytes, died) = {
                let mut engine = self.shared.engine();
                let died = engine.dead().map(str::to_owned);
                (engine.take_landed(), engine.take_left(), engine.disk_bytes(), died)
            };
            if let Some(reason) = died {
                self.shared.died(&reason);
            }
            // Without the engine's lock: the system may take long to remove a file.
            left.into_iter().for_each(|number| segments::remove(&*self.files, number));
            let Some(landed) = landed else { return };
            if let Some(entries) = landed.synced {
                let figures = &mut lock(&self.shared.inbox).figures;
                figures.syncs += 1;
                figures.entries += u64::from(entries);
                figures.disk_bytes = disk_bytes;
            }
            // With none of the store's locks held: the sink takes the hub's, and a stream holds that for a turn.
            let group = landed.deliver(&*self.sink);
            self.shared.engine().reuse(group);
        }
    }

    /// Gives positions to what has come, as far as there is room.
    fn stage(&mut self) {
        loop {
            // Locked anew each time, so that a syncer whose group is durable need not wait for all of them.
            let mut engine = self.shared.engine();
            (self.must_wait, self.is_flying) = (engine.takes_no_more(), engine.is_flying());
            if self.must_wait || self.waiting.is_empty() {
                return;
            }
            engine.stage_some(&mut self.waiting);
        }
    }

    /// Sees to it that what gathers gets to the disk, and that what is needed no more goes; unless a group is on its way: then the
    /// syncer does.
    fn start(&mut self) {
        let (bytes, may_let_go) = {
            let engine = self.shared.engine();
            self.is_flying = engine.is_flying();
            if self.is_flying {
                return;
            }
            (engine.gathering_bytes(), engine.to_let_go().is_some())
        };
        if bytes.is_none() && !may_let_go {
            return;
        }
        let is_small = bytes.is_some_and(|bytes| bytes <= self.alone_bytes_max) && !may_let_go;
        if !is_small || !self.waiting.is_empty() || !lock(&self.shared.inbox).batches.is_empty() {
            return self.hand_on();
        }
        let job = self.shared.engine().seal();
        if let Some(job) = job {
            let outcome = self.shared.run(job);
            // The lock comes back for the syncer, which seals the next group under it. Here nothing gathers.
            drop(self.shared.done(outcome));
        }
        self.deliver();
        if self.shared.engine().to_let_go().is_some() {
            self.hand_on();
        }
    }

    /// The next group is the syncer's.
    fn hand_on(&mut self) {
        self.is_flying = true;
        lock(&self.shared.inbox).has_work = true;
        self.shared.wake_syncer();
    }
}

impl Drop for Keeper {
    /// What was not looked at surely is in no log.
    fn drop(&mut self) {
        refuse(self.waiting.drain(..));
    }
}
