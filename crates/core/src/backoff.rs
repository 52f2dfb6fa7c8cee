//! How long to wait before the next try, and nothing else.
//!
//! [`link`](crate::link) asks it after each failed stream, each failed call of the handler or the dead letter, and each failed
//! load or save of the cursor; the client's driver for publishers, after each failed request and each publish stream that
//! ended. It neither sleeps nor draws random numbers: the caller passes one in and does the waiting.
//!
//! Delays use *full jitter*: uniform over `(0, ceiling]`, so that a thousand peers that lost the same hub at the same
//! moment come back spread over the whole ceiling and not in step around it.
//!
//! | cause | the wait is uniform over | with the defaults |
//! |---|---|---|
//! | [`Cause::Lost`], the first time | `(0, first]` | up to 200 ms |
//! | [`Cause::Lost`], the n-th time | `(0, base · 2^(n-2)]`, at most `(0, cap]` | up to 200 ms, 400 ms, 800 ms … 10 s |
//! | [`Cause::Conflict`] | `(cap/2, cap]` | 5 s to 10 s |
//! | [`Cause::Refused`] | `(refused_min, refused_max]` | 30 s to 60 s |
//! | the server asked for `retry_after` | `(retry_after, retry_after + first]` | as asked, up to 200 ms more |

use std::fmt;
use std::time::Duration;

/// The longest wait a server can ask for. A wrong number from a server must not silence a client for days.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// The delays. All fields are durations above zero; [`Backoff::try_new`] checks how they relate.
///
/// ```
/// use std::time::Duration;
/// use galaxy_push_core::backoff::{Backoff, Config};
///
/// let patient = Config::default()
///     .first(Duration::from_secs(1))
///     .base(Duration::from_secs(2))
///     .cap(Duration::from_secs(60))
///     .refused(Duration::from_secs(60), Duration::from_secs(120));
/// assert!(Backoff::try_new(patient).is_ok());
/// assert!(Backoff::try_new(Config::default().cap(Duration::from_millis(1))).is_err(), "the cap is below the first delay");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// The ceiling of the first wait after health; 200 ms.
    pub first: Duration,
    /// The ceiling of the second wait; it doubles from there. 200 ms.
    pub base: Duration,
    /// The ceiling no ordinary wait exceeds; 10 s. After a conflict the wait is uniform over `(cap/2, cap]`.
    pub cap: Duration,
    /// The shortest wait after a refusal that no retry is likely to change; 30 s.
    pub refused_min: Duration,
    /// The longest such wait; 60 s.
    pub refused_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(200),
            base: Duration::from_millis(200),
            cap: Duration::from_secs(10),
            refused_min: Duration::from_secs(30),
            refused_max: Duration::from_secs(60),
        }
    }
}

impl Config {
    /// Sets the ceiling of the first wait after health.
    #[must_use]
    pub const fn first(mut self, first: Duration) -> Self {
        self.first = first;
        self
    }

    /// Sets the ceiling of the second wait, which doubles from there.
    #[must_use]
    pub const fn base(mut self, base: Duration) -> Self {
        self.base = base;
        self
    }

    /// Sets the ceiling that no ordinary wait exceeds.
    #[must_use]
    pub const fn cap(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// Sets the shortest and the longest wait after a refusal that no retry is likely to change.
    #[must_use]
    pub const fn refused(mut self, min: Duration, max: Duration) -> Self {
        (self.refused_min, self.refused_max) = (min, max);
        self
    }
}

/// Why the last try failed, as far as waiting is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Nobody is to blame that could be asked: the network, a restart, an overload. Soon again, then ever later.
    Lost,
    /// Another process holds the same identity. Rushing back would only keep the id flapping.
    Conflict,
    /// The server understood and said no. Only an operator changes that, so a slow poll is enough.
    Refused,
}

/// The delays of one thing that is retried, and how often it has failed since it was healthy.
///
/// ```
/// use std::time::Duration;
/// use galaxy_push_core::backoff::{Backoff, Cause, Config};
///
/// let mut backoff = Backoff::try_new(Config::default())?;
/// let longest = u64::MAX; // in place of a random number
/// assert_eq!(backoff.delay(Cause::Lost, None, longest), Duration::from_millis(200));
/// assert_eq!(backoff.delay(Cause::Lost, None, longest), Duration::from_millis(200));
/// assert_eq!(backoff.delay(Cause::Lost, None, longest), Duration::from_millis(400));
/// assert_eq!(backoff.delay(Cause::Lost, Some(Duration::from_secs(7)), 0).as_secs(), 7, "what the server asks for wins");
/// assert_eq!(backoff.failures(), 4);
/// backoff.reset(); // on proof of health
/// assert_eq!(backoff.failures(), 0);
/// # Ok::<(), galaxy_push_core::backoff::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Backoff {
    config: Config,
    failures: u32,
}

