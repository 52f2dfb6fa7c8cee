//! The task behind a [`PublishStream`](super::PublishStream): one stream after the other, until everything is answered.
//!
//! ```text
//! pending      r1 sent   r2 sent   r3 sent   r4 not sent
//! an answer to r2        r2 is answered; r1 and r3 still wait
//! the stream ends        r1 and r3 are not sent any more, and may have been appended: they are uncertain
//! the next stream        r1, r3 and r4 are sent, in this order, with the same event ids
//! r1's time is over      its ack says why the last stream ended
//! ```

use std::collections::VecDeque;
use std::future::pending;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use galaxy_push_core::backoff::{Backoff, Cause};
use galaxy_push_core::frame::{Deframer, message};
use galaxy_push_proto::Reason;
use galaxy_push_proto::v1::{PublishResponse, PublishResult};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::Request;
use crate::driver::{Round, next_try, redial_at};
use crate::published::results_of;
use crate::publisher::{HubConnection, UncertainEvents, is_unknown};
use crate::random::Random;
use crate::rpc::{ANSWER_MAX_BYTES, PUBLISH_STREAM, TRY_DEADLINE};
use crate::transport::{Body, Connection};
use crate::{Failure, ServerStatus};

/// The task. It owns the connection, and every request from the moment it was sent until its ack is answered.
#[derive(Debug)]
pub(super) struct Pipe {
    hub_connection: HubConnection,
    backoff: Backoff,
    random: Random,
    /// Events that were given up without an answer.
    uncertain: UncertainEvents,
    requests: mpsc::Receiver<Request>,
    requests_max: usize,
    /// Everything that is not answered, in the order of the calls.
    pending: VecDeque<Request>,
    /// Nothing is sent before then, because the hub is overloaded.
    paused_until: Option<Instant>,
    /// How many requests were sent.
    sent: u64,
    /// Something before the last request that was sent is to be sent again.
    resend: bool,
    /// Why the last stream ended: the answer to a request that is given up.
    last_failure: Failure,
    round: Round,
    /// No connection is opened before then, whatever there is to send.
    redial_at: Option<Instant>,
}

/// The answers of one stream.
#[expect(clippy::large_enum_variant, reason = "there is one for a stream, and it is moved once")]
enum Answers {
    /// Some servers begin the response with the first answer only, so requests go out meanwhile.
    Awaited(BoxFuture<'static, Result<(Connection, Body), Failure>>),
    /// The connection lives as long as its stream.
    Open { body: Body, _connection: Connection },
}

impl Pipe {
    pub(super) fn new(
        hub_connection: HubConnection,
        backoff: Backoff,
        random: Random,
        uncertain: UncertainEvents,
        requests: mpsc::Receiver<Request>,
        requests_max: usize,
    ) -> Self {
        Self {
            round: Round::of(hub_connection.dialer.hubs().len()),
            hub_connection,
            backoff,
            random,
            uncertain,
            requests,
            requests_max,
            pending: VecDeque::new(),
            paused_until: None,
            sent: 0,
            resend: false,
            last_failure: Failure::Lost("the hub did not answer in time".to_owned()),
            redial_at: None,
        }
    }

    /// Runs until every handle is gone and everything is answered or given up.
    pub(super) async fn run(mut self) {
        loop {
            if self.pending.is_empty() {
                match self.requests.recv().await {
                    Some(request) => self.pending.push_back(request),
                    None => return,
                }
            }
            self.wait_to_redial().await;
            if self.pending.is_empty() {
                continue; // all of it was given up meanwhile
            }
            if let Err(failure) = self.stream().await {
                self.lost(failure);
            }
        }
    }

    /// One connection and one stream, until it ends; `Ok` when nothing is left to do.
    async fn stream(&mut self) -> Result<(), Failure> {
        let late = |_| Err(Failure::Lost("the hub did not accept the connection in time".to_owned()));
        let dial = self.hub_connection.dialer.dial(self.hub_connection.hub);
        let mut connection = timeout(TRY_DEADLINE, dial).await.unwrap_or_else(late)?;
        let (upload, mut messages) = mpsc::channel(self.requests_max);
        let messages = stream::poll_fn(move |cx| messages.poll_recv(cx));
        let answers = Answers::Awaited(Box::pin(async move {
            let body = connection.stream(PUBLISH_STREAM, messages).await?;
            Ok((connection, body))
        }));
        self.converse(&upload, answers).await
    }

