//! `cargo xtask planted`: proves that the checker is not blind.
//!
//! Each `sim/planted/NUMBER-NAME.toml` breaks one promise on purpose. It says which promise and how, and what is written instead in
//! which function: `docs/development.md` (A planted bug) shows the form. To add one, write the file with a number of its own, then
//! run `cargo xtask planted --check-apply` and `cargo xtask planted NUMBER`. `function` changes a body; `item` changes a constant,
//! a type or a signature, and costs a build of its own.
//!
//! All bugs that lie within the bodies of functions are compiled into one copy of the tree, where the environment of a process
//! says which one it has; what the compiler does not take there is built alone. The simulation runs seed after seed until the
//! checker names the promise. Another complaint, a panic for one, does not count: it would not say that the checker sees. A bug
//! that no simulated reader can meet names a test, which must fail with it and pass without. Called from `commands` and, to keep
//! the bugs applicable, from `test`. Touches nothing of the tree but the table it writes.

mod bugs;
pub(crate) mod common;
mod find;
pub(crate) mod garden;
mod hunt;
pub(crate) mod plant;
pub(crate) mod source;
mod table;

use std::{collections::BTreeSet, fs};

use anyhow::{Result, bail, ensure};

pub(crate) use self::bugs::{Numbers, Selection};
use self::{
    bugs::{Bug, NamedTest},
    garden::{Built, Garden},
    hunt::{Prey, Search},
    plant::Ground,
    table::Table,
};
use crate::{project::Project, ui};

/// How many seeds the code as it is must pass first: without that, "found" would say nothing.
const SEEDS_UNPLANTED: u64 = 20;
/// Where the result is kept.
const TABLE: &str = "docs/planted.md";

/// Checks that every bug applies to the tree as it is, and that what it makes of it parses.
pub(crate) fn check_apply(project: &Project, selection: &Selection) -> Result<()> {
    let all = bugs::all(project)?;
    let bugs = bugs::selected(&all, selection)?;
    let ground = Ground::of(&project.root)?;
    let mut failed = 0;
    for bug in &bugs {
        if let Err(error) = ground.alone(bug) {
            failed += 1;
            ui::line(&format!("{error:#}"));
        }
    }
    for bug in without_test(project, &bugs)? {
        failed += 1;
        ui::line(&format!("{}: nowhere is there a test of that name", bug.name));
    }
    ensure!(failed == 0, "{failed} planted bugs do not apply");
    ui::line(&format!("{} planted bugs apply", bugs.len()));
    Ok(())
}

/// The bugs whose test has gone: nothing would find them.
fn without_test<'a>(project: &Project, bugs: &[&'a Bug]) -> Result<Vec<&'a Bug>> {
    let mut sources = String::new();
    for file in project.files()? {
        if file.extension().is_some_and(|extension| extension == "rs") {
            sources += &fs::read_to_string(project.root.join(file))?;
        }
    }
    let is_gone = |bug: &&&Bug| {
        bug.text.test.as_ref().is_some_and(|test| {
            let name = test.name.rsplit("::").next().unwrap_or_default();
            !sources.contains(&format!("fn {name}("))
        })
    };
    Ok(bugs.iter().filter(is_gone).copied().collect())
}

/// The bugs that models of `cargo xtask threads` find, each as its name, what is wrong, and the model.
pub(crate) fn by_threads(project: &Project) -> Result<Vec<[String; 3]>> {
    let found = bugs::all(project)?.into_iter().filter_map(|bug| {
        let test = bug.text.test.filter(NamedTest::is_model)?;
        Some([bug.name, bug.text.what, test.shown()])
    });
    Ok(found.collect())
}

/// Plants each bug, reports what it took to find it, and writes its row of the table.
///
/// # Errors
///
/// When the code as it is fails, or a bug is not found, does not apply or does not build.
pub(crate) fn run(project: &Project, selection: &Selection, rate: Option<u64>) -> Result<()> {
    let all = bugs::all(project)?;
    let bugs = bugs::selected(&all, selection)?;
    let names = all.iter().map(|bug| bug.name.clone()).collect();
    let mut hunt = Hunt::of(project, names, rate)?;
    let garden = Garden::of(project, "planted")?;
    // All of them, whichever are meant: so that the next hunt has nothing to build.
    let every: Vec<_> = all.iter().collect();
    let (built, together) = garden.together(&every, &tests(&every))?;
    sound(&built, &bugs)?;
    let (inside, outside): (Vec<&Bug>, Vec<&Bug>) =
        bugs.into_iter().partition(|bug| together.contains(&bug.number));
    for bug in inside {
        hunt.one(&built, bug, Some(bug.number))?;
    }
    for bug in outside {
        match garden.alone(bug) {
            Ok(built) => hunt.one(&built, bug, None)?,
            Err(error) => hunt.unbuilt(bug, &error)?,
        }
    }
    hunt.end()
}