impl Backoff {
    /// Starts healthy.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when a delay is zero, `first` or `base` exceeds `cap`, `refused_min` exceeds `refused_max`, or
    /// any of them exceeds [`RETRY_AFTER_MAX`].
    pub fn try_new(config: Config) -> Result<Self, ConfigError> {
        let Config { first, base, cap, refused_min, refused_max } = config;
        if [first, base, cap, refused_min].contains(&Duration::ZERO) {
            return Err(ConfigError("a delay of zero would retry in a tight loop: make each one positive"));
        }
        if first > cap || base > cap {
            return Err(ConfigError("the first and the base delay must not exceed the cap"));
        }
        if refused_min > refused_max {
            return Err(ConfigError("the shortest delay after a refusal must not exceed the longest"));
        }
        if cap > RETRY_AFTER_MAX || refused_max > RETRY_AFTER_MAX {
            return Err(ConfigError("no delay may exceed one hour"));
        }
        Ok(Self { config, failures: 0 })
    }

    /// The wait before the next try, and one failure counted.
    ///
    /// `retry_after` is what the server asked for, if it did: it wins over every rule here, up to
    /// [`RETRY_AFTER_MAX`], with at most `first` added so that peers that were given the same moment do not meet there.
    /// `random` is uniform over all of `u64`. Never panics, at any number of failures.
    #[must_use]
    pub fn delay(&mut self, cause: Cause, retry_after: Option<Duration>, random: u64) -> Duration {
        let (above, up_to) = self.bounds(cause, retry_after);
        self.failures = self.failures.saturating_add(1);
        between(above, up_to, random)
    }

    /// The wait after [`Cause::Lost`] as if so many failures had been counted: for a caller that counts them itself.
    #[must_use]
    pub fn delay_after(&self, failures: u32, random: u64) -> Duration {
        between(Duration::ZERO, self.ceiling(failures), random)
    }

    /// Forgets the failures. Call it on proof of health only: a dial that succeeds proves nothing.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// How many delays were asked for since the last reset.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The next delay lies in `(.0, .1]`.
    fn bounds(&self, cause: Cause, retry_after: Option<Duration>) -> (Duration, Duration) {
        let config = &self.config;
        match (retry_after, cause) {
            (Some(asked), _) => {
                let asked = asked.min(RETRY_AFTER_MAX);
                (asked, asked + config.first)
            }
            (None, Cause::Lost) => (Duration::ZERO, self.ceiling(self.failures)),
            (None, Cause::Conflict) => (config.cap / 2, config.cap),
            (None, Cause::Refused) => (config.refused_min, config.refused_max),
        }
    }

    fn ceiling(&self, failures: u32) -> Duration {
        match failures.checked_sub(1) {
            None => self.config.first,
            Some(doublings) => {
                // Both steps clamp: a shift past 31 bits and a product past the range mean "the cap".
                let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
                self.config.base.saturating_mul(factor).min(self.config.cap)
            }
        }
    }
}

/// Uniform over `(above, up_to]`, for a `random` uniform over all of `u64`. Both bounds are below two hours.
fn between(above: Duration, up_to: Duration, random: u64) -> Duration {
    let span = up_to.saturating_sub(above).as_nanos();
    let nanos = (span * (u128::from(random) + 1)) >> 64;
    // The span is below 2^43 ns, so it fits; at least one nanosecond, because the interval is open below.
    let nanos = u64::try_from(nanos).unwrap_or(u64::MAX).max(1);
    (above + Duration::from_nanos(nanos)).min(up_to)
}

