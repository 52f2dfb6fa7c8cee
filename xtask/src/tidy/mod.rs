//! `cargo xtask tidy`: the habits of the code that neither rustc nor clippy knows.
//!
//! Called from `commands` and `test`. Each rule is a pure function over the project's texts, so that its test can show it failing.
//! Reads files, changes none.

mod chains;
mod floors;
mod graph;
mod rules;
mod source;
#[cfg(test)]
mod tests;
mod words;

use std::{fs, path::PathBuf};

use anyhow::{Result, ensure};

use crate::{project::Project, ui};

/// One text file of the project.
#[derive(Debug)]
struct Text {
    /// Relative to the root, with `/` between folders.
    path: String,
    content: String,
}

/// One place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    line: usize,
    message: String,
}

/// Checks every rule and prints each finding as `file:line: rule: what to do`.
///
/// # Errors
///
/// When anything was found.
pub(crate) fn run(project: &Project) -> Result<()> {
    let texts = read(project, project.files()?);
    let mut count = 0;
    for rule in &rules::RULES {
        for Finding { path, line, message } in (rule.check)(&texts) {
            ui::line(&format!("{path}:{line}: {}: {message}", rule.name));
            count += 1;
        }
    }
    ensure!(count == 0, "{count} places are not tidy");
    ui::line(&format!("{} files keep {} rules", texts.len(), rules::RULES.len()));
    Ok(())
}

/// Reads the files that are text; pictures and descriptors are not.
fn read(project: &Project, files: Vec<PathBuf>) -> Vec<Text> {
    let text = |file: PathBuf| {
        let content = fs::read_to_string(project.root.join(&file)).ok()?;
        Some(Text { path: file.to_string_lossy().replace('\\', "/"), content })
    };
    files.into_iter().filter_map(text).collect()
}
