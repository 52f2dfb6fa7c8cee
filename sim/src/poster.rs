//! A backend without our library, on any of the hub's surfaces: gRPC one by one, a stream of requests whose answers come in the
//! order of the requests, and CloudEvents over HTTP. It publishes the same id under two sources, and batches again that lie far
//! back. Where the hub knows it by name it goes beyond what it may now and then, and is refused.

mod http;

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::stream::poll_fn;
use galaxy_push_proto::v1::publisher_client::PublisherClient;
use galaxy_push_proto::{Failure, v1};
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{CallId, PubAck, What};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;

use crate::met::Met;
use crate::plain::{WINDOW_BYTES, channel_at};
use crate::publisher::{position, record_calls};
use crate::rng::{Counter, Rng, now_us};

/// An answer that has not come within this time does not come.
const PATIENCE: Duration = Duration::from_secs(7);

/// So many batches back it may publish one again.
const REMEMBERED: usize = 60;

/// How it publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// One gRPC request after the other.
    Unary,
    /// A gRPC stream of requests, several of them under way.
    Stream,
    /// `POST /v1/events`, one event in its JSON form.
    Structured,
    /// `POST /v1/events`, an array of events.
    Batched,
}

/// How it behaves.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its `source`.
    pub source: String,
    /// How it publishes.
    pub surface: Surface,
    /// The hub.
    pub hub: &'static str,
    /// Where that listens.
    pub port: u16,
    /// How many events one request has at most, and as many requests are under way on a stream.
    pub most: u64,
    /// Whom it publishes for.
    pub recipients: Vec<String>,
    /// The longest pause between two requests.
    pub pause: Duration,
    /// It ends here.
    pub until: Duration,
}

/// One request until it is answered.
struct Request {
    events: Vec<v1::Event>,
    calls: Vec<CallId>,
}

struct Poster {
    plan: Plan,
    recorder: Recorder,
    numbers: Counter,
    rng: Rng,
    met: Met,
    /// Batches that were acknowledged, or of which nobody knows, the latest last.
    before: VecDeque<Vec<v1::Event>>,
}

/// Publishes until the plan ends.
pub async fn run(plan: Plan, recorder: Recorder, numbers: Counter, rng: Rng, met: Met) {
    let (started, until) = (Instant::now(), plan.until);
    let mut poster = Poster { plan, recorder, numbers, rng, met, before: VecDeque::new() };
    while started.elapsed() < until {
        let end = started + until;
        match poster.plan.surface {
            Surface::Unary => poster.one_by_one(end).await,
            Surface::Stream => poster.on_a_stream(end).await,
            Surface::Structured | Surface::Batched => poster.over_http(end).await,
        }
        poster.pause().await;
    }
}

impl Poster {
    async fn connect(&self) -> Option<PublisherClient<Channel>> {
        channel_at(self.plan.hub, self.plan.port, WINDOW_BYTES).await.ok().map(PublisherClient::new)
    }

    async fn pause(&mut self) {
        let pause = self.rng.between(Duration::ZERO, self.plan.pause);
        sleep(pause).await;
    }

    /// Until the connection is lost.
    async fn one_by_one(&mut self, end: Instant) {
        let Some(mut client) = self.connect().await else { return };
        while Instant::now() < end {
            self.pause().await;
            let request = self.next();
            let message = v1::PublishRequest { events: request.events.clone(), ..Default::default() };
            match timeout(PATIENCE, client.publish(message)).await {
                Ok(Ok(answer)) => self.answered(request, &answer.get_ref().results, "Unary"),
                Ok(Err(status)) if Failure::of(&status).reason.is_some() => self.refused(&request),
                Ok(Err(_)) | Err(_) => return self.unanswered(request),
            }
        }
    }

    /// Until the stream ends: whatever answer comes next is that of the request that waits longest.
    async fn on_a_stream(&mut self, end: Instant) {
        let Some(mut client) = self.connect().await else { return };
        let (send, mut queued) = mpsc::channel(self.plan.most as usize);
        let mut waiting = VecDeque::new();
        self.send_some(&send, &mut waiting);
        let requests = poll_fn(move |cx| queued.poll_recv(cx));
        let Ok(Ok(response)) = timeout(PATIENCE, client.publish_stream(requests)).await else {
            return waiting.into_iter().for_each(|request| self.unanswered(request));
        };
        let mut answers = response.into_inner();
        while Instant::now() < end {
            while let Some(request) = waiting.pop_front() {
                match timeout(PATIENCE, answers.message()).await {
                    Ok(Ok(Some(answer))) => self.answered(request, &answer.results, "Stream"),
                    _ => {
                        self.unanswered(request);
                        return waiting.into_iter().for_each(|request| self.unanswered(request));
                    }
                }
            }
            self.pause().await;
            self.send_some(&send, &mut waiting);
        }
        waiting.into_iter().for_each(|request| self.unanswered(request));
    }

