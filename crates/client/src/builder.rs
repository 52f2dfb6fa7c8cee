//! A client's settings, checked all at once when it starts.

use std::sync::Arc;
use std::time::Duration;

use galaxy_push_core::backoff;
use galaxy_push_core::link::{self, Link};
use galaxy_push_proto::v1::GatewaySubscribeRequest;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::Stop;
use crate::driver::Driver;
use crate::handler::OneByOne;
use crate::hub::Hub;
use crate::random::Random;
use crate::transport::Dialer;
use crate::{BatchHandler, Connector, Handler, PushClient, TcpConnector};

/// Settings that cannot work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No hub was named.
    #[error("no hub: name at least one, such as http://127.0.0.1:7400")]
    NoHub,
    /// A hub's URL cannot be used.
    #[error("cannot use {url:?} as a hub's URL: {why}")]
    HubUrl {
        /// The URL as given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The gateway id is empty.
    #[error("no gateway id: give each gateway a stable name of its own")]
    NoGatewayId,
    /// A deadline is zero.
    #[error("the {0} deadline is zero, so nothing could ever keep it: make it positive")]
    ZeroDeadline(&'static str),
    /// The largest message to receive is zero.
    #[error("max_receive_bytes is zero, so nothing could ever be received: make it positive")]
    ZeroReceiveBytes,
    /// The delays contradict each other.
    #[error("the backoff cannot work")]
    Backoff(#[from] backoff::ConfigError),
    /// The operating system gave no random numbers.
    #[error("the operating system gave no random numbers")]
    NoRandomness(#[from] getrandom::Error),
}

/// Makes a [`PushClient`]. Every setting but the hub has a default.
#[must_use]
pub struct Builder {
    hubs: Vec<Result<Hub, BuildError>>,
    link: link::Config,
    request: GatewaySubscribeRequest,
    connector: Arc<dyn Connector>,
    random: Option<Random>,
}

impl Builder {
    pub(crate) fn new(gateway_id: String) -> Self {
        Self {
            hubs: Vec::new(),
            link: link::Config::default(),
            request: GatewaySubscribeRequest { gateway_client_id: gateway_id, ..Default::default() },
            connector: Arc::new(TcpConnector),
            random: None,
        }
    }

    /// Adds a hub by its URL, or several with commas between. They are tried in turn: the next one after each failure
    /// but a conflict of gateway ids, which would meet the same rival there.
    pub fn hub(mut self, urls: &str) -> Self {
        match Hub::parse_list(urls) {
            Ok(hubs) => self.hubs.extend(hubs.into_iter().map(Ok)),
            Err(error) => self.hubs.push(Err(error)),
        }
        self
    }

    /// Where the first stream starts: `""`, the default, at the head; `"oldest"` at the oldest event held; else after
    /// this cursor. One that the hub cannot read costs a [`Gap`](crate::Gap), not the client.
    pub fn cursor(mut self, cursor: impl Into<String>) -> Self {
        self.link.start = cursor.into();
        self
    }

    /// Names this process, so that the hub tells its reconnects from a rival's. Default: 128 random bits.
    pub fn instance_id(mut self, instance_id: impl Into<String>) -> Self {
        self.request.instance_id = instance_id.into();
        self
    }

    /// Asks for some recipients only: exact, or a pattern with one trailing `*`. Default: all that is allowed.
    pub fn recipients(mut self, recipients: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.request.recipients = recipients.into_iter().map(Into::into).collect();
        self
    }

    /// Lists the frame kinds beyond events that the handler deals with. Default: none. The names are those of
    /// [`galaxy_push_proto::feature`].
    pub fn features(mut self, features: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.request.features = features.into_iter().map(Into::into).collect();
        self
    }

    /// The largest message to take, in bytes. The hub is told, and sends a gap in place of a larger event. 4 MiB.
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

    /// How long a stream may be silent while the client waits to read. 15 s; hubs send progress every 5 s.
    pub fn silence_deadline(mut self, deadline: Duration) -> Self {
        self.link.silence_deadline = deadline;
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

    /// Starts the client with a handler of single items.
    ///
    /// # Errors
    ///
    /// [`BuildError`] when a setting cannot work.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time enabled.
    pub fn start(self, handler: impl Handler) -> Result<PushClient, BuildError> {
        self.start_batches(OneByOne(handler))
    }

    /// Starts the client with a handler of batches.
    ///
    /// # Errors
    ///
    /// [`BuildError`] when a setting cannot work.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time enabled.
    pub fn start_batches(mut self, handler: impl BatchHandler) -> Result<PushClient, BuildError> {
        let hubs = self.hubs.into_iter().collect::<Result<Vec<_>, _>>()?;
        self.link.hubs = hubs.len();
        check(&self.link, &self.request)?;
        let mut random = match self.random {
            Some(random) => random,
            None => Random::from_os()?,
        };
        if self.request.instance_id.is_empty() {
            self.request.instance_id = format!("{:016x}{:016x}", random.next(), random.next());
        }
        let link = Link::try_new(self.link)?;
        let (status, shown) = watch::channel(link.status().clone());
        let (stop, started) = (CancellationToken::new(), Instant::now());
        let driver = Driver {
            link,
            dialer: Dialer::new(hubs, self.connector),
            connection: None,
            body: None,
            request: self.request,
            handler,
            random,
            started,
            status,
            stop: stop.clone(),
        };
        tokio::spawn(driver.run());
        Ok(PushClient { status: shown, started, stop: Arc::new(Stop(stop)) })
    }
}

fn check(link: &link::Config, request: &GatewaySubscribeRequest) -> Result<(), BuildError> {
    if link.hubs == 0 {
        return Err(BuildError::NoHub);
    }
    if request.gateway_client_id.is_empty() {
        return Err(BuildError::NoGatewayId);
    }
    if link.max_receive_bytes == 0 {
        return Err(BuildError::ZeroReceiveBytes);
    }
    let deadlines = [
        ("connect", link.connect_deadline),
        ("welcome", link.welcome_deadline),
        ("silence", link.silence_deadline),
    ];
    match deadlines.into_iter().find(|(_, deadline)| deadline.is_zero()) {
        Some((name, _)) => Err(BuildError::ZeroDeadline(name)),
        None => Ok(()),
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("hubs", &self.hubs)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}
