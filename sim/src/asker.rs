//! A backend without our library: each publish is one request, and what it is answered is written down as it was said:
//! acknowledged, refused, or not answered. So a refusal is judged here, which a library that tries again hides; and what was
//! published before is published again, long after: what was acknowledged must be a duplicate, with its position, and what was
//! not answered is found out. Where hubs share a log, the same or another content under the same id comes to two of them at once.

use std::time::Duration;

use futures_util::future::join_all;
use galaxy_push_proto::v1::publisher_client::PublisherClient;
use galaxy_push_proto::{Failure, v1};
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{CallId, PubAck, What};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;

use crate::plain::{WINDOW_BYTES, channel};
use crate::publisher::{position, record_calls};
use crate::rng::{Counter, Rng, now_us};

/// How often, in percent of its requests, it asks two hubs at once.
const AT_ONCE_PERCENT: u64 = 20;

/// How it behaves.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its `source`.
    pub source: String,
    /// The hub; or hubs on one log, which it then asks in turn, and now and then at once.
    pub hubs: &'static [&'static str],
    /// Whom it publishes for.
    pub recipients: Vec<String>,
    /// An answer that has not come within this time does not come.
    pub patience: Duration,
    /// The longest pause between two requests.
    pub pause: Duration,
    /// It ends here.
    pub until: Duration,
}

/// What was published before and may be again.
#[derive(Default)]
struct Before {
    acked: Vec<Vec<v1::Event>>,
    /// Nobody knows.
    open: Vec<Vec<v1::Event>>,
}

/// Publishes until the plan ends.
pub async fn run(plan: Plan, recorder: Recorder, numbers: Counter, mut rng: Rng) {
    let (started, mut before, mut clients) = (Instant::now(), Before::default(), vec![None; plan.hubs.len()]);
    while started.elapsed() < plan.until {
        sleep(rng.between(Duration::ZERO, plan.pause)).await;
        let asked = if clients.len() == 1 { 0 } else { rng.below(clients.len() as u64) as usize };
        for (client, hub) in clients.iter_mut().zip(plan.hubs) {
            if client.is_none() {
                *client = channel(hub, WINDOW_BYTES).await.ok().map(PublisherClient::new);
            }
        }
        if clients[asked].is_none() {
            continue;
        }
        let events = before.pick(&mut rng).unwrap_or_else(|| draw(&plan, &numbers, &mut rng));
        if clients.len() > 1 && rng.percent(AT_ONCE_PERCENT) {
            let mut others = events.clone();
            if rng.percent(30) {
                others.iter_mut().for_each(|event| event.data = br#"{"another":true}"#.to_vec().into());
            }
            at_once(&mut clients, plan.patience, [events, others], &recorder, &mut before).await;
            continue;
        }
        let Some(publisher) = &mut clients[asked] else { continue };
        let calls = record_calls(&recorder, &events, now_us());
        let goes_on = ask(publisher, plan.patience, events, &calls, &recorder, &mut before).await;
        if !goes_on {
            clients[asked] = None;
        }
    }
}

/// Asks two hubs at once. What comes of it is not asked for again: which of two contents counts is as it may be.
async fn at_once(
    clients: &mut [Option<PublisherClient<Channel>>],
    patience: Duration,
    requests: [Vec<v1::Event>; 2],
    recorder: &Recorder,
    before: &mut Before,
) {
    let is_same = requests[0] == requests[1];
    let mut asked: Vec<_> = clients.iter_mut().zip(requests).collect();
    let asked = asked.iter_mut().filter_map(|(client, events)| {
        let calls = record_calls(recorder, events, now_us());
        let client = client.as_mut()?;
        Some(async move {
            let mut found = Before::default();
            let goes_on = ask(client, patience, std::mem::take(events), &calls, recorder, &mut found).await;
            (goes_on, found)
        })
    });
    let ended = join_all(asked.collect::<Vec<_>>()).await;
    for (_, found) in ended {
        if is_same {
            before.acked.extend(found.acked);
            before.open.extend(found.open);
        }
    }
}

/// Whether the connection is still good.
async fn ask(
    publisher: &mut PublisherClient<Channel>,
    patience: Duration,
    events: Vec<v1::Event>,
    calls: &[CallId],
    recorder: &Recorder,
    before: &mut Before,
) -> bool {
    let request = v1::PublishRequest { events: events.clone(), ..v1::PublishRequest::default() };
    let status = match timeout(patience, publisher.publish(request)).await {
        Ok(Ok(answer)) => {
            for (call, result) in calls.iter().zip(&answer.get_ref().results) {
                let (call, position) = (*call, position(&result.cursor));
                let ack = PubAck { call, position, duplicate: result.duplicate };
                recorder.record(now_us(), What::PubAck(ack));
            }
            before.acked.push(events);
            return true;
        }
        Ok(Err(status)) => Some(status),
        Err(_) => None,
    };
    // A reason is the hub's own word: it has refused. Anything else may come from in between.
    let is_refused = status.as_ref().is_some_and(|status| Failure::of(status).reason.is_some());
    for call in calls {
        let what = if is_refused { What::PubNack(*call) } else { What::PubUnknown(*call) };
        recorder.record(now_us(), what);
    }
    if !is_refused {
        before.open.push(events);
    }
    is_refused
}

impl Before {
    /// Something to publish again, now and then. What nobody knows is asked for until it is known.
    fn pick(&mut self, rng: &mut Rng) -> Option<Vec<v1::Event>> {
        if !self.open.is_empty() && rng.percent(50) {
            return Some(self.open.swap_remove(rng.below(self.open.len() as u64) as usize));
        }
        let again = !self.acked.is_empty() && rng.percent(30);
        again.then(|| self.acked.swap_remove(rng.below(self.acked.len() as u64) as usize))
    }
}

/// An event, or a few.
fn draw(plan: &Plan, numbers: &Counter, rng: &mut Rng) -> Vec<v1::Event> {
    let event = |rng: &mut Rng| {
        let number = numbers.next();
        v1::Event {
            to: vec![rng.pick(&plan.recipients).clone()],
            id: format!("a{number}"),
            source: plan.source.clone(),
            r#type: "sim.asked".to_owned(),
            data: format!(r#"{{"n":{number},"padding":"{}"}}"#, "p".repeat(rng.below(600) as usize)).into(),
            data_content_type: "application/json".to_owned(),
            ..v1::Event::default()
        }
    };
    (0..1 + rng.below(3)).map(|_| event(rng)).collect()
}
