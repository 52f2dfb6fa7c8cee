//! The one loop that performs what the link decides, and the one file of hub, gateway and client that asks a
//! backoff how long to wait.
//!
//! [`Driver::run`] is the task of one [`PushClient`](crate::PushClient). It owns the link, the connection, the handler
//! and the sender of the status; outsiders hold a token to stop it and a receiver of the status. `Driver::run` decides
//! nothing: when to dial, how long to wait and what a failure means is [`galaxy_push_core::link`]'s business, which reckons the
//! waits of streams, handlers and cursor stores; here they are slept. For requests that the publisher sends there is no link:
//! there [`retry`] and [`Round`] decide when to try again, and at which hub. The publish stream waits in its own task
//! (`publish_stream/pipe.rs`), as long as [`next_try`] and [`redial_at`] say.
//!
//! ```text
//!             ┌────────────── Action ───────────────┐
//!       Link ─┤                                     ├─► Driver ──► Dialer, Connection, Body     the network
//!  (decides)  └────────────── Input  ◄──────────────┘      │   ──► handler, dead letter         the application
//!                                                          │   ──► cursor store                 the application
//!                                                          └───► watch<Status> ──► PushClient   whoever looks
//! ```
//!
//! One action at a time: while the handler runs nothing is read, so a slow handler makes the hub wait and not this process grow.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use galaxy_push_core::backoff::{Backoff, Cause, RETRY_AFTER_MAX};
use galaxy_push_core::link::{AckResult, Action, Input, Link};
use galaxy_push_core::log_sampler::LogSampler;
use galaxy_push_proto::v1::GatewaySubscribeRequest;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::doors::{Doors, HubAnswers, Wanted};
use crate::fault::catch_panics;
use crate::handler::AnyDeadLetterHandler;
use crate::random::Random;
use crate::report::{Ends, SplitAnnouncer, report};
use crate::rpc::SUBSCRIBE;
use crate::store::AnyStore;
use crate::stream::DeliveryChannels;
use crate::transport::{Body, Connection, Dialer};
use crate::{BatchHandler, Door, Failure, HandlerError, State, Status};

/// Everything one client is made of. Owned by one task; nothing in it is shared but through channels.
pub(crate) struct Driver<H> {
    pub(crate) link: Link,
    pub(crate) dialer: Dialer,
    pub(crate) connection: Option<Connection>,
    /// How many bytes the connection had read when the stream was last known to move.
    pub(crate) bytes_seen: u64,
    pub(crate) body: Option<Body>,
    /// What every subscribe says; the link adds the cursor and the attempt.
    pub(crate) request: GatewaySubscribeRequest,
    pub(crate) handler: H,
    /// In the stream form: where items go out and acks come in. The handler has nothing to do then.
    pub(crate) flight: Option<DeliveryChannels>,
    pub(crate) dead_letter: Option<Box<dyn AnyDeadLetterHandler>>,
    pub(crate) store: Option<Box<dyn AnyStore>>,
    pub(crate) random: Random,
    /// The origin of the link's clock.
    pub(crate) started: Instant,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) hubs: HubQueries,
    /// The gateway id, for the log.
    pub(crate) gateway: Arc<str>,
    /// What the operator's log says of hubs that hold different logs.
    pub(crate) split_announcer: SplitAnnouncer,
    /// The number of the dial whose end the operator's log named last.
    pub(crate) last_announced_dial: u64,
    /// Why that was; empty once a stream is live.
    pub(crate) last_announced_error: String,
    /// Which lines about items that are given up are written, by cursor.
    pub(crate) dead_letter_sampler: LogSampler,
    pub(crate) stop: CancellationToken,
}

/// How the hubs are asked which log they hold, and what they say when somebody else asks.
pub(crate) struct HubQueries {
    pub(crate) doors: Arc<Doors>,
    /// The connections over which hubs answered just now: the stream goes over the one to its hub.
    pub(crate) found: Vec<Option<Connection>>,
    /// What each round brings; never anything where there is one hub.
    pub(crate) said: watch::Receiver<Vec<Option<Door>>>,
    /// Asks for a round.
    pub(crate) round: Arc<Notify>,
}

