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
//! Of each instance that had an id of late the highest attempt is known, so that a late duplicate of it is told from its
//! coming back, whoever has the id meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use galaxy_push_proto::{Failure, Reason, error};
use tokio::sync::watch;

pub(crate) use self::duel::Happenings;
use self::duel::{Duel, HOLD_OFF_FIRST};
pub(crate) use self::incumbent::{ANSWER_WITHIN, Contest, Ending, Incumbent, Signal, Uptake};
use crate::place::Place;
use crate::report::Reported;

mod duel;
mod incumbent;
pub(crate) mod shared;
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

/// Who asks for a gateway id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) gateway: String,
    /// Empty: an old client, which is never the same instance as anybody.
    pub(crate) instance: String,
    pub(crate) attempt: u64,
    pub(crate) peer: String,
    /// Whom the hub took it for, by certificate or token; empty where everybody may do everything.
    pub(crate) identity: String,
    /// It lists all that is needed to be told which sessions have ended.
    pub(crate) learns_of_invalidations: bool,
}

/// What became of a claim that was not refused.
#[derive(Debug)]
pub(crate) enum Claimed {
    /// It has the gateway id.
    Admitted(Admitted),
    /// The id is fought over, and the incumbent was pinged. Wait for the answer, then claim again with this.
    Contested(Contest),
}

/// An accepted subscription.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) generation: u64,
    pub(crate) signal: watch::Receiver<Signal>,
    /// For the stream to say where it stands.
    pub(crate) place: Arc<Place>,
    /// For the stream to say that its peer takes what it is sent.
    pub(crate) uptake: Arc<Uptake>,
    pub(crate) takeover: Option<Takeover>,
}

/// An older stream gave way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Takeover {
    pub(crate) older: Claim,
    pub(crate) how: How,
    /// How often something happened to this id of late, if that is to be told.
    pub(crate) told: Option<u64>,
}

/// How it came to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// The same instance came back.
    Quiet,
    /// The same instance came although its stream was alive: the hub did not see it leave, or there are two of it.
    Again,
    /// Another instance came.
    Rival,
    /// Another instance came, in a duel in which one of the two has no name: the last wins.
    Duel,
    /// Another instance came, in a duel, and the incumbent did not answer.
    Unanswered,
}

impl Gateways {
    /// Gives the gateway id to this claim, and ends the stream that had it, unless that is to be asked first.
    ///
    /// # Errors
    ///
    /// `STALE_ATTEMPT` when a newer attempt of the same instance has it or had it of late; `HELD_OFF` when the id is fought over
    /// and its incumbent alive; `DRAINING`.
    pub(crate) fn claim(
        &mut self,
        claim: Claim,
        contest: Option<&Contest>,
        now: Duration,
    ) -> Result<Claimed, Failure> {
        if self.draining {
            return Err(draining());
        }
        self.check_attempt(&claim, now)?;
        let Some(older) = self.current.get(&claim.gateway) else {
            return Ok(Claimed::Admitted(self.admit(claim, None, now)));
        };
        let duel = self.duels.get(&claim.gateway);
        let how = if older.claim.is_same_instance(&claim) {
            let fought_over = duel.is_some_and(|duel| duel.is_on_with_itself(now));
            match (older.would_answer(now) && !older.is_repeated_by(&claim, now), fought_over) {
                (false, _) => How::Quiet,
                (true, false) => How::Again,
                (true, true) => match older.is_alive(contest, now) {
                    None => return Ok(Claimed::Contested(older.ping())),
                    Some(true) => return Err(self.hold_off(&claim, now)),
                    Some(false) => How::Quiet,
                },
            }
        } else {
            let fought_over = duel.is_some_and(|duel| duel.is_on_with(&claim.instance, now));
            let named = !claim.instance.is_empty() && !older.claim.instance.is_empty();
            match (fought_over, named) {
                (false, _) => How::Rival,
                (true, false) => How::Duel,
                (true, true) => match older.is_alive(contest, now) {
                    None => return Ok(Claimed::Contested(older.ping())),
                    Some(true) => return Err(self.hold_off(&claim, now)),
                    Some(false) => How::Unanswered,
                },
            }
        };
        let takeover = Takeover { older: older.claim.clone(), how, told: None };
        Ok(Claimed::Admitted(self.admit(claim, Some(takeover), now)))
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
            self.duels.get(&claim.gateway).and_then(|duel| duel.highest_attempt(&claim.instance, now));
        let highest = had_it.max(has_it.map(|incumbent| incumbent.attempt)).unwrap_or_default();
        let taken_back = incumbent.is_some() && has_it.is_none() && claim.attempt > 0;
        let least = if taken_back && had_it.is_some() { highest.saturating_add(1) } else { highest };
        if claim.attempt >= least { Ok(()) } else { Err(stale(claim, highest, incumbent)) }
    }

