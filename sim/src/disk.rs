//! The disk of a simulated hub: the store's own simulated disk, what the harness reads from it by itself, and its faults.
//!
//! The hub opens its log on it as the binary does in a folder. The truth of a history is what lies on it durably, read by
//! `reading` and not with the store's code, at the moment at which the store hands something on.

mod crc;
mod reading;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::cursor::{Cursor, Epoch};
use galaxy_push_core::window::Bounds;
use galaxy_push_store::disk::simulated::{Crash, Disk, Rng as DiskRng};
use galaxy_push_store::disk::{OpenError, Options};
use galaxy_push_store::{Committed, DiskStore, Error, Maker, Refused, Sink};
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{Damaged, What};
use tokio::time::{sleep, timeout};

use crate::rng::{Rng, now_us};
use reading::Reading;

/// The length of a segment: small, so that segments come and go.
const SEGMENT_BYTES: u64 = 64 << 10;

/// A store that is closed lets its disk go within this time: a sync and more.
const RELEASED_WITHIN: Duration = Duration::from_secs(3);

/// A disk. Clones are the same one.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "what it holds is of no use to read")]
pub struct HubDisk {
    disk: Disk,
    reading: Arc<Mutex<Reading>>,
    recorder: Recorder,
    /// The store has given up: its process is to end.
    died: Arc<AtomicBool>,
    rng: Arc<Mutex<Rng>>,
}

impl HubDisk {
    /// An empty one. What is read from it is written down as the hub's.
    #[must_use]
    pub fn new(seed: u64, recorder: Recorder) -> Self {
        let mut rng = Rng::new(seed, "hub's disk");
        let disk = Disk::timed(rng.draw(), || Duration::from_micros(now_us()));
        Self { disk, reading: Arc::default(), recorder, died: Arc::default(), rng: Arc::new(Mutex::new(rng)) }
    }

    /// Opens the log for a hub with this window, or begins one.
    #[must_use]
    pub fn maker(&self, window: Bounds, ambient: &Ambient) -> Maker {
        let mut options = Options::of(window);
        options.segment_bytes = SEGMENT_BYTES;
        let died = self.died.clone();
        options.on_death = Some(Arc::new(move |_| died.store(true, Ordering::Relaxed)));
        let (epoch, salt) = (Epoch(ambient.random_128()), ambient.random());
        let disk = self.clone();
        Box::new(move |sink| {
            let witness = Arc::new(Witness { sink, disk: disk.clone() });
            let store = DiskStore::open_simulated(&disk.disk, options, epoch, salt, witness);
            let store = store.map_err(|error| Error::from(Refused::Unavailable(told(&error))))?;
            Ok(Arc::new(store))
        })
    }

    /// Waits until what opening the log has written is durable, and writes down what is there.
    ///
    /// # Errors
    ///
    /// When what lies on the disk is not what the store should write.
    pub async fn opened(&self) -> anyhow::Result<()> {
        while !self.disk.busy_for().is_zero() {
            sleep(self.disk.busy_for()).await;
        }
        lock(&self.reading).all(self.disk.durable(""), &self.recorder)
    }

    /// Whether the log could not be opened for a reason that a disk may have: full, or a sync that failed. Then the process ends
    /// and is started again.
    pub fn may_fail_to_open(&self) -> bool {
        let may = self.disk.is_full() || self.disk.has_failed();
        if may {
            self.crash(Duration::from_micros(now_us()), Crash::Process);
        }
        may
    }

    /// Waits until a store that was closed has let it go.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub async fn released(&self) -> anyhow::Result<()> {
        let released = async {
            while self.disk.is_taken() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        Ok(timeout(RELEASED_WITHIN, released).await?)
    }

    /// Whatever used it is gone without a word.
    pub fn crash(&self, at: Duration, crash: Crash) {
        let mut rng = DiskRng(lock(&self.rng).draw());
        self.disk.crash(at, crash, &mut rng);
    }

    /// Whether the store has given up since this was asked last.
    #[must_use]
    pub fn has_died(&self) -> bool {
        self.died.swap(false, Ordering::Relaxed)
    }

    /// How long it takes until a process that has ended is started again.
    #[must_use]
    pub fn back_after(&self) -> Duration {
        lock(&self.rng).between(Duration::from_millis(50), Duration::from_secs(2))
    }

    /// There is no room, until [`HubDisk::free`].
    pub fn fill(&self) {
        let promises_nothing = lock(&self.rng).percent(50);
        self.disk.fill(promises_nothing);
    }

    /// There is room again.
    pub fn free(&self) {
        self.disk.free();
    }

    /// Whether the next sync fails.
    pub fn fail_next_sync(&self, fails: bool) {
        self.disk.fail_next_sync(fails);
    }

    /// Changes a byte of some group that holds nothing but events, if there is one, and writes down which they are. Nobody may
    /// have the log open.
    pub fn damage(&self, at: Duration) {
        let files = self.disk.durable("");
        let (mut rng, reading) = (lock(&self.rng), lock(&self.reading));
        let Some((file, group)) = reading.pick(&files, &mut rng) else { return };
        let place = group.bytes.start + rng.below((group.bytes.end - group.bytes.start) as u64) as usize;
        let bit = 1 << rng.below(8);
        self.disk.change(&file, |bytes| bytes[place] ^= bit);
        let damaged = Damaged { epoch: group.epoch, after: group.after, through: group.through };
        self.recorder.record(at.as_micros() as u64, What::Damaged(damaged));
    }

    fn witness(&self) {
        let mut reading = lock(&self.reading);
        let files = self.disk.durable(&reading.file());
        reading.more(&files, &self.recorder);
    }
}

/// Between a store and its hub: reads the disk whenever something is handed on.
struct Witness {
    sink: Arc<dyn Sink>,
    disk: HubDisk,
}

impl Sink for Witness {
    fn begin(&self, base: Cursor) {
        self.sink.begin(base);
    }

    fn committed(&self, batch: &[Committed]) {
        self.disk.witness();
        self.sink.committed(batch);
    }

    fn restored(&self, batch: &[Committed]) {
        self.sink.restored(batch);
    }

    fn damaged(&self, from: Cursor, to: Cursor) {
        self.sink.damaged(from, to);
    }

    fn stamped_until(&self, unix_ms: u64) {
        self.sink.stamped_until(unix_ms);
    }
}

fn told(error: &OpenError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