impl<H: BatchHandler> Driver<H> {
    /// Runs until stopped. Whatever is going on then is dropped at its present `.await`; the cursor keeps what the
    /// handler had finished, and is saved once more.
    pub(crate) async fn run(mut self) {
        let stopped = self.stop.clone().cancelled_owned();
        tokio::pin!(stopped);
        let mut stopping = false;
        let mut action = self.link.start(Duration::ZERO);
        while action != Action::Finish {
            self.hand_out();
            // Before the action, which may take long: whoever watches is to see what is being waited for.
            self.publish(&action);
            let input = tokio::select! {
                biased; // A stop wins over any work.
                // Once: it would win over the last save again and again.
                () = &mut stopped, if !stopping => Input::Stop,
                input = self.perform(&action) => input,
            };
            if input == Input::Stop {
                stopping = true;
                // Before the step: the last save is to cover what was acked by now.
                self.apply_last_acks();
            }
            action = self.step(input);
        }
        self.publish(&action);
    }

    fn step(&mut self, input: Input) -> Action {
        let (said, was) = (matches!(input, Input::Doors(_)), self.link.status().state);
        let action = self.link.step(input, self.started.elapsed(), self.random.next());
        if self.link.pop_hub_query() {
            self.hubs.round.notify_one();
        }
        if said || self.link.status().state != was {
            self.split_announcer.announce(self.link.status(), &self.gateway, self.dialer.hubs());
        }
        action
    }

    /// Does one thing and says how it went. Cancel safe but for handlers and store, whose docs say so.
    async fn perform(&mut self, action: &Action) -> Input {
        match *action {
            Action::AskHubs { hub, ref epoch, until } => self.ask(hub, epoch.as_deref(), until).await,
            Action::Dial { hub, until } => self.dial(hub, until).await,
            Action::Subscribe { ref cursor, attempt, until } => self.subscribe(cursor, attempt, until).await,
            Action::Read { until } => self.read(until).await,
            Action::Load { until } => self.load(until).await,
            Action::Save { ref cursor, until } => self.save(cursor, until).await,
            Action::Deliver => self.deliver().await,
            Action::DeadLetter => self.dead_letter().await,
            Action::Wait { until } => {
                self.hang_up();
                self.wait(until).await
            }
            Action::Pause { until } | Action::Await { until } => self.wait(until).await,
            Action::Finish => Input::Stop,
        }
    }

    async fn ask(&mut self, hub: usize, epoch: Option<&str>, until: Duration) -> Input {
        self.hang_up();
        let HubAnswers { said, connections } =
            self.hubs.doors.ask(Some(Wanted { hub, epoch }), self.at(until)).await;
        self.hubs.found = connections;
        if said.contains(&None) {
            self.hubs.round.notify_one(); // the others are asked meanwhile
        }
        Input::Doors(said)
    }

    /// Opens a connection to the hub, or goes on with the one over which it answered just now that it holds the log.
    async fn dial(&mut self, hub: usize, until: Duration) -> Input {
        // Taken out before `hang_up`, which drops the connections to the other hubs.
        let found = self.hubs.found.get_mut(hub).and_then(Option::take).filter(Connection::is_open);
        self.hang_up();
        if found.is_some() {
            // What it has read so far was an answer, and nothing of a stream.
            self.bytes_seen = found.as_ref().map_or(0, Connection::bytes_read);
            self.connection = found;
            return Input::Connected;
        }
        match timeout_at(self.at(until), self.dialer.dial(hub)).await {
            Ok(Ok(connection)) => {
                (self.connection, self.bytes_seen) = (Some(connection), 0);
                Input::Connected
            }
            Ok(Err(failure)) => Input::Failed(failure),
            Err(_) => Input::TimerFired,
        }
    }

