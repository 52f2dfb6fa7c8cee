//! Who publishes in a world, and what.

use std::time::Duration;

use galaxy_push_testkit::Recorder;

use super::keeps_little;
use crate::rng::{Counter, Rng};
use crate::scenario::{Hubs, Scenario};
use crate::{asker, publisher};

/// What large events have, if there are any.
pub(super) fn large_bytes(scenario: &Scenario) -> u64 {
    if scenario.steady.is_some() { publisher::LARGE_BYTES } else { 0 }
}

/// How often a standing record changes, in percent of batches. One is lost if every hub dies before it is in its bucket, and the
/// stream lets go of it (docs/adr/0020).
pub(super) fn change_percent(scenario: &Scenario) -> u64 {
    let is_gone_soon = scenario.brokers.as_ref().is_some_and(|plan| plan.messages.is_some());
    match scenario.regrants {
        _ if is_gone_soon || keeps_little(scenario) && scenario.hubs == Hubs::One => 0,
        true => 15,
        false => 4,
    }
}

/// The topics of memberships. Where a hub cannot judge a record it lets nobody in by it, and its gateways learn of it late.
fn topics(scenario: &Scenario) -> &'static [&'static str] {
    match scenario.regrants {
        _ if keeps_little(scenario) => &[],
        true => &["vip", "vi*", "vip", "staff"],
        false => &["vip", "staff", "room-1", "room-2"],
    }
}

/// Returns what numbers their events.
pub(super) fn add_publishers(
    world: &mut turmoil::Sim<'static>,
    scenario: &Scenario,
    recorder: &Recorder,
) -> Counter {
    let users = (0..scenario.users.len()).map(|number| format!("user:{number}"));
    let members: Vec<_> = users.chain(["session:s0".to_owned()]).collect();
    let others =
        ["all", "topic:news", "topic:sport", "topic:vip", "topic:staff", "user:nobody", "session:s1"];
    let recipients: Vec<_> = members.iter().cloned().chain(others.map(str::to_owned)).collect();
    let numbers = Counter::default();
    if scenario.crowd.bursts {
        add_bursts(world, scenario, recorder, &numbers);
    }
    if scenario.disk || scenario.brokers.is_some() {
        let plan = asker::Plan {
            source: "asker".to_owned(),
            hubs: scenario.hub_names(),
            recipients: recipients.clone(),
            // A store on brokers says after 5 s that nobody knows.
            patience: Duration::from_secs(if scenario.disk { 3 } else { 7 }),
            pause: scenario.pause * 2,
            until: scenario.calm_from + Duration::from_secs(4),
        };
        let (log, rng) = (recorder.process("asker"), Rng::new(scenario.seed, "asker"));
        let numbers = numbers.clone();
        world.client("asker", async move {
            asker::run(plan, log, numbers, rng).await;
            Ok(())
        });
    }
    for number in 0..2 {
        let name = format!("backend-{number}");
        let plan = publisher::Plan {
            source: name.clone(),
            recipients: recipients.clone(),
            members: members.clone(),
            change_percent: change_percent(scenario),
            topics: topics(scenario),
            large_to: scenario.steady.map(|_| "user:0".to_owned()),
            spares_sessions: scenario.skewed,
            ends_sessions: scenario.token_life.is_some(),
            pause: scenario.pause,
            until: scenario.calm_from + Duration::from_secs(4),
        };
        let (log, numbers) = (recorder.process(name.as_str()), numbers.clone());
        let rng = Rng::new(scenario.seed, &name);
        // Each prefers a door of its own, and takes the other when that does not answer.
        let mut hubs = scenario.hub_names().to_vec();
        let doors = hubs.len();
        hubs.rotate_left(number % doors);
        world.client(name, async move { Ok(publisher::run(plan, hubs, log, numbers, rng).await?) });
    }
    numbers
}

/// A backend that publishes much at once for one topic, now and then.
fn add_bursts(
    world: &mut turmoil::Sim<'static>,
    scenario: &Scenario,
    recorder: &Recorder,
    numbers: &Counter,
) {
    let rng = Rng::new(scenario.seed, "burst");
    let (log, numbers, until) = (recorder.process("burst"), numbers.clone(), scenario.calm_from);
    let hubs = scenario.hub_names();
    world.client("burst", async move { Ok(publisher::burst(hubs, log, numbers, rng, until).await?) });
}
