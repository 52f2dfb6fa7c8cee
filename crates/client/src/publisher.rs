//! Sends events to a hub and asks where its log stands.
//!
//! Called by backends and the command line. It neither batches nor queues: each call sends what it is given, again and
//! again with the same ids until the hub answers, which appends each event at most once.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use galaxy_push_core::backoff::{self, Backoff};
use galaxy_push_proto::v1::{Event, HeadRequest, HeadResponse, PublishRequest, PublishResponse};
use tokio::time::{Instant, timeout};

use crate::driver::{Attempt, retry};
use crate::hub::Hub;
use crate::random::Random;
use crate::transport::{Connection, Dialer};
use crate::{BuildError, Connector, Failure, TcpConnector};

const PUBLISH: &str = "/push.v1.Publisher/Publish";
const HEAD: &str = "/push.v1.Publisher/Head";

/// The largest answer taken: a thousand results of the longest ids and cursors are well below it.
const ANSWER_MAX_BYTES: usize = 4 << 20;

/// How long one try may take, connection included.
const TRY_DEADLINE: Duration = Duration::from_secs(10);

/// Publishes events to a hub. One request at a time; make another publisher for more.
#[derive(Debug)]
pub struct Publisher {
    line: Line,
    backoff: Backoff,
    random: Random,
    give_up_after: Duration,
    namespace: String,
}

/// The connection to the hub in use, or the way to the next one.
#[derive(Debug)]
struct Line {
    dialer: Dialer,
    connection: Option<Connection>,
    hub: usize,
}

/// Makes a [`Publisher`]. Every setting but the hub has a default.
#[must_use]
pub struct PublisherBuilder {
    hubs: Vec<Result<Hub, BuildError>>,
    connector: Arc<dyn Connector>,
    backoff: backoff::Config,
    random: Option<Random>,
    give_up_after: Duration,
}

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The event's id.
    pub id: String,
    /// Its position; that of the original for a duplicate. Empty when refused or ephemeral.
    pub cursor: String,
    /// The log had it already.
    pub duplicate: bool,
    /// Set when the hub did not take it.
    pub refusal: Option<Refusal>,
}

/// Why one event of a request was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The `google.rpc.Code`.
    pub code: i32,
    /// The reason, for example `EVENT_TOO_LARGE`; may be empty.
    pub reason: String,
}

/// Where a log stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Head {
    /// The last position.
    pub cursor: String,
    /// The position just before the oldest event held.
    pub oldest: String,
    /// The present life of the log.
    pub epoch: String,
}

impl Publisher {
    /// Begins a publisher.
    pub fn builder() -> PublisherBuilder {
        PublisherBuilder {
            hubs: Vec::new(),
            connector: Arc::new(TcpConnector),
            backoff: backoff::Config::default(),
            random: None,
            give_up_after: Duration::from_secs(30),
        }
    }

    /// Publishes events, at most 1,000 and 4 MiB at once, and returns what became of each, in order. Each event needs
    /// an id: that is what makes sending it again harmless.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the hub refused the request as a whole, or did not answer until the time to give up. After the
    /// latter the events may have been appended or not; publishing them again with the same ids tells.
    ///
    /// # Cancel safety
    ///
    /// As for not being answered.
    pub async fn publish(&mut self, events: Vec<Event>) -> Result<Vec<Published>, Failure> {
        let sent = events.len();
        let request = PublishRequest { events, request_id: 0, namespace: self.namespace.clone() };
        let answer: PublishResponse = self.call(PUBLISH, &request).await?;
        if answer.results.len() != sent {
            return Err(Failure::Protocol("an answer that does not name each event of the request"));
        }
        let published = answer.results.into_iter().map(|result| Published {
            refusal: (result.code != 0).then_some(Refusal { code: result.code, reason: result.reason }),
            id: result.id,
            cursor: result.cursor,
            duplicate: result.duplicate,
        });
        Ok(published.collect())
    }

