//! What a run came to: a table with a row for each kind of fault.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::ensure;
use galaxy_push_testkit::history::Record;
use galaxy_push_testkit::{Report, Sight};

use super::faults::Kind;
use super::truth::Known;

/// What happened in one cycle.
#[derive(Debug)]
pub(super) struct Cycle {
    pub(super) kind: Kind,
    pub(super) begun_us: u64,
    /// From the healing until every reader had an event that was published after it.
    pub(super) live_after: Duration,
    /// How many streams the readers asked for, from the blow until all were live.
    pub(super) reconnects: u64,
    pub(super) complaints: Vec<String>,
}

/// What happened with one kind of fault.
#[derive(Default)]
struct Row {
    cycles: usize,
    violations: usize,
    slowest: Duration,
    recoveries: Vec<Duration>,
    reconnects: u64,
}

/// The table, and what it was judged by.
pub(super) fn table(
    cycles: &[Cycle],
    records: &[Record],
    verdict: &Report,
    known: Known,
    took: Duration,
) -> String {
    let mut rows: BTreeMap<Kind, Row> = BTreeMap::new();
    for (number, cycle) in cycles.iter().enumerate() {
        let until_us = cycles.get(number + 1).map_or(u64::MAX, |next| next.begun_us);
        let broken = verdict.violations.iter().filter(|violation| {
            let at_us = records.get(violation.line.saturating_sub(1)).map_or(0, |record| record.at_us);
            (cycle.begun_us..until_us).contains(&at_us)
        });
        let row = rows.entry(cycle.kind).or_default();
        row.cycles += 1;
        row.violations += broken.count() + cycle.complaints.len();
        row.slowest = row.slowest.max(cycle.live_after);
        row.recoveries.push(cycle.live_after);
        row.reconnects += cycle.reconnects;
    }
    let mut text = String::from(
        "| fault | what is done | cycles | violations | live again, median | slowest | readers connected again |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for (kind, row) in &mut rows {
        row.recoveries.sort_unstable();
        let median = row.recoveries.get(row.recoveries.len() / 2).copied().unwrap_or_default();
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {:.2} s | {:.2} s | {} |",
            kind.name(),
            kind.what(),
            row.cycles,
            row.violations,
            median.as_secs_f64(),
            row.slowest.as_secs_f64(),
            row.reconnects
        );
    }
    let violations: usize = rows.values().map(|row| row.violations).sum();
    let _ = write!(
        text,
        "\n{} cycles of {} kinds of fault in {:.0} min, {violations} violations; {} records in one history. The log had {} \
         lives with {} acknowledged places; {} more were lost with a hub that was killed before it had acknowledged them.\n\n\
         Seen: {}.\n",
        cycles.len(),
        rows.len(),
        took.as_secs_f64() / 60.0,
        verdict.records,
        known.epochs,
        known.places,
        known.unknown,
        verdict.seen,
    );
    text
}

/// A client that is killed between its handler and its cursor store handles one item again, and no more. A run that never
/// saw that did not test it.
pub(super) fn check_crashes(cycles: &[Cycle], verdict: &Report) -> anyhow::Result<()> {
    let crashes = cycles.iter().filter(|cycle| cycle.kind == Kind::KillClient).count() as u64;
    let again = verdict.seen.of(Sight::HandledAgainAfterCrash);
    ensure!(again <= crashes, "{again} items were handled again after {crashes} crashes of the client");
    ensure!(crashes < 5 || again > 0, "{crashes} crashes of the client, and never was an item handled again");
    Ok(())
}
