//! What a world was and what it met, counted by name: its features, its faults, how users' connections ended, what its brokers met,
//! and what the checker saw.

use std::collections::{BTreeMap, HashSet};

use galaxy_push_testkit::history::{Hop, Record, What};

use crate::scenario::Scenario;
use crate::world::Outcome;

/// How often each thing was met in this world. Features count once.
#[must_use]
pub fn met(scenario: &Scenario, outcome: &Outcome) -> BTreeMap<String, u64> {
    let mut met = endings(&outcome.history);
    let features = scenario.features().into_iter().filter(|(_, has)| *has);
    met.extend(features.map(|(name, _)| (name.to_owned(), 1)));
    met.extend(outcome.report.seen.iter().map(|(sight, count)| (format!("{sight:?}"), count)));
    met.extend(outcome.met.iter().map(|(what, count)| (format!("Brokers{what}"), *count)));
    met.extend(outcome.did.iter().map(|(what, count)| (format!("Publishers{what}"), *count)));
    met
}

/// The faults of a scenario, by their kinds.
#[must_use]
pub fn faults(scenario: &Scenario) -> BTreeMap<String, u64> {
    let mut faults = BTreeMap::new();
    for (_, fault) in &scenario.faults {
        *faults.entry(fault.kind.name().to_owned()).or_insert(0) += 1;
    }
    faults
}

/// How connections of users ended, as they saw it: by which close code, by which status of HTTP, or by what else.
fn endings(history: &[Record]) -> BTreeMap<String, u64> {
    let (mut users, mut endings) = (HashSet::new(), BTreeMap::new());
    for record in history {
        match &record.what {
            What::Open(open) if open.hop == Hop::User => {
                users.insert(open.stream);
            }
            What::Close(close) if users.contains(&close.stream) => {
                *endings.entry(format!("UserEnded: {}", close.code)).or_insert(0) += 1;
            }
            _ => {}
        }
    }
    endings
}