    async fn subscribe(&mut self, cursor: &str, attempt: u64, until: Duration) -> Input {
        cursor.clone_into(&mut self.request.cursor);
        self.request.attempt = attempt;
        let deadline = self.at(until);
        let Some(connection) = &mut self.connection else { return Input::Failed(no_connection()) };
        match timeout_at(deadline, connection.call(SUBSCRIBE, &self.request)).await {
            Ok(Ok(body)) => {
                self.body = Some(body);
                Input::Subscribed
            }
            Ok(Err(failure)) => Input::Failed(failure),
            Err(_) => Input::TimerFired,
        }
    }

    async fn read(&mut self, until: Duration) -> Input {
        let deadline = self.at(until);
        let Some(body) = &mut self.body else { return Input::Failed(no_connection()) };
        // `timeout_at` asks the body first: what is buffered is read before the time is looked at.
        let read = async {
            match timeout_at(deadline, body.next()).await {
                Ok(Ok(bytes)) => Input::Received(bytes),
                Ok(Err(failure)) => Input::Failed(failure),
                Err(_) => Input::TimerFired,
            }
        };
        let input = tokio::select! {
            biased; // Acks are few: each item has one.
            acks = acks(&mut self.flight) => Input::Acks(acks),
            said = said(&mut self.hubs.said) => Input::Doors(said),
            input = read => input,
        };
        match input {
            Input::TimerFired => Input::ReadTimedOut { arriving: self.newly_read() },
            Input::Received(_) => {
                self.newly_read();
                input
            }
            _ => input,
        }
    }

    /// How many bytes the connection has read since this was asked last.
    fn newly_read(&mut self) -> u64 {
        let read = self.connection.as_ref().map_or(0, Connection::bytes_read);
        read.saturating_sub(std::mem::replace(&mut self.bytes_seen, read))
    }

    async fn wait(&mut self, until: Duration) -> Input {
        let until = self.at(until);
        tokio::select! {
            biased;
            acks = acks(&mut self.flight) => Input::Acks(acks),
            said = said(&mut self.hubs.said) => Input::Doors(said),
            () = sleep_until(until) => Input::TimerFired,
        }
    }

    /// Calls the handler with what the link offers. A panic counts as a failure of the call.
    async fn deliver(&mut self) -> Input {
        let (handler, batch) = (&mut self.handler, self.link.batch_mut());
        // A panicking handler may leave its own state half changed; it is called again all the same, as one that
        // failed, because the alternative is to end a stream that others rely on.
        let outcome = catch_panics("the handler", async { handler.handle(batch).await }).await;
        self.newly_read(); // what came meanwhile says nothing of the time to come
        match outcome {
            Ok(()) => Input::Handled,
            Err(error) => Input::HandlerFailed(error),
        }
    }

    async fn dead_letter(&mut self) -> Input {
        let (Some(dead_letter), Some(dead)) = (&mut self.dead_letter, self.link.dead_letter()) else {
            return Input::DeadLetterFailed("there is no dead letter".into()); // excluded when the client is built
        };
        let (item, error) = (dead.item.clone(), HandlerError::msg(&**dead.error));
        let (gateway, failures, cursor) = (&*self.gateway, dead.failures, item.cursor().to_owned());
        // A dead letter that fails is called again, for days if need be.
        let sampled = self.dead_letter_sampler.count(&cursor, self.started.elapsed());
        if sampled.is_some() {
            tracing::warn!(gateway, cursor, failures, error = %dead.error, "an item is given up");
        }
        let error =
            match catch_panics("the dead letter", async { dead_letter.accept(item, error).await }).await {
                Ok(()) => return Input::DeadLettered,
                Err(error) => error,
            };
        match sampled {
            Some(left_out) => {
                tracing::error!(gateway, cursor, %error, left_out, "the dead letter failed and is called again");
            }
            None => tracing::debug!(gateway, cursor, %error, "the dead letter failed and is called again"),
        }
        Input::DeadLetterFailed(error)
    }

