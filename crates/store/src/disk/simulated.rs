//! A disk in memory that does everything a real one may do with what was not synced. For tests and the simulation alone.
//!
//! When the machine stops, each sector that was written since the last sync is there, or is as it was before, whichever; a file
//! that was made, cut or taken away since the directory was synced is so, or is not. What was synced is there. When only the
//! process ends, what it had written is still to be read, and still not durable. On demand the disk is full, or an operation
//! fails; a sync that fails drops some of what it should have written, and the next one calls that durable.
//!
//! **Time.** An operation is carried out at once and takes its time nevertheless: one begins when the one before it is over. Who
//! drives a store waits [`Disk::busy_for`] before anybody is told; a crash before that finds the operation half done, or never
//! begun. Without a clock ([`Disk::default`]) nothing takes any time.

#[cfg(test)]
mod controls;
mod state;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::files::{FileAt, Files};
use super::format::SECTOR_BYTES;
use super::lock::lock;
pub use state::Rng;
use state::{Inode, State};

/// What ends the life of a store without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process: what it had written is still to be read, though perhaps not durable.
    Process,
    /// The machine: what was not synced may be lost.
    Machine,
}

/// What an operation came to, and when.
#[derive(Clone, Debug)]
struct Moment {
    from: Duration,
    until: Duration,
    is_sync: bool,
    after: State,
}

#[derive(Debug, Default)]
struct Inner {
    state: State,
    /// Oldest first. The first is over, unless all are kept.
    past: Vec<Moment>,
    keeps_all: bool,
    /// When the last operation is over.
    busy_until: Duration,
    pace: Rng,
    operations: u64,
    /// The operation that is not finished: from there on nothing is.
    crash_at: Option<u64>,
    /// An operation that fails, once, with this error.
    fail_at: Option<(u64, io::ErrorKind)>,
    fails_next_sync: bool,
    /// The most bytes of all files together.
    room: Option<u64>,
    /// While there is no room, space that a file has already cannot be written to either.
    promises_nothing: bool,
    /// What is given back is taken by something else.
    steals: bool,
    /// Syncs that returned an error, and were asked for again.
    syncs_after_failure: u64,
    failed_sync: bool,
}

type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The disk. Clones are the same one.
#[derive(Clone, Default)]
pub struct Disk {
    inner: Arc<Mutex<Inner>>,
    clock: Option<Clock>,
    /// A store has it, as a process locks its directory.
    pub(super) taken: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Open {
    disk: Disk,
    inode: usize,
}

impl Disk {
    /// A disk whose operations take time on this clock, as they do on a real one that others use too: 0.02 to 0.3 ms for a
    /// write, 0.1 to 30 ms for a sync, and half a second for one in a hundred.
    #[must_use]
    pub fn timed(seed: u64, clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        let mut inner = Inner { pace: Rng(seed), ..Inner::default() };
        inner.settle(Duration::ZERO);
        Self { inner: Arc::new(Mutex::new(inner)), clock: Some(Arc::new(clock)), taken: Arc::default() }
    }

    fn time(&self) -> Duration {
        self.clock.as_ref().map_or(Duration::ZERO, |clock| clock())
    }

    /// How long the operations that were asked for still take.
    #[must_use]
    pub fn busy_for(&self) -> Duration {
        lock(&self.inner).busy_until.saturating_sub(self.time())
    }

    /// Whether a store has it.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }

    /// The life of the store ends at this time of the clock. Whatever drives it must be gone.
    pub fn crash(&self, at: Duration, crash: Crash, rng: &mut Rng) {
        let mut inner = lock(&self.inner);
        let state = inner.at(at, rng);
        let state = match crash {
            Crash::Process => state.evicted(rng),
            Crash::Machine => state.lost(rng),
        };
        let pace = inner.pace.clone();
        let (room, promises_nothing) = (inner.room, inner.promises_nothing);
        *inner = Inner { state, pace, room, promises_nothing, ..Inner::default() };
        inner.settle(at);
    }

