//! The keeper and the syncer of a disk store as two tasks on a simulated disk, where the [`writer`](super::writer) has two threads.
//!
//! The same steps of the same keeper, engine and segments: only how they wait differs. What the syncer asks of the disk is done at
//! once, on a disk whose operations take their time nevertheless: its outcome is told when that is over, and meanwhile the keeper
//! gathers the next group. Tasks that are dropped are a process that was killed. What they leave out: a small group that nobody
//! waits behind is not written by the keeper itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;

use super::OnDeath;
use super::engine::Engine;
use super::segments::Segments;
use super::simulated::Disk;
use super::writer::{Ending, Keeper, Sender, Writer};

impl Writer {
    /// Needs a tokio runtime.
    pub(crate) fn start_task(
        engine: Engine<Sender>,
        segments: Segments,
        on_death: Option<OnDeath>,
        disk: DiskLock,
    ) -> Self {
        let keeper = Keeper::new(engine, segments, on_death, 0);
        let (shared, disk) = (keeper.shared.clone(), Arc::new(disk));
        tokio::spawn(sync(Ending(shared.clone()), disk.clone()));
        tokio::spawn(keep(keeper, disk));
        Self { shared, threads: Vec::new() }
    }
}

async fn keep(mut keeper: Keeper, disk: Arc<DiskLock>) {
    let shared = keeper.shared.clone();
    // What opening the log has asked of the disk is durable before anything else.
    idle(&disk.0).await;
    loop {
        match keeper.work_now() {
            None => shared.wakeups.keeper.notified().await,
            Some(true) => keeper.step(),
            Some(false) => break,
        }
    }
    keeper.close();
    idle(&disk.0).await;
}

async fn sync(syncer: Ending, disk: Arc<DiskLock>) {
    let shared = &syncer.0;
    while let Some(has_work) = shared.take_work() {
        if !has_work {
            shared.wakeups.syncer.notified().await;
            continue;
        }
        let mut next = shared.first();
        while let Some(job) = next {
            let outcome = shared.run(job);
            idle(&disk.0).await;
            next = shared.next(outcome);
        }
    }
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
pub(crate) struct DiskLock(Disk);

impl DiskLock {
    /// `None`: another store has it.
    pub(crate) fn acquire(disk: &Disk) -> Option<Self> {
        let was_taken = disk.taken.swap(true, Ordering::Relaxed);
        (!was_taken).then(|| Self(disk.clone()))
    }
}

impl Drop for DiskLock {
    fn drop(&mut self) {
        self.0.taken.store(false, Ordering::Relaxed);
    }
}
