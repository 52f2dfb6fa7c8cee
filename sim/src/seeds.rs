//! Many seeds: a process each, as many at a time as there are processors; the first broken promise ends the run.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use galaxy_push_testkit::Sight;
use serde::{Deserialize, Serialize};

use crate::Args;

/// What a hundred seeds must have met at least once: a promise about something that never happened was not tested.
const MUST_BE_SEEN: &[Sight] = &[
    Sight::Resumed,
    Sight::Fresh,
    Sight::Trimmed,
    Sight::EpochChanged,
    Sight::Ahead,
    Sight::ForeignPresented,
    Sight::GarbageRefused,
    Sight::ResumedWithReplay,
    Sight::ResumedAtHead,
    Sight::ResumedBeyondHead,
    Sight::Ephemeral,
    Sight::Progress,
    Sight::CaughtUp,
    Sight::FellBehind,
    Sight::Goodbye,
    Sight::Subscribed,
    Sight::EpochChangedInStream,
    Sight::GapTrimmed,
    Sight::GapEpochChanged,
    Sight::GapAhead,
    Sight::GapLapped,
    Sight::Replaced,
    Sight::Drained,
    Sight::Acked,
    Sight::Nacked,
    Sight::DedupHit,
    Sight::UnknownLanded,
    Sight::UnknownLost,
    Sight::Crash,
    Sight::Fault,
    Sight::Handled,
    Sight::UserEvent,
    Sight::LiveJudged,
];

/// What the process of one clean seed says, as a line of JSON.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Seed {
    pub(crate) seed: u64,
    pub(crate) faults: usize,
    pub(crate) records: usize,
    /// A fingerprint of the whole history.
    pub(crate) trace: String,
    pub(crate) seen: BTreeMap<String, u64>,
}

/// Runs them all and sums up.
pub(crate) fn run(args: &Args) -> anyhow::Result<String> {
    #[expect(clippy::disallowed_methods, reason = "says how long the run took, nothing else")]
    let started = Instant::now();
    let (next, failed) = (AtomicU64::new(args.from), AtomicBool::new(false));
    let done = Mutex::new(Vec::new());
    let end = args.from.saturating_add(args.seeds);
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        let work = || -> anyhow::Result<()> {
            while !failed.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    break;
                }
                let ran = one(seed, args).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
                done.lock().map_err(|_| anyhow::anyhow!("a worker panicked"))?.push(ran);
            }
            Ok(())
        };
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(result) => result,
            Err(_) => bail!("a worker panicked"),
        })
    })?;
    let done = done.into_inner().context("a worker panicked")?;
    sum_up(args, &done, started.elapsed())
}

fn one(seed: u64, args: &Args) -> anyhow::Result<Seed> {
    let first = process(seed, args)?;
    if args.twice {
        let again = process(seed, args)?;
        ensure!(first == again, "two runs of seed {seed} differ: {first:?} and {again:?}");
    }
    Ok(first)
}

fn process(seed: u64, args: &Args) -> anyhow::Result<Seed> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--seed", &seed.to_string(), "--seconds", &args.seconds.to_string()])
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("{}seed {seed} ended with {}", String::from_utf8_lossy(&output.stderr), output.status);
    }
    serde_json::from_str(&text).with_context(|| format!("seed {seed} said {text:?}"))
}

fn sum_up(args: &Args, done: &[Seed], took: Duration) -> anyhow::Result<String> {
    let mut seen = BTreeMap::new();
    for (sight, count) in done.iter().flat_map(|seed| &seed.seen) {
        *seen.entry(sight.as_str()).or_insert(0) += count;
    }
    if args.seeds >= 100 {
        let unseen = MUST_BE_SEEN
            .iter()
            .map(|sight| format!("{sight:?}"))
            .filter(|sight| !seen.contains_key(&**sight));
        let unseen: Vec<_> = unseen.collect();
        ensure!(unseen.is_empty(), "these must be met at least once, and were not: {}", unseen.join(", "));
    }
    let simulated = args.seconds as f64 * done.len() as f64;
    let sum = |part: fn(&Seed) -> usize| done.iter().map(part).sum::<usize>();
    let seen: Vec<_> = seen.iter().map(|(sight, count)| format!("{sight} {count}")).collect();
    Ok(format!(
        "{} seeds, {:.2} simulated hours, {} faults, {} records{}: every promise kept ({:.0} times real time)\nseen: {}",
        done.len(),
        simulated / 3_600.0,
        sum(|seed| seed.faults),
        sum(|seed| seed.records),
        if args.twice { ", each seed twice and the same" } else { "" },
        simulated / took.as_secs_f64(),
        seen.join(", "),
    ))
}
