//! `cargo xtask planted`: proves that the checker is not blind.
//!
//! Each `sim/planted/*.patch` breaks one promise on purpose; its first line says which and how: `# promise: NAME: TEXT`. A
//! copy of the tree is patched and built, and the simulation runs seed after seed until the checker names that promise.
//! Another complaint, a panic for one, does not count: it would not say that the checker sees. Called from `commands` and,
//! to keep the patches applicable, from `test`. Touches nothing of the tree but the table it writes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{project::Project, shell, ui};

/// How many seeds a planted bug may need before it counts as missed.
const SEEDS_PER_BUG: u64 = 500;
/// How many seeds the code as it is must pass first: without that, "found" would say nothing.
const SEEDS_UNPATCHED: u64 = 20;
/// Simulated seconds per seed, as in `cargo xtask test`.
const SIMULATED_SECONDS: u64 = 60;
/// Where the result of a whole run is kept.
const TABLE: &str = "docs/planted.md";

/// One planted bug.
#[derive(Debug)]
struct Bug {
    name: String,
    /// The promise it breaks, by the checker's name for it.
    promise: String,
    /// How it breaks it.
    how: String,
    patch: PathBuf,
}

/// What the search for one bug came to.
#[derive(Debug)]
struct Search {
    found: Option<Found>,
    time: String,
}

#[derive(Debug)]
struct Found {
    /// The first seed that showed the bug.
    seed: u64,
    /// The promises that the checker named as broken.
    named: Vec<String>,
}

/// Checks that every patch applies to the tree as it is.
pub(crate) fn check_apply(project: &Project, only: Option<&str>) -> Result<()> {
    let bugs = bugs(project, only)?;
    for bug in &bugs {
        shell::capture(
            Command::new("git").current_dir(&project.root).args(["apply", "--check"]).arg(&bug.patch),
        )
        .with_context(|| format!("{} no longer applies: adapt it to the code", bug.patch.display()))?;
    }
    ui::line(&format!("{} planted bugs apply", bugs.len()));
    Ok(())
}

/// Plants each bug and reports how many seeds it took to find it.
///
/// # Errors
///
/// When the code as it is fails, or a bug is not found, does not apply or does not build.
pub(crate) fn run(project: &Project, only: Option<&str>) -> Result<()> {
    let bugs = bugs(project, only)?;
    let garden = Garden { project, tree: project.output.join("planted/tree") };
    garden.reset()?;
    garden.build()?;
    if let Some(Found { seed, .. }) = garden.search(SEEDS_UNPATCHED, None)?.found {
        bail!(
            "the code without any planted bug fails: `cargo xtask sim --seed {seed}` shows it; mend that first"
        );
    }
    ui::line(&format!("without a planted bug, {SEEDS_UNPATCHED} seeds pass"));

    let mut report =
        vec![["planted bug", "breaks", "seeds", "time", "the checker names"].map(String::from).to_vec()];
    let mut seeds_needed = Vec::new();
    let mut missed = Vec::new();
    for bug in &bugs {
        garden.reset()?;
        garden.plant(bug)?;
        garden.build().with_context(|| format!("{} does not build: adapt it", bug.patch.display()))?;
        let search = garden.search(SEEDS_PER_BUG, Some(&bug.promise))?;
        let (seeds, named) = match search.found {
            Some(Found { seed, named }) => {
                seeds_needed.push((bug, seed, named.join(", ")));
                (seed.to_string(), named.join(", "))
            }
            None => {
                missed.push(bug.name.clone());
                (format!("missed in {SEEDS_PER_BUG}"), String::new())
            }
        };
        ui::line(&format!("{}: {seeds} ({})", bug.name, search.time));
        report.push(vec![bug.name.clone(), bug.promise.clone(), seeds, search.time, named]);
    }
    ui::line("");
    ui::table(&report);
    ensure!(
        missed.is_empty(),
        "the checker is blind to {}: teach it, or the simulation, to see",
        missed.join(", ")
    );
    if only.is_none() {
        fs::write(project.root.join(TABLE), table(&seeds_needed))?;
        ui::line(&format!("\nwritten to {TABLE}"));
    }
    Ok(())
}

