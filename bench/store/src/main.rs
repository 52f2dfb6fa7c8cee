//! The figures of the disk store, each beside a bare loop of write and sync in the same round, and of the store on NATS beside
//! the broker's own client: `cargo xtask bench-store`.
//!
//! A round runs everything that is compared once, one after the other, so that whatever else the machine does strikes all of
//! them alike; what counts is the ratio to the bare loop of the same round, and beside it the processor time, which other
//! work changes least. Each part prints a table for ADR 0017 or 0018. Not part of the product, nor of its workspace.

mod contenders;
mod latency;
mod load;
mod nats;
mod paced;
mod recovery;
mod store;
mod stream;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use contenders::{CONTENDERS, Contender};

/// What an event is here, in bytes.
pub const EVENT_BYTES: usize = 200;

/// How often each contender runs.
pub const ROUNDS: usize = 7;

/// How long a contender is measured in a round.
pub const SPAN: Duration = Duration::from_millis(700);

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Part = (&'static str, &'static str, fn(&Path));

/// What can be measured, in the order in which it is.
const PARTS: [Part; 7] = [
    ("engines", "What could keep the log: libraries and segments of our own", engines),
    ("store", "The store at its trait, as much as it takes", store::measure),
    ("paced", "The same on a disk whose sync takes a fixed time: what the store adds", |_| store::paced()),
    ("latency", "An acknowledgement, at half of that and alone", latency::measure),
    ("stream", "Through PublishStream over loopback, and read back", stream::measure),
    ("recovery", "A full window at a start", recovery::measure),
    ("nats", "The store on NATS JetStream, beside the broker's own client", nats::measure),
];

/// `galaxy-push-bench-store DIR [PART]...`
fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().map_or_else(|| PathBuf::from("target/bench-store-data"), PathBuf::from);
    let asked: Vec<String> = arguments.collect();
    if let Some(unknown) = asked.iter().find(|asked| PARTS.iter().all(|(name, ..)| name != asked)) {
        let names: Vec<_> = PARTS.iter().map(|(name, ..)| *name).collect();
        eprintln!("{unknown} is no part; there are {}", names.join(", "));
        std::process::exit(2);
    }
    std::fs::create_dir_all(&dir).expect("the directory can be made");
    println!(
        "{ROUNDS} rounds of {SPAN:?}, events of {EVENT_BYTES} bytes; medians, with the least and the most"
    );
    for (name, title, measure) in PARTS {
        if asked.is_empty() || asked.iter().any(|asked| asked == name) {
            println!("\n{title} (`{name}`)\n");
            measure(&dir);
        }
    }
    _ = std::fs::remove_dir(&dir); // what else lies in it stays
}

fn engines(dir: &Path) {
    println!(
        "| events a sync | contender | events/s | µs a sync | of the bare loop | CPU, ns an event | bytes written for each |"
    );
    println!("|---|---|---|---|---|---|---|");
    for group in [1, 64, 1_000] {
        compare(dir, group);
    }
}

fn compare(dir: &Path, group: usize) {
    let mut rates = vec![Vec::new(); CONTENDERS.len()];
    let mut costs = vec![(Vec::new(), Vec::new()); CONTENDERS.len()];
    for _ in 0..ROUNDS {
        for (((_, make), rates), costs) in CONTENDERS.iter().zip(&mut rates).zip(&mut costs) {
            let scratch = tempfile::tempdir_in(dir).expect("a scratch directory");
            let mut contender = make(scratch.path());
            let before = (cpu_ns(), written_bytes());
            let (events, seconds) = run(&mut *contender, group);
            // What it still does in the background counts until it is closed.
            drop(contender);
            rates.push(events / seconds);
            costs.0.push((cpu_ns() - before.0) / events);
            costs.1.push((written_bytes() - before.1) / events / EVENT_BYTES as f64);
        }
    }
    let bare = rates[0].clone();
    for (((name, _), rates), costs) in CONTENDERS.iter().zip(&rates).zip(&costs) {
        let ratios: Vec<_> = rates.iter().zip(&bare).map(|(rate, bare)| rate / bare).collect();
        let (low, high) = ratios.iter().fold((f64::MAX, 0f64), |(low, high), r| (low.min(*r), high.max(*r)));
        let (rate, ratio) = (median(rates), median(&ratios));
        let micros = 1e6 * group as f64 / rate;
        let (cpu, written) = (median(&costs.0), median(&costs.1));
        println!(
            "| {group} | {name} | {rate:.0} | {micros:.0} | {ratio:.2} ({low:.2} to {high:.2}) | {cpu:.0} | {written:.1} |"
        );
    }
}

/// How many events in how many seconds.
fn run(contender: &mut dyn Contender, group: usize) -> (f64, f64) {
    let event = [b'x'; EVENT_BYTES];
    let (mut next, begun) = (0, Instant::now());
    while begun.elapsed() < SPAN {
        contender.append(next, group, &event);
        next += group as u64;
    }
    (next as f64, begun.elapsed().as_secs_f64())
}

/// What all threads of this process have used.
pub fn cpu_ns() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.tv_sec as f64 * 1e9 + used.tv_nsec as f64
}

/// What this process has had written to disks.
fn written_bytes() -> f64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0.0)
}

/// What came out in each round: the median, and from which to which.
#[derive(Default)]
pub struct Spread(pub Vec<f64>);

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let (low, high) =
            self.0.iter().fold((f64::MAX, 0f64), |(low, high), of| (low.min(*of), high.max(*of)));
        write!(f, "{:.digits$} ({low:.digits$} to {high:.digits$})", median(&self.0))
    }
}

fn median(of: &[f64]) -> f64 {
    quantile(&mut of.to_vec(), 0.5)
}

/// The value below which so much of them lies; 0 of none.
pub fn quantile(of: &mut [f64], part: f64) -> f64 {
    of.sort_by(f64::total_cmp);
    let at = (of.len() as f64 * part) as usize;
    of.get(at).or(of.last()).copied().unwrap_or_default()
}