/// The tests that bugs name, each once.
fn tests<'a>(bugs: &[&'a Bug]) -> Vec<&'a NamedTest> {
    let tests: BTreeSet<_> = bugs.iter().filter_map(|bug| bug.text.test.as_ref()).collect();
    tests.into_iter().collect()
}

/// The code without any bug must keep every promise, and pass every test that is to find one.
fn sound(built: &Built, bugs: &[&Bug]) -> Result<()> {
    if bugs.iter().any(|bug| bug.text.test.is_none()) {
        if let Some(seed) = hunt::unsound(built, SEEDS_UNPLANTED)? {
            bail!(
                "the code without any planted bug fails: `cargo xtask sim --seed {seed}` shows it; mend that first"
            );
        }
        ui::line(&format!("without a planted bug, {SEEDS_UNPLANTED} seeds pass"));
    }
    for test in tests(bugs) {
        ensure!(
            hunt::passes(built, test, None)?,
            "{} fails without any planted bug: mend that first",
            test.shown()
        );
    }
    Ok(())
}

/// What a hunt has come to so far.
struct Hunt<'a> {
    project: &'a Project,
    /// Every bug there is, for the table.
    names: Vec<String>,
    rate: Option<u64>,
    table: Table,
    report: Vec<Vec<String>>,
    missed: Vec<String>,
}

impl<'a> Hunt<'a> {
    fn of(project: &'a Project, names: Vec<String>, rate: Option<u64>) -> Result<Self> {
        let table = Table::read(&fs::read_to_string(project.root.join(TABLE))?);
        let report =
            vec![["planted bug", "breaks", "seeds", "time", "what names it"].map(String::from).to_vec()];
        Ok(Self { project, names, rate, table, report, missed: Vec::new() })
    }

    /// Looks for one, and writes its row.
    fn one(&mut self, built: &Built, bug: &Bug, number: Option<u32>) -> Result<()> {
        let stopwatch = ui::Stopwatch::start();
        let Some(test) = &bug.text.test else {
            let prey = Prey { number, promise: &bug.text.promise, hangs: bug.text.hangs };
            let Search { found, rate, hung, time } = hunt::search(built, prey, self.rate)?;
            let Some((seed, named)) = found else {
                let why = if hung > 0 { format!("{hung} seeds do not end") } else { String::new() };
                return self.miss(bug, time, why);
            };
            let named = named.join(", ");
            self.table.found(bug, seed, rate, named.clone());
            let rate = rate.map(|(shown, of)| format!(", {shown} of {of}")).unwrap_or_default();
            return self.row(bug, format!("{seed}{rate}"), time, named);
        };
        if hunt::passes(built, test, number)? {
            return self.miss(bug, stopwatch.seconds(), String::new());
        }
        self.table.failed(bug, test.shown());
        self.row(bug, "test".to_owned(), stopwatch.seconds(), test.shown())
    }

    fn unbuilt(&mut self, bug: &Bug, error: &anyhow::Error) -> Result<()> {
        ui::line(&format!("{error:#}"));
        self.miss(bug, String::new(), "does not build".to_owned())
    }

    fn miss(&mut self, bug: &Bug, time: String, why: String) -> Result<()> {
        self.table.missed(bug);
        self.missed.push(bug.name.clone());
        self.row(bug, "missed".to_owned(), time, why)
    }

    /// Writes the table after each, so that a hunt that is interrupted keeps what it has found.
    fn row(&mut self, bug: &Bug, seeds: String, time: String, named: String) -> Result<()> {
        ui::line(&format!("{}: {seeds} ({time}) {named}", bug.name));
        self.report.push(vec![bug.name.clone(), bug.text.promise.clone(), seeds, time, named]);
        fs::write(self.project.root.join(TABLE), self.table.write(&self.names))?;
        Ok(())
    }

    fn end(self) -> Result<()> {
        ui::line("");
        ui::table(&self.report);
        ui::line(&format!("\nwritten to {TABLE}"));
        ensure!(
            self.missed.is_empty(),
            "the checker is blind to {}: teach it, or the simulation, to see",
            self.missed.join(", ")
        );
        Ok(())
    }
}
