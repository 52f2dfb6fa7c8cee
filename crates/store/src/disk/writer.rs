//! The threads of a disk store, and the way to them.
//!
//! Two threads. The *keeper* owns the [`Engine`]: it takes batches off the inbox, gives them positions, and tells of what is
//! durable. The *syncer* owns nothing: it is handed a group, writes and syncs it, and hands it back; meanwhile the keeper
//! gathers the next. A small group that nobody waits behind is written by the keeper itself, which saves two changes of thread.
//!
//! The inbox is bounded: beyond it a batch is refused. The syncer has one group at a time.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

use super::OnDeath;
use super::engine::{Engine, Reply, lock};
use super::format::CLOSED;
use super::segments::{Job, Outcome, Segments};
use crate::{Appended, Batch, Error, Refused};

/// The most batches that wait to be looked at: each has a request of a publisher behind it, and the hub bounds these by their
/// bytes.
const INBOX_MAX: usize = 65_536;

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
}

/// A way to the threads, which end with it.
pub(crate) struct Writer {
    pub(super) inbox: Arc<Inbox>,
    pub(super) threads: Vec<JoinHandle<()>>,
}

/// What the keeper waits for.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    grown: Condvar,
    /// The same for a keeper that is a task.
    #[cfg(any(test, feature = "simulated"))]
    pub(super) rung: tokio::sync::Notify,
}

#[derive(Default)]
struct State {
    batches: VecDeque<(Batch, Sender)>,
    /// What became of the group that the syncer had.
    outcome: Option<Outcome>,
    /// Nothing is taken any more.
    closed: bool,
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
        let (keeper, to_do) = Keeper::new(engine, segments, on_death, ALONE_BYTES_MAX);
        let inbox = keeper.inbox.clone();
        let syncer = {
            let (inbox, segments) = (inbox.clone(), keeper.segments.clone());
            thread::Builder::new().name("push-store-sync".to_owned()).spawn(move || {
                while let Ok(job) = to_do.recv() {
                    // Whatever happens, the keeper is told: it waits for nothing else.
                    let run = || lock(&segments).run(&job);
                    let outcome = catch_unwind(AssertUnwindSafe(run));
                    let outcome = outcome.unwrap_or_else(|_| {
                        Outcome::Failed(io::Error::other("writing broke off in a panic"))
                    });
                    inbox.tell_outcome(outcome);
                }
            })?
        };
        let keeper = thread::Builder::new().name("push-store".to_owned()).spawn(move || keeper.run())?;
        Ok(Self { inbox, threads: vec![keeper, syncer] })
    }

    /// Appends a batch: in the order of first polls.
    pub(crate) async fn append(&self, batch: Batch) -> Answer {
        let (sender, answer) = oneshot::channel();
        self.inbox.push(batch, Sender(sender))?;
        answer.await.unwrap_or_else(|_| {
            Err(Error::Unknown("the store ended while it was appended; restart the hub".to_owned()))
        })
    }

    pub(crate) fn figures(&self) -> Figures {
        lock(&self.inbox.state).figures
    }
}

impl Drop for Writer {
    /// What was taken is finished; then the directory is free.
    fn drop(&mut self) {
        self.inbox.tell(|state| state.closed = true);
        for thread in self.threads.drain(..) {
            _ = thread.join(); // a panic has been told by whoever lost its answer
        }
    }
}

impl Inbox {
    fn push(&self, batch: Batch, sender: Sender) -> Result<(), Refused> {
        let mut state = lock(&self.state);
        if state.closed {
            let why = "an earlier append did not finish; restart the hub";
            return Err(Refused::Unavailable(why.to_owned()));
        }
        if state.batches.len() >= INBOX_MAX {
            return Err(Refused::Unavailable(format!("{INBOX_MAX} batches wait to be appended already")));
        }
        state.batches.push_back((batch, sender));
        self.wake(&mut state);
        Ok(())
    }

    fn tell(&self, what: impl FnOnce(&mut State)) {
        let mut state = lock(&self.state);
        what(&mut state);
        self.wake(&mut state);
    }

    /// What became of the group that was on its way.
    pub(super) fn tell_outcome(&self, outcome: Outcome) {
        self.tell(|state| state.outcome = Some(outcome));
    }

    /// Only a keeper that waits needs a call to the system.
    fn wake(&self, state: &mut State) {
        if std::mem::take(&mut state.keeper_waits) {
            self.grown.notify_one();
            #[cfg(any(test, feature = "simulated"))]
            self.rung.notify_one();
        }
    }
}

/// Owns the engine.
pub(super) struct Keeper {
    engine: Engine<Sender>,
    pub(super) segments: Arc<Mutex<Segments>>,
    jobs: SyncSender<Job>,
    pub(super) inbox: Arc<Inbox>,
    on_death: Option<OnDeath>,
    /// Taken off the inbox, and not looked at yet.
    waiting: VecDeque<(Batch, Sender)>,
    /// The syncer has a group.
    flying: bool,
    /// Groups up to here are written by the keeper itself, if nobody waits behind them.
    alone_bytes_max: usize,
    _ending: Ending,
}

