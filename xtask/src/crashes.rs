//! `cargo xtask kill-long` and `cargo xtask crash-long`: the disk store's proofs, and the page that keeps what they found.
//!
//! Called from `commands` and `test`. The simulated crashes are a test of the store, with more states; the others hurt the
//! binary itself, by `galaxy-push-crashes`.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::{
    chaos::{self, Harness},
    project::Project,
    shell,
    skips::Skips,
    tools::Tools,
    ui,
    ui::Stopwatch,
};

/// Where the results of whole runs are kept.
const PAGE: &str = "docs/crash.md";

const BINARY: &str = "galaxy-push-crashes";

/// A run of fewer is no whole run, and leaves the page as it is.
const WHOLE_STATES: u64 = 100_000;
const WHOLE_KILLS: u32 = 100;

/// How the harness gets a file system of its own, that is gone with it.
const MOUNTS: [&str; 1] = ["--mount"];

const NO_MOUNT: &str = "no mount namespace can be made";
const NO_STRACE: &str = "no process can be traced";

/// How much to look at.
#[derive(Debug, Args)]
pub(crate) struct Crashes {
    /// How many states of the disk.
    #[arg(long, default_value_t = WHOLE_STATES)]
    states: u64,
    /// The first seed: far from those of `cargo xtask test`.
    #[arg(long, default_value_t = 10_001)]
    from: u64,
}

/// `cargo xtask kill-long`.
#[derive(Debug, Args)]
pub(crate) struct Kills {
    /// How often the hub is killed.
    #[arg(long, default_value_t = WHOLE_KILLS)]
    kills: u32,
    /// Decides what is published, and when it is killed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only this part (repeatable).
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
}

/// What is done to the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// `kill -9` under load.
    Kills,
    /// System calls that fail.
    Inject,
    /// A disk that is full.
    Full,
}

/// Looks at so many states that a crash may leave.
///
/// # Errors
///
/// When one of them breaks a promise: the message names its seed.
pub(crate) fn simulated(project: &Project, crashes: &Crashes) -> Result<()> {
    let Crashes { states, from } = crashes;
    ui::line(&format!(
        "{states} states from seed {from} on; `--states 1 --from SEED` looks at one seed again"
    ));
    let stopwatch = Stopwatch::start();
    let mut test = project.cargo();
    test.args(["test", "--package", "galaxy-push-store", "--lib", "whatever_a_crash", "--", "--nocapture"])
        .env("CRASH_STATES", states.to_string())
        .env("CRASH_SEED", from.to_string());
    let told = shell::capture(test.stderr(Stdio::inherit()))?;
    let seen = told.lines().find_map(|line| line.split_once("Seen ")).map(|(_, seen)| seen);
    let seen = seen.context("the test does not say what it has seen")?;
    ui::line(&format!("{seen} in {}", stopwatch.seconds()));
    if *states >= WHOLE_STATES {
        let typed = format!("cargo xtask crash-long --states {states} --from {from}");
        let rows: String = counts(seen).map(|(what, count)| format!("| {what} | {count} |\n")).collect();
        let result =
            format!("| what | how often |\n|---|---|\n{rows}\n{} with the build.\n", stopwatch.seconds());
        chaos::keep(project, PAGE, "crash-long", &typed, &result)?;
    }
    Ok(())
}

/// The fields of a struct as `Debug` shows it, in words.
fn counts(seen: &str) -> impl Iterator<Item = (String, &str)> {
    let fields = seen.trim_matches([' ', '{', '}']).split(',');
    fields
        .filter_map(|field| field.split_once(':'))
        .map(|(name, count)| (name.trim().replace('_', " "), count.trim()))
}

/// Hurts real processes for minutes, and writes down what was found.
///
/// # Errors
///
/// When a promise is broken, or it cannot be done here.
pub(crate) fn real(project: &Project, kills: &Kills) -> Result<()> {
    Tools::crashes()?;
    let does = |part| kills.only.is_empty() || kills.only.contains(&part);
    if does(Part::Kills) {
        let arguments = ["kills", "--kills", &kills.kills.to_string(), "--seed", &kills.seed.to_string()];
        let typed =
            format!("cargo xtask kill-long --only kills --kills {} --seed {}", kills.kills, kills.seed);
        one(project, "kills", &[], &arguments, Some(&*typed).filter(|_| kills.kills >= WHOLE_KILLS))?;
    }
    if does(Part::Inject) {
        if !can_trace() {
            bail!("{NO_STRACE}: allow ptrace, or leave it out with `--only`");
        }
        one(project, "inject", &[], &["inject"], Some("cargo xtask kill-long --only inject"))?;
    }
    if does(Part::Full) {
        let Some(way) = chaos::way_into(&MOUNTS) else {
            bail!("{NO_MOUNT}: run as root, or leave it out with `--only`");
        };
        let alone = [way, &MOUNTS[..]].concat();
        one(project, "full", &alone, &["full"], Some("cargo xtask kill-long --only full"))?;
    }
    Ok(())
}

/// A few of each, for the test run.
///
/// # Errors
///
/// When a promise is broken; or with `CI=true`, when it cannot be done here.
pub(crate) fn short(project: &Project, skips: &mut Skips) -> Result<()> {
    Tools::crashes()?;
    one(project, "kills", &[], &["kills", "--kills", "8"], None)?;
    if can_trace() {
        one(project, "inject", &[], &["inject", "--nth", "3", "3"], None)?;
    } else {
        skips.leave_out("crashes", "system calls that fail", NO_STRACE)?;
    }
    match chaos::way_into(&MOUNTS) {
        Some(way) => one(project, "full", &[way, &MOUNTS[..]].concat(), &["full", "--rounds", "2"], None),
        None => skips.leave_out("crashes", "a disk that is full", NO_MOUNT),
    }
}

/// Runs one command of the harness, in these namespaces; keeps what it found where `typed` says by which command.
fn one(
    project: &Project,
    section: &'static str,
    namespaces: &[&str],
    arguments: &[&str],
    typed: Option<&str>,
) -> Result<()> {
    let harness = Harness::of(project, BINARY, PAGE, section)?;
    let mut command = match namespaces {
        [] => Command::new(&harness.binary),
        _ => Command::new("unshare"),
    };
    if !namespaces.is_empty() {
        command.args(namespaces).arg(&harness.binary);
    }
    command.current_dir(&project.root).args(arguments);
    command.arg("--out").arg(project.output.join("crashes").join(section));
    let result = harness.check(&mut command)?;
    typed.map_or(Ok(()), |typed| harness.keep(typed, &result))
}

fn can_trace() -> bool {
    shell::capture(Command::new("strace").args(["-qq", "-o", "/dev/null", "true"])).is_ok()
}
