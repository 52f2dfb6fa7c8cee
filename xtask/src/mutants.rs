//! `cargo xtask mutants`: which changes of the code no test notices.
//!
//! The mutants are those of cargo-mutants, but all of a crate are compiled into one copy of the tree, as planted bugs are: a mutant then
//! costs its tests alone, and not a build. Called from `commands`. Touches nothing of the tree but its ledger and docs/mutants.md.

mod ledger;
mod list;
mod table;
mod trial;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Result, bail};
use clap::Args;

use self::{
    ledger::{Judged, Key, Ledger},
    list::Function,
    trial::{Fate, Tests},
};
use crate::{
    planted::{
        garden::{Garden, Refused, Wanted},
        plant::Edit,
        source::Source,
    },
    project::Project,
    tools::Tools,
    ui,
};

/// The parts that are looked at: a package, and where in it.
const PARTS: [(&str, &str); 10] = [
    ("galaxy-push-core", "crates/core/src"),
    ("galaxy-push-hub", "crates/hub/src/state/ownership"),
    ("galaxy-push-hub", "crates/hub/src/state/log"),
    ("galaxy-push-hub", "crates/hub/src/surface/subscription"),
    ("galaxy-push-client", "crates/client/src"),
    ("galaxy-push-gateway", "crates/gateway/src/state/routes"),
    ("galaxy-push-gateway", "crates/gateway/src/state/connection"),
    ("galaxy-push-gateway", "crates/gateway/src/state/edge"),
    ("galaxy-push-gateway", "crates/gateway/src/state/standing"),
    ("galaxy-push-store", "crates/store/src"),
];

/// Where the result is shown.
const TABLE: &str = "docs/mutants.md";

/// So many mutants are compiled into one copy at most: the compiler takes longer than the tests beyond.
const AT_ONCE: usize = 1_500;

/// What to look at, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Mutants {
    /// Stop after so many minutes; what was found out is kept, and the next run goes on.
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Only files whose path contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Only write docs/mutants.md from what is known.
    #[arg(long)]
    table: bool,
}

/// Judges what is not known yet, until the time is over.
///
/// # Errors
///
/// When the tests fail without any mutant. Survivors are no error: the table lists them.
pub(crate) fn run(project: &Project, asked: &Mutants) -> Result<()> {
    let stopwatch = ui::Stopwatch::start();
    let mut ledger = Ledger::read(project)?;
    let garden = Garden::of(project, "mutants")?;
    let broker = Tools::nats_server(project)?;
    let mut waiting = BTreeMap::new();
    let mut keys = BTreeSet::new();
    for package in PARTS.iter().map(|(package, _)| *package).collect::<BTreeSet<_>>() {
        let mut sources: Vec<&Source> = garden.ground.sources(package)?.iter().collect();
        sources.retain(|source| part(&source.path).is_some());
        let functions = list::functions(project, package, &sources)?;
        keys.extend(functions.iter().map(key));
        let mut unknown: Vec<_> =
            functions.into_iter().filter(|function| !ledger.knows(&key(function), text(function))).collect();
        for function in &unknown {
            *waiting.entry(part(&function.source.path).unwrap_or_default().to_owned()).or_insert(0) += 1;
        }
        let is_meant = |function: &Function<'_>| {
            asked.only.as_ref().is_none_or(|only| function.source.path.to_string_lossy().contains(only))
        };
        unknown.retain(is_meant);
        let until = Duration::from_secs(asked.minutes * 60);
        while !unknown.is_empty() && stopwatch.elapsed() < until && !asked.table {
            let some: Vec<_> = unknown.drain(..at_once(&unknown)).collect();
            judge(&garden, &broker, package, &some, &mut ledger, &mut || stopwatch.elapsed() < until)?;
            for function in &some {
                if ledger.knows(&key(function), text(function)) {
                    let part = part(&function.source.path).unwrap_or_default();
                    waiting.entry(part.to_owned()).and_modify(|waiting: &mut usize| *waiting -= 1);
                }
            }
        }
    }
    ledger.retain(|key| keys.contains(key))?;
    let shown = table::write(&ledger, &waiting, |path| part(path).unwrap_or_default().to_owned());
    fs::write(project.root.join(TABLE), shown)?;
    ui::line(&format!("written to {TABLE} after {}", stopwatch.seconds()));
    Ok(())
}

/// How many of these functions go into one copy: at least one.
fn at_once(functions: &[Function<'_>]) -> usize {
    let mut count = 0;
    let fits = functions.iter().take_while(|function| {
        count += function.mutants.len();
        count <= AT_ONCE
    });
    fits.count().max(1)
}

/// The part that this file is of.
fn part(path: &Path) -> Option<&'static str> {
    let path = path.to_string_lossy();
    let is_of = |folder: &str| {
        path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/') || rest.starts_with('.'))
    };
    PARTS.iter().map(|(_, folder)| *folder).find(|folder| is_of(folder))
}

fn key(function: &Function<'_>) -> Key {
    (function.source.path.clone(), function.place.shown())
}

fn text<'a>(function: &Function<'a>) -> &'a str {
    function.source.text.get(function.place.whole.clone()).unwrap_or_default()
}

