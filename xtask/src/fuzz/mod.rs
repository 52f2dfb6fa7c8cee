//! `cargo xtask fuzz`: libFuzzer on each target of `fuzz`, in slices of time, with a ledger of what that has come to.
//!
//! Called from `commands` and `test`. Some targets run at a time. After each slice of one the ledger is written, so that a run that was
//! interrupted goes on where it stopped; at the end what was reached is minimised and kept in `fuzz/corpus`.
//!
//! libFuzzer needs flags of the compiler that stable Rust has for itself only: `RUSTC_BOOTSTRAP` is set for this build, and for no other.
//! There is no sanitizer: the project has no `unsafe`, and without one everything is twice as fast.

mod ledger;
mod output;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::{project::Project, shell, tools::Tools, ui, ui::Stopwatch};
use ledger::Ledger;
use output::Seen;

/// The targets, in the order in which they are run.
const TARGETS: [&str; 8] =
    ["cursor", "frames", "cloudevents", "deframer", "tokens", "sequences", "listener", "websocket"];

/// An input that takes longer is a find, in seconds.
const INPUT_WITHIN: &str = "-timeout=1";

/// More memory is a find, in MiB.
const MEMORY_MAX: &str = "-rss_limit_mb=512";

/// The largest input, in bytes.
const INPUT_BYTES_MAX: &str = "-max_len=2048";

/// So many files, and so many bytes, are kept of a target; `tests/replay.rs` holds it to that.
const FILES_MAX: usize = 300;
const BYTES_MAX: u64 = 90_000;

/// How long to fuzz, and what.
#[derive(Debug, Args)]
pub(crate) struct Fuzz {
    /// Hours by the clock, for all targets together.
    #[arg(long, default_value_t = 1.0)]
    hours: f64,
    /// Only this target (repeatable).
    #[arg(long, value_name = "TARGET", value_parser = TARGETS)]
    target: Vec<String>,
    /// Seconds after which another target has its turn.
    #[arg(long, default_value_t = 300)]
    slice: u64,
    /// Targets that run at a time, each on a core of its own.
    #[arg(long, default_value_t = 2)]
    lanes: usize,
}

/// Where things are.
struct Place {
    fuzz: PathBuf,
    /// The grown corpora and the finds, which are not committed.
    work: PathBuf,
    binaries: PathBuf,
}

/// Fuzzes for so long, and writes docs/fuzz.md.
///
/// # Errors
///
/// When something was found: the message says where its input lies; or when it cannot be built.
pub(crate) fn run(project: &Project, wanted: &Fuzz) -> Result<()> {
    let place = Place::build(project)?;
    let ledger = Mutex::new(Ledger::read(project)?);
    let chosen: Vec<&str> = TARGETS
        .into_iter()
        .filter(|name| wanted.target.is_empty() || wanted.target.iter().any(|target| target == name))
        .collect();
    let lanes = chosen.len().min(wanted.lanes.max(1));
    let each = Duration::from_secs_f64(wanted.hours * 3_600.0);
    let (stopwatch, finds) = (Stopwatch::start(), Mutex::new(Vec::<String>::new()));
    // Those that had least so far come first.
    let taken = Mutex::new(Vec::<&str>::new());
    thread::scope(|scope| {
        let lane = || -> Result<()> {
            while let Some(left) = each.checked_sub(stopwatch.elapsed()).filter(|left| left.as_secs() > 0) {
                let Some(target) = next(&chosen, &taken, &ledger, &finds) else { break };
                let seconds = left.as_secs().min(wanted.slice);
                let ran = place.slice(target, seconds);
                lock(&taken).retain(|other| *other != target);
                let seen = ran?;
                ui::line(&format!("{target}: {seen}"));
                if let Some(input) = &seen.find {
                    lock(&finds).push(told(project, target, input));
                }
                let mut ledger = lock(&ledger);
                ledger.add(target, &seen);
                ledger.write(project)?;
            }
            Ok(())
        };
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().unwrap_or_else(|_| bail!("a lane has panicked")))
    })?;
    let mut ledger = lock(&ledger);
    for target in &chosen {
        let kept = place.minimise(target)?;
        ledger.kept(target, kept);
    }
    ledger.write(project)?;
    let finds = lock(&finds);
    ensure!(finds.is_empty(), "{}", finds.join("\n"));
    Ok(())
}

/// The inputs that are kept, through the same functions, without libFuzzer. The build is that of all tests.
pub(crate) fn replay(project: &Project) -> Result<()> {
    shell::check(project.cargo().args(["test", "--workspace", "--test", "replay"]))
}

/// The target that had least time so far, is not run just now and has not found anything.
fn next<'a>(
    chosen: &[&'a str],
    taken: &Mutex<Vec<&'a str>>,
    ledger: &Mutex<Ledger>,
    finds: &Mutex<Vec<String>>,
) -> Option<&'a str> {
    let mut taken = lock(taken);
    let (ledger, finds) = (lock(ledger), lock(finds));
    let has_found = |target: &&str| finds.iter().any(|find| find.starts_with(&format!("{target}: ")));
    let free = chosen.iter().filter(|target| !taken.contains(target) && !has_found(target));
    let next = free.min_by_key(|target| ledger.seconds(target)).copied()?;
    taken.push(next);
    Some(next)
}