impl Keeper {
    /// With what its syncer is to do.
    pub(super) fn new(
        engine: Engine<Sender>,
        segments: Segments,
        on_death: Option<OnDeath>,
        alone_bytes_max: usize,
    ) -> (Self, Receiver<Job>) {
        let (inbox, segments) = (Arc::new(Inbox::default()), Arc::new(Mutex::new(segments)));
        lock(&inbox.state).figures.disk_bytes = engine.disk_bytes();
        let (jobs, to_do) = sync_channel::<Job>(1);
        let (waiting, flying, _ending) = (VecDeque::new(), false, Ending(inbox.clone()));
        let keeper =
            Self { engine, segments, jobs, inbox, on_death, waiting, flying, alone_bytes_max, _ending };
        (keeper, to_do)
    }

    fn run(mut self) {
        loop {
            while self.step() {}
            if !self.take() {
                return self.close();
            }
        }
    }

    /// Does what can be done without waiting. False: there is nothing more of that.
    pub(super) fn step(&mut self) -> bool {
        while !self.engine.is_full()
            && let Some((batch, sender)) = self.waiting.pop_front()
        {
            self.engine.stage(batch, sender);
        }
        if !self.flying && self.engine.is_gathering() {
            self.send();
        }
        self.settle();
        !self.flying && self.engine.is_gathering()
    }

    /// Nothing more comes.
    pub(super) fn close(self) {
        if self.engine.dead().is_none() {
            // If it cannot be said, the next life finds the end by itself.
            _ = lock(&self.segments).end(self.engine.end_offset(), CLOSED);
        }
    }

    /// Sees to it that what gathers gets to the disk.
    fn send(&mut self) {
        let Some(job) = self.engine.seal() else { return };
        let alone =
            job.bytes.len() <= self.alone_bytes_max && self.waiting.is_empty() && self.engine.is_settled();
        if alone && lock(&self.inbox.state).batches.is_empty() {
            let outcome = lock(&self.segments).run(&job);
            return self.done(outcome);
        }
        // The syncer waits for it, and ends only after this does.
        self.flying = self.jobs.send(job).is_ok();
    }

    fn done(&mut self, outcome: Outcome) {
        self.flying = false;
        self.engine.done(outcome);
        if let Some(reason) = self.engine.dead()
            && let Some(on_death) = self.on_death.take()
        {
            on_death(reason);
        }
    }

    fn settle(&mut self) {
        if self.engine.is_settled() {
            return;
        }
        let entries = self.engine.landed_entries();
        let left = self.engine.settle();
        let disk_bytes = self.engine.disk_bytes();
        {
            let mut state = lock(&self.inbox.state);
            state.figures.syncs += 1;
            state.figures.entries += u64::from(entries);
            state.figures.disk_bytes = disk_bytes;
        }
        if !left.is_empty() {
            let segments = lock(&self.segments);
            left.into_iter().for_each(|number| segments.remove(number));
        }
    }

    /// Waits for something to do. False: there is nothing more.
    fn take(&mut self) -> bool {
        let inbox = self.inbox.clone();
        let mut state = lock(&inbox.state);
        while !self.is_ready(&mut state) {
            state = inbox.grown.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        self.take_up(state)
    }

    /// As [`Self::take`], but `None` if it would have to wait: then [`Inbox::rung`] rings.
    #[cfg(any(test, feature = "simulated"))]
    pub(super) fn take_now(&mut self) -> Option<bool> {
        let inbox = self.inbox.clone();
        let mut state = lock(&inbox.state);
        self.is_ready(&mut state).then(|| self.take_up(state))
    }

    /// Whether there is something to do, or nothing will ever be. If not, whoever brings something wakes the keeper.
    fn is_ready(&self, state: &mut State) -> bool {
        let wants_more = !self.engine.is_full();
        let some =
            state.outcome.is_some() || (wants_more && !(state.batches.is_empty() && self.waiting.is_empty()));
        let ready = some || (state.closed && !self.flying);
        state.keeper_waits = !ready;
        ready
    }

    fn take_up(&mut self, mut state: MutexGuard<'_, State>) -> bool {
        if self.waiting.is_empty() {
            std::mem::swap(&mut self.waiting, &mut state.batches);
        }
        let outcome = state.outcome.take();
        drop(state);
        let is_over = outcome.is_none() && self.waiting.is_empty() && !self.flying;
        if let Some(outcome) = outcome {
            self.done(outcome);
        }
        !is_over
    }
}

/// However the keeper ends, nobody waits for it any more.
struct Ending(Arc<Inbox>);

impl Drop for Ending {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.closed = true;
        state.batches.clear();
    }
}
