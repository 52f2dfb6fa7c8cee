//! The settings of a client's policy, with the defaults that are the project's.
//!
//! Built by the client's builder. That they fit together is checked by [`Link::try_new`](super::Link::try_new).

use std::time::Duration;

use crate::{FOR_EVER, backoff};

/// The policy's settings.
///
/// ```
/// use std::time::Duration;
/// use galaxy_push_core::link::{Config, DeliveryMode, Link, RetryPolicy};
///
/// let mut config = Config::default();
/// config.hubs = 2;
/// config.start = "oldest".to_owned();
/// config.silence_deadline = Duration::from_secs(30);
/// config.delivery_mode = DeliveryMode::Items;
/// config.retry = RetryPolicy::times(3);
/// assert!(Link::try_new(config).is_ok());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// How many hubs there are to rotate through; at least 1.
    pub hubs: usize,
    /// How long, while some hub does not answer, a hub is waited for that holds the log that is followed, before the link
    /// goes over to another log; 30 s. Without effect where there is one hub.
    pub leave_log_after: Duration,
    /// The cursor of the first subscribe: empty for the head, `oldest`, or a stored cursor.
    pub start: String,
    /// How long a connection may take to come about; 5 s.
    pub connect_deadline: Duration,
    /// How long a `Welcome` may take from then on; 5 s.
    pub welcome_deadline: Duration,
    /// How long a stream may be silent while the link waits to read; 15 s. Runs neither while the handler works nor
    /// while it is waited for.
    pub silence_deadline: Duration,
    /// How long a stream must have been live before a record or `Progress` proves health; 10 s.
    pub healthy_after: Duration,
    /// The largest message accepted, in bytes without its prefix; 4 MiB.
    pub max_receive_bytes: usize,
    /// The waits between tries, between calls of a failing handler, and between saves of a failing store.
    pub backoff: backoff::Config,
    /// How items reach the application.
    pub delivery_mode: DeliveryMode,
    /// What becomes of an item that fails.
    pub retry: RetryPolicy,
    /// How a cursor store is used; `None`: there is none.
    pub storing: Option<Storing>,
    /// Standing records were asked for: a cursor is resumed from only once those that belong to it have come.
    pub standing: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hubs: 1,
            leave_log_after: Duration::from_secs(30),
            start: String::new(),
            connect_deadline: Duration::from_secs(5),
            welcome_deadline: Duration::from_secs(5),
            silence_deadline: Duration::from_secs(15),
            healthy_after: Duration::from_secs(10),
            max_receive_bytes: 4 << 20,
            backoff: backoff::Config::default(),
            delivery_mode: DeliveryMode::default(),
            retry: RetryPolicy::default(),
            storing: None,
            standing: false,
        }
    }
}

impl Config {
    /// The same, but that nothing is waited for longer than can be reckoned with.
    pub(super) fn reckonable(mut self) -> Self {
        let waits = [
            &mut self.leave_log_after,
            &mut self.connect_deadline,
            &mut self.welcome_deadline,
            &mut self.silence_deadline,
            &mut self.healthy_after,
        ];
        let storing =
            self.storing.iter_mut().flat_map(|storing| [&mut storing.within, &mut storing.deadline]);
        waits.into_iter().chain(storing).for_each(|wait| *wait = FOR_EVER.min(*wait));
        self
    }
}

/// How items reach the application.
///
/// Chosen when the client is started, and never changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeliveryMode {
    /// A handler takes everything that one read brought.
    #[default]
    Batches,
    /// A handler takes the items of a batch one by one, and marks each as done.
    Items,
    /// Items go out as they come, and [`Input::Acks`](super::Input::Acks) says what became of each.
    Stream {
        /// So much may be out and not acked, in bytes of frames and [`IN_FLIGHT_OVERHEAD`] for each item.
        in_flight_bytes: usize,
    },
}

/// Whether the cursor is stored after the handler or before it.
///
/// ```text
/// AfterHandler    handler(i1) ─► save(i1) ─► handler(i2)    a crash before the save repeats i1
/// BeforeHandler   save(i1) ─► handler(i1) ─► save(i2)       a crash after the save loses i1
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Order {
    /// After: a crash repeats at most [`Storing::every`] handler calls, and loses nothing.
    #[default]
    AfterHandler,
    /// Before: a crash repeats nothing, and loses at most [`Storing::every`] items, or one batch.
    BeforeHandler,
}

/// How a cursor store is used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Storing {
    /// After or before the handler.
    pub order: Order,
    /// The cursor is stored every so many handler calls: items, batches, or acks. At least 1, which is the default.
    pub every: u32,
    /// It is stored at the latest so long after it moved; 1 s. Says nothing while `every` is 1.
    pub within: Duration,
    /// How long one load or save may take before it counts as failed; 5 s.
    pub deadline: Duration,
}

impl Default for Storing {
    fn default() -> Self {
        Self {
            order: Order::AfterHandler,
            every: 1,
            within: Duration::from_secs(1),
            deadline: Duration::from_secs(5),
        }
    }
}

/// What an item in flight costs beside the bytes of its frame, in bytes.
pub const IN_FLIGHT_OVERHEAD: usize = 128;

/// How often an item that fails is tried again before it becomes a dead letter.
///
/// ```
/// use galaxy_push_core::link::RetryPolicy;
///
/// assert!(!RetryPolicy::forever().is_limited());
/// assert!(RetryPolicy::times(0).is_limited(), "the first failure makes an item a dead letter");
/// assert_eq!(RetryPolicy::default(), RetryPolicy::forever());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryPolicy {
    retries: Option<u32>,
}

impl RetryPolicy {
    /// Again and again, after growing waits, until it succeeds: nothing behind the item is delivered before. The default.
    #[must_use]
    pub const fn forever() -> Self {
        Self { retries: None }
    }

    /// So many times more after the first failure; then it is a dead letter.
    #[must_use]
    pub const fn times(retries: u32) -> Self {
        Self { retries: Some(retries) }
    }

    /// Whether an item can become a dead letter at all.
    #[must_use]
    pub const fn is_limited(self) -> bool {
        self.retries.is_some()
    }

    pub(super) fn gives_up(self, failures: u32) -> bool {
        self.retries.is_some_and(|retries| failures > retries)
    }
}
