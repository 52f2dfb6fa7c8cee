//! What seeds came to, one by one and together. Runs none: `seeds` does, and `ledger` writes it down.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Args;

/// What the process of one clean seed says, as a line of JSON.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Seed {
    pub(crate) seed: u64,
    /// By their kinds.
    pub(crate) faults: BTreeMap<String, u64>,
    pub(crate) records: usize,
    /// A fingerprint of the whole history.
    pub(crate) trace: String,
    pub(crate) seen: BTreeMap<String, u64>,
}

/// A seed that ran, as it is kept.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Ran {
    pub(crate) seconds: u64,
    pub(crate) took_ms: u64,
    #[serde(flatten)]
    pub(crate) seed: Seed,
}

/// What a run came to.
pub(crate) struct Total {
    pub(crate) seeds: usize,
    pub(crate) failed: usize,
    /// Since the start of this run.
    elapsed: Duration,
    /// Of all seeds, those of earlier runs too, as if none had run beside another.
    pub(crate) took: Duration,
    pub(crate) simulated: Duration,
    pub(crate) faults: BTreeMap<String, u64>,
    pub(crate) records: usize,
    pub(crate) seen: BTreeMap<String, u64>,
    twice: u64,
}

impl Total {
    pub(crate) fn of(args: &Args, done: &[Ran], failures: &[(u64, String)], elapsed: Duration) -> Self {
        let (mut faults, mut seen) = (BTreeMap::new(), BTreeMap::new());
        for ran in done {
            add(&mut faults, &ran.seed.faults);
            add(&mut seen, &ran.seed.seen);
        }
        Self {
            seeds: done.len(),
            failed: failures.len(),
            elapsed,
            took: Duration::from_millis(done.iter().map(|ran| ran.took_ms).sum()),
            simulated: Duration::from_secs(args.seconds * done.len() as u64),
            faults,
            records: done.iter().map(|ran| ran.seed.records).sum(),
            seen,
            twice: args.twice.min(args.seeds),
        }
    }
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let faults = self.faults.values().sum::<u64>();
        write!(
            f,
            "{} seeds, {:.2} simulated hours, {faults} faults, {} records: every promise kept ({:.0} times real time)",
            self.seeds,
            self.simulated.as_secs_f64() / 3_600.0,
            self.records,
            self.simulated.as_secs_f64() / self.elapsed.as_secs_f64(),
        )?;
        if self.twice > 0 {
            write!(f, "\n{} of the seeds ran twice, and gave the same history", self.twice)?;
        }
        write!(f, "\nfaults: {}\nseen: {}", listed(&self.faults), listed(&self.seen))
    }
}

/// Names with their counts, with commas between.
pub(crate) fn listed(counts: &BTreeMap<String, u64>) -> String {
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

fn add(sums: &mut BTreeMap<String, u64>, counts: &BTreeMap<String, u64>) {
    for (name, count) in counts {
        *sums.entry(name.clone()).or_insert(0) += count;
    }
}
