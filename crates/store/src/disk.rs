//! The store that keeps everything in a directory: the log, what was published before, the standing records and the epoch.
//!
//! An acknowledgement means that `fdatasync` has returned. Nothing is delivered before: so one position names one payload for
//! ever, through any number of restarts. While a group of batches is on its way to the disk the next one gathers, so the
//! more is published, the more one sync carries. Readers read from memory; the files are read when the store is opened, and
//! otherwise never.
//!
//! | module | what it is |
//! |---|---|
//! | [`files`] | the border to the disk |
//! | `format`, `record` | the bytes |
//! | `group` | what is written and made durable together |
//! | `stage` | gives positions, fills groups |
//! | `engine` | the steps of a group: staged, sealed, durable, delivered; and how segments go |
//! | `segments` | writes and syncs |
//! | `writer` | the threads |
//! | `simulated`, `task` | a disk for tests and the simulation, and a store on it without threads |
//! | `scan`, `recover`, `renew`, `replay` | opens what is there |
//! | `retention` | which segments are needed |
//! | `space` | how much room the log may need |
//! | [`inspect`] | reads a log without touching it, also one that a hub writes |
//! | `visible` | what readers and publishers may know |
//! | `lock` | locks what a panic may have poisoned |
//!
//! # Group commit
//!
//! One group is on its way to the disk at a time, and what comes meanwhile gathers in the next. Nothing waits for a group to fill:
//! there is no timer.
//!
//! ```text
//! batches come   A           B  C  D                 E
//! disk           [write+sync A]     [write+sync B C D]     [write+sync E]
//! delivered                    A                      B C D             E
//! ```
//!
//! Three batches that came during one sync cost one sync together. The steps of a group, each in its file:
//!
//! | step | where | what is true afterwards |
//! |---|---|---|
//! | staged | `stage` | its events have positions, which nobody knows |
//! | sealed | `engine` | its bytes are fixed, and so is their place in a segment |
//! | run | `segments` | it is durable, or there was no room and nothing of it is left, or nobody knows |
//! | done | `engine/outcome` | what it changes is visible, or taken back |
//! | delivered | `group` | the sink has it, and then its publishers have their answers |
//!
//! # Failures
//!
//! | what happens | what a publisher is told | what the store does |
//! |---|---|---|
//! | the disk is full | refused, [`Refused::Unavailable`](crate::Refused::Unavailable): nothing was appended | goes on as soon as there is room; makes some itself when events have left the window |
//! | a write or sync fails otherwise | [`Error::Unknown`] for the group on its way; refused from then on | is dead, and says so: end the process ([`Options::on_death`]) |
//! | the process is killed, the machine stops | nothing | everything acknowledged is there again, in the same epoch |
//! | the folder, or the file that is written, is taken away, moved or replaced | refused from the next [`Store::check_disk`] on; what was acknowledged since is gone with it | the same |
//! | bytes on the disk have changed | nothing | what is damaged is told when it is opened: [`Recovered::damage`], and a gap to readers |
//!
//! A sync is never tried again: the system may have dropped what it could not write.
//!
//! # Where a crash may fall
//!
//! | the process ends | the next start finds | a publisher without an answer that sends it again |
//! |---|---|---|
//! | before a group is written | nothing of it | has it appended |
//! | while it is written, or before its sync has returned | all of it; or a part, which is cut off ([`Recovered::torn`]) | learns which: a duplicate, or appended |
//! | after its sync, before its answers | all of it, at the same positions | is told that it is a duplicate |
//! | after its answers | all of it, at the same positions | has had its answer |
//!
//! No row hands an event to readers that a later start does not have: the sink comes after the sync.

pub mod files;
pub mod inspect;

mod engine;
mod format;
mod group;
mod lock;
mod open_error;
mod record;
mod recover;
mod recovery;
mod renew;
mod replay;
mod retention;
mod scan;
mod segments;
#[cfg(any(test, feature = "simulated"))]
pub mod simulated;
mod space;
mod stage;
mod sync_times;
#[cfg(any(test, feature = "simulated"))]
mod task;
mod visible;
mod writer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use galaxy_push_core::cursor::{Cursor, Epoch};
use galaxy_push_core::frame::LogKind;
use galaxy_push_core::window::Bounds;
use tokio::time::Instant;

use crate::batch::Batch;
use crate::standing;
use crate::{Appended, DedupBounds, Error, Sink, Store};

use engine::Engine;
use files::{Directory, Files};
use format::{GROUPS_START, SegmentHead, Sums};
use lock::lock;
pub use open_error::OpenError;
use recover::Opened;
pub use recovery::{Damage, Recovered};
use retention::Retention;
use segments::{Segments, name};
use space::Space;
use stage::{Place, Stager};
pub use sync_times::{SYNC_SECONDS, SyncTimes};
use visible::Visible;
pub use writer::Figures;
use writer::Writer;

/// What is called when the disk has failed, with what happened.
pub type OnDeath = Arc<dyn Fn(&str) + Send + Sync>;