    /// The durable bytes of each file whose name is durable, as they are at this moment of the clock: from this name on.
    #[must_use]
    pub fn durable(&self, from: &str) -> Vec<(String, Vec<u8>)> {
        let (now, inner) = (self.time(), lock(&self.inner));
        let state = inner.over(now).unwrap_or(&inner.state);
        let names = state.durable.iter().filter(|(name, _)| name.as_str() >= from);
        let files = names.map(|(name, inode)| (name, &state.inodes[*inode]));
        files.map(|(name, inode)| (name.clone(), inode.durable.clone())).collect()
    }

    /// There is no more room from now on; if the disk promises nothing, not in a file that is there either.
    pub fn fill(&self, promises_nothing: bool) {
        let mut inner = lock(&self.inner);
        inner.room = Some(inner.state.used());
        inner.promises_nothing = promises_nothing;
    }

    /// There is room again.
    pub fn free(&self) {
        let mut inner = lock(&self.inner);
        (inner.room, inner.promises_nothing) = (None, false);
    }

    /// Whether there is no more room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        lock(&self.inner).room.is_some()
    }

    /// Whether the next sync fails.
    pub fn fail_next_sync(&self, fails: bool) {
        lock(&self.inner).fails_next_sync = fails;
    }

    /// Whether a sync has failed since the last crash.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        lock(&self.inner).failed_sync
    }

    /// Changes the bytes of a file behind everybody's back.
    ///
    /// # Panics
    ///
    /// When there is no such file.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = lock(&self.inner);
        let number = inner.state.now[name];
        let inode = Arc::make_mut(&mut inner.state.inodes[number]);
        change(&mut inode.now);
        *inode = Inode::synced(std::mem::take(&mut inode.now));
        if !inner.keeps_all {
            let at = inner.busy_until;
            inner.settle(at);
        }
    }

    /// One operation; `Err` if it does not happen.
    fn operate(inner: &mut Inner, is_sync: bool) -> io::Result<()> {
        inner.operations += 1;
        let operation = inner.operations;
        if inner.crash_at.is_some_and(|at| operation >= at) {
            return Err(io::Error::other("the machine has stopped"));
        }
        if is_sync && inner.failed_sync {
            inner.syncs_after_failure += 1;
        }
        if is_sync && std::mem::take(&mut inner.fails_next_sync) {
            inner.failed_sync = true;
            return Err(io::Error::other("this sync fails"));
        }
        if let Some((_, kind)) = inner.fail_at.filter(|(at, _)| *at == operation) {
            inner.failed_sync |= is_sync;
            return Err(io::Error::new(kind, "this operation fails"));
        }
        Ok(())
    }

    /// An operation has happened, or half of it has.
    fn happened(&self, inner: &mut Inner, is_sync: bool) {
        let (now, takes) =
            (self.time(), self.clock.as_ref().map_or(Duration::ZERO, |_| inner.takes(is_sync)));
        if !inner.keeps_all {
            let over = inner.past.partition_point(|moment| moment.until <= now);
            inner.past.drain(..over.saturating_sub(1));
        }
        let from = inner.busy_until.max(now);
        inner.busy_until = from + takes;
        inner.past.push(Moment { from, until: from + takes, is_sync, after: inner.state.clone() });
    }
}

impl Inner {
    fn takes(&mut self, is_sync: bool) -> Duration {
        let micros = match self.pace.below(1_000) {
            _ if !is_sync => 20 + self.pace.below(280),
            0..10 => 500_000,
            10..600 => 100 + self.pace.below(4_000),
            _ => 4_000 + self.pace.below(26_000),
        };
        Duration::from_micros(micros)
    }

    /// Nothing is under way: the files are as they are.
    fn settle(&mut self, at: Duration) {
        let after = self.state.clone();
        (self.past, self.busy_until) = (vec![Moment { from: at, until: at, is_sync: true, after }], at);
    }

    /// The files once all is done that is over by then. `None`: as they are.
    fn over(&self, at: Duration) -> Option<&State> {
        let over = self.past.partition_point(|moment| moment.until <= at);
        over.checked_sub(1).map(|last| &self.past[last].after)
    }

    /// The files at this time: what is under way then is half done, and what would have come after it never is.
    fn at(&self, at: Duration, rng: &mut Rng) -> State {
        let before = self.over(at).unwrap_or(&self.state).clone();
        let next = self.past.iter().find(|moment| moment.until > at);
        match next.filter(|moment| moment.from < at && !moment.is_sync) {
            Some(in_flight) => before.half(&in_flight.after, rng),
            None => before,
        }
    }
}

