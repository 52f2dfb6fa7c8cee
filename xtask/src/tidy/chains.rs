//! The call chains of ARCHITECTURE.md are true: each function they name exists, and each step is one file deeper or one back.
//!
//! Called by `rules`. A step is an item of a numbered list that begins with a file and a function: "1. `crates/a/src/b.rs` `c`".

use std::collections::BTreeMap;

use super::{
    Finding, Text,
    graph::{Graph, graphs},
};

/// The page with the chains.
const PAGE: &str = "ARCHITECTURE.md";

/// One step of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step<'a> {
    line: usize,
    number: usize,
    file: &'a str,
    function: &'a str,
}

/// Judges each step, and its way from the step before.
pub(super) fn call_chains(texts: &[Text]) -> Vec<Finding> {
    let Some(page) = texts.iter().find(|text| text.path == PAGE) else { return Vec::new() };
    let steps: Vec<Step<'_>> = steps(&page.content);
    let is_named = |folder: &str| steps.iter().any(|step| step.file.starts_with(folder));
    let arrows: Vec<[&str; 2]> = graphs(texts, is_named).values().flat_map(ends).collect();
    let mut findings = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let file = texts.iter().find(|text| text.path == step.file);
        if !file.is_some_and(|file| defines(&file.content, step.function)) {
            let message = format!("{} has no function `{}`", step.file, step.function);
            findings.push(page.finding(step.line, message));
        }
        let before = index.checked_sub(1).map(|before| steps[before]).filter(|_| step.number > 1);
        if let Some(before) = before
            && !is_one_step(&arrows, before.file, step.file)
        {
            let message =
                format!("neither of {} and {} uses the other: name the file between", before.file, step.file);
            findings.push(page.finding(step.line, message));
        }
    }
    findings
}

fn steps(markdown: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    for (index, line) in markdown.lines().enumerate() {
        let Some((number, rest)) = line.split_once(". `") else { continue };
        let (Ok(number), Some((file, rest))) = (number.parse(), rest.split_once("` `")) else { continue };
        let Some((function, _)) = rest.split_once('`') else { continue };
        if file.ends_with(".rs") {
            steps.push(Step { line: index + 1, number, file, function });
        }
    }
    steps
}

/// Whether a text defines this function, which may be named with its type: `Type::function`.
fn defines(content: &str, function: &str) -> bool {
    let name = function.rsplit("::").next().unwrap_or(function);
    let owner = function.strip_suffix(name).map(|owner| owner.trim_end_matches("::")).unwrap_or_default();
    let is_word = |word: &str, place: &str| {
        content.match_indices(place).any(|(at, _)| {
            let after = content[at + place.len()..].chars().next();
            !word.is_empty() && !after.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
        })
    };
    is_word(name, &format!("fn {name}")) && (owner.is_empty() || content.contains(owner))
}

/// The two files of each arrow of a crate.
fn ends<'a>(graph: &Graph<'a>) -> Vec<[&'a str; 2]> {
    let paths: BTreeMap<_, _> = graph.texts().map(|(module, text)| (module, text.path.as_str())).collect();
    graph.arrows().iter().map(|arrow| [arrow.text.path.as_str(), paths[&arrow.to]]).collect()
}

/// Whether one of two files uses the other. Files of two crates meet through the public names of one of them.
fn is_one_step(arrows: &[[&str; 2]], from: &str, to: &str) -> bool {
    let crate_of = |file: &str| file.split_once("/src/").map(|(folder, _)| folder.to_owned());
    from == to
        || crate_of(from) != crate_of(to)
        || arrows.contains(&[from, to])
        || arrows.contains(&[to, from])
}
