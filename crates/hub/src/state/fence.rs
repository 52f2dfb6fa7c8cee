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
//! `abroad.rs` finds out about both before anybody is judged here.
//!
//! Of each instance that had an id of late the highest attempt is known, so that a late duplicate of it is told from its
//! coming back, whoever has the id meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use galaxy_push_proto::Failure;
pub(crate) use galaxy_push_store::fence::How;
use galaxy_push_store::fence::{self, HOLD_OFF_FIRST, Verdict};

use self::claim::Older;
pub(crate) use self::claim::{Admitted, Claim, Takeover};
use self::flap::Duel;
pub(crate) use self::flap::Happenings;
pub(crate) use self::incumbent::{ANSWER_WITHIN, Contest, Ending, Incumbent, Signal, Uptake};
pub(crate) use self::refusals::draining;
use self::refusals::{held_off, stale};
pub(crate) use self::remote::Abroad;
use crate::state::report::Reported;

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
const DUELS_MAX: usize = 10_000;

/// Gateways that leave without a fight are remembered only while there are fewer ids than these, so that a herd that goes
/// leaves room for duels.
const LEFT_MAX: usize = DUELS_MAX / 2;

/// The gateways that have a stream, and the last generation given out.
#[derive(Debug, Default)]
pub(crate) struct Gateways {
    /// Ordered, so that a drain sends them away in an order that a simulation repeats.
    current: BTreeMap<String, Incumbent>,
    /// The ids that changed hands of late, at most [`DUELS_MAX`]; [`Gateways::forget`] lets go of them.
    duels: BTreeMap<String, Duel>,
    /// The ids whose stream does not learn of invalidations, and of which that was not told yet.
    unaware: BTreeSet<String>,
    generation: u64,
    draining: bool,
    dismissed: bool,
}

/// What became of a claim that was not refused.
#[derive(Debug)]
pub(crate) enum Claimed {
    /// It has the gateway id.
    Admitted(Admitted),
    /// The id is fought over, and the incumbent was pinged. Wait for the answer, then claim again with this.
    Contested(Contest),
    /// The id is fought over, and its incumbent is at another hub: ask there ([`Abroad::ping`]), then claim again.
    ContestedAbroad,
}

impl Gateways {
    /// Gives the gateway id to this claim, and ends the stream that had it, unless that is to be asked first. `abroad` is what is known of
    /// the id beyond this hub, where its log has several; what comes of it is written there.
    ///
    /// # Errors
    ///
    /// `STALE_ATTEMPT` when a newer attempt of the same instance has it or had it of late; `HELD_OFF` when the id is fought over
    /// and its incumbent alive; `DRAINING`.
    pub(crate) fn claim(
        &mut self,
        claim: Claim,
        contest: Option<&Contest>,
        abroad: Option<&mut Abroad>,
        now: Duration,
    ) -> Result<Claimed, Failure> {
        if self.draining {
            return Err(draining());
        }
        self.check_attempt(&claim, now)?;
        let Some(older) = self.older(&claim, contest, abroad.as_deref(), now) else {
            return Ok(Claimed::Admitted(self.admit(claim, None, abroad, now)));
        };
        let incumbent = fence::Incumbent {
            instance: &older.claim.instance,
            would_answer: older.would_answer,
            is_alive: older.is_alive,
        };
        let verdict = match (abroad.as_deref(), self.duels.get(&claim.gateway)) {
            (Some(abroad), _) => abroad.duel().judge(&incumbent, &claim.instance, abroad.at()),
            (None, Some(duel)) => duel.rule.judge(&incumbent, &claim.instance, now),
            (None, None) => fence::Duel::default().judge(&incumbent, &claim.instance, now),
        };
        match verdict {
            Verdict::GivesWay(how) => {
                Ok(Claimed::Admitted(self.admit(claim, Some((older, how)), abroad, now)))
            }
            Verdict::Stays => Err(self.hold_off(&older.claim, &claim, abroad, now)),
            Verdict::Unasked => Ok(match self.current.get(&claim.gateway).filter(|_| older.is_here) {
                Some(older) => Claimed::Contested(older.ping()),
                None => Claimed::ContestedAbroad,
            }),
        }
    }

