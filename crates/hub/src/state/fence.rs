//! Who holds which gateway id, and who gives way when two want the same one.
//!
//! Pure; lives under the log's lock (`log.rs`), so that a takeover has a place in the order of appends. `subscription.rs`
//! is the only caller besides the drain.
//!
//! Whoever comes last wins, until an id is fought over (`duel.rs`): then the incumbent keeps its stream if it answers a
//! ping, and whoever comes is held off. A gateway cannot be asked anything on a stream that only flows down to it, so a
//! ping is a `Progress`, and it is answered when HTTP/2 has taken that and asks for more: the connection stands, and the
//! peer makes room. A peer that stopped reading, or whose connection is full, does not answer. A connection that died
//! without a word still may, for as long as it has room; HTTP/2's own pings end it within 15 s, and with it the stream.
//!
//! Where several hubs serve one log, the id may be with a stream at another of them, and what is counted is in the store's register:
//! `remote.rs` finds out about both before anybody is judged here.
//!
//! Of each instance that had an id of late the highest attempt is known, so that a late duplicate of it is told from its
//! coming back, whoever has the id meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use galaxy_push_proto::Failure;
pub(crate) use galaxy_push_store::fence::TakeoverKind;
use galaxy_push_store::fence::{self, HOLD_OFF_FIRST, Verdict};

use self::claim::IncumbentView;
pub(crate) use self::claim::{Admitted, Claim, Takeover};
pub(crate) use self::flap::FlapEvents;
use self::flap::FlapRecord;
pub(crate) use self::incumbent::{
    ANSWER_WITHIN, Incumbent, LivenessProbe, SendReadiness, StreamEnd, StreamSignal,
};
pub(crate) use self::refusals::draining;
use self::refusals::{rejection, stale};
pub(crate) use self::remote::RemoteOwnership;
use crate::state::report::Report;

mod claim;
mod flap;
mod incumbent;
mod refusals;
pub(crate) mod register;
mod remote;
#[cfg(test)]
mod tests;

/// The most ids of which is remembered how they changed hands: 200 bytes and some names each. With more than these
/// changing hands at a time, the last wins for the others.
const FLAPS_MAX: usize = 10_000;

/// Gateways that leave without a fight are remembered only while there are fewer ids than these, so that a herd that goes
/// leaves room for duels.
const LEFT_MAX: usize = FLAPS_MAX / 2;

/// The gateways that have a stream, and the last generation given out.
#[derive(Debug, Default)]
pub(crate) struct Gateways {
    /// Ordered, so that a drain sends them away in an order that a simulation repeats.
    current: BTreeMap<String, Incumbent>,
    /// The ids that changed hands of late, at most [`FLAPS_MAX`]; [`Gateways::expire`] lets go of them.
    flaps: BTreeMap<String, FlapRecord>,
    /// The ids whose stream does not learn of invalidations, and of which that was not told yet.
    unaware: BTreeSet<String>,
    generation: u64,
    draining: bool,
    drain_scheduled: bool,
}

/// What became of a claim that was not refused.
#[derive(Debug)]
pub(crate) enum ClaimOutcome {
    /// It has the gateway id.
    Admitted(Admitted),
    /// The id is fought over, and the incumbent was pinged. Wait for the answer, then claim again with this.
    ProbeHere(LivenessProbe),
    /// The id is fought over, and its incumbent is at another hub: ask there ([`RemoteOwnership::ping`]), then claim again.
    ProbeRemote,
}

