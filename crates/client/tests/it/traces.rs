//! What a tracer sees of publishing and handling, and that an event's own context is never replaced.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use galaxy_push_client::trace::{Span, Step, TraceParent, Tracer};
use galaxy_push_client::{Batch, BatchHandler, HandlerError, Item, Publisher, State, Tracing};
use galaxy_push_proto::v1::{self, push_event::Kind};

use crate::hub::{Dial, Hub, at, caught_up, event, frame, until, welcome};
use crate::hub::{Notes, Step as Play, settle};

const CARRIED: &str = "00-0000000000000000000000000000000a-000000000000000b-01";

/// Writes down each step and how it ended.
#[derive(Clone, Debug, Default)]
struct Notebook(Arc<Mutex<Vec<String>>>);

#[derive(Debug)]
struct Line {
    book: Notebook,
    text: String,
    ended: bool,
}

impl Tracer for Notebook {
    fn begin(&self, step: Step<'_>) -> Option<Box<dyn Span>> {
        let parent = step.parent.map(|parent| format!(" in {:x}", parent.span_id)).unwrap_or_default();
        let text = format!("{:?} {}{parent}", step.operation, step.id).to_lowercase();
        Some(Box::new(Line { book: self.clone(), text, ended: false }))
    }
}

impl Span for Line {
    fn context(&self) -> TraceParent {
        TraceParent { trace_id: 1, span_id: 2, flags: 1 }
    }

    fn end(mut self: Box<Self>, outcome: Result<&str, &str>) {
        self.ended = true;
        let outcome = outcome.map_or_else(|why| format!("failed: {why}"), |_| "done".into());
        self.book.0.lock().unwrap().push(format!("{} {outcome}", self.text));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.ended {
            self.book.0.lock().unwrap().push(format!("{} given up", self.text));
        }
    }
}

impl Notebook {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn traced(seq: u64, id: &str) -> Play {
    let attributes = [("traceparent".to_owned(), CARRIED.to_owned())].into();
    frame(&at(seq), Kind::Event(v1::Event { id: id.into(), attributes, ..Default::default() }))
}

fn hub() -> Hub {
    let steps = vec![welcome(&at(5)), traced(6, "a"), event(7), traced(8, "b"), caught_up(8)];
    Hub::new([Dial::Serve([steps, vec![Play::Sleep(Duration::MAX)]].concat())])
}

#[tokio::test(start_paused = true)]
async fn a_publisher_begins_a_trace_where_there_is_none() {
    let hub = Hub::new([]);
    let book = Notebook::default();
    let builder = Publisher::builder().hub("http://hub").connector(hub.connector()).random(|| u64::MAX);
    let publisher = builder.tracing(Tracing::to(book.clone())).give_up_after(Duration::from_secs(1));
    let carries = v1::Event {
        id: "b".into(),
        attributes: [("traceparent".to_owned(), CARRIED.to_owned())].into(),
        ..Default::default()
    };
    let events = vec![v1::Event { id: "a".into(), ..Default::default() }, carries];
    publisher.build().unwrap().publish(events).await.unwrap_err();
    let told = book.take();
    assert!(told[0].starts_with("send a failed:") && told[1].starts_with("send b in b failed:"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_handler_continues_the_trace_that_an_event_carries() {
    let (hub, book, mut failures) = (hub(), Notebook::default(), 1);
    let handler = move |item: Item| {
        let fails = matches!(item, Item::Event(_)) && std::mem::take(&mut failures) > 0;
        async move { if fails { Err(HandlerError::msg("oops")) } else { Ok(()) } }
    };
    let client = hub.client().tracing(Tracing::to(book.clone())).start(handler).unwrap();
    until(&client, |status| status.state == State::Live && status.cursor == at(8)).await;
    settle().await;
    assert_eq!(book.take(), ["process a in b failed: oops", "process a in b done", "process b in b done"]);
}

struct Half(bool);

impl BatchHandler for Half {
    async fn handle(&mut self, batch: &mut Batch) -> Result<(), HandlerError> {
        if std::mem::replace(&mut self.0, true) {
            return Ok(());
        }
        while matches!(batch.items().first(), Some(item) if item.cursor() != at(7)) {
            batch.finish_one();
        }
        Err(HandlerError::msg("half way"))
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_batch_that_fails_half_way_the_first_half_went_well() {
    let (hub, book) = (hub(), Notebook::default());
    let client = hub.client().tracing(Tracing::to(book.clone())).start_batches(Half(false)).unwrap();
    until(&client, |status| status.state == State::Live && status.cursor == at(8)).await;
    settle().await;
    let told = book.take();
    assert_eq!(told.iter().filter(|line| line.ends_with("done")).count(), 2, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_delivery_is_processed_until_its_ack() {
    let (hub, book) = (hub(), Notebook::default());
    let mut stream = hub.client().tracing(Tracing::to(book.clone())).stream().unwrap();
    let mut held = Vec::new();
    while held.len() < 5 {
        held.push(stream.next().await.unwrap());
    }
    assert_eq!(book.take(), [""; 0]);
    held.into_iter().for_each(galaxy_push_client::Delivery::ack);
    assert_eq!(book.take(), ["process a in b done", "process b in b done"]);
}

#[tokio::test(start_paused = true)]
async fn what_carries_no_context_is_not_traced() {
    let steps = vec![welcome(&at(5)), event(6), caught_up(6), Play::Sleep(Duration::MAX)];
    let (hub, book, notes) = (Hub::new([Dial::Serve(steps)]), Notebook::default(), Notes::default());
    let client = hub.client().tracing(Tracing::to(book.clone())).start(notes.handler()).unwrap();
    until(&client, |status| status.state == State::Live).await;
    assert_eq!(book.take(), [""; 0]);
}
