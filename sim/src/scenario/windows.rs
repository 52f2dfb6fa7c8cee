//! How much hubs and gateways hold: in many worlds each of them has a window of its own, with one bound that binds alone.

use std::time::Duration;

use galaxy_push_core::window::Bounds;

use super::Scenario;
use crate::rng::Rng;

/// How often, in percent, hubs and gateways have windows of their own.
const OWN_PERCENT: u64 = 55;

/// No bound of this one binds within a simulated minute.
const LARGE: Bounds = Bounds { age: Duration::from_secs(600), events: 1 << 20, bytes: 64 << 20 };

/// By its age alone, by its events alone, by its bytes alone.
const TINY: [Bounds; 3] = [
    Bounds { age: Duration::from_secs(2), ..LARGE },
    Bounds { events: 8, ..LARGE },
    Bounds { bytes: 16 << 10, ..LARGE },
];

impl Scenario {
    /// The windows of hubs, and of each gateway; drawn apart, as whatever came later.
    pub(super) fn draw_windows(&mut self) {
        let mut rng = Rng::new(self.seed, "windows");
        self.edge_windows = vec![self.window; self.gateways];
        // Where logs return they must still be held.
        if self.alone || !rng.percent(OWN_PERCENT) {
            return;
        }
        let drawn = self.window;
        let mut draw = || match rng.below(5) {
            4 => drawn,
            3 => LARGE,
            tiny => TINY[tiny as usize],
        };
        self.window = draw();
        self.edge_windows.iter_mut().for_each(|window| *window = draw());
    }

    /// What is to be known of these windows.
    pub(super) fn features_of_windows(&self) -> [(&'static str, bool); 8] {
        let [age, events, bytes] = TINY;
        let edge = |bounds: Bounds| self.edge_windows.contains(&bounds);
        let differs = |is: fn(&Bounds, &Bounds) -> bool| {
            self.edge_windows.iter().any(|edge| is(edge, &self.window) && !is(&self.window, edge))
        };
        [
            ("WorldHubAgeTiny", self.window == age),
            ("WorldHubEventsTiny", self.window == events),
            ("WorldHubBytesTiny", self.window == bytes),
            ("WorldEdgeAgeTiny", edge(age)),
            ("WorldEdgeEventsTiny", edge(events)),
            ("WorldEdgeBytesTiny", edge(bytes)),
            ("WorldEdgeSmallerThanHub", differs(is_within)),
            ("WorldEdgeLargerThanHub", differs(|edge, hub| is_within(hub, edge))),
        ]
    }
}

/// Whether one window holds no more than another by any bound.
fn is_within(one: &Bounds, other: &Bounds) -> bool {
    one.age <= other.age && one.events <= other.events && one.bytes <= other.bytes
}
