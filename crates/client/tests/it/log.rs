//! What an operator reads in the log of a client.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use galaxy_push_client::{HandlerError, Item, RetryPolicy, State};
use tokio::time::sleep;
use tonic::Code;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::hub::{Dial, Hub, Notes, Step, at, caught_up, code, event, heartbeats, settle, until, welcome};

/// The lines of one test from INFO up, each as `LEVEL message name=value …`.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn listen() -> (Self, DefaultGuard) {
        let lines = Self::default();
        let guard = tracing::subscriber::set_default(lines.clone());
        (lines, guard)
    }

    fn of(&self, text: &str) -> Vec<String> {
        self.0.lock().unwrap().iter().filter(|line| line.contains(text)).cloned().collect()
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.0.insert_str(0, &format!("{value:?}")),
            name => write!(self.0, " {name}={value:?}").unwrap(),
        }
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("galaxy_push_client")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(format!("{} {}", event.metadata().level(), line.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test(start_paused = true)]
async fn every_line_names_the_gateway_and_a_failing_handler_its_cursor_and_no_more_often_than_it_doubles() {
    let (lines, _guard) = Lines::listen();
    let life = vec![welcome(&at(5)), event(6), caught_up(6)];
    let hub = Hub::new([
        Dial::Serve([life, heartbeats(6, 2), vec![Step::Cut]].concat()),
        Dial::Refused,
        Dial::Serve(vec![code(Code::PermissionDenied)]),
    ]);
    let client = hub.client().start(async |item: Item| match item {
        Item::Event(_) => Err(HandlerError::msg("no")),
        _ => Ok(()),
    });
    let client = client.unwrap();
    sleep(Duration::from_secs(600)).await;
    let failures = client.counters().handler_failures;
    assert!(failures > 64, "{failures}");
    let told = lines.of("the handler failed");
    assert_eq!(told.len(), 1 + failures.ilog2() as usize, "{told:?}");
    assert!(told.iter().all(|line| line.contains(&format!("cursor={:?}", at(6)))), "{told:?}");
    client.shutdown().await;

    let hub = Hub::new([
        Dial::Serve([vec![welcome(&at(5)), caught_up(5)], vec![Step::Cut]].concat()),
        Dial::Refused,
        Dial::Serve(vec![code(Code::PermissionDenied)]),
    ]);
    let client = hub.client().start(Notes::default().handler()).unwrap();
    until(&client, |status| status.state == State::Refused).await;
    let all = lines.0.lock().unwrap().clone();
    assert!(all.len() > 6 && all.iter().all(|line| line.contains("gateway=\"gateway-1\"")), "{all:?}");
    client.shutdown().await;
    assert_eq!(lines.of("dropped"), [""; 0], "a shutdown is no accident");
}

/// The fault: two lines for each call of a dead letter that failed, for as long as it failed.
#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_fails_is_told_no_more_often_than_it_doubles() {
    let (lines, _guard) = Lines::listen();
    let life = [vec![welcome(&at(5)), event(6), caught_up(6)], heartbeats(6, 999)].concat();
    let hub = Hub::new([Dial::Serve(life)]);
    let retry = RetryPolicy::times(1);
    let client = hub.client().retry(retry).dead_letter(async |_: Item, _| Err(HandlerError::msg("full")));
    let client = client.start(async |item: Item| match item {
        Item::Event(_) => Err(HandlerError::msg("no")),
        _ => Ok(()),
    });
    let client = client.unwrap();
    sleep(Duration::from_secs(1_200)).await;
    let failures = client.counters().dead_letter_failures;
    assert!(failures > 64, "{failures}");
    for line in ["an item is given up", "the dead letter failed"] {
        let told = lines.of(line).len();
        assert!(told >= 2 && told <= 2 + failures.ilog2() as usize, "{line}: {told} of {failures}");
    }
    client.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_dropped_says_so() {
    let (lines, _guard) = Lines::listen();
    let hub = Hub::new([Dial::Serve(vec![welcome(&at(5)), caught_up(5), Step::Sleep(Duration::MAX)])]);
    let client = hub.client().start(Notes::default().handler()).unwrap();
    let other = client.clone();
    drop(client);
    settle().await;
    assert_eq!(lines.of("dropped"), [""; 0], "there is another handle");
    drop(other);
    let said = lines.of("the last handle of the client was dropped");
    assert!(
        matches!(&said[..], [line] if line.starts_with("WARN ") && line.contains("gateway-1")),
        "{said:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_refuses_is_told_although_the_next_takes_the_client() {
    let (lines, _guard) = Lines::listen();
    let hub = Hub::new([
        Dial::Serve(vec![code(Code::PermissionDenied)]),
        Dial::Serve(vec![welcome(&at(5)), caught_up(5), Step::Sleep(Duration::MAX)]),
    ])
    .of_several();
    let client = hub.client().hub("http://b").start(Notes::default().handler()).unwrap();
    until(&client, |status| status.state == State::Live).await;
    assert_eq!(hub.dialed_hosts(), ["hub", "b"]);
    assert!(hub.dial_times()[1] < 0.1, "{:?}: at once", hub.dial_times());
    let said = lines.of("PERMISSION_DENIED");
    assert!(
        matches!(&said[..], [line] if line.contains("hub=\"http://hub\"") && line.contains("wait=0ns")),
        "{said:?}"
    );
}