    /// Asks where the log stands: pair it with a snapshot of your own state.
    ///
    /// # Errors
    ///
    /// As for [`publish`](Self::publish).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn head(&mut self) -> Result<Head, Failure> {
        let request = HeadRequest { namespace: self.namespace.clone() };
        let answer: HeadResponse = self.call(HEAD, &request).await?;
        Ok(Head { cursor: answer.cursor, oldest: answer.oldest, epoch: answer.epoch })
    }

    async fn call<T: prost::Message + Default>(
        &mut self,
        path: &'static str,
        request: &impl prost::Message,
    ) -> Result<T, Failure> {
        let give_up = Instant::now() + self.give_up_after;
        let call = Call { line: &mut self.line, path, request, answer: PhantomData };
        retry(call, &mut self.backoff, &mut self.random, give_up).await
    }
}

/// One request, as often as it takes.
struct Call<'a, R, T> {
    line: &'a mut Line,
    path: &'static str,
    request: &'a R,
    answer: PhantomData<fn() -> T>,
}

impl<R: prost::Message, T: prost::Message + Default> Attempt for Call<'_, R, T> {
    type Answer = T;

    async fn attempt(&mut self) -> Result<T, Failure> {
        let answer = timeout(TRY_DEADLINE, self.line.ask(self.path, self.request)).await;
        if self.line.connection.is_none() {
            self.line.hub = (self.line.hub + 1) % self.line.dialer.hubs().len();
        }
        answer.unwrap_or_else(|_| Err(Failure::Lost("the hub did not answer in time".to_owned())))
    }
}

impl Line {
    async fn ask<T: prost::Message + Default>(
        &mut self,
        path: &str,
        request: &impl prost::Message,
    ) -> Result<T, Failure> {
        // Taken out meanwhile: a request that is given up half way takes its connection with it.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.dialer.dial(self.hub).await?,
        };
        let answer = connection.unary(path, request, ANSWER_MAX_BYTES).await;
        if worth_keeping(&answer) {
            self.connection = Some(connection);
        }
        answer
    }
}

/// Whoever answers is worth asking again, unless the answer is to go elsewhere.
fn worth_keeping<T>(answer: &Result<T, Failure>) -> bool {
    match answer {
        Ok(_) => true,
        Err(Failure::Status(status)) => status.code != i32::from(tonic::Code::Unavailable),
        Err(_) => false,
    }
}

impl PublisherBuilder {
    /// Adds a hub by its URL, or several with commas between. The next one is tried when one does not answer.
    pub fn hub(mut self, urls: &str) -> Self {
        match Hub::parse_list(urls) {
            Ok(hubs) => self.hubs.extend(hubs.into_iter().map(Ok)),
            Err(error) => self.hubs.push(Err(error)),
        }
        self
    }

    /// How long a call tries before it returns the last failure. 30 s.
    pub fn give_up_after(mut self, duration: Duration) -> Self {
        self.give_up_after = duration;
        self
    }

    /// The waits between tries.
    pub fn backoff(mut self, backoff: backoff::Config) -> Self {
        self.backoff = backoff;
        self
    }

    /// Opens connections with something else than TCP.
    pub fn connector(mut self, connector: impl Connector) -> Self {
        self.connector = Arc::new(connector);
        self
    }

    /// Draws random numbers, uniform over all of `u64`, from here. Default: a generator seeded by the operating system.
    pub fn random(mut self, source: impl FnMut() -> u64 + Send + 'static) -> Self {
        self.random = Some(Random::new(source));
        self
    }

    /// Makes the publisher. It connects with its first call.
    ///
    /// # Errors
    ///
    /// [`BuildError`] when a setting cannot work.
    pub fn build(self) -> Result<Publisher, BuildError> {
        let hubs = self.hubs.into_iter().collect::<Result<Vec<_>, _>>()?;
        if hubs.is_empty() {
            return Err(BuildError::NoHub);
        }
        Ok(Publisher {
            line: Line { dialer: Dialer::new(hubs, self.connector), connection: None, hub: 0 },
            backoff: Backoff::try_new(self.backoff)?,
            random: self.random.map_or_else(Random::from_os, Ok)?,
            give_up_after: self.give_up_after,
            namespace: String::new(),
        })
    }
}

impl std::fmt::Debug for PublisherBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublisherBuilder").field("hubs", &self.hubs).finish_non_exhaustive()
    }
}
