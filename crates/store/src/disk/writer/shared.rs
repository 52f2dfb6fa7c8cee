//! What the keeper and the syncer share, what the syncer does, and how both end.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::super::OnDeath;
use super::super::engine::Engine;
use super::super::group::Reply;
use super::super::lock::lock;
use super::super::segments::{Job, Outcome, Segments};
use super::{Answer, Figures};
use crate::{Batch, Refused};

/// The most batches that wait to be looked at: each has a request of a publisher behind it, and the hub bounds these by their
/// bytes.
const INBOX_MAX: usize = 65_536;

/// The most bytes of them, in all: twice what a hub lets in at a time, because whoever asked may be gone before a disk that hangs
/// has answered, and come again.
const INBOX_BYTES_MAX: usize = 128 << 20;

/// Why nothing is taken any more.
const ENDED: &str = "an earlier append did not finish; restart the hub";

/// What the threads share. Of these locks no two are held at once, but for the turn.
pub(in super::super) struct Shared {
    pub(super) engine: Mutex<Engine<Sender>>,
    /// Held by whoever waits for the engine, who therefore has it next: else the keeper, which lets go of it only to take it
    /// again, would keep a syncer out whose disk has nothing to do.
    pub(super) turn: Mutex<()>,
    /// Held while the disk works, by whoever has the group on its way.
    pub(super) segments: Mutex<Segments>,
    pub(super) inbox: Mutex<Inbox>,
    /// The keeper waits for this.
    pub(super) grown: Condvar,
    /// The syncer waits for this.
    work: Condvar,
    /// Called once.
    on_death: Mutex<Option<OnDeath>>,
    /// The same for a keeper and a syncer that are tasks.
    #[cfg(any(test, feature = "simulated"))]
    pub(in super::super) wakeups: Wakeups,
}

/// What a keeper and a syncer that are tasks wait for, where threads wait for a [`Condvar`].
#[cfg(any(test, feature = "simulated"))]
#[derive(Debug, Default)]
pub(in super::super) struct Wakeups {
    pub(in super::super) keeper: tokio::sync::Notify,
    pub(in super::super) syncer: tokio::sync::Notify,
}

#[derive(Default)]
pub(super) struct Inbox {
    pub(super) batches: VecDeque<(Batch, Sender)>,
    /// How many bytes they are, and those that were taken off last and may not all have been looked at.
    pub(super) bytes: usize,
    pub(super) bytes_taken: usize,
    /// How late it is by the clock of the log, if that was told since the keeper looked.
    pub(super) log_time: Option<Duration>,
    /// Something has become of a group, or there is one less on its way.
    pub(super) landed: bool,
    /// A group gathers or a segment is to go, and nothing is on its way.
    pub(super) has_work: bool,
    /// Nothing is taken any more.
    pub(super) closed: bool,
    /// One of the threads has ended.
    pub(super) ended: bool,
    pub(super) keeper_waits: bool,
    pub(super) figures: Figures,
}

/// The way back to whoever appends.
pub(crate) struct Sender(pub(super) oneshot::Sender<Answer>);

impl Reply for Sender {
    fn answer(self, answer: Answer) {
        _ = self.0.send(answer); // whoever asked may be gone
    }
}

impl Shared {
    pub(super) fn new(engine: Engine<Sender>, segments: Segments, on_death: Option<OnDeath>) -> Self {
        let figures = Figures { disk_bytes: engine.disk_bytes(), ..Figures::default() };
        Self {
            engine: Mutex::new(engine),
            turn: Mutex::default(),
            segments: Mutex::new(segments),
            inbox: Mutex::new(Inbox { figures, ..Inbox::default() }),
            grown: Condvar::new(),
            work: Condvar::new(),
            on_death: Mutex::new(on_death),
            #[cfg(any(test, feature = "simulated"))]
            wakeups: Wakeups::default(),
        }
    }

