//! What shows whether promises about time are kept: readers that are quiet, or that pause, and drains that take a while.

use super::{Hubs, Scenario};
use crate::rng::Rng;

/// What hubs send away in a second unless they are told otherwise.
pub(super) const RETURN_RATE: u32 = 1_000;

/// In so many percent of worlds there are a quiet gateway and a pausing one.
const QUIET_PERCENT: u64 = 30;

/// In so many percent of worlds a drain sends away so few a second that the goodbyes can be told apart.
const SPREAD_PERCENT: u64 = 50;

impl Scenario {
    /// Drawn apart, as whatever came later.
    pub(super) fn draw_time(&mut self) {
        let mut rng = Rng::new(self.seed, "time");
        self.quiet = self.hubs != Hubs::Apart && rng.percent(QUIET_PERCENT);
        let spread = rng.percent(SPREAD_PERCENT);
        // Of so few all are sent away before a drain is over.
        let rate = *rng.pick(&[4, 8]);
        if spread {
            self.return_rate = rate;
        }
    }
}
