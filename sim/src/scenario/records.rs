//! What publishers make of standing records, ids and surfaces, and what users' tokens grant.

use super::Scenario;
use crate::poster::Surface;
use crate::rng::Rng;

/// Drawn apart from all else, so that what seeds drew before stays as it was.
#[derive(Clone, Debug)]
pub struct Records {
    /// How many memberships of strangers are said at the beginning, so that what holds fills several frames.
    pub crowd: u64,
    /// Whether somebody says records with ids of its own, and again when newer ones have come.
    pub registrar: bool,
    /// Whether it says from when invalidations count, besides.
    pub explicit: bool,
    /// How somebody without our library publishes, if there is one.
    pub surface: Option<Surface>,
    /// Whether that one is known to the hub, and limited in recipients and rate.
    pub limited: bool,
    /// Whether users' tokens grant a few topics only, and they ask for more.
    pub narrow: bool,
}

impl Records {
    /// What the publishers of a seed do.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed, "records");
        let crowd = if rng.percent(50) { 1 + rng.below(500) } else { 0 };
        let surfaces = [Surface::Unary, Surface::Stream, Surface::Structured, Surface::Batched];
        Self {
            crowd,
            registrar: rng.percent(60),
            explicit: rng.percent(50),
            surface: rng.percent(75).then(|| *rng.pick(&surfaces)),
            limited: rng.percent(35),
            narrow: rng.percent(50),
        }
    }
}

impl Scenario {
    /// What users' tokens grant, if not everything.
    #[must_use]
    pub fn grants(&self) -> Option<Vec<String>> {
        let narrow = self.token_life.is_some() && self.records.narrow;
        narrow.then(|| ["news", "sp*"].map(str::to_owned).to_vec())
    }
}
