//! `cargo xtask planted`: proves that the checker is not blind.
//!
//! Each `sim/planted/*.patch` breaks one promise on purpose; its first line says which and how: `# promise: NAME: TEXT`. A
//! copy of the tree is patched and built, and the simulation runs seed after seed until the checker names that promise.
//! Another complaint, a panic for one, does not count: it would not say that the checker sees. A bug that no simulated
//! reader can meet names a test in its second line, `# test: PACKAGE lib|threads|TARGET NAME`, which must fail with it and pass
//! without. Called from `commands` and, to keep the patches applicable, from `test`. Touches nothing of the tree but the
//! table it writes.

mod bugs;
mod garden;
mod table;

use std::{fs, process::Command};

use anyhow::{Context, Result, bail, ensure};

pub(crate) use self::bugs::{Numbers, Selection};
use self::{
    bugs::{Bug, NamedTest},
    garden::{Found, Garden, Search},
    table::Table,
};
use crate::{project::Project, shell, ui};

/// How many seeds a planted bug may need before it counts as missed.
const SEEDS_PER_BUG: u64 = 500;
/// How many seeds the code as it is must pass first: without that, "found" would say nothing.
const SEEDS_UNPATCHED: u64 = 20;
/// Where the result is kept.
const TABLE: &str = "docs/planted.md";

/// Checks that every patch applies to the tree as it is.
pub(crate) fn check_apply(project: &Project, selection: &Selection) -> Result<()> {
    let bugs = bugs::selected(project, selection)?;
    for bug in &bugs {
        shell::capture(
            Command::new("git").current_dir(&project.root).args(["apply", "--check"]).arg(&bug.patch),
        )
        .with_context(|| format!("{} no longer applies: adapt it to the code", bug.patch.display()))?;
    }
    ui::line(&format!("{} planted bugs apply", bugs.len()));
    Ok(())
}

/// The bugs that models of `cargo xtask threads` find, each as its name, what is wrong, and the model.
pub(crate) fn by_threads(project: &Project) -> Result<Vec<[String; 3]>> {
    let bugs = bugs::selected(project, &Selection::default())?.into_iter();
    let found = bugs.filter_map(|bug| {
        let test = bug.test.filter(NamedTest::is_model)?;
        Some([bug.name, bug.how, test.shown()])
    });
    Ok(found.collect())
}

/// Plants each bug, reports what it took to find it, and writes its row of the table.
///
/// # Errors
///
/// When the code as it is fails, or a bug is not found, does not apply or does not build.
pub(crate) fn run(project: &Project, selection: &Selection) -> Result<()> {
    let bugs = bugs::selected(project, selection)?;
    let garden = Garden::of(project);
    garden.reset()?;
    if bugs.iter().any(|bug| bug.test.is_none()) {
        sound(&garden)?;
    }
    for test in bugs.iter().filter_map(|bug| bug.test.as_ref()) {
        ensure!(garden.passes(test)?, "{} fails without any planted bug: mend that first", test.shown());
    }
    let path = project.root.join(TABLE);
    let mut table = Table::read(&fs::read_to_string(&path).unwrap_or_default());
    let mut report =
        vec![["planted bug", "breaks", "seeds", "time", "what names it"].map(String::from).to_vec()];
    let mut missed = Vec::new();
    for bug in &bugs {
        let row = match &bug.test {
            Some(test) => by_test(&garden, bug, test, &mut table)?,
            None => by_simulation(&garden, bug, &mut table)?,
        };
        let [seeds, time, named] = row.unwrap_or_else(|time| {
            table.missed(bug);
            missed.push(bug.name.clone());
            ["missed".to_owned(), time, String::new()]
        });
        ui::line(&format!("{}: {seeds} ({time})", bug.name));
        report.push(vec![bug.name.clone(), bug.promise.clone(), seeds, time, named]);
        // After each, so that a hunt that is interrupted keeps what it has found.
        fs::write(&path, table.write(&bugs::names(project)?))?;
    }
    ui::line("");
    ui::table(&report);
    ui::line(&format!("\nwritten to {TABLE}"));
    ensure!(
        missed.is_empty(),
        "the checker is blind to {}: teach it, or the simulation, to see",
        missed.join(", ")
    );
    Ok(())
}

/// The code without any bug must keep every promise.
fn sound(garden: &Garden<'_>) -> Result<()> {
    garden.build()?;
    if let Some(Found { seed, .. }) = garden.search(SEEDS_UNPATCHED, None)?.found {
        bail!(
            "the code without any planted bug fails: `cargo xtask sim --seed {seed}` shows it; mend that first"
        );
    }
    ui::line(&format!("without a planted bug, {SEEDS_UNPATCHED} seeds pass"));
    Ok(())
}

/// What a line of the report says beside the bug: seeds, time, what names it; or only the time, of a bug that was missed.
type Row = Result<[String; 3], String>;

fn by_simulation(garden: &Garden<'_>, bug: &Bug, table: &mut Table) -> Result<Row> {
    garden.reset()?;
    garden.plant(bug)?;
    garden.build().with_context(|| format!("{} does not build: adapt it", bug.patch.display()))?;
    let Search { found, time } = garden.search(SEEDS_PER_BUG, Some(&bug.promise))?;
    let Some(Found { seed, named }) = found else { return Ok(Err(time)) };
    let named = named.join(", ");
    table.found(bug, seed, named.clone());
    Ok(Ok([seed.to_string(), time, named]))
}

fn by_test(garden: &Garden<'_>, bug: &Bug, test: &NamedTest, table: &mut Table) -> Result<Row> {
    let stopwatch = ui::Stopwatch::start();
    garden.reset()?;
    garden.plant(bug)?;
    if garden.passes(test).with_context(|| format!("{} does not build: adapt it", bug.patch.display()))? {
        return Ok(Err(stopwatch.seconds()));
    }
    table.failed(bug, test.shown());
    Ok(Ok(["test".to_owned(), stopwatch.seconds(), test.shown()]))
}