    pub(super) fn push(&self, batch: Batch, sender: Sender) -> Result<(), Refused> {
        let mut inbox = lock(&self.inbox);
        if inbox.closed {
            return Err(Refused::Unavailable(ENDED.to_owned()));
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

    pub(super) fn engine(&self) -> MutexGuard<'_, Engine<Sender>> {
        let _turn = lock(&self.turn);
        self.engine.lock().unwrap_or_else(|broken| {
            // Whoever broke off may have left a group half staged.
            let mut engine = broken.into_inner();
            engine.abandon();
            engine
        })
    }

    pub(super) fn update_inbox(&self, update: impl FnOnce(&mut Inbox)) {
        let mut inbox = lock(&self.inbox);
        update(&mut inbox);
        self.wake_keeper(inbox);
    }

    /// Only a keeper that waits needs a call to the system; and it finds the lock free.
    fn wake_keeper(&self, mut inbox: MutexGuard<'_, Inbox>) {
        let waits = std::mem::take(&mut inbox.keeper_waits);
        drop(inbox);
        if waits {
            self.grown.notify_one();
            #[cfg(any(test, feature = "simulated"))]
            self.wakeups.keeper.notify_one();
        }
    }

    /// Nothing can be appended any more.
    pub(super) fn died(&self, reason: &str) {
        let on_death = lock(&self.on_death).take();
        if let Some(on_death) = on_death {
            on_death(reason);
        }
    }

    pub(super) fn wake_syncer(&self) {
        self.work.notify_one();
        #[cfg(any(test, feature = "simulated"))]
        self.wakeups.syncer.notify_one();
    }

    /// The syncer: writes one group after the other as long as something gathers, and waits until it does.
    pub(super) fn sync(&self) {
        loop {
            {
                let waits = |inbox: &mut Inbox| !inbox.has_work && !inbox.ended;
                let inbox = lock(&self.inbox);
                let mut inbox = self.work.wait_while(inbox, waits).unwrap_or_else(PoisonError::into_inner);
                if inbox.ended {
                    return;
                }
                // Before the look for work: what is handed on meanwhile sets it again.
                inbox.has_work = false;
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
    pub(in super::super) fn take_work(&self) -> Option<bool> {
        let mut inbox = lock(&self.inbox);
        (!inbox.ended).then(|| std::mem::take(&mut inbox.has_work))
    }

    /// The group that gathers, to be written. `None`: there is none, or it needs no sync.
    pub(in super::super) fn first(&self) -> Option<Job> {
        let first = self.engine().seal();
        if first.is_none() {
            self.update_inbox(|inbox| inbox.landed = true);
        }
        first
    }

    /// The group on its way has come to this. Returns the one that has gathered meanwhile.
    pub(in super::super) fn next(&self, outcome: Outcome) -> Option<Job> {
        // Under one hold of the lock: the keeper does not get in between, and the disk goes on at once.
        let next = self.done(outcome).seal();
        // What needs no sync is to be told, too.
        self.update_inbox(|inbox| inbox.landed = true);
        next
    }

    pub(super) fn done(&self, outcome: Outcome) -> MutexGuard<'_, Engine<Sender>> {
        let mut engine = self.engine();
        engine.done(outcome);
        engine
    }

    /// Writes and syncs a group.
    pub(in super::super) fn run(&self, job: Job) -> Outcome {
        let run = || lock(&self.segments).run(&job);
        // Whatever happens, the group on its way has an outcome.
        let outcome = catch_unwind(AssertUnwindSafe(run));
        outcome.unwrap_or_else(|_| Outcome::Failed(io::Error::other("writing broke off in a panic")))
    }
}

pub(super) fn refuse(batches: impl Iterator<Item = (Batch, Sender)>) {
    let refused = Refused::Unavailable(ENDED.to_owned());
    batches.for_each(|(_, sender)| sender.answer(Err(refused.clone().into())));
}

/// However a thread ends, nobody waits for it any more.
pub(in super::super) struct Ending(pub(in super::super) Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.engine().abandon();
        let left = {
            let mut inbox = lock(&self.0.inbox);
            // In the hold in which the batches are taken: none comes behind them that nobody would answer.
            (inbox.closed, inbox.ended) = (true, true);
            std::mem::take(&mut inbox.batches)
        };
        refuse(left.into_iter());
        if thread::panicking() {
            self.0.died("a thread of the store broke off in a panic");
        }
        self.0.grown.notify_one();
        self.0.wake_syncer();
        #[cfg(any(test, feature = "simulated"))]
        self.0.wakeups.keeper.notify_one();
    }
}
