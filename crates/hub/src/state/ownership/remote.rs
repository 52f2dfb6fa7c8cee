//! What is known of a gateway id beyond this hub, where its log has several: the store's register of the id, and what the
//! hub says that has its stream.
//!
//! It is read before a claim is judged under the log's lock, and written back by `register.rs` afterwards. So two instances
//! that come to two hubs meet as they would at one: what is counted lies in the register, and the incumbent is asked where
//! it is. A hub that does not answer in time has no such stream, as far as anybody can know.
//!
//! ```text
//! b claims at hub 2, a has the stream at hub 1
//!   read         register: holder a, at hub 1, four returns counted
//!   ask          hub 1: is a's stream open, and would it answer?       at most 0.5 s
//!   judge        this would be the fifth return: it must be pinged
//!   ping         hub 1 pings a's stream                                at most 2.5 s
//!   judge        it answered: b is held off
//!   persist      the wait is written into the register, so that every hub holds off alike
//! ```
//!
//! All of it has [`REGISTER_WITHIN`], which is less than a client waits for its Welcome.

#[cfg(test)]
mod tests;

use std::time::Duration;

use galaxy_push_listener::Clock;
use galaxy_push_proto::Failure;
use galaxy_push_store::fence::{
    Incumbent, OwnershipFlap, Question, Register, StaleAttempt, Stream, TakeoverDecision, TakeoverKind,
};
use galaxy_push_store::{Fence, Holder};
use tokio::time::{Instant, timeout, timeout_at};

use super::Gateways;
use super::claim::{Claim, IncumbentView, Takeover};
use super::incumbent::{ANSWER_WITHIN, LivenessProbe};
use super::refusals::{rejection, stale_in_register, unavailable};

/// How long a refused claim waits until its refusal is in the register. If it is not by then, the next claim is told to
/// wait no longer than this one was.
const PERSIST_WITHIN: Duration = Duration::from_secs(1);

/// How often a compare-and-set may fail before the claim is told to come back.
pub(super) const SWAPS_MAX: usize = 8;

/// How long the store and the hub that is asked may take with all of it: less than a client waits for its Welcome.
pub(super) const REGISTER_WITHIN: Duration = Duration::from_secs(5);

/// What is known of one id beyond this hub, and what came of the claim that asked.
#[derive(Debug)]
pub(crate) struct RemoteOwnership {
    register: Register,
    /// What the register counted when it was read. What is refused changes nothing if it is the same afterwards, and is not
    /// written then.
    flap_read: OwnershipFlap,
    clock: Clock,
    /// The time of the log's clock, by which the register counts.
    log_time: Duration,
    /// By then the register is written, or the claim has failed.
    deadline: Instant,
    own_door: u128,
    /// The holder's stream, if it is at another hub.
    stream: Option<Stream>,
    /// Whether that answered a ping, once it was asked.
    answered: Option<bool>,
    effect: ClaimEffect,
}

/// What came of the claim, to be written into the register.
#[derive(Debug, Default)]
enum ClaimEffect {
    #[default]
    Nothing,
    /// It took the id, from this instance with this attempt, or from nobody.
    TookOver(Option<(String, u64, TakeoverKind)>),
    /// It was held off; `own`: from its own instance.
    HeldOff { own: bool },
}

