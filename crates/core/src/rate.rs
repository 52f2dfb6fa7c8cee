//! A rate on the caller's clock: the generic cell rate algorithm (ITU-T I.371), which keeps one number.
//!
//! Publishers are held to one at the hub, users to one at the gateway. Pure: the caller passes the time.

use std::time::Duration;

/// So many per second, and a second's worth at once unless [`Rate::at_once`] says otherwise.
///
/// Copies are independent of each other. Nothing is allocated; time never passes by itself, because the caller says what time it is.
///
/// ```
/// use std::time::Duration;
/// use galaxy_push_core::rate::Rate;
///
/// let at = Duration::from_millis;
/// let mut rate = Rate::new(10);                                // ten a second, and ten at once
/// assert_eq!(rate.wait(10, at(0)), None);
/// rate.acquire(10, at(0));
/// assert_eq!(rate.wait(1, at(0)), Some(at(100)), "the next is earned in a tenth of a second");
/// assert_eq!(rate.wait(1, at(100)), None);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    per_second: u64,
    /// What is earned in this time may be taken at once.
    at_once: Duration,
    /// When everything taken so far would have been taken at exactly the limit.
    earned_at: Duration,
}

impl Rate {
    /// So many per second, 1 at least.
    #[must_use]
    pub fn new(per_second: u64) -> Self {
        Self { per_second: per_second.max(1), at_once: Duration::from_secs(1), earned_at: Duration::ZERO }
    }

    /// What is earned in this time may be taken at once.
    #[must_use]
    pub const fn at_once(mut self, earned_in: Duration) -> Self {
        self.at_once = earned_in;
        self
    }

    /// How long to wait until `count` can be taken; `None`: they can be taken now. More than may be taken at once is once
    /// nothing is owed.
    #[must_use]
    pub fn wait(&self, count: u64, now: Duration) -> Option<Duration> {
        let cost = self.cost(count);
        let burst = self.at_once.max(cost);
        let next = self.earned_at.max(now).saturating_add(cost);
        next.checked_sub(now.saturating_add(burst)).filter(|wait| !wait.is_zero())
    }

    /// Takes `count` out, whether or not that is more than there is: what is missing is owed, and [`wait`](Self::wait) counts it.
    ///
    /// Callers ask [`wait`](Self::wait) first where they can still refuse, and only acquire where the work is done already.
    pub fn acquire(&mut self, count: u64, now: Duration) {
        self.earned_at = self.earned_at.max(now).saturating_add(self.cost(count));
    }

    /// So many per second from now on. What is owed stays owed, and takes no longer to earn than it did.
    #[must_use]
    pub fn changed_to(self, per_second: u64, now: Duration) -> Self {
        let changed = Self { per_second: per_second.max(1), ..self };
        let owed = self.earned_at.saturating_sub(now);
        let nanos =
            owed.as_nanos().saturating_mul(u128::from(self.per_second)) / u128::from(changed.per_second);
        let owed = owed.min(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
        Self { earned_at: now.saturating_add(owed), ..changed }
    }

    fn cost(&self, count: u64) -> Duration {
        let nanos = u128::from(count) * 1_000_000_000 / u128::from(self.per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_s_worth_at_once_and_then_no_more_than_the_rate() {
        let mut rate = Rate::new(10);
        let at = Duration::from_millis;
        let mut take = |count: u64, ms: u64| match rate.wait(count, at(ms)) {
            Some(wait) => Err(wait.as_millis()),
            None => {
                rate.acquire(count, at(ms));
                Ok(())
            }
        };
        assert_eq!(take(10, 0), Ok(()));
        assert_eq!(take(1, 0), Err(100));
        assert_eq!(take(1, 100), Ok(()));
        assert_eq!(take(25, 100), Err(1_000), "more than a second's worth once nothing is owed");
        assert_eq!(take(25, 1_100), Ok(()));
        assert_eq!(take(1, 1_100), Err(1_600));
        let mut rate = Rate::new(10).at_once(Duration::from_secs(2));
        rate.acquire(20, at(0));
        assert_eq!(rate.wait(1, at(0)), Some(at(100)), "two seconds' worth were taken at once");
        assert_eq!(rate.wait(20, at(2_000)), None);
        let slower = rate.changed_to(5, at(0));
        assert_eq!(slower.wait(1, at(0)), Some(at(200)), "nothing was given back");
        let faster = rate.changed_to(40, at(0));
        assert_eq!(
            faster.wait(40, at(0)),
            None,
            "twenty of forty a second are owed, and two seconds' worth may be"
        );
        assert_eq!(faster.wait(61, at(0)), Some(at(25)));
        let huge = Rate::new(1);
        assert_eq!(huge.wait(u64::MAX, at(0)), None);
    }
}
