//! Backends that publish without a break, whatever happens, until they are answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use galaxy_push_client::Publisher;
use galaxy_push_proto::v1;
use galaxy_push_testkit::Recorder;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::truth::Truth;
use crate::publisher::{record_answer, record_calls};
use crate::real::clock_us;
use crate::rng::{Counter, Rng};

/// An answer comes after the longest fault, or never: then the run fails.
const GIVE_UP_AFTER: Duration = Duration::from_secs(240);

/// The most events of a batch.
const BATCH_MAX: u64 = 4;

/// What is published, and by whom.
#[derive(Clone, Debug)]
pub(super) struct Traffic {
    /// Whom it is published for.
    pub(super) recipients: Arc<[String]>,
    pub(super) numbers: Counter,
    /// Events a second, of each backend.
    pub(super) rate: Arc<AtomicU64>,
    /// Extra bytes of each event.
    pub(super) padding: Arc<AtomicU64>,
    pub(super) stop: CancellationToken,
}

/// One connection to the hub that publishes and writes down what it was answered.
#[derive(Debug)]
pub(super) struct Backend {
    name: String,
    publisher: Publisher,
    recorder: Recorder,
    truth: Arc<Truth>,
}

impl Backend {
    pub(super) fn new(
        name: &str,
        hub: &str,
        recorder: &Recorder,
        truth: &Arc<Truth>,
    ) -> anyhow::Result<Self> {
        let publisher = Publisher::builder().hub(hub).give_up_after(GIVE_UP_AFTER).build()?;
        Ok(Self { name: name.to_owned(), publisher, recorder: recorder.process(name), truth: truth.clone() })
    }

    /// One event of this backend.
    pub(super) fn event(&self, id: String, to: Vec<String>, data: String) -> v1::Event {
        v1::Event {
            to,
            id,
            r#type: "chaos.event".into(),
            source: self.name.clone(),
            data: data.into_bytes().into(),
            data_content_type: "application/json".into(),
            ..v1::Event::default()
        }
    }

    /// Publishes until it is answered.
    pub(super) async fn publish(&mut self, events: Vec<v1::Event>) -> anyhow::Result<()> {
        let calls = record_calls(&self.recorder, &events, clock_us());
        let answer = self.publisher.publish(events.clone()).await;
        record_answer(&self.recorder, &calls, &answer, clock_us());
        let published = answer.with_context(|| format!("{} was not answered", self.name))?;
        self.truth.acknowledged(&events, &published);
        Ok(())
    }
}

/// Publishes until it is told to stop: batches, now and then with an event that was published before.
pub(super) async fn run(mut backend: Backend, traffic: Traffic, mut rng: Rng) -> anyhow::Result<()> {
    let mut earlier: Vec<v1::Event> = Vec::new();
    while !traffic.stop.is_cancelled() {
        let mut events: Vec<_> =
            (0..1 + rng.below(BATCH_MAX)).map(|_| draw(&backend, &traffic, &mut rng)).collect();
        let pause =
            Duration::from_secs(events.len() as u64) / traffic.rate.load(Ordering::Relaxed).max(1) as u32;
        if !earlier.is_empty() && rng.percent(5) {
            events.push(rng.pick(&earlier).clone());
        }
        earlier.clone_from(&events);
        backend.publish(events).await?;
        tokio::select! {
            biased;
            () = traffic.stop.cancelled() => {}
            () = sleep(pause) => {}
        }
    }
    Ok(())
}

fn draw(backend: &Backend, traffic: &Traffic, rng: &mut Rng) -> v1::Event {
    let number = traffic.numbers.next();
    let mut to = vec![rng.pick(&traffic.recipients).clone()];
    if rng.percent(15) {
        to.push(rng.pick(&traffic.recipients).clone());
    }
    let padding = traffic.padding.load(Ordering::Relaxed) + rng.below(200);
    let data = format!(r#"{{"n":{number},"padding":"{}"}}"#, "x".repeat(padding as usize));
    backend.event(format!("e{number}"), to, data)
}
