//! What the store's own tests ask of the simulated disk besides.

use std::io;
use std::sync::{Arc, Mutex};

use super::super::lock::lock;
use super::state::{Inode, Rng};
use super::{Disk, Inner};

impl Disk {
    fn at(inner: Inner) -> Self {
        Self { inner: Arc::new(Mutex::new(inner)), ..Self::default() }
    }

    /// From now on the disk is kept as it was after each operation.
    pub(in super::super) fn keep_moments(&self) {
        let mut inner = lock(&self.inner);
        (inner.keeps_all, inner.past) = (true, Vec::new());
    }

    /// The disk after each operation since the last call.
    pub(in super::super) fn moments(&self) -> Vec<Self> {
        let past = std::mem::take(&mut lock(&self.inner).past);
        past.into_iter().map(|moment| Self::at(Inner { state: moment.after, ..Inner::default() })).collect()
    }

    /// How many operations there were.
    pub(in super::super) fn operations(&self) -> u64 {
        lock(&self.inner).operations
    }

    /// The operation with this number, and all behind it, will not be finished.
    pub(in super::super) fn crash_at(&self, operation: u64) {
        lock(&self.inner).crash_at = Some(operation);
    }

    pub(in super::super) fn fail_at(&self, operation: u64, kind: io::ErrorKind) {
        lock(&self.inner).fail_at = Some((operation, kind));
    }

    pub(in super::super) fn room(&self, bytes: Option<u64>) {
        lock(&self.inner).room = bytes;
    }

    /// Whether what is given back is taken by something else at once.
    pub(in super::super) fn steal(&self, steals: bool) {
        lock(&self.inner).steals = steals;
    }

    pub(in super::super) fn syncs_after_failure(&self) -> u64 {
        lock(&self.inner).syncs_after_failure
    }

    /// What a machine that stopped here may find when it starts again.
    pub(in super::super) fn after_crash(&self, rng: &mut Rng) -> Self {
        let state = lock(&self.inner).state.lost(rng);
        Self::at(Inner { state, ..Inner::default() })
    }

    /// The disk as the next process finds it after this one was killed: nothing of it any more durable than it was.
    pub(in super::super) fn after_kill(&self) -> Self {
        let state = lock(&self.inner).state.clone();
        Self::at(Inner { state, ..Inner::default() })
    }

    /// The same bytes, all durable, apart from this disk.
    pub(in super::super) fn copy(&self) -> Self {
        let mut state = lock(&self.inner).state.clone();
        state.durable = state.now.clone();
        state.gone.clear();
        for inode in &mut state.inodes {
            *inode = Arc::new(Inode::synced(inode.now.clone()));
        }
        Self::at(Inner { state, ..Inner::default() })
    }

    /// The names and lengths of the files.
    pub(in super::super) fn files(&self) -> Vec<(String, usize)> {
        let inner = lock(&self.inner);
        let state = &inner.state;
        state.now.iter().map(|(name, inode)| (name.clone(), state.inodes[*inode].now.len())).collect()
    }

    /// Takes a file away behind everybody's back.
    pub(in super::super) fn lose(&self, name: &str) {
        let mut inner = lock(&self.inner);
        inner.state.now.remove(name);
        inner.state.durable.remove(name);
    }
}