impl Gateways {
    /// Gives the gateway id to this claim, and ends the stream that had it, unless that is to be asked first. `remote` is what is known of
    /// the id beyond this hub, where its log has several; what comes of it is written there.
    ///
    /// # Errors
    ///
    /// `STALE_ATTEMPT` when a newer attempt of the same instance has it or had it of late; `HELD_OFF` when the id is fought over
    /// and its incumbent alive; `DRAINING`.
    pub(crate) fn claim(
        &mut self,
        claim: Claim,
        probe: Option<&LivenessProbe>,
        remote: Option<&mut RemoteOwnership>,
        now: Duration,
    ) -> Result<ClaimOutcome, Failure> {
        if self.draining {
            return Err(draining());
        }
        self.check_attempt(&claim, now)?;
        let Some(older) = self.find_incumbent(&claim, probe, remote.as_deref(), now) else {
            return Ok(ClaimOutcome::Admitted(self.admit(claim, None, remote, now)));
        };
        let incumbent = fence::Incumbent {
            instance: &older.claim.instance,
            would_answer: older.would_answer,
            is_alive: older.is_alive,
        };
        let verdict = match (remote.as_deref(), self.flaps.get(&claim.gateway)) {
            (Some(remote), _) => remote.duel().judge(&incumbent, &claim.instance, remote.log_time()),
            (None, Some(duel)) => duel.rule.judge(&incumbent, &claim.instance, now),
            (None, None) => fence::OwnershipFlap::default().judge(&incumbent, &claim.instance, now),
        };
        match verdict {
            Verdict::Replace(kind) => {
                Ok(ClaimOutcome::Admitted(self.admit(claim, Some((older, kind)), remote, now)))
            }
            Verdict::Keep => Err(self.reject_with_backoff(&older.claim, &claim, remote, now)),
            Verdict::ProbeFirst => Ok(match self.current.get(&claim.gateway).filter(|_| older.is_here) {
                Some(older) => ClaimOutcome::ProbeHere(older.ping()),
                None => ClaimOutcome::ProbeRemote,
            }),
        }
    }

    /// Who has the id. Of a stream here that is in the register, and of one at another hub that has taken it since, it is the other.
    fn find_incumbent(
        &self,
        claim: &Claim,
        probe: Option<&LivenessProbe>,
        remote: Option<&RemoteOwnership>,
        now: Duration,
    ) -> Option<IncumbentView> {
        let here = self.current.get(&claim.gateway);
        let there =
            remote.filter(|remote| remote.is_elsewhere() && here.is_none_or(Incumbent::is_registered));
        if let Some(remote) = there {
            return remote.incumbent(claim, now);
        }
        let here = here?;
        Some(IncumbentView {
            claim: here.claim.clone(),
            is_here: true,
            would_answer: here.would_answer(now) && !here.is_repeated_by(claim, now),
            is_alive: here.is_alive(probe, now),
            first_since: here.first_since(),
        })
    }

    /// A late duplicate disturbs nobody: neither the stream that its own instance has, nor that of another. Whoever takes
    /// the id back from another has a higher attempt; 0 is that of a peer that does not count.
    fn check_attempt(&self, claim: &Claim, now: Duration) -> Result<(), Failure> {
        if claim.instance.is_empty() {
            return Ok(());
        }
        let incumbent = self.current.get(&claim.gateway).map(|incumbent| &incumbent.claim);
        let has_it = incumbent.filter(|incumbent| incumbent.is_same_instance(claim));
        let had_it =
            self.flaps.get(&claim.gateway).and_then(|duel| duel.rule.highest_attempt(&claim.instance, now));
        let highest = had_it.max(has_it.map(|incumbent| incumbent.attempt)).unwrap_or_default();
        let taken_back = incumbent.is_some() && has_it.is_none() && claim.attempt > 0;
        let least = if taken_back && had_it.is_some() { highest.saturating_add(1) } else { highest };
        if claim.attempt >= least { Ok(()) } else { Err(stale(claim, highest, incumbent)) }
    }

