//! `cargo xtask test`: everything continuous integration runs, in order, from a fresh clone to done. `cargo xtask check`: what one
//! runs all day.
//!
//! Called from `commands`. Each step says how long it took; the first failure ends the run and says what to do; the last lines
//! say what was left out.

mod steps;

use anyhow::{Result, anyhow, bail};

use crate::{project::Project, skips::Skips, tools::Tools, ui, ui::Stopwatch};
pub(crate) use steps::end_to_end;
use steps::{CHECK, STEPS, Step, UNIT_TESTS};

/// Prints the steps.
pub(crate) fn list() {
    let rows: Vec<Vec<String>> =
        STEPS.iter().map(|step| vec![step.name.to_owned(), step.what.to_owned()]).collect();
    ui::table(&rows);
}

/// Runs the steps named in `only`, or all of them.
///
/// # Errors
///
/// At the first step that fails, with what to do about it; or when `only` names no step.
pub(crate) fn run(project: &Project, only: &[String]) -> Result<()> {
    if let Some(unknown) = only.iter().find(|name| STEPS.iter().all(|step| step.name != *name)) {
        bail!("there is no step `{unknown}`: see `cargo xtask test --list`");
    }
    let chosen: Vec<&Step> =
        STEPS.iter().filter(|step| only.is_empty() || only.iter().any(|name| name == step.name)).collect();
    run_all(project, &chosen)
}

/// Runs what one checks before every commit: nothing that needs another language, a browser or the network.
///
/// # Errors
///
/// At the first step that fails, with what to do about it.
pub(crate) fn check(project: &Project) -> Result<()> {
    Tools::rust_components(project)?;
    Tools::git()?;
    let mut chosen: Vec<&Step> = STEPS.iter().filter(|step| CHECK.contains(&step.name)).collect();
    chosen.push(&UNIT_TESTS);
    run_all(project, &chosen)
}

fn run_all(project: &Project, chosen: &[&Step]) -> Result<()> {
    let whole = Stopwatch::start();
    let mut skips = Skips::from_environment();
    let mut report = Vec::new();
    for step in chosen {
        ui::line(&format!("==> {}: {}", step.name, step.what));
        let stopwatch = Stopwatch::start();
        if let Err(error) = (step.run)(project, &mut skips) {
            ui::line(&format!("FAILED {} after {}", step.name, stopwatch.seconds()));
            return Err(anyhow!("{}: {error:#}\nwhat to do: {}", step.name, step.advice));
        }
        ui::line(&format!("ok  {}  {}", step.name, stopwatch.seconds()));
        report.push(vec!["ok".to_owned(), step.name.to_owned(), stopwatch.seconds()]);
    }
    ui::line("");
    ui::table(&report);
    ui::line(&format!("all {} steps passed in {}", chosen.len(), whole.seconds()));
    skips.lines().iter().for_each(|line| ui::line(line));
    Ok(())
}
