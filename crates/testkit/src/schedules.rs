//! Runs a model of threads under many schedules, and says how many. Each crate with models takes this file as a module of its
//! own, under `--cfg shuttle` alone: `cargo xtask threads` runs them and reads what they print.
//!
//! Time stands still in a model: a timer never fires, so whoever waits for a wake-up that was lost waits for ever, and shuttle
//! says that the threads are in a deadlock. What tokio does in one call (ring a bell, change a watched value) is one step.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};

/// How many schedules each scheduler tries, unless the environment says.
const SCHEDULES: usize = 2_000;

/// A bug is looked for among the schedules in which so many times another thread goes first.
const PCT_DEPTH: usize = 3;

/// Of each thread of a model: futures of a debug build are large.
const STACK_BYTES: usize = 1 << 20;

/// The same schedules each time.
const SEED: u64 = 4;

/// How often something happened in all schedules of a model that has to happen in some, or it shows nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(Arc<AtomicU64>);

impl Seen {
    pub(crate) fn count(&self, times: u64) {
        self.0.fetch_add(times, Ordering::Relaxed);
    }

    pub(crate) fn in_some(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// Runs the model at random and by PCT. A schedule in which it panics, or in which its threads wait for each other for ever, is
/// printed, and the test fails.
pub(crate) fn explore(name: &str, shows: &str, model: impl Fn() + Send + Sync + 'static) {
    let said = std::env::var("GALAXY_PUSH_SCHEDULES").ok();
    let schedules = said.map_or(SCHEDULES, |said| said.parse().expect("a number of schedules"));
    let model = Arc::new(model);
    run(name, shows, "random", RandomScheduler::new_from_seed(SEED, schedules), &model);
    run(name, shows, "PCT", PctScheduler::new_from_seed(SEED, PCT_DEPTH, schedules), &model);
}

#[expect(clippy::print_stdout, reason = "`cargo xtask threads` reads it")]
fn run(
    name: &str,
    shows: &str,
    called: &str,
    scheduler: impl Scheduler + 'static,
    model: &Arc<impl Fn() + Send + Sync + 'static>,
) {
    let begun = Instant::now();
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.silence_warnings = true; // atomics are taken as sequentially consistent: docs/threads.md says so
    let model = model.clone();
    let schedules = Runner::new(scheduler, config).run(move || {
        let time = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let time = time.expect("a clock that stands still");
        let _inside = time.enter();
        model();
    });
    println!("model|{name}|{shows}|{called}|{schedules}|{:.1}", begun.elapsed().as_secs_f64());
}
