//! What publishers and operators are told by a store whose keeper and syncer are tasks: each answer in time and behind the one
//! that it repeats, and figures that say how the disk is.

use std::future::Future as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::join_all;
use galaxy_push_core::Now;
use galaxy_push_core::cursor::{Cursor, Epoch};
use galaxy_push_core::window::Traits;
use tokio::time::Instant;

use super::super::DiskStore;
use super::super::format::ENDING_BYTES;
use super::super::lock::lock;
use super::super::segments::Outcome;
use super::super::simulated::Disk;
use super::world::{Asked, Life, Publisher, Reader, START_MS, event_of, options, publish, released};
use crate::{Appended, Batch, Committed, Error, Refused, Sink, Store as _};

fn event(id: &str, bytes: usize) -> Batch {
    batch_of([(id, bytes)])
}

/// Events with these ids and lengths.
fn batch_of<'a>(events: impl IntoIterator<Item = (&'a str, usize)>) -> Batch {
    let events = events.into_iter().map(|(id, bytes)| event_of(id, bytes));
    let events: Vec<_> = events.collect();
    Batch::encode(&events, &Arc::default(), Now { mono: Duration::ZERO, unix_ms: START_MS })
}

fn open(disk: &Disk) -> (DiskStore, Arc<Reader>) {
    let reader = Arc::new(Reader::default());
    (DiskStore::open_simulated(disk, options(), Epoch(77), 99, reader.clone()).unwrap(), reader)
}

