//! The ledger of long runs: one line a run, and what the last one met. Markdown, for `docs/simulation.md`.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::Args;
use crate::total::{Total, listed};

/// Where the table begins. What stands above it is written by hand, and stays.
const TABLE: &str = "| code | seeds | simulated | wall time (× real time) | histories | faults | records | seeds with a violation |";

/// What a line of a run begins with.
const ROW: &str = "| `";

/// Writes the ledger anew: the runs it has, then this one, of so many seeds at a time.
pub(crate) fn write(
    path: &Path,
    code: &str,
    args: &Args,
    total: &Total,
    workers: usize,
) -> anyhow::Result<()> {
    let before = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut rows: Vec<_> = before.lines().filter(|line| line.starts_with(ROW)).map(str::to_owned).collect();
    let range = format!("{}–{}", args.from, args.from + args.seeds - 1);
    let key = format!("{ROW}{code}` | {range} × {} s ", args.seconds);
    rows.retain(|row| !row.starts_with(&key));
    let wall = total.took / u32::try_from(workers).unwrap_or(1);
    let speed = total.simulated.as_secs_f64() / wall.as_secs_f64().max(1.0);
    rows.push(format!(
        "{key}| {:.1} h | {:.0} s ({speed:.0} ×) | {} | {} | {} | {} |",
        total.simulated.as_secs_f64() / 3_600.0,
        wall.as_secs_f64(),
        total.seeds,
        grouped(total.faults.values().sum()),
        grouped(total.records as u64),
        total.failed,
    ));
    let (head, _) =
        before.split_once(TABLE).with_context(|| format!("{} has no table of runs", path.display()))?;
    let text = format!(
        "{head}{TABLE}\n|---|---|---|---|---|---|---|---|\n{}\n\nThe last of them struck with these faults: {}.\n\nIt met: {}.\n",
        rows.join("\n"),
        listed(&total.faults),
        listed(&total.seen),
    );
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// A number with commas.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}
