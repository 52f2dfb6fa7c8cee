//! How wrong the wall clocks of a scenario are.

use std::time::Duration;

use super::{FAULTS_FROM, Hubs, Scenario};
use crate::rng::{Rng, Skew};

/// No wall clock is further from the truth than this, its steps included.
pub const SKEW_MAX: Duration = Duration::from_secs(90);

/// How often, in percent, clocks are wrong in a world where nothing else is judged by them.
const MORE_PERCENT: u64 = 30;

/// How often, in percent, wrong clocks are set again and again.
const OFTEN_PERCENT: u64 = 50;

impl Scenario {
    /// Wrong clocks in more worlds, and more often; drawn apart, as whatever came later.
    pub(super) fn draw_clocks(&mut self) {
        let mut rng = Rng::new(self.seed, "clocks");
        // A disk keeps the time of its log; brokers have clocks of their own; a token is judged by the wall clock.
        let may = !self.disk && self.brokers.is_none() && self.token_life.is_none();
        self.skewed |= may && rng.percent(MORE_PERCENT);
        self.steps_often = self.skewed && rng.percent(OFTEN_PERCENT);
    }

    /// How wrong the wall clock of a process is. Hubs on one log agree with each other.
    #[must_use]
    pub fn skew(&self, process: &str) -> Skew {
        if !self.skewed {
            return Skew::default();
        }
        let together = self.hubs == Hubs::Shared && self.hub_names().contains(&process);
        let mut rng = Rng::new(self.seed, &format!("skew of {}", if together { "hub" } else { process }));
        let mut draw = |most: u64| rng.below(2 * most + 1) as i64 - most as i64;
        let ahead_ms = draw(30_000);
        if together {
            return Skew { ahead_ms, steps: Vec::new() };
        }
        if self.steps_often {
            return Skew { ahead_ms, steps: self.many_steps(&mut rng) };
        }
        let steps = (0..2).map(|_| (Duration::from_millis(draw(20_000).unsigned_abs()), draw(30_000)));
        Skew { ahead_ms, steps: steps.collect() }
    }

    /// The steps of a clock that is set again and again, each process in its own way. Together they are no larger than two of
    /// those that come alone.
    fn many_steps(&self, rng: &mut Rng) -> Vec<(Duration, i64)> {
        let span = self.calm_from.saturating_sub(FAULTS_FROM);
        let step = |rng: &mut Rng| rng.below(20_001) as i64 - 10_000;
        (0..6).map(|_| (FAULTS_FROM + rng.between(Duration::ZERO, span), step(rng))).collect()
    }
}
