//! Gateways that fight over an id.

use std::time::Duration;

use galaxy_push_testkit::Recorder;

use super::{PAUSE_MAX, large_bytes};
use crate::plain;
use crate::rng::Rng;
use crate::scenario::{Hubs, Scenario};

/// Two instances with one gateway id, each coming back whenever it is replaced, and late duplicates of one of them; one
/// instance of which late duplicates arrive; and two processes with one instance id.
pub(super) fn add_duel(world: &mut turmoil::Sim<'static>, scenario: &Scenario, recorder: &Recorder) {
    let twin = |name: &'static str| (name, "twin", "twin", name == "late");
    let duelist = |name: &'static str| (name, "duel", name, false);
    let late_duelist = ("duel-late", "duel", "duel-a", true);
    let same = |name: &'static str| (name, "same", "same", false);
    for (name, id, instance, late) in [
        duelist("duel-a"),
        duelist("duel-b"),
        late_duelist,
        twin("twin"),
        twin("late"),
        same("same-a"),
        same("same-b"),
    ] {
        let (log, rng) = (recorder.process(name), Rng::new(scenario.seed, name));
        // Where two hubs are doors to one log, it makes no difference at which of them somebody fights.
        let far = name == "duel-b" && scenario.hubs == Hubs::Shared;
        let plan = plain::Plan {
            gateway_id: id.into(),
            recipients: vec!["topic:*".into()],
            start: "oldest".into(),
            cuts_until: Duration::from_secs(1),
            strays_percent: 0,
            pause_percent: 0,
            hubs: if far { &["hub-b"] } else { &["hub"] },
            ahead: plain::WINDOW_BYTES,
            large_bytes: large_bytes(scenario),
            pause_max: PAUSE_MAX,
            standing: true,
            receive_bytes_max: 0,
            instance: instance.into(),
            late,
            until: scenario.length,
        };
        world.client(name, async move { Ok(plain::run(plan, log, rng).await?) });
    }
}

/// Somebody else with the id of the plain gateway, for as long as the fault lasts.
pub(super) fn add_rival(
    world: &mut turmoil::Sim<'static>,
    scenario: &Scenario,
    recorder: &Recorder,
    number: usize,
    at: Duration,
    until: Duration,
) {
    let name = format!("rival-{number}");
    let (log, rng) = (recorder.process(name.as_str()), Rng::new(scenario.seed, &name));
    world.client(name, async move {
        tokio::time::sleep(at).await;
        let plan = plain::Plan {
            gateway_id: "plain".into(),
            recipients: Vec::new(),
            start: String::new(),
            cuts_until: Duration::ZERO,
            strays_percent: 0,
            pause_percent: 0,
            hubs: &["hub"],
            ahead: plain::WINDOW_BYTES,
            large_bytes: 0,
            pause_max: PAUSE_MAX,
            standing: false,
            receive_bytes_max: 0,
            instance: String::new(),
            late: false,
            until: until - at,
        };
        Ok(plain::run(plan, log, rng).await?)
    });
}
