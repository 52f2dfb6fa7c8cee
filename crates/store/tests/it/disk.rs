//! The disk store on a real disk: what every store promises, and what a durable one does beyond that.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use galaxy_push_core::cursor::{Cursor, Epoch};
use galaxy_push_store::disk::files::DirectoryError;
use galaxy_push_store::disk::{OpenError, Options};
use galaxy_push_store::{Batch, Committed, DiskStore, Error, Sink, Store, conformance};
use tempfile::TempDir;

use crate::{Broken, Positions, at, event};

fn open(dir: &TempDir, sink: Arc<dyn Sink>) -> Result<Arc<dyn Store>, Error> {
    // Another epoch each time: it is for a new log only.
    let epoch = Epoch(std::ptr::from_ref(&*sink).cast::<u8>().addr() as u128);
    let mut options = Options::default();
    options.segment_bytes = 8 << 10;
    Ok(Arc::new(DiskStore::open(dir.path(), options, epoch, 7, sink).unwrap()))
}

#[tokio::test]
async fn conforms() {
    let dirs = std::sync::Mutex::new(Vec::new());
    conformance::check(|sink| {
        let dir = TempDir::new().unwrap();
        let store = open(&dir, sink);
        dirs.lock().unwrap().push(dir);
        store
    })
    .await;
}

#[tokio::test]
async fn lives_on() {
    conformance::check_durable(|| TempDir::new().unwrap(), open).await;
}

/// Everybody's order is the log's, whatever group and thread brought each to the disk; and it is there in the next life.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_that_publish_at_once_and_repeat_each_other_are_one_log() {
    let (dir, sink) = (TempDir::new().unwrap(), Arc::new(Positions::default()));
    let store = open(&dir, sink.clone()).unwrap();
    let publishers = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let batches = (0..100).map(|id| Batch::encode(&[event(&id.to_string())], &Arc::default(), at(0)));
            // All under way at a time.
            let answers = join_all(batches.map(|batch| store.append(batch))).await;
            answers.into_iter().map(|answer| answer.unwrap()[0].cursor).collect::<Vec<_>>()
        })
    });
    let publishers: Vec<_> = publishers.collect();
    let mut answers = Vec::new();
    for publisher in publishers {
        answers.push(publisher.await.unwrap());
    }
    assert!(answers.iter().all(|each| *each == answers[0]), "one position per id, whoever asks");
    let all: Vec<_> = (1..=100).collect();
    assert_eq!(*sink.0.lock().unwrap(), all);
    assert_eq!(store.disk_figures().map(|figures| figures.entries), Some(100));
    drop(store);
    let again = Arc::new(Positions::default());
    let _store = open(&dir, again.clone()).unwrap();
    assert_eq!(*again.0.lock().unwrap(), all);
}

/// What it should have told is on the disk, and the next life tells it: so nobody is told that it was refused.
#[tokio::test]
async fn a_store_whose_sink_breaks_leaves_nobody_waiting() {
    let dir = TempDir::new().unwrap();
    let (died, has_died) = std::sync::mpsc::channel();
    let mut options = Options::default();
    options.on_death = Some(Arc::new(move |reason: &str| died.send(reason.to_owned()).unwrap()));
    let store = DiskStore::open(dir.path(), options, Epoch(1), 7, Arc::new(Broken)).unwrap();
    let append = |id: u32| store.append(Batch::encode(&[event(&id.to_string())], &Arc::default(), at(0)));
    let answers = tokio::time::timeout(Duration::from_secs(60), join_all((0..50).map(append))).await.unwrap();
    assert!(matches!(answers[0], Err(Error::Unknown(_))), "{:?}", answers[0]);
    assert!(answers.iter().all(Result::is_err), "{answers:?}");
    assert!(matches!(append(50).await, Err(Error::Refused(_))), "this one surely is in no log");
    assert_eq!(has_died.recv().unwrap(), "a thread of the store broke off in a panic");
    drop(store);
    let sink = Arc::new(Positions::default());
    let _store = open(&dir, sink.clone()).unwrap();
    let held = sink.0.lock().unwrap();
    let unknown = answers.iter().filter(|answer| matches!(answer, Err(Error::Unknown(_)))).count();
    assert!(held.first() == Some(&1) && held.len() <= unknown, "{held:?}, {unknown} of {answers:?} unknown");
}

