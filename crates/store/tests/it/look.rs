//! A log that is looked at while it is written, and one that is damaged: what is told is what is there, and nothing is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use galaxy_push_core::Now;
use galaxy_push_core::cursor::{Cursor, Epoch};
use galaxy_push_core::window::Bounds;
use galaxy_push_proto::v1;
use galaxy_push_store::disk::inspect::{Inspection, View};
use galaxy_push_store::disk::{OpenError, Options};
use galaxy_push_store::{Batch, Committed, DiskStore, Sink, Store};
use tempfile::TempDir;

/// What it was handed, which must follow one another.
#[derive(Debug, Default)]
struct Reader(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    at: Option<Cursor>,
    entries: u64,
    gaps: Vec<(Cursor, Cursor)>,
}

impl Sink for Reader {
    fn begin(&self, base: Cursor) {
        self.0.lock().unwrap().at = Some(base);
    }

    fn committed(&self, batch: &[Committed]) {
        let mut seen = self.0.lock().unwrap();
        for entry in batch {
            assert_eq!(Some(entry.cursor), seen.at.map(Cursor::next));
            seen.at = Some(entry.cursor);
        }
        seen.entries += batch.len() as u64;
    }

    fn damaged(&self, from: Cursor, to: Cursor) {
        let mut seen = self.0.lock().unwrap();
        assert_eq!(seen.at, Some(from));
        seen.at = Some(to);
        seen.gaps.push((from, to));
    }
}

fn options() -> Options {
    let mut options = Options::of(Bounds { bytes: 96 << 10, ..Bounds::default() });
    options.segment_bytes = 48 << 10;
    options
}

fn open(dir: &Path) -> DiskStore {
    DiskStore::open(dir, options(), Epoch(5), 7, Arc::new(Reader::default())).unwrap()
}

fn batch(number: u64) -> Batch {
    let events: Vec<_> = (0..1 + number % 7)
        .map(|index| v1::Event {
            to: vec!["all".to_owned()],
            id: format!("{number}.{index}"),
            source: "/s".to_owned(),
            r#type: "t".to_owned(),
            data: vec![b'x'; 700 * (number as usize % 5)].into(),
            ..v1::Event::default()
        })
        .collect();
    Batch::encode(&events, &Arc::default(), Now { mono: Duration::from_secs(1), unix_ms: 1_700_000_000_000 })
}

fn look(dir: &Path) -> Result<Option<(Inspection, Arc<Reader>)>, OpenError> {
    let reader = Arc::new(Reader::default());
    let Some(view) = View::open(dir, std::thread::park_timeout)? else { return Ok(None) };
    let sink: Arc<dyn Sink> = reader.clone();
    Ok(view.read(&sink, None)?.map(|looked| (looked, reader)))
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// The names alone, of a folder whose files come and go.
fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// A folder with a log of some segments, whose store was closed.
fn written() -> TempDir {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for number in 0..60 {
        runtime.block_on(store.append(batch(number))).unwrap();
    }
    dir
}

/// The segments come and go all the time; each look sees one moment, and nothing damaged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_being_written_is_sound_at_every_look() {
    let dir = TempDir::new().unwrap();
    let store = Arc::new(open(dir.path()));
    let (over, acked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writer = {
        let (store, over, acked) = (store.clone(), over.clone(), acked.clone());
        tokio::spawn(async move {
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                let batches = (0..8).map(|index| store.append(batch(number + index)));
                for appended in futures_util::future::join_all(batches).await {
                    let last = appended.unwrap().last().and_then(|last| last.cursor).unwrap();
                    acked.fetch_max(last.seq.0, Ordering::Relaxed);
                }
                number += 8;
            }
        })
    };
    let path = dir.path().to_owned();
    let looks = tokio::task::spawn_blocking(move || {
        let (mut looks, mut segments, mut last) = (0, 0, 0);
        while looks < 150 || last < 1_000 {
            looks += 1;
            let before = acked.load(Ordering::Relaxed);
            let (looked, reader) = look(&path).unwrap().unwrap();
            assert!(looked.recovered.damage.is_empty(), "{:?}", looked.recovered.damage);
            assert!(looked.last.seq.0 >= before, "what was acknowledged is there");
            let seen = reader.0.lock().unwrap();
            assert_eq!(
                (seen.at, seen.entries, seen.gaps.len()),
                (Some(looked.last), looked.recovered.entries, 0)
            );
            segments = segments.max(looked.recovered.segments);
            last = looked.last.seq.0;
        }
        segments
    });
    let segments = looks.await.unwrap();
    over.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    // The store lives on, and takes away what is over.
    let first = names(dir.path()).into_iter().find(|name| name.ends_with(".log")).unwrap();
    assert!(segments >= 3 && first > format!("{:020}.log", 3), "segments came and went: {segments}, {first}");
}

