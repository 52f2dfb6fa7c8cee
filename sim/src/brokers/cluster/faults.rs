//! What befalls brokers and connections, and how they come back.

use std::time::Duration;

use super::{Cluster, Lead, Link, Request, To};
use crate::brokers::stream::STREAMS;
use crate::rng::Rng;

/// What is sent on a connection that breaks arrives this much later at most, if it does.
const STRAYS_US: u64 = 7_000_000;

impl Cluster {
    /// The leader steps down.
    pub(in crate::brokers) fn step_down(&mut self, now: u64, until: u64) {
        if matches!(self.lead, Lead::One) {
            self.lead = Lead::Nobody { until };
            self.lose_the_leader(until);
            for hub in self.links.keys().copied().collect::<Vec<_>>() {
                if self.rng.percent(30) {
                    let away = self.rng.between(Duration::from_millis(50), Duration::from_millis(1_500));
                    self.disconnect(hub, now + away.as_micros() as u64);
                }
            }
        }
    }

    pub(in crate::brokers) fn cut_leader(&mut self, now: u64, until: u64) {
        if !matches!(self.lead, Lead::One) {
            return;
        }
        let takes = self.rng.between(Duration::from_secs(4), Duration::from_secs(6)).as_micros() as u64;
        let ends = STREAMS.map(|which| self.stream(which).last());
        for link in self.links.values_mut() {
            link.is_minority = self.rng.percent(50);
        }
        // Whoever is back before another one is elected goes on.
        let elected = Some(now + takes).filter(|elected| *elected <= until);
        self.lead = Lead::Cut { since: now, elected: elected.unwrap_or(u64::MAX), until, ends };
        match elected {
            Some(elected) => self.lose_the_leader(elected),
            None => self.meets("LeaderCutShortly"),
        }
    }

    /// Some of what was on its way to a majority is there, and nobody is told; the rest is lost.
    fn lose_the_leader(&mut self, elected: u64) {
        self.meets("LeaderLost");
        let survive = self.rng.below(self.proposed.len() as u64 + 1) as usize;
        let lost = self.proposed.split_off(survive);
        *self.met.entry("LostWithLeader").or_default() += lost.len() as u64;
        for (due, request) in &mut self.proposed {
            *due = elected;
            if matches!(std::mem::replace(&mut request.to, To::Nobody), To::Pack(_)) {
                *self.met.entry("AckLost").or_default() += 1;
            }
        }
    }

    pub(super) fn elect(&mut self, now: u64) {
        let is_over = match self.lead {
            Lead::One => false,
            Lead::Nobody { until } | Lead::Cut { until, .. } => until <= now,
        };
        if is_over {
            self.lead = Lead::One;
            self.skew_ms = self.rng.below(6_001) as i64 - 3_000;
            self.links.values_mut().for_each(|link| link.is_minority = false);
        }
    }

    /// What a hub is called here, if it has ever connected.
    pub(in crate::brokers) fn name(&self, hub: &str) -> Option<&'static str> {
        self.links.keys().copied().find(|name| *name == hub)
    }

    /// Nothing of the log comes to a hub until then, or nothing of the fence.
    pub(in crate::brokers) fn stop(&mut self, hub: &'static str, until: u64) {
        let stream = usize::from(self.rng.percent(40));
        let stopped_until = &mut self.link(hub).stopped_until[stream];
        *stopped_until = until.max(*stopped_until);
    }

    /// A hub's connection stands still for a moment, and breaks.
    pub(in crate::brokers) fn stall(&mut self, hub: &'static str, now: u64, until: u64) {
        let takes = self.rng.between(Duration::ZERO, Duration::from_millis(900)).as_micros() as u64;
        let link = self.link(hub);
        if link.is_connected && link.breaks.is_none() {
            link.breaks = Some((now + takes, until.max(now + takes)));
        }
    }

    /// A hub's connection breaks. What was on it may come later, in another order, or twice; what was on its way back is lost.
    pub(in crate::brokers) fn disconnect(&mut self, hub: &'static str, until: u64) {
        let link = self.link(hub);
        if !link.is_connected {
            return;
        }
        (link.is_connected, link.back_at, link.breaks) = (false, until, None);
        let (out, acks) = (std::mem::take(&mut link.out), std::mem::take(&mut link.acks));
        *self.met.entry("AckLost").or_default() += acks.len() as u64;
        for (due, mut request) in out {
            request.to = To::Nobody;
            let late = |rng: &mut Rng| rng.below(STRAYS_US);
            match self.rng.below(10) {
                0..4 => self.meets("LostWithConnection"),
                number => {
                    if number == 9 {
                        self.meets("SentTwice");
                        let again = Request {
                            key: request.key.clone(),
                            payload: request.payload.clone(),
                            to: To::Nobody,
                            ..request
                        };
                        self.strays.push((due + late(&mut self.rng), again));
                    }
                    self.meets("Stray");
                    self.strays.push((due + late(&mut self.rng), request));
                }
            }
        }
    }

    pub(super) fn reconnect(&mut self, now: u64) {
        let breaks = |link: &Link| link.breaks.filter(|(at, _)| *at <= now).map(|(_, until)| until);
        let breaking: Vec<_> =
            self.links.iter().filter_map(|(hub, link)| Some((*hub, breaks(link)?))).collect();
        for (hub, until) in breaking {
            self.disconnect(hub, until);
        }
        for link in self.links.values_mut().filter(|link| !link.is_connected && link.back_at <= now) {
            (link.is_connected, link.made) = (true, link.made + 1);
        }
    }
}
