//! The faults of a scenario as they strike a world, and end.
//!
//! Called by [`world`](super), once before each step of simulated time. Draws nothing: what strikes when is the scenario's.

use std::collections::BTreeMap;
use std::time::Duration;

use galaxy_push_store::disk::simulated::Crash;
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{self, What};

use super::{LATENCY_MAX, LATENCY_MIN};
use crate::brokers::Brokers;
use crate::disk::HubDisk;
use crate::processes::{Leave, Order};
use crate::scenario::{Fault, Kind, Scenario};

/// What faults take hold of.
#[derive(Default)]
pub(super) struct Reach {
    /// How each server is told to leave.
    pub(super) leaves: BTreeMap<String, Leave>,
    /// The disk of the hub, if it has one.
    pub(super) disk: Option<HubDisk>,
    /// The brokers, if there are any.
    pub(super) brokers: Option<Brokers>,
}

/// Starts and ends the faults of a scenario.
pub(super) struct Faults {
    /// What is to be done, by when; ends and starts alike.
    due: Vec<(Duration, Change)>,
    reach: Reach,
    healed: bool,
}

enum Change {
    Start(Fault),
    Stop(Fault),
    /// Whoever ended by itself is started again.
    Back(Fault),
}

impl Faults {
    pub(super) fn new(scenario: &Scenario, reach: Reach) -> Self {
        let mut due = Vec::new();
        for (at, fault) in &scenario.faults {
            due.push((*at, Change::Start(fault.clone())));
            due.push((fault.until, Change::Stop(fault.clone())));
        }
        due.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        Self { due, reach, healed: false }
    }

    pub(super) fn advance(
        &mut self,
        world: &mut turmoil::Sim<'_>,
        scenario: &Scenario,
        recorder: &Recorder,
    ) -> anyhow::Result<()> {
        let now = world.elapsed();
        let at_us = now.as_micros() as u64;
        self.bury(world, now, recorder);
        while self.due.last().is_some_and(|(at, _)| *at <= now) {
            let Some((_, change)) = self.due.pop() else { break };
            match change {
                Change::Start(fault) => {
                    recorder.record(at_us, What::FaultStart(described(&fault)));
                    start(world, &self.reach, &fault, now, recorder);
                }
                Change::Stop(fault) => {
                    recorder.record(at_us, What::FaultStop(described(&fault)));
                    stop(world, &self.reach, &fault.kind);
                }
                Change::Back(fault) => stop(world, &self.reach, &fault.kind),
            }
        }
        if !self.healed && self.due.is_empty() && now >= scenario.calm_from {
            recorder.record(at_us, What::Healed);
            self.healed = true;
        }
        Ok(())
    }

    /// A hub whose disk has failed ends by itself, and is started again.
    fn bury(&mut self, world: &mut turmoil::Sim<'_>, now: Duration, recorder: &Recorder) {
        let Some(disk) = self.reach.disk.clone().filter(HubDisk::has_died) else { return };
        kill(world, &self.reach, "hub", Crash::Process, now, recorder);
        let until = now + disk.back_after();
        let place = self.due.partition_point(|(at, _)| *at > until);
        let back = Change::Back(Fault { kind: Kind::Kill("hub".to_owned()), until });
        self.due.insert(place, (until, back));
    }
}

/// A process ends without a word; what it kept on a disk suffers what this kind of end does to it.
fn kill(
    world: &mut turmoil::Sim<'_>,
    reach: &Reach,
    host: &str,
    crash: Crash,
    now: Duration,
    recorder: &Recorder,
) {
    recorder.process(host).record(now.as_micros() as u64, What::Crash);
    world.crash(host);
    if let Some(disk) = reach.disk.as_ref().filter(|_| host == "hub") {
        disk.crash(now, crash);
    }
}

