//! `cargo xtask sim-long`: hours of simulated time in minutes, with a ledger of what they met.
//!
//! Called from `commands`. What each seed came to is kept under `target/sim-long` by the code it ran, so that a run that was
//! interrupted goes on where it stopped. The simulator does the work; this file builds it optimized and names the files.

use std::{fs, process::Command};

use anyhow::Result;
use clap::Args;

use crate::{project::Project, shell, ui};

/// How much to run.
#[derive(Debug, Args)]
pub(crate) struct Long {
    /// How many seeds.
    #[arg(long, default_value_t = 310)]
    seeds: u64,
    /// The first seed: far from those of `cargo xtask test`.
    #[arg(long, default_value_t = 10_001)]
    from: u64,
    /// Simulated seconds of each.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Leave docs/simulation.md alone.
    #[arg(long)]
    no_ledger: bool,
}

/// Runs the seeds that have not run yet, and writes docs/simulation.md.
///
/// # Errors
///
/// When a seed breaks a promise; all others run nevertheless.
pub(crate) fn run(project: &Project, long: &Long) -> Result<()> {
    let git =
        |arguments: &[&str]| shell::capture(Command::new("git").current_dir(&project.root).args(arguments));
    let mut code = git(&["rev-parse", "--short=10", "HEAD"])?.trim().to_owned();
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.trim().is_empty();
    let folder = project.output.join("sim-long");
    fs::create_dir_all(&folder)?;
    if changed {
        code.push_str(" and changes");
    }
    let results = folder.join(format!("{}.ndjson", code.replace(' ', "-")));
    if changed && results.exists() {
        fs::remove_file(&results)?; // of what changes, nobody knows
    }
    let simulator = project.binary("galaxy-push-sim")?;
    let mut command = Command::new(simulator);
    command.current_dir(&project.root).args(["--progress", "--keep-going"]);
    for (name, number) in [("--seeds", long.seeds), ("--from", long.from), ("--seconds", long.seconds)] {
        command.arg(name).arg(number.to_string());
    }
    command.arg("--results").arg(&results);
    if !long.no_ledger {
        command.arg("--ledger").arg(project.root.join("docs/simulation.md")).arg("--code").arg(&code);
    }
    ui::line(&format!("what each seed comes to is kept in {}", project.shown(&results)));
    shell::check(&mut command)
}
