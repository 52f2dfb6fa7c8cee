//! Many seeds: a process each, as many at a time as there are processors; the first broken promise ends the run, unless
//! it is told to keep going.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use galaxy_push_testkit::Sight;
use serde::{Deserialize, Serialize};

use crate::{Args, ledger};

/// What a hundred seeds must have met at least once: a promise about something that never happened was not tested.
const MUST_BE_SEEN: &[Sight] = &[
    Sight::Resumed,
    Sight::Fresh,
    Sight::Trimmed,
    Sight::EpochChanged,
    Sight::Ahead,
    Sight::ForeignPresented,
    Sight::GarbageRefused,
    Sight::GarbageTold,
    Sight::ResumedWithReplay,
    Sight::ResumedAtHead,
    Sight::ResumedAtOldest,
    Sight::ResumedBeyondHead,
    Sight::Event,
    Sight::Ephemeral,
    Sight::Standing,
    Sight::StandingInPlace,
    Sight::StandingAfterGap,
    Sight::Progress,
    Sight::CaughtUp,
    Sight::FellBehind,
    Sight::Goodbye,
    Sight::Subscribed,
    Sight::Ungranted,
    Sight::EpochChangedInStream,
    Sight::GapTrimmed,
    Sight::GapEpochChanged,
    Sight::GapAhead,
    Sight::GapLapped,
    Sight::GapUpstream,
    Sight::GapTooLarge,
    Sight::GapDamaged,
    Sight::GapCursorUnreadable,
    Sight::Replaced,
    Sight::StaleAttempt,
    Sight::HeldOff,
    Sight::Drained,
    Sight::SessionEnded,
    Sight::Acked,
    Sight::Nacked,
    Sight::DedupHit,
    Sight::UnknownLanded,
    Sight::UnknownLost,
    Sight::Crash,
    Sight::Fault,
    Sight::AnotherLog,
    Sight::Handled,
    Sight::UserEvent,
    Sight::LiveJudged,
    Sight::SilenceJudged,
    Sight::EighthOfEventsJudged,
    Sight::EighthOfBytesJudged,
    Sight::EighthOfAgeJudged,
    Sight::PromptJudged,
    Sight::PromptAtUserJudged,
    Sight::BehindJudged,
    Sight::BehindAfterAPauseJudged,
    Sight::TokenEndJudged,
    Sight::RecordEndJudged,
    Sight::ReturnsJudged,
    Sight::UserReturnsJudged,
    Sight::RepairsJudged,
];

/// What three hundred seeds must have met at their brokers.
const MUST_BE_MET: &[&str] = &[
    "BrokersLeaderLost",
    "BrokersLostWithLeader",
    "BrokersAckLost",
    "BrokersNoResponders",
    "BrokersStaleEnd",
    "BrokersStray",
    "BrokersSentTwice",
    "BrokersOvertaken",
    "BrokersSaidBefore",
    "BrokersHole",
    "BrokersLossTold",
    "BrokersLateStart",
    "BrokersHubStale",
    "BrokersAsked",
];

/// Progress is said no more often than this.
const SAID_EVERY: Duration = Duration::from_secs(10);

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

/// A run while it goes on.
struct Run<'a> {
    args: &'a Args,
    /// What is still to run.
    seeds: Vec<u64>,
    next: AtomicUsize,
    stopped: AtomicBool,
    state: Mutex<State>,
    started: Instant,
}

struct State {
    done: Vec<Ran>,
    failures: Vec<(u64, String)>,
    said: Instant,
}

