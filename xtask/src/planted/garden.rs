//! The copy of the tree in which bugs are planted, and what is built of it.
//!
//! Called by `planted` alone. Touches nothing of the tree itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Range,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{
    bugs::{Bug, MODEL, NamedTest},
    common::Common,
    plant::{Edit, Ground, Texts},
    source::Source,
};
use crate::{project::Project, threads, ui};

/// The package of the simulator.
const SIMULATOR: &str = "galaxy-push-sim";
/// A test of that package: cargo builds a package's binaries for a test, with the features that other tests select.
const TEST_OF_SIMULATOR: &str = "reports";

/// The copy.
pub(crate) struct Garden<'a> {
    project: &'a Project,
    pub(crate) ground: Ground,
    tree: PathBuf,
}

/// What a build has left.
#[derive(Debug, Default)]
pub(crate) struct Built {
    pub(crate) simulator: PathBuf,
    /// The binaries of tests, by package and target, and the folder each runs in.
    pub(crate) tests: BTreeMap<(String, String), (PathBuf, PathBuf)>,
}

impl Built {
    /// The binary of a test, and the folder it runs in.
    pub(crate) fn test(&self, test: &NamedTest) -> Result<&(PathBuf, PathBuf)> {
        let found = self.tests.get(&(test.package.clone(), test.target.clone()));
        found.with_context(|| format!("{} has no tests {}", test.package, test.target))
    }
}

/// Why a build failed: where in the copy, and in which line.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) Vec<(PathBuf, usize, String)>);

impl<'a> Garden<'a> {
    /// In this folder of what commands produce.
    pub(crate) fn of(project: &'a Project, folder: &str) -> Result<Self> {
        let tree = project.output.join(folder).join("tree");
        Ok(Self { project, ground: Ground::of(&project.root)?, tree })
    }

    /// Builds as many of the bugs as there can be in one copy. Those that the compiler does not take there are left out, and named.
    pub(crate) fn together(&self, bugs: &[&Bug], tests: &[&NamedTest]) -> Result<(Built, BTreeSet<u32>)> {
        let mut inside = Vec::new();
        for bug in bugs {
            if self.ground.fits(bug)? {
                inside.push(*bug);
            } else {
                ui::line(&format!("{} changes more than bodies: it is built alone", bug.name));
            }
        }
        let edits = inside.iter().map(|bug| Ok((bug.number, self.ground.edits(bug)?)));
        let edits: BTreeMap<_, _> = edits.collect::<Result<_>>()?;
        let (built, together) = self.most(edits, &[], &Wanted::of(tests), |number| {
            let bug = inside.iter().find(|bug| bug.number == number);
            let name = bug.map_or("a bug", |bug| &bug.name);
            ui::line(&format!("{name} does not build beside the code as it is: it is built alone"));
        })?;
        match built {
            Ok(built) => Ok((built, together)),
            Err(Refused(errors)) => {
                let told: Vec<_> = errors.into_iter().map(|(_, _, told)| told).collect();
                bail!("the code does not build, whatever is planted:\n{}", told.join("\n"))
            }
        }
    }

