//! Ownership of gateway ids: which stream has which, and who gives way when two claims want the same one.
//!
//! Pure: it waits for nothing and reads no clock. It lives under the log's lock (`log.rs`), so that each takeover has a
//! place in the order of appends. Outside of the lock are `remote.rs` and `register.rs`, which talk to the store before and
//! after, and the waiting for a [`LivenessProbe`].
//!
//! `surface/subscription/opening.rs` claims ids here and `surface/subscription.rs` releases them, the store tells of
//! takeovers at other hubs, the drain ends everybody, status and scrapes look.
//!
//! # The rule
//!
//! A claim names a gateway id, an instance (one process) and an attempt (a number that the process raises with each dial).
//! What happens to it, in the order in which it is checked:
//!
//! | the claim | the answer |
//! |---|---|
//! | any, while the hub drains | refused, `DRAINING` |
//! | an attempt of its instance that is not above the highest one known of it, where it must be | refused, `STALE_ATTEMPT` |
//! | nobody has the id | admitted |
//! | the same instance, whose stream would not answer a ping now | admitted ([`TakeoverKind::Reconnect`]) |
//! | the same instance, whose stream would answer | admitted (`ReconnectWhileAlive`), and counted as a return to itself |
//! | another instance | admitted (`OtherInstance`), and counted as a return if it lost the id a moment ago |
//! | the id is *flapping*, and the holder answers a ping | refused, `HELD_OFF`, with a time to wait |
//! | the id is flapping, and the holder does not answer | admitted (`Unresponsive`; of the same instance `Reconnect`) |
//! | the id is flapping between instances, and one of the two has no instance id | admitted (`FlapUnnamed`): the last wins |
//!
//! A process that is refused because of a stream of its own instance id stays away for 15 s, each time.
//!
//! An id is flapping once the fifth return falls within 60 s, and then until nobody came for 5 minutes after the last wait
//! was over. The counting itself is the store's ([`galaxy_push_store::fence::OwnershipFlap`]), because hubs may share it.
//!
//! A takeover:
//!
//! ```text
//!  0 s  a claims "gw", attempt 1     admitted, generation 1
//!  1 s  event 7 is appended          a is sent 7
//!  2 s  b claims "gw", attempt 1     admitted, generation 2; a's stream ends with REPLACED, and is never sent 8
//! ```
//!
//! A stale attempt. The network may deliver a request late, or twice:
//!
//! ```text
//!  0 s  a claims with attempt 1      admitted
//!  1 s  a claims with attempt 2      admitted: it is the same instance; the stream of attempt 1 ends
//!  2 s  attempt 1 arrives once more  refused, STALE_ATTEMPT: the stream of attempt 2 is not disturbed
//! ```
//!
//! The highest attempt of an instance is remembered for 60 s after it lost or left the id. So a late duplicate of an
//! instance that lost the id to another one is refused as well; the instance itself comes back with a higher attempt.
//!
//! Holding off. Two processes with one gateway id would take it from each other for ever:
//!
//! ```text
//!  0 s  a claims    admitted            30 s  b claims    admitted, return 2
//! 10 s  b claims    admitted            40 s  a claims    admitted, return 3
//! 20 s  a claims    admitted, return 1  50 s  b claims    admitted, return 4
//! 60 s  a claims    it would be return 5: b is pinged, and answers
//!                   a is refused with HELD_OFF: stay away for 60 s
//! 80 s  a claims    too early: it is told the 40 s that are left
//!130 s  a claims    b still answers: 120 s now, doubled each time up to 600 s
//! ```
//!
//! Two hubs on one log. What is counted is in the store's register then, and the holder is asked where it is (`remote.rs`):
//!
//! ```text
//! hub 1    a has "gw"; the register says: holder a, at hub 1
//! hub 2    b claims: read the register, ask hub 1 about a's stream, judge, write "holder b, at hub 2"
//! hub 1    the store tells it of the new holder: a's stream ends, within 1 s
//! ```
//!
//! # What a ping is
//!
//! A gateway cannot be asked anything on a stream that only flows down to it. So a ping is a `Progress` frame, and it is
//! answered when HTTP/2 has taken that frame and asks for more: the connection stands, and the peer makes room. A peer that
//! stopped reading, or whose connection is full, does not answer. A connection that died without a word still may, for as
//! long as it has room; HTTP/2's own pings end it within 15 s, and with it the stream.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use galaxy_push_proto::Failure;
pub(crate) use galaxy_push_store::fence::TakeoverKind;
use galaxy_push_store::fence::{self, HOLD_OFF_FIRST, TakeoverDecision};
use tokio::sync::watch;