    fn admit(
        &mut self,
        claim: Claim,
        older: Option<(IncumbentView, TakeoverKind)>,
        remote: Option<&mut RemoteOwnership>,
        now: Duration,
    ) -> Admitted {
        self.generation += 1;
        if claim.learns_of_invalidations {
            self.unaware.remove(&claim.gateway);
        } else {
            self.unaware.insert(claim.gateway.clone());
        }
        let mut newer = Incumbent::new(self.generation, claim.clone(), now);
        // The same process goes on from where it was, and so does what it has handled.
        let same = self.current.get_mut(&claim.gateway).filter(|older| older.claim.is_same_instance(&claim));
        newer.report = same.and_then(|older| older.report.take());
        let repeated = older.as_ref().map(|(older, _)| older);
        let repeated = repeated
            .filter(|older| older.claim.is_same_instance(&claim) && older.claim.attempt == claim.attempt);
        if let Some(older) = repeated {
            newer.repeats(older.first_since);
        }
        let takeover = older.map(|(older, kind)| self.record_takeover(older.claim, &claim, kind, now));
        if let Some(remote) = remote {
            remote.record_takeover(&claim, takeover.as_ref());
            self.mirror_register(&claim.gateway, remote, now);
        }
        let (signal, gauge, readiness) = (newer.signal(), newer.gauge.clone(), newer.readiness.clone());
        if let Some(older) = self.current.insert(claim.gateway.clone(), newer) {
            let logged = takeover.as_ref().is_none_or(Takeover::is_logged);
            older.end(StreamEnd::Replaced { rival: claim, logged });
        }
        Admitted { generation: self.generation, signal, gauge, readiness, takeover }
    }

    /// Counts that this claim takes the id from the older one.
    fn record_takeover(
        &mut self,
        older: Claim,
        claim: &Claim,
        kind: TakeoverKind,
        now: Duration,
    ) -> Takeover {
        // What is not remembered is told each time.
        let mut log_count = Some(1);
        let is_news = kind == TakeoverKind::Reconnect && older.attempt != claim.attempt;
        if !is_news && let Some(duel) = self.flap_record(&claim.gateway, FLAPS_MAX) {
            log_count = duel.record_event(now);
            duel.rule.took(&older.instance, older.attempt, &claim.instance, kind, now);
        }
        Takeover { older, kind, log_count }
    }

    /// What the register says of an id shows here for as long as it is fought over.
    fn mirror_register(&mut self, gateway: &str, remote: &RemoteOwnership, now: Duration) {
        let most = if remote.duel().is_on(remote.log_time()) { FLAPS_MAX } else { 0 };
        if let Some(duel) = self.flap_record(gateway, most) {
            duel.mirror(remote.duel(), remote.log_time(), now);
        }
    }

    /// What is remembered of an id, if there is room among `most` for it.
    fn flap_record(&mut self, gateway: &str, most: usize) -> Option<&mut FlapRecord> {
        if self.flaps.len() >= most && !self.flaps.contains_key(gateway) {
            return None;
        }
        Some(self.flaps.entry(gateway.to_owned()).or_default())
    }

    /// Somebody was refused this id for who it is. Returns how often something happened to the id of late, if that is to
    /// be told.
    pub(crate) fn record_refusal(&mut self, gateway: &str, now: Duration) -> Option<u64> {
        self.flap_record(gateway, FLAPS_MAX).map_or(Some(1), |duel| duel.record_event(now))
    }

    fn reject_with_backoff(
        &mut self,
        holder: &Claim,
        claim: &Claim,
        remote: Option<&mut RemoteOwnership>,
        now: Duration,
    ) -> Failure {
        let own = holder.is_same_instance(claim);
        let wait = match remote {
            Some(remote) => {
                let wait = remote.hold_off(own);
                self.mirror_register(&claim.gateway, remote, now);
                wait
            }
            None => {
                let duel = self.flaps.get_mut(&claim.gateway);
                duel.map_or(HOLD_OFF_FIRST, |duel| duel.rule.hold_off(own, now))
            }
        };
        rejection(&holder.instance, &holder.peer, own, wait)
    }

