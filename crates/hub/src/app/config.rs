//! What can be set on a hub, with its defaults and limits.
//!
//! Whoever starts a hub builds one; [`Hub::new`](crate::Hub::new) checks it. Setters take what they are given; only
//! [`Config::check`] knows the rules, because some of them are about two settings at once.

use std::time::Duration;

use galaxy_push_core::trace::Tracing;
use galaxy_push_core::window::Bounds;
use galaxy_push_proto::validate::{
    DATA_BYTES_DEFAULT, DATA_BYTES_MAX, INVALIDATION_LIFE_DEFAULT, REQUEST_BYTES_MAX,
};
use galaxy_push_store::standing::RECORDS_MAX;

use crate::state::access::Access;

/// A gateway takes a hub that says nothing for 15 s for dead, so two heartbeats must fit in.
const HEARTBEAT_MAX: Duration = Duration::from_secs(7);

/// What the frame around an event's data takes at the least, in bytes. One that names much takes more; an event whose
/// frame no window could hold is refused when it is published.
const FRAME_BYTES: usize = 100;

/// The settings of a hub. [`Config::default`] runs as it is.
///
/// ```
/// use std::time::Duration;
/// use galaxy_push_core::window::Bounds;
/// use galaxy_push_hub::Config;
///
/// let window = Bounds { age: Duration::from_secs(60), events: 10_000, bytes: 16 << 20 };
/// let config = Config::default().window(window).heartbeat(Duration::from_secs(3));
/// assert!(config.check().is_ok());
///
/// let wrong = Config::default().return_rate(0).check().unwrap_err();
/// assert_eq!(wrong.setting, "return_rate");
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) window: Bounds,
    pub(crate) event_bytes_max: usize,
    pub(crate) heartbeat: Duration,
    pub(crate) return_rate: u32,
    pub(crate) repair_spread: Duration,
    pub(crate) publish_requests_max: usize,
    pub(crate) publish_bytes_max: usize,
    pub(crate) standing_records_max: usize,
    pub(crate) invalidation_life: Duration,
    pub(crate) membership_life: Option<Duration>,
    pub(crate) tracing: Tracing,
    pub(crate) access: Access,
}

/// A setting that no hub can keep.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting} {rule}")]
pub struct InvalidConfig {
    /// The setting at fault: the method of [`Config`] that sets it, and behind a dot which part of it.
    pub setting: &'static str,
    /// The rule it breaks, as the rest of a sentence.
    pub rule: String,
}

impl Default for Config {
    /// A window of 10 minutes, 1,048,576 events and 256 MiB; 64 KiB of data per event; Progress after 5 s of silence;
    /// 1,000 returns per second after a drain; repairs after a gap spread over 30 s; 1,024 publishes of 64 MiB in flight
    /// at a time; 100,000 invalidations, kept for 24 h, and 100,000 memberships, kept until they end; everybody may do everything.
    fn default() -> Self {
        Self {
            window: Bounds::default(),
            event_bytes_max: DATA_BYTES_DEFAULT,
            heartbeat: Duration::from_secs(5),
            return_rate: 1_000,
            repair_spread: Duration::from_secs(30),
            publish_requests_max: 1_024,
            publish_bytes_max: 64 << 20,
            standing_records_max: RECORDS_MAX,
            invalidation_life: INVALIDATION_LIFE_DEFAULT,
            membership_life: None,
            tracing: Tracing::default(),
            access: Access::open(),
        }
    }
}

impl Config {
    /// What the window holds: an event is held while it is within the age, the count and the bytes.
    #[must_use]
    pub fn window(mut self, bounds: Bounds) -> Self {
        self.window = bounds;
        self
    }

    /// Where spans of events that carry a trace go. Default: nowhere.
    #[must_use]
    pub fn tracing(mut self, tracing: Tracing) -> Self {
        self.tracing = tracing;
        self
    }

    /// The largest data of an event, in bytes: 1 to 1 MiB. A larger one is refused with `EVENT_TOO_LARGE`.
    #[must_use]
    pub fn event_bytes_max(mut self, bytes: usize) -> Self {
        self.event_bytes_max = bytes;
        self
    }