use self::claim::IncumbentView;
pub(crate) use self::claim::{Claim, Takeover};
pub(crate) use self::flap::FlapEvents;
use self::flap::FlapRecord;
pub(crate) use self::incumbent::{
    ANSWER_WITHIN, Incumbent, LivenessProbe, SendReadiness, StreamEnd, StreamSignal,
};
pub(crate) use self::refusals::draining;
use self::refusals::{rejection, stale};
pub(crate) use self::remote::RemoteOwnership;
use crate::state::report::Report;
use crate::state::stream_gauge::StreamGauge;

mod claim;
mod flap;
mod incumbent;
mod refusals;
pub(crate) mod register;
mod remote;
#[cfg(test)]
mod tests;

/// The most ids of which the hub remembers how they changed hands: 200 bytes and some names each. Where more than these
/// change hands at a time, no flapping is seen of the others, and the last claim wins.
const FLAPS_MAX: usize = 10_000;

/// Gateways that leave without a fight are remembered only while there are fewer ids than these, so that a herd that goes
/// leaves room for ids that flap.
const LEFT_MAX: usize = FLAPS_MAX / 2;

/// The gateways that have a stream, and the last generation given out.
///
/// One per hub, under the log's lock. It grows with the streams that are open and with at most [`FLAPS_MAX`] ids that
/// changed hands of late.
#[derive(Debug, Default)]
pub(crate) struct Gateways {
    /// The stream of each id. Ordered, so that a drain sends them away in an order that a simulation repeats.
    current: BTreeMap<String, Incumbent>,
    /// The ids that changed hands of late, at most [`FLAPS_MAX`]; [`Gateways::expire`] lets go of them.
    flaps: BTreeMap<String, FlapRecord>,
    /// The ids whose stream does not learn of invalidations, and about which nothing was logged yet.
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
    /// The id flaps, and its holder was pinged. Wait for the answer, then claim again with this probe.
    ProbeHere(LivenessProbe),
    /// The id flaps, and its holder is at another hub: ask there ([`RemoteOwnership::ping`]), then claim again.
    ProbeRemote,
}

/// An accepted subscription.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// The number of this ownership: it rises with each claim that is admitted, and tells the stream from older ones.
    pub(crate) generation: u64,
    /// What the ownership table tells the stream: that it must end, or must answer a ping.
    pub(crate) signal: watch::Receiver<StreamSignal>,
    /// For the stream to show how far it has read.
    pub(crate) gauge: Arc<StreamGauge>,
    /// For the stream to show that its peer takes what it is sent.
    pub(crate) readiness: Arc<SendReadiness>,
    /// The stream that gave way to it, if one did.
    pub(crate) takeover: Option<Takeover>,
}

