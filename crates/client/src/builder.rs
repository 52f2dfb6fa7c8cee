//! A client's settings. How a client starts from them is in `start`.
//!
//! Made by [`PushClient::builder`](crate::PushClient::builder). Setters only remember: everything is checked together when the client is
//! started, so their order does not matter and nothing is opened before.

use std::time::Duration;

use galaxy_push_core::backoff;
use galaxy_push_core::link;
use galaxy_push_proto::feature;
use galaxy_push_proto::v1::GatewaySubscribeRequest;

use crate::dial_config::DialConfig;
use crate::handler::AnyDeadLetterHandler;
use crate::random::Random;
use crate::store::AnyStore;
use crate::{Connector, CursorStore, DeadLetterHandler, Order, RetryPolicy, Tracing};

/// Makes a [`PushClient`](crate::PushClient). Every setting but the hub has a default.
///
/// One of [`start`](Self::start), [`start_batches`](Self::start_batches) and [`stream`](Self::stream) ends the chain and starts the client.
///
/// A gateway whose cursor outlives the process:
///
/// ```no_run
/// use std::time::Duration;
/// use galaxy_push_client::{FileCursorStore, HandlerError, Item, PushClient, RetryPolicy};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let client = PushClient::builder("gateway-1")
///     .hub("http://hub-a:7400,http://hub-b:7400") // two doors to one log
///     .token_from(|| std::fs::read_to_string("/run/secrets/push").ok().map(|token| token.trim().to_owned()))
///     .recipients(["topic:orders/*", "all"])
///     .cursor("oldest") // where the very first start begins
///     .cursor_store(FileCursorStore::new("/var/lib/gateway-1.cursor"))
///     .save_every(100, Duration::from_secs(1))
///     .retry(RetryPolicy::times(5))
///     .dead_letter(async |item: Item, error: HandlerError| {
///         eprintln!("given up at {}: {error}", item.cursor());
///         Ok(())
///     })
///     .handler_deadline(Duration::from_secs(30))
///     .report_every(Duration::from_secs(5))
///     .report_connections(|| 0)
///     .start(async |_: Item| Ok(()))?;
/// # client.shutdown().await;
/// # Ok(())
/// # }
/// ```
///
/// What tests and unusual networks change:
///
/// ```no_run
/// use std::time::Duration;
/// use galaxy_push_client::{Item, PushClient, TcpConnector, Tracing, backoff};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let client = PushClient::builder("gateway-1")
///     .hub("http://127.0.0.1:7400")
///     .instance_id("start-4711") // a new one for each start
///     .token("secret")
///     .features([galaxy_push_client::feature::STANDING])
///     .connector(TcpConnector)
///     .random(|| 4) // every wait is the shortest, and a test replays exactly
///     .backoff(backoff::Config::default().cap(Duration::from_secs(2)))
///     .connect_deadline(Duration::from_secs(1))
///     .welcome_deadline(Duration::from_secs(1))
///     .silence_deadline(Duration::from_secs(15))
///     .leave_log_after(Duration::from_secs(30))
///     .max_receive_bytes(1 << 20)
///     .tracing(Tracing::default())
///     .at_most_once()
///     .cursor_store(galaxy_push_client::MemoryCursorStore::default())
///     .start(async |_: Item| Ok(()))?;
/// # client.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct Builder {
    pub(crate) dial_config: DialConfig,
    pub(crate) link: link::Config,
    pub(crate) request: GatewaySubscribeRequest,
    pub(crate) random: Option<Random>,
    pub(crate) dead_letter: Option<Box<dyn AnyDeadLetterHandler>>,
    pub(crate) handler_deadline: Option<Duration>,
    pub(crate) store: Option<Box<dyn AnyStore>>,
    pub(crate) in_flight_bytes: usize,
    pub(crate) tracing: Tracing,
    pub(crate) report_every: Option<Duration>,
    pub(crate) connections: Option<Box<dyn Fn() -> u64 + Send>>,
}

impl Builder {
    pub(crate) fn new(gateway_id: String) -> Self {
        Self {
            dial_config: DialConfig::new(),
            link: link::Config::default(),
            request: GatewaySubscribeRequest { gateway_client_id: gateway_id, ..Default::default() },
            random: None,
            dead_letter: None,
            handler_deadline: None,
            store: None,
            in_flight_bytes: 4 << 20,
            tracing: Tracing::default(),
            report_every: None,
            connections: None,
        }
    }

