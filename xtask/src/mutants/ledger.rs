//! What has become of the mutants of each function, kept between runs: a run judges only what it does not know.
//!
//! Called by `mutants`. One line of JSON for each function, in `xtask/mutants/ledger.ndjson`; a function that was changed since is
//! judged anew. Beside it `xtask/mutants/equivalent.toml` says of mutants that survive why no test could tell them from the code.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::project::Project;

const LEDGER: &str = "xtask/mutants/ledger.ndjson";
const EQUIVALENT: &str = "xtask/mutants/equivalent.toml";

/// Where a function is and what it is called.
pub(super) type Key = (PathBuf, String);

/// What became of the mutants of one function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Judged {
    pub(super) file: PathBuf,
    pub(super) function: String,
    /// A fingerprint of the function's text.
    pub(super) code: String,
    /// How many mutants made a test fail.
    pub(super) caught: usize,
    /// How many made the tests run without an end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) endless: usize,
    /// How many do not compile.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) unviable: usize,
    /// How many cannot be built beside the code as it is, and were not run.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) left: usize,
    /// The names of those that no test noticed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) survived: Vec<String>,
}

/// Why a mutant is no other code than the code.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Equivalent {
    pub(super) function: String,
    pub(super) mutant: String,
    pub(super) why: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Equivalents {
    #[serde(default)]
    mutant: Vec<Equivalent>,
}

/// Everything that was judged.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    functions: BTreeMap<Key, Judged>,
    pub(super) equivalent: Vec<Equivalent>,
}

impl Ledger {
    /// # Errors
    ///
    /// When one of the files is there and cannot be read.
    pub(super) fn read(project: &Project) -> Result<Self> {
        let path = project.root.join(LEDGER);
        let text = if path.exists() { fs::read_to_string(&path)? } else { String::new() };
        let lines = text.lines().map(|line| {
            let judged: Judged =
                serde_json::from_str(line).with_context(|| format!("{LEDGER} has {line:?}"))?;
            Ok(((judged.file.clone(), judged.function.clone()), judged))
        });
        let functions = lines.collect::<Result<_>>()?;
        let equivalent = project.root.join(EQUIVALENT);
        let equivalent = if equivalent.exists() { fs::read_to_string(equivalent)? } else { String::new() };
        let equivalent: Equivalents = toml::from_str(&equivalent).context(EQUIVALENT)?;
        Ok(Self { path, functions, equivalent: equivalent.mutant })
    }

    /// Whether this function was judged as it is now.
    pub(super) fn knows(&self, key: &Key, text: &str) -> bool {
        self.functions.get(key).is_some_and(|judged| judged.code == fingerprint(text))
    }

    /// Keeps what was found out, in place of what was known of the function.
    pub(super) fn keep(&mut self, mut judged: Judged, text: &str) -> Result<()> {
        judged.code = fingerprint(text);
        self.functions.insert((judged.file.clone(), judged.function.clone()), judged);
        self.write()
    }

    /// Forgets every function that is not there any more.
    pub(super) fn retain(&mut self, is_there: impl Fn(&Key) -> bool) -> Result<()> {
        self.functions.retain(|key, _| is_there(key));
        self.write()
    }

    fn write(&self) -> Result<()> {
        let lines = self.functions.values().map(|judged| Ok(serde_json::to_string(judged)? + "\n"));
        let text = lines.collect::<Result<String>>()?;
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&self.path, text).with_context(|| format!("cannot write {LEDGER}"))
    }

    /// All of it, by file and name.
    pub(super) fn functions(&self) -> impl Iterator<Item = &Judged> {
        self.functions.values()
    }

    /// Why this survivor is no other code, if somebody has said so.
    pub(super) fn why(&self, judged: &Judged, mutant: &str) -> Option<&str> {
        let said =
            self.equivalent.iter().find(|said| said.function == judged.function && said.mutant == mutant);
        said.map(|said| &*said.why)
    }
}

/// FNV-1a over the words of the text: how it is broken into lines does not matter.
fn fingerprint(text: &str) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{hash:016x}")
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_the_code_is_not_its_fingerprint() {
        assert_eq!(fingerprint("fn f() { 1 }"), fingerprint("fn f() {\n    1\n}"));
        assert_ne!(fingerprint("fn f() { 1 }"), fingerprint("fn f() { 2 }"));
    }

    #[test]
    fn a_line_says_only_what_is_there() {
        let judged = Judged { file: "a.rs".into(), function: "f".into(), caught: 2, ..Judged::default() };
        let line = serde_json::to_string(&judged).unwrap();
        assert_eq!(line, r#"{"file":"a.rs","function":"f","code":"","caught":2}"#);
        assert_eq!(serde_json::from_str::<Judged>(&line).unwrap(), judged);
    }
}
