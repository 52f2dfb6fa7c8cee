//! One connection to one of the hubs, and one request after the other on it.
//!
//! Used by the publisher; whether and when a request is tried again the driver's `retry` decides.
//!
//! ```text
//! a try fails because …                     the connection      the next try
//! the hub does not accept a connection      there is none       the next hub, at once
//! the hub refuses this peer                 is dropped          the next hub, at once
//! the hub answers UNAVAILABLE               is dropped          the next hub, after a wait
//! the hub answers another status            is kept             the same hub, after a wait, if it is tried again at all
//! no answer in 10 s                         is dropped          the next hub, after a wait; the events are uncertain
//! ```

use std::marker::PhantomData;

use galaxy_push_core::cursor::Epoch;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Unanswered, is_unknown};
use crate::driver::{Attempt, Round};
use crate::rpc::{ANSWER_MAX_BYTES, TRY_DEADLINE};
use crate::token::Token;
use crate::transport::{Answer, Connection, Dialer};
use crate::{Failure, Published};

/// The connection to the hub in use, or the way to the next one.
#[derive(Debug)]
pub(crate) struct HubConnection {
    pub(crate) dialer: Dialer,
    connection: Option<Connection>,
    pub(crate) hub: usize,
    /// Whether a try is under way that has got as far as a connection, or was dropped there.
    reached: bool,
    /// Where tries of the present call went that got no answer.
    unanswered: Unanswered,
    /// The log that each hub was known to hold last.
    logs: Vec<Option<Epoch>>,
    /// The log of the last answer.
    log: Option<Epoch>,
    /// Why the last try failed, if it did.
    pub(super) trouble: watch::Sender<Option<Failure>>,
}

/// One request of one publisher call. It is an [`Attempt`]: the driver's `retry` makes it as often as it takes.
pub(super) struct Call<'a, R, T> {
    pub(super) hub_connection: &'a mut HubConnection,
    pub(super) path: &'static str,
    pub(super) request: &'a R,
    pub(super) answer: PhantomData<fn() -> T>,
}

impl<R: prost::Message, T: Answer> Attempt for Call<'_, R, T> {
    type Answer = T;

    async fn attempt(&mut self) -> Result<T, Failure> {
        self.hub_connection.reached = false;
        let answer = timeout(TRY_DEADLINE, self.hub_connection.ask(self.path, self.request)).await;
        let answer =
            answer.unwrap_or_else(|_| Err(Failure::Lost("the hub did not answer in time".to_owned())));
        self.hub_connection.trouble.send_replace(answer.as_ref().err().cloned());
        let reached = std::mem::take(&mut self.hub_connection.reached);
        if reached && answer.as_ref().is_err_and(is_unknown) {
            let log = self.hub_connection.log_of_hub();
            self.hub_connection.unanswered.add(log);
        }
        if answer.as_ref().is_err_and(Round::is_elsewhere) && self.hub_connection.dialer.hubs().len() > 1 {
            self.hub_connection.connection = None;
        }
        if self.hub_connection.connection.is_none() {
            self.hub_connection.hub = (self.hub_connection.hub + 1) % self.hub_connection.dialer.hubs().len();
        }
        answer
    }
}

impl HubConnection {
    pub(super) fn new(dialer: Dialer) -> Self {
        let logs = vec![None; dialer.hubs().len()];
        let trouble = watch::Sender::default();
        Self {
            dialer,
            connection: None,
            hub: 0,
            reached: false,
            unanswered: Unanswered::default(),
            logs,
            log: None,
            trouble,
        }
    }

    /// Where tries of the call that is over went that got no answer. If its future was dropped, its last try is one of them.
    pub(super) fn take_unanswered(&mut self) -> Unanswered {
        if std::mem::take(&mut self.reached) {
            self.unanswered.add(self.log_of_hub());
        }
        std::mem::take(&mut self.unanswered)
    }

    /// The log that the present hub was known to hold last.
    pub(crate) fn log_of_hub(&self) -> Option<Epoch> {
        self.logs.get(self.hub).copied().flatten()
    }

    /// Learns from an answer which log the present hub holds, and says so when it is another one than before.
    pub(crate) fn note_log(&mut self, published: &[Published]) {
        let Some(log) = published.iter().find_map(Published::log) else { return };
        if let Some(known) = self.logs.get_mut(self.hub) {
            *known = Some(log);
        }
        if let Some(before) = self.log.replace(log).filter(|before| *before != log) {
            let hub = self.dialer.hubs().get(self.hub).map(|hub| hub.origin.as_str()).unwrap_or_default();
            tracing::warn!(
                hub, %before, %log,
                "events are appended to another log than before; readers of that one do not see them"
            );
        }
    }

    async fn ask<T: Answer>(&mut self, path: &str, request: &impl prost::Message) -> Result<T, Failure> {
        // Taken out meanwhile: a request that is given up half way takes its connection with it.
        // One that the hub has closed since, because nothing was asked, is no failure of the hub's.
        let kept = self.connection.take().filter(Connection::is_open);
        let was_kept = kept.is_some();
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.dialer.dial(self.hub).await?,
        };
        self.reached = true;
        let answer = connection.unary(path, request, ANSWER_MAX_BYTES).await;
        let is_stale = was_kept && self.dialer.token.as_ref().is_some_and(Token::may_change);
        if is_stale && answer.as_ref().is_err_and(is_unauthenticated) {
            // Nothing was looked at, and whether the present token is good is not known yet.
            let why = "the token that this connection was opened with is good no more";
            return Err(Failure::Unreachable(why.to_owned()));
        }
        if worth_keeping(&answer) {
            self.connection = Some(connection);
        }
        answer
    }
}

/// Whoever answers is worth asking again, unless the answer is to go elsewhere, or that the token is good no more: a new
/// connection shows the present one.
fn worth_keeping<T>(answer: &Result<T, Failure>) -> bool {
    match answer {
        Ok(_) => true,
        Err(failure @ Failure::Status(status)) => {
            status.code != i32::from(tonic::Code::Unavailable) && !is_unauthenticated(failure)
        }
        Err(_) => false,
    }
}

fn is_unauthenticated(failure: &Failure) -> bool {
    matches!(failure, Failure::Status(status) if status.code == i32::from(tonic::Code::Unauthenticated))
}
