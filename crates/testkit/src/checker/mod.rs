//! Judges a history: which promises were broken, and what was seen at all.
//!
//! Called by harnesses after a run and by `galaxy-push-check`. Every stream is swept once, in the order of its records;
//! one function per promise looks at each step (`promises/`), and a few look at the history as a whole. The ground
//! truth is the log as it was dumped, never what was delivered. What a reader was delivered or told goes with it to its
//! next stream (`carried`), and of a gateway it is known which logs it followed.
//!
//! What it cannot see: whether a gap was needless where the history does not tell the window, how much memory was used, and
//! anything the harness did not write down.

mod calm;
mod collapse;
mod entitlement;
mod handling;
mod index;
mod log;
mod promises;
mod publishes;
mod report;
mod seen;
mod sight;
mod stream;

pub use report::{Promise, Report, Violation};
pub use seen::{Seen, Unseen};
pub use sight::Sight;

use crate::history::{Record, Rules, What};
use index::Index;
use report::Findings;
use stream::{State, Step};

/// Judges a history by the rules it was recorded with: its first `rules` record, or the defaults.
#[must_use]
pub fn check(records: &[Record]) -> Report {
    let rules = records.iter().find_map(|record| match &record.what {
        What::Rules(rules) => Some(rules.clone()),
        _ => None,
    });
    check_with(records, &rules.unwrap_or_default())
}

/// Judges a history by these rules, whatever it says itself.
#[must_use]
pub fn check_with(records: &[Record], rules: &Rules) -> Report {
    let index = Index::new(records, rules);
    let mut findings = Findings::new(&index);
    let mut seen = seen::in_records(&index);
    let mut last: Vec<State<'_>> = Vec::with_capacity(index.streams.len());
    for stream in &index.streams {
        let before = stream.before.and_then(|before| last.get(before));
        let mut state = State::new(&index, stream, before);
        for &line in &stream.lines {
            let step = Step::new(&index, stream, &state, before, line);
            if step.is_local() {
                continue;
            }
            for promise in promises::OF_A_STREAM {
                promise(&step, &mut findings);
            }
            seen::in_step(&step, &mut seen);
            promises::count(&step, &mut seen);
            state.apply(&index, line);
        }
        last.push(state);
    }
    for promise in promises::OF_A_HISTORY {
        promise(&index, &mut findings);
    }
    if promises::live::check(&index, &last, &mut findings) {
        seen.count(Sight::LiveJudged);
    }
    findings.into_report(seen)
}