/// How far the reading of a log has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes of files that were read.
    pub bytes: u64,
    /// Bytes of all files that are to be read.
    pub bytes_total: u64,
}

/// What is called when the reading of a log begins, and after each segment. `Break` ends it: [`OpenError::Stopped`].
pub type OnProgress = Arc<dyn Fn(Progress) -> ControlFlow<()> + Send + Sync>;

/// What a store is to keep, and for whom.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// What the hub's window holds. What it has left is kept no longer than the segment that it lies in.
    pub window: Bounds,
    /// How much of what was published before is remembered.
    pub dedup: DedupBounds,
    /// The most standing records of each kind.
    pub records_max: usize,
    /// The length of a segment's file, unless one group is longer.
    pub segment_bytes: u64,
    /// Called once, from a thread of the store or within [`Store::check_disk`], if the disk has failed and nothing can be
    /// appended any more: with what happened. End the process then; the next one finds what is there.
    pub on_death: Option<OnDeath>,
    /// Called while what is there is read, from the thread that opens the store.
    pub on_progress: Option<OnProgress>,
}

impl Default for Options {
    /// The default window and dedup bounds.
    fn default() -> Self {
        Self::of(Bounds::default())
    }
}

/// The longest that a segment is by [`Options::of`], unless one group is longer.
const SEGMENT_BYTES_MAX: u64 = 32 << 20;

impl Options {
    /// For this window.
    #[must_use]
    pub fn of(window: Bounds) -> Self {
        Self {
            window,
            dedup: DedupBounds::default(),
            records_max: standing::RECORDS_MAX,
            segment_bytes: (window.bytes / 8).clamp(1 << 20, SEGMENT_BYTES_MAX),
            on_death: None,
            on_progress: None,
        }
    }
}

/// A log in a directory.
pub struct DiskStore {
    visible: Arc<Mutex<Visible>>,
    writer: Writer,
    recovered: Recovered,
    files: Arc<dyn Files>,
    space: Space,
    opened_in: Duration,
    /// The files that were missing at the last look.
    reported_missing: Mutex<Vec<String>>,
}

impl DiskStore {
    /// Opens the log in a directory, or begins one there. `epoch` and `salt` are for a new one: draw both at random. Returns
    /// when everything that is held was handed to the sink, which takes as long as reading it: some 1 GiB a second.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: another process has the directory, or what lies there cannot be judged. Nothing was changed then.
    pub fn open(
        path: &Path,
        options: Options,
        epoch: Epoch,
        salt: u64,
        sink: Arc<dyn Sink>,
    ) -> Result<Self, OpenError> {
        let files = Directory::take(path)?;
        Self::open_in(Arc::new(files), options, epoch, salt, sink)
    }

    /// As [`DiskStore::open`], with files of another kind.
    ///
    /// # Errors
    ///
    /// As [`DiskStore::open`].
    pub fn open_in(
        files: Arc<dyn Files>,
        options: Options,
        epoch: Epoch,
        salt: u64,
        sink: Arc<dyn Sink>,
    ) -> Result<Self, OpenError> {
        let started = Instant::now();
        let (engine, segments, recovered) = assemble(files.clone(), &options, epoch, salt, sink)?;
        let (visible, space) = (engine.visible(), Space::of(&options));
        space.measure(&*files);
        let writer = Writer::start(engine, segments, options.on_death)
            .map_err(|error| OpenError::io("a thread", error))?;
        let opened_in = started.elapsed();
        Ok(Self { visible, writer, recovered, files, space, opened_in, reported_missing: Mutex::default() })
    }

    /// As [`DiskStore::open`], on a simulated disk, which no other store may have meanwhile, and without threads: a task of the
    /// present runtime does what they would. Nothing that opening wrote is durable before the disk's time for it is over
    /// ([`simulated::Disk::busy_for`]).
    ///
    /// # Errors
    ///
    /// As [`DiskStore::open`].
    #[cfg(any(test, feature = "simulated"))]
    pub fn open_simulated(
        disk: &simulated::Disk,
        options: Options,
        epoch: Epoch,
        salt: u64,
        sink: Arc<dyn Sink>,
    ) -> Result<Self, OpenError> {
        let taken = task::DiskLock::acquire(disk)
            .ok_or_else(|| files::DirectoryError::InUse("the simulated disk".into()))?;
        let (engine, segments, recovered) = assemble(Arc::new(disk.clone()), &options, epoch, salt, sink)?;
        let (visible, space) = (engine.visible(), Space::of(&options));
        space.measure(disk);
        let writer = Writer::start_task(engine, segments, options.on_death, taken);
        let (files, opened_in) = (Arc::new(disk.clone()), Duration::ZERO);
        Ok(Self { visible, writer, recovered, files, space, opened_in, reported_missing: Mutex::default() })
    }