#[test]
fn what_is_damaged_is_told_with_its_place_and_nothing_is_touched() {
    let dir = written();
    let (sound, _) = look(dir.path()).unwrap().unwrap();
    assert_eq!((sound.recovered.damage.len(), sound.recovered.torn), (0, false));
    let (name, mut bytes) = files(dir.path()).into_iter().find(|(name, _)| name.ends_with(".log")).unwrap();
    bytes[20_000] ^= 1;
    fs::write(dir.path().join(&name), bytes).unwrap();
    let before = files(dir.path());
    let (looked, reader) = look(dir.path()).unwrap().unwrap();
    let damage = &looked.recovered.damage;
    assert_eq!(damage[0].file, name);
    assert!(damage[0].bytes.as_ref().is_some_and(|bytes| bytes.contains(&20_000)), "{damage:?}");
    let lost = damage.iter().find_map(|damage| damage.lost).unwrap();
    assert_eq!(reader.0.lock().unwrap().gaps, [lost], "a gap tells the same");
    assert_eq!(looked.last, sound.last);
    let count = lost.1.since(lost.0).unwrap();
    assert_eq!(looked.recovered.entries + count, sound.recovered.entries);
    assert_eq!(files(dir.path()), before, "nothing was touched");
    let again = open(dir.path());
    assert_eq!(again.recovered().damage, *damage, "a hub that opens it finds the same");
}

/// A segment that is being made has no head yet, and one that was taken away half is not needed: neither is damage.
#[test]
fn what_is_begun_and_what_is_over_is_no_damage() {
    let dir = TempDir::new().unwrap();
    assert!(look(dir.path()).unwrap().is_none(), "an empty folder");
    fs::write(dir.path().join(format!("{:020}.log", 1)), [0; 4_096]).unwrap();
    assert!(look(dir.path()).unwrap().is_none(), "the first segment was being made");
    let dir = written();
    let (sound, _) = look(dir.path()).unwrap().unwrap();
    let last =
        files(dir.path()).into_keys().filter_map(|name| name.strip_suffix(".log")?.parse::<u64>().ok());
    let next = dir.path().join(format!("{:020}.log", last.max().unwrap() + 1));
    fs::write(&next, [0; 4_096]).unwrap();
    let (looked, _) = look(dir.path()).unwrap().unwrap();
    assert_eq!((looked.recovered, looked.last), (sound.recovered, sound.last));
    assert!(next.exists(), "it is another's to take away");
}

/// A segment that the hub was about to take away when it ended is the next hub's to take away.
#[test]
fn what_is_needed_no_more_is_passed_over_and_stays() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store.append(batch(0))).unwrap();
    let first =
        |files: BTreeMap<String, _>| files.into_iter().find(|(name, _)| name.ends_with(".log")).unwrap();
    let (name, bytes) = first(files(dir.path()));
    for number in 1..60 {
        runtime.block_on(store.append(batch(number))).unwrap();
    }
    drop(store);
    assert!(first(files(dir.path())).0 > name, "the hub has taken it away");
    let (sound, _) = look(dir.path()).unwrap().unwrap();
    fs::write(dir.path().join(name), bytes).unwrap();
    let before = files(dir.path());
    let (looked, _) = look(dir.path()).unwrap().unwrap();
    assert_eq!((looked.recovered, looked.last), (sound.recovered, sound.last));
    assert!(files(dir.path()) == before, "nothing is touched");
}

#[test]
fn what_cannot_be_read_is_named() {
    let dir = written();
    assert!(matches!(look(&dir.path().join("none")), Err(OpenError::Directory(_))));
    let path = dir.path().join(files(dir.path()).into_keys().next().unwrap());
    let mut bytes = fs::read(&path).unwrap();
    bytes[..1_024].fill(0xA5);
    fs::write(&path, &bytes).unwrap();
    let (looked, _) = look(dir.path()).unwrap().unwrap();
    assert!(looked.recovered.damage[0].what.contains("its head is damaged"), "{:?}", looked.recovered.damage);
    for name in files(dir.path()).into_keys().filter(|name| name.ends_with(".log")) {
        let mut bytes = fs::read(dir.path().join(&name)).unwrap();
        bytes[..1_024].fill(0xA5);
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    assert!(matches!(look(dir.path()), Err(OpenError::Unreadable { .. })));
}

/// Groups that hold nothing but the word that segments are gone, one of them where the hub before had said that it was closed.
#[test]
fn what_lets_segments_go_is_no_damage() {
    let dir = written();
    let (before, _) = look(dir.path()).unwrap().unwrap();
    let store = open(dir.path());
    store.trim(Duration::from_secs(1_000));
    store.trim(Duration::from_secs(10_000));
    drop(store);
    assert_eq!(files(dir.path()).keys().filter(|name| name.ends_with(".log")).count(), 1, "it is idle");
    let (looked, reader) = look(dir.path()).unwrap().unwrap();
    assert_eq!((looked.recovered.damage.len(), looked.recovered.torn), (0, false));
    assert_eq!(looked.last, before.last);
    assert_eq!(reader.0.lock().unwrap().at, Some(before.last));
    let again = open(dir.path());
    assert_eq!(again.recovered().damage, []);
}