    /// Adds a hub by its URL, or several with commas between. They are tried in turn: the next one after each failure
    /// but a conflict of gateway ids, which would meet the same rival there.
    ///
    /// Several hubs are several doors to *one* log. Each is asked which one it holds before a stream is opened, and every
    /// 30 s (`Publisher/Head`; a hub that does not say counts as one of the log). Different logs are a split: the log
    /// warns of it, and [`Status::is_split`](crate::Status::is_split) and [`Status::doors`](crate::Status::doors) show it.
    /// The client stays in its log. It goes over to another one, across a [`Gap`](crate::Gap), at once when every hub
    /// answers and none holds it, and after [`leave_log_after`](Self::leave_log_after) while some hub does not answer; then
    /// it stays there. Within a process it remembers how far it came in the last 8 logs it left: if one comes back, what it
    /// has handled there is not handed over again.
    ///
    /// A URL is `http://host[:port]` or `https://host[:port]`, without a path. One that cannot be used fails the start with
    /// [`BuildError::HubUrl`](crate::BuildError::HubUrl).
    pub fn hub(mut self, urls: &str) -> Self {
        self.dial_config.hub(urls);
        self
    }

    /// With several hubs: how long one is waited for that holds the log that is followed, while some hub does not answer and
    /// those that do hold another log. 30 s. Zero: the first hub that answers is used, whichever log it holds.
    pub fn leave_log_after(mut self, duration: Duration) -> Self {
        self.link.leave_log_after = duration;
        self
    }

    /// Where the first stream starts: `""`, the default, at the head; `"oldest"` at the oldest event held; else after
    /// this cursor. One that the hub cannot read costs a [`Gap`](crate::Gap), not the client.
    ///
    /// With a [`cursor_store`](Self::cursor_store) that holds something, this says nothing.
    pub fn cursor(mut self, cursor: impl Into<String>) -> Self {
        self.link.start = cursor.into();
        self
    }

    /// Names this process, so that the hub tells its reconnects from a rival's: a new name for each start, or the hub takes
    /// what comes for late duplicates of the process before. Default: 128 random bits.
    pub fn instance_id(mut self, instance_id: impl Into<String>) -> Self {
        self.request.instance_id = instance_id.into();
        self
    }