    /// What was found when it was opened.
    #[must_use]
    pub const fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// What it has done so far, and the room there is, as [`Store::check_disk`] has seen it last.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let (figures, (free_bytes, free_seen_ago)) = (self.writer.figures(), self.space.free_bytes());
        Figures {
            sync_times: self.files.sync_times(),
            free_bytes,
            free_seen_ago,
            needed_bytes: self.space.needed_bytes(figures.disk_bytes),
            opened_in: self.opened_in,
            ..figures
        }
    }
}

type Assembled<R> = (Engine<R>, Segments, Recovered);

/// Everything but the threads.
fn assemble<R: group::Reply>(
    files: Arc<dyn Files>,
    options: &Options,
    epoch: Epoch,
    salt: u64,
    sink: Arc<dyn Sink>,
) -> Result<Assembled<R>, OpenError> {
    let opened = match recover::open(&*files, options, &sink)? {
        Some(opened) => opened,
        None => begin(options, epoch, salt, &sink),
    };
    let Opened { identity, at, retention, visible, recovered } = opened;
    let sums = Sums::new(identity.epoch, identity.salt);
    let mut segments = Segments::new(files, sums.clone());
    let (mut retention, mut at) = (retention, at);
    if at.segment == 0 {
        // The epoch is durable before anybody is told of it.
        segments.begin(&identity).map_err(|error| OpenError::io(&name(identity.number), error))?;
        retention.begin(identity.number, identity.bytes);
        at = Place { segment: identity.number, offset: GROUPS_START, ..at };
        at = at.in_length(identity.bytes);
    }
    let visible = Arc::new(Mutex::new(visible));
    let stager = Stager::new(sums, at);
    let engine = Engine::new(stager, retention, visible, sink, identity, options);
    Ok((engine, segments, recovered))
}

/// A log that nobody has written to.
fn begin(options: &Options, epoch: Epoch, salt: u64, sink: &Arc<dyn Sink>) -> Opened {
    let head = Cursor::start(epoch);
    sink.begin(head);
    let identity = SegmentHead {
        epoch,
        salt,
        number: 1,
        bytes: options.segment_bytes,
        after: head.seq,
        after_group: 0,
        previous_end: 0,
        stamped_unix_ms: 0,
    };
    let (group, segment, offset, segment_bytes) = (0, 0, 0, 0);
    let at = Place { head, group, segment, offset, segment_bytes, oldest: 1, stamp_unix_ms: 0 };
    Opened {
        identity,
        at,
        retention: Retention::new(options.window),
        visible: Visible::new(head, options.dedup, options.records_max),
        recovered: Recovered::default(),
    }
}

impl Store for DiskStore {
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<Vec<Appended>, Error>> {
        self.writer.append(batch).boxed()
    }

    fn head(&self) -> BoxFuture<'_, Result<Cursor, Error>> {
        futures_util::future::lazy(move |_| Ok(lock(&self.visible).head)).boxed()
    }

    fn dedup_horizon(&self, now: Duration) -> Duration {
        let mut visible = lock(&self.visible);
        let now = visible.log_time(now);
        visible.published.horizon(now)
    }

    fn trim(&self, now: Duration) {
        let now = {
            let mut visible = lock(&self.visible);
            let now = visible.log_time(now);
            visible.published.trim(now);
            now
        };
        self.writer.age(now);
    }

    fn standing(
        &self,
        after: Option<&standing::Key>,
        bytes_max: usize,
        bytes_each: usize,
        now_unix_ms: u64,
    ) -> standing::Page {
        lock(&self.visible).standing.page(after, bytes_max, bytes_each, now_unix_ms)
    }

    fn standing_count(&self, now_unix_ms: u64) -> standing::Count {
        lock(&self.visible).standing.count(now_unix_ms)
    }

    fn disk_figures(&self) -> Option<Figures> {
        Some(self.figures())
    }

    fn check_disk(&self) -> Vec<String> {
        self.space.measure(&*self.files);
        let is_gone = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        };
        if let Err(error) = self.files.is_in_place()
            && is_gone(&error)
        {
            self.writer
                .die(format!("its folder is not where it was, so what is written there is lost: {error}"));
            return Vec::new();
        }
        let missing = self.files.missing();
        let written = name(self.writer.segment());
        if let Some(missing) = missing.iter().find(|missing| **missing >= written) {
            self.writer
                .die(format!("its file {missing} is not where it was, so what is written there is lost"));
        }
        let mut reported = lock(&self.reported_missing);
        let before = std::mem::replace(&mut *reported, missing.clone());
        missing.into_iter().filter(|missing| *missing < written && !before.contains(missing)).collect()
    }

    fn standing_fill(&self, kind: LogKind, publisher: Option<&str>, now_unix_ms: u64) -> standing::Fill {
        lock(&self.visible).standing.fill(kind, publisher, now_unix_ms)
    }
}

impl fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskStore").field("recovered", &self.recovered).finish_non_exhaustive()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("window", &self.window)
            .field("dedup", &self.dedup)
            .finish_non_exhaustive()
    }
}
