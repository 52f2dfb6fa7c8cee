//! What users do besides reading, and the faults that make it count; each drawn apart, as whatever came later.

use std::time::Duration;

use super::{FAULTS_FROM, Fault, Hubs, Kind, Scenario, gateway_name};
use crate::rng::Rng;
use crate::users::Page;

/// In pausing and dragging worlds a socket takes so little that its writer soon has to wait.
const SEGMENTS_OF_THE_SLOW: usize = 16;

/// What the users of a world do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crowd {
    /// They go to another gateway at once, which lags behind the one they come from.
    pub hops: bool,
    /// They come back at once, also to a gateway that has just begun.
    pub eager: bool,
    /// They stop reading for longer than a gateway waits, and then go on.
    pub pauses: bool,
    /// Some take longer over an event than it takes until the next.
    pub drags: bool,
    /// Those over server-sent events are pages, each with a URL of its own.
    pub pages: bool,
    /// Servers leave together.
    pub leaves_overlap: bool,
    /// A backend publishes so much at once that mailboxes overflow.
    pub bursts: bool,
}

impl Scenario {
    /// Draws the crowd, and the faults that belong to it.
    pub(super) fn draw_crowd(&mut self) {
        let draws = |part: &str, percent: u64| Rng::new(self.seed, part).percent(percent);
        self.crowd = Crowd {
            hops: self.gateways > 1 && !self.alone && draws("hops", 30),
            eager: draws("eager", 20),
            pauses: draws("pauses", 25),
            drags: draws("drags", 15),
            pages: draws("pages", 60),
            leaves_overlap: draws("overlap", 25),
            bursts: draws("bursts", 14),
        };
        if self.crowd.pauses || self.crowd.drags {
            self.socket_segments = SEGMENTS_OF_THE_SLOW;
        }
        if self.crowd.pauses {
            self.pause = self.pause.min(ms(40)); // or sockets would not fill meanwhile
        }
        if self.crowd.hops {
            self.draw_lags();
        }
        if self.crowd.eager {
            self.draw_beginnings();
        }
        if self.crowd.leaves_overlap {
            self.draw_overlaps();
        }
    }

    /// What lies between a hub and one gateway is slow, or stands still: the other one is further on.
    fn draw_lags(&mut self) {
        let mut rng = Rng::new(self.seed, "lags");
        for at in self.moments(&mut rng, 1, 5) {
            let lasts = rng.between(Duration::from_millis(500), Duration::from_secs(5));
            let gateway = gateway_name(rng.below(self.gateways as u64) as usize);
            let hub = (*rng.pick(self.hub_names())).to_owned();
            let kind = match rng.below(4) {
                0 => Kind::Hold(hub, gateway),
                1 => Kind::OneWay(hub, gateway),
                _ => Kind::SlowLink(hub, gateway, rng.between(ms(100), ms(800))),
            };
            self.befall(at, kind, lasts);
        }
    }

    /// A gateway begins anew, and needs a while until it has caught up.
    fn draw_beginnings(&mut self) {
        let mut rng = Rng::new(self.seed, "beginnings");
        for at in self.moments(&mut rng, 3, 7) {
            let gateway = gateway_name(rng.below(self.gateways as u64) as usize);
            self.befall(at, Kind::Kill(gateway.clone()), rng.between(ms(50), ms(600)));
            let lasts = rng.between(Duration::from_secs(1), Duration::from_secs(3));
            for hub in self.hub_names() {
                let hub = (*hub).to_owned();
                let kind = match rng.percent(30) {
                    true => Kind::Hold(hub, gateway.clone()),
                    false => Kind::SlowLink(hub, gateway.clone(), rng.between(ms(100), ms(400))),
                };
                self.befall(at, kind, lasts);
            }
        }
    }

    /// Two servers leave at once: two gateways, a hub and a gateway, or two hubs.
    fn draw_overlaps(&mut self) {
        let mut rng = Rng::new(self.seed, "overlaps");
        let gateways: Vec<_> = (0..self.gateways).map(gateway_name).collect();
        let servers: Vec<_> = self.hub_names().iter().map(|&hub| hub.to_owned()).chain(gateways).collect();
        for at in self.moments(&mut rng, 4, 10) {
            let one = rng.below(servers.len() as u64) as usize;
            let step = 1 + rng.below(servers.len() as u64 - 1) as usize;
            let other = (one + step) % servers.len();
            for (at, server) in [(at, one), (at + rng.between(Duration::ZERO, ms(600)), other)] {
                self.befall(at, Kind::Leave(servers[server].clone()), ms(100));
            }
        }
    }

    /// When something befalls the world, with so many seconds between.
    fn moments(&self, rng: &mut Rng, least: u64, most: u64) -> Vec<Duration> {
        let (mut moments, mut at) = (Vec::new(), FAULTS_FROM);
        loop {
            at += rng.between(Duration::from_secs(least), Duration::from_secs(most));
            if at + Duration::from_secs(1) >= self.calm_from {
                return moments;
            }
            moments.push(at);
        }
    }

    fn befall(&mut self, at: Duration, kind: Kind, lasts: Duration) {
        self.faults.push((at, Fault { kind, until: (at + lasts).min(self.calm_from) }));
    }

    /// How a user over server-sent events names its cursor.
    #[must_use]
    pub fn page(&self, user: &str) -> Page {
        if !self.crowd.pages {
            return Page::default();
        }
        let mut rng = Rng::new(self.seed, &format!("page of {user}"));
        Page { has_url: rng.percent(60), polyfill: rng.percent(30), messages: rng.percent(30) }
    }

    /// What is to be known of this world: its features, and whether it has them.
    #[must_use]
    pub fn features(&self) -> Vec<(&'static str, bool)> {
        let Crowd { hops, eager, pauses, drags, pages, leaves_overlap, bursts } = self.crowd;
        let mut features = vec![
            ("WorldUsersHop", hops),
            ("WorldGatewaysJustBegun", eager),
            ("WorldUsersPause", pauses),
            ("WorldUsersDrag", drags),
            ("WorldPages", pages),
            ("WorldDrainsOverlap", leaves_overlap),
            ("WorldBursts", bursts),
            ("WorldClocksWrong", self.skewed),
            ("WorldClocksStepOften", self.steps_often),
            ("WorldHubsApart", self.hubs == Hubs::Apart),
            ("WorldHubsShared", self.hubs == Hubs::Shared),
            ("WorldLogsReturn", self.alone),
            ("WorldLogsChangeQuickly", self.hasty),
            ("WorldDisk", self.disk),
            ("WorldBrokers", self.brokers.is_some()),
            ("WorldDuel", self.duel),
            ("WorldTokens", self.token_life.is_some()),
            ("WorldUserSteady", self.steady.is_some()),
            ("WorldRegrants", self.regrants),
        ];
        features.extend(self.features_of_windows());
        features
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