    /// Builds as many of these as the compiler takes in one copy, and answers with their numbers; or with errors that none of them
    /// is to blame for.
    pub(crate) fn most<'e>(
        &self,
        mut edits: BTreeMap<u32, Vec<Edit<'e>>>,
        gone: &[(&Source, Range<usize>)],
        wanted: &Wanted,
        mut left_out: impl FnMut(u32),
    ) -> Result<(Result<Built, Refused>, BTreeSet<u32>)> {
        loop {
            let all =
                edits.iter().flat_map(|(number, edits)| edits.iter().map(|edit| (*number, edit.clone())));
            let common = Common::of(&self.ground, all, gone)?;
            let Refused(errors) = match self.build(&common.texts, wanted)? {
                Ok(built) => return Ok((Ok(built), edits.into_keys().collect())),
                Err(refused) => refused,
            };
            let blamed: BTreeSet<_> =
                errors.iter().flat_map(|(file, line, _)| common.blamed(file, *line)).collect();
            if blamed.is_empty() {
                return Ok((Err(Refused(errors)), edits.into_keys().collect()));
            }
            blamed.iter().copied().for_each(&mut left_out);
            edits.retain(|number, _| !blamed.contains(number));
        }
    }

    /// Builds one bug, as if it had been written by hand.
    pub(crate) fn alone(&self, bug: &Bug) -> Result<Built> {
        let tests: Vec<_> = bug.text.test.iter().collect();
        match self.build(&self.ground.alone(bug)?, &Wanted::of(&tests))? {
            Ok(built) => Ok(built),
            Err(Refused(errors)) => {
                let told: Vec<_> = errors.into_iter().map(|(_, _, told)| told).collect();
                bail!("{} does not build: adapt it\n{}", bug.file.display(), told.join("\n"))
            }
        }
    }

    fn build(&self, texts: &Texts, wanted: &Wanted) -> Result<Result<Built, Refused>> {
        self.write(texts)?;
        let mut cargo = self.project.cargo();
        cargo.current_dir(&self.tree).env("CARGO_TARGET_DIR", self.tree.with_file_name("build"));
        cargo.args(["test", "--no-run", "--no-fail-fast", "--message-format=json"]).args(&wanted.arguments);
        let mut built = match said(&mut cargo)? {
            Ok(messages) => self.built(&messages),
            Err(refused) => return Ok(Err(refused)),
        };
        Ok(self.models(&mut built, &wanted.models)?.map(|()| built))
    }

    /// Builds the models of threads of these packages in the copy as it is, and puts them beside what is built.
    fn models(&self, built: &mut Built, packages: &BTreeSet<String>) -> Result<Result<(), Refused>> {
        for package in packages {
            let mut cargo = self.project.cargo();
            cargo.current_dir(&self.tree).env("CARGO_TARGET_DIR", self.tree.with_file_name("build"));
            let messages = match said(threads::build(&mut cargo, package, "json"))? {
                Ok(messages) => messages,
                Err(refused) => return Ok(Err(refused)),
            };
            let binary = messages.iter().filter_map(|message| message["executable"].as_str()).next_back();
            let binary = binary.context("cargo named no executable of the models")?;
            built.tests.insert((package.clone(), MODEL.to_owned()), (binary.into(), self.tree.clone()));
        }
        Ok(Ok(()))
    }

    /// Makes the copy equal to the tree but for these texts. What is equal already is not touched, so that cargo builds only what
    /// changed.
    fn write(&self, texts: &Texts) -> Result<()> {
        let files = self.project.files()?;
        remove_others(&self.tree, &self.tree, &files)?;
        for file in &files {
            let (from, to) = (self.project.root.join(file), self.tree.join(file));
            let wanted = match texts.get(file) {
                Some(text) => text.clone().into_bytes(),
                None => fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?,
            };
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

    /// What cargo says that it has built.
    fn built(&self, messages: &[Value]) -> Built {
        let mut built = Built::default();
        for message in messages {
            let text = |path: &str| message.pointer(path).and_then(Value::as_str).unwrap_or_default();
            let (Some(binary), manifest) =
                (message["executable"].as_str(), Path::new(text("/manifest_path")))
            else {
                continue;
            };
            let Some(folder) = manifest.parent() else { continue };
            let (kind, name) = (text("/target/kind/0"), text("/target/name"));
            let is_test = message["profile"]["test"].as_bool() == Some(true);
            if kind == "bin" && !is_test && name == SIMULATOR {
                built.simulator = binary.into();
            } else if is_test {
                let package = self.ground.name(folder.strip_prefix(&self.tree).unwrap_or(folder));
                let target = if kind == "test" { name } else { kind };
                built.tests.insert((package, target.to_owned()), (binary.into(), folder.to_path_buf()));
            }
        }
        built
    }
}

/// What is to be built.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// Of `cargo test`.
    pub(crate) arguments: Vec<String>,
    /// The packages whose models of threads are wanted, too.
    pub(crate) models: BTreeSet<String>,
}

impl Wanted {
    /// The simulator, and these tests.
    fn of(tests: &[&NamedTest]) -> Self {
        let mut arguments = vec!["--package", SIMULATOR, "--test", TEST_OF_SIMULATOR];
        let (models, tests): (Vec<&NamedTest>, Vec<_>) = tests.iter().partition(|test| test.is_model());
        for package in tests.iter().map(|test| &*test.package).collect::<BTreeSet<_>>() {
            arguments.extend(["--package", package]);
        }
        for target in tests.iter().map(|test| &*test.target).collect::<BTreeSet<_>>() {
            match target {
                "lib" => arguments.push("--lib"),
                target => arguments.extend(["--test", target]),
            }
        }
        let arguments = arguments.into_iter().map(str::to_owned).collect();
        Self { arguments, models: models.into_iter().map(|model| model.package.clone()).collect() }
    }
}

/// What cargo says of a build, or the errors for which it failed.
fn said(cargo: &mut Command) -> Result<Result<Vec<Value>, Refused>> {
    let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let messages: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if output.status.success() {
        return Ok(Ok(messages));
    }
    let refused = refused(&messages);
    match refused.0.is_empty() {
        true => bail!("cargo failed ({}) and names no error of the code", output.status),
        false => Ok(Err(refused)),
    }
}

/// The errors among what cargo says, by file and line.
fn refused(messages: &[Value]) -> Refused {
    let errors = messages.iter().filter(|message| message["message"]["level"] == "error");
    let errors = errors.flat_map(|message| {
        let told = message["message"]["rendered"].as_str().unwrap_or_default();
        let spans = message["message"]["spans"].as_array().map_or(&[][..], Vec::as_slice);
        spans.iter().filter(|span| span["is_primary"] == true).filter_map(|span| {
            let line = span["line_start"].as_u64().and_then(|line| usize::try_from(line).ok())?;
            Some((PathBuf::from(span["file_name"].as_str()?), line, told.to_owned()))
        })
    });
    Refused(errors.collect())
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
    fn an_error_is_blamed_on_its_line() {
        let message = serde_json::json!({ "reason": "compiler-message", "message": {
            "level": "error", "rendered": "error: no", "spans": [
                { "is_primary": false, "line_start": 3, "file_name": "crates/a/src/lib.rs" },
                { "is_primary": true, "line_start": 7, "file_name": "crates/a/src/lib.rs" }] } });
        let warning = serde_json::json!({ "message": { "level": "warning", "spans": [] } });
        let Refused(errors) = refused(&[message, warning]);
        assert_eq!(errors, [("crates/a/src/lib.rs".into(), 7, "error: no".to_owned())]);
    }
}
