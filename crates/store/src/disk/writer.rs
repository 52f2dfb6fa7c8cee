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
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
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
    inbox: Arc<Inbox>,
    threads: Vec<JoinHandle<()>>,
}

/// What the keeper waits for.
#[derive(Default)]
struct Inbox {
    state: Mutex<State>,
    grown: Condvar,
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
        let (inbox, segments) = (Arc::new(Inbox::default()), Arc::new(Mutex::new(segments)));
        lock(&inbox.state).figures.disk_bytes = engine.disk_bytes();
        let (jobs, to_do) = sync_channel::<Job>(1);
        let syncer = {
            let (inbox, segments) = (inbox.clone(), segments.clone());
            thread::Builder::new().name("push-store-sync".to_owned()).spawn(move || {
                while let Ok(job) = to_do.recv() {
                    // Whatever happens, the keeper is told: it waits for nothing else.
                    let run = || lock(&segments).run(&job);
                    let outcome = catch_unwind(AssertUnwindSafe(run));
                    let outcome = outcome.unwrap_or_else(|_| {
                        Outcome::Failed(io::Error::other("writing broke off in a panic"))
                    });
                    inbox.tell(|state| state.outcome = Some(outcome));
                }
            })?
        };
        let keeper = Keeper {
            engine,
            segments,
            jobs,
            inbox: inbox.clone(),
            on_death,
            waiting: VecDeque::new(),
            flying: false,
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

    /// Only a keeper that waits needs a call to the system.
    fn wake(&self, state: &mut State) {
        if std::mem::take(&mut state.keeper_waits) {
            self.grown.notify_one();
        }
    }
}

/// Owns the engine.
struct Keeper {
    engine: Engine<Sender>,
    segments: Arc<Mutex<Segments>>,
    jobs: SyncSender<Job>,
    inbox: Arc<Inbox>,
    on_death: Option<OnDeath>,
    /// Taken off the inbox, and not looked at yet.
    waiting: VecDeque<(Batch, Sender)>,
    /// The syncer has a group.
    flying: bool,
}

impl Keeper {
    fn run(mut self) {
        let _ending = Ending(self.inbox.clone());
        loop {
            while !self.engine.is_full()
                && let Some((batch, sender)) = self.waiting.pop_front()
            {
                self.engine.stage(batch, sender);
            }
            if !self.flying && self.engine.is_gathering() {
                self.send();
            }
            self.settle();
            if (self.flying || !self.engine.is_gathering()) && !self.take() {
                break;
            }
        }
        if self.engine.dead().is_none() {
            // If it cannot be said, the next life finds the end by itself.
            _ = lock(&self.segments).end(self.engine.end_offset(), CLOSED);
        }
    }

    /// Sees to it that what gathers gets to the disk.
    fn send(&mut self) {
        let Some(job) = self.engine.seal() else { return };
        let alone = job.bytes.len() <= ALONE_BYTES_MAX && self.waiting.is_empty() && self.engine.is_settled();
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
        let wants_more = !self.engine.is_full();
        let outcome = {
            let mut state = lock(&self.inbox.state);
            loop {
                let ready = state.outcome.is_some()
                    || (wants_more && !(state.batches.is_empty() && self.waiting.is_empty()));
                if ready || (state.closed && !self.flying) {
                    break;
                }
                state.keeper_waits = true;
                state = self.inbox.grown.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if self.waiting.is_empty() {
                std::mem::swap(&mut self.waiting, &mut state.batches);
            }
            state.outcome.take()
        };
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
