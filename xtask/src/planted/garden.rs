//! The copy of the tree in which bugs are planted, and how each is looked for there.
//!
//! Called by `planted` alone. Touches nothing of the tree itself.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result, bail};

use super::bugs::{Bug, NamedTest};
use crate::{project::Project, shell, threads, ui};

/// Simulated seconds per seed, as in `cargo xtask test`.
const SIMULATED_SECONDS: u64 = 60;

/// What the search for one bug came to.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) found: Option<Found>,
    pub(super) time: String,
}

#[derive(Debug)]
pub(super) struct Found {
    /// The first seed that showed the bug.
    pub(super) seed: u64,
    /// The promises that the checker named as broken.
    pub(super) named: Vec<String>,
}

/// The copy of the tree in which bugs are planted.
pub(super) struct Garden<'a> {
    project: &'a Project,
    tree: PathBuf,
}

impl<'a> Garden<'a> {
    pub(super) fn of(project: &'a Project) -> Self {
        Self { project, tree: project.output.join("planted/tree") }
    }

    /// Makes the copy equal to the tree. Files that are equal already are not touched, so that cargo builds only what changed.
    pub(super) fn reset(&self) -> Result<()> {
        let files = self.project.files()?;
        remove_others(&self.tree, &self.tree, &files)?;
        for file in &files {
            let (from, to) = (self.project.root.join(file), self.tree.join(file));
            let wanted = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
            if fs::read(&to).is_ok_and(|present| present == wanted) {
                continue;
            }
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&to, wanted).with_context(|| format!("cannot write {}", to.display()))?;
        }
        Ok(())
    }

    pub(super) fn plant(&self, bug: &Bug) -> Result<()> {
        // Inside a repository, git would take the paths of a patch from the repository's root and skip them all in silence.
        let outside = self.project.output.join("planted");
        shell::capture(
            Command::new("git")
                .current_dir(&self.tree)
                .env("GIT_CEILING_DIRECTORIES", outside)
                .arg("apply")
                .arg(&bug.patch),
        )
        .with_context(|| format!("{} no longer applies: adapt it to the code", bug.patch.display()))?;
        Ok(())
    }

    fn target(&self) -> PathBuf {
        self.project.output.join("planted/build")
    }

    pub(super) fn build(&self) -> Result<()> {
        shell::check(
            shell::cargo(self.project).current_dir(&self.tree).env("CARGO_TARGET_DIR", self.target()).args([
                "build",
                "--quiet",
                "--package",
                "galaxy-push-sim",
            ]),
        )
    }

    /// Whether this test passes.
    ///
    /// # Errors
    ///
    /// When it does not build, or there is no such test.
    pub(super) fn passes(&self, test: &NamedTest) -> Result<bool> {
        if test.is_model() {
            return self.model_passes(test);
        }
        let target = match &*test.target {
            "lib" => vec!["--lib"],
            target => vec!["--test", target],
        };
        let cargo = || {
            let mut cargo = shell::cargo(self.project);
            cargo.current_dir(&self.tree).env("CARGO_TARGET_DIR", self.target());
            // With the simulator beside it, because alone it would select other features of all that they share.
            cargo
                .args(["test", "--quiet", "--package", "galaxy-push-sim", "--package", &test.package])
                .args(&target);
            cargo
        };
        shell::check(cargo().arg("--no-run"))?;
        let output = cargo()
            .args(["--", "--exact", &test.name, "--format", "pretty"])
            .stdin(Stdio::null())
            .output()?;
        verdict(&String::from_utf8_lossy(&output.stdout), &test.name)
            .with_context(|| format!("there is no test {}", test.shown()))
    }

    /// As [`Garden::passes`], for a model of `cargo xtask threads`.
    fn model_passes(&self, test: &NamedTest) -> Result<bool> {
        let mut cargo = shell::cargo(self.project);
        cargo.current_dir(&self.tree).env("CARGO_TARGET_DIR", self.target());
        let models = threads::binary(cargo, &test.package)?;
        let output = Command::new(models)
            .current_dir(&self.tree)
            .args(["--exact", &test.name, "--format", "pretty"])
            .stdin(Stdio::null())
            .output()?;
        verdict(&String::from_utf8_lossy(&output.stdout), &test.name)
            .with_context(|| format!("there is no model {}", test.shown()))
    }

    /// Runs seeds 1, 2, 3…, as many at a time as there are processors, until one fails; with a promise, until the checker
    /// names it.
    pub(super) fn search(&self, seeds: u64, promise: Option<&str>) -> Result<Search> {
        let stopwatch = ui::Stopwatch::start();
        let at_once = thread::available_parallelism().map_or(1, usize::from);
        let all: Vec<u64> = (1..=seeds).collect();
        for some in all.chunks(at_once) {
            let named = thread::scope(|scope| {
                let runs: Vec<_> =
                    some.iter().map(|&seed| scope.spawn(move || self.simulate(seed))).collect();
                let ended =
                    runs.into_iter().map(|run| run.join().unwrap_or_else(|_| bail!("a worker panicked")));
                ended.collect::<Result<Vec<_>>>()
            })?;
            for (&seed, named) in some.iter().zip(named) {
                let Some(named) = named else { continue };
                if promise.is_none_or(|promise| named.iter().any(|named| named == promise)) {
                    return Ok(Search { found: Some(Found { seed, named }), time: stopwatch.seconds() });
                }
            }
        }
        Ok(Search { found: None, time: stopwatch.seconds() })
    }

    /// What a seed broke, if it failed.
    fn simulate(&self, seed: u64) -> Result<Option<Vec<String>>> {
        let binary = self.target().join("debug/galaxy-push-sim");
        let output = Command::new(&binary)
            .args(["--seed", &seed.to_string(), "--seconds", &SIMULATED_SECONDS.to_string()])
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        match output.status.code() {
            Some(0) => Ok(None),
            // Clap's code for a command line it does not know: nothing was simulated.
            Some(2) => bail!("the simulator does not take --seed and --seconds"),
            _ => Ok(Some(named(&String::from_utf8_lossy(&output.stderr)))),
        }
    }
}

/// Removes what is in the copy and not in the tree.
fn remove_others(folder: &Path, top: &Path, files: &[PathBuf]) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(&path, top, files)?;
        } else if files.binary_search(&path.strip_prefix(top)?.to_path_buf()).is_err() {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// The promises that the checker's verdict names: `broken: NAME COUNT NAME COUNT …`.
fn named(output: &str) -> Vec<String> {
    let verdict = output.lines().find_map(|line| line.strip_prefix("broken: ")).unwrap_or_default();
    verdict.split_whitespace().step_by(2).map(str::to_owned).collect()
}

/// Whether this test passed, by what the harness says of it.
fn verdict(output: &str, test: &str) -> Option<bool> {
    let said = output.lines().find_map(|line| line.strip_prefix(&format!("test {test} ... ")))?;
    Some(said == "ok")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_names_promises() {
        assert_eq!(
            named("unique: …\n\n7 records judged\nbroken: unique 5 live 1\nseed 1 broke"),
            ["unique", "live"]
        );
        assert!(named("thread 'main' panicked").is_empty());
    }

    #[test]
    fn a_test_that_is_not_there_has_no_verdict() {
        let output = "running 0 tests\n\nrunning 1 test\ntest a::b ... FAILED\n";
        assert_eq!(verdict(output, "a::b"), Some(false));
        assert_eq!(verdict("test a::b ... ok\n", "a::b"), Some(true));
        assert_eq!(verdict(output, "a::c"), None);
    }
}
