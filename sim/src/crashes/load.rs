//! Those who publish, in every way there is: one event a call, batches, a stream with many on their way, standing records.
//!
//! Each lives through all lives of the hub. What it has no answer to it asks for again, under the same id, until it has one;
//! now and then also what was acknowledged long ago.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::bail;
use futures_util::stream;
use galaxy_push_proto::Failure;
use galaxy_push_proto::v1;
use galaxy_push_proto::v1::publisher_client::PublisherClient;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::reading::connect;
use super::request::Request;
use super::truth::Truth;
use crate::rng::Rng;

/// The hub answers, or says that it cannot, long before.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// The most requests that one stream has on their way.
const ON_THEIR_WAY_MAX: usize = 24;

/// An id is remembered for 2 min, and only what is younger is asked for again.
const REPEATED_WITHIN: Duration = Duration::from_secs(90);

/// How many requests each remembers to repeat.
const REMEMBERED_MAX: usize = 4_000;

/// The way of a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Single,
    Batches,
    Stream,
    Records,
}

/// One publisher.
#[derive(Debug)]
pub(super) struct Publisher {
    way: Way,
    rng: Rng,
    numbers: Arc<AtomicU64>,
    truth: Arc<Mutex<Truth>>,
    /// What there is no answer to yet.
    owed: VecDeque<Request>,
    remembered: VecDeque<(Instant, Request)>,
    /// The longest pause between two calls.
    pause: Duration,
    /// Whether it asks for anything new.
    pub(super) is_settling: bool,
}

/// What became of a call.
enum Answer {
    Told,
    /// Not in the log; the hub goes on.
    Refused,
    Unknown,
}

impl Publisher {
    pub(super) fn new(
        way: Way,
        rng: Rng,
        numbers: &Arc<AtomicU64>,
        truth: &Arc<Mutex<Truth>>,
        pause: Duration,
    ) -> Self {
        let (owed, remembered) = (VecDeque::new(), VecDeque::new());
        let (numbers, truth) = (numbers.clone(), truth.clone());
        Self { way, rng, numbers, truth, owed, remembered, pause, is_settling: false }
    }

    /// Publishes through one life of the hub: until that is gone, `stop` says so, or it is settled. Gives itself back.
    ///
    /// # Errors
    ///
    /// When a promise is broken.
    pub(super) async fn publish(mut self, hub: Arc<str>, stop: CancellationToken) -> anyhow::Result<Self> {
        let Ok(channel) = connect(&hub).await else { return Ok(self) };
        let client = PublisherClient::new(channel);
        if self.way == Way::Stream {
            self.stream(client, &stop).await?;
        } else {
            self.calls(client, &stop).await?;
        }
        Ok(self)
    }

