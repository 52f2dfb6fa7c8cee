//! `cargo xtask bench-store`: the figures of the disk store, and of the one on NATS.
//!
//! Called from `commands`. The bench is a package of its own, so that the databases it compares with are built for nobody else.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::{project::Project, shell, tools::Tools};

/// Where the bench is.
const MANIFEST: &str = "bench/store/Cargo.toml";

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// A folder on the disk to measure, which may be there or not: everything made in it is taken away again.
    folder: Option<PathBuf>,
    /// Only this part, or these: all of them take some five minutes.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
}

/// A part of the figures: each prints a table.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Part {
    /// Libraries and segments of our own, at 1, 64 and 1,000 events a sync.
    Engines,
    /// The store at its trait, single events and batches, at some 64 and 1,000 events a sync and beyond.
    Store,
    /// The same on a disk whose sync takes a fixed time, however busy the real one is.
    Paced,
    /// An acknowledgement at half of what the store takes, and of an event that is alone, in syncs.
    Latency,
    /// Through `PublishStream` over loopback: a hub with a disk beside one in memory, and read back from both.
    Stream,
    /// A window of 1 GiB, read at a start: writes 1.2 GB.
    Recovery,
    /// The store on a NATS server of its own, beside that server's own client.
    Nats,
}

/// Prints the tables of ADR 0017 and 0018.
///
/// # Errors
///
/// When it cannot be built, or the folder cannot be written to.
pub(crate) fn bench(project: &Project, bench: &Bench) -> Result<()> {
    let target = project.target.join("bench-store");
    shell::check(
        shell::cargo(project)
            .args(["build", "--release", "--features", "databases"])
            .args(["--manifest-path", MANIFEST, "--target-dir"])
            .arg(&target),
    )?;
    let folder = bench.folder.clone().unwrap_or_else(|| project.target.join("bench-store-data"));
    let parts = bench.only.iter().filter_map(Part::to_possible_value);
    shell::check(
        Command::new(target.join("release/galaxy-push-bench-store"))
            .current_dir(&project.root)
            .env("NATS_SERVER", Tools::nats_server(project)?)
            .arg(folder)
            .args(parts.map(|part| part.get_name().to_owned())),
    )
}

/// Sees that the bench still fits the product, without the databases it compares with. No lints: it reads clocks and sleeps, as a
/// bench does.
///
/// # Errors
///
/// When it does not compile.
pub(crate) fn bench_fits(project: &Project) -> Result<()> {
    // Beside the project's own, whose dependencies clippy has checked.
    let target = &project.target;
    shell::check(
        shell::cargo(project).args(["check", "--manifest-path", MANIFEST, "--target-dir"]).arg(target),
    )
}