    /// The stream of this generation has answered a ping.
    pub(crate) fn record_pong(&self, gateway: &str, generation: u64, ping: u64) {
        if let Some(incumbent) = self.current.get(gateway).filter(|each| each.generation == generation) {
            incumbent.record_pong(ping);
        }
    }

    /// The stream of this generation is gone. A newer one that has the id meanwhile is not touched.
    pub(crate) fn release(&mut self, gateway: &str, generation: u64, now: Duration) {
        if self.current.get(gateway).is_none_or(|incumbent| incumbent.generation != generation) {
            return;
        }
        self.unaware.remove(gateway);
        let Some(Incumbent { claim, .. }) = self.current.remove(gateway) else { return };
        if !claim.instance.is_empty()
            && let Some(duel) = self.flap_record(gateway, LEFT_MAX)
        {
            duel.rule.left(&claim.instance, claim.attempt, now);
        }
    }

    /// A gateway says how it is. Whether that is about the stream that has the id, and not about one that gave way.
    pub(crate) fn set_report(&mut self, gateway: &str, instance: &str, report: Report) -> bool {
        let incumbent = self.current.get_mut(gateway).filter(|each| each.claim.instance == instance);
        incumbent.map(|incumbent| incumbent.report = Some(report)).is_some()
    }

    /// An invalidation is in force: whose streams will not learn of it, each told of once.
    pub(crate) fn drain_unaware(&mut self) -> Vec<Claim> {
        let ids = std::mem::take(&mut self.unaware);
        ids.iter().filter_map(|id| self.current.get(id)).map(|incumbent| incumbent.claim.clone()).collect()
    }

    /// The streams.
    pub(crate) fn incumbents(&self) -> impl Iterator<Item = &Incumbent> {
        self.current.values()
    }

    /// The ids that are fought over, and for how long yet whoever comes is held off.
    pub(crate) fn flapping(&self, now: Duration) -> impl Iterator<Item = (&str, Duration)> {
        let on = self.flaps.iter().filter(move |(_, duel)| duel.is_on(now));
        on.map(move |(gateway, duel)| (gateway.as_str(), duel.held_off_for(now)))
    }

    /// How many ids are fought over.
    pub(crate) fn flapping_count(&self, now: Duration) -> usize {
        self.flaps.values().filter(|duel| duel.is_on(now)).count()
    }

    /// Lets go of what no longer matters. Returns the ids about which not every line was written, and how much happened.
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<(String, FlapEvents)> {
        let mut over = Vec::new();
        self.flaps.retain(|gateway, duel| {
            let is_forgotten = duel.is_forgotten(now);
            if is_forgotten && duel.events().unlogged > 0 {
                over.push((gateway.clone(), duel.events()));
            }
            !is_forgotten
        });
        over
    }

    /// From now on nobody is admitted.
    pub(crate) fn stop_admitting(&mut self) {
        self.draining = true;
    }

    /// Sends every stream away, `rate` per second from `now` on, all within `limit`. Returns how many there are, or
    /// `None` if it was done before.
    ///
    /// Each is to be back at its turn on that scale, counted from `now`, so the herd does not come back as one: it is
    /// sent away at its turn and may come back at once. Turns come in the first half of the limit; whoever has not taken
    /// everything then has all of it. Whoever is sent away before its turn because the limit is short is told to wait for it.
    pub(crate) fn schedule_drain(&mut self, now: Duration, rate: u32, limit: Duration) -> Option<usize> {
        if std::mem::replace(&mut self.drain_scheduled, true) {
            return None;
        }
        for (i, incumbent) in (0u32..).zip(self.current.values()) {
            let slot = Duration::from_secs(1) * i / rate.max(1);
            let close_at = now + slot.min(limit / 2);
            let close_by = now + limit;
            incumbent.end(StreamEnd::Draining { close_at, close_by, back_at: now + slot });
        }
        Some(self.current.len())
    }
}