impl RemoteOwnership {
    /// Reads the register, and asks for the holder's stream where that is at another hub. `None`: the register cannot be
    /// read, and it is the holder that comes back.
    ///
    /// Cancel safe: nothing is changed.
    ///
    /// # Errors
    ///
    /// `STALE_ATTEMPT`; or the register cannot be read at present.
    pub(crate) async fn read(
        fence: &dyn Fence,
        claim: &Claim,
        clock: &Clock,
    ) -> Result<Option<Self>, Failure> {
        let deadline = Instant::now() + REGISTER_WITHIN;
        let why = if fence.is_reached() {
            match timeout_at(deadline, fence.read(&claim.gateway)).await {
                Ok(Ok(register)) => {
                    return Self::ask(register, fence, claim, clock, deadline).await.map(Some);
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("the store did not answer within {REGISTER_WITHIN:?}"),
            }
        } else {
            "the store is not reached".to_owned()
        };
        if already_held(fence, claim).is_some() { Ok(None) } else { Err(unavailable(&why)) }
    }

    /// Asks the hub of the holder about its stream, unless the claim is stale anyway.
    async fn ask(
        register: Register,
        fence: &dyn Fence,
        claim: &Claim,
        clock: &Clock,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let holder = &register.holder;
        // Told before anybody gives way to it.
        let next = holder.succeeded_by(&claim.instance, claim.attempt, &claim.peer, 0);
        next.map_err(|StaleAttempt { highest }| stale_in_register(claim, holder, highest))?;
        let (own_door, clock, flap_read) = (fence.door(), clock.clone(), holder.flap.clone());
        let (log_time, stream, answered, effect) = (Duration::ZERO, None, None, ClaimEffect::Nothing);
        let mut remote =
            Self { register, flap_read, clock, log_time, deadline, own_door, stream, answered, effect };
        if remote.is_elsewhere() {
            remote.stream = fence.ask(remote.register.door, remote.question(claim, false)).await;
        }
        remote.refresh();
        Ok(remote)
    }

    /// Asks the hub where the incumbent is whether it answers a ping.
    ///
    /// Cancel safe.
    pub(crate) async fn ping(&mut self, fence: &dyn Fence, claim: &Claim) {
        let answer = fence.ask(self.register.door, self.question(claim, true)).await;
        self.answered = Some(answer.is_some_and(|stream| stream.is_alive));
    }

    /// The question for the stream of the register's holder; `pings`: it must answer a ping.
    fn question(&self, claim: &Claim, pings: bool) -> Question {
        let (gateway, instance) = (claim.gateway.clone(), self.register.holder.instance.clone());
        Question { gateway, instance, pings }
    }

    /// Goes on with a register that was read anew.
    fn replace_register(&mut self, register: Register) {
        self.flap_read = register.holder.flap.clone();
        self.register = register;
        self.refresh();
    }

    /// What time it is, for what is judged next.
    pub(crate) fn refresh(&mut self) {
        self.log_time = Duration::from_millis(self.clock.log_unix_ms());
        self.register.holder.flap.read_at(self.log_time);
    }

    /// Another hub wrote the register last: the holder's stream is there.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.register.revision > 0 && self.register.door != 0 && self.register.door != self.own_door
    }

    /// By when all of it must be done.
    pub(super) const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What is counted of the id, at whichever hubs it happened.
    pub(super) const fn flap(&self) -> &OwnershipFlap {
        &self.register.holder.flap
    }

    /// The time by which the register counts.
    pub(super) const fn log_time(&self) -> Duration {
        self.log_time
    }

    /// The stream at the other hub, as this claim is judged by it. `None`: that hub has none.
    pub(super) fn incumbent(&self, claim: &Claim, now: Duration) -> Option<IncumbentView> {
        let (stream, holder) = (self.stream?, &self.register.holder);
        let older = Claim {
            gateway: claim.gateway.clone(),
            instance: holder.instance.clone(),
            attempt: holder.attempt(),
            peer: holder.peer.clone(),
            ..Claim::default()
        };
        let is_same = older.is_same_instance(claim) && older.attempt == claim.attempt;
        let is_repeated = is_same && stream.attempt_for <= ANSWER_WITHIN;
        Some(IncumbentView {
            claim: older,
            is_here: false,
            would_answer: stream.is_alive && !is_repeated,
            is_alive: if stream.open_for <= ANSWER_WITHIN { Some(true) } else { self.answered },
            first_since: now.saturating_sub(stream.attempt_for),
        })
    }

    /// Notes that this claim takes the id, and counts it in the register.
    pub(super) fn record_takeover(&mut self, claim: &Claim, takeover: Option<&Takeover>) {
        let older =
            takeover.map(|Takeover { older, kind, .. }| (older.instance.clone(), older.attempt, *kind));
        self.count(claim, older.as_ref());
        self.effect = ClaimEffect::TookOver(older);
    }

    /// Counts a takeover in the register that is about to be written.
    fn count(&mut self, claim: &Claim, older: Option<&(String, u64, TakeoverKind)>) {
        let (at, Holder { instance, flap, .. }) = (self.log_time, &self.register.holder);
        let mut flap = flap.clone();
        match older {
            Some((older, attempt, kind)) => flap.took(older, *attempt, &claim.instance, *kind, at),
            // Its stream has ended by itself since it took the id.
            None if !instance.is_empty() => flap.left(instance, self.register.holder.attempt(), at),
            None => {}
        }
        self.register.holder.flap = flap;
    }