    async fn converse(&mut self, upload: &mpsc::Sender<Bytes>, mut answers: Answers) -> Result<(), Failure> {
        let (mut deframer, mut open) = (Deframer::new(ANSWER_MAX_BYTES), true);
        let mut answer_by = None;
        loop {
            self.give_up();
            if self.send_unsent(upload)? {
                answer_by.get_or_insert_with(|| Instant::now() + TRY_DEADLINE);
            }
            if self.pending.is_empty() && !open {
                return Ok(());
            }
            let next_timer = self.next_timer(answer_by);
            tokio::select! {
                biased;
                answer = answers.next() => {
                    deframer.push(answer?);
                    while let Some(framed) = deframer.next_message().map_err(Failure::Unsplittable)? {
                        self.answered(&framed)?;
                    }
                    let waiting = self.pending.iter().any(|request| request.sent.is_some());
                    answer_by = waiting.then(|| Instant::now() + TRY_DEADLINE);
                }
                request = self.requests.recv(), if open => match request {
                    Some(request) => self.pending.push_back(request),
                    None => open = false,
                },
                () = until(next_timer) => {
                    if answer_by.is_some_and(|by| by <= Instant::now()) {
                        return Err(Failure::Lost("the hub did not answer in time".to_owned()));
                    }
                }
            }
        }
    }

    /// Sends what is not on the stream yet, unless the hub asked for patience; says whether anything was.
    fn send_unsent(&mut self, upload: &mpsc::Sender<Bytes>) -> Result<bool, Failure> {
        if self.paused_until.is_some_and(|until| Instant::now() < until) {
            return Ok(false);
        }
        self.paused_until = None;
        let mut any = false;
        // What is not sent is at the back, but for what was overloaded.
        let unsent = self.pending.iter().rev().take_while(|request| request.sent.is_none()).count();
        let first = if std::mem::take(&mut self.resend) { 0 } else { self.pending.len() - unsent };
        for request in self.pending.range_mut(first..).filter(|request| request.sent.is_none()) {
            let Some(framed) = request.framed() else { continue };
            let sent = upload.try_send(framed.clone());
            sent.map_err(|_| Failure::Lost("the hub stopped reading the stream".to_owned()))?;
            self.sent += 1;
            (request.sent, any) = (Some(self.sent), true);
        }
        Ok(any)
    }

    fn next_timer(&self, answer_by: Option<Instant>) -> Option<Instant> {
        [answer_by, self.paused_until, self.first_give_up()].into_iter().flatten().min()
    }

    fn answered(&mut self, framed: &Bytes) -> Result<(), Failure> {
        let answer = PublishResponse::decode(message(framed))
            .map_err(|_| Failure::Protocol("an answer that cannot be decoded"))?;
        let Some(index) = self.pending.iter().position(|request| request.id == answer.request_id) else {
            return Ok(()); // given up meanwhile
        };
        if let Some(overload) = overload(&answer) {
            let (request, log) = (&mut self.pending[index], self.hub_connection.log_of_hub());
            (request.sent, self.resend) = (None, true);
            if is_unknown(&overload) {
                request.unanswered.add(log);
            }
            let until = next_try(&overload, &mut self.backoff, &mut self.random);
            self.paused_until = self.paused_until.max(Some(until));
            let stale = is_stale(&overload) && self.hub_connection.dialer.hubs().len() > 1;
            self.last_failure = overload;
            return if stale { Err(Failure::Stale) } else { Ok(()) };
        }
        self.backoff.reset();
        if is_too_large(&answer) && self.pending[index].split() {
            (self.pending[index].sent, self.resend) = (None, true);
            return Ok(());
        }
        self.settle(index, answer.results);
        Ok(())
    }

    /// A request, or a part of it, has its answer.
    fn settle(&mut self, index: usize, results: Vec<PublishResult>) {
        let Some(mut request) = self.pending.remove(index) else { return };
        let (part, before) = (request.parts.pop(), request.published.len());
        let mut published = match results_of(results, part.map_or(0, |part| part.events)) {
            Ok(published) => published,
            Err(failure) => return request.answer.send(Err(failure)),
        };
        request.unanswered.mark(&mut published);
        self.uncertain.settle(&request.events[before..], &mut published);
        self.hub_connection.note_log(&published);
        request.published.extend(published);
        if request.parts.is_empty() {
            return request.answer.send(Ok(request.published));
        }
        (request.sent, self.resend) = (None, true);
        self.pending.insert(index, request);
    }

