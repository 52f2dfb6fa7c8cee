//! The stores keep what every store promises, also with many publishers on many threads.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod disk;
mod look;
#[cfg(feature = "nats")]
mod nats;
mod promises;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use galaxy_push_core::Now;
use galaxy_push_core::cursor::{Cursor, Epoch};
use galaxy_push_proto::v1;
use galaxy_push_store::standing::Full;
use galaxy_push_store::{
    Batch, Committed, DedupBounds, Error, MemoryStore, Refused, Sink, Store, conformance,
};

#[tokio::test]
async fn conforms() {
    let epochs = AtomicU64::new(1);
    conformance::check(|sink| {
        let epoch = Epoch(epochs.fetch_add(1, Ordering::Relaxed).into());
        Ok(Arc::new(MemoryStore::new(epoch, DedupBounds::default(), sink)))
    })
    .await;
}

/// Two logs never share an epoch as long as nobody opens two with one: a store adds no doing of its own.
#[tokio::test]
async fn a_log_lives_in_the_epoch_it_was_opened_with() {
    struct Base(Mutex<Option<Cursor>>);
    impl Sink for Base {
        fn begin(&self, base: Cursor) {
            *self.0.lock().unwrap() = Some(base);
        }

        fn committed(&self, batch: &[Committed]) {
            assert!(
                batch
                    .iter()
                    .all(|event| Some(event.cursor.epoch) == self.0.lock().unwrap().map(|at| at.epoch))
            );
        }

        fn damaged(&self, _: Cursor, _: Cursor) {}
    }
    for epoch in [Epoch(1), Epoch(2), Epoch(u128::MAX)] {
        let base = Arc::new(Base(Mutex::default()));
        let store = MemoryStore::new(epoch, DedupBounds::default(), base.clone());
        assert_eq!(*base.0.lock().unwrap(), Some(Cursor::start(epoch)));
        let appended = store.append(Batch::encode(&[event("a")], &Arc::default(), at(0))).await.unwrap();
        assert_eq!(appended[0].cursor, Some(Cursor::start(epoch).next()));
    }
}

#[derive(Default)]
struct Positions(Mutex<Vec<u64>>);

impl Sink for Positions {
    fn begin(&self, _: Cursor) {}

    fn committed(&self, batch: &[Committed]) {
        self.0.lock().unwrap().extend(batch.iter().map(|event| event.cursor.seq.0));
    }

    fn damaged(&self, _: Cursor, _: Cursor) {}
}

fn event(id: &str) -> v1::Event {
    v1::Event {
        to: vec!["all".into()],
        id: id.into(),
        source: "/s".into(),
        r#type: "t".into(),
        ..Default::default()
    }
}

fn at(seconds: u64) -> Now {
    Now { mono: Duration::from_secs(seconds), unix_ms: 0 }
}

/// C2, C5: every acknowledged id once, in one order, however many threads publish and repeat one another.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_that_repeat_each_other_append_each_id_once() {
    let sink = Arc::new(Positions::default());
    let store = Arc::new(MemoryStore::new(Epoch(1), DedupBounds::default(), sink.clone()));
    let publishers = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut answers = Vec::new();
            for id in 0..500 {
                answers.push(
                    store
                        .append(Batch::encode(&[event(&id.to_string())], &Arc::default(), at(0)))
                        .await
                        .unwrap()[0]
                        .cursor,
                );
            }
            answers
        })
    });
    let publishers: Vec<_> = publishers.collect();
    let mut answers = Vec::new();
    for publisher in publishers {
        answers.push(publisher.await.unwrap());
    }
    assert!(answers.iter().all(|each| *each == answers[0]), "one position per id, whoever asks");
    assert_eq!(*sink.0.lock().unwrap(), (1..=500).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_id_may_be_used_again_outside_the_window() {
    let bounds = DedupBounds { age: Duration::from_secs(120), ids: 10, ..DedupBounds::default() };
    let store = MemoryStore::new(Epoch(1), bounds, Arc::new(Positions::default()));
    let append = async |seconds| {
        store.append(Batch::encode(&[event("a")], &Arc::default(), at(seconds))).await.unwrap()[0].duplicate
    };
    assert!(!append(1).await);
    assert!(append(121).await);
    assert!(!append(122).await, "counted from the first publish, not from the last repeat");
}

struct Broken;

impl Sink for Broken {
    fn begin(&self, _: Cursor) {}

    fn committed(&self, _: &[Committed]) {
        panic!("the sink broke");
    }

    fn damaged(&self, _: Cursor, _: Cursor) {}
}

#[tokio::test]
async fn a_log_whose_sink_may_have_a_hole_takes_nothing_more() {
    let store = Arc::new(MemoryStore::new(Epoch(1), DedupBounds::default(), Arc::new(Broken)));
    let first = {
        let store = store.clone();
        tokio::spawn(async move { store.append(Batch::encode(&[event("a")], &Arc::default(), at(0))).await })
    };
    assert!(first.await.unwrap_err().is_panic());
    let second = store.append(Batch::encode(&[event("b")], &Arc::default(), at(0))).await;
    assert!(matches!(second, Err(Error::Refused(Refused::Unavailable(_)))), "{second:?}");
}

/// Refused before anything is appended: the position that the batch would have had goes to the next one.
#[tokio::test]
async fn a_full_set_of_records_refuses_the_whole_batch() {
    let sink = Arc::new(Positions::default());
    let store = MemoryStore::with_records(Epoch(1), DedupBounds::default(), 2, sink.clone());
    let member = |topic: &str| v1::Membership {
        recipient: "user:1".into(),
        topic: topic.into(),
        member: true,
        expires_at: None,
    };
    let append = async |topics: &[&str]| {
        let records: Vec<_> = topics.iter().map(|topic| member(topic)).collect();
        store.append(Batch::memberships(&records, at(1))).await.map(|appended| appended.len())
    };
    let full = || {
        let kind = galaxy_push_core::frame::LogKind::Membership;
        Err(Error::Refused(Refused::StandingFull(Full { kind, records_max: 2, publisher: None })))
    };
    assert_eq!(append(&["a", "b", "c"]).await, full());
    assert_eq!(append(&["a", "b", "a"]).await, Ok(3));
    assert_eq!(append(&["a", "c"]).await, full());
    assert!(
        store.append(Batch::encode(&[event("a")], &Arc::default(), at(1))).await.is_ok(),
        "events are not concerned"
    );
    assert_eq!(*sink.0.lock().unwrap(), [1, 2, 3, 4]);
}
