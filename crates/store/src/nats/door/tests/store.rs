//! A store on a stream that lies in memory, so that what a door does is held to what every store promises.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{self, BoxFuture, FutureExt as _};
use galaxy_push_core::cursor::Cursor;
use galaxy_push_core::frame::LogKind;

use super::{Door, EPOCH, Limits, Message, Output, settings};
use crate::nats::standing::Records;
use crate::standing::{self, Count, Fill, Page};
use crate::{Appended, Batch, Error, Refused, Sink, Store, conformance};

/// The stream and its one reader, which writes too.
struct OnStream {
    sink: Arc<dyn Sink>,
    state: Mutex<(Door<()>, u64)>,
    records: Mutex<Records>,
}

impl OnStream {
    fn open(sink: Arc<dyn Sink>) -> Self {
        let (mut door, mut told) = (Door::new(settings(Limits::default())), Vec::new());
        door.caught_up(&mut told);
        told.iter().for_each(|told| told.tell(&*sink, true));
        let records = Records::new(EPOCH, standing::RECORDS_MAX);
        Self { sink, state: Mutex::new((door, 0)), records: Mutex::new(records) }
    }

    fn append_now(&self, batch: Batch) -> Result<Vec<Appended>, Error> {
        let mut state = self.state.lock().unwrap();
        let (door, stored) = &mut *state;
        let now = batch.now.mono;
        door.offer(batch, (), now);
        let mut told = Vec::new();
        while let Some(sealed) = door.seal(now) {
            *stored += 1;
            let message =
                Message { number: *stored, stamp_unix_ms: 1_700_000_000_000, payload: sealed.payload };
            door.read(&message, now, &mut told).unwrap();
        }
        for told in &told {
            if let Output::Records(records) = told {
                records.iter().for_each(|record| _ = self.records.lock().unwrap().apply(record, u64::MAX));
            }
            told.tell(&*self.sink, true);
        }
        door.take_answers().pop().unwrap().1
    }
}

impl Store for OnStream {
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<Vec<Appended>, Error>> {
        future::lazy(move |_| self.append_now(batch)).boxed()
    }

    fn head(&self) -> BoxFuture<'_, Result<Cursor, Error>> {
        let state = self.state.lock().unwrap();
        let head = state.0.end_of(state.1);
        future::ready(Ok(head)).boxed()
    }

    fn dedup_horizon(&self, now: Duration) -> Duration {
        self.state.lock().unwrap().0.dedup_horizon(now)
    }

    fn standing(&self, after: Option<&standing::Key>, bytes_max: usize, each: usize, unix_ms: u64) -> Page {
        self.records.lock().unwrap().page(after, bytes_max, each, unix_ms)
    }

    fn standing_count(&self, unix_ms: u64) -> Count {
        self.records.lock().unwrap().count(unix_ms)
    }

    fn standing_fill(&self, kind: LogKind, publisher: Option<&str>, unix_ms: u64) -> Fill {
        self.records.lock().unwrap().fill(kind, publisher, unix_ms)
    }
}

#[tokio::test]
async fn a_door_keeps_what_every_store_promises() {
    conformance::check(|sink| Ok(Arc::new(OnStream::open(sink)))).await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_with_what_is_allowed() {
    struct Nobody;
    impl Sink for Nobody {
        fn begin(&self, _: Cursor) {}
        fn committed(&self, _: &[crate::Committed]) {}
        fn damaged(&self, _: Cursor, _: Cursor) {}
    }
    let store = OnStream::open(Arc::new(Nobody));
    let batch = super::batch(&[super::event("a", &"x".repeat(1 << 20))]);
    let refused = store.append(batch).await;
    assert!(matches!(refused, Err(Error::Refused(Refused::TooLarge { .. }))), "{refused:?}");
}
