//! How long an acknowledgement takes, in syncs of the bare loop of the same round: at half of what the store can take, and of an
//! event that is alone.
//!
//! Syncs are not alike, and who comes at any moment meets a long one more likely than a short one. So the best that a group commit
//! can do is reckoned from the bare loop's own syncs: what comes waits for the rest of the sync under way, and then for one more.

use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use galaxy_push_store::Store as _;

use crate::contenders::bare;
use crate::load::{self, Disk, Opened, Source};
use crate::store::{self, LOADS};
use crate::{ROUNDS, SPAN, Spread, quantile};

/// Events that were sent and not answered, at most. Beyond it whoever sends is late, and says so by not sending.
const UNANSWERED_MAX: usize = 50_000;

/// How close together what comes is, where the best is reckoned, in microseconds.
const EVERY_US: f64 = 10.0;

/// How often whoever sends looks at the clock.
const TICK: Duration = Duration::from_micros(50);

/// Prints a row for each load.
pub fn measure(dir: &Path) {
    println!(
        "| load | events a sync | events/s | an ack, µs: median | p99 | a bare sync, µs: median | p99 | the best ack there, µs: median | p99 \
         | p99 of an ack, in median syncs | in the best p99 |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for load in [LOADS[0], LOADS[2]] {
        let mut columns: [Spread; 10] = Default::default();
        for _ in 0..ROUNDS {
            let full = store::run(Disk::Real(dir), load).rate;
            row(&mut columns, dir, at_rate(dir, full / 2.0));
        }
        print(&format!("half of {}", load.name), &columns);
    }
    let mut columns: [Spread; 10] = Default::default();
    for _ in 0..ROUNDS {
        row(&mut columns, dir, alone(dir));
    }
    print("one event at a time", &columns);
    let (acks, syncs) = (&columns[2].0, &columns[4].0);
    let ratios = acks.iter().zip(syncs).map(|(ack, sync)| ack / sync).collect();
    println!("\nThe median of a lone event, in median syncs of one event: {:.2}", Spread(ratios));
}

struct Acks {
    a_sync: f64,
    rate: f64,
    waits_us: Vec<f64>,
}

fn row(columns: &mut [Spread; 10], dir: &Path, mut acks: Acks) {
    let mut syncs = bare(dir, acks.a_sync.round().max(1.0) as usize, SPAN).syncs_us;
    let (median, p99) = (quantile(&mut acks.waits_us, 0.5), quantile(&mut acks.waits_us, 0.99));
    let mut best = best(&syncs);
    let (sync, sync_p99) = (quantile(&mut syncs, 0.5), quantile(&mut syncs, 0.99));
    let (best, best_p99) = (quantile(&mut best, 0.5), quantile(&mut best, 0.99));
    let values =
        [acks.a_sync, acks.rate, median, p99, sync, sync_p99, best, best_p99, p99 / sync, p99 / best_p99];
    columns.iter_mut().zip(values).for_each(|(column, value)| column.0.push(value));
}

fn print(name: &str, columns: &[Spread; 10]) {
    let [a_sync, rate, median, p99, sync, sync_p99, best, best_p99, ratio, of_best] = columns;
    println!(
        "| {name} | {a_sync:.0} | {rate:.0} | {median:.0} | {p99:.0} | {sync:.0} | {sync_p99:.0} | {best:.0} | {best_p99:.0} \
         | {ratio:.2} | {of_best:.2} |"
    );
}

/// What a perfect group commit would take on a disk with these syncs, one after the other, for what comes every few microseconds.
fn best(syncs_us: &[f64]) -> Vec<f64> {
    let (mut begun, mut at, mut waits_us) = (0.0, 0.0, Vec::new());
    for pair in syncs_us.windows(2) {
        let over = begun + pair[0];
        while at < over {
            waits_us.push(over - at + pair[1]);
            at += EVERY_US;
        }
        begun = over;
    }
    waits_us
}

fn alone(dir: &Path) -> Acks {
    let (opened, mut source) = (Opened::new(Disk::Real(dir)), Source::new(1));
    let got = load::publish(&opened.store, &mut source, 1, SPAN);
    Acks { a_sync: 1.0, rate: got.events as f64 / got.seconds, waits_us: got.waits_us }
}

/// Sends so many events a second, whatever becomes of them, and waits for the answers on another thread.
fn at_rate(dir: &Path, rate: f64) -> Acks {
    let (opened, mut source) = (Opened::new(Disk::Real(dir)), Source::new(1));
    let store = &opened.store;
    let (sent, answers) = sync_channel(UNANSWERED_MAX);
    let (started, mut count) = (Instant::now(), 0_u64);
    let waits_us = thread::scope(|scope| {
        let waiter = scope.spawn(move || {
            let mut waits_us = Vec::new();
            for (answer, asked) in answers {
                let answer: load::Answer<'_> = answer;
                futures_executor::block_on(answer).expect("a disk that works takes it");
                let asked: Instant = asked;
                waits_us.push(asked.elapsed().as_secs_f64() * 1e6);
            }
            waits_us
        });
        while started.elapsed() < SPAN {
            let due = (started.elapsed().as_secs_f64() * rate) as u64;
            while count < due {
                let (mut answer, asked) = (store.append(source.next()), Instant::now());
                // The first poll hands it over.
                match (&mut answer).now_or_never() {
                    Some(answered) => drop(answered.expect("a disk that works takes it")),
                    None => sent.send((answer, asked)).expect("somebody waits for it"),
                }
                count += 1;
            }
            thread::sleep(TICK);
        }
        drop(sent);
        waiter.join().expect("nobody panics")
    });
    let syncs = store.figures().syncs.max(1) as f64;
    let rate = count as f64 / started.elapsed().as_secs_f64();
    Acks { a_sync: count as f64 / syncs, rate, waits_us }
}
