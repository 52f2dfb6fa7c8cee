//! How the files of a crate may lean on each other: in no circle, and from the upper floor to the lower.
//!
//! Called by `rules`. The floors of hub and gateway are `state` (data under locks), `app` (what is assembled of it) and `surface`
//! (what speaks a protocol). Each finding is the import that breaks the rule.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Finding, Text,
    graph::{Arrow, Module, graphs},
};

/// The crates with three floors.
const CRATES_WITH_FLOORS: [&str; 2] = ["crates/hub", "crates/gateway"];

/// From the ground up. A file leans on its own floor and on those below.
const FLOORS: [&str; 3] = ["state", "app", "surface"];

/// What speaks HTTP or gRPC: the ground floor knows none of it.
const PROTOCOLS: [&str; 5] = ["axum", "http", "http_body_util", "hyper", "tonic"];

/// Files that use each other in a circle cannot be understood one after the other.
pub(super) fn module_cycle(texts: &[Text]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for graph in graphs(texts, |_| true).values() {
        let arrows = graph.arrows();
        let modules: BTreeSet<Module> = graph.texts().map(|(module, _)| module.clone()).collect();
        for circle in circles(&modules, &arrows) {
            let names: Vec<_> = circle.iter().map(shown).collect();
            let inside =
                arrows.iter().filter(|arrow| circle.contains(&arrow.from) && circle.contains(&arrow.to));
            for arrow in inside {
                let message = format!(
                    "`{}` closes a circle of {}: move what they share below them",
                    arrow.written,
                    names.join(", ")
                );
                findings.push(arrow.text.finding(arrow.line, message));
            }
        }
    }
    findings
}

/// Dependencies point down, and the ground floor knows no protocol.
pub(super) fn floors(texts: &[Text]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for graph in graphs(texts, |folder| CRATES_WITH_FLOORS.contains(&folder)).values() {
        for arrow in graph.arrows() {
            let Some(to) = floor(&arrow.to) else { continue };
            let message = match floor(&arrow.from) {
                Some(from) if from >= to => continue,
                Some(from) => format!(
                    "`{}` leans on {}: {from} is below",
                    arrow.written,
                    FLOORS[to],
                    from = FLOORS[from]
                ),
                // The root assembles the crate; any other file stands on a floor.
                None if arrow.from.is_empty() => continue,
                None => format!("put the file on a floor: {}", FLOORS.join(", ")),
            };
            findings.push(arrow.text.finding(arrow.line, message));
        }
        for (_, text) in graph.texts().filter(|(module, _)| floor(module) == Some(0)) {
            findings.extend(protocols(text));
        }
    }
    findings
}

fn floor(module: &Module) -> Option<usize> {
    FLOORS.iter().position(|floor| module.first().is_some_and(|first| first == floor))
}

/// Lines that name a protocol's crate.
fn protocols(text: &Text) -> impl Iterator<Item = Finding> + '_ {
    text.code_lines().filter_map(|(line, code)| {
        let names = |crate_name: &&&str| {
            let path = format!("{crate_name}::");
            code.match_indices(&path).any(|(at, _)| {
                !code[..at].ends_with(|letter: char| letter.is_alphanumeric() || "_:".contains(letter))
            })
        };
        let known = PROTOCOLS.iter().find(names)?;
        Some(text.finding(
            line,
            format!("`{known}` speaks a protocol: the surface renders what this floor decides"),
        ))
    })
}

/// The circles among these modules. One that a module makes with its own descendants alone is none, for a folder's file and what
/// lies in it are read together; those among the descendants are.
fn circles(modules: &BTreeSet<Module>, arrows: &[Arrow<'_>]) -> Vec<BTreeSet<Module>> {
    let mut found = Vec::new();
    for component in components(modules, arrows) {
        let owner = component.iter().find(|owner| component.iter().all(|module| module.starts_with(owner)));
        match owner {
            Some(owner) => {
                let inside = component.iter().filter(|module| *module != owner).cloned().collect();
                found.extend(circles(&inside, arrows));
            }
            None => found.push(component),
        }
    }
    found
}

/// The sets of more than one module of which each reaches every other.
fn components(modules: &BTreeSet<Module>, arrows: &[Arrow<'_>]) -> Vec<BTreeSet<Module>> {
    let mut next: BTreeMap<&Module, BTreeSet<&Module>> = BTreeMap::new();
    for arrow in arrows.iter().filter(|arrow| modules.contains(&arrow.from) && modules.contains(&arrow.to)) {
        next.entry(&arrow.from).or_default().insert(&arrow.to);
    }
    let reached = |from: &Module| {
        let mut reached: BTreeSet<&Module> = BTreeSet::new();
        let mut open: Vec<&Module> = next.get(from).into_iter().flatten().copied().collect();
        while let Some(module) = open.pop() {
            if reached.insert(module) {
                open.extend(next.get(module).into_iter().flatten());
            }
        }
        reached
    };
    let reach: BTreeMap<&Module, BTreeSet<&Module>> =
        modules.iter().map(|module| (module, reached(module))).collect();
    let mut left: BTreeSet<&Module> =
        modules.iter().filter(|module| reach[module].contains(module)).collect();
    let mut found = Vec::new();
    while let Some(first) = left.pop_first() {
        let component: BTreeSet<&Module> =
            reach[first].iter().copied().filter(|other| reach[other].contains(first)).collect();
        left.retain(|module| !component.contains(module));
        if component.len() > 1 {
            found.push(component.into_iter().cloned().collect());
        }
    }
    found
}

fn shown(module: &Module) -> String {
    if module.is_empty() { "the root".to_owned() } else { module.join("/") }
}
