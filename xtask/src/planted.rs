//! `cargo xtask planted`: proves that the checker is not blind.
//!
//! Each `sim/planted/*.patch` breaks one promise on purpose; the lines before its diff say which. A copy of the tree is patched and built,
//! and the simulation runs seed after seed until it fails. Called from `commands` and, to keep the patches applicable, from
//! `test`. Never touches the tree itself.

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

/// One planted bug.
#[derive(Debug)]
struct Bug {
    name: String,
    /// The promise it breaks, from the head of the patch.
    promise: String,
    patch: PathBuf,
}

/// What the search for one bug came to.
#[derive(Debug)]
struct Search {
    /// The first seed that showed the bug.
    found: Option<u64>,
    time: String,
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
    if let Some(seed) = garden.search(SEEDS_UNPATCHED)?.found {
        bail!(
            "the code without any planted bug fails: `cargo xtask sim --seed {seed}` shows it; mend that first"
        );
    }
    ui::line(&format!("without a planted bug, {SEEDS_UNPATCHED} seeds pass"));

    let mut report = vec![["planted bug", "promise it breaks", "seeds", "time"].map(String::from).to_vec()];
    let mut missed = Vec::new();
    for bug in &bugs {
        garden.reset()?;
        garden.plant(bug)?;
        garden.build().with_context(|| format!("{} does not build: adapt it", bug.patch.display()))?;
        let search = garden.search(SEEDS_PER_BUG)?;
        let seeds = match search.found {
            Some(seed) => seed.to_string(),
            None => {
                missed.push(bug.name.clone());
                format!("missed in {SEEDS_PER_BUG}")
            }
        };
        ui::line(&format!("{}: {seeds} ({})", bug.name, search.time));
        report.push(vec![bug.name.clone(), bug.promise.clone(), seeds, search.time]);
    }
    ui::line("");
    ui::table(&report);
    ensure!(
        missed.is_empty(),
        "the checker is blind to {}: teach it, or the simulation, to see",
        missed.join(", ")
    );
    Ok(())
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
            let promise = promise(&text).with_context(|| {
                format!(
                    "{}: begin with lines that say which promise it breaks, then the diff",
                    patch.display()
                )
            })?;
            bugs.push(Bug { name, promise, patch });
        }
    }
    ensure!(!bugs.is_empty(), "no patch to plant in {}", folder.display());
    Ok(bugs)
}

/// The first sentence of a patch: its lines before the diff, without comment signs.
fn promise(patch: &str) -> Option<String> {
    let head = patch.lines().take_while(|line| !line.starts_with("diff ") && !line.starts_with("--- "));
    head.map(|line| line.trim_start_matches('#').trim()).find(|line| !line.is_empty()).map(str::to_owned)
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

    /// Runs seeds 1, 2, 3… until one fails.
    fn search(&self, seeds: u64) -> Result<Search> {
        let binary = self.target().join("debug/galaxy-push-sim");
        let stopwatch = ui::Stopwatch::start();
        for seed in 1..=seeds {
            let status = Command::new(&binary)
                .args(["--seed", &seed.to_string(), "--seconds", &SIMULATED_SECONDS.to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .with_context(|| format!("cannot start {}", binary.display()))?;
            match status.code() {
                Some(0) => {}
                // Clap's code for a command line it does not know: nothing was simulated.
                Some(2) => bail!("the simulator does not take --seed and --seconds"),
                _ => return Ok(Search { found: Some(seed), time: stopwatch.seconds() }),
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
    fn the_promise_is_the_first_line_of_the_head() {
        let patch = "# unique: an event is delivered twice\n# more\n\ndiff --git a/x b/x\n--- a/x\n";
        assert_eq!(promise(patch).as_deref(), Some("unique: an event is delivered twice"));
        assert_eq!(promise("--- a/x\n+++ b/x\n"), None);
    }
}
