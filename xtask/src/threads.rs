//! `cargo xtask threads`: the models of the places where threads meet, under schedules that shuttle chooses, and docs/threads.md.
//!
//! Called from `commands` and `test`; `planted` builds the models of a tree with a bug through [`binary`]. The models are tests of
//! hub and gateway that exist under `--cfg shuttle` alone. Only the test of the crate itself is built with it, so that everything
//! that it depends on is shared with other builds.

use std::{fmt::Write as _, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Deserialize;

use crate::{project::Project, shell, ui};

/// The crates that have models.
const PACKAGES: [&str; 2] = ["galaxy-push-hub", "galaxy-push-gateway"];

/// Where the results of whole runs are kept.
const PAGE: &str = "docs/threads.md";

/// A run of fewer schedules is no whole run, and leaves the page as it is.
const WHOLE: u64 = 20_000;

/// As many as fit into a step of `cargo xtask test`.
const SHORT: u64 = 2_000;

/// How much to try.
#[derive(Debug, Args)]
pub(crate) struct Threads {
    /// How many schedules of each model, for each scheduler.
    #[arg(long, default_value_t = WHOLE)]
    schedules: u64,
    /// Only models whose name, as the table shows it, contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

/// What one scheduler made of one model.
struct Row {
    model: String,
    shows: String,
    scheduler: String,
    schedules: String,
    seconds: String,
}

/// `cargo xtask threads`. `bugs`: the planted bugs that models find, each as its name, what is wrong, and the model.
///
/// # Errors
///
/// When a model fails; the schedule has been printed.
pub(crate) fn run(project: &Project, threads: &Threads, bugs: &[[String; 3]]) -> Result<()> {
    let rows = models(project, threads.schedules, threads.only.as_deref())?;
    let whole = threads.only.is_none() && threads.schedules >= WHOLE;
    if whole {
        fs::write(project.root.join(PAGE), page(&rows, bugs))?;
        ui::line(&format!("{PAGE} is written"));
    }
    Ok(())
}

/// The step of `cargo xtask test`.
pub(crate) fn short(project: &Project) -> Result<()> {
    models(project, SHORT, None).map(drop)
}

fn models(project: &Project, schedules: u64, only: Option<&str>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for package in PACKAGES {
        let stopwatch = ui::Stopwatch::start();
        let binary = binary(project.cargo(), package)?;
        ui::line(&format!("{package}: built in {}", stopwatch.seconds()));
        let mut models = Command::new(&binary);
        models.current_dir(&project.root).env("GALAXY_PUSH_SCHEDULES", schedules.to_string());
        models.args(["threads::", "--nocapture", "--test-threads", "1"]);
        let output = shell::capture(&mut models).with_context(|| {
            format!("a model of {package} failed: the schedule above replays it with `shuttle::replay`")
        })?;
        let some = output.lines().filter_map(Row::read);
        let some = some.filter(|row| only.is_none_or(|only| row.model.contains(only)));
        rows.extend(some);
    }
    ensure!(!rows.is_empty(), "no model has such a name");
    let head = ["model", "scheduler", "schedules", "seconds"].map(str::to_owned).to_vec();
    let cells =
        |row: &Row| [&row.model, &row.scheduler, &row.schedules, &row.seconds].map(String::clone).to_vec();
    ui::table(&[head].into_iter().chain(rows.iter().map(cells)).collect::<Vec<_>>());
    Ok(rows)
}

impl Row {
    /// What a model printed; it may stand behind what the harness printed of the test.
    fn read(line: &str) -> Option<Self> {
        let (_, said) = line.split_once("model|")?;
        let cells: Vec<_> = said.split('|').collect();
        let [model, shows, scheduler, schedules, seconds] = cells[..] else { return None };
        let [model, shows, scheduler, schedules, seconds] =
            [model, shows, scheduler, schedules, seconds].map(str::to_owned);
        Some(Self { model, shows, scheduler, schedules, seconds })
    }
}

/// Builds the models of this package; `cargo` says in which tree and into which folder.
///
/// # Errors
///
/// When it does not build.
pub(crate) fn binary(mut cargo: Command, package: &str) -> Result<PathBuf> {
    /// What cargo says of what it has built.
    #[derive(Deserialize)]
    struct Built {
        executable: Option<PathBuf>,
    }

    let said = shell::capture(build(&mut cargo, package, "json-render-diagnostics"))?;
    let built = said.lines().filter_map(|line| serde_json::from_str::<Built>(line).ok());
    built.filter_map(|built| built.executable).next_back().context("cargo named no executable of the models")
}

/// What builds the models of this package, and says so as `messages` asks.
pub(crate) fn build<'a>(cargo: &'a mut Command, package: &str, messages: &str) -> &'a mut Command {
    cargo.args(["rustc", "--quiet", "--package", package, "--lib", "--profile", "test", "--message-format"]);
    cargo.args([messages, "--", "--cfg", "shuttle"])
}