    /// Notes that the claim is held off; `own`: from its own instance. Returns for how long.
    pub(super) fn hold_off(&mut self, own: bool) -> Duration {
        let flap = &mut self.register.holder.flap;
        let wait = flap.hold_off(own, self.log_time);
        // Who comes before his time is up changes nothing, and nobody need write it.
        self.effect =
            if *flap == self.flap_read { ClaimEffect::Nothing } else { ClaimEffect::HeldOff { own } };
        wait
    }

    /// The register as it is to be written.
    pub(super) const fn register(&self) -> &Register {
        &self.register
    }

    /// Judges once more, because the register has changed since it was read: a claim was held off, or another hub has taken
    /// the id. A holder that has just taken it is alive.
    ///
    /// ```text
    /// hub 1 and hub 2 read revision 4 · hub 1 writes b, revision 5 · hub 2's compare-and-set fails
    /// hub 2 reads revision 5 and judges its claim c beside b, as if b had come first: it did
    /// ```
    ///
    /// # Errors
    ///
    /// `HELD_OFF`: as it would have been if the other had come first.
    pub(super) fn judge_again(&mut self, register: Register, claim: &Claim) -> Result<(), Failure> {
        let who = |register: &Register| {
            (register.door, register.holder.instance.clone(), register.holder.attempt())
        };
        let is_same = who(&register) == who(&self.register);
        self.replace_register(register);
        // The same holder, or one of this hub: the lock of the log has settled who came last. Only the counts are newer.
        if is_same || !self.is_elsewhere() {
            let ClaimEffect::TookOver(older) = std::mem::take(&mut self.effect) else { return Ok(()) };
            self.count(claim, older.as_ref());
            self.effect = ClaimEffect::TookOver(older);
            return Ok(());
        }
        self.stream = Some(Stream { is_alive: true, ..Stream::default() });
        let Some(older) = self.incumbent(claim, Duration::ZERO) else { return Ok(()) };
        let incumbent = Incumbent {
            instance: &older.claim.instance,
            would_answer: older.would_answer,
            is_alive: older.is_alive,
        };
        let TakeoverDecision::Replace(kind) = self.flap().judge(&incumbent, &claim.instance, self.log_time)
        else {
            let own = older.claim.is_same_instance(claim);
            let wait = self.hold_off(own);
            return Err(rejection(&older.claim.instance, &older.claim.peer, own, wait));
        };
        self.record_takeover(claim, Some(&Takeover { older: older.claim, kind, log_count: None }));
        Ok(())
    }

    /// Writes down that somebody was held off, if that is what came of the claim, so that every hub holds off alike.
    ///
    /// Cancel safe.
    pub(crate) async fn persist_hold_off(&mut self, fence: &dyn Fence, gateway: &str) {
        let ClaimEffect::HeldOff { own } = self.effect else { return };
        let kept = timeout(PERSIST_WITHIN, async {
            for _ in 0..SWAPS_MAX {
                if !matches!(fence.amend(gateway, &self.register).await, Ok(false)) {
                    return;
                }
                let Ok(register) = fence.read(gateway).await else { return };
                self.replace_register(register);
                self.hold_off(own);
                if matches!(self.effect, ClaimEffect::Nothing) {
                    return;
                }
            }
        });
        let _late = kept.await; // the refusal stands
    }
}

/// The number under which this claim's instance has the id at this hub.
pub(super) fn already_held(fence: &dyn Fence, claim: &Claim) -> Option<u64> {
    let holder = fence.held(&claim.gateway)?;
    (!claim.instance.is_empty() && holder.instance == claim.instance).then_some(holder.generation)
}

impl Gateways {
    /// Another hub asks for a stream here. Where that stream must answer a ping first, it has been sent one: wait for the
    /// probe, then answer.
    pub(crate) fn answer_liveness_query(
        &self,
        question: &Question,
        now: Duration,
    ) -> Option<(Stream, Option<LivenessProbe>)> {
        let here = self.current.get(&question.gateway);
        let here = here.filter(|here| here.claim.instance == question.instance)?;
        let is_alive = if question.pings { here.is_alive(None, now) } else { Some(here.would_answer(now)) };
        let stream = Stream {
            is_alive: is_alive.unwrap_or_default(),
            open_for: now.saturating_sub(here.since),
            attempt_for: now.saturating_sub(here.first_since()),
        };
        Some((stream, is_alive.is_none().then(|| here.ping())))
    }

    /// Whether the stream of this generation still has the id.
    pub(crate) fn is_current(&self, gateway: &str, generation: u64) -> bool {
        self.current.get(gateway).is_some_and(|here| here.generation == generation)
    }
}