/// What is written into a file that nobody finds again is not kept, whatever a sync says.
#[tokio::test]
async fn a_store_whose_folder_is_taken_away_under_it_takes_nothing_more() {
    fn remove(path: &Path) {
        std::fs::remove_dir_all(path).unwrap();
    }
    fn replace(path: &Path) {
        std::fs::rename(path, path.with_extension("moved")).unwrap();
        std::fs::create_dir(path).unwrap();
    }
    fn remove_what_is_written(path: &Path) {
        std::fs::remove_file(path.join("00000000000000000001.log")).unwrap();
    }
    fn replace_what_is_written(path: &Path) {
        let file = path.join("00000000000000000001.log");
        std::fs::copy(&file, path.join("copy")).unwrap();
        std::fs::rename(path.join("copy"), file).unwrap();
    }
    let ways = [
        (remove as fn(&Path), "its folder"),
        (replace, "its folder"),
        (remove_what_is_written, "00000000000000000001.log"),
        (replace_what_is_written, "00000000000000000001.log"),
    ];
    for (take_away, what) in ways {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("data");
        let (died, has_died) = std::sync::mpsc::channel();
        let mut options = Options::default();
        options.on_death = Some(Arc::new(move |reason: &str| died.send(reason.to_owned()).unwrap()));
        let store = DiskStore::open(&path, options, Epoch(1), 7, Arc::new(Positions::default())).unwrap();
        let append = |id: &str| store.append(Batch::encode(&[event(id)], &Arc::default(), at(0)));
        append("a").await.unwrap();
        store.check_disk();
        append("b").await.unwrap();
        take_away(&path);
        store.check_disk();
        let refused = append("c").await;
        assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
        let reason = has_died.try_recv().unwrap();
        assert!(reason.contains("is not where it was") && reason.contains(what), "{reason}");
        store.check_disk();
        assert!(has_died.try_recv().is_err(), "it is said once");
    }
}

/// It has no part in what is written, so the store goes on: what lies there is carried on from memory when its time comes. But the
/// next start would not find it, and nobody knew before that.
#[tokio::test]
async fn an_older_file_that_is_taken_away_is_told_once() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir, Arc::new(Positions::default())).unwrap();
    let append = |id: u32| store.append(Batch::encode(&[event(&id.to_string())], &Arc::default(), at(0)));
    for id in 0..300 {
        append(id).await.unwrap();
    }
    drop(store);
    // Also those of an earlier life.
    let store = open(&dir, Arc::new(Positions::default())).unwrap();
    let append = |id: u32| store.append(Batch::encode(&[event(&id.to_string())], &Arc::default(), at(0)));
    let name = |number: u32| format!("{number:020}.log");
    assert!(dir.path().join(name(4)).exists());
    assert_eq!(store.check_disk(), [""; 0]);
    std::fs::remove_file(dir.path().join(name(1))).unwrap();
    assert_eq!(store.check_disk(), [name(1)]);
    assert_eq!(store.check_disk(), [""; 0], "it is said once");
    std::fs::copy(dir.path().join(name(2)), dir.path().join("copy")).unwrap();
    std::fs::rename(dir.path().join("copy"), dir.path().join(name(2))).unwrap();
    assert_eq!(store.check_disk(), [name(2)]);
    append(300).await.unwrap();
}

/// What is in a log is nobody else's to read, and two that write one log would lose it.
#[test]
fn a_folder_is_for_its_owner_and_for_one_store() {
    struct Nobody;
    impl Sink for Nobody {
        fn begin(&self, _: Cursor) {}
        fn committed(&self, _: &[Committed]) {}
        fn damaged(&self, _: Cursor, _: Cursor) {}
    }
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("made/here");
    let open = || DiskStore::open(&path, Options::default(), Epoch(1), 7, Arc::new(Nobody));
    let store = open().unwrap();
    assert!(matches!(open().unwrap_err(), OpenError::Directory(DirectoryError::InUse(_))));
    std::fs::remove_file(path.join("lock")).unwrap();
    assert!(open().is_err(), "a lock that somebody took away for a stale one");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&dir.path().join("made"))), (0o700, 0o700));
    let files: Vec<_> = path.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() == 2 && files.iter().all(|file| mode(file) == 0o600), "{files:?}");
    drop(store);
    assert!(open().is_ok(), "the folder is free again");
}