/// Settings that contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigError(pub(crate) &'static str);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn backoff() -> Backoff {
        Backoff::try_new(Config::default()).unwrap()
    }

    prop_compose! {
        fn any_config()(
            cap in 1u64..=3_600_000_000_000,
            parts in (0.0f64..=1.0, 0.0f64..=1.0, 0.0f64..=1.0),
            refused_max in 1u64..=3_600_000_000_000,
        ) -> Config {
            let part = |of: u64, part: f64| Duration::from_nanos(((of as f64 * part) as u64).clamp(1, of));
            Config {
                first: part(cap, parts.0),
                base: part(cap, parts.1),
                cap: Duration::from_nanos(cap),
                refused_min: part(refused_max, parts.2),
                refused_max: Duration::from_nanos(refused_max),
            }
        }
    }

    proptest! {
        #[test]
        fn every_delay_lies_within_its_bounds(
            config in any_config(), failures: u32, random: u64, told in prop::option::of(any::<Duration>()),
        ) {
            let mut backoff = Backoff { failures, ..Backoff::try_new(config.clone()).unwrap() };
            for cause in [Cause::Lost, Cause::Conflict, Cause::Refused] {
                let (above, up_to) = backoff.bounds(cause, told);
                let delay = backoff.delay(cause, told, random);
                prop_assert!(above <= delay && delay <= up_to, "{above:?} {delay:?} {up_to:?}");
                prop_assert!(delay > Duration::ZERO);
                if told.is_none() {
                    prop_assert!(delay <= config.cap.max(config.refused_max));
                }
            }
            prop_assert_eq!(backoff.failures(), failures.saturating_add(3));
        }

        #[test]
        fn the_ceiling_never_falls(config in any_config()) {
            let mut backoff = Backoff::try_new(config.clone()).unwrap();
            let mut last = Duration::ZERO;
            for failures in (1..200).chain([u32::MAX - 1, u32::MAX]) {
                backoff.failures = failures;
                prop_assert!(backoff.ceiling(failures) >= last);
                last = backoff.ceiling(failures);
                prop_assert_eq!(backoff.delay_after(failures, u64::MAX), last);
            }
            prop_assert_eq!(last, config.cap);
        }
    }

    #[test]
    fn grows_to_the_cap_and_starts_over_on_reset() {
        let mut backoff = backoff();
        let longest = |backoff: &mut Backoff| backoff.delay(Cause::Lost, None, u64::MAX).as_millis();
        let delays: Vec<_> = (0..9).map(|_| longest(&mut backoff)).collect();
        assert_eq!(delays, [200, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        backoff.reset();
        assert_eq!(longest(&mut backoff), 200);
    }

    #[test]
    fn jitter_is_full() {
        let mut backoff = Backoff { failures: 30, ..backoff() };
        let mut delay = |random| backoff.delay(Cause::Lost, None, random);
        assert_eq!(delay(0), Duration::from_nanos(1));
        assert_eq!(delay(u64::MAX / 2), seconds(5));
        assert_eq!(delay(u64::MAX), seconds(10));
    }

    #[test]
    fn a_conflict_cools_down_and_a_refusal_waits_long() {
        let mut backoff = backoff();
        let mut range = |cause| [0, u64::MAX].map(|random| backoff.delay(cause, None, random));
        assert_eq!(range(Cause::Conflict), [seconds(5) + Duration::from_nanos(1), seconds(10)]);
        assert_eq!(range(Cause::Refused), [seconds(30) + Duration::from_nanos(1), seconds(60)]);
    }

    #[test]
    fn what_the_server_asks_for_wins() {
        let mut backoff = backoff();
        for cause in [Cause::Lost, Cause::Conflict, Cause::Refused] {
            let delay = backoff.delay(cause, Some(seconds(7)), u64::MAX);
            assert_eq!(delay, seconds(7) + Duration::from_millis(200));
        }
        assert!(backoff.delay(Cause::Lost, Some(Duration::MAX), 1) <= RETRY_AFTER_MAX + seconds(1));
    }

    #[test]
    fn refuses_delays_that_contradict_each_other() {
        let good = Config::default();
        for bad in [
            Config { first: Duration::ZERO, ..good.clone() },
            Config { first: seconds(11), ..good.clone() },
            Config { base: seconds(11), ..good.clone() },
            Config { refused_min: seconds(61), ..good.clone() },
            Config { cap: seconds(3601), ..good.clone() },
            Config { refused_max: Duration::MAX, ..good.clone() },
        ] {
            assert!(Backoff::try_new(bad.clone()).is_err(), "{bad:?}");
        }
        assert!(Backoff::try_new(good).is_ok());
    }
}
