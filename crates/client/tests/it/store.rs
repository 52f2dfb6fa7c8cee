//! A cursor outlives the client, and a store that fails holds nobody up.

use std::fs;
use std::future::{pending, ready};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use galaxy_push_client::{
    BuildError, CursorStore, FileCursorStore, Item, MemoryCursorStore, State, StoreError,
};
use galaxy_push_proto::v1::{self, push_event::Kind};
use tokio::time::Instant;

use crate::hub::{Dial, Hub, Notes, Step, at, caught_up, event, frame, status, until, welcome};

/// A directory of its own that is gone after the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("galaxy-push-store-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("cursor")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A hub that goes on from any cursor, up to 9.
fn hub() -> Hub {
    Hub::new((0..4).map(|_| {
        Dial::Answer(Arc::new(|cursor| {
            let from = (0..=9).find(|seq| at(*seq) == cursor).unwrap_or(4);
            let events = (from + 1..=9).map(event);
            let start = [welcome(&at(from))].into_iter().chain(events);
            start.chain([caught_up(9), Step::Sleep(Duration::MAX)]).collect()
        }))
    }))
}

#[tokio::test(start_paused = true)]
async fn the_next_client_goes_on_where_the_last_one_stopped() {
    let (directory, hub) = (Directory::new(), hub());
    let notes = Notes::default();
    for start in ["oldest", "never used again"] {
        let store = FileCursorStore::new(directory.file());
        let client = hub.client().cursor(start).cursor_store(store).start(notes.handler()).unwrap();
        until(&client, |status| status.state == State::Live && status.stored == at(9)).await;
        client.shutdown().await;
        assert_eq!(fs::read_to_string(directory.file()).unwrap(), format!("{}\n", at(9)));
    }
    assert_eq!(hub.cursors(), ["oldest".to_owned(), at(9)]);
    assert_eq!(notes.text(), "Welcome 5 6 7 8 9 CaughtUp Welcome CaughtUp");
    let files: Vec<_> = fs::read_dir(&directory.0).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["cursor"], "nothing else is left behind");
}

