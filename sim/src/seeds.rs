//! Many seeds: a process each, as many at a time as there are processors; the first broken promise ends the run, unless
//! it is told to keep going.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::total::{Ran, Seed, Total};
use crate::{Args, least, ledger};

/// Progress is said no more often than this.
const SAID_EVERY: Duration = Duration::from_secs(10);

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
        ledger::write(ledger, code, args, &total, workers)?;
    }
    if let Some((seed, failure)) = failures.first() {
        let others: Vec<_> = failures.iter().map(|(seed, _)| seed.to_string()).collect();
        bail!("{failure}seed {seed} failed ({} of them: {})", failures.len(), others.join(" "));
    }
    least::require(args.seeds, &[&total.faults, &total.seen])?;
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

/// Runs a seed in a process of its own. One that does not end is killed, and has failed.
fn process(seed: u64, args: &Args) -> anyhow::Result<Seed> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--seed", &seed.to_string(), "--seconds", &args.seconds.to_string()]);
    let output = run_within(command, args.wall_limit()).with_context(|| format!("seed {seed}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("{}seed {seed} ended with {}", String::from_utf8_lossy(&output.stderr), output.status);
    }
    serde_json::from_str(&text).with_context(|| format!("seed {seed} said {text:?}"))
}

/// Runs a command to its end, or kills it after `limit`.
fn run_within(mut command: Command, limit: Duration) -> anyhow::Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let (told, ends) = mpsc::channel();
    let stdout = gathered(child.stdout.take(), told.clone());
    let stderr = gathered(child.stderr.take(), told);
    let until = now() + limit;
    // Each says so when the command has closed what it reads, as its end does.
    let ended = (0..2).all(|_| ends.recv_timeout(until.saturating_duration_since(now())).is_ok());
    if !ended {
        child.kill()?;
    }
    let status = child.wait()?;
    ensure!(ended, "did not end within {} s of wall time", limit.as_secs());
    let read = |reading: JoinHandle<Vec<u8>>| reading.join().unwrap_or_default();
    Ok(Output { status, stdout: read(stdout), stderr: read(stderr) })
}

/// Reads all that somebody writes, and says so at its end.
fn gathered(pipe: Option<impl Read + Send + 'static>, told: mpsc::Sender<()>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What cannot be read is missed in what is read of it.
            let _ = pipe.read_to_end(&mut bytes);
        }
        let _ = told.send(());
        bytes
    })
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

/// How many seeds run at a time.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

#[expect(clippy::disallowed_methods, reason = "says how long the run took, nothing else")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> anyhow::Result<Output> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run_within(command, limit)
    }

    #[test]
    fn a_process_that_does_not_end_is_killed_and_said() {
        let ended = shell("echo out; echo err >&2; exit 3", Duration::from_secs(60)).unwrap();
        assert_eq!((&*ended.stdout, &*ended.stderr), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!(ended.status.code(), Some(3));
        let error = shell("while :; do :; done", Duration::ZERO).unwrap_err();
        assert_eq!(error.to_string(), "did not end within 0 s of wall time");
    }
}
