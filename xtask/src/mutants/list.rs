//! The mutants of the code, as cargo-mutants makes them up: what stands where, and what would stand there instead.
//!
//! Called by `mutants`. Changes nothing.

use std::{ops::Range, path::PathBuf, process::Command};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::{
    planted::source::{Place, Source},
    project::Project,
    shell,
    tools::Tools,
};

/// A mutant.
#[derive(Clone, Debug)]
pub(super) struct Mutant {
    /// What it does, such as `replace == with != in Window::locate`; with a number behind it, where a function has several that are
    /// called alike.
    pub(super) name: String,
    /// What is replaced, in bytes of its file.
    pub(super) range: Range<usize>,
    pub(super) with: String,
}

/// A function and its mutants.
#[derive(Clone, Debug)]
pub(super) struct Function<'a> {
    pub(super) source: &'a Source,
    pub(super) place: &'a Place,
    pub(super) mutants: Vec<Mutant>,
}

/// As cargo-mutants says it.
#[derive(Debug, Deserialize)]
struct Listed {
    file: PathBuf,
    name: String,
    replacement: String,
    span: Span,
}

#[derive(Debug, Deserialize)]
struct Span {
    start: Point,
    end: Point,
}

#[derive(Debug, Deserialize)]
struct Point {
    line: usize,
    column: usize,
}

/// The functions of these files, each with what cargo-mutants would do to it. What lies in no function that has a name is left out.
///
/// # Errors
///
/// When cargo-mutants cannot be installed, or says something else than it should.
pub(super) fn functions<'a>(
    project: &Project,
    package: &str,
    sources: &[&'a Source],
) -> Result<Vec<Function<'a>>> {
    let mut command = Command::new(Tools::cargo_mutants(project)?);
    command.current_dir(&project.root).args(["mutants", "--list", "--json", "--package", package]);
    let listed: Vec<Listed> =
        serde_json::from_str(&shell::capture(&mut command)?).context("cargo-mutants says something else")?;
    let functions = sources.iter().flat_map(|source| {
        let of_file: Vec<_> = listed.iter().filter(|mutant| mutant.file == source.path).collect();
        source.places.iter().filter_map(move |place| function(source, place, &of_file))
    });
    Ok(functions.collect())
}

fn function<'a>(source: &'a Source, place: &'a Place, listed: &[&Listed]) -> Option<Function<'a>> {
    let body = place.body.as_ref()?;
    let mut mutants: Vec<Mutant> = Vec::new();
    for mutant in listed {
        let range = mutant.span.start.offset(&source.text)?..mutant.span.end.offset(&source.text)?;
        if !(body.start < range.start && range.end < body.end) {
            continue;
        }
        // Its place in the file changes with every line that is written above it.
        let name = mutant.name.splitn(4, ':').nth(3).unwrap_or(&mutant.name).trim();
        let alike = mutants.iter().filter(|other| other.name.split(" #").next() == Some(name)).count();
        let name = if alike == 0 { name.to_owned() } else { format!("{name} #{}", alike + 1) };
        mutants.push(Mutant { name, range, with: mutant.replacement.clone() });
    }
    (!mutants.is_empty()).then_some(Function { source, place, mutants })
}

impl Point {
    /// In bytes from the beginning. Lines and columns count from 1, and a column is a character.
    fn offset(&self, text: &str) -> Option<usize> {
        let line = text.split_inclusive('\n').take(self.line.checked_sub(1)?).map(str::len).sum::<usize>();
        let inside = text.get(line..)?.chars().take(self.column.checked_sub(1)?).map(char::len_utf8);
        Some(line + inside.sum::<usize>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: &str, from: (usize, usize), to: (usize, usize), replacement: &str) -> Listed {
        let point = |(line, column)| Point { line, column };
        let span = Span { start: point(from), end: point(to) };
        Listed { file: "src/a.rs".into(), name: name.to_owned(), replacement: replacement.to_owned(), span }
    }

    #[test]
    fn a_mutant_is_known_by_what_it_does_and_not_by_its_line() {
        let text = "fn f(a: u8) -> bool {\n    \"ü\"; a == 1 || a == 2\n}\n".to_owned();
        let source = Source::read("src/a.rs".as_ref(), &[], text).unwrap();
        let equal = "src/a.rs:2:12: replace == with != in f";
        let all = [
            listed("src/a.rs:2:5: replace f -> bool with true", (2, 5), (2, 26), "true"),
            listed(equal, (2, 12), (2, 14), "!="),
            listed(equal, (2, 22), (2, 24), "!="),
            listed("src/a.rs:9:1: replace g -> bool with true", (9, 1), (9, 2), "true"),
        ];
        let function = function(&source, &source.places[0], &all.each_ref()).unwrap();
        let shown = function.mutants.iter().map(|mutant| (&*mutant.name, &source.text[mutant.range.clone()]));
        assert_eq!(
            shown.collect::<Vec<_>>(),
            [
                ("replace f -> bool with true", "\"ü\"; a == 1 || a == 2"),
                ("replace == with != in f", "=="),
                ("replace == with != in f #2", "=="),
            ]
        );
    }
}
