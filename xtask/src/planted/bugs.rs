//! The planted bugs as their patches describe them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

use crate::project::Project;

/// How the first line of a patch must look.
const FORM: &str = "begin with `# promise: NAME: what the bug is`, then perhaps `# test: PACKAGE lib|threads|TARGET NAME`, then the diff";

/// One planted bug.
#[derive(Debug)]
pub(super) struct Bug {
    pub(super) name: String,
    /// The promise it breaks, by the checker's name for it.
    pub(super) promise: String,
    /// How it breaks it.
    pub(super) how: String,
    /// What finds it where no simulated reader can.
    pub(super) test: Option<NamedTest>,
    pub(super) patch: PathBuf,
}

/// A test by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedTest {
    pub(super) package: String,
    /// `lib`, the name of an integration test, or `threads`: a model of `cargo xtask threads`.
    pub(super) target: String,
    pub(super) name: String,
}

/// Which bugs are meant.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// Those whose name contains this.
    pub(crate) text: Option<String>,
    /// Those of these numbers; none: all.
    pub(crate) numbers: Vec<Numbers>,
}

/// The bugs from one number to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbers(u32, u32);

impl std::str::FromStr for Numbers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number: say 57 or 57-84"));
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Ok(Self(number(first)?, number(last)?))
    }
}

impl Selection {
    fn has(&self, name: &str) -> bool {
        let number = name.split('-').next().and_then(|number| number.parse().ok());
        let numbered =
            |number| self.numbers.iter().any(|Numbers(first, last)| (*first..=*last).contains(&number));
        self.text.as_ref().is_none_or(|text| name.contains(text))
            && (self.numbers.is_empty() || number.is_some_and(numbered))
    }
}

/// The names of all bugs, in order.
pub(super) fn names(project: &Project) -> Result<Vec<String>> {
    Ok(patches(project)?.into_iter().map(|(name, _)| name).collect())
}

/// The bugs that are meant, in order.
pub(super) fn selected(project: &Project, selection: &Selection) -> Result<Vec<Bug>> {
    let patches = patches(project)?.into_iter().filter(|(name, _)| selection.has(name));
    let bugs = patches.map(|(name, patch)| {
        let text = fs::read_to_string(&patch)?;
        Bug::read(name, patch, &text)
    });
    let bugs = bugs.collect::<Result<Vec<_>>>()?;
    ensure!(!bugs.is_empty(), "no patch to plant: see sim/planted");
    Ok(bugs)
}

fn patches(project: &Project) -> Result<Vec<(String, PathBuf)>> {
    let folder = project.root.join("sim/planted");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut patches = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    patches.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    // By their numbers: 101 comes after 11.
    patches.sort_by_key(|path| (number(path), path.clone()));
    let named = patches.into_iter().map(|path| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        (name, path)
    });
    Ok(named.collect())
}

/// What a patch's name begins with.
fn number(patch: &Path) -> Option<u32> {
    patch.file_name()?.to_str()?.split('-').next()?.parse().ok()
}

impl Bug {
    fn read(name: String, patch: PathBuf, text: &str) -> Result<Self> {
        let (promise, how) = promise(text).with_context(|| format!("{}: {FORM}", patch.display()))?;
        let test = text.lines().nth(1).and_then(|line| line.strip_prefix("# test: "));
        let test =
            test.map(NamedTest::read).transpose().with_context(|| format!("{}: {FORM}", patch.display()))?;
        Ok(Self { name, promise, how, test, patch })
    }
}

impl NamedTest {
    fn read(text: &str) -> Result<Self> {
        let parts: Vec<_> = text.split_whitespace().collect();
        let [package, target, name] = parts[..] else { bail!("{text:?} does not name a test") };
        Ok(Self { package: package.to_owned(), target: target.to_owned(), name: name.to_owned() })
    }

    pub(super) fn is_model(&self) -> bool {
        self.target == "threads"
    }

    /// As people write it.
    pub(super) fn shown(&self) -> String {
        format!("{}::{}", self.package, self.name)
    }
}

/// What the first line of a patch says: the promise, and how the bug breaks it.
fn promise(patch: &str) -> Option<(String, String)> {
    let (promise, how) = patch.lines().next()?.strip_prefix("# promise: ")?.split_once(": ")?;
    Some((promise.to_owned(), how.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Bug> {
        Bug::read("01-x".into(), "01-x.patch".into(), text)
    }

    #[test]
    fn the_first_lines_of_a_patch_name_the_promise_and_perhaps_a_test() {
        let diff = "\ndiff --git a/x b/x\n--- a/x\n";
        let bug = read(&format!("# promise: unique: an event is delivered twice.\n{diff}")).unwrap();
        assert_eq!((&*bug.promise, &*bug.how), ("unique", "an event is delivered twice."));
        assert_eq!(bug.test, None);
        let bug =
            read(&format!("# promise: bounded: too much.\n# test: crate it unfinished::a\n{diff}")).unwrap();
        assert_eq!(bug.test.map(|test| test.shown()), Some("crate::unfinished::a".into()));
        assert!(read("--- a/x\n+++ b/x\n").is_err());
        assert!(read("# promise: bounded: too much.\n# test: crate it\n").is_err());
    }

    #[test]
    fn bugs_are_selected_by_number_and_text() {
        let has = |numbers: &[&str], text: Option<&str>, name| {
            let numbers = numbers.iter().map(|numbers| numbers.parse().unwrap()).collect();
            Selection { text: text.map(str::to_owned), numbers }.has(name)
        };
        assert!(has(&[], None, "57-return-resumed"));
        assert!(has(&["3", "57-84"], None, "57-return-resumed") && has(&["57"], None, "57-return-resumed"));
        assert!(!has(&["58-84"], None, "57-return-resumed"));
        assert!(has(&["57"], Some("return"), "57-return-resumed"));
        assert!(!has(&["57"], Some("left"), "57-return-resumed"));
        assert!("57-".parse::<Numbers>().is_err());
    }
}