    /// Who has the id. Of a stream here that is in the register, and of one at another hub that has taken it since, it is the other.
    fn older(
        &self,
        claim: &Claim,
        contest: Option<&Contest>,
        abroad: Option<&Abroad>,
        now: Duration,
    ) -> Option<Older> {
        let here = self.current.get(&claim.gateway);
        let there =
            abroad.filter(|abroad| abroad.is_elsewhere() && here.is_none_or(Incumbent::is_registered));
        if let Some(abroad) = there {
            return abroad.older(claim, now);
        }
        let here = here?;
        Some(Older {
            claim: here.claim.clone(),
            is_here: true,
            would_answer: here.would_answer(now) && !here.is_repeated_by(claim, now),
            is_alive: here.is_alive(contest, now),
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
            self.duels.get(&claim.gateway).and_then(|duel| duel.rule.highest_attempt(&claim.instance, now));
        let highest = had_it.max(has_it.map(|incumbent| incumbent.attempt)).unwrap_or_default();
        let taken_back = incumbent.is_some() && has_it.is_none() && claim.attempt > 0;
        let least = if taken_back && had_it.is_some() { highest.saturating_add(1) } else { highest };
        if claim.attempt >= least { Ok(()) } else { Err(stale(claim, highest, incumbent)) }
    }

    fn admit(
        &mut self,
        claim: Claim,
        older: Option<(Older, How)>,
        abroad: Option<&mut Abroad>,
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
        newer.reported = same.and_then(|older| older.reported.take());
        let repeated = older.as_ref().map(|(older, _)| older);
        let repeated = repeated
            .filter(|older| older.claim.is_same_instance(&claim) && older.claim.attempt == claim.attempt);
        if let Some(older) = repeated {
            newer.repeats(older.first_since);
        }
        let takeover = older.map(|(older, how)| self.count(older.claim, &claim, how, now));
        if let Some(abroad) = abroad {
            abroad.take(&claim, takeover.as_ref());
            self.see(&claim.gateway, abroad, now);
        }
        let (signal, place, uptake) = (newer.signal(), newer.place.clone(), newer.uptake.clone());
        if let Some(older) = self.current.insert(claim.gateway.clone(), newer) {
            let told = takeover.as_ref().is_none_or(Takeover::is_told);
            older.end(Ending::Replaced { rival: claim, told });
        }
        Admitted { generation: self.generation, signal, place, uptake, takeover }
    }

    /// Counts that this claim takes the id from the older one.
    fn count(&mut self, older: Claim, claim: &Claim, how: How, now: Duration) -> Takeover {
        // What is not remembered is told each time.
        let mut told = Some(1);
        let is_news = how == How::Quiet && older.attempt != claim.attempt;
        if !is_news && let Some(duel) = self.remembered(&claim.gateway, DUELS_MAX) {
            told = duel.happened(now);
            duel.rule.took(&older.instance, older.attempt, &claim.instance, how, now);
        }
        Takeover { older, how, told }
    }

    /// What the register says of an id shows here for as long as it is fought over.
    fn see(&mut self, gateway: &str, abroad: &Abroad, now: Duration) {
        let most = if abroad.duel().is_on(abroad.at()) { DUELS_MAX } else { 0 };
        if let Some(duel) = self.remembered(gateway, most) {
            duel.see(abroad.duel(), abroad.at(), now);
        }
    }

    /// What is remembered of an id, if there is room among `most` for it.
    fn remembered(&mut self, gateway: &str, most: usize) -> Option<&mut Duel> {
        if self.duels.len() >= most && !self.duels.contains_key(gateway) {
            return None;
        }
        Some(self.duels.entry(gateway.to_owned()).or_default())
    }

    /// Somebody was refused this id for who it is. Returns how often something happened to the id of late, if that is to
    /// be told.
    pub(crate) fn refused(&mut self, gateway: &str, now: Duration) -> Option<u64> {
        self.remembered(gateway, DUELS_MAX).map_or(Some(1), |duel| duel.happened(now))
    }

    fn hold_off(
        &mut self,
        holder: &Claim,
        claim: &Claim,
        abroad: Option<&mut Abroad>,
        now: Duration,
    ) -> Failure {
        let own = holder.is_same_instance(claim);
        let wait = match abroad {
            Some(abroad) => {
                let wait = abroad.hold_off(own);
                self.see(&claim.gateway, abroad, now);
                wait
            }
            None => {
                let duel = self.duels.get_mut(&claim.gateway);
                duel.map_or(HOLD_OFF_FIRST, |duel| duel.rule.hold_off(own, now))
            }
        };
        held_off(&holder.instance, &holder.peer, own, wait)
    }

    /// The stream of this generation has answered a ping.
    pub(crate) fn answer(&self, gateway: &str, generation: u64, ping: u64) {
        if let Some(incumbent) = self.current.get(gateway).filter(|each| each.generation == generation) {
            incumbent.answer(ping);
        }
    }

    /// The stream of this generation is gone. A newer one that has the id meanwhile is not touched.
    pub(crate) fn leave(&mut self, gateway: &str, generation: u64, now: Duration) {
        if self.current.get(gateway).is_none_or(|incumbent| incumbent.generation != generation) {
            return;
        }
        self.unaware.remove(gateway);
        let Some(Incumbent { claim, .. }) = self.current.remove(gateway) else { return };
        if !claim.instance.is_empty()
            && let Some(duel) = self.remembered(gateway, LEFT_MAX)
        {
            duel.rule.left(&claim.instance, claim.attempt, now);
        }
    }

    /// A gateway says how it is. Whether that is about the stream that has the id, and not about one that gave way.
    pub(crate) fn report(&mut self, gateway: &str, instance: &str, reported: Reported) -> bool {
        let incumbent = self.current.get_mut(gateway).filter(|each| each.claim.instance == instance);
        incumbent.map(|incumbent| incumbent.reported = Some(reported)).is_some()
    }

    /// An invalidation is in force: whose streams will not learn of it, each told of once.
    pub(crate) fn take_unaware(&mut self) -> Vec<Claim> {
        let ids = std::mem::take(&mut self.unaware);
        ids.iter().filter_map(|id| self.current.get(id)).map(|incumbent| incumbent.claim.clone()).collect()
    }

    /// The streams.
    pub(crate) fn incumbents(&self) -> impl Iterator<Item = &Incumbent> {
        self.current.values()
    }

    /// The ids that are fought over, and for how long yet whoever comes is held off.
    pub(crate) fn fought_over(&self, now: Duration) -> impl Iterator<Item = (&str, Duration)> {
        let on = self.duels.iter().filter(move |(_, duel)| duel.is_on(now));
        on.map(move |(gateway, duel)| (gateway.as_str(), duel.held_off_for(now)))
    }

    /// How many ids are fought over.
    pub(crate) fn duels(&self, now: Duration) -> usize {
        self.duels.values().filter(|duel| duel.is_on(now)).count()
    }

    /// Lets go of what no longer matters. Returns the ids about which not every line was written, and how much happened.
    pub(crate) fn forget(&mut self, now: Duration) -> Vec<(String, Happenings)> {
        let mut over = Vec::new();
        self.duels.retain(|gateway, duel| {
            let is_forgotten = duel.is_forgotten(now);
            if is_forgotten && duel.happenings().untold > 0 {
                over.push((gateway.clone(), duel.happenings()));
            }
            !is_forgotten
        });
        over
    }

    /// From now on nobody is admitted.
    pub(crate) fn close(&mut self) {
        self.draining = true;
    }

    /// Sends every stream away, `rate` per second from `now` on, all within `limit`. Returns how many there are, or
    /// `None` if it was done before.
    ///
    /// Each is to be back at its turn on that scale, counted from `now`, so the herd does not come back as one: it is
    /// sent away at its turn and may come back at once. Turns come in the first half of the limit; whoever has not taken
    /// everything then has all of it. Whoever is sent away before its turn because the limit is short is told to wait for it.
    pub(crate) fn dismiss(&mut self, now: Duration, rate: u32, limit: Duration) -> Option<usize> {
        if std::mem::replace(&mut self.dismissed, true) {
            return None;
        }
        for (i, incumbent) in (0u32..).zip(self.current.values()) {
            let slot = Duration::from_secs(1) * i / rate.max(1);
            let close_at = now + slot.min(limit / 2);
            let close_by = now + limit;
            incumbent.end(Ending::Draining { close_at, close_by, back_at: now + slot });
        }
        Some(self.current.len())
    }
}
