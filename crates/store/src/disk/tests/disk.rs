//! A disk in memory that does everything a real one may do with what was not synced.
//!
//! After a crash each sector that was written since the last sync is there, or is as it was before, whichever; a file that was
//! made, cut or taken away since the directory was synced is so, or is not. What was synced is there. On demand it is full, or an
//! operation fails.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::super::engine::lock;
use super::super::files::{FileAt, Files};
use super::super::format::SECTOR_BYTES;

/// A seeded source of choices (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.draw() % end.max(1)
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// What a file is once it was synced, and what was done since.
#[derive(Clone, Debug, Default)]
struct Inode {
    durable: Vec<u8>,
    now: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    /// The names that a crash keeps, and the names of this moment.
    durable: BTreeMap<String, usize>,
    now: BTreeMap<String, usize>,
    operations: u64,
    /// The operation that is not finished: from there on nothing is.
    crash_at: Option<u64>,
    /// An operation that fails, once, with this error.
    fail_at: Option<(u64, io::ErrorKind)>,
    /// The most bytes of all files together.
    room: Option<u64>,
    /// Syncs that returned an error, and were asked for again.
    syncs_after_failure: u64,
    failed_sync: bool,
    /// The disk after each operation, if anybody wants to know.
    moments: Option<Vec<Self>>,
}

/// The disk. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<State>>);

#[derive(Debug)]
struct Open {
    disk: Disk,
    inode: usize,
}

impl Disk {
    /// From now on the disk is kept as it was after each operation.
    pub(super) fn keep_moments(&self) {
        lock(&self.0).moments = Some(Vec::new());
    }

    /// The disk after each operation since the last call.
    pub(super) fn moments(&self) -> Vec<Self> {
        let moments = lock(&self.0).moments.replace(Vec::new()).unwrap_or_default();
        moments.into_iter().map(|state| Self(Arc::new(Mutex::new(state)))).collect()
    }

    /// How many operations there were.
    pub(super) fn operations(&self) -> u64 {
        lock(&self.0).operations
    }

    /// The operation with this number, and all behind it, will not be finished.
    pub(super) fn crash_at(&self, operation: u64) {
        lock(&self.0).crash_at = Some(operation);
    }

    pub(super) fn fail_at(&self, operation: u64, kind: io::ErrorKind) {
        lock(&self.0).fail_at = Some((operation, kind));
    }

    pub(super) fn room(&self, bytes: Option<u64>) {
        lock(&self.0).room = bytes;
    }

    pub(super) fn syncs_after_failure(&self) -> u64 {
        lock(&self.0).syncs_after_failure
    }

    /// What a machine that stopped here may find when it starts again.
    pub(super) fn after_crash(&self, rng: &mut Rng) -> Self {
        let state = lock(&self.0);
        let mut found = State::default();
        // A process that is killed loses nothing: that is one of the outcomes, as is losing everything.
        let kept = [0, 10, 50, 90, 100][rng.below(5) as usize];
        let mut names = state.durable.clone();
        for name in state.now.keys().chain(state.durable.keys()) {
            if rng.percent(kept) {
                match state.now.get(name) {
                    Some(inode) => names.insert(name.clone(), *inode),
                    None => names.remove(name),
                };
            }
        }
        for (name, inode) in names {
            let bytes = crashed(&state.inodes[inode], kept, rng);
            found.durable.insert(name.clone(), found.inodes.len());
            found.now.insert(name, found.inodes.len());
            found.inodes.push(Inode { durable: bytes.clone(), now: bytes });
        }
        Self(Arc::new(Mutex::new(found)))
    }

    /// The same bytes, all durable, apart from this disk.
    pub(super) fn copy(&self) -> Self {
        let mut state = lock(&self.0).clone();
        state.durable = state.now.clone();
        state.inodes.iter_mut().for_each(|inode| inode.durable = inode.now.clone());
        (state.crash_at, state.fail_at, state.operations, state.failed_sync) = (None, None, 0, false);
        Self(Arc::new(Mutex::new(state)))
    }

    /// The names and lengths of the files.
    pub(super) fn files(&self) -> Vec<(String, usize)> {
        let state = lock(&self.0);
        state.now.iter().map(|(name, inode)| (name.clone(), state.inodes[*inode].now.len())).collect()
    }