fn told(project: &Project, target: &str, input: &Path) -> String {
    let input = project.shown(input);
    format!(
        "{target}: found something; its input is {input}; replay it with `FUZZ_TARGET={target} FUZZ_INPUT=$PWD/{input} cargo test \
         --package galaxy-push-fuzz-targets one_input`"
    )
}

impl Place {
    fn build(project: &Project) -> Result<Self> {
        let fuzz = project.root.join("fuzz");
        let target = project.output.join("fuzz");
        let host = shell::capture(Command::new("rustc").arg("-vV"))?;
        let host =
            host.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
        let binaries = target.join(host).join("release");
        let mut path = vec![Tools::cargo_fuzz(project)?];
        path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
        let mut build = project.cargo();
        build.args(["fuzz", "build", "--fuzz-dir"]).arg(&fuzz);
        build.args(["--sanitizer", "none", "--debug-assertions", "--target-dir"]).arg(&target);
        shell::check(build.env("PATH", env::join_paths(path)?).env("RUSTC_BOOTSTRAP", "1"))?;
        Ok(Self { fuzz, work: project.output.join("fuzz-corpus"), binaries })
    }

    /// One target for so many seconds.
    fn slice(&self, target: &str, seconds: u64) -> Result<Seen> {
        let (grown, kept) = (self.grown(target)?, self.fuzz.join("corpus").join(target));
        let finds = self.work.join("finds").join(target);
        fs::create_dir_all(&finds)?;
        let mut command = self.command(target);
        command.arg(format!("-max_total_time={seconds}")).arg("-print_final_stats=1");
        command.arg(format!("-artifact_prefix={}/", finds.display()));
        let words = self.fuzz.join("dictionaries").join(format!("{target}.dict"));
        if words.is_file() {
            command.arg(format!("-dict={}", words.display()));
        }
        let mut running =
            command.arg(&grown).arg(&kept).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let told = running.stderr.take().context("no standard error")?;
        let log = fs::File::create(self.work.join(format!("{target}.log")))?;
        let mut seen = Seen::read(told, log)?;
        let status = running.wait()?;
        if !status.success() && seen.find.is_none() {
            bail!("{target} failed ({status}): see {target}.log in {}", self.work.display());
        }
        if let Some(input) = &seen.find
            && self.was_only_slow(target, input)?
        {
            fs::remove_file(input)?;
            seen.find = None;
        }
        Ok(seen)
    }

    /// Whether an input took long because the machine had something else to do: libFuzzer has no other clock.
    fn was_only_slow(&self, target: &str, input: &Path) -> Result<bool> {
        let is_timeout = input.file_name().is_some_and(|name| name.to_string_lossy().starts_with("timeout-"));
        let again = || -> Result<bool> {
            Ok(self.command(target).arg(input).stderr(Stdio::null()).status()?.success())
        };
        Ok(is_timeout && (again()? || again()?))
    }

    /// Keeps what reaches everything that was reached, in as few and small inputs as libFuzzer finds.
    fn minimise(&self, target: &str) -> Result<ledger::Kept> {
        let (grown, kept) = (self.grown(target)?, self.fuzz.join("corpus").join(target));
        let least = self.work.join("least").join(target);
        if least.exists() {
            fs::remove_dir_all(&least)?;
        }
        fs::create_dir_all(&least)?;
        let mut merge = self.command(target);
        merge.arg("-merge=1").arg(&least).arg(&kept).arg(&grown);
        shell::capture(&mut merge)?;
        // What people named stays; of the rest, the smallest, as far as there is room.
        let (mut files, mut bytes) = (0, 0);
        for entry in fs::read_dir(&kept)? {
            let entry = entry?;
            if is_named(&entry.path()) {
                (files, bytes) = (files + 1, bytes + entry.metadata()?.len());
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        let mut least: Vec<_> = fs::read_dir(&least)?.filter_map(Result::ok).collect();
        least.sort_by_key(|entry| (entry.metadata().map_or(0, |metadata| metadata.len()), entry.file_name()));
        for entry in least {
            let length = entry.metadata()?.len();
            let is_named_too = fs::read_dir(&kept)?.filter_map(Result::ok).any(|other| {
                other.metadata().is_ok_and(|metadata| metadata.len() == length)
                    && fs::read(other.path()).ok() == fs::read(entry.path()).ok()
            });
            if is_named_too || files >= FILES_MAX || bytes + length > BYTES_MAX {
                continue;
            }
            fs::copy(entry.path(), kept.join(entry.file_name()))?;
            (files, bytes) = (files + 1, bytes + length);
        }
        Ok(ledger::Kept { files, bytes })
    }

    fn command(&self, target: &str) -> Command {
        let mut command = Command::new(self.binaries.join(target));
        command.args([INPUT_WITHIN, MEMORY_MAX, INPUT_BYTES_MAX]).current_dir(&self.work);
        command
    }

    fn grown(&self, target: &str) -> Result<PathBuf> {
        let grown = self.work.join("grown").join(target);
        fs::create_dir_all(&grown).with_context(|| format!("cannot make {}", grown.display()))?;
        Ok(grown)
    }
}

/// libFuzzer names its inputs by their hash.
fn is_named(input: &Path) -> bool {
    let name = input.file_name().unwrap_or_default().to_string_lossy();
    name.len() != 40 || !name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