/// It needs no sync, so that no outcome of one wakes whoever answers.
#[tokio::test(start_paused = true)]
async fn a_repetition_that_comes_alone_is_answered() {
    let (store, _) = open(&Disk::default());
    let first = publish(&store, event("a", 10)).await.unwrap()[0];
    let again = publish(&store, event("a", 10)).await.unwrap()[0];
    assert_eq!(again, Appended { duplicate: true, ..first });
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_full_keeps_nobody_out_for_ever() {
    let (store, reader) = open(&Disk::default());
    let large = join_all((0..12).map(|id| publish(&store, event(&id.to_string(), 1 << 20)))).await;
    assert!(large.iter().all(Result::is_ok), "{large:?}");
    publish(&store, event("behind", 10)).await.unwrap();
    assert_eq!(lock(&reader.0).held.len(), 13);
}

#[tokio::test(start_paused = true)]
async fn the_figures_say_when_there_is_room_again() {
    let disk = Disk::default();
    let (store, _) = open(&disk);
    disk.fill(true);
    let refused = publish(&store, event("a", 10)).await;
    assert!(matches!(refused, Err(Error::Refused(Refused::Unavailable(_)))), "{refused:?}");
    assert!(store.figures().is_full);
    disk.free();
    publish(&store, event("a", 10)).await.unwrap();
    assert!(!store.figures().is_full);
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_the_disk() {
    for seed in 1..20 {
        let begun = Instant::now();
        let disk = Disk::timed(seed, move || begun.elapsed());
        let (store, _) = open(&disk);
        publish(&store, event("a", 10)).await.unwrap();
        assert_eq!(disk.busy_for(), Duration::ZERO, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_is_appended_though_the_store_is_closed() {
    let disk = Disk::default();
    let (store, reader) = open(&disk);
    {
        let mut gone = std::pin::pin!(store.append(event("a", 10)));
        assert_eq!(gone.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending);
    }
    drop(store);
    released(&disk).await;
    assert_eq!(lock(&reader.0).held.len(), 1);
    assert_eq!(open(&disk).0.recovered().entries, 1);
}

/// Else the next life believes that everything is durable, and does not write the last group again.
#[tokio::test(start_paused = true)]
async fn a_store_whose_disk_has_failed_says_so_and_does_not_say_that_it_was_closed() {
    let (disk, told) = (Disk::default(), Arc::new(AtomicUsize::new(0)));
    let (mut options, times) = (options(), told.clone());
    options.on_death = Some(Arc::new(move |_| _ = times.fetch_add(1, Ordering::Relaxed)));
    let store =
        DiskStore::open_simulated(&disk, options, Epoch(77), 99, Arc::new(Reader::default())).unwrap();
    disk.fail_next_sync(true);
    assert!(matches!(publish(&store, event("a", 10)).await, Err(Error::Unknown(_))));
    assert!(matches!(publish(&store, event("b", 10)).await, Err(Error::Refused(_))));
    drop(store);
    released(&disk).await;
    assert_eq!(told.load(Ordering::Relaxed), 1, "once");
    assert_eq!(disk.syncs_after_failure(), 0);
}

/// Whoever has an answer may tell readers of it, who must find the event.
#[test]
fn nobody_is_answered_before_readers_are_told() {
    #[derive(Default)]
    struct Witness {
        asked: Asked,
        answered: Mutex<Vec<bool>>,
    }
    impl Sink for Witness {
        fn begin(&self, _: Cursor) {}
        fn committed(&self, _: &[Committed]) {
            lock(&self.answered).push(self.asked.answer().is_some());
        }
        fn damaged(&self, _: Cursor, _: Cursor) {}
    }
    let (mut life, witness) = (Life::open(&Disk::default()).unwrap(), Witness::default());
    life.engine.stage(event("a", 10), witness.asked.clone());
    let job = life.engine.seal().unwrap();
    let outcome = life.segments.run(&job);
    life.engine.done(outcome);
    life.engine.take_landed().unwrap().deliver(&witness);
    assert_eq!(*lock(&witness.answered), [false]);
    assert!(witness.asked.answer().unwrap().is_ok());
}

#[test]
fn a_repetition_is_answered_behind_what_it_repeats() {
    let mut life = Life::open(&Disk::default()).unwrap();
    let (first, again) = (Asked::default(), Asked::default());
    life.engine.stage(event("a", 10), first.clone());
    let job = life.engine.seal().unwrap();
    let outcome = life.segments.run(&job);
    assert!(matches!(outcome, Outcome::Durable { .. }));
    life.engine.done(outcome);
    life.engine.stage(event("a", 10), again.clone());
    assert!(life.engine.seal().is_none(), "there is nothing to write");
    let sink = life.engine.sink();
    life.engine.take_landed().unwrap().deliver(&*sink);
    assert!(first.answer().is_some() && again.answer().is_none());
    life.engine.settle();
    assert!(again.answer().unwrap().unwrap()[0].duplicate);
}

#[test]
fn the_figures_count_the_bytes_of_the_files() {
    let (disk, mut publisher) = (Disk::default(), Publisher::new(800));
    let mut life = Life::open(&disk).unwrap();
    for _ in 0..100 {
        life.engine.stage(publisher.batch(), Asked::default());
        assert!(life.sync());
        let bytes: usize = disk.files().iter().map(|(_, length)| length).sum();
        assert_eq!(life.engine.disk_bytes(), bytes as u64);
    }
    assert!(life.engine.first_segment() > Some(1), "segments came and went");
}

/// The segment with which an earlier life has ended gives back what it did not need, like any other.
#[test]
fn the_figures_count_the_bytes_of_the_files_over_restarts() {
    let (disk, mut publisher) = (Disk::default(), Publisher::new(801));
    let mut begun = 0;
    for _ in 0..40 {
        let mut life = Life::open(&disk).unwrap();
        for _ in 0..3 {
            let before = disk.files().len();
            life.engine.stage(publisher.batch(), Asked::default());
            assert!(life.sync());
            begun += usize::from(disk.files().len() > before);
            let bytes: usize = disk.files().iter().map(|(_, length)| length).sum();
            assert_eq!(life.engine.disk_bytes(), bytes as u64);
        }
    }
    assert!(begun > 10, "{begun}");
}

/// Else what ends it needs room that nobody has set aside, and a disk that is full by then ends the store.
#[test]
fn every_segment_has_room_for_its_end() {
    for bytes in (4_000..6_000).step_by(16) {
        let disk = Disk::default();
        let mut life = Life::open(&disk).unwrap();
        life.engine.stage(event("a", bytes), Asked::default());
        assert!(life.sync());
        let (name, length) = disk.files().pop().unwrap();
        assert!(life.engine.end_offset() + ENDING_BYTES <= length as u64, "{name}, {bytes} bytes");
    }
}

/// A sink that is handed a batch in two parts would show readers half of it.
#[test]
fn no_batch_is_handed_on_in_two_parts() {
    #[derive(Default)]
    struct Ends(Mutex<Vec<bool>>);
    impl Sink for Ends {
        fn begin(&self, _: Cursor) {}
        fn committed(&self, _: &[Committed]) {}
        fn damaged(&self, _: Cursor, _: Cursor) {}
        fn restored(&self, batches: &[Committed]) {
            lock(&self.0).extend(batches.last().map(|last| !last.traits.has(Traits::CONTINUES)));
        }
    }
    let disk = Disk::default();
    let mut life = Life::open(&disk).unwrap();
    for batch in 0..30 {
        let ids: Vec<_> = (0..100).map(|index| format!("{batch}.{index}")).collect();
        life.engine.stage(batch_of(ids.iter().map(|id| (id.as_str(), 10))), Asked::default());
    }
    assert!(life.sync());
    let ends = Arc::new(Ends::default());
    _ = DiskStore::open_in(Arc::new(disk), options(), Epoch(77), 99, ends.clone()).unwrap();
    assert_eq!(*lock(&ends.0), [true; 3], "as few parts as there may be, each with whole batches");
}