    /// Changes the bytes of a file behind everybody's back.
    pub(super) fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = lock(&self.0);
        let inode = state.now[name];
        change(&mut state.inodes[inode].now);
        state.inodes[inode].durable = state.inodes[inode].now.clone();
    }

    /// Takes a file away behind everybody's back.
    pub(super) fn lose(&self, name: &str) {
        let mut state = lock(&self.0);
        state.now.remove(name);
        state.durable.remove(name);
    }

    /// An operation has happened, or half of it has.
    fn moment(state: &mut State) {
        if let Some(mut moments) = state.moments.take() {
            moments.push(state.clone());
            state.moments = Some(moments);
        }
    }

    /// One operation; `Err` if it does not happen.
    fn operate(&self, state: &mut State, is_sync: bool) -> io::Result<()> {
        state.operations += 1;
        let operation = state.operations;
        if state.crash_at.is_some_and(|at| operation >= at) {
            return Err(io::Error::other("the machine has stopped"));
        }
        if is_sync && state.failed_sync {
            state.syncs_after_failure += 1;
        }
        if let Some((at, kind)) = state.fail_at.filter(|(at, _)| *at == operation) {
            _ = at;
            state.failed_sync |= is_sync;
            return Err(io::Error::new(kind, "this operation fails"));
        }
        Ok(())
    }
}

/// The bytes of a file after a crash: of what was not synced, each sector by itself.
fn crashed(inode: &Inode, kept: u64, rng: &mut Rng) -> Vec<u8> {
    if inode.durable == inode.now {
        return inode.now.clone();
    }
    let is_longer = inode.durable.len() != inode.now.len();
    let length = if is_longer && !rng.percent(kept) { inode.durable.len() } else { inode.now.len() };
    let mut bytes = vec![0; length];
    for (index, sector) in bytes.chunks_mut(SECTOR_BYTES).enumerate() {
        let at = index * SECTOR_BYTES;
        let of = |from: &Vec<u8>| {
            from.get(at..(at + sector.len()).min(from.len()).max(at)).unwrap_or_default().to_vec()
        };
        let (before, after) = (of(&inode.durable), of(&inode.now));
        let chosen = if before == after || rng.percent(kept) { after } else { before };
        sector[..chosen.len()].copy_from_slice(&chosen);
    }
    bytes
}

impl Files for Disk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.0).now.keys().cloned().collect())
    }

    fn read(&self, name: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
        let state = lock(&self.0);
        let inode = state.now.get(name).ok_or(io::ErrorKind::NotFound)?;
        let bytes = &state.inodes[*inode].now;
        Ok(bytes[..bytes.len().min(bytes_max as usize)].to_vec())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Box<dyn FileAt>> {
        let mut state = lock(&self.0);
        self.operate(&mut state, false)?;
        let used: usize = state.now.values().map(|inode| state.inodes[*inode].now.len()).sum();
        if state.room.is_some_and(|room| used as u64 + bytes > room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let inode = state.inodes.len();
        state.inodes.push(Inode { durable: Vec::new(), now: vec![0; bytes as usize] });
        state.now.insert(name.to_owned(), inode);
        Self::moment(&mut state);
        Ok(Box::new(Open { disk: self.clone(), inode }))
    }

    fn cut(&self, name: &str, bytes: u64) -> io::Result<()> {
        let mut state = lock(&self.0);
        self.operate(&mut state, false)?;
        let inode = *state.now.get(name).ok_or(io::ErrorKind::NotFound)?;
        state.inodes[inode].now.truncate(bytes as usize);
        Self::moment(&mut state);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = lock(&self.0);
        self.operate(&mut state, false)?;
        let removed = state.now.remove(name).map(|_| ()).ok_or(io::ErrorKind::NotFound.into());
        Self::moment(&mut state);
        removed
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = lock(&self.0);
        self.operate(&mut state, true)?;
        state.durable = state.now.clone();
        Self::moment(&mut state);
        Ok(())
    }
}

impl FileAt for Open {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.disk.0);
        let happens = self.disk.operate(&mut state, false);
        // One that fails may have got anywhere, sector by sector.
        let end = (offset as usize + bytes.len() / 2) / SECTOR_BYTES * SECTOR_BYTES;
        let length = if happens.is_ok() { bytes.len() } else { end.saturating_sub(offset as usize) };
        let file = &mut state.inodes[self.inode].now;
        let end = (offset as usize + length).max(file.len());
        file.resize(end, 0);
        file[offset as usize..offset as usize + length].copy_from_slice(&bytes[..length]);
        Disk::moment(&mut state);
        happens
    }

    fn wipe(&mut self, offset: u64, bytes: u64) -> io::Result<()> {
        let mut state = lock(&self.disk.0);
        self.disk.operate(&mut state, false)?;
        let file = &mut state.inodes[self.inode].now;
        file.truncate(offset as usize);
        file.resize(bytes as usize, 0);
        Disk::moment(&mut state);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = lock(&self.disk.0);
        self.disk.operate(&mut state, true)?;
        let inode = &mut state.inodes[self.inode];
        inode.durable = inode.now.clone();
        Disk::moment(&mut state);
        Ok(())
    }
}