    async fn load(&mut self, until: Duration) -> Input {
        let deadline = self.at(until);
        let Some(store) = &mut self.store else { return Input::Loaded(None) };
        match timeout_at(deadline, catch_panics("the cursor store", async { store.load().await })).await {
            Ok(Ok(cursor)) => Input::Loaded(cursor),
            Ok(Err(error)) => Input::LoadFailed(error),
            Err(_) => Input::TimerFired,
        }
    }

    async fn save(&mut self, cursor: &str, until: Duration) -> Input {
        let deadline = self.at(until);
        let Some(store) = &mut self.store else { return Input::Saved };
        match timeout_at(deadline, catch_panics("the cursor store", async { store.save(cursor).await })).await
        {
            Ok(Ok(())) => Input::Saved,
            Ok(Err(error)) => Input::SaveFailed(error),
            Err(_) => Input::TimerFired,
        }
    }

    /// In the stream form: what the link lets go goes out.
    fn hand_out(&mut self) {
        if let Some(flight) = &self.flight {
            self.link.drain_deliveries().into_iter().for_each(|handed| flight.deliver(handed));
        }
    }

    /// Acks given before a stop count.
    fn apply_last_acks(&mut self) {
        if let Some(flight) = &mut self.flight {
            let acks = flight.acks_now();
            self.step(Input::Acks(acks));
        }
    }

    fn hang_up(&mut self) {
        self.body = None;
        self.connection = None;
        self.hubs.found.clear();
    }

    fn at(&self, time: Duration) -> Instant {
        self.started + time // the link reckons with nothing that is further away than a year
    }

    /// Shows the link's status to everyone who watches, and tells the log what an operator should know.
    fn publish(&mut self, next: &Action) {
        let status = self.link.status();
        let mut before = Status::default();
        // Of what was shown before only what `report` compares is copied: this runs at every step.
        let changed = self.status.send_if_modified(|shown| {
            (before.state, before.store, before.hub) = (shown.state, shown.store.clone(), shown.hub);
            (before.epoch, before.counters) = (shown.epoch, shown.counters);
            before.stale_since = shown.stale_since;
            before.handler.clone_from(&shown.handler);
            let changed = shown != status;
            if changed {
                shown.clone_from(status);
            }
            changed
        });
        if changed {
            let name =
                |hub: usize| self.dialer.hubs().get(hub).map(|hub| hub.origin.as_str()).unwrap_or_default();
            let hub = name(status.hub);
            let ended = matches!(next, Action::Wait { .. } | Action::AskHubs { .. });
            // One line for each dial that ended: a wait that goes on after acks is the same end.
            let ended = ended && self.last_announced_dial < status.counters.dials;
            report(status, &before, next, &self.gateway, hub);
            if status.state == State::Live {
                self.last_announced_error.clear();
            }
            if let (true, Some(error)) = (ended, &status.last_error) {
                let wait = match next {
                    Action::Wait { until } => until.saturating_sub(self.started.elapsed()),
                    _ => Duration::ZERO, // the next hub, at once
                };
                let (gateway, hub, next_hub) = (&*self.gateway, name(before.hub), hub);
                let ends = Ends { gateway, hub, next_hub, wait, was: before.state };
                ends.report(status, error, &mut self.last_announced_error);
                self.last_announced_dial = status.counters.dials;
            }
        }
    }
}

/// The next acks; never any where there is a handler.
async fn acks(flight: &mut Option<DeliveryChannels>) -> Vec<AckResult> {
    match flight {
        Some(flight) => flight.acks().await,
        None => pending().await,
    }
}

/// What the hubs said in the next round.
async fn said(rounds: &mut watch::Receiver<Vec<Option<Door>>>) -> Vec<Option<Door>> {
    match rounds.changed().await {
        Ok(()) => rounds.borrow_and_update().clone(),
        Err(_) => pending().await,
    }
}

/// Something that [`retry`] tries. A trait and not an async closure: that the future of a closure is `Send` cannot be written as a bound.
pub(crate) trait Attempt {
    /// What success brings.
    type Answer;

