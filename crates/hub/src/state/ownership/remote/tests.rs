//! Two hubs with one log judge as one hub would: whoever comes where, whoever leaves, and whoever keeps silent.

use std::future::ready;
use std::sync::{Mutex, MutexGuard};

use futures_util::future::{BoxFuture, FutureExt as _};
use galaxy_push_core::ambient::Ambient;
use galaxy_push_proto::Reason;
use galaxy_push_store::Error;
use proptest::prelude::*;
use tokio::time::advance;

use super::*;
use crate::state::ownership::register::write_ownership;
use crate::state::ownership::tests::{claim, s};
use crate::state::ownership::{Admitted, ClaimOutcome};

/// Some hubs, and the register of one id.
struct World {
    hubs: Vec<Mutex<Gateways>>,
    register: Mutex<Register>,
    clock: Clock,
    /// Whether whoever is pinged answers.
    answers: Mutex<bool>,
    /// What was done to the register just before somebody wrote it.
    before_swap: Mutex<Vec<Register>>,
    /// How often somebody was asked.
    asked: Mutex<u32>,
    /// No hub can be asked.
    is_mute: bool,
}

/// One hub's door.
struct AtDoor<'a>(&'a World, usize);

/// What became of a claim: how an older stream gave way, or how long it is held off.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Admitted(Option<TakeoverKind>),
    HeldOff(Duration),
}

/// A stream that was admitted.
struct Streaming {
    hub: usize,
    generation: u64,
    admitted: Admitted,
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap()
}

impl World {
    fn new(hubs: usize) -> Self {
        Self {
            hubs: (0..hubs).map(|_| Mutex::default()).collect(),
            register: Mutex::default(),
            clock: Clock::start(Ambient::new(|| 1_700_000_000_000, || 4), s(600)),
            answers: Mutex::new(true),
            before_swap: Mutex::default(),
            asked: Mutex::default(),
            is_mute: false,
        }
    }

    fn now(&self) -> Duration {
        self.clock.now().mono
    }

    /// As a subscription is opened. Without a register where there is but one hub.
    async fn claim(&self, hub: usize, claim: Claim) -> Result<(Outcome, Option<Streaming>), Failure> {
        let (fence, gateways) = (AtDoor(self, hub), &self.hubs[hub]);
        let is_shared = self.hubs.len() > 1;
        let mut remote =
            if is_shared { RemoteOwnership::read(&fence, &claim, &self.clock).await? } else { None };
        let mut probe = None;
        let admitted = loop {
            if let Some(remote) = &mut remote {
                remote.refresh();
            }
            let claimed = lock(gateways).claim(claim.clone(), probe.as_ref(), remote.as_mut(), self.now());
            match claimed {
                Ok(ClaimOutcome::Admitted(admitted)) => break admitted,
                Ok(ClaimOutcome::ProbeHere(asked)) => {
                    if *lock(&self.answers) {
                        lock(gateways).record_pong("gw", asked.generation, asked.ping);
                    }
                    probe = Some(asked);
                }
                Ok(ClaimOutcome::ProbeRemote) => remote.as_mut().unwrap().ping(&fence, &claim).await,
                Err(failure) => {
                    if let Some(remote) = &mut remote {
                        remote.persist_hold_off(&fence, "gw").await;
                    }
                    return refused(failure);
                }
            }
        };
        let mut generation = admitted.generation;
        if is_shared {
            let has_it = || lock(gateways).is_current("gw", generation);
            match write_ownership(&fence, &claim, generation, remote, &has_it).await {
                Ok(Some(taken)) => {
                    generation =
                        lock(gateways).confirm_registration("gw", generation, taken).unwrap_or(generation);
                }
                Ok(None) => {}
                Err(failure) => {
                    lock(gateways).release("gw", generation, self.now());
                    return refused(failure);
                }
            }
        }
        let kind = admitted.takeover.as_ref().map(|takeover| takeover.kind);
        Ok((Outcome::Admitted(kind), Some(Streaming { hub, generation, admitted })))
    }

    /// One that must be let in.
    async fn admit(&self, hub: usize, claim: Claim) -> Streaming {
        let (outcome, stream) = self.claim(hub, claim).await.unwrap();
        stream.unwrap_or_else(|| panic!("{outcome:?}"))
    }

    fn leave(&self, stream: &Streaming) {
        lock(&self.hubs[stream.hub]).release("gw", stream.generation, self.now());
    }
}

fn refused(failure: Failure) -> Result<(Outcome, Option<Streaming>), Failure> {
    match (failure.reason, failure.retry_after) {
        (Some(Reason::HeldOff), Some(wait)) => Ok((Outcome::HeldOff(wait), None)),
        _ => Err(failure),
    }
}

