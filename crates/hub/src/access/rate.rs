//! A rate limit on the caller's clock: the generic cell rate algorithm (ITU-T I.371), which keeps one number.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// So many per second, and a second's worth at once.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: u32,
    /// When everything taken so far would have been taken at exactly the limit.
    earned_at: Mutex<Duration>,
}

impl Rate {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second: per_second.max(1), earned_at: Mutex::new(Duration::ZERO) }
    }

    /// Takes `count`, all or nothing.
    ///
    /// # Errors
    ///
    /// How long to wait before asking again. More than a second's worth is taken once nothing is owed.
    pub(super) fn take(&self, count: u32, now: Duration) -> Result<(), Duration> {
        let mut earned_at = self.earned_at.lock().unwrap_or_else(PoisonError::into_inner);
        let cost = Duration::from_secs(1) * count / self.per_second;
        let burst = Duration::from_secs(1).max(cost);
        let next = (*earned_at).max(now) + cost;
        match next.checked_sub(now + burst) {
            None | Some(Duration::ZERO) => {
                *earned_at = next;
                Ok(())
            }
            Some(wait) => Err(wait),
        }
    }
}