impl Files for Disk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.inner).state.now.keys().cloned().collect())
    }

    fn read(&self, name: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
        let inner = lock(&self.inner);
        let inode = inner.state.now.get(name).ok_or(io::ErrorKind::NotFound)?;
        let bytes = &inner.state.inodes[*inode].now;
        Ok(bytes[..bytes.len().min(bytes_max as usize)].to_vec())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Box<dyn FileAt>> {
        let mut inner = lock(&self.inner);
        Self::operate(&mut inner, false)?;
        if inner.room.is_some_and(|room| inner.state.used() + bytes > room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let inode = inner.state.inodes.len();
        inner.state.inodes.push(Arc::new(Inode { now: vec![0; bytes as usize], ..Inode::default() }));
        inner.state.now.insert(name.to_owned(), inode);
        self.happened(&mut inner, false);
        Ok(Box::new(Open { disk: self.clone(), inode }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn FileAt>> {
        let inode = *lock(&self.inner).state.now.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Open { disk: self.clone(), inode }))
    }

    fn cut(&self, name: &str, bytes: u64) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        Self::operate(&mut inner, false)?;
        let inode = *inner.state.now.get(name).ok_or(io::ErrorKind::NotFound)?;
        Arc::make_mut(&mut inner.state.inodes[inode]).now.truncate(bytes as usize);
        if inner.steals {
            inner.room = inner.room.map(|room| room.min(inner.state.used()));
        }
        self.happened(&mut inner, false);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        Self::operate(&mut inner, false)?;
        let removed = inner.state.now.remove(name).ok_or(io::ErrorKind::NotFound.into());
        if let Ok(inode) = &removed {
            inner.state.gone.insert(name.to_owned(), *inode);
        }
        self.happened(&mut inner, false);
        removed.map(drop)
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        Self::operate(&mut inner, true)?;
        inner.state.durable = inner.state.now.clone();
        inner.state.gone.clear();
        self.happened(&mut inner, true);
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        let inner = lock(&self.inner);
        Ok(inner.room.map(|room| room.saturating_sub(inner.state.used())))
    }
}

impl Open {
    fn change(&self, inner: &mut Inner, change: impl FnOnce(&mut Inode)) {
        change(Arc::make_mut(&mut inner.state.inodes[self.inode]));
    }
}

impl FileAt for Open {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = lock(&self.disk.inner);
        let mut happens = Disk::operate(&mut inner, false);
        if inner.room.is_some() && inner.promises_nothing {
            happens = happens.and(Err(io::ErrorKind::StorageFull.into()));
        }
        // One that fails may have got anywhere, sector by sector.
        let end = (offset as usize + bytes.len() / 2) / SECTOR_BYTES * SECTOR_BYTES;
        let length = if happens.is_ok() { bytes.len() } else { end.saturating_sub(offset as usize) };
        self.change(&mut inner, |inode| inode.write(offset as usize, &bytes[..length]));
        if happens.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull) {
            // What there was room for may be on the disk by now.
            self.change(&mut inner, Inode::sync);
        }
        self.disk.happened(&mut inner, false);
        happens
    }

    fn wipe(&mut self, offset: u64, bytes: u64) -> io::Result<()> {
        let mut inner = lock(&self.disk.inner);
        Disk::operate(&mut inner, false)?;
        self.change(&mut inner, |inode| {
            inode.now.truncate(offset as usize);
            let wiped = bytes.saturating_sub(offset) as usize;
            inode.write(offset as usize, &vec![0; wiped]);
        });
        self.disk.happened(&mut inner, false);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut inner = lock(&self.disk.inner);
        let synced = Disk::operate(&mut inner, true);
        let mut rng = inner.pace.clone();
        match &synced {
            Ok(()) => self.change(&mut inner, Inode::sync),
            Err(_) if inner.crash_at.is_some() => return synced,
            Err(_) => self.change(&mut inner, |inode| inode.fail_to_sync(&mut rng)),
        }
        self.disk.happened(&mut inner, true);
        synced
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").finish_non_exhaustive()
    }
}
