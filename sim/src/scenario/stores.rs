//! Where the hubs of a scenario keep their log, and what befalls that.

use std::time::Duration;

use super::{FAULTS_FROM, Fault, Hubs, Kind, Scenario};
use crate::brokers;
use crate::rng::Rng;

/// How often, in percent, a hub that is alone and has a right clock keeps its log on a disk.
const DISK_PERCENT: u64 = 45;

/// How often, in percent, hubs that share a log have it in a stream that brokers keep, and how often a hub that is alone.
const BROKERS_PERCENT: u64 = 70;
const BROKERS_ALONE_PERCENT: u64 = 12;

/// Over brokers more is published than elsewhere, so that much is on its way when something happens.
const PAUSE_MAX: Duration = Duration::from_millis(200);

impl Scenario {
    /// Whether the hub keeps its log on a disk, and what befalls that; drawn apart, as whatever came later.
    pub(super) fn draw_disk(&mut self) {
        let mut rng = Rng::new(self.seed, "disk");
        self.disk = self.hubs == Hubs::One && !self.skewed && rng.percent(DISK_PERCENT);
        if self.disk {
            self.draw_disk_faults(&mut rng);
        }
    }

    /// What befalls a hub's disk, besides all else: some of the kinds, each often enough to meet what another has left.
    fn draw_disk_faults(&mut self, rng: &mut Rng) {
        let kinds: Vec<u64> = (0..5).filter(|_| rng.percent(60)).collect();
        let mut at = FAULTS_FROM;
        while !kinds.is_empty() {
            at += rng.between(Duration::from_millis(200), Duration::from_secs(4));
            if at >= self.calm_from {
                return;
            }
            let hub = || "hub".to_owned();
            let kind = match *rng.pick(&kinds) {
                0 => Kind::Kill(hub()),
                1 => Kind::PowerCut(hub()),
                2 => Kind::DiskFull(hub()),
                3 => Kind::SyncFails(hub()),
                _ => Kind::Damage(hub()),
            };
            let most = if matches!(kind, Kind::DiskFull(_)) { 8_000 } else { 2_000 };
            let lasts = rng.between(Duration::from_millis(50), Duration::from_millis(most));
            self.faults.push((at, Fault { kind, until: (at + lasts).min(self.calm_from) }));
        }
    }

    /// Whether the log lies in a stream that brokers keep, and what befalls these; drawn apart, as whatever came later.
    pub(super) fn draw_brokers(&mut self) {
        let mut rng = Rng::new(self.seed, "stream");
        let has_brokers = match self.hubs {
            Hubs::Shared => rng.percent(BROKERS_PERCENT),
            Hubs::One => !self.disk && !self.skewed && rng.percent(BROKERS_ALONE_PERCENT),
            Hubs::Apart => false,
        };
        if !has_brokers {
            return;
        }
        let age = rng.percent(40).then(|| rng.between(Duration::from_secs(2), Duration::from_secs(9)));
        let messages = rng.percent(15).then(|| 20 + rng.below(100) as usize);
        let keeps_little = age.is_some() || messages.is_some();
        self.pause = self.pause.min(PAUSE_MAX);
        self.brokers = Some(brokers::Plan {
            age,
            messages,
            lag_max: *rng.pick(&[
                Duration::from_millis(50),
                Duration::from_millis(500),
                Duration::from_secs(2),
            ]),
            hubs_ahead_ms: self.skew("hub").ahead_ms,
        });
        let mut kinds: Vec<u64> = (0..5).filter(|_| rng.percent(60)).collect();
        if keeps_little {
            kinds.extend([4, 4]); // whoever stands still meets a hole
        }
        let mut at = FAULTS_FROM;
        while !kinds.is_empty() {
            at += rng.between(Duration::from_millis(200), Duration::from_secs(4));
            if at >= self.calm_from {
                return;
            }
            let hub = (*rng.pick(self.hub_names())).to_owned();
            let (kind, most) = match *rng.pick(&kinds) {
                0 => (Kind::StepDown, 3_000),
                1 => (Kind::CutLeader, 14_000),
                2 => (Kind::LoseAcks, 8_000),
                3 => (Kind::Disconnect(hub), if rng.percent(15) { 9_000 } else { 900 }),
                // Always the same one: the other goes on, and what it appends expires before the first has read it.
                _ if keeps_little => {
                    (Kind::StopConsumer(self.hub_names().last().map_or(hub, |&last| last.to_owned())), 16_000)
                }
                _ => (Kind::StopConsumer(hub), if rng.percent(20) { 16_000 } else { 3_200 }),
            };
            let least = if keeps_little && matches!(kind, Kind::StopConsumer(_)) { 4_000 } else { 50 };
            let lasts = rng.between(Duration::from_millis(least), Duration::from_millis(most));
            self.faults.push((at, Fault { kind, until: (at + lasts).min(self.calm_from) }));
        }
    }
}