    /// Decides what the end of a stream means for each request, and when the next one is opened.
    fn lost(&mut self, failure: Failure) {
        // Answers come in the order in which requests were sent, which is not that of the calls where some were sent again.
        let sent = self.pending.iter().enumerate().filter_map(|(at, request)| Some((request.sent?, at)));
        let first_unanswered = sent.min().map(|(_, at)| at);
        self.note_unanswered(is_unknown(&failure));
        self.hub_connection.hub = (self.hub_connection.hub + 1) % self.hub_connection.dialer.hubs().len();
        self.last_failure = failure.clone();
        let Some(failure) = self.round.over(failure) else { return };
        if failure.cause() == Cause::Refused {
            // What the hub found wrong is in the first request that it did not answer; but who may not publish at all need not
            // send the others.
            let faulty = matches!(&failure, Failure::Status(status) if status.code == INVALID_ARGUMENT);
            let refused = match first_unanswered {
                _ if !faulty => 0..self.pending.len(),
                Some(at) => at..at + 1,
                None => 0..0,
            };
            for request in self.pending.drain(refused) {
                self.uncertain.record(&request.events, &request.unanswered);
                request.answer.send(Err(failure.clone()));
            }
            // Who sends on is answered again, but not by a connection for each request.
            self.redial_at = Some(redial_at(&mut self.backoff, &mut self.random));
            return;
        }
        self.redial_at = Some(next_try(&failure, &mut self.backoff, &mut self.random));
        tracing::debug!(error = %failure, pending = self.pending.len(), "the publish stream ended and is opened again");
    }

    /// Waits as long as the last stream's end asks for, or until nothing is left to send.
    async fn wait_to_redial(&mut self) {
        let Some(next) = self.redial_at.take() else { return };
        while !self.pending.is_empty() && Instant::now() < next {
            sleep_until(self.first_give_up().map_or(next, |give_up| give_up.min(next))).await;
            self.give_up();
        }
        if Instant::now() < next {
            self.redial_at = Some(next);
        }
    }

    /// The stream is over: nothing on it is answered any more.
    fn note_unanswered(&mut self, unknown: bool) {
        let log = self.hub_connection.log_of_hub();
        for request in self.pending.iter_mut().filter(|request| request.sent.is_some()) {
            request.sent = None;
            if unknown {
                request.unanswered.add(log);
            }
        }
    }

    /// Every request may take the same time, so the first one is the first to be given up.
    fn first_give_up(&self) -> Option<Instant> {
        self.pending.front().map(|request| request.give_up)
    }

    fn give_up(&mut self) {
        while self.first_give_up().is_some_and(|give_up| give_up <= Instant::now()) {
            if let Some(mut request) = self.pending.pop_front() {
                if request.sent.is_some() {
                    request.unanswered.add(self.hub_connection.log_of_hub());
                }
                self.uncertain.record(&request.events, &request.unanswered);
                request.answer.send(Err(self.last_failure.clone()));
            }
        }
    }
}

const INVALID_ARGUMENT: i32 = 3;

impl Answers {
    /// The next bytes. Cancel safe.
    async fn next(&mut self) -> Result<Bytes, Failure> {
        if let Self::Awaited(awaited) = self {
            let (_connection, body) = awaited.await?;
            *self = Self::Open { body, _connection };
        }
        match self {
            Self::Open { body, .. } => body.next().await,
            Self::Awaited(_) => pending().await,
        }
    }
}

/// Whether the hub did not append the request, or not all of it, for a reason that passes.
fn overload(answer: &PublishResponse) -> Option<Failure> {
    const RESOURCE_EXHAUSTED: i32 = 8;
    const UNAVAILABLE: i32 = 14;
    let passes = |code| matches!(code, RESOURCE_EXHAUSTED | UNAVAILABLE);
    let result = answer.results.iter().find(|result| passes(result.code))?;
    Some(Failure::Status(ServerStatus::new(result.code, "").with_reason(result.reason.clone())))
}

/// Whether the hub did not append the request because its store takes less at once.
fn is_too_large(answer: &PublishResponse) -> bool {
    answer.results.iter().any(|result| result.reason == Reason::BatchTooLarge.as_str())
}

/// Whether the hub cannot reach its store, which another hub may.
fn is_stale(overload: &Failure) -> bool {
    matches!(overload, Failure::Status(status) if status.reason == "STORE_UNAVAILABLE")
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}