impl Gateways {
    /// Gives the gateway id to this claim, and ends the stream that had it, unless that must be pinged first. The table at
    /// the head of this file is what it decides by.
    ///
    /// `remote` is what is known of the id beyond this hub, where its log has several; what comes of the claim is noted
    /// there.
    ///
    /// # Errors
    ///
    /// `STALE_ATTEMPT` when a newer attempt of the same instance has it or had it of late; `HELD_OFF` when the id flaps
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
        // Where hubs share the log, what each of them counted alone says too little: the register is judged instead.
        let decision = match (remote.as_deref(), self.flaps.get(&claim.gateway)) {
            (Some(remote), _) => remote.flap().judge(&incumbent, &claim.instance, remote.log_time()),
            (None, Some(record)) => record.rule.judge(&incumbent, &claim.instance, now),
            (None, None) => fence::OwnershipFlap::default().judge(&incumbent, &claim.instance, now),
        };
        match decision {
            TakeoverDecision::Replace(kind) => {
                Ok(ClaimOutcome::Admitted(self.admit(claim, Some((older, kind)), remote, now)))
            }
            TakeoverDecision::Keep => Err(self.reject_with_backoff(&older.claim, &claim, remote, now)),
            TakeoverDecision::ProbeFirst => {
                Ok(match self.current.get(&claim.gateway).filter(|_| older.is_here) {
                    Some(older) => ClaimOutcome::ProbeHere(older.ping()),
                    None => ClaimOutcome::ProbeRemote,
                })
            }
        }
    }

    /// Who has the id: the stream at this hub, or one at another hub. Where both seem to have it, the register decides:
    ///
    /// ```text
    /// this hub's stream is not in the register yet    it is newer than what the register says: it has the id
    /// it is, and the register now names another hub   that hub took it since: the stream there has the id
    /// ```
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

    /// A late duplicate disturbs nobody: neither the stream that its own instance has, nor that of another.
    ///
    /// ```text
    /// its own instance has the id       the attempt may be the same again (a transparent retry) or higher
    /// another instance has taken it     the attempt must be higher; 0 is a peer that does not count its attempts
    /// nobody has it                     the same again, or higher
    /// ```
    fn check_attempt(&self, claim: &Claim, now: Duration) -> Result<(), Failure> {
        if claim.instance.is_empty() {
            return Ok(());
        }
        let incumbent = self.current.get(&claim.gateway).map(|incumbent| &incumbent.claim);
        let has_it = incumbent.filter(|incumbent| incumbent.is_same_instance(claim));
        let had_it = self
            .flaps
            .get(&claim.gateway)
            .and_then(|record| record.rule.highest_attempt(&claim.instance, now));
        let highest = had_it.max(has_it.map(|incumbent| incumbent.attempt)).unwrap_or_default();
        // To take the id back from another instance a process dials again, and each dial raises its attempt.
        let taken_back = incumbent.is_some() && has_it.is_none() && claim.attempt > 0;
        let least = if taken_back && had_it.is_some() { highest.saturating_add(1) } else { highest };
        if claim.attempt >= least { Ok(()) } else { Err(stale(claim, highest, incumbent)) }
    }

    /// Gives the id to this claim, with the next generation, and ends the stream that had it.
    ///
    /// All of it happens under the log's lock: the older stream sees its end before it can look at any later entry.
    fn admit(
        &mut self,
        claim: Claim,
        older: Option<(IncumbentView, TakeoverKind)>,
        remote: Option<&mut RemoteOwnership>,
        now: Duration,
    ) -> Admitted {
        self.generation += 1;
        // Whether operators must be warned that this gateway never learns which sessions have ended.
        if claim.learns_of_invalidations {
            self.unaware.remove(&claim.gateway);
        } else {
            self.unaware.insert(claim.gateway.clone());
        }
        let mut newer = Incumbent::new(self.generation, claim.clone(), now);
        // The same process goes on from where it was, and so does what it has handled.
        let same = self.current.get_mut(&claim.gateway).filter(|older| older.claim.is_same_instance(&claim));
        newer.report = same.and_then(|older| older.report.take());
        // A transparent retry sends the same attempt once more. It goes on as that claim, with its age: a chain of retries
        // must not look young for ever.
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

    /// Counts that this claim takes the id from the older one, unless it is a plain reconnect with a new attempt: that is
    /// the everyday case and says nothing.
    fn record_takeover(
        &mut self,
        older: Claim,
        claim: &Claim,
        kind: TakeoverKind,
        now: Duration,
    ) -> Takeover {
        // Where nothing is remembered of the id, each takeover is logged.
        let mut log_count = Some(1);
        let is_news = kind == TakeoverKind::Reconnect && older.attempt != claim.attempt;
        if !is_news && let Some(record) = self.flap_record(&claim.gateway, FLAPS_MAX) {
            log_count = record.record_event(now);
            record.rule.took(&older.instance, older.attempt, &claim.instance, kind, now);
        }
        Takeover { older, kind, log_count }
    }

    /// Copies what the register says of an id, so that status and metrics of this hub show that it flaps.
    fn mirror_register(&mut self, gateway: &str, remote: &RemoteOwnership, now: Duration) {
        let most = if remote.flap().is_on(remote.log_time()) { FLAPS_MAX } else { 0 };
        if let Some(record) = self.flap_record(gateway, most) {
            record.mirror(remote.flap(), remote.log_time(), now);
        }
    }

    /// What is remembered of an id; a new record only if there are fewer than `most`.
    fn flap_record(&mut self, gateway: &str, most: usize) -> Option<&mut FlapRecord> {
        if self.flaps.len() >= most && !self.flaps.contains_key(gateway) {
            return None;
        }
        Some(self.flaps.entry(gateway.to_owned()).or_default())
    }

    /// Records that a claim was refused for who made it. Returns how many takeovers and refusals the id has seen of late,
    /// if this one is to be logged.
    pub(crate) fn record_refusal(&mut self, gateway: &str, now: Duration) -> Option<u64> {
        self.flap_record(gateway, FLAPS_MAX).map_or(Some(1), |record| record.record_event(now))
    }

    /// Refuses a claim because the holder is alive, and says for how long to stay away.
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
                let record = self.flaps.get_mut(&claim.gateway);
                record.map_or(HOLD_OFF_FIRST, |record| record.rule.hold_off(own, now))
            }
        };
        rejection(&holder.instance, &holder.peer, own, wait)
    }

    /// Records that the stream of this generation has answered a ping. A stream that gave way meanwhile is not in the table.
    pub(crate) fn record_pong(&self, gateway: &str, generation: u64, ping: u64) {
        if let Some(incumbent) = self.current.get(gateway).filter(|each| each.generation == generation) {
            incumbent.record_pong(ping);
        }
    }

    /// Frees the id of a stream that has ended. A newer stream that has the id meanwhile is not touched:
    ///
    /// ```text
    /// a has generation 1 · b takes the id, generation 2 · a's stream is dropped: release(1) finds 2, and does nothing
    /// ```
    pub(crate) fn release(&mut self, gateway: &str, generation: u64, now: Duration) {
        if self.current.get(gateway).is_none_or(|incumbent| incumbent.generation != generation) {
            return;
        }
        self.unaware.remove(gateway);
        let Some(Incumbent { claim, .. }) = self.current.remove(gateway) else { return };
        if !claim.instance.is_empty()
            && let Some(record) = self.flap_record(gateway, LEFT_MAX)
        {
            record.rule.left(&claim.instance, claim.attempt, now);
        }
    }

    /// Keeps what a gateway reports of itself. False: the report is of an instance that has no stream, and is dropped.
    pub(crate) fn set_report(&mut self, gateway: &str, instance: &str, report: Report) -> bool {
        let incumbent = self.current.get_mut(gateway).filter(|each| each.claim.instance == instance);
        incumbent.map(|incumbent| incumbent.report = Some(report)).is_some()
    }

    /// The claims of streams that will never learn of invalidations, each returned once: an invalidation is in force now.
    pub(crate) fn drain_unaware(&mut self) -> Vec<Claim> {
        let ids = std::mem::take(&mut self.unaware);
        ids.iter().filter_map(|id| self.current.get(id)).map(|incumbent| incumbent.claim.clone()).collect()
    }

    /// The streams.
    pub(crate) fn incumbents(&self) -> impl Iterator<Item = &Incumbent> {
        self.current.values()
    }

    /// The ids that flap, and for how long yet a newcomer would be held off.
    pub(crate) fn flapping(&self, now: Duration) -> impl Iterator<Item = (&str, Duration)> {
        let on = self.flaps.iter().filter(move |(_, record)| record.is_on(now));
        on.map(move |(gateway, record)| (gateway.as_str(), record.held_off_for(now)))
    }

    /// How many ids flap.
    pub(crate) fn flapping_count(&self, now: Duration) -> usize {
        self.flaps.values().filter(|record| record.is_on(now)).count()
    }

    /// Forgets what no longer matters. Returns the ids of which not everything was logged, with what happened to them, so
    /// that one line sums it up. Called every second or more often.
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<(String, FlapEvents)> {
        let mut over = Vec::new();
        self.flaps.retain(|gateway, record| {
            let is_forgotten = record.is_forgotten(now);
            if is_forgotten && record.events().unlogged > 0 {
                over.push((gateway.clone(), record.events()));
            }
            !is_forgotten
        });
        over
    }

    /// Admits nobody any more: a drain has begun.
    pub(crate) fn stop_admitting(&mut self) {
        self.draining = true;
    }

    /// Sends every stream away, `rate` per second from `now` on, all within `limit`. Returns how many there are, or
    /// `None` if it was done before.
    ///
    /// The gateways must not come back as one herd, so each has a turn of its own:
    ///
    /// ```text
    /// rate 2 per second, limit 10 s, gateways g0 … g3
    /// close_at   g0: now      g1: now + 0.5 s   g2: now + 1 s   g3: now + 1.5 s   its turn to go, once it has everything
    /// close_by   now + 10 s for all                                               it is cut off, wherever it is
    /// back_at    the same as close_at                                             when it may come back
    /// ```
    ///
    /// Turns come in the first half of the limit; a stream that has not taken everything by its turn has the rest of the
    /// limit to do so. If the limit is too short for all turns, the late ones are sent away at half of it, and told to
    /// wait for their turn before they come back.
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
