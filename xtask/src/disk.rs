//! `cargo xtask crash-long` and `cargo xtask bench-store`: the long proofs and the figures of the disk store.
//!
//! Called from `commands`. The crash test is the one of every test run, with more states; the bench is a package of its own, so
//! that the databases it compares with are built for nobody else.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::{project::Project, shell, ui};

/// How much to look at.
#[derive(Debug, Args)]
pub(crate) struct Crashes {
    /// How many states of the disk.
    #[arg(long, default_value_t = 100_000)]
    states: u64,
    /// The first seed: far from those of `cargo xtask test`.
    #[arg(long, default_value_t = 10_001)]
    from: u64,
}

/// Looks at so many states that a crash may leave.
///
/// # Errors
///
/// When one of them breaks a promise: the message names its seed.
pub(crate) fn crash_long(project: &Project, crashes: &Crashes) -> Result<()> {
    let Crashes { states, from } = crashes;
    ui::line(&format!(
        "{states} states from seed {from} on; `--states 1 --from SEED` looks at one seed again"
    ));
    shell::check(
        shell::cargo(project)
            .args([
                "test",
                "--package",
                "galaxy-push-store",
                "--lib",
                "whatever_a_crash",
                "--",
                "--nocapture",
            ])
            .env("CRASH_STATES", states.to_string())
            .env("CRASH_SEED", from.to_string()),
    )
}

/// Prints the tables of ADR 0017.
///
/// # Errors
///
/// When it cannot be built, or the folder cannot be written to.
pub(crate) fn bench(project: &Project, folder: Option<PathBuf>, only_store: bool) -> Result<()> {
    let target = project.target.join("bench-store");
    shell::check(
        shell::cargo(project)
            .args(["build", "--release", "--manifest-path", "bench/store/Cargo.toml", "--target-dir"])
            .arg(&target),
    )?;
    let mut bench = Command::new(target.join("release/galaxy-push-bench-store"));
    bench.current_dir(&project.root).arg(folder.unwrap_or_else(|| project.target.join("bench-store-data")));
    if only_store {
        bench.arg("--store");
    }
    shell::check(&mut bench)
}
