//! The two errors of this crate that are not a [`Failure`](crate::Failure): settings that cannot work, said before anything starts,
//! and what keeps a handler from an item.

use std::error::Error;
use std::fmt;

use galaxy_push_core::backoff;

use crate::fault::chain;

/// Settings that cannot work.
///
/// ```
/// use galaxy_push_client::{BuildError, Item, PushClient};
///
/// let error = PushClient::builder("gateway-1").start(async |_: Item| Ok(())).unwrap_err();
/// assert!(matches!(error, BuildError::NoHub));
/// let error = PushClient::builder("gateway-1").hub("hub:7400").start(async |_: Item| Ok(())).unwrap_err();
/// assert!(matches!(error, BuildError::HubUrl { .. }), "{error}");
/// ```
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
    /// The gateway id is one that no hub takes.
    #[error("no hub takes {id:?} as a gateway id: {why}")]
    GatewayId {
        /// The id as given.
        id: String,
        /// The rule it breaks.
        why: String,
    },
    /// The token cannot be sent.
    #[error("the token is empty, or has characters that cannot stand in a header: use visible ASCII")]
    Token,
    /// A deadline is zero.
    #[error("the {0} deadline is zero, so nothing could ever keep it: make it positive")]
    ZeroDeadline(&'static str),
    /// The largest message to receive is too small for control frames, and a hub refuses it.
    #[error("max_receive_bytes is {bytes}, and the frames about the stream itself need {min}: raise it")]
    ReceiveBytes {
        /// As given.
        bytes: usize,
        /// The least that works.
        min: usize,
    },
    /// A limit of retries without a dead letter would drop what it gives up.
    #[error("retries are limited and nobody takes what is given up: set a dead letter, or retry for ever")]
    NoDeadLetter,
    /// A dead letter without a limit of retries would never be used.
    #[error("a dead letter is never used while retries have no limit: set RetryPolicy::times")]
    NoRetryLimit,
    /// Saving is configured and there is no cursor store.
    #[error("the cursor is to be saved and there is no cursor store: set one")]
    NoCursorStore,
    /// The cursor would never be saved.
    #[error("the cursor is to be saved every 0 calls: 1 is every call")]
    ZeroSaveEvery,
    /// At most once and the stream form exclude each other.
    #[error(
        "at most once works with a handler only: a stream cannot tell when its reader begins with an item"
    )]
    AtMostOnceStream,
    /// Nothing could ever be in flight.
    #[error("in_flight_bytes is zero: make it positive")]
    ZeroInFlight,
    /// The authorities or certificates for `https://` hubs cannot be used.
    #[cfg(feature = "tls")]
    #[error("TLS to the hubs cannot be set up")]
    Tls(#[from] crate::TlsError),
    /// The delays contradict each other.
    #[error("the backoff cannot work")]
    Backoff(#[from] backoff::ConfigError),
    /// The operating system gave no random numbers.
    #[error("the operating system gave no random numbers")]
    NoRandomness(#[from] getrandom::Error),
}

/// Why an item could not be dealt with. `?` makes one of any error, of `anyhow::Error`, of a boxed error and of a text.
///
/// Is not an [`Error`] itself, which is what makes that conversion possible.
///
/// Its `Display` is one line: the error and all its causes.
///
/// ```
/// use galaxy_push_client::HandlerError;
///
/// fn parse(text: &str) -> Result<u64, HandlerError> {
///     if text.is_empty() {
///         return Err(HandlerError::msg("no number"));
///     }
///     Ok(text.parse::<u64>()?)
/// }
///
/// assert_eq!(parse("").unwrap_err().to_string(), "no number");
/// assert_eq!(parse("x").unwrap_err().to_string(), "invalid digit found in string");
/// assert_eq!(HandlerError::from("a text").to_string(), "a text");
/// ```
pub struct HandlerError(Box<dyn Error + Send + Sync>);

impl HandlerError {
    /// An error that is only a text.
    pub fn msg(text: impl Into<String>) -> Self {
        Self(text.into().into())
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain(&*self.0))
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
