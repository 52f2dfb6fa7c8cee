//! A publisher's settings, checked all at once.

use std::time::Duration;

use galaxy_push_core::FOR_EVER;
use galaxy_push_core::backoff::{self, Backoff};

use super::hub_connection::HubConnection;
use super::{Publisher, UncertainEvents};
use crate::dial_config::DialConfig;
use crate::random::Random;
use crate::{BuildError, Connector, Tracing};

/// The most that [`PublisherBuilder::in_flight_bytes`] can be.
const IN_FLIGHT_MAX: u32 = 256 << 20;

/// Makes a [`Publisher`]. Every setting but the hub has a default.
///
/// ```no_run
/// use std::time::Duration;
/// use galaxy_push_client::{Publisher, TcpConnector, Tracing, backoff};
///
/// # fn run() -> Result<(), galaxy_push_client::BuildError> {
/// let publisher = Publisher::builder()
///     .hub("http://hub-a:7400,http://hub-b:7400")
///     .token("secret")
///     .give_up_after(Duration::from_secs(60))
///     .in_flight_bytes(16 << 20)
///     .backoff(backoff::Config::default())
///     .connector(TcpConnector)
///     .tracing(Tracing::default())
///     .random(|| 4)
///     .build()?;
/// let renewed = Publisher::builder().hub("http://hub-a:7400").token_from(|| std::env::var("PUSH_TOKEN").ok()).build()?;
/// # drop((publisher, renewed));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct PublisherBuilder {
    dial_config: DialConfig,
    backoff: backoff::Config,
    random: Option<Random>,
    give_up_after: Duration,
    in_flight_bytes: u32,
    tracing: Tracing,
}

impl PublisherBuilder {
    pub(super) fn new() -> Self {
        Self {
            dial_config: DialConfig::new(),
            backoff: backoff::Config::default(),
            random: None,
            give_up_after: Duration::from_secs(30),
            in_flight_bytes: 4 << 20,
            tracing: Tracing::default(),
        }
    }

    /// Adds a hub by its URL, or several with commas between. The next one is tried when one does not answer.
    pub fn hub(mut self, urls: &str) -> Self {
        self.dial_config.hub(urls);
        self
    }

    /// How long a call tries before it returns the last failure: the last try begins then at the latest, and may take 10 s
    /// itself. 30 s.
    pub fn give_up_after(mut self, duration: Duration) -> Self {
        self.give_up_after = duration;
        self
    }

    /// For the stream: how much may be sent and not answered, in bytes of requests and 1 KiB for each. 4 MiB, and at most
    /// 256 MiB. Beyond it [`PublishStream::send`](crate::PublishStream::send) waits; one request alone may exceed it.
    pub fn in_flight_bytes(mut self, bytes: u32) -> Self {
        self.in_flight_bytes = bytes;
        self
    }

    /// Proves the publisher's identity to the hub. Sent with every request: over anything but TLS or loopback, everybody
    /// on the way can read it.
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
    /// # fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let tls = galaxy_push_client::Tls::trusting("hub-ca.pem")?;
    /// let publisher = galaxy_push_client::Publisher::builder().hub("https://hub:7400").tls(tls).build()?;
    /// # drop(publisher);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: crate::Tls) -> Self {
        self.dial_config.tls(tls);
        self
    }

    /// Where the spans of publishing go. With a tracer, an event without `traceparent` is given one. Default: nowhere.
    pub fn tracing(mut self, tracing: Tracing) -> Self {
        self.tracing = tracing;
        self
    }

    /// The waits between tries.
    pub fn backoff(mut self, backoff: backoff::Config) -> Self {
        self.backoff = backoff;
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

    /// Makes the publisher. It connects with its first call.
    ///
    /// # Errors
    ///
    /// [`BuildError`] when a setting cannot work.
    pub fn build(self) -> Result<Publisher, BuildError> {
        Ok(Publisher {
            hub_connection: HubConnection::new(self.dial_config.dialer()?),
            backoff: Backoff::try_new(self.backoff)?,
            random: self.random.map_or_else(Random::from_os, Ok)?,
            give_up_after: self.give_up_after.min(FOR_EVER),
            in_flight_bytes: self.in_flight_bytes.clamp(1, IN_FLIGHT_MAX),
            namespace: String::new(),
            tracing: self.tracing,
            uncertain: UncertainEvents::default(),
            in_call: Vec::new(),
        })
    }
}

impl std::fmt::Debug for PublisherBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublisherBuilder").field("reach", &self.dial_config).finish_non_exhaustive()
    }
}
