//! What a handler can read, with this crate alone.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use galaxy_push_client::{
    EventView, GoodbyeReason, Handler, HandlerError, Item, Outcome, State, v1, v1::push_event::Kind,
};

use crate::hub::{Dial, Hub, Step, at, caught_up, frame, until};

fn whole_event() -> v1::Event {
    v1::Event {
        to: vec!["user:42".into(), "all".into()],
        id: "7".into(),
        r#type: "order.shipped".into(),
        data: "{}".into(),
        data_content_type: "application/json".into(),
        time: Some(SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(1_500)).unwrap().into()),
        source: "/orders".into(),
        subject: "order 7".into(),
        collapse_key: "o7".into(),
        ttl: Some(Duration::from_secs(9).try_into().unwrap()),
        attributes: [("a", "1"), ("b", "2")].map(|(key, value)| (key.into(), value.into())).into(),
        ephemeral: false,
    }
}

fn read(event: EventView<'_>) -> v1::Event {
    v1::Event {
        to: event.recipients().map(str::to_owned).collect(),
        id: event.id().into(),
        r#type: event.event_type().into(),
        data: event.data().to_vec().into(),
        data_content_type: event.content_type().into(),
        time: event
            .time_unix_ns()
            .map(|ns| SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(ns as u64)).unwrap().into()),
        source: event.source().into(),
        subject: event.subject().into(),
        collapse_key: event.collapse_key().into(),
        ttl: event.ttl_ms().map(|ms| Duration::from_millis(ms).try_into().unwrap()),
        attributes: event.attributes().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        ephemeral: event.ephemeral(),
    }
}

/// A handler with state of its own, as people write it first.
struct Reader {
    seen: Arc<Mutex<Vec<String>>>,
    failed: bool,
}

impl Reader {
    async fn fallible(&mut self) -> Result<(), anyhow::Error> {
        self.failed = true;
        Err(anyhow::anyhow!("disk full").context("cannot store"))
    }
}

impl Handler for Reader {
    async fn handle(&mut self, item: Item) -> Result<(), HandlerError> {
        let text = match &item {
            Item::Event(frame) => {
                let event = frame.event().ok_or("no event")?;
                assert_eq!(read(event), whole_event());
                if !self.failed {
                    self.fallible().await?;
                }
                "event".to_owned()
            }
            Item::Welcome(welcome) => {
                assert_eq!(welcome.outcome, Some(Outcome::Resumed));
                format!("{} {} {}", welcome.epoch, welcome.generation, welcome.connection_id)
            }
            Item::FellBehind(behind) => format!("{} {:?}", behind.events, behind.lag),
            Item::Goodbye(goodbye) => {
                assert_eq!((goodbye.reason, goodbye.reconnect), (Some(GoodbyeReason::Draining), true));
                format!("{:?}", goodbye.retry_after)
            }
            _ => return Ok(()),
        };
        self.seen.lock().unwrap().push(text);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn every_field_is_readable_without_a_second_crate() {
    let second = || Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let welcome = v1::Welcome {
        outcome: v1::Outcome::Resumed.into(),
        epoch: "e".into(),
        generation: 3,
        connection_id: "c".into(),
        ..Default::default()
    };
    let goodbye =
        v1::Goodbye { reason: v1::GoodbyeReason::Draining.into(), retry_after: second(), reconnect: true };
    let hub = Hub::new([Dial::Serve(vec![
        frame(&at(5), Kind::Welcome(welcome)),
        caught_up(5),
        frame(&at(5), Kind::FellBehind(v1::FellBehind { events: 8, lag: second() })),
        frame(&at(6), Kind::Event(whole_event())),
        frame(&at(6), Kind::Goodbye(goodbye)),
        Step::Sleep(Duration::MAX),
    ])]);
    let seen = Arc::default();
    let client = hub.client().start(Reader { seen: Arc::clone(&seen), failed: false }).unwrap();
    let trouble = until(&client, |status| status.handler.is_some()).await.handler.unwrap();
    assert_eq!((&*trouble.error, trouble.cursor), ("cannot store: disk full", at(6)));
    until(&client, |status| status.state == State::BackingOff).await;
    assert_eq!(*seen.lock().unwrap(), ["e 3 c", "8 Some(1s)", "event", "Some(1s)"]);
}

#[test]
fn whatever_says_why_is_a_handlers_error() {
    fn of(why: impl Into<HandlerError>) -> String {
        why.into().to_string()
    }
    let boxed: Box<dyn std::error::Error + Send + Sync> = "boxed".into();
    assert_eq!(of(boxed), "boxed");
    assert_eq!(of(anyhow::anyhow!("inner").context("outer")), "outer: inner");
    assert_eq!(of(std::io::Error::other("io")), "io");
    assert_eq!(of("text"), "text");
    assert_eq!(of("text".to_owned()), "text");
}