    fn admit(&mut self, claim: Claim, mut takeover: Option<Takeover>, now: Duration) -> Admitted {
        if let Some(Takeover { older, how, told }) = &mut takeover {
            // What is not remembered is told each time.
            *told = Some(1);
            let is_news = *how == How::Quiet && older.attempt != claim.attempt;
            if !is_news && let Some(duel) = self.remembered(&claim.gateway, DUELS_MAX) {
                *told = duel.happened(now);
                match how {
                    How::Quiet => {}
                    How::Again => duel.came_again(now),
                    How::Rival | How::Duel | How::Unanswered => duel.changed_hands(older, &claim, now),
                }
            }
        }
        self.generation += 1;
        if claim.learns_of_invalidations {
            self.unaware.remove(&claim.gateway);
        } else {
            self.unaware.insert(claim.gateway.clone());
        }
        let mut newer = Incumbent::new(self.generation, claim.clone(), now);
        // The same process goes on from where it was, and so does what it has handled.
        let same = self.current.get_mut(&claim.gateway).filter(|older| older.claim.is_same_instance(&claim));
        if let Some(older) = same {
            newer.reported = older.reported.take();
            if older.claim.attempt == claim.attempt {
                newer.repeats(older);
            }
        }
        let (signal, place, uptake) = (newer.signal(), newer.place.clone(), newer.uptake.clone());
        if let Some(older) = self.current.insert(claim.gateway.clone(), newer) {
            let told = takeover.as_ref().is_none_or(Takeover::is_told);
            older.end(Ending::Replaced { rival: claim, told });
        }
        Admitted { generation: self.generation, signal, place, uptake, takeover }
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

    fn hold_off(&mut self, claim: &Claim, now: Duration) -> Failure {
        let holder = self.current.get(&claim.gateway).map(|older| older.claim.clone()).unwrap_or_default();
        let own = holder.is_same_instance(claim);
        let duel = self.duels.get_mut(&claim.gateway);
        let wait = duel.map_or(HOLD_OFF_FIRST, |duel| duel.hold_off(own, now));
        let advice = if own {
            "give each process an instance id of its own"
        } else {
            "give each gateway an id of its own"
        };
        let message = format!(
            "instances keep taking this gateway id from each other, and {}, which has the stream, is alive: {advice}",
            error::who(&holder.instance, &holder.peer)
        );
        Failure::new(Reason::HeldOff, message)
            .retry_after(wait)
            .metadata(error::RIVAL_INSTANCE, &holder.instance)
            .metadata(error::RIVAL_PEER, &holder.peer)
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
            duel.left(&claim, now);
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

impl Claim {
    pub(crate) fn is_same_instance(&self, other: &Self) -> bool {
        !self.instance.is_empty() && self.instance == other.instance
    }
}

impl Takeover {
    /// Whether it is worth a line.
    pub(crate) const fn is_told(&self) -> bool {
        self.told.is_some()
    }
}

fn stale(claim: &Claim, highest: u64, incumbent: Option<&Claim>) -> Failure {
    let holder = match incumbent {
        Some(holder) => format!("; {} has the stream", error::who(&holder.instance, &holder.peer)),
        None => String::new(),
    };
    let message = format!(
        "attempt {} of this instance arrived after its attempt {highest} had the stream: a late duplicate, or another process with the \
         same instance id{holder}",
        claim.attempt
    );
    let failure = Failure::new(Reason::StaleAttempt, message);
    match incumbent {
        Some(holder) => failure
            .metadata(error::RIVAL_INSTANCE, &holder.instance)
            .metadata(error::RIVAL_PEER, &holder.peer),
        None => failure,
    }
}

/// The answer to whoever comes during a drain.
pub(crate) fn draining() -> Failure {
    Failure::new(Reason::Draining, "this hub is shutting down: come back, another will answer")
        .retry_after(Duration::from_secs(1))
}