/// Runs them all and sums up.
pub(crate) fn run(args: &Args) -> anyhow::Result<String> {
    let all = args.from..args.from.saturating_add(args.seeds);
    let mut done = args.results.as_deref().map_or_else(|| Ok(Vec::new()), kept)?;
    done.retain(|ran| ran.seconds == args.seconds && all.contains(&ran.seed.seed));
    let seeds = all.filter(|seed| done.iter().all(|ran| ran.seed.seed != *seed)).collect();
    let started = now();
    let state = Mutex::new(State { done, failures: Vec::new(), said: started });
    let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
    let run = Run { args, seeds, next, stopped, state, started };
    let workers = workers();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(|| run.work())).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(result) => result,
            Err(_) => bail!("a worker panicked"),
        })
    })?;
    let State { mut done, failures, .. } = run.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|ran| ran.seed.seed);
    let total = Total::of(args, &done, &failures, started.elapsed());
    if let (Some(ledger), Some(code)) = (&args.ledger, &args.code) {
        ledger::write(ledger, code, args, &total)?;
    }
    if let Some((seed, failure)) = failures.first() {
        let others: Vec<_> = failures.iter().map(|(seed, _)| seed.to_string()).collect();
        bail!("{failure}seed {seed} failed ({} of them: {})", failures.len(), others.join(" "));
    }
    total.require_seen(args)?;
    Ok(total.to_string())
}

impl Run<'_> {
    fn work(&self) -> anyhow::Result<()> {
        while !self.stopped.load(Ordering::Relaxed) {
            let Some(&seed) = self.seeds.get(self.next.fetch_add(1, Ordering::Relaxed)) else { break };
            let (started, ran) = (now(), self.one(seed));
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            match ran {
                Ok(ran) => {
                    let took_ms = started.elapsed().as_millis() as u64;
                    let ran = Ran { seconds: self.args.seconds, took_ms, seed: ran };
                    if let Some(path) = &self.args.results {
                        keep(path, &ran)?;
                    }
                    state.done.push(ran);
                }
                Err(failure) => {
                    state.failures.push((seed, format!("{failure:#}\n")));
                    self.stopped.store(!self.args.keep_going, Ordering::Relaxed);
                }
            }
            self.say(&mut state);
        }
        Ok(())
    }

    fn one(&self, seed: u64) -> anyhow::Result<Seed> {
        let first = process(seed, self.args)?;
        if seed - self.args.from < self.args.twice {
            let again = process(seed, self.args)?;
            ensure!(first == again, "two runs of seed {seed} differ: {first:?} and {again:?}");
        }
        Ok(first)
    }

    #[expect(clippy::print_stderr, reason = "a command line tool")]
    fn say(&self, state: &mut State) {
        if !self.args.progress || state.said.elapsed() < SAID_EVERY {
            return;
        }
        state.said = now();
        let (done, failed) = (state.done.len() as u64, state.failures.len());
        let faults: u64 = state.done.iter().flat_map(|ran| ran.seed.faults.values()).sum();
        let elapsed = self.started.elapsed().as_secs_f64();
        let began = self.args.seeds - self.seeds.len() as u64;
        let left = elapsed / (done - began).max(1) as f64 * (self.args.seeds - done) as f64;
        eprintln!(
            "{done} of {} seeds, {:.1} simulated hours, {faults} faults, {failed} failed; about {left:.0} s to go",
            self.args.seeds,
            (done * self.args.seconds) as f64 / 3_600.0,
        );
    }
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

/// What an earlier run left. A line cut short by its end is left aside.
fn kept(path: &Path) -> anyhow::Result<Vec<Ran>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

fn keep(path: &Path, ran: &Ran) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    writeln!(file, "{}", serde_json::to_string(ran)?)?;
    Ok(())
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
    fn of(args: &Args, done: &[Ran], failures: &[(u64, String)], elapsed: Duration) -> Self {
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

    fn require_seen(&self, args: &Args) -> anyhow::Result<()> {
        let unmet = MUST_BE_MET.iter().filter(|_| args.seeds >= 300).map(ToString::to_string);
        let unseen = MUST_BE_SEEN.iter().map(|sight| format!("{sight:?}")).chain(unmet);
        let unseen: Vec<_> = unseen.filter(|sight| !self.seen.contains_key(&**sight)).collect();
        let enough = args.seeds < 100 || unseen.is_empty();
        ensure!(enough, "these must be met at least once, and were not: {}", unseen.join(", "));
        Ok(())
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

/// How many seeds run at a time.
pub(crate) fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

#[expect(clippy::disallowed_methods, reason = "says how long the run took, nothing else")]
fn now() -> Instant {
    Instant::now()
}