/// The page. `bugs`: those that a model finds, as name, what is wrong, and the test.
fn page(rows: &[Row], bugs: &[[String; 3]]) -> String {
    let mut page = String::from(HEAD);
    for pair in rows.chunk_by(|one, next| one.model == next.model) {
        for (i, row) in pair.iter().enumerate() {
            let shows = if i == 0 { row.shows.as_str() } else { "" };
            let Row { model, scheduler, schedules, seconds, .. } = row;
            let _ = writeln!(page, "| {model} | {shows} | {scheduler} | {schedules} | {seconds} |");
        }
    }
    page.push_str(BUGS);
    for [name, how, test] in bugs {
        let _ = writeln!(page, "| `{name}` | {how} | `{test}` |");
    }
    page
}

const HEAD: &str = "# Threads

Written by `cargo xtask threads`. Where threads of the hub or of the gateway meet, a model runs the real code (log, ownership of ids,
subscriptions; window, routes, mailboxes, connections, stalled streams) in a few threads, and
[shuttle](https://docs.rs/shuttle) decides at each lock and atomic of `sync.rs` which of them goes on: at random, and by PCT,
which looks for faults that need few changes of thread at the wrong moment (here up to 3). The seeds are fixed, so the same schedules are tried each time;
one that fails is printed. `cargo xtask test` tries 2,000 of each.

What is left out:

- What tokio does in one call (`Notify`, `watch`, `TaskTracker`, `CancellationToken`) is one step, and so is what other crates do:
  tokio has models of its own. Between two such calls without a lock of ours nobody else gets a turn: that a stream is counted
  before its claim is admitted, and not a moment after, no model shows.
- Atomics are taken as sequentially consistent. Those that order something in hub and gateway use acquire and release beside a lock;
  the others only count.
- Time stands still: a timer never fires, so that a wake-up which is lost leaves a thread waiting for ever, and shuttle says so.
- The store's own locks, sockets and HTTP. Events go straight into the hub's log, but where the model is about a publish.

| model | what it shows | scheduler | schedules | seconds |
|---|---|---|---|---|
";

const BUGS: &str = "
Each of these bugs is planted by `cargo xtask planted`, and the model finds it:

| bug | what is wrong | model |
|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_prints_is_a_row() {
        let line = "test a::threads::b ... model|hub: bell|it rings|PCT|500|1.2";
        let row = Row::read(line).unwrap();
        assert_eq!(
            (&*row.model, &*row.scheduler, &*row.schedules, &*row.seconds),
            ("hub: bell", "PCT", "500", "1.2")
        );
        assert!(Row::read("running 4 tests").is_none());
        let bug = ["1-x", "it is wrong.", "a::b"].map(str::to_owned);
        let page = page(&[row], &[bug]);
        assert!(page.contains("| hub: bell | it rings | PCT | 500 | 1.2 |\n"), "{page}");
        assert!(page.ends_with("| `1-x` | it is wrong. | `a::b` |\n"), "{page}");
    }
}
