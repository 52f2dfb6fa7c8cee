//! What a world promises about time, and the readers by which it shows.

use std::time::Duration;

use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::TimingRule;

use super::large_bytes;
use crate::plain;
use crate::rng::Rng;
use crate::scenario::{Hubs, Scenario};

/// Gateways say something after this, so that a minute holds several; in the field it is 25 s.
pub(super) const PROGRESS: Duration = Duration::from_secs(5);

/// Hubs say something after this.
const HUB_PROGRESS: Duration = Duration::from_secs(5);

/// A session that has ended is over at its connections within this time.
const SESSION_END: Duration = Duration::from_secs(5);

/// What an event needs from its append to a user: two links of 30 ms at most, ticks of 10 ms at each of three processes, and as
/// much again for what waits behind an earlier event that takes more than one turn. Far below the 5 s of the next `Progress`.
const DELIVERY: Duration = Duration::from_millis(500);

/// Where the log lies on a disk, one sync in a hundred takes half a second, and what comes after it waits.
const DELIVERY_FROM_DISK: Duration = Duration::from_millis(1_500);

/// An application takes up to 60 ms over an item, and a few over storing where it stands.
const HANDLING: Duration = Duration::from_millis(70);

/// What the pausing reader lets the hub send ahead: more would hide how far it is behind, and less make it slow without a pause.
const LITTLE_AHEAD: u32 = 8 << 10;

/// The longest pause of that reader: long enough to lag by a quarter of a window of 4 s and by more than what is on its way, and
/// shorter than the 15 s after which it is dead.
const LONG_PAUSE: Duration = Duration::from_secs(10);

/// What is due when in this world.
pub(super) fn rule(scenario: &Scenario) -> TimingRule {
    let us = |time: Duration| time.as_micros() as u64;
    // What a door to a shared log has of it depends on what befell the store.
    let deliver = match scenario.hubs {
        _ if scenario.brokers.is_some() => Duration::ZERO,
        Hubs::Shared => Duration::ZERO,
        _ if scenario.disk => DELIVERY_FROM_DISK,
        Hubs::One | Hubs::Apart => DELIVERY,
    };
    TimingRule {
        deliver_us: us(deliver),
        handle_us: us(HANDLING),
        progress_us: us(HUB_PROGRESS),
        edge_progress_us: us(PROGRESS),
        session_end_us: us(SESSION_END),
        returns_per_second: scenario.return_rate.into(),
    }
}

/// A gateway that nothing is for, and one that takes little and pauses often.
pub(super) fn add_quiet(world: &mut turmoil::Sim<'static>, scenario: &Scenario, recorder: &Recorder) {
    for (name, recipients, pause_percent) in
        [("quiet", vec!["user:nobody-at-all".to_owned()], 0), ("pausing", Vec::new(), 1)]
    {
        let (log, rng) = (recorder.process(name), Rng::new(scenario.seed, name));
        let plan = plain::Plan {
            gateway_id: name.into(),
            recipients,
            start: String::new(),
            cuts_until: scenario.calm_from,
            strays_percent: 0,
            pause_percent,
            ahead: LITTLE_AHEAD,
            large_bytes: large_bytes(scenario),
            pause_max: LONG_PAUSE,
            hubs: scenario.hub_names(),
            standing: false,
            receive_bytes_max: 0,
            instance: name.into(),
            late: false,
            until: scenario.length,
        };
        world.client(name, async move { Ok(plain::run(plan, log, rng).await?) });
    }
}