/// Builds the mutants of these functions, and runs the tests with each.
fn judge(
    garden: &Garden<'_>,
    broker: &Path,
    package: &str,
    functions: &[Function<'_>],
    ledger: &mut Ledger,
    goes_on: &mut dyn FnMut() -> bool,
) -> Result<()> {
    let built = Built::of(garden, broker, package, functions)?;
    for function in functions {
        if !goes_on() {
            return Ok(());
        }
        let of_function = || built.numbers.iter().filter(|(_, at)| std::ptr::eq(at.0, function));
        let mut judged = Judged {
            file: function.source.path.clone(),
            function: function.place.shown(),
            ..Judged::default()
        };
        let inside: Vec<_> = of_function().filter(|(number, _)| built.inside.contains(*number)).collect();
        judged.unviable = of_function().count() - inside.len();
        judged.left = function.mutants.len() - of_function().count();
        for (fate, mutant) in built.fates(&inside)?.into_iter().zip(&inside) {
            match fate {
                Fate::Caught => judged.caught += 1,
                Fate::Endless => judged.endless += 1,
                Fate::Survived => judged.survived.push(mutant.1.1.clone()),
            }
        }
        ui::line(&format!(
            "{} {}: {} caught, {} survived",
            judged.file.display(),
            judged.function,
            judged.caught + judged.endless,
            judged.survived.len()
        ));
        ledger.keep(judged, text(function))?;
    }
    Ok(())
}

/// By number: of which function, and called how.
type Numbers<'f, 'a> = BTreeMap<u32, (&'f Function<'a>, String)>;

/// A copy with many mutants in it.
struct Built<'f, 'a> {
    tests: Vec<Tests>,
    numbers: Numbers<'f, 'a>,
    /// Those that compile.
    inside: BTreeSet<u32>,
}

impl<'f, 'a> Built<'f, 'a> {
    fn of(garden: &Garden<'_>, broker: &Path, package: &str, functions: &'f [Function<'a>]) -> Result<Self> {
        let mut constant = BTreeSet::new(); // names of functions that are called while the code is built
        let arguments = ["--package", package, "--tests"].map(str::to_owned).to_vec();
        let wanted = Wanted { arguments, models: BTreeSet::new() };
        loop {
            let is_built = |function: &&Function<'_>| {
                let name = function.place.last();
                function.place.twice_at_run_time()
                    && (function.place.constant.is_none() || !constant.contains(name))
            };
            let (mut numbers, mut edits, mut gone) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
            for function in functions.iter().filter(is_built) {
                gone.extend(function.place.constant.clone().map(|word| (function.source, word)));
                for mutant in &function.mutants {
                    let number = u32::try_from(numbers.len() + 1)?;
                    let (source, place) = (function.source, function.place);
                    let edit = Edit {
                        source,
                        place,
                        in_body: true,
                        range: mutant.range.clone(),
                        with: &mutant.with,
                    };
                    numbers.insert(number, (function, mutant.name.clone()));
                    edits.insert(number, vec![edit]);
                }
            }
            ui::line(&format!("building {} mutants of {package}", numbers.len()));
            let (built, inside) = garden.most(edits, &gone, &wanted, |_| {})?;
            match built {
                Ok(built) => {
                    let tests =
                        built.tests.values().map(|(binary, folder)| Tests::measured(binary, folder, broker));
                    let mut tests = tests.collect::<Result<Vec<_>>>()?;
                    tests.sort_by_key(|tests| tests.time);
                    return Ok(Self { tests, numbers, inside });
                }
                Err(Refused(errors)) => {
                    let before = constant.len();
                    constant.extend(errors.iter().filter_map(|(_, _, told)| called_in_constant(told)));
                    if constant.len() == before {
                        let told: Vec<_> = errors.into_iter().map(|(_, _, told)| told).collect();
                        bail!("the code does not build, whatever mutant it has:\n{}", told.join("\n"));
                    }
                }
            }
        }
    }

    /// What becomes of these, as many at a time as there are processors.
    fn fates(&self, mutants: &[(&u32, &(&Function<'_>, String))]) -> Result<Vec<Fate>> {
        let next = AtomicUsize::new(0);
        let fates: Mutex<BTreeMap<usize, Result<Fate>>> = Mutex::default();
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some((number, _)) = mutants.get(at) else { break };
                let fate = self.fate(**number);
                fates.lock().unwrap_or_else(PoisonError::into_inner).insert(at, fate);
            }
        };
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
                scope.spawn(work);
            }
        });
        fates.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
    }

    fn fate(&self, number: u32) -> Result<Fate> {
        for tests in &self.tests {
            match tests.with(Some(number))? {
                Fate::Survived => {}
                noticed => return Ok(noticed),
            }
        }
        Ok(Fate::Survived)
    }
}

/// The name of the function that an error says must be called while the code is built.
fn called_in_constant(told: &str) -> Option<String> {
    let named = told.split_once("cannot call non-const ")?.1;
    let path = named.split('`').nth(1)?;
    let path = path.split("::<").next().unwrap_or(path);
    Some(path.rsplit("::").next().unwrap_or(path).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_of_the_part_that_names_it() {
        let part = |path: &str| part(path.as_ref());
        assert_eq!(part("crates/hub/src/state/ownership.rs"), Some("crates/hub/src/state/ownership"));
        assert_eq!(part("crates/hub/src/state/ownership/flap.rs"), Some("crates/hub/src/state/ownership"));
        assert_eq!(part("crates/hub/src/state/ownerships.rs"), None);
        assert_eq!(part("crates/core/src/cursor.rs"), Some("crates/core/src"));
    }

    #[test]
    fn the_compiler_says_what_must_be_constant() {
        let told =
            "error[E0015]: cannot call non-const associated function `Config::first` in constants\n --> a.rs";
        assert_eq!(called_in_constant(told), Some("first".into()));
        assert_eq!(
            called_in_constant("error: cannot call non-const function `a::b::<C>` in statics"),
            Some("b".into())
        );
        assert_eq!(called_in_constant("error: no"), None);
    }
}
