//! How long syncs take: counted by the [`files`](super::files) that are synced, shown by the hub's metrics.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The upper bounds of what is told apart, in seconds: from a disk with a cache of its own to one that hangs.
pub const SYNC_SECONDS: [f64; 11] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 10.0];

/// How many syncs took how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncTimes {
    /// How many took at most as long as the bound of the same place in [`SYNC_SECONDS`] and longer than the one before it;
    /// last those that took longer than any.
    pub counts: [u64; SYNC_SECONDS.len() + 1],
    /// All of them together.
    pub total: Duration,
}

impl SyncTimes {
    fn add(&mut self, took: Duration) {
        let place = SYNC_SECONDS.partition_point(|bound| *bound < took.as_secs_f64());
        self.counts[place] += 1;
        self.total += took;
    }
}

/// Measures. Shared by the files of a directory, of which two are synced at a time at most.
#[derive(Debug, Default)]
pub(crate) struct Clock(Mutex<SyncTimes>);

impl Clock {
    pub(crate) fn measure<T>(&self, sync: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let outcome = sync();
        let took = started.elapsed();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(took);
        outcome
    }

    pub(crate) fn so_far(&self) -> SyncTimes {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sync_counts_below_the_bound_that_it_keeps() {
        let mut times = SyncTimes::default();
        for micros in [0, 100, 101, 999, 1_000, 10_000_000, 10_000_001] {
            times.add(Duration::from_micros(micros));
        }
        assert_eq!(times.counts, [2, 1, 0, 2, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(times.total, Duration::from_micros(20_002_201));
    }
}
