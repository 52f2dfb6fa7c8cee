//! The one loop that performs what the link decides, and the one place in the project that tries again.
//!
//! [`Driver::run`] is the task of one [`PushClient`](crate::PushClient). It owns the link, the connection, the handler
//! and the sender of the status; outsiders hold a token to stop it and a receiver of the status. It decides nothing:
//! when to dial, how long to wait and what a failure means is [`galaxy_push_core::link`]'s business. [`retry`] is the
//! same for a single request, which the publisher uses.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use galaxy_push_core::backoff::{Backoff, Cause};
use galaxy_push_core::link::{Action, Input, Link};
use galaxy_push_proto::v1::GatewaySubscribeRequest;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::random::Random;
use crate::transport::{Body, Connection, Dialer};
use crate::{BatchHandler, Failure, State, Status};

const SUBSCRIBE: &str = "/push.v1.Push/SubscribePush";

/// Everything one client is made of.
#[derive(Debug)]
pub(crate) struct Driver<H> {
    pub(crate) link: Link,
    pub(crate) dialer: Dialer,
    pub(crate) connection: Option<Connection>,
    pub(crate) body: Option<Body>,
    /// What every subscribe says; the link adds the cursor and the attempt.
    pub(crate) request: GatewaySubscribeRequest,
    pub(crate) handler: H,
    pub(crate) random: Random,
    /// The origin of the link's clock.
    pub(crate) started: Instant,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) stop: CancellationToken,
}

impl<H: BatchHandler> Driver<H> {
    /// Runs until stopped. Whatever is going on then is dropped at its present `.await`; the cursor keeps what the
    /// handler had finished.
    pub(crate) async fn run(mut self) {
        let stopped = self.stop.clone().cancelled_owned();
        tokio::pin!(stopped);
        let mut action = self.link.start(Duration::ZERO);
        while action != Action::Finish {
            self.publish(&action);
            let input = tokio::select! {
                biased; // A stop wins over any work.
                () = &mut stopped => Input::Stop,
                input = self.perform(&action) => input,
            };
            action = self.link.step(input, self.started.elapsed(), self.random.next());
        }
        self.publish(&action);
    }

    /// Does one thing and says how it went. Cancel safe but for the handler, which is told so.
    async fn perform(&mut self, action: &Action) -> Input {
        match *action {
            Action::Dial { hub, until } => self.dial(hub, until).await,
            Action::Subscribe { ref cursor, attempt, until } => self.subscribe(cursor, attempt, until).await,
            Action::Read { until } => self.read(until).await,
            Action::Deliver => self.deliver().await,
            Action::Wait { until } => {
                self.hang_up();
                wait(self.at(until)).await
            }
            Action::Pause { until } => wait(self.at(until)).await,
            Action::Finish => Input::Stop,
        }
    }

    async fn dial(&mut self, hub: usize, until: Duration) -> Input {
        self.hang_up();
        match timeout_at(self.at(until), self.dialer.dial(hub)).await {
            Ok(Ok(connection)) => {
                self.connection = Some(connection);
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
        match timeout_at(deadline, body.next()).await {
            Ok(Ok(bytes)) => Input::Received(bytes),
            Ok(Err(failure)) => Input::Failed(failure),
            Err(_) => Input::TimerFired,
        }
    }

    async fn deliver(&mut self) -> Input {
        let (handler, batch) = (&mut self.handler, self.link.batch_mut());
        // A panicking handler may leave its own state half changed; it is called again all the same, as one that
        // failed, because the alternative is to end a stream that others rely on.
        let call = AssertUnwindSafe(async { handler.handle(batch).await });
        match call.catch_unwind().await {
            Ok(Ok(())) => Input::Handled,
            Ok(Err(error)) => Input::HandlerFailed(error.to_string().into()),
            Err(panic) => Input::HandlerFailed(panic_message(&*panic)),
        }
    }

    fn hang_up(&mut self) {
        self.body = None;
        self.connection = None;
    }

    fn at(&self, time: Duration) -> Instant {
        self.started + time
    }

    /// Shows the link's status to everyone who watches, and tells the log what an operator should know.
    fn publish(&self, next: &Action) {
        let status = self.link.status();
        let mut before = State::Connecting;
        let changed = self.status.send_if_modified(|shown| {
            before = shown.state;
            let changed = shown != status;
            if changed {
                shown.clone_from(status);
            }
            changed
        });
        if !changed {
            return;
        }
        let hub = self.dialer.hubs().get(status.hub).map(|hub| hub.origin.as_str()).unwrap_or_default();
        match (status.state, next, &status.last_error, &status.handler) {
            (_, Action::Pause { .. }, _, Some(trouble)) => {
                tracing::warn!(error = %trouble.error, failures = trouble.failures, "the handler failed and is called again");
            }
            (state, Action::Wait { until }, Some(error), _) => {
                let wait = until.saturating_sub(self.started.elapsed());
                tracing::warn!(%state, %error, ?wait, next_hub = hub, attempt = status.attempt, "the stream ended");
            }
            (State::Live, ..) if before != State::Live => {
                tracing::info!(hub, cursor = status.cursor, attempt = status.attempt, "live");
            }
            _ => {}
        }
    }
}

async fn wait(until: Instant) -> Input {
    sleep_until(until).await;
    Input::TimerFired
}

/// Something that [`retry`] tries. A trait and no closure, whose future could not be shown to be `Send`.
pub(crate) trait Attempt {
    /// What success brings.
    type Answer;

    /// Tries once.
    fn attempt(&mut self) -> impl Future<Output = Result<Self::Answer, Failure>> + Send;
}

/// Tries until it succeeds, the hub refuses, or the next wait would pass `give_up`; then returns the last failure
/// itself. No wait follows the last try.
///
/// Cancel safe as far as the attempt is.
pub(crate) async fn retry<A: Attempt>(
    mut tried: A,
    backoff: &mut Backoff,
    random: &mut Random,
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
        if failure.cause() == Cause::Refused {
            return Err(failure);
        }
        let until = Instant::now() + backoff.delay(failure.cause(), failure.retry_after(), random.next());
        if until >= give_up {
            return Err(failure);
        }
        tracing::debug!(error = %failure, "a request failed and is sent again");
        sleep_until(until).await;
    }
}

/// Never happens: the link reads only on a stream it subscribed to. It costs a retry if it does, not the process.
fn no_connection() -> Failure {
    Failure::Lost("there is no connection".to_owned())
}

fn panic_message(panic: &(dyn Any + Send)) -> Arc<str> {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the handler panicked: {}", text.unwrap_or("with something that is no text")).into()
}
