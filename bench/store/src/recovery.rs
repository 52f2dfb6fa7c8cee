//! How long a full window of 1 GiB takes to be read at a start, from the disk and not from the system's cache.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use galaxy_push_core::cursor::Epoch;
use galaxy_push_core::window::Bounds;
use galaxy_push_store::DiskStore;
use galaxy_push_store::disk::Options;
use rustix::fs::{Advice, fadvise};

use crate::load::{self, Readers, Source};
use crate::{Spread, cpu_ns};

/// How often it is opened.
const TIMES: usize = 3;

/// The window, in bytes of frames.
const WINDOW_BYTES: u64 = 1 << 30;

/// Prints one row.
pub fn measure(dir: &Path) {
    let scratch = tempfile::tempdir_in(dir).expect("a scratch directory");
    let folder = scratch.path().join("data");
    // Not cut by age or count: all of it is bytes of the window, and as many ids as are remembered lie in it.
    let bounds = Bounds { age: Duration::from_secs(86_400), events: u64::MAX, bytes: WINDOW_BYTES };
    let open = || {
        let readers = Readers::new(bounds);
        let store = DiskStore::open(&folder, Options::of(bounds), Epoch(1), 2, readers.clone());
        (store.expect("it opens"), readers)
    };
    let (store, readers) = open();
    let mut source = Source::new(500);
    while readers.held().1 < WINDOW_BYTES - (1 << 20) {
        load::publish(&store, &mut source, 8, Duration::from_millis(200));
    }
    drop((store, readers));
    let mut columns: [Spread; 4] = Default::default();
    let mut events = 0;
    for _ in 0..TIMES {
        forget_pages(&folder);
        let (cpu, started) = (cpu_ns(), Instant::now());
        let (store, readers) = open();
        let seconds = started.elapsed().as_secs_f64();
        events = readers.held().0;
        let megabytes = store.recovered().bytes as f64 / 1e6;
        let values = [megabytes, seconds, megabytes / seconds, (cpu_ns() - cpu) / 1e9];
        columns.iter_mut().zip(values).for_each(|(column, value)| column.0.push(value));
    }
    println!("| window | events | read, MB | s | MB/s | CPU, s |");
    println!("|---|---|---|---|---|---|");
    let [megabytes, seconds, rate, cpu] = columns;
    println!("| 1 GiB | {events} | {megabytes:.0} | {seconds:.2} | {rate:.0} | {cpu:.2} |");
}

/// Has the system's cache let go of the files, so that they are read from the disk.
fn forget_pages(folder: &Path) {
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let file = File::open(entry.expect("an entry").path()).expect("it opens");
        file.sync_all().expect("it syncs");
        fadvise(&file, 0, None, Advice::DontNeed).expect("the system knows the advice");
    }
}