    /// Tries once, at the next hub where the last try ended in a way that [`Round`] goes on from.
    fn attempt(&mut self) -> impl Future<Output = Result<Self::Answer, Failure>> + Send;
}

/// One turn over all hubs: one that does not take a connection, or does not let this peer in, is no reason to wait before the next is tried.
///
/// ```text
/// hub A unreachable, hub B refuses the token, hub C unreachable: the round is over, and its outcome is the refusal of B
/// hub A unreachable, hub B answers UNAVAILABLE:                  the round is over at once, and its outcome is that of B
/// ```
#[derive(Debug)]
pub(crate) struct Round {
    hubs: usize,
    left: usize,
    refusal: Option<Failure>,
}

impl Round {
    pub(crate) fn of(hubs: usize) -> Self {
        Self { hubs, left: hubs, refusal: None }
    }

    /// Whether another hub may do better, whatever is asked.
    pub(crate) fn is_elsewhere(failure: &Failure) -> bool {
        const OF_THE_PEER: [i32; 3] = [7, 12, 16]; // PERMISSION_DENIED, UNIMPLEMENTED, UNAUTHENTICATED
        match failure {
            Failure::Unreachable(_) => true,
            Failure::Status(status) => OF_THE_PEER.contains(&status.code),
            failure => failure.cause() == Cause::Refused, // no hub at all
        }
    }

    /// What the round came to, once nobody is left to be tried: a refusal, if there was one.
    pub(crate) fn over(&mut self, failure: Failure) -> Option<Failure> {
        if !Self::is_elsewhere(&failure) {
            *self = Self::of(self.hubs);
            return Some(failure);
        }
        self.left -= 1;
        if failure.cause() == Cause::Refused {
            self.refusal.get_or_insert_with(|| failure.clone());
        }
        if self.left > 0 {
            return None;
        }
        let refusal = self.refusal.take();
        *self = Self::of(self.hubs);
        Some(refusal.unwrap_or(failure))
    }
}

/// Tries until it succeeds, the hub refuses, or a try fails after `give_up`; then returns the last failure itself.
///
/// Where the next wait would pass `give_up` the last try is made then, so the whole time is used, and no wait follows it.
/// Only a hub that asks to be left alone for longer is not asked again.
///
/// Cancel safe as far as the attempt is.
pub(crate) async fn retry<A: Attempt>(
    mut tried: A,
    backoff: &mut Backoff,
    random: &mut Random,
    mut round: Round,
    give_up: Instant,
) -> Result<A::Answer, Failure> {
    loop {
        let failure = match tried.attempt().await {
            Ok(answer) => {
                backoff.reset(); // One answered request is all the health a request can prove.
                return Ok(answer);
            }
            Err(failure) => failure,
        };
        let Some(failure) = round.over(failure) else { continue };
        if failure.cause() == Cause::Refused {
            return Err(failure);
        }
        let (until, now) = (next_try(&failure, backoff, random), Instant::now());
        let beyond = failure.retry_after().is_some_and(|wait| now + wait.min(RETRY_AFTER_MAX) > give_up);
        if now >= give_up || beyond {
            return Err(failure);
        }
        let until = until.min(give_up);
        tracing::debug!(error = %failure, wait = ?(until - now), "a request failed and is sent again");
        sleep_until(until).await;
    }
}

/// When to try again after this failure, by the same rules as everywhere.
pub(crate) fn next_try(failure: &Failure, backoff: &mut Backoff, random: &mut Random) -> Instant {
    Instant::now() + backoff.delay(failure.cause(), failure.retry_after(), random.next())
}

/// When the publish stream connects again after a refusal. The requests that were refused are not sent again, and those behind them
/// must not open a connection each.
pub(crate) fn redial_at(backoff: &mut Backoff, random: &mut Random) -> Instant {
    Instant::now() + backoff.delay(Cause::Lost, None, random.next())
}

/// Never happens: the link reads only on a stream it subscribed to. It costs a retry if it does, not the process.
fn no_connection() -> Failure {
    Failure::Lost("there is no connection".to_owned())
}
