//! The disk store itself, at its trait, beside a bare loop that writes the same bytes with as many events a sync.
//!
//! Each publisher appends a batch and waits for it before the next; how many events a sync carries follows from how many
//! publish. The bare loop then runs with just that many, of the same bytes, in the same round.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use galaxy_push_core::Now;
use galaxy_push_core::cursor::{Cursor, Epoch};
use galaxy_push_core::frame::put_log_frame;
use galaxy_push_core::window::{Bounds, Window};
use galaxy_push_proto::v1;
use galaxy_push_store::disk::Options;
use galaxy_push_store::{Batch, Committed, DiskStore, Sink, Store};

use crate::contenders::bare;
use crate::{EVENT_BYTES, ROUNDS, SPAN, cpu_ns, median};

/// A window, as a hub has one.
struct Readers(Mutex<Option<(Window, Vec<u8>)>>);

impl Sink for Readers {
    fn begin(&self, base: Cursor) {
        *self.0.lock().unwrap() = Some((Window::new(base, Bounds::default()), Vec::new()));
    }

    fn committed(&self, batch: &[Committed]) {
        let mut window = self.0.lock().unwrap();
        let Some((window, scratch)) = &mut *window else { return };
        for each in batch {
            scratch.clear();
            put_log_frame(scratch, each.kind, Some(each.cursor), &each.event, each.appended_unix_ms);
            window.append(each.cursor, each.traits, scratch, Duration::from_millis(each.appended_unix_ms));
        }
    }

    fn damaged(&self, _: Cursor, _: Cursor) {}
}

/// How publishers publish.
#[derive(Clone, Copy)]
struct Load {
    /// Batches that one publisher has under way.
    under_way: usize,
    /// Events of a batch.
    batch: usize,
}

/// What a store came to.
struct Run {
    rate: f64,
    a_sync: f64,
    cpu_ns: f64,
    waits_us: Vec<f64>,
}

/// Prints a row for each load.
pub fn measure(dir: &Path) {
    println!("| load | events a sync | events/s | of the bare loop | an ack, µs: median, p99 | a bare sync, µs | CPU, ns an event |");
    println!("|---|---|---|---|---|---|---|");
    for (name, load) in [
        ("one event at a time", Load { under_way: 1, batch: 1 }),
        ("128 events under way", Load { under_way: 128, batch: 1 }),
        ("2,000 under way", Load { under_way: 2_000, batch: 1 }),
        ("4 batches of 500", Load { under_way: 4, batch: 500 }),
    ] {
        let (mut rates, mut ratios, mut a_sync, mut costs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut waits, mut bares) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let run = run(dir, load);
            let (events, seconds) = bare(dir, run.a_sync.round().max(1.0) as usize, SPAN);
            rates.push(run.rate);
            ratios.push(run.rate / (events / seconds));
            bares.push(1e6 * seconds / events * run.a_sync.round().max(1.0));
            a_sync.push(run.a_sync);
            costs.push(run.cpu_ns);
            waits.extend(run.waits_us);
        }
        waits.sort_by(f64::total_cmp);
        let p99 = waits.get(waits.len() * 99 / 100).copied().unwrap_or_default();
        let low = ratios.iter().copied().fold(f64::MAX, f64::min);
        let high = ratios.iter().copied().fold(0.0, f64::max);
        println!(
            "| {name} | {:.0} | {:.0} | {:.2} ({low:.2} to {high:.2}) | {:.0}, {p99:.0} | {:.0} | {:.0} |",
            median(&a_sync),
            median(&rates),
            median(&ratios),
            median(&waits),
            median(&bares),
            median(&costs),
        );
    }
}

fn run(dir: &Path, load: Load) -> Run {
    let scratch = tempfile::tempdir_in(dir).expect("a scratch directory");
    let sink = Arc::new(Readers(Mutex::default()));
    let mut options = Options::default();
    options.segment_bytes = 32 << 20;
    let store = DiskStore::open(&scratch.path().join("data"), options, Epoch(1), 2, sink).expect("it opens");
    let events = AtomicU64::new(0);
    let waits = Mutex::new(Vec::new());
    // Made before, so that what the publishers do is not measured: as long as they last.
    let most = if load.under_way * load.batch > 1_000 { 1_500_000 } else { 200_000 };
    let mut made: Vec<Vec<Batch>> = (0..load.under_way).map(|_| Vec::new()).collect();
    for n in 0..most / load.batch {
        made[n % load.under_way].push(batch(n * load.batch, load.batch));
    }
    let (cpu, syncs, started) = (cpu_ns(), store.figures().syncs, Instant::now());
    let publishers = made.into_iter().map(|batches| async {
        for batch in batches {
            if started.elapsed() > SPAN {
                break;
            }
            let (count, asked) = (batch.items.len() as u64, Instant::now());
            store.append(batch).await.expect("a disk that works takes it");
            waits.lock().unwrap().push(asked.elapsed().as_secs_f64() * 1e6);
            events.fetch_add(count, Ordering::Relaxed);
        }
    });
    futures_executor::block_on(join_all(publishers));
    let seconds = started.elapsed().as_secs_f64();
    let events = events.into_inner() as f64;
    let syncs = (store.figures().syncs - syncs).max(1) as f64;
    let cpu_ns = (cpu_ns() - cpu) / events;
    drop(store);
    Run { rate: events / seconds, a_sync: events / syncs, cpu_ns, waits_us: waits.into_inner().unwrap() }
}

fn batch(first: usize, count: usize) -> Batch {
    let events: Vec<_> = (first..first + count).map(|n| v1::Event {
        to: vec!["all".to_owned()],
        id: n.to_string(),
        source: "/bench".to_owned(),
        r#type: "t".to_owned(),
        data: vec![b'x'; EVENT_BYTES].into(),
        ..v1::Event::default()
    }).collect();
    Batch::encode(&events, &Arc::default(), Now { mono: Duration::ZERO, unix_ms: 1_700_000_000_000 })
}