    async fn calls(
        &mut self,
        mut client: PublisherClient<Channel>,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        while !stop.is_cancelled() {
            let Some(request) = self.next() else { return Ok(()) };
            truth(&self.truth).asks(&request);
            let answer = timeout(ANSWER_WITHIN, call(&mut client, &request)).await;
            match self.take(request, answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("silence"))))? {
                Answer::Told => sleep(self.rng.between(Duration::ZERO, self.pause)).await,
                Answer::Refused => sleep(Duration::from_millis(20)).await,
                Answer::Unknown => return Ok(()),
            }
        }
        Ok(())
    }

    async fn stream(
        &mut self,
        mut client: PublisherClient<Channel>,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let (sender, requests) = mpsc::channel::<v1::PublishRequest>(ON_THEIR_WAY_MAX);
        let requests = stream::unfold(requests, |mut requests| async {
            requests.recv().await.map(|each| (each, requests))
        });
        let mut on_their_way: BTreeMap<u64, Request> = BTreeMap::new();
        // The stream is answered once something has come.
        let Some(first) = self.next() else { return Ok(()) };
        self.send(first, &sender, &mut on_their_way).await;
        let answers = timeout(ANSWER_WITHIN, client.publish_stream(requests)).await;
        let Ok(Ok(answers)) = answers else {
            self.owe(on_their_way);
            return Ok(());
        };
        let mut answers = answers.into_inner();
        let mut lives = true;
        while lives {
            let is_over = stop.is_cancelled() || (self.is_settling && self.owed.is_empty());
            if is_over && on_their_way.is_empty() {
                break;
            }
            if !is_over && on_their_way.len() < ON_THEIR_WAY_MAX {
                let Some(request) = self.next() else { continue };
                self.send(request, &sender, &mut on_their_way).await;
                if self.rng.percent(70) {
                    continue;
                }
            }
            let Ok(Ok(Some(answer))) = timeout(ANSWER_WITHIN, answers.message()).await else { break };
            let Some(request) = on_their_way.remove(&answer.request_id) else {
                bail!("an answer to nothing that was asked: {answer:?}")
            };
            lives &= !matches!(self.take(request, of_results(answer.results))?, Answer::Unknown);
        }
        self.owe(on_their_way);
        Ok(())
    }

    /// Sends it on a stream, unless it is on its way already. Whether the stream lives shows when it is read.
    async fn send(
        &self,
        request: Request,
        sender: &mpsc::Sender<v1::PublishRequest>,
        on_their_way: &mut BTreeMap<u64, Request>,
    ) {
        let Request::Events(events) = &request else { return };
        if on_their_way.contains_key(&request.number()) {
            return;
        }
        truth(&self.truth).asks(&request);
        _ = sender.send(events.clone()).await;
        on_their_way.insert(request.number(), request);
    }

    /// Nobody knows what became of these.
    fn owe(&mut self, on_their_way: BTreeMap<u64, Request>) {
        for request in on_their_way.into_values() {
            let is_owed = truth(&self.truth).unknown(&request);
            self.owed.extend(is_owed.then_some(request));
        }
    }

    /// What to ask for: what is owed first.
    fn next(&mut self) -> Option<Request> {
        if let Some(owed) = self.owed.pop_front() {
            return Some(owed);
        }
        if self.is_settling {
            return None;
        }
        while self.remembered.front().is_some_and(|(at, _)| at.elapsed() > REPEATED_WITHIN) {
            self.remembered.pop_front();
        }
        if !self.remembered.is_empty() && self.rng.percent(8) {
            let index = self.rng.below(self.remembered.len() as u64) as usize;
            return self.remembered.get(index).map(|(_, request)| request.clone());
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let rng = &mut self.rng;
        Some(match self.way {
            Way::Records => Request::record(number, rng),
            Way::Batches => {
                let count = if rng.percent(5) { 100 + rng.below(200) } else { 2 + rng.below(30) };
                Request::events(number, count, rng)
            }
            Way::Stream => Request::events(number, 1 + rng.below(4), rng),
            Way::Single if rng.percent(5) => Request::ephemeral(number, rng),
            Way::Single => Request::events(number, 1, rng),
        })
    }

    /// Holds an answer against the truth.
    fn take(
        &mut self,
        request: Request,
        answer: Result<Vec<(String, bool)>, Status>,
    ) -> anyhow::Result<Answer> {
        let mut truth = truth(&self.truth);
        match answer {
            Ok(told) => {
                truth.acknowledged(&request, &told)?;
                drop(truth);
                if told.iter().any(|(_, duplicate)| *duplicate) {
                    return Ok(Answer::Told); // remembered since it was appended, or too old soon
                }
                if self.remembered.len() >= REMEMBERED_MAX {
                    self.remembered.pop_front();
                }
                self.remembered.push_back((Instant::now(), request));
                Ok(Answer::Told)
            }
            Err(status) if matches!(status.code(), Code::InvalidArgument | Code::AlreadyExists) => {
                bail!("{request:?} is refused: {status:?}")
            }
            Err(status) if is_refusal(&status) => {
                truth.refused(&request);
                drop(truth);
                self.owed.push_back(request);
                Ok(Answer::Refused)
            }
            Err(_) => {
                let is_owed = truth.unknown(&request);
                drop(truth);
                self.owed.extend(is_owed.then_some(request));
                Ok(Answer::Unknown)
            }
        }
    }
}

/// One call, and what was told of each item.
pub(super) async fn call(
    client: &mut PublisherClient<Channel>,
    request: &Request,
) -> Result<Vec<(String, bool)>, Status> {
    match request {
        Request::Events(events) => of_results(client.publish(events.clone()).await?.into_inner().results),
        Request::Invalidation(request) => {
            let answer = client.invalidate(request.clone()).await?.into_inner();
            Ok(vec![(answer.cursor, answer.duplicate)])
        }
        Request::Memberships(request) => {
            // The answer names the last position: the others lie just before it.
            let answer = client.set_membership(request.clone()).await?.into_inner();
            let count = request.memberships.len() as u64;
            (0..count).rev().map(|back| Ok((back_by(&answer.cursor, back)?, answer.duplicate))).collect()
        }
    }
}

fn of_results(results: Vec<v1::PublishResult>) -> Result<Vec<(String, bool)>, Status> {
    if let Some(refused) = results.iter().find(|result| result.code != 0) {
        let code = Code::from(refused.code);
        // A stream says the reason in words of its own; the calls carry it in the details of their status.
        return Err(Status::new(code, format!("{REASON}{}", refused.reason)));
    }
    Ok(results.into_iter().map(|result| (result.cursor, result.duplicate)).collect())
}

const REASON: &str = "reason ";

/// Whether the hub says that nothing was appended.
pub(super) fn is_refusal(status: &Status) -> bool {
    let told = status.message().strip_prefix(REASON).filter(|reason| !reason.is_empty()).is_some();
    told || Failure::of(status).reason.is_some()
}

/// The cursor of a position so much before this one, as its text is written.
fn back_by(cursor: &str, back: u64) -> Result<String, Status> {
    let parts =
        cursor.rsplit_once('.').and_then(|(epoch, seq)| Some((epoch, seq.get(1..)?.parse::<u64>().ok()?)));
    let Some((epoch, seq)) = parts else {
        return Err(Status::internal(format!("{cursor:?} is no position")));
    };
    let digits = seq.saturating_sub(back).to_string();
    let letter = char::from(b'a' + (digits.len() as u8).saturating_sub(1));
    Ok(format!("{epoch}.{letter}{digits}"))
}

pub(super) fn truth(truth: &Mutex<Truth>) -> MutexGuard<'_, Truth> {
    truth.lock().unwrap_or_else(PoisonError::into_inner)
}
