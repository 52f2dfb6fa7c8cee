//! The files of the simulated disk at one moment: what is durable of them, and what a crash leaves.
//!
//! Pure, but for the choices. Called by [`Disk`](super::Disk).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::format::SECTOR_BYTES;

/// A seeded source of choices. SplitMix64 (Steele, Lea, Flood 2014): short, well mixed, and good enough to draw schedules.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    /// 64 uniform bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end.max(1)
    }

    /// Whether something of this probability, in percent, happens.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

impl Default for Rng {
    fn default() -> Self {
        Self(1)
    }
}

/// What a file is once it was synced, and what was done since.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) durable: Vec<u8>,
    pub(super) now: Vec<u8>,
    /// Sectors that a sync which failed did not write, and that no sync writes unless they are written again.
    pub(super) dropped: BTreeSet<usize>,
}

/// The files as they are at some moment.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) inodes: Vec<Arc<Inode>>,
    /// The names that a crash keeps, and the names of this moment.
    pub(super) durable: BTreeMap<String, usize>,
    pub(super) now: BTreeMap<String, usize>,
    /// Names that were taken away since the directory was synced, and are not durable: they may be, for all that anybody knows.
    pub(super) gone: BTreeMap<String, usize>,
}

impl State {
    pub(super) fn used(&self) -> u64 {
        self.now.values().map(|inode| self.inodes[*inode].now.len() as u64).sum()
    }

    /// After the process has ended: what no sync will write any more may be read anew from the disk.
    pub(super) fn evicted(mut self, rng: &mut Rng) -> Self {
        for inode in self.inodes.iter_mut().filter(|inode| !inode.dropped.is_empty()) {
            if rng.percent(30) {
                let inode = Arc::make_mut(inode);
                for sector in std::mem::take(&mut inode.dropped) {
                    copy_sector(sector, &inode.durable, &mut inode.now);
                }
            }
        }
        self
    }

    /// After the machine has stopped.
    pub(super) fn lost(&self, rng: &mut Rng) -> Self {
        let mut found = Self::default();
        // A process that is killed loses nothing: that is one of the outcomes, as is losing everything.
        let kept = [0, 10, 50, 90, 100][rng.below(5) as usize];
        let mut names = self.durable.clone();
        for name in self.now.keys().chain(self.durable.keys()) {
            if rng.percent(kept) {
                match self.now.get(name) {
                    Some(inode) => names.insert(name.clone(), *inode),
                    None => names.remove(name),
                };
            }
        }
        for (name, inode) in &self.gone {
            if !names.contains_key(name) && rng.percent(kept) {
                names.insert(name.clone(), *inode);
            }
        }
        for (name, inode) in names {
            let bytes = self.inodes[inode].lost(kept, rng);
            found.durable.insert(name.clone(), found.inodes.len());
            found.now.insert(name, found.inodes.len());
            found.inodes.push(Arc::new(Inode::synced(bytes)));
        }
        found
    }

    /// Between this and `after`, one operation later: a write has come to some sector.
    pub(super) fn half(mut self, after: &Self, rng: &mut Rng) -> Self {
        if self.now != after.now {
            return if rng.percent(50) { after.clone() } else { self };
        }
        for (number, inode) in after.inodes.iter().enumerate() {
            let before = &mut self.inodes[number];
            if Arc::ptr_eq(inode, before) || inode.now == before.now {
                continue;
            }
            let changed = |sector: &usize| sector_of(*sector, &inode.now) != sector_of(*sector, &before.now);
            let sectors: Vec<_> = (0..sectors(inode.now.len())).filter(changed).collect();
            let written = rng.below(sectors.len() as u64 + 1) as usize;
            let half = Arc::make_mut(before);
            half.now.resize(inode.now.len(), 0);
            for sector in &sectors[..written] {
                copy_sector(*sector, &inode.now, &mut half.now);
                half.dropped.remove(sector);
            }
        }
        self
    }
}

impl Inode {
    pub(super) fn synced(bytes: Vec<u8>) -> Self {
        Self { durable: bytes.clone(), now: bytes, dropped: BTreeSet::new() }
    }

    /// The bytes after the machine has stopped: of what was not synced, each sector by itself.
    pub(super) fn lost(&self, kept: u64, rng: &mut Rng) -> Vec<u8> {
        if self.durable == self.now {
            return self.now.clone();
        }
        let is_longer = self.durable.len() != self.now.len();
        let length = if is_longer && !rng.percent(kept) { self.durable.len() } else { self.now.len() };
        let mut bytes = vec![0; length];
        for sector in 0..sectors(length) {
            let (before, after) = (sector_of(sector, &self.durable), sector_of(sector, &self.now));
            let is_there = before == after || rng.percent(kept) && !self.dropped.contains(&sector);
            copy_sector(sector, if is_there { &self.now } else { &self.durable }, &mut bytes);
        }
        bytes
    }

    pub(super) fn sync(&mut self) {
        self.durable.resize(self.now.len(), 0);
        for sector in 0..sectors(self.now.len()) {
            if !self.dropped.contains(&sector) {
                copy_sector(sector, &self.now, &mut self.durable);
            }
        }
    }

    /// Some of it is durable, and of the rest the system takes it for durable.
    pub(super) fn fail_to_sync(&mut self, rng: &mut Rng) {
        let differ = |sector: &usize| sector_of(*sector, &self.now) != sector_of(*sector, &self.durable);
        let dirty: Vec<_> = (0..sectors(self.now.len())).filter(differ).collect();
        self.dropped.extend(dirty.into_iter().filter(|_| rng.percent(50)));
        self.sync();
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        self.now.resize(self.now.len().max(end), 0);
        self.now[offset..end].copy_from_slice(bytes);
        self.dropped.retain(|sector| !(offset / SECTOR_BYTES..sectors(end)).contains(sector));
    }
}

const fn sectors(bytes: usize) -> usize {
    bytes.div_ceil(SECTOR_BYTES)
}

fn sector_of(sector: usize, bytes: &[u8]) -> &[u8] {
    let from = (sector * SECTOR_BYTES).min(bytes.len());
    &bytes[from..(from + SECTOR_BYTES).min(bytes.len())]
}

/// As much of a sector as both have; what only `to` has of it becomes zeros.
fn copy_sector(sector: usize, from: &[u8], to: &mut [u8]) {
    let at = sector * SECTOR_BYTES;
    let end = (at + SECTOR_BYTES).min(to.len());
    let Some(to) = to.get_mut(at..end) else { return };
    let from = sector_of(sector, from);
    let length = from.len().min(to.len());
    to[..length].copy_from_slice(&from[..length]);
    to[length..].fill(0);
}
