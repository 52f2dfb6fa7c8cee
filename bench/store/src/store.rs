//! The disk store at its trait, beside a bare loop that writes the same bytes with as many events a sync, in the same round.

use std::path::Path;
use std::time::{Duration, Instant};

use galaxy_push_store::Store as _;

use crate::contenders::bare;
use crate::load::{self, Disk, Opened, Source};
use crate::paced::Paced;
use crate::{ROUNDS, SPAN, Spread, cpu_ns};

/// How publishers publish.
#[derive(Clone, Copy)]
pub struct Load {
    pub name: &'static str,
    /// Batches under way at a time.
    under_way: usize,
    /// Events of a batch.
    batch: usize,
}

pub const LOADS: [Load; 5] = [
    Load { name: "128 events under way", under_way: 128, batch: 1 },
    Load { name: "2 batches of 64", under_way: 2, batch: 64 },
    Load { name: "2,000 events under way", under_way: 2_000, batch: 1 },
    Load { name: "4 batches of 500", under_way: 4, batch: 500 },
    Load { name: "8,000 events under way", under_way: 8_000, batch: 1 },
];

/// What a store came to.
pub struct Run {
    pub rate: f64,
    pub a_sync: f64,
    pub cpu_ns: f64,
}

/// Prints a row for each load.
pub fn measure(dir: &Path) {
    println!(
        "| load | events a sync | events/s | of the bare loop | CPU, ns an event | CPU of the bare loop |"
    );
    println!("|---|---|---|---|---|---|");
    for load in LOADS {
        let mut columns: [Spread; 5] = Default::default();
        for _ in 0..ROUNDS {
            let run = run(Disk::Real(dir), load);
            let bare = bare(dir, run.a_sync.round().max(1.0) as usize, SPAN);
            let values = [run.a_sync, run.rate, run.rate / bare.rate, run.cpu_ns, bare.cpu_ns];
            columns.iter_mut().zip(values).for_each(|(column, value)| column.0.push(value));
        }
        let [a_sync, rate, ratio, cpu, bare_cpu] = columns;
        println!("| {} | {a_sync:.0} | {rate:.0} | {ratio:.2} | {cpu:.0} | {bare_cpu:.0} |", load.name);
    }
}

/// The same on a disk whose sync takes 200 and 500 µs, as those of a quiet one with so many events do.
pub fn paced() {
    println!("| load | a sync, µs | events a sync | events/s | of the bare loop | CPU, ns an event |");
    println!("|---|---|---|---|---|---|");
    for (load, micros) in LOADS.into_iter().zip([200, 200, 500, 500, 500]) {
        let paced = Paced { sync: Duration::from_micros(micros) };
        let mut columns: [Spread; 4] = Default::default();
        for _ in 0..ROUNDS {
            let run = run(Disk::Paced(paced), load);
            let begun = Instant::now();
            (0..200).for_each(|_| std::thread::sleep(paced.sync));
            let bare = run.a_sync * 200.0 / begun.elapsed().as_secs_f64();
            let values = [run.a_sync, run.rate, run.rate / bare, run.cpu_ns];
            columns.iter_mut().zip(values).for_each(|(column, value)| column.0.push(value));
        }
        let [a_sync, rate, ratio, cpu] = columns;
        println!("| {} | {micros} | {a_sync:.0} | {rate:.0} | {ratio:.2} | {cpu:.0} |", load.name);
    }
}

pub fn run(disk: Disk<'_>, load: Load) -> Run {
    let (opened, mut source) = (Opened::new(disk), Source::new(load.batch));
    let (cpu, before) = (cpu_ns(), opened.store.disk_figures().expect("it keeps files"));
    let got = load::publish(&opened.store, &mut source, load.under_way, SPAN);
    let (cpu, after) = (cpu_ns() - cpu, opened.store.disk_figures().expect("it keeps files"));
    let (events, syncs) = (got.events as f64, (after.syncs - before.syncs).max(1) as f64);
    Run { rate: events / got.seconds, a_sync: events / syncs, cpu_ns: cpu / events }
}