#[tokio::test(start_paused = true)]
async fn each_item_is_stored_before_the_next_one_is_handled() {
    let store = MemoryCursorStore::default();
    let (shown, seen) = (store.clone(), Arc::new(Mutex::new(Vec::new())));
    let noted = seen.clone();
    let client = hub().client().cursor("oldest").cursor_store(store).start(move |item: Item| {
        noted.lock().unwrap().push((item.cursor().to_owned(), shown.cursor()));
        ready(Ok(()))
    });
    until(&client.unwrap(), |status| status.stored == at(9)).await;
    let seen = seen.lock().unwrap();
    assert_eq!(seen[..2], [(at(4), None), (at(5), Some(at(4)))]);
    assert!(seen.windows(2).all(|pair| pair[1].1.as_ref() == Some(&pair[0].0)), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_stores_what_was_handled_since() {
    let store = MemoryCursorStore::holding(at(4));
    let builder = hub().client().cursor_store(store.clone()).save_every(1000, Duration::from_secs(3600));
    let client = builder.start(Notes::default().handler()).unwrap();
    until(&client, |status| status.cursor == at(9)).await;
    assert_eq!(store.cursor(), Some(at(4)));
    let last = client.shutdown().await;
    assert_eq!((store.cursor(), last.stored.clone(), last.counters.saves), (Some(at(9)), last.cursor, 1));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_no_cursor_is_told_and_replaced() {
    for content in [&b"rubbish"[..], b"\xff\xfe", b"", b"\n", &[b'x'; 70_000], b"9.\0"] {
        let directory = Directory::new();
        fs::write(directory.file(), content).unwrap();
        let malformed = galaxy_push_proto::Failure::new(galaxy_push_proto::Reason::CursorMalformed, "no");
        let hub = Hub::new((0..2).map(|_| {
            let malformed = malformed.clone();
            Dial::Answer(Arc::new(move |cursor| match cursor {
                "oldest" => vec![welcome(&at(0)), event(1), caught_up(1), Step::Sleep(Duration::MAX)],
                "" => panic!("an empty file is no wish to skip everything"),
                _ => vec![status(&malformed)],
            }))
        }));
        let notes = Notes::default();
        let store = FileCursorStore::new(directory.file());
        let client = hub.client().cursor_store(store).start(notes.handler()).unwrap();
        until(&client, |status| status.stored == at(1)).await;
        client.shutdown().await;
        assert_eq!(notes.text(), "gap:CursorUnreadable Welcome 1 CaughtUp");
        assert_eq!(fs::read_to_string(directory.file()).unwrap(), format!("{}\n", at(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stored_cursor_of_version_1_is_a_told_gap_and_never_a_wedge() {
    const VERSION_1: &str = "1.AAAAAAAAAAAAAAAAAAAAAQ.7";
    let directory = Directory::new();
    fs::write(directory.file(), format!("{VERSION_1}\n")).unwrap();
    let hub = Hub::new([Dial::Answer(Arc::new(|_| {
        let reason = v1::GapReason::EpochChanged.into();
        let gap = v1::Gap { reason, from: VERSION_1.into(), to: at(8), ..Default::default() };
        let gap = frame(&at(8), Kind::Gap(gap));
        vec![welcome(VERSION_1), gap, event(9), caught_up(9), Step::Sleep(Duration::MAX)]
    }))]);
    let notes = Notes::default();
    let store = FileCursorStore::new(directory.file());
    let client = hub.client().cursor_store(store).start(notes.handler()).unwrap();
    until(&client, |status| status.stored == at(9)).await;
    client.shutdown().await;
    assert_eq!(
        (hub.cursors(), notes.text()),
        (vec![VERSION_1.into()], "Welcome gap:EpochChanged 9 CaughtUp".into())
    );
    assert_eq!(fs::read_to_string(directory.file()).unwrap(), format!("{}\n", at(9)));
}

#[tokio::test(start_paused = true)]
async fn a_person_may_write_the_file() {
    let directory = Directory::new();
    fs::write(directory.file(), "  oldest\r\n").unwrap();
    let hub = hub();
    let client = hub.client().cursor_store(FileCursorStore::new(directory.file()));
    until(&client.start(Notes::default().handler()).unwrap(), |status| status.stored == at(9)).await;
    assert_eq!(hub.cursors(), ["oldest"]);
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_is_not_there_is_told_and_shown() {
    let (directory, notes) = (Directory::new(), Notes::default());
    let store = FileCursorStore::new(directory.0.join("not mounted").join("cursor"));
    let client = hub().client().cursor_store(store).start(notes.handler()).unwrap();
    let status = until(&client, |status| status.state == State::Live).await;
    assert!(notes.text().starts_with("gap:CursorUnreadable Welcome 5 6"), "{}", notes.text());
    let trouble = status.store.unwrap();
    assert!(trouble.error.contains("not mounted"), "{}", trouble.error);
    assert!(client.shutdown().await.counters.store_failures >= 5);
}

#[tokio::test]
async fn what_a_file_held_survives_a_save_that_fails() {
    let directory = Directory::new();
    let mut store = FileCursorStore::new(directory.file());
    assert_eq!(store.load().await.unwrap(), None);
    store.save("first").await.unwrap();
    fs::create_dir(directory.0.join("cursor.new")).unwrap();
    let error = store.save("second").await.unwrap_err();
    assert!(error.to_string().contains("cursor"), "{error}");
    assert_eq!(store.load().await.unwrap().as_deref(), Some("first"));
    fs::remove_dir(directory.0.join("cursor.new")).unwrap();
    store.save("third").await.unwrap();
    assert_eq!(store.load().await.unwrap().as_deref(), Some("third"));
}

/// Fails as often as it is told to, then works; or hangs, or panics.
#[derive(Clone)]
struct Faulty {
    fails: u32,
    how: &'static str,
    saved: Arc<Mutex<Vec<String>>>,
}

impl Faulty {
    fn new(fails: u32, how: &'static str) -> Self {
        Self { fails, how, saved: Arc::default() }
    }
}

impl CursorStore for Faulty {
    async fn load(&mut self) -> Result<Option<String>, StoreError> {
        Ok(Some(at(4)))
    }

    async fn save(&mut self, cursor: &str) -> Result<(), StoreError> {
        if let Some(left) = self.fails.checked_sub(1) {
            self.fails = left;
            match self.how {
                "hangs" => pending().await,
                "panics" => panic!("bug"),
                error => return Err(error.into()),
            }
        }
        self.saved.lock().unwrap().push(cursor.to_owned());
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_shown_and_tried_again_and_holds_nobody_up() {
    for (how, error) in [
        ("disk full", "disk full"),
        ("panics", "the cursor store panicked: bug"),
        ("hangs", "the cursor store did not answer in time"),
    ] {
        let store = Faulty::new(4, how);
        let saved = store.saved.clone();
        let before = Instant::now();
        let client = hub().client().cursor_store(store).start(Notes::default().handler()).unwrap();
        let status = until(&client, |status| status.cursor == at(9)).await;
        let trouble = status.store.unwrap();
        assert_eq!((&*trouble.error, trouble.failures), (error, 1));
        assert!(before.elapsed() <= Duration::from_secs(6), "one hanging save at most is waited for");
        let status = until(&client, |status| status.stored == at(9)).await;
        assert_eq!((status.store, status.counters.store_failures, status.counters.dials), (None, 4, 1));
        assert_eq!(*saved.lock().unwrap(), [at(9)]);
        client.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn at_most_once_calls_nobody_while_the_store_fails() {
    let notes = Notes::default();
    let store = Faulty::new(4, "disk full");
    let before = Instant::now();
    let client = hub().client().cursor_store(store).at_most_once().start(notes.handler()).unwrap();
    until(&client, |status| status.counters.store_failures == 3).await;
    assert_eq!(notes.text(), "Welcome", "its cursor is stored already");
    until(&client, |status| status.cursor == at(9)).await;
    assert_eq!(before.elapsed().as_secs_f64().round(), 2.0, "200 + 200 + 400 + 800 ms");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_a_store_that_hangs_and_no_longer_than_five_seconds() {
    let builder = hub().client().cursor_store(Faulty::new(9, "hangs"));
    let client =
        builder.save_every(1000, Duration::from_secs(3600)).start(Notes::default().handler()).unwrap();
    until(&client, |status| status.cursor == at(9)).await;
    let before = Instant::now();
    let last = client.shutdown().await;
    assert_eq!(before.elapsed().as_secs_f64().round(), 5.0);
    assert_eq!((last.state, last.cursor, last.stored), (State::Stopped, at(9), at(4)));
    assert_eq!(last.store.unwrap().failures, 1);
}

#[tokio::test(start_paused = true)]
async fn settings_that_contradict_each_other_are_refused() {
    let store = MemoryCursorStore::default;
    let start = |builder: galaxy_push_client::Builder| builder.start(Notes::default().handler()).unwrap_err();
    let (builder, second) = (|| Hub::new([]).client(), Duration::from_secs(1));
    assert!(matches!(start(builder().at_most_once()), BuildError::NoCursorStore));
    assert!(matches!(start(builder().save_every(2, second)), BuildError::NoCursorStore));
    let every = builder().cursor_store(store()).save_every(0, second);
    assert!(matches!(start(every), BuildError::ZeroSaveEvery));
    let stream = builder().cursor_store(store()).at_most_once().stream();
    assert!(matches!(stream.unwrap_err(), BuildError::AtMostOnceStream));
}