impl Streaming {
    fn has_ended(&self) -> bool {
        self.admitted.signal.borrow().stream_end.is_some()
    }
}

impl Fence for AtDoor<'_> {
    fn read<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Register, Error>> {
        ready(Ok(lock(&self.0.register).clone())).boxed()
    }

    fn swap<'a>(&'a self, _: &'a str, revision: u64, holder: Holder) -> BoxFuture<'a, Result<bool, Error>> {
        let mut register = lock(&self.0.register);
        if let Some(meanwhile) = lock(&self.0.before_swap).pop() {
            *register = meanwhile;
        }
        let is_same = register.revision == revision;
        if is_same {
            *register = Register { holder, behind: 0, revision: revision + 1, door: self.door() };
            let others = self.0.hubs.iter().enumerate().filter(|(hub, _)| *hub != self.1);
            others.for_each(|(_, gateways)| lock(gateways).end_if_superseded("gw", &register.holder));
        }
        ready(Ok(is_same)).boxed()
    }

    fn amend<'a>(&'a self, _: &'a str, amended: &'a Register) -> BoxFuture<'a, Result<bool, Error>> {
        let mut register = lock(&self.0.register);
        let is_same = register.revision == amended.revision;
        if is_same {
            *register = Register { revision: amended.revision + 1, ..amended.clone() };
        }
        ready(Ok(is_same)).boxed()
    }

    fn door(&self) -> u128 {
        self.1 as u128 + 1
    }

    fn ask(&self, door: u128, question: Question) -> BoxFuture<'_, Option<Stream>> {
        assert_ne!(door, self.door(), "nobody asks itself");
        *lock(&self.0.asked) += 1;
        if self.0.is_mute {
            return ready(None).boxed();
        }
        let asked = lock(&self.0.hubs[door as usize - 1]).answer_liveness_query(&question, self.0.now());
        let answers = *lock(&self.0.answers);
        ready(asked.map(|(stream, probe)| match probe {
            Some(_) => Stream { is_alive: answers, ..stream },
            None => stream,
        }))
        .boxed()
    }
}

