//! Where the application keeps its cursor: the library's own trait, on a simulated disk that fails, dawdles and forgets.
//!
//! A write is whole or not at all, and one that is given up happens in that moment or never: it undoes no newer one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use galaxy_push_client::{CursorStore, StoreError};
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{Fault, Stored, What};
use tokio::time::sleep;

use crate::frames;
use crate::rng::{Rng, now_us};
use crate::scenario::Store;

/// A write that takes so long is written down.
const SLOW: Duration = Duration::from_millis(200);

/// What outlives the process: the cursor it stored, if it ever did.
pub type Disk = Arc<Mutex<Option<String>>>;

/// The store of one life of the application.
#[derive(Debug)]
pub(super) struct SimulatedStore {
    plan: Store,
    calm_from: Duration,
    disk: Disk,
    recorder: Recorder,
    rng: Rng,
}

/// A write that is under way.
struct Write<'a> {
    store: &'a SimulatedStore,
    cursor: &'a str,
    /// Whether it happens if it is given up.
    happens: bool,
    is_over: bool,
    /// What is written down while it takes long: the application does nothing else.
    fault: Option<Fault>,
}

impl SimulatedStore {
    pub(super) fn new(
        plan: Store,
        calm_from: Duration,
        disk: Disk,
        recorder: Recorder,
        mut rng: Rng,
    ) -> Self {
        if rng.percent(plan.garbage_percent) {
            let garbage = *rng.pick(&["damaged", "", "9.of.another.version", "2.\u{fffd}\0", "oldest "]);
            let mut held = disk.lock().unwrap_or_else(PoisonError::into_inner);
            held.iter_mut().for_each(|held| garbage.clone_into(held)); // what was never written is not damaged
        }
        Self { plan, calm_from, disk, recorder, rng }
    }

    fn is_calm(&self) -> bool {
        Duration::from_micros(now_us()) >= self.calm_from
    }

    /// Whether a write fails. An outage that is to last goes on in the calm.
    fn fails(&mut self) -> bool {
        let now = Duration::from_micros(now_us());
        let is_out = self.plan.outage.is_some_and(|(from, lasts)| now >= from && now < from + lasts);
        let fails = self.rng.percent(self.plan.fails_percent);
        is_out || fails && !self.is_calm()
    }

    /// How long a write takes: a few are so slow that nobody waits for them.
    fn takes(&mut self) -> Duration {
        let is_slow = self.rng.below(1_000) < self.plan.slow_permille && !self.is_calm();
        let (least, most) = if is_slow { (SLOW.as_millis() as u64, 7_000) } else { (0, 3) };
        self.rng.between(Duration::from_millis(least), Duration::from_millis(most))
    }
}

impl CursorStore for SimulatedStore {
    async fn load(&mut self) -> Result<Option<String>, StoreError> {
        let takes = self.takes();
        sleep(takes).await;
        if self.rng.percent(self.plan.unreadable_percent) {
            return Err("the disk cannot be read".into());
        }
        Ok(self.disk.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    async fn save(&mut self, cursor: &str) -> Result<(), StoreError> {
        let (takes, fails, happens) = (self.takes(), self.fails(), self.rng.percent(50));
        let fault = (takes >= SLOW)
            .then(|| Fault { kind: "slow-store".into(), detail: self.recorder.name().to_string() });
        if let Some(fault) = &fault {
            self.recorder.record(now_us(), What::FaultStart(fault.clone()));
        }
        let mut write = Write { store: self, cursor, happens: happens && !fails, is_over: false, fault };
        sleep(takes).await;
        write.end(!fails);
        if fails { Err("the disk is full".into()) } else { Ok(()) }
    }
}

impl Write<'_> {
    fn end(&mut self, happens: bool) {
        self.is_over = true;
        if let Some(fault) = self.fault.take() {
            self.store.recorder.record(now_us(), What::FaultStop(fault));
        }
        let (recorder, reader) = (&self.store.recorder, self.store.recorder.name().clone());
        if happens {
            let mut held = self.store.disk.lock().unwrap_or_else(PoisonError::into_inner);
            *held = Some(self.cursor.to_owned());
            let cursor = frames::cursor(self.cursor);
            recorder.record(now_us(), What::Stored(Stored { reader, cursor }));
        } else {
            recorder.record(now_us(), What::StoreFailed(reader));
        }
    }
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.end(self.happens);
        }
    }
}
