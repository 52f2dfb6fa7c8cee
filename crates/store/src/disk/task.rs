//! The keeper of a disk store as one task on a simulated disk, where the [`writer`](super::writer) has two threads.
//!
//! The same keeper, engine and segments. What the syncer's thread would do is done here at once, on a disk whose operations take
//! their time nevertheless: its outcome is told when that is over. A task that is dropped is a process that was killed. What it
//! leaves out: a small group that nobody waits behind is not written by the keeper itself.

use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use tokio::time::sleep;

use super::OnDeath;
use super::engine::{Engine, lock};
use super::segments::{Job, Segments};
use super::simulated::Disk;
use super::writer::{Keeper, Sender, Writer};

impl Writer {
    /// Needs a tokio runtime.
    pub(crate) fn start_task(
        engine: Engine<Sender>,
        segments: Segments,
        on_death: Option<OnDeath>,
        disk: Taken,
    ) -> Self {
        let (keeper, to_do) = Keeper::new(engine, segments, on_death, 0);
        let inbox = keeper.inbox.clone();
        tokio::spawn(run(keeper, to_do, disk));
        Self { inbox, threads: Vec::new() }
    }
}

async fn run(mut keeper: Keeper, to_do: Receiver<Job>, disk: Taken) {
    let (inbox, segments) = (keeper.inbox.clone(), keeper.segments.clone());
    // What opening the log has asked of the disk is durable before anything else.
    idle(&disk.0).await;
    loop {
        while keeper.step() {}
        if let Ok(job) = to_do.try_recv() {
            let outcome = lock(&segments).run(&job);
            idle(&disk.0).await;
            inbox.tell_outcome(outcome);
        }
        match keeper.take_now() {
            None => inbox.rung.notified().await,
            Some(true) => {}
            Some(false) => break,
        }
    }
    keeper.close();
    idle(&disk.0).await;
}

async fn idle(disk: &Disk) {
    loop {
        let busy = disk.busy_for();
        if busy == Duration::ZERO {
            return;
        }
        sleep(busy).await;
    }
}

/// A disk that no other store may have meanwhile, as a process locks its directory.
#[derive(Debug)]
pub(crate) struct Taken(Disk);

impl Taken {
    /// `None`: another store has it.
    pub(crate) fn take(disk: &Disk) -> Option<Self> {
        let was_taken = disk.taken.swap(true, Ordering::Relaxed);
        (!was_taken).then(|| Self(disk.clone()))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.taken.store(false, Ordering::Relaxed);
    }
}