/// The table of a run in which every bug was found.
fn table(found: &[(&Bug, u64, String)]) -> String {
    let mut seeds: Vec<u64> = found.iter().map(|(_, seed, _)| *seed).collect();
    seeds.sort_unstable();
    let (median, most) = (seeds.get(seeds.len() / 2).copied(), seeds.last().copied());
    let rows: String = found
        .iter()
        .map(|(bug, seed, named)| {
            format!("| `{}` | {} | {} | {seed} | {named} |\n", bug.name, bug.how, bug.promise)
        })
        .collect();
    format!(
        "# Planted bugs\n\n\
         Written by `cargo xtask planted`, which plants each patch of `sim/planted` in a copy of the tree and runs the\n\
         simulation, seed 1, 2, 3 …, until the history checker names the promise that the bug breaks. It proves that the\n\
         checker and the simulation are not blind.\n\n\
         {} bugs, all found; seeds needed: median {}, at most {}.\n\n\
         | bug | what is wrong | promise | seeds | the checker names |\n|---|---|---|---|---|\n{rows}",
        found.len(),
        median.unwrap_or_default(),
        most.unwrap_or_default(),
    )
}

fn bugs(project: &Project, only: Option<&str>) -> Result<Vec<Bug>> {
    let folder = project.root.join("sim/planted");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut patches = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    patches.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    patches.sort();
    let mut bugs = Vec::new();
    for patch in patches {
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if only.is_none_or(|wanted| name.contains(wanted)) {
            let text = fs::read_to_string(&patch)?;
            let (promise, how) = promise(&text).with_context(|| {
                format!("{}: begin with `# promise: NAME: what the bug is`, then the diff", patch.display())
            })?;
            bugs.push(Bug { name, promise, how, patch });
        }
    }
    ensure!(!bugs.is_empty(), "no patch to plant in {}", folder.display());
    Ok(bugs)
}

/// What the first line of a patch says: the promise, and how the bug breaks it.
fn promise(patch: &str) -> Option<(String, String)> {
    let (promise, how) = patch.lines().next()?.strip_prefix("# promise: ")?.split_once(": ")?;
    Some((promise.to_owned(), how.trim().to_owned()))
}

/// The promises that the checker's verdict names: `broken: NAME COUNT NAME COUNT …`.
fn named(output: &str) -> Vec<String> {
    let verdict = output.lines().find_map(|line| line.strip_prefix("broken: ")).unwrap_or_default();
    verdict.split_whitespace().step_by(2).map(str::to_owned).collect()
}

/// The copy of the tree in which bugs are planted.
struct Garden<'a> {
    project: &'a Project,
    tree: PathBuf,
}

impl Garden<'_> {
    /// Makes the copy equal to the tree. Files that are equal already are not touched, so that cargo builds only what changed.
    fn reset(&self) -> Result<()> {
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

    fn plant(&self, bug: &Bug) -> Result<()> {
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

    fn build(&self) -> Result<()> {
        shell::check(
            shell::cargo(self.project).current_dir(&self.tree).env("CARGO_TARGET_DIR", self.target()).args([
                "build",
                "--quiet",
                "--package",
                "galaxy-push-sim",
            ]),
        )
    }

    /// Runs seeds 1, 2, 3… until one fails; with a promise, until the checker names it.
    fn search(&self, seeds: u64, promise: Option<&str>) -> Result<Search> {
        let binary = self.target().join("debug/galaxy-push-sim");
        let stopwatch = ui::Stopwatch::start();
        for seed in 1..=seeds {
            let output = Command::new(&binary)
                .args(["--seed", &seed.to_string(), "--seconds", &SIMULATED_SECONDS.to_string()])
                .stdin(Stdio::null())
                .output()
                .with_context(|| format!("cannot start {}", binary.display()))?;
            match output.status.code() {
                Some(0) => continue,
                // Clap's code for a command line it does not know: nothing was simulated.
                Some(2) => bail!("the simulator does not take --seed and --seconds"),
                _ => {}
            }
            let named = named(&String::from_utf8_lossy(&output.stderr));
            if promise.is_none_or(|promise| named.iter().any(|named| named == promise)) {
                return Ok(Search { found: Some(Found { seed, named }), time: stopwatch.seconds() });
            }
        }
        Ok(Search { found: None, time: stopwatch.seconds() })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_patch_names_the_promise() {
        let patch = "# promise: unique: an event is delivered twice.\n\ndiff --git a/x b/x\n--- a/x\n";
        assert_eq!(promise(patch), Some(("unique".to_owned(), "an event is delivered twice.".to_owned())));
        assert_eq!(promise("--- a/x\n+++ b/x\n"), None);
    }

    #[test]
    fn the_verdict_names_promises() {
        assert_eq!(
            named("unique: …\n\n7 records judged\nbroken: unique 5 live 1\nseed 1 broke"),
            ["unique", "live"]
        );
        assert!(named("thread 'main' panicked").is_empty());
    }
}
