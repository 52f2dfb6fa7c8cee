//! Looks for one bug in what is built: seed after seed, or by its test.
//!
//! Called by `planted` alone. Builds nothing.

#![expect(clippy::disallowed_methods, reason = "processes are waited for in real time")]

use std::{
    io::{self, Read},
    path::Path,
    process::{Command, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{bugs::NamedTest, common::VARIABLE, garden::Built};
use crate::ui;

/// Simulated seconds per seed, as in `cargo xtask test`.
const SIMULATED_SECONDS: u64 = 60;
/// How many seeds a planted bug may need before it counts as missed.
const SEEDS_PER_BUG: u64 = 500;
/// How long a seed may take: some hundred times what one does.
const SEED_TIME: Duration = Duration::from_secs(120);
/// How many seeds of a bug may not end before it counts as missed.
const HANGS_MAX: usize = 4;
/// How long the test of a bug may take.
const TEST_TIME: Duration = Duration::from_secs(300);
/// How often it is looked whether a process has ended.
const LOOK: Duration = Duration::from_millis(20);

/// What a seed came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seed {
    Passed,
    /// The promises that the checker named as broken.
    Failed(Vec<String>),
    Hangs,
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prey<'a> {
    /// The bug's number, if it is chosen as the process begins.
    pub(super) number: Option<u32>,
    /// The promise it breaks.
    pub(super) promise: &'a str,
    /// Whether a seed that does not end has found it.
    pub(super) hangs: bool,
}

/// What the search for one bug came to.
#[derive(Debug)]
pub(super) struct Search {
    /// The first seed that showed the bug, and what was named.
    pub(super) found: Option<(u64, Vec<String>)>,
    /// Of how many of the first seeds that were all run it was shown.
    pub(super) rate: Option<(u64, u64)>,
    pub(super) hung: usize,
    pub(super) time: String,
}

/// Runs seeds 1, 2, 3…, as many at a time as there are processors, until one shows the bug; `rate` of them in any case.
pub(super) fn search(built: &Built, prey: Prey<'_>, rate: Option<u64>) -> Result<Search> {
    let stopwatch = ui::Stopwatch::start();
    let (mut found, mut shown, mut hung) = (None, 0, 0);
    let least = rate.unwrap_or(0);
    let at_once = u64::try_from(thread::available_parallelism().map_or(1, usize::from))?;
    let mut next = 1;
    while next <= SEEDS_PER_BUG.max(least) && (found.is_none() || next <= least) && hung < HANGS_MAX {
        for (seed, came_to) in some(built, prey.number, next, at_once)? {
            hung += usize::from(came_to == Seed::Hangs);
            let Some(named) = prey.shown_by(came_to) else { continue };
            shown += u64::from(seed <= least);
            found.get_or_insert((seed, named));
        }
        next += at_once;
    }
    let rate = rate.filter(|&rate| next > rate).map(|rate| (shown, rate));
    Ok(Search { found, rate, hung, time: stopwatch.seconds() })
}

/// The first of so many seeds that does not pass without a bug.
pub(super) fn unsound(built: &Built, seeds: u64) -> Result<Option<u64>> {
    let at_once = u64::try_from(thread::available_parallelism().map_or(1, usize::from))?;
    let mut next = 1;
    while next <= seeds {
        let failed =
            some(built, None, next, at_once)?.into_iter().find(|(_, came_to)| *came_to != Seed::Passed);
        if let Some((seed, _)) = failed {
            return Ok(Some(seed));
        }
        next += at_once;
    }
    Ok(None)
}

impl Prey<'_> {
    /// What names the bug, if this is it.
    fn shown_by(&self, seed: Seed) -> Option<Vec<String>> {
        match seed {
            Seed::Failed(named) => {
                Some(named).filter(|named| named.iter().any(|named| named == self.promise))
            }
            Seed::Hangs => self.hangs.then(|| vec!["hangs".to_owned()]),
            Seed::Passed => None,
        }
    }
}

/// Some seeds at once.
fn some(built: &Built, number: Option<u32>, from: u64, count: u64) -> Result<Vec<(u64, Seed)>> {
    thread::scope(|scope| {
        let runs: Vec<_> = (from..from + count)
            .map(|seed| (seed, scope.spawn(move || simulate(&built.simulator, number, seed))))
            .collect();
        let ended = runs.into_iter().map(|(seed, run)| match run.join() {
            Ok(came_to) => Ok((seed, came_to?)),
            Err(_) => bail!("a worker panicked"),
        });
        ended.collect()
    })
}