    /// Proves the gateway's identity to the hub. Sent with every subscribe: over anything but TLS or loopback, everybody on
    /// the way can read it.
    ///
    /// Visible ASCII without spaces; it goes out as `authorization: Bearer …`.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.dial_config.token(&token.into());
        self
    }

    /// As [`token`](Self::token), for one that may be replaced: `source` is asked for each connection, on a thread that may
    /// wait, such as for a file. What it does not say leaves the token before.
    pub fn token_from(mut self, source: impl Fn() -> Option<String> + Send + Sync + 'static) -> Self {
        self.dial_config.token_from(source);
        self
    }

    /// Secures connections to `https://` hubs. Default: as [`Tls::system`](crate::Tls::system) does.
    ///
    /// ```no_run
    /// use galaxy_push_client::{Item, PushClient, Tls};
    ///
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let tls = Tls::trusting("hub-ca.pem")?.presenting("gateway-1.pem", "gateway-1.key")?;
    /// let client = PushClient::builder("gateway-1").hub("https://hub:7400").tls(tls).start(async |_: Item| Ok(()))?;
    /// # client.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: crate::Tls) -> Self {
        self.dial_config.tls(tls);
        self
    }

    /// Asks for some recipients only: exact, or a pattern with one trailing `*`. Default: all that is allowed.
    pub fn recipients(mut self, recipients: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.request.recipients = recipients.into_iter().map(Into::into).collect();
        self
    }

    /// Lists the frame kinds beyond events that the handler deals with. Default: none. The names are those of
    /// [`galaxy_push_proto::feature`].
    ///
    /// With `standing`, no cursor is resumed from before the standing records that belong to it were handled; a stream that
    /// breaks in between begins again where the one before it was.
    pub fn features(mut self, features: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.request.features = features.into_iter().map(Into::into).collect();
        self.link.standing = self.request.features.iter().any(|name| name == feature::STANDING);
        self
    }

    /// The largest message to accept, in bytes, at least 1,024. The hub is told, and sends a gap in place of a larger
    /// event. 4 MiB.
    pub fn max_receive_bytes(mut self, bytes: u32) -> Self {
        self.link.max_receive_bytes = bytes as usize;
        self.request.max_receive_bytes = bytes;
        self
    }

    /// The waits between tries, and between calls of a failing handler.
    pub fn backoff(mut self, backoff: backoff::Config) -> Self {
        self.link.backoff = backoff;
        self
    }

    /// How long a connection may take to come about. 5 s.
    pub fn connect_deadline(mut self, deadline: Duration) -> Self {
        self.link.connect_deadline = deadline;
        self
    }

    /// How long the hub's welcome may take after that. 5 s.
    pub fn welcome_deadline(mut self, deadline: Duration) -> Self {
        self.link.welcome_deadline = deadline;
        self
    }

    /// How long a stream may be silent while the client waits to read. 15 s; hubs send progress every 5 s. A frame that is on
    /// its way is no silence, however slow the line, down to 64 bytes a second.
    pub fn silence_deadline(mut self, deadline: Duration) -> Self {
        self.link.silence_deadline = deadline;
        self
    }

    /// Where the spans of handling events go that carry a trace. Default: nowhere.
    pub fn tracing(mut self, tracing: Tracing) -> Self {
        self.tracing = tracing;
        self
    }

    /// Tells the hub how far the handler is, about so often (a quarter more or less) and only while a stream is open and
    /// something has changed: the hub shows the lag of what is *handled* beside that of what is sent. 5 s is a good value.
    /// Default: never.
    ///
    /// Reports take a second connection, so that nothing disturbs the stream. One that fails is forgotten. A hub that refuses
    /// them, because it does not know them or this peer may not send them, is not asked again before the next stream.
    pub fn report_every(mut self, every: Duration) -> Self {
        self.report_every = Some(every);
        self
    }

    /// How many users' connections this gateway has, for its reports. Called at each; must not wait. Default: 0 is reported.
    pub fn report_connections(mut self, connections: impl Fn() -> u64 + Send + 'static) -> Self {
        self.connections = Some(Box::new(connections));
        self
    }

    /// Opens connections with something else than TCP.
    pub fn connector(mut self, connector: impl Connector) -> Self {
        self.dial_config.connector(connector);
        self
    }

    /// Draws random numbers, uniform over all of `u64`, from here. Default: a generator seeded by the operating system.
    pub fn random(mut self, source: impl FnMut() -> u64 + Send + 'static) -> Self {
        self.random = Some(Random::new(source));
        self
    }

    /// How often an item on which the handler fails is tried again. Default: for ever; nothing behind it is delivered
    /// before it succeeds. With a limit, a [`dead_letter`](Self::dead_letter) must take what is given up.
    ///
    /// ```text
    /// RetryPolicy::forever()   fail, wait, fail, wait longer, … succeed; everything behind it waits
    /// RetryPolicy::times(2)    fail, wait, fail, wait, fail, dead letter; then the next item
    /// ```
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.link.retry = retry;
        self
    }

    /// Takes the items that are given up, with the handler's last error.
    pub fn dead_letter(mut self, dead_letter: impl DeadLetterHandler) -> Self {
        self.dead_letter = Some(Box::new(dead_letter));
        self
    }

    /// How long one call of the handler may take, after which it is dropped at its `.await` and counts as failed.
    /// Default: as long as it likes. Not for the stream form.
    pub fn handler_deadline(mut self, deadline: Duration) -> Self {
        self.handler_deadline = Some(deadline);
        self
    }

    /// Keeps the cursor across restarts. What the store holds wins over [`cursor`](Self::cursor), which is where a
    /// client starts that never saved anything.
    ///
    /// Saved is after the handler has returned and before the next call, so a crash repeats one call at most and loses
    /// none: an item for [`start`](Self::start), a batch for [`start_batches`](Self::start_batches). In the stream form
    /// a crash repeats what was in flight, and beside it the acks that had moved the cursor and were being saved.
    ///
    /// A store that fails holds nobody up. It is tried again after a growing wait, [`Status::store`](crate::Status::store)
    /// says so, and until it works a crash repeats more. One that cannot be read at the start is tried five times;
    /// then the handler gets a [`Gap`](crate::Gap) of reason `CursorUnreadable`, and the stream starts from the
    /// oldest event held.
    pub fn cursor_store(mut self, store: impl CursorStore) -> Self {
        self.store = Some(Box::new(store));
        self
    }

    /// Saves the cursor only every so many handler calls, or `within` so long after the first unsaved one: cheaper, and a
    /// crash repeats so many calls at most. The cursor is also saved before each wait and at a shutdown. Default: 1.
    pub fn save_every(mut self, calls: u32, within: Duration) -> Self {
        let storing = self.link.storing.get_or_insert_default();
        (storing.every, storing.within) = (calls, within);
        self
    }

    /// Saves the cursor *before* the handler is called: a crash repeats nothing, and loses what was being handled.
    ///
    /// This is about crashes. Within the process a failing call is repeated as [`retry`](Self::retry) says, so a handler
    /// that must not be called twice takes `RetryPolicy::times(0)`, and one item at a time: a batch that failed is handed
    /// over again item by item. While the store fails the handler is not called, at the start too: it is not given up after five tries,
    /// because all that the hub holds would come again.
    pub fn at_most_once(mut self) -> Self {
        self.link.storing.get_or_insert_default().order = Order::BeforeHandler;
        self
    }

    /// For the stream form: how much may be out and not acked, in bytes of frames and 128 for each item. 4 MiB. Beyond
    /// it nothing is delivered and nothing is read; one item alone may exceed it.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut stream = galaxy_push_client::PushClient::builder("gateway-1")
    ///     .hub("http://127.0.0.1:7400")
    ///     .in_flight_bytes(64 << 20) // a reader that works on many items at once
    ///     .stream()?;
    /// # drop(stream);
    /// # Ok(())
    /// # }
    /// ```
    pub fn in_flight_bytes(mut self, bytes: usize) -> Self {
        self.in_flight_bytes = bytes;
        self
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("reach", &self.dial_config)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}
