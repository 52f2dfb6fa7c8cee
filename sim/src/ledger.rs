//! The ledger of long runs: one line a run, and what the last one met. Markdown, for `docs/simulation.md`.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::Args;
use crate::seeds::{Total, listed, workers};

/// What a line of a run begins with.
const ROW: &str = "| `";

/// Writes the ledger anew: the runs it has, then this one.
pub(crate) fn write(path: &Path, code: &str, args: &Args, total: &Total) -> anyhow::Result<()> {
    let before = fs::read_to_string(path).unwrap_or_default();
    let mut rows: Vec<_> = before.lines().filter(|line| line.starts_with(ROW)).map(str::to_owned).collect();
    let range = format!("{}–{}", args.from, args.from + args.seeds - 1);
    let key = format!("{ROW}{code}` | {range} × {} s ", args.seconds);
    rows.retain(|row| !row.starts_with(&key));
    let wall = total.took / u32::try_from(workers()).unwrap_or(1);
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
    let text = format!(
        "# Long runs of the simulation\n\n\
         Written by `cargo xtask sim-long`. Each seed is a world of its own, with hubs, gateways, users and publishers on a\n\
         simulated network, whose history the checker judges; `cargo xtask sim --seed N --seconds S` replays one. Wall time is\n\
         that of all seeds, divided by the processors they ran on.\n\n\
         Most worlds have one hub. In some there are two with a log each, as two memory hubs behind `--hub A,B` are: gateways,\n\
         a `PushClient` and plain gateways go from one to the other and back. In others two hubs are doors to one log, in a\n\
         simulated store that keeps positions, what was published before, the standing records and the fence, and now and then\n\
         does not answer; the second door lags up to 2 s. In a quarter of the worlds every wall clock is wrong, by up to 90 s\n\
         and by steps; in some a user takes bytes all the time, but no whole frame for seconds. Where users present tokens, some\n\
         do not take the end of their session for an answer: they come back with the same token, or a new one of that session.\n\n\
         | code | seeds | simulated | wall time (× real time) | histories | faults | records | seeds with a violation |\n\
         |---|---|---|---|---|---|---|---|\n{}\n\n\
         The last of them struck with these faults: {}.\n\n\
         It met: {}.\n",
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
