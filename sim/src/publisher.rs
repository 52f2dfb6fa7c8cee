//! A backend: publishes batches, now and then the same event twice, and writes down what it was answered.

use std::time::Duration;

use galaxy_push_client::{Failure, Published, Publisher};
use galaxy_push_proto::{json, v1};
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{CallId, Name, Position, PubAck, PubCall, What};
use tokio::time::{Instant, sleep};

use crate::frames::{self, event_hash};
use crate::net;
use crate::rng::{Counter, Rng, now_us};

/// How a backend behaves.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its `source`.
    pub source: String,
    /// Whom it publishes for.
    pub recipients: Vec<String>,
    /// The longest pause between two batches.
    pub pause: Duration,
    /// It ends here.
    pub until: Duration,
}

/// Publishes until the plan ends.
///
/// # Errors
///
/// When the client cannot be built.
pub async fn run(
    plan: Plan,
    hub: String,
    recorder: Recorder,
    numbers: Counter,
    mut rng: Rng,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut jitter = Rng::new(rng.draw(), "jitter");
    let mut publisher = Publisher::builder()
        .hub(&format!("http://{hub}:{}", net::PORT))
        .connector(net::connect)
        .random(move || jitter.draw())
        .give_up_after(Duration::from_secs(4))
        .build()?;
    let mut earlier: Vec<v1::Event> = Vec::new();
    while started.elapsed() < plan.until {
        sleep(rng.between(Duration::ZERO, plan.pause)).await;
        let mut events: Vec<_> = (0..1 + rng.below(4)).map(|_| draw(&plan, &numbers, &mut rng)).collect();
        if !earlier.is_empty() && rng.percent(10) {
            events.push(rng.pick(&earlier).clone());
        }
        if rng.percent(3) {
            let to = vec!["nobody".to_owned()];
            events.push(v1::Event { to, ..draw(&plan, &numbers, &mut rng) });
        }
        earlier = events.clone();
        let calls = record_calls(&recorder, &events, now_us());
        let answer = publisher.publish(events).await;
        record_answer(&recorder, &calls, &answer, now_us());
    }
    Ok(())
}

fn draw(plan: &Plan, numbers: &Counter, rng: &mut Rng) -> v1::Event {
    let number = numbers.next();
    let mut to = vec![rng.pick(&plan.recipients).clone()];
    if rng.percent(15) {
        to.push(rng.pick(&plan.recipients).clone());
    }
    let padding = "x".repeat(rng.below(200) as usize);
    let ttl = rng.percent(5).then_some(prost_types::Duration { seconds: 1, nanos: 0 });
    v1::Event {
        to,
        id: format!("e{number}"),
        r#type: "sim.event".into(),
        source: plan.source.clone(),
        data: format!(r#"{{"n":{number},"padding":"{padding}"}}"#).into_bytes().into(),
        data_content_type: "application/json".into(),
        ephemeral: ttl.is_none() && rng.percent(4),
        ttl,
        ..v1::Event::default()
    }
}

/// Writes down that these events are about to be published as one batch.
pub fn record_calls(recorder: &Recorder, events: &[v1::Event], now_us: u64) -> Vec<CallId> {
    let batch = Some(recorder.next_call());
    let calls = events.iter().map(|event| {
        let call = recorder.next_call();
        recorder.record(
            now_us,
            What::PubCall(PubCall {
                call,
                source: event.source.as_str().into(),
                id: event.id.as_str().into(),
                to: event.to.iter().map(|to| Name::from(to.as_str())).collect(),
                hash: hash(event),
                batch,
                ephemeral: event.ephemeral,
            }),
        );
        call
    });
    calls.collect()
}

/// Writes down what was answered.
pub fn record_answer(
    recorder: &Recorder,
    calls: &[CallId],
    answer: &Result<Vec<Published>, Failure>,
    now: u64,
) {
    match answer {
        Ok(published) => {
            for (call, published) in calls.iter().zip(published) {
                let position = position(&published.cursor);
                let ack = PubAck { call: *call, position, duplicate: published.duplicate };
                recorder.record(now, What::PubAck(ack));
            }
        }
        // Such a request is refused by every hub alike, so none of the tries before can have landed.
        Err(Failure::Status(status)) if status.code == i32::from(tonic::Code::InvalidArgument) => {
            calls.iter().for_each(|call| recorder.record(now, What::PubNack(*call)));
        }
        // Another status says that the hub refused, unless a try before it was not answered: then nobody knows.
        Err(_) => calls.iter().for_each(|call| recorder.record(now, What::PubUnknown(*call))),
    }
}

/// The position a cursor text names, if it names one.
#[must_use]
pub fn position(cursor: &str) -> Option<Position> {
    match frames::cursor(cursor) {
        galaxy_push_testkit::history::Cursor::At(position) => Some(position),
        _ => None,
    }
}

/// The fingerprint of an event before it was published.
#[must_use]
pub fn hash(event: &v1::Event) -> galaxy_push_testkit::history::Hash {
    let form = json::event_data(event, json::View::Full);
    let form = serde_json::from_slice(&form).unwrap_or_default();
    event_hash(&form).unwrap_or(galaxy_push_testkit::history::Hash(0))
}
