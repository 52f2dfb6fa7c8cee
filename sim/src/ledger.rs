//! The ledger of long runs: one line a run, and what the last one met. Markdown, for `docs/simulation.md`.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::Args;
use crate::seeds::{Total, listed, workers};

/// What the worlds with a disk contain, and what they cannot show.
const ON_A_DISK: &str = "\
In some worlds the one hub keeps its log on a disk: the disk store itself, its keeper as one task, on a simulated disk.\n\
A write takes up to 0.3 ms, a sync 0.1 to 30 ms, and one in a hundred half a second. When the machine stops, each sector\n\
that was not synced is there or as it was before, and so is each name of a file; a process that is killed leaves what it\n\
had written to be read, durable or not. The hub is killed, its machine stops, its disk has no room for a while (half of\n\
these disks then refuse writes to files that are there, too), a sync fails (the hub ends; of what was to be synced some\n\
is dropped, and the next sync calls it durable), a bit of the log changes. The truth there is what lies on the disk, read\n\
from its bytes and not by the store, whenever the store hands something on and whenever a hub opens its log; and what\n\
publishers were answered, one of whom uses no library, so that a refusal is judged as one, and publishes anew what it\n\
published long before. It is judged that nothing is acknowledged or delivered before it is on the disk, that all of it is\n\
there in each later life, in the same epoch, and that only what was damaged is told as damaged.\n\n\
What this disk cannot show: two threads at a time (the keeper and the syncer are one task, and no small group is written\n\
by the keeper itself); the real directory with its lock and its system calls; writes that go astray, and damage to more\n\
than one bit at a time or to groups with standing records and keys, which the store's own tests look at; what a damaged\n\
record takes with it; a hub that is asked while it still reads its log, for reading takes no time; a wrong clock; several\n\
hubs. Crashes come at steps of 10 ms. A hub that is started again counts the generations of gateways anew, so fencing is\n\
judged within each of its lives.";

/// What the worlds contain in which hubs share a log.
const ON_BROKERS: &str = "\
In others two hubs are doors to one log. In most of these, and in some worlds with one hub, three simulated brokers keep the\n\
log as a JetStream stream, with the buckets of the fence and the standing records beside it, and the hubs run the store's own code:\n\
what a message means, claims and duplicates, answers, the order in which things are done, what of a leader's word is believed, beats,\n\
and what is to be written of a standing record. Storing takes 1 to 600 ms. The leader steps down, or is cut off with some of the hubs and\n\
goes on for 10 s with what it had, while the others have another one after 4 to 6 s: of what was on its way some is lost and some\n\
stored late, and nobody is told. Acknowledgements are lost. A connection breaks, and what was on it comes up to 7 s later, in another\n\
order, twice, or never. Brokers' clocks differ by up to 6 s. What a hub reads lags up to 2 s, or stops for up to 16 s. In half of\n\
these worlds the stream keeps messages for some seconds or some dozens only, so that hubs meet holes and begin late. The truth is what\n\
the stream holds, message by message, judged by the rules of ADR 0018 written anew, which forget nothing; and what publishers were answered,\n\
one of whom uses no library and asks both hubs at once. In the rest of these worlds a simpler store keeps positions, what was published before, the standing records\n\
and the fence, and now and then does not answer; the second door lags up to 2 s.";

/// What simulated brokers cannot show.
const NOT_ON_BROKERS: &str = "\
What these brokers cannot show: real ones, their consumers and the client library (`crates/store/tests/it/nats.rs` and the chaos test\n\
have them), and the tasks between; a hub that reads its log while it starts, for that takes no time; a stream that is removed, put back or\n\
full; three hubs; how long what was acknowledged outlives machines; whether a gap over what could not be judged was needless; and how long\n\
ids are known where the stream keeps less than that.";

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
         a `PushClient` and plain gateways go from one to the other and back, and users carry cursors between gateways in different logs. {ON_BROKERS}\n\n\
         In a quarter of the worlds every wall clock is wrong, by up to 90 s\n\
         and by steps; in some a user takes bytes all the time, but no whole frame for seconds. Where users present tokens, some\n\
         do not take the end of their session for an answer: they come back with the same token, or a new one of that session.\n\n\
         {ON_A_DISK}\n\n\
         {NOT_ON_BROKERS}\n\n\
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