/// What happens next to one gateway id.
#[derive(Clone, Debug)]
enum Op {
    /// After so many milliseconds, this instance comes to this hub. Whoever has the id answers pings or does not; the newcomer
    /// takes what it is sent from then on, or does not.
    Claim { after_ms: u64, hub: usize, who: usize, answers: bool, takes: bool },
    /// The stream with this index, of all that ever were, is cleaned up.
    Leave { index: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let after_ms = prop_oneof![4 => 0..3_000u64, 4 => 0..9_000u64, 1 => 0..400_000u64];
    prop_oneof![
        12 => (after_ms, 0usize..3, prop_oneof![4 => 0usize..2, 1 => 2usize..5], any::<bool>(), any::<bool>())
            .prop_map(|(after_ms, hub, who, answers, takes)| Op::Claim { after_ms, hub, who, answers, takes }),
        1 => any::<usize>().prop_map(|index| Op::Leave { index }),
    ]
}

/// One world through all that happens: what became of each claim, and who had the id after it.
async fn run(hubs: usize, ops: &[Op]) -> Vec<(Outcome, Option<usize>)> {
    let (world, mut streams, mut outcomes) = (World::new(hubs), Vec::<Streaming>::new(), Vec::new());
    for (attempt, op) in (1..).zip(ops) {
        match op {
            Op::Leave { index } => {
                if let Some(stream) = streams.get(index % streams.len().max(1)) {
                    world.leave(stream);
                }
            }
            Op::Claim { after_ms, hub, who, answers, takes } => {
                advance(Duration::from_millis(*after_ms)).await;
                *lock(&world.answers) = *answers;
                let claim = claim(["a", "b", "c", "d", ""][*who], attempt);
                let (outcome, stream) = world.claim(hub % hubs, claim).await.unwrap();
                if let Some(stream) = &stream
                    && *takes
                {
                    stream.admitted.readiness.wants_more();
                }
                streams.extend(stream);
                let open = streams
                    .iter()
                    .rposition(|stream| lock(&world.hubs[stream.hub]).is_current("gw", stream.generation));
                outcomes.push((outcome, open));
                let held = world.hubs.iter().map(|hub| lock(hub).incumbents().count()).sum::<usize>();
                assert_eq!(held, usize::from(open.is_some()), "one stream for each id");
            }
        }
    }
    outcomes
}

/// In paused time.
fn paused<T>(run: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(run)
}

proptest! {
    #[test]
    fn several_hubs_judge_as_one_would(ops in prop::collection::vec(op(), 1..80), hubs in 2usize..4) {
        prop_assert_eq!(paused(run(hubs, &ops)), paused(run(1, &ops)));
    }
}

/// Two gateways with one id, each at a hub of its own; the next one to come is at the other hub than the one that has it.
async fn fought_over(world: &World) -> Streaming {
    let mut last = None;
    for (n, instance) in (1..).zip(["a", "b", "a", "b", "a", "b"]) {
        advance(s(8)).await;
        let stream = world.admit(usize::from(instance == "b"), claim(instance, n)).await;
        stream.admitted.readiness.wants_more();
        assert!(last.replace(stream).is_none_or(|older: Streaming| older.has_ended()));
    }
    advance(s(8)).await;
    last.unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_id_that_flaps_over_two_hubs_settles_as_at_one_hub() {
    let world = World::new(2);
    let stays = fought_over(&world).await;
    for (after, wait) in [(0, 60), (7, 53), (53, 120), (120, 240)] {
        advance(s(after)).await;
        let before = lock(&world.register).revision;
        assert_eq!(world.claim(0, claim("a", 7)).await.unwrap().0, Outcome::HeldOff(s(wait)));
        assert_eq!(
            lock(&world.register).revision > before,
            after != 7,
            "written only where it changes something"
        );
    }
    assert!(!stays.has_ended());
    let shown = lock(&world.hubs[0]).flapping(world.now()).map(|(id, wait)| (id.to_owned(), wait)).next();
    assert_eq!(shown, Some(("gw".to_owned(), s(240))), "as the status of the hub says that held it off");
    // A third one, at the hub where the stream is.
    assert_eq!(world.claim(1, claim("c", 1)).await.unwrap().0, Outcome::HeldOff(s(240)));
    assert_eq!(lock(&world.hubs[1]).flapping_count(world.now()), 1);
    assert_eq!(lock(&world.register).door, 2, "it is at its hub still");
}

#[tokio::test(start_paused = true)]
async fn an_incumbent_at_another_hub_that_keeps_silent_gives_way() {
    for is_mute in [false, true] {
        let mut world = World::new(2);
        let silent = fought_over(&world).await;
        (*lock(&world.answers), world.is_mute) = (false, is_mute);
        let (outcome, stream) = world.claim(0, claim("a", 7)).await.unwrap();
        // Of a hub that does not answer nobody knows whether it has a stream.
        assert_eq!(outcome, Outcome::Admitted((!is_mute).then_some(TakeoverKind::Unresponsive)));
        assert!(silent.has_ended() && !stream.unwrap().has_ended());
    }
}

#[tokio::test(start_paused = true)]
async fn a_transparent_retry_at_another_hub_is_no_return_and_one_that_goes_on_is() {
    let world = World::new(2);
    for n in 0..12 {
        advance(Duration::from_millis(100)).await;
        let (outcome, stream) = world.claim(n % 2, claim("a", 1)).await.unwrap();
        assert_eq!(outcome, Outcome::Admitted((n > 0).then_some(TakeoverKind::Reconnect)));
        stream.unwrap().admitted.readiness.wants_more();
    }
    // Since the first of them, not since the latest.
    let mut hows = Vec::new();
    for n in 0..20 {
        advance(Duration::from_millis(200)).await;
        let (outcome, stream) = world.claim(n % 2, claim("a", 1)).await.unwrap();
        if let Some(stream) = stream {
            stream.admitted.readiness.wants_more();
        }
        hows.push(outcome);
    }
    let agains = hows
        .iter()
        .filter(|kind| **kind == Outcome::Admitted(Some(TakeoverKind::ReconnectWhileAlive)))
        .count();
    assert_eq!((agains, hows.pop()), (4, Some(Outcome::HeldOff(s(15)))));
}

/// What another hub writes between the reading and the writing of a register.
#[tokio::test(start_paused = true)]
async fn who_was_faster_at_another_hub_is_taken_for_alive() {
    for (rival, taken) in [("c", false), ("a", true)] {
        let world = World::new(2);
        let silent = fought_over(&world).await;
        *lock(&world.answers) = false;
        let mut register = lock(&world.register).clone();
        let now = Duration::from_millis(world.clock.log_unix_ms());
        register.holder = register.holder.succeeded_by(rival, 1_000, "there", 1).unwrap();
        register.holder.flap.took("b", 6, rival, TakeoverKind::Unresponsive, now);
        (register.revision, register.door) = (register.revision + 1, 2);
        lock(&world.before_swap).push(register);
        let newer = world.claim(0, claim("a", 1_001)).await.unwrap();
        let expected =
            if taken { Outcome::Admitted(Some(TakeoverKind::Unresponsive)) } else { Outcome::HeldOff(s(60)) };
        assert_eq!(newer.0, expected, "{rival}");
        assert_eq!(lock(&world.register).door, if taken { 1 } else { 2 });
        drop(silent);
    }
}

/// Somebody was held off meanwhile: whoever has it is the same, and so is what was judged.
#[tokio::test(start_paused = true)]
async fn a_register_in_which_somebody_was_held_off_is_taken_all_the_same() {
    let world = World::new(2);
    fought_over(&world).await;
    *lock(&world.answers) = false;
    let mut register = lock(&world.register).clone();
    register.holder.flap.hold_off(false, Duration::from_millis(world.clock.log_unix_ms()));
    register.revision += 1;
    lock(&world.before_swap).push(register);
    let taken = world.claim(0, claim("a", 7)).await.unwrap();
    assert_eq!(taken.0, Outcome::Admitted(Some(TakeoverKind::Unresponsive)));
    let after = lock(&world.register).holder.clone();
    let now = Duration::from_millis(world.clock.log_unix_ms());
    assert_eq!((after.instance.as_str(), after.flap.held_off_for(now)), ("a", s(60)), "and that holds still");
}

#[tokio::test(start_paused = true)]
async fn whoever_left_by_itself_at_another_hub_has_not_lost_the_id() {
    let world = World::new(2);
    for n in 1..40 {
        advance(s(1)).await;
        let stream = world.admit(n % 2, claim(["a", "b"][n % 2], n as u64)).await;
        assert_eq!(stream.admitted.takeover, None);
        stream.admitted.readiness.wants_more();
        world.leave(&stream);
    }
    assert_eq!(
        lock(&world.hubs[0]).flapping_count(world.now()) + lock(&world.hubs[1]).flapping_count(world.now()),
        0
    );
    // A question for each, and none where the holder was here.
    let asked = *lock(&world.asked);
    assert_eq!(asked, 38);
    world.admit(1, claim("b", 100)).await;
    assert_eq!(*lock(&world.asked), asked);
}

#[tokio::test(start_paused = true)]
async fn a_late_duplicate_that_another_hub_knows_disturbs_nobody() {
    let world = World::new(2);
    // The other hub has never seen it, and its own table knows nothing of it.
    world.admit(0, claim("a", 5)).await;
    world.admit(0, claim("c", 1)).await;
    let has_it = world.admit(1, claim("b", 1)).await;
    for (late, hub) in [(4, 0), (4, 1), (5, 0), (5, 1)] {
        let Err(refused) = world.claim(hub, claim("a", late)).await else { panic!("{late} at {hub}") };
        assert_eq!(refused.reason, Some(Reason::StaleAttempt));
        assert_eq!((&*refused.metadata["instance"], &*refused.metadata["peer"]), ("b", "b:1"));
    }
    assert!(!has_it.has_ended());
    assert!(matches!(
        world.claim(0, claim("a", 6)).await,
        Ok((Outcome::Admitted(Some(TakeoverKind::OtherInstance)), _))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_hub_answers_for_the_stream_of_that_instance_alone() {
    let world = World::new(2);
    let stream = world.admit(0, claim("a", 1)).await;
    stream.admitted.readiness.wants_more();
    advance(s(3)).await;
    let ask = |gateway: &str, instance: &str, pings| {
        let question = Question { gateway: gateway.into(), instance: instance.into(), pings };
        lock(&world.hubs[0]).answer_liveness_query(&question, world.now())
    };
    let (open, probe) = ask("gw", "a", false).unwrap();
    assert_eq!(open, Stream { is_alive: true, open_for: s(3), attempt_for: s(3) });
    assert!(probe.is_none() && stream.admitted.signal.borrow().ping == 0, "nobody was pinged");
    assert!(
        ask("gw", "b", false).is_none() && ask("gw", "", true).is_none() && ask("other", "a", true).is_none()
    );
    let (open, probe) = ask("gw", "a", true).unwrap();
    let probe = probe.unwrap();
    assert!(!open.is_alive && !probe.is_answered() && stream.admitted.signal.borrow().ping == 1);
    lock(&world.hubs[0]).record_pong("gw", stream.generation, 1);
    assert!(probe.is_answered());
    stream.admitted.readiness.sent(world.now());
    advance(s(3)).await;
    assert!(!ask("gw", "a", false).unwrap().0.is_alive, "it takes nothing");
}

/// The clock of the hub that wrote the register was an hour ahead.
#[tokio::test(start_paused = true)]
async fn a_clock_that_was_ahead_holds_nobody_off_for_longer() {
    let world = World::new(2);
    let stays = fought_over(&world).await;
    let hour_ahead = Duration::from_millis(world.clock.log_unix_ms()) + s(3_600);
    lock(&world.register).holder.flap.hold_off(false, hour_ahead);
    assert_eq!(world.claim(0, claim("a", 7)).await.unwrap().0, Outcome::HeldOff(s(60)));
    advance(s(60)).await;
    assert_eq!(world.claim(0, claim("a", 8)).await.unwrap().0, Outcome::HeldOff(s(120)));
    assert!(!stays.has_ended());
}
