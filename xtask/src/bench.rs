//! `cargo xtask bench-store`: the figures of the disk store, and of the one on NATS. `cargo xtask bench-users`: what users cost.
//!
//! Called from `commands`. Each bench is a package of its own: the databases that the one compares with are built for nobody else, and
//! the other knows nothing of the product but its sockets.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::{project::Project, shell, tools::Tools};

/// Where the benches are.
const STORE: &str = "bench/store/Cargo.toml";
const USERS: &str = "bench/users/Cargo.toml";

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct StoreBench {
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
pub(crate) fn store(project: &Project, bench: &StoreBench) -> Result<()> {
    let target = project.target.join("bench-store");
    shell::check(
        project
            .cargo()
            .args(["build", "--release", "--features", "databases"])
            .args(["--manifest-path", STORE, "--target-dir"])
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

/// How many users.
#[derive(Debug, Args)]
pub(crate) struct UsersBench {
    /// So many connect, over SSE and then over WebSocket. Each takes a descriptor here and one in the process that is measured.
    #[arg(default_value_t = 5_000)]
    users: u32,
}

/// Prints the table of docs/scaling.md.
///
/// # Errors
///
/// When it cannot be built, or an event does not come to each user, in order and once.
pub(crate) fn users(project: &Project, bench: &UsersBench) -> Result<()> {
    let target = project.target.join("bench-users");
    shell::check(project.cargo().args(["build", "--release", "--package", "galaxy-push"]))?;
    shell::check(
        project.cargo().args(["build", "--release", "--manifest-path", USERS, "--target-dir"]).arg(&target),
    )?;
    shell::check(
        Command::new(target.join("release/galaxy-push-bench-users"))
            .arg(project.target.join("release/galaxy-push"))
            .arg(bench.users.to_string()),
    )
}

/// Sees that the benches still fit the product, without the databases they compare with. No lints: they read clocks and sleep, as a
/// bench does.
///
/// # Errors
///
/// When one does not compile.
pub(crate) fn fit(project: &Project) -> Result<()> {
    // Beside the project's own, whose dependencies clippy has checked.
    let target = &project.target;
    for manifest in [STORE, USERS] {
        shell::check(
            project.cargo().args(["check", "--manifest-path", manifest, "--target-dir"]).arg(target),
        )?;
    }
    Ok(())
}