fn start(world: &mut turmoil::Sim<'_>, reach: &Reach, fault: &Fault, now: Duration, recorder: &Recorder) {
    let tell = |host: &String, order| {
        if let Some(leave) = reach.leaves.get(host) {
            leave.send_replace(order);
        }
    };
    match &fault.kind {
        Kind::Kill(host) => kill(world, reach, host, Crash::Process, now, recorder),
        Kind::PowerCut(host) => kill(world, reach, host, Crash::Machine, now, recorder),
        Kind::Damage(host) => {
            kill(world, reach, host, Crash::Machine, now, recorder);
            reach.disk.iter().for_each(|disk| disk.damage(now));
        }
        Kind::DiskFull(_) => reach.disk.iter().for_each(HubDisk::fill),
        Kind::SyncFails(_) => reach.disk.iter().for_each(|disk| disk.fail_next_sync(true)),
        Kind::Partition(a, b) => world.partition(a.as_str(), b.as_str()),
        Kind::OneWay(a, b) => world.partition_oneway(a.as_str(), b.as_str()),
        Kind::Hold(a, b) => world.hold(a.as_str(), b.as_str()),
        Kind::SlowLink(a, b, latency) => world.set_link_latency(a.as_str(), b.as_str(), *latency),
        Kind::Leave(host) => tell(host, Order::Leave),
        Kind::Unplug(host) => tell(host, Order::Unplug(fault.until.saturating_sub(now))),
        Kind::CutOff(host) => tell(host, Order::ShutSideDoor(fault.until.saturating_sub(now))),
        Kind::Rival => {}
        kind => reach.brokers.iter().for_each(|brokers| strike(brokers, kind, now, fault.until)),
    }
}

/// What befalls brokers ends by itself.
fn strike(brokers: &Brokers, kind: &Kind, now: Duration, until: Duration) {
    match kind {
        Kind::StepDown => brokers.step_down(now, until),
        Kind::CutLeader => brokers.cut_leader(now, until),
        Kind::LoseAcks => brokers.lose_acks(until),
        Kind::Disconnect(hub) => brokers.disconnect(hub, now, until),
        Kind::StopConsumer(hub) => brokers.stop_consumer(hub, until),
        _ => {}
    }
}

fn stop(world: &mut turmoil::Sim<'_>, reach: &Reach, kind: &Kind) {
    match kind {
        // Of two kills that overlap, the first to be over starts it again.
        Kind::Kill(host) | Kind::PowerCut(host) | Kind::Damage(host) => {
            if !world.is_host_running(host.as_str()) {
                world.bounce(host.as_str());
            }
        }
        Kind::DiskFull(_) => reach.disk.iter().for_each(HubDisk::free),
        Kind::SyncFails(_) => reach.disk.iter().for_each(|disk| disk.fail_next_sync(false)),
        Kind::Partition(a, b) => world.repair(a.as_str(), b.as_str()),
        Kind::OneWay(a, b) => world.repair_oneway(a.as_str(), b.as_str()),
        Kind::Hold(a, b) => world.release(a.as_str(), b.as_str()),
        Kind::SlowLink(a, b, _) => {
            world.set_link_latency(a.as_str(), b.as_str(), LATENCY_MIN);
            world.set_link_max_message_latency(a.as_str(), b.as_str(), LATENCY_MAX);
        }
        Kind::Leave(_) | Kind::Unplug(_) | Kind::CutOff(_) | Kind::Rival => {}
        Kind::StepDown | Kind::CutLeader | Kind::LoseAcks | Kind::Disconnect(_) | Kind::StopConsumer(_) => {}
    }
}

fn described(fault: &Fault) -> history::Fault {
    let detail = match &fault.kind {
        Kind::Kill(host) | Kind::Leave(host) | Kind::Unplug(host) | Kind::CutOff(host) => host.clone(),
        Kind::PowerCut(host) | Kind::DiskFull(host) | Kind::SyncFails(host) | Kind::Damage(host) => {
            host.clone()
        }
        Kind::Partition(a, b) | Kind::Hold(a, b) => format!("{a} | {b}"),
        Kind::OneWay(a, b) => format!("{a} -x-> {b}"),
        Kind::Disconnect(host) | Kind::StopConsumer(host) => host.clone(),
        Kind::SlowLink(a, b, _) => format!("{a} | {b}"),
        Kind::Rival => "plain".to_owned(),
        Kind::StepDown | Kind::CutLeader | Kind::LoseAcks => "brokers".to_owned(),
    };
    history::Fault { kind: fault.kind.name().into(), detail }
}
