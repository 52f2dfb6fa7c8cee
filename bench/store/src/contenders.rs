//! What is compared: each appends a group of events and returns once they are durable.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::{EVENT_BYTES, cpu_ns};

#[cfg(feature = "databases")]
mod databases;

/// How large a file of the loops and of the segments is, in bytes: no run fills it.
const FILE_BYTES: u64 = 1 << 30;

/// What an event takes in a file of the store beside its data, in bytes: its frame, and what lies before it.
const ENTRY_OVERHEAD: usize = 110;

/// Appends and makes durable.
pub trait Contender {
    /// `group` events at the positions from `first` on.
    fn append(&mut self, first: u64, group: usize, event: &[u8]);
}

type Make = fn(&Path) -> Box<dyn Contender>;

/// The first is what the others are measured against.
pub const CONTENDERS: &[(&str, Make)] = &[
    ("bare loop, space allocated before", |dir| Box::new(Bare::new(dir, Space::Allocated))),
    ("bare loop, zeros written before", |dir| Box::new(Bare::new(dir, Space::Written))),
    ("bare loop, file grows", |dir| Box::new(Bare::new(dir, Space::Grows))),
    ("own segments", |dir| Box::new(Segments(Bare::new(dir, Space::Allocated)))),
    #[cfg(feature = "databases")]
    ("redb", |dir| Box::new(databases::Redb::new(dir))),
    #[cfg(feature = "databases")]
    ("fjall", |dir| Box::new(databases::Fjall::new(dir))),
];

enum Space {
    Allocated,
    Written,
    Grows,
}

/// `write` and `fdatasync`, nothing else.
struct Bare {
    file: File,
    offset: u64,
    end: u64,
    buffer: Vec<u8>,
}

impl Bare {
    fn new(dir: &Path, space: Space) -> Self {
        let file = File::create(dir.join("bare")).unwrap();
        let mut end = FILE_BYTES;
        match space {
            Space::Allocated => {
                rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, FILE_BYTES).unwrap();
            }
            Space::Written => {
                end = 96 << 20; // begins anew at the end: the same blocks once more
                (0..96).for_each(|at| file.write_all_at(&vec![0; 1 << 20], at << 20).unwrap());
            }
            Space::Grows => {}
        }
        file.sync_all().unwrap();
        Self { file, offset: 0, end, buffer: Vec::new() }
    }

    fn write(&mut self) {
        if self.offset + self.buffer.len() as u64 > self.end {
            self.offset = 0;
        }
        self.file.write_all_at(&self.buffer, self.offset).unwrap();
        self.file.sync_data().unwrap();
        self.offset += self.buffer.len() as u64;
    }
}

impl Contender for Bare {
    fn append(&mut self, _: u64, group: usize, event: &[u8]) {
        self.buffer.clear();
        (0..group).for_each(|_| self.buffer.extend_from_slice(event));
        self.write();
    }
}

/// What the bare loop came to.
pub struct BareRun {
    /// Events a second.
    pub rate: f64,
    pub cpu_ns: f64,
    /// How long each write and sync took, in microseconds.
    pub syncs_us: Vec<f64>,
}

/// Runs the bare loop, `group` events a sync, each as long as one takes in a file of the store.
pub fn bare(dir: &Path, group: usize, span: Duration) -> BareRun {
    let scratch = tempfile::tempdir_in(dir).expect("a scratch directory");
    let mut bare = Bare::new(scratch.path(), Space::Allocated);
    let event = [b'x'; EVENT_BYTES + ENTRY_OVERHEAD];
    let (mut syncs_us, begun, cpu) = (Vec::new(), Instant::now(), cpu_ns());
    while begun.elapsed() < span {
        let started = Instant::now();
        bare.append(0, group, &event);
        syncs_us.push(started.elapsed().as_secs_f64() * 1e6);
    }
    let events = (syncs_us.len() * group) as f64;
    BareRun { rate: events / begun.elapsed().as_secs_f64(), cpu_ns: (cpu_ns() - cpu) / events, syncs_us }
}

/// The same with what makes it a log: a head with a checksum over each group, a length and a position for each event.
struct Segments(Bare);

impl Contender for Segments {
    fn append(&mut self, first: u64, group: usize, event: &[u8]) {
        let buffer = &mut self.0.buffer;
        buffer.clear();
        buffer.extend_from_slice(&[0; 64]);
        for position in first..first + group as u64 {
            buffer.extend_from_slice(&(EVENT_BYTES as u32).to_le_bytes());
            buffer.extend_from_slice(&position.to_le_bytes());
            buffer.extend_from_slice(&[7; 16]);
            buffer.extend_from_slice(event);
        }
        let sum = crc32fast::hash(&buffer[64..]);
        buffer[..4].copy_from_slice(&sum.to_le_bytes());
        buffer.resize(buffer.len().next_multiple_of(64), 0);
        self.0.write();
    }
}