fn simulate(binary: &Path, number: Option<u32>, seed: u64) -> Result<Seed> {
    let mut command = Command::new(binary);
    command.args(["--seed", &seed.to_string(), "--seconds", &SIMULATED_SECONDS.to_string()]);
    let Some((code, output)) = run(&mut command, number, SEED_TIME)? else { return Ok(Seed::Hangs) };
    match code {
        Some(0) => Ok(Seed::Passed),
        // Clap's code for a command line it does not know: nothing was simulated.
        Some(2) => bail!("the simulator does not take --seed and --seconds"),
        _ => Ok(Seed::Failed(named(&output))),
    }
}

/// Whether this test passes; with the bug of this number, if it is chosen as the process begins.
///
/// # Errors
///
/// When there is no such test.
pub(super) fn passes(built: &Built, test: &NamedTest, number: Option<u32>) -> Result<bool> {
    let (binary, folder) = built.test(test)?;
    let mut command = Command::new(binary);
    command.current_dir(folder).args(["--exact", &test.name, "--format", "pretty", "--test-threads", "1"]);
    // One that does not end does not pass.
    let Some((code, output)) = run(&mut command, number, TEST_TIME)? else { return Ok(false) };
    match verdict(&output, &test.name) {
        Some(passed) => Ok(passed),
        // A process that ends in the midst of its test, by a stack that is full for one.
        None if code != Some(0) => Ok(false),
        None => bail!("there is no test {}", test.shown()),
    }
}

/// Runs to the end: its code, and what it wrote; nothing, of one that was ended because it took too long.
fn run(command: &mut Command, number: Option<u32>, time: Duration) -> Result<Option<(Option<i32>, String)>> {
    command.env_remove(VARIABLE).envs(number.map(|number| (VARIABLE, number.to_string())));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
    // Both are read meanwhile: a pipe that is full would stop it.
    let reads = [child.stdout.take().map(read), child.stderr.take().map(read)];
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if started.elapsed() > time {
            child.kill()?;
            child.wait()?;
            break None;
        }
        thread::sleep(LOOK);
    };
    let mut output = String::new();
    for read in reads.into_iter().flatten() {
        if let Ok(Ok(all)) = read.join() {
            output.push_str(&String::from_utf8_lossy(&all));
            output.push('\n');
        }
    }
    Ok(status.map(|status| (status.code(), output)))
}

fn read(mut from: impl Read + Send + 'static) -> JoinHandle<io::Result<Vec<u8>>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        from.read_to_end(&mut all).map(|_| all)
    })
}

/// The promises that the checker's verdict names: `broken: NAME COUNT NAME COUNT …`.
fn named(output: &str) -> Vec<String> {
    let verdict = output.lines().find_map(|line| line.strip_prefix("broken: ")).unwrap_or_default();
    verdict.split_whitespace().step_by(2).map(str::to_owned).collect()
}

/// Whether this test passed, by what the harness says of it.
fn verdict(output: &str, test: &str) -> Option<bool> {
    let said = output.lines().find_map(|line| line.strip_prefix(&format!("test {test} ... ")))?;
    Some(said == "ok")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_names_promises() {
        assert_eq!(
            named("unique: …\n\n7 records judged\nbroken: unique 5 live 1\nseed 1 broke"),
            ["unique", "live"]
        );
        assert!(named("thread 'main' panicked").is_empty());
    }

    #[test]
    fn a_test_that_is_not_there_has_no_verdict() {
        let output = "running 0 tests\n\nrunning 1 test\ntest a::b ... FAILED\n";
        assert_eq!(verdict(output, "a::b"), Some(false));
        assert_eq!(verdict("test a::b ... ok\n", "a::b"), Some(true));
        assert_eq!(verdict(output, "a::c"), None);
    }

    #[test]
    fn a_bug_is_shown_by_its_promise_alone() {
        let prey = Prey { number: None, promise: "live", hangs: false };
        let failed = |named: &[&str]| Seed::Failed(named.iter().map(|&name| name.to_owned()).collect());
        assert!(prey.shown_by(failed(&["unique", "live"])).is_some());
        assert!(prey.shown_by(failed(&["unique"])).is_none() && prey.shown_by(failed(&[])).is_none());
        assert!(prey.shown_by(Seed::Hangs).is_none() && prey.shown_by(Seed::Passed).is_none());
        assert!(Prey { hangs: true, ..prey }.shown_by(Seed::Hangs).is_some());
    }

    #[test]
    fn what_does_not_end_is_ended() {
        let run =
            |script: &str| run(Command::new("sh").args(["-c", script]), Some(7), Duration::from_millis(200));
        assert_eq!(run("exec sleep 60").unwrap(), None);
        let (code, output) = run("echo $GALAXY_PLANTED; exit 3").unwrap().unwrap();
        assert_eq!((code, output.trim()), (Some(3), "7"));
    }
}
