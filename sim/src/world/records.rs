//! Who says standing records and publishes on other surfaces, besides the backends that have our library.

use std::time::Duration;

use galaxy_push_testkit::Recorder;

use super::keeps_little;
use super::publishers::change_percent;
use crate::met::Met;
use crate::rng::{Counter, Rng};
use crate::scenario::{Hubs, Scenario};
use crate::{net, poster, registrar};

/// No event of theirs is larger.
const EVENT_BYTES: u64 = 1_024;

/// Besides those of other backends.
const TOPICS: &[&str] = &["orders/*", "alerts/*", "orders/1", "vip", "v*"];

/// How many events come at once at most: by a quarter of the smallest window a reader falls behind, and by all of it one is told a gap.
fn room(scenario: &Scenario) -> u64 {
    let windows = scenario.edge_windows.iter().chain([&scenario.window]);
    let room = windows.map(|window| (window.events / 4).min(window.bytes / 4 / EVENT_BYTES));
    room.min().unwrap_or_default()
}

pub(super) fn add(
    world: &mut turmoil::Sim<'static>,
    scenario: &Scenario,
    recorder: &Recorder,
    numbers: &Counter,
    met: &Met,
) {
    let until = scenario.calm_from + Duration::from_secs(4);
    // Where the hubs have a log each, nobody but a library follows readers from one to the other.
    let hub = scenario.hub_names()[0];
    let records = &scenario.records;
    let room = room(scenario);
    let crowd = if room >= registrar::TOGETHER { records.crowd } else { 0 };
    if (records.registrar || crowd > 0) && change_percent(scenario) > 0 && !keeps_little(scenario) {
        let plan = registrar::Plan {
            hub,
            crowd,
            goes_on: records.registrar,
            members: (0..scenario.users.len()).map(|number| format!("user:{number}")).collect(),
            topics: TOPICS,
            explicit: records.explicit && !scenario.skewed,
            pause: Duration::from_secs(4),
            until,
        };
        let (log, rng) = (recorder.process("registrar"), Rng::new(scenario.seed, "registrar"));
        let (numbers, met) = (numbers.clone(), met.clone());
        world.client("registrar", async move {
            registrar::run(plan, log, numbers, rng, met).await;
            Ok(())
        });
    }
    let Some(surface) = records.surface else { return };
    let users = (0..scenario.users.len()).map(|number| format!("user:{number}"));
    let others = ["all", "topic:news", "topic:orders/1", "topic:orders/2", "topic:alerts/1", "topic:vip"];
    let plan = poster::Plan {
        source: "poster".to_owned(),
        surface,
        hub,
        port: if records.limited { net::LIMITED_PORT } else { net::PORT },
        most: room.isqrt().clamp(1, 4),
        recipients: users.chain(others.map(str::to_owned)).collect(),
        pause: scenario.pause * if scenario.hubs == Hubs::Apart { 4 } else { 2 },
        until,
    };
    let (log, rng) = (recorder.process("poster"), Rng::new(scenario.seed, "poster"));
    let (numbers, met) = (numbers.clone(), met.clone());
    world.client("poster", async move {
        poster::run(plan, log, numbers, rng, met).await;
        Ok(())
    });
}
