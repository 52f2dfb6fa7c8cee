//! Randomness from a seed: everything a scenario decides, and what it passes to the system as its `Ambient`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use galaxy_push_core::ambient::Ambient;
use galaxy_push_store::disk::simulated;

/// The wall clock of a simulation starts here: 2026-01-01.
pub(crate) const UNIX_MS_START: u64 = 1_767_225_600_000;

/// A source of choices: that of the simulated disk, with what a scenario draws besides.
#[derive(Clone, Debug)]
pub struct Rng(simulated::Rng);

impl Rng {
    /// A stream of numbers for this seed; `part` separates the streams of one scenario.
    #[must_use]
    pub fn new(seed: u64, part: &str) -> Self {
        let mixed =
            part.bytes().fold(seed, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self(simulated::Rng(mixed))
    }

    /// 64 uniform bits.
    pub fn draw(&mut self) -> u64 {
        self.0.draw()
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.below(end)
    }

    /// Whether something of this probability, in percent, happens.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.0.percent(percent)
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    /// A time between two others, to the millisecond.
    pub fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let span = to.saturating_sub(from).as_millis() as u64;
        from + Duration::from_millis(self.below(span + 1))
    }
}

/// The surroundings of one process: simulated time as its clock, and its own stream of the seed, which goes on across
/// restarts so that no epoch and no id comes twice.
#[must_use]
pub fn ambient(seed: u64, process: &str) -> Ambient {
    skewed(seed, process, Skew::default())
}

/// As [`ambient`], with a wall clock that is not right.
#[must_use]
pub fn skewed(seed: u64, process: &str, skew: Skew) -> Ambient {
    let rng = Arc::new(Mutex::new(Rng::new(seed, process)));
    let random = move || rng.lock().unwrap_or_else(PoisonError::into_inner).draw();
    Ambient::new(move || skew.unix_ms(), random)
}

/// How wrong the wall clock of a process is: always, and more from some moments on.
#[derive(Clone, Debug, Default)]
pub struct Skew {
    /// Milliseconds that it is ahead from the start; behind if negative.
    pub ahead_ms: i64,
    /// When it is set, and by how much.
    pub steps: Vec<(Duration, i64)>,
}

impl Skew {
    fn unix_ms(&self) -> u64 {
        let now_us = u128::from(now_us());
        let taken = self.steps.iter().filter(|(at, _)| at.as_micros() <= now_us).map(|(_, by)| by);
        now_unix_ms().saturating_add_signed(self.ahead_ms + taken.sum::<i64>())
    }
}

/// The wall clock of the simulation.
#[must_use]
pub fn now_unix_ms() -> u64 {
    UNIX_MS_START + now_us() / 1_000
}

/// Simulated time in microseconds; 0 outside a simulation.
#[must_use]
pub fn now_us() -> u64 {
    turmoil::sim_elapsed().map_or(0, |elapsed| elapsed.as_micros() as u64)
}

/// Numbers events across the whole run.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// The next number, from 1.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}
