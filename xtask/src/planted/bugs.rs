//! The planted bugs as their files describe them.
//!
//! Called by `planted`. Does not look at the code that they change: `plant` does.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::project::Project;

/// The target that is no target of cargo's.
pub(crate) const MODEL: &str = "threads";

/// Where they are.
const FOLDER: &str = "sim/planted";

/// One planted bug.
#[derive(Debug)]
pub(crate) struct Bug {
    /// What its file is called: `52-gap-as-it-lies`.
    pub(crate) name: String,
    /// What its name begins with.
    pub(crate) number: u32,
    pub(crate) file: PathBuf,
    pub(crate) text: Description,
}

/// What the file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    /// The promise it breaks, by the checker's name for it.
    pub(crate) promise: String,
    /// How it breaks it.
    pub(crate) what: String,
    /// What finds it where no simulated reader can.
    pub(crate) test: Option<NamedTest>,
    /// Whether a seed that does not end has found it.
    #[serde(default)]
    pub(crate) hangs: bool,
    #[serde(rename = "change")]
    pub(crate) changes: Vec<Change>,
}

/// A piece of code, and what stands there with the bug.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    #[serde(rename = "crate")]
    pub(crate) package: String,
    /// In the body of this function, …
    pub(crate) function: Option<String>,
    /// … or in all of this item: a constant, a type, a function with its signature.
    pub(crate) item: Option<String>,
    pub(crate) find: String,
    pub(crate) with: String,
}

/// A test by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamedTest {
    pub(crate) package: String,
    /// `lib`, the name of an integration test, or `threads`: a model of `cargo xtask threads`.
    pub(crate) target: String,
    pub(crate) name: String,
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
    fn has(&self, name: &str, number: u32) -> bool {
        let numbered = || self.numbers.iter().any(|Numbers(first, last)| (*first..=*last).contains(&number));
        self.text.as_ref().is_none_or(|text| name.contains(text)) && (self.numbers.is_empty() || numbered())
    }
}

/// Every bug there is, by number.
pub(crate) fn all(project: &Project) -> Result<Vec<Bug>> {
    let folder = project.root.join(FOLDER);
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    let bugs = files.into_iter().map(|file| {
        let text = fs::read_to_string(&file)?;
        Bug::read(&file, &text).with_context(|| format!("{} describes no bug", project.shown(&file)))
    });
    let mut bugs = bugs.collect::<Result<Vec<_>>>()?;
    bugs.sort_by_key(|bug| bug.number);
    for pair in bugs.windows(2) {
        ensure!(pair[0].number != pair[1].number, "{} and {} have one number", pair[0].name, pair[1].name);
    }
    Ok(bugs)
}

/// Those of them that are meant.
pub(crate) fn selected<'a>(bugs: &'a [Bug], selection: &Selection) -> Result<Vec<&'a Bug>> {
    let bugs: Vec<_> = bugs.iter().filter(|bug| selection.has(&bug.name, bug.number)).collect();
    ensure!(!bugs.is_empty(), "no bug to plant: see {FOLDER}");
    Ok(bugs)
}

impl Bug {
    pub(crate) fn read(file: &Path, text: &str) -> Result<Self> {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let number = name.split('-').next().and_then(|number| number.parse().ok());
        let number =
            number.context("its name must begin with a number and a hyphen: 52-gap-as-it-lies.toml")?;
        let text: Description = toml::from_str(text)?;
        for change in &text.changes {
            ensure!(
                change.function.is_some() != change.item.is_some(),
                "each change names either a `function` or an `item`"
            );
        }
        Ok(Self { name, number, file: file.to_path_buf(), text })
    }
}

impl Change {
    /// The name of the function or item.
    pub(crate) fn place(&self) -> &str {
        self.function.as_deref().or(self.item.as_deref()).unwrap_or_default()
    }
}

impl NamedTest {
    /// Whether it is a model of threads.
    pub(crate) fn is_model(&self) -> bool {
        self.target == MODEL
    }

    /// As people write it.
    pub(crate) fn shown(&self) -> String {
        format!("{}::{}", self.package, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Bug> {
        Bug::read(Path::new("sim/planted/07-x.toml"), text)
    }

    #[test]
    fn a_file_names_the_promise_the_changes_and_perhaps_a_test() {
        let head = "promise = 'unique'\nwhat = 'an event is delivered twice.'\n";
        let change = "[[change]]\ncrate = 'c'\nfunction = 'f'\nfind = 'a'\nwith = 'b'\n";
        let bug = read(&format!("{head}{change}")).unwrap();
        assert_eq!((&*bug.name, bug.number, &*bug.text.promise), ("07-x", 7, "unique"));
        assert_eq!((bug.text.test, bug.text.hangs), (None, false));
        let test = "test = { package = 'c', target = 'it', name = 'a::b' }\n";
        let bug = read(&format!("{head}{test}{change}{change}")).unwrap();
        assert_eq!(bug.text.test.map(|test| test.shown()), Some("c::a::b".into()));
        assert_eq!(bug.text.changes.len(), 2);

        assert!(read(head).is_err(), "it changes nothing");
        assert!(read(&format!("{head}{change}item = 'X'\n")).is_err(), "a function and an item");
        assert!(read(&format!("{head}wath = ''\n{change}")).is_err(), "a word that nobody knows");
        assert!(Bug::read(Path::new("x.toml"), &format!("{head}{change}")).is_err(), "no number");
    }

    #[test]
    fn bugs_are_selected_by_number_and_text() {
        let has = |numbers: &[&str], text: Option<&str>| {
            let numbers = numbers.iter().map(|numbers| numbers.parse().unwrap()).collect();
            Selection { text: text.map(str::to_owned), numbers }.has("57-return-resumed", 57)
        };
        assert!(has(&[], None) && has(&["3", "57-84"], None) && has(&["57"], None));
        assert!(!has(&["58-84"], None));
        assert!(has(&["57"], Some("return")) && !has(&["57"], Some("left")));
        assert!("57-".parse::<Numbers>().is_err());
    }
}