    /// A stream on which nothing was sent for this long is sent Progress: above 0, at most 7 s, because a gateway takes a hub
    /// that is silent for 15 s for dead, and two heartbeats must fit in.
    #[must_use]
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.heartbeat = interval;
        self
    }

    /// How many gateways a second a drain sends away: at least 1. See [`Hub::drain`](crate::Hub::drain).
    #[must_use]
    pub fn return_rate(mut self, per_second: u32) -> Self {
        self.return_rate = per_second;
        self
    }

    /// Over how long the readers of one gap are told to spread their repairs: each is given a random `repair_after`
    /// below it. 0: all at once.
    #[must_use]
    pub fn repair_spread(mut self, over: Duration) -> Self {
        self.repair_spread = over;
        self
    }

    /// How many publish requests may be in flight at a time on all surfaces together, and how many bytes of events: at
    /// least 1, and at least 4 MiB, the largest request. More are refused before anything is appended: a store that is
    /// slow must not fill the memory.
    #[must_use]
    pub fn publishes_in_flight(mut self, requests: usize, bytes: usize) -> Self {
        (self.publish_requests_max, self.publish_bytes_max) = (requests, bytes);
        self
    }

    /// The most session invalidations, and the most memberships, held by the store of
    /// [`Hub::in_memory`](crate::Hub::in_memory). A store that is opened elsewhere has a limit of its own. Where there are
    /// several publishers, none may hold more than it leaves free.
    #[must_use]
    pub fn standing_records_max(mut self, records: usize) -> Self {
        self.standing_records_max = records;
        self
    }

    /// How long an invalidation is kept that does not say so: the longest life of a token, above 0.
    #[must_use]
    pub fn invalidation_life(mut self, life: Duration) -> Self {
        self.invalidation_life = life;
        self
    }

    /// How long a membership is kept that does not say so, above 0; `None`: until it is ended.
    #[must_use]
    pub fn membership_life(mut self, life: Option<Duration>) -> Self {
        self.membership_life = life;
        self
    }

    /// Who may do what.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Checks the settings together.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the first setting that cannot be kept, and the rule it breaks.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let rules = [
            ("window.age", self.window.age.is_zero(), "must be longer than 0".to_owned()),
            ("window.events", self.window.events == 0, "must be at least 1".to_owned()),
            (
                "window.bytes",
                self.window.bytes < (self.event_bytes_max + FRAME_BYTES) as u64,
                format!(
                    "must hold at least one event of {} bytes and the {FRAME_BYTES} bytes around it",
                    self.event_bytes_max
                ),
            ),
            (
                "event_bytes_max",
                self.event_bytes_max == 0 || self.event_bytes_max > DATA_BYTES_MAX,
                format!("must be 1 to {DATA_BYTES_MAX} bytes"),
            ),
            (
                "heartbeat",
                self.heartbeat.is_zero() || self.heartbeat > HEARTBEAT_MAX,
                format!("must be longer than 0 and at most {} s", HEARTBEAT_MAX.as_secs()),
            ),
            ("publishes_in_flight.requests", self.publish_requests_max == 0, "must be at least 1".to_owned()),
            (
                "publishes_in_flight.bytes",
                self.publish_bytes_max < REQUEST_BYTES_MAX,
                format!("must hold one request of {REQUEST_BYTES_MAX} bytes"),
            ),
            ("invalidation_life", self.invalidation_life.is_zero(), "must be longer than 0".to_owned()),
            (
                "membership_life",
                self.membership_life.is_some_and(|life| life.is_zero()),
                "must be longer than 0".to_owned(),
            ),
            ("return_rate", self.return_rate == 0, "must be at least 1 per second".to_owned()),
        ];
        match rules.into_iter().find(|(_, broken, _)| *broken) {
            Some((setting, _, rule)) => Err(InvalidConfig { setting, rule }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_no_hub_can_keep_are_named() {
        let wide = Bounds::default();
        assert_eq!(Config::default().check(), Ok(()));
        for (config, setting) in [
            (Config::default().window(Bounds { age: Duration::ZERO, ..wide }), "window.age"),
            (Config::default().window(Bounds { events: 0, ..wide }), "window.events"),
            (Config::default().window(Bounds { bytes: 65_635, ..wide }), "window.bytes"),
            (Config::default().event_bytes_max(0), "event_bytes_max"),
            (Config::default().event_bytes_max((1 << 20) + 1), "event_bytes_max"),
            (Config::default().heartbeat(Duration::ZERO), "heartbeat"),
            (Config::default().heartbeat(Duration::from_secs(8)), "heartbeat"),
            (Config::default().return_rate(0), "return_rate"),
            (Config::default().publishes_in_flight(0, 4 << 20), "publishes_in_flight.requests"),
            (Config::default().publishes_in_flight(1, (4 << 20) - 1), "publishes_in_flight.bytes"),
            (Config::default().invalidation_life(Duration::ZERO), "invalidation_life"),
            (Config::default().membership_life(Some(Duration::ZERO)), "membership_life"),
        ] {
            assert_eq!(config.check().unwrap_err().setting, setting);
        }
    }
}