    fn send_some(&mut self, send: &mpsc::Sender<v1::PublishRequest>, waiting: &mut VecDeque<Request>) {
        for _ in 0..1 + self.rng.below(self.plan.most) {
            let Ok(room) = send.try_reserve() else { return };
            let request = self.next();
            let events = request.events.clone();
            // The number says nothing of the order: it is drawn.
            room.send(v1::PublishRequest { events, request_id: self.rng.draw(), ..Default::default() });
            waiting.push_back(request);
        }
    }

    /// Until the connection is lost.
    async fn over_http(&mut self, end: Instant) {
        let Some(mut connection) = http::Connection::open(self.plan.hub, self.plan.port).await else {
            return;
        };
        while Instant::now() < end {
            self.pause().await;
            let request = self.next();
            let (batched, name) = match self.plan.surface {
                Surface::Batched => (true, "Batched"),
                _ => (false, "Structured"),
            };
            match timeout(PATIENCE, connection.post(&request.events, batched)).await {
                Ok(http::Answer::Results(results)) => self.answered(request, &results, name),
                Ok(http::Answer::Refused) => self.refused(&request),
                Ok(http::Answer::None) | Err(_) => return self.unanswered(request),
            }
        }
    }

    /// What is published next, and written down.
    fn next(&mut self) -> Request {
        let far = self.before.len() > 2;
        let events = if far && self.rng.percent(20) {
            self.met.meets("Republished");
            self.before[self.rng.below(self.before.len() as u64 - 1) as usize].clone()
        } else if far && self.rng.percent(10) {
            self.met.meets("SameIdOfTwoSources");
            let mut twins = self.before[self.before.len() - 1].clone();
            twins.iter_mut().for_each(|event| event.source = format!("{}-twin", self.plan.source));
            twins
        } else {
            let count =
                if self.plan.surface == Surface::Structured { 1 } else { 1 + self.rng.below(self.plan.most) };
            (0..count).map(|_| self.draw()).collect()
        };
        let calls = record_calls(&self.recorder, &events, now_us());
        Request { events, calls }
    }

    fn draw(&mut self) -> v1::Event {
        let number = self.numbers.next();
        let padding = "q".repeat(self.rng.below(500) as usize);
        v1::Event {
            to: vec![self.rng.pick(&self.plan.recipients).clone()],
            id: format!("p{number}"),
            source: self.plan.source.clone(),
            r#type: "sim.posted".to_owned(),
            data: format!("{{\"n\":{number}, \"padding\":\"{padding}\"}}").into(),
            data_content_type: "application/json".to_owned(),
            ..v1::Event::default()
        }
    }

    fn answered(&mut self, request: Request, results: &[v1::PublishResult], surface: &'static str) {
        let mut is_taken = false;
        for (call, result) in request.calls.iter().zip(results) {
            let what = if result.code == 0 {
                is_taken = true;
                let (call, position) = (*call, position(&result.cursor));
                What::PubAck(PubAck { call, position, duplicate: result.duplicate })
            } else if result.reason.is_empty() {
                is_taken = true; // perhaps: a refusal has its reason
                What::PubUnknown(*call)
            } else {
                What::PubNack(*call)
            };
            self.recorder.record(now_us(), what);
        }
        if is_taken {
            self.met.meets(surface);
            self.remember(request.events);
        } else {
            self.met.meets("Refused");
        }
    }

    fn refused(&self, request: &Request) {
        self.met.meets("Refused");
        request.calls.iter().for_each(|call| self.recorder.record(now_us(), What::PubNack(*call)));
    }

    fn unanswered(&mut self, request: Request) {
        request.calls.iter().for_each(|call| self.recorder.record(now_us(), What::PubUnknown(*call)));
        self.remember(request.events);
    }

    fn remember(&mut self, events: Vec<v1::Event>) {
        if events.iter().any(|event| event.source != self.plan.source) {
            return;
        }
        self.before.push_back(events);
        if self.before.len() > REMEMBERED {
            self.before.pop_front();
        }
    }
}
