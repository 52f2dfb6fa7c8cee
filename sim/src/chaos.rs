//! Faults against real processes: the binary itself, killed, stopped, cut off, squeezed and told to leave, again and again,
//! while backends publish and users read.
//!
//! A cycle is a second of peace, one fault, its healing, and the time until every reader has an event that was published
//! after it. All cycles write one history; the checker judges it at the end. The faults are in `faults`, what they strike
//! is in `stage`. Run by `galaxy-push-chaos`, which `cargo xtask chaos` puts into a network namespace of its own.

pub mod client;
mod descriptors;
mod doors;
mod duels;
pub mod faults;
mod network;
mod old;
mod report;
mod stage;
mod strike;
mod traffic;
mod truth;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use galaxy_push_testkit::history::{self, Fault, Rules, What};
use galaxy_push_testkit::{Recorder, Sight, broker, check};
use tokio::time::{Instant, sleep};

use self::faults::{Kind, Pace};
use self::report::Cycle;
use self::stage::Stage;
use crate::real::{self, clock_us};
use crate::rng::Rng;

/// About half an hour at the rates used here.
const RECORDS_MAX: usize = 6_000_000;

/// When everybody is live after a fault at the latest: 15 s to take a peer for dead, 10 s of back-off, 5 s.
const LIVE_WITHIN: Duration = Duration::from_secs(30);

/// How long nothing happens at the end, so that the checker sees who is not live.
const REST: Duration = Duration::from_secs(6);

/// The fewest cycles that hold each slow fault; each is struck once in so many.
const CYCLES_PER_SLOW: usize = 50;

/// Events a second of each backend, one of these in each cycle.
const RATES: [u64; 3] = [10, 25, 100];

/// What a fault of the short run is, in this order.
const SHORT: [Kind; 7] = [
    Kind::KillHub,
    Kind::PauseHub,
    Kind::CutHub,
    Kind::KillGateway,
    Kind::Duel,
    Kind::DrainHub,
    Kind::DrainGateway,
];

/// The same, over brokers.
const SHORT_OF_BROKERS: [Kind; 3] = [Kind::KillBroker, Kind::KillDoor, Kind::DoorDuel];

/// What else strikes where brokers keep the log.
const BESIDE_BROKERS: [Kind; 5] =
    [Kind::KillGateway, Kind::KillClient, Kind::PauseHub, Kind::DrainHub, Kind::DrainGateway];

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many cycles.
    pub cycles: usize,
    /// Only these faults; empty: all.
    pub only: Vec<Kind>,
    /// None of these.
    pub skip: Vec<Kind>,
    /// One cycle each of the faults that take little time, whatever the number of cycles.
    pub short: bool,
    /// Over three brokers, with two hubs that are doors to one log.
    pub brokers: bool,
    /// The old gateway, the program that `interop/go` is built to; without, there is none.
    pub old_gateway: Option<PathBuf>,
    /// Decides the order of the faults, and whom they strike.
    pub seed: u64,
    /// Where the logs go, and the history of a run that failed.
    pub out: PathBuf,
}

/// Runs all cycles and judges them; returns the table of what happened, as Markdown.
///
/// # Errors
///
/// When something cannot be started, or a promise was broken; the history is then in [`Options::out`].
pub async fn run(options: &Options, tell: fn(&str)) -> anyhow::Result<String> {
    let mut rng = Rng::new(options.seed, "chaos");
    let faults = schedule(options, &mut rng);
    ensure!(!faults.is_empty(), "no fault is left to strike");
    let isolated = network::is_isolated()?;
    if faults.iter().any(|kind| kind.harms_network()) && !isolated {
        bail!(
            "faults of the network need a network namespace of their own: run `cargo xtask chaos`, or leave them out \
             with --skip"
        );
    }
    std::fs::create_dir_all(&options.out)?;
    for entry in std::fs::read_dir(&options.out)? {
        std::fs::remove_file(entry?.path()).context("the directory of the last run cannot be emptied")?;
    }
    let recorder = Recorder::new(RECORDS_MAX);
    // An older stream at another hub may be handed what is appended for so long after the takeover.
    let fence_grace_us = if options.brokers { 1_000_000 } else { 0 };
    let rules = Rules { live_within_us: REST.as_micros() as u64, fence_grace_us, ..Rules::default() };
    recorder.record(clock_us(), What::Rules(rules));
    let started = Instant::now();
    let nats_server =
        if options.brokers { Some(broker::program().context("there is no nats-server")?) } else { None };
    let (binary, server) = (real::binary()?, nats_server.as_deref());
    let mut stage = Stage::set(
        &binary,
        &options.out,
        options.seed,
        recorder.clone(),
        server,
        options.old_gateway.as_deref(),
    )
    .await?;
    let mut cycles = Vec::new();
    let ran = run_cycles(&faults, &mut stage, &mut rng, &mut cycles, tell).await;
    let known = match ran {
        Ok(()) => stage.rest(REST).await,
        Err(error) => Err(error),
    };
    let records = recorder.finish()?;
    drop(stage);
    let verdict = check(&records);
    let complained = cycles.iter().any(|cycle| !cycle.complaints.is_empty());
    if known.is_err() || !verdict.is_clean() || complained {
        let saved = options.out.join("history.ndjson");
        history::write(&saved, &records)?;
        tell(&format!("{verdict}\nthe history is in {}", saved.display()));
    }
    let known = known?;
    let table = report::table(&cycles, &records, &verdict, known, started.elapsed());
    ensure!(verdict.is_clean() && !complained, "{table}\npromises were broken");
    verdict.require_seen(&[Sight::UserEvent, Sight::Acked, Sight::LiveJudged])?;
    if options.only.is_empty() {
        verdict.require_seen(&[Sight::ResumedWithReplay, Sight::Drained])?;
        // A log that brokers keep goes on when a hub is killed.
        if !options.brokers {
            verdict.require_seen(&[Sight::GapEpochChanged])?;
        }
    }
    report::check_crashes(&cycles, &verdict)?;
    Ok(table)
}

async fn run_cycles(
    faults: &[Kind],
    stage: &mut Stage,
    rng: &mut Rng,
    cycles: &mut Vec<Cycle>,
    tell: fn(&str),
) -> anyhow::Result<()> {
    for (number, &kind) in faults.iter().enumerate() {
        let cycle = run_cycle(kind, stage, rng)
            .await
            .with_context(|| format!("cycle {} of {}, {}", number + 1, faults.len(), kind.name()))?;
        tell(&format!(
            "{:>3}/{} {:<16} live again after {:>6.2} s, {:>2} readers connected again{}",
            number + 1,
            faults.len(),
            kind.name(),
            cycle.live_after.as_secs_f64(),
            cycle.reconnects,
            cycle.complaints.iter().map(|complaint| format!("\n    {complaint}")).collect::<String>(),
        ));
        cycles.push(cycle);
    }
    Ok(())
}

async fn run_cycle(kind: Kind, stage: &mut Stage, rng: &mut Rng) -> anyhow::Result<Cycle> {
    stage.publish_at(*rng.pick(&RATES), 0);
    sleep(rng.between(Duration::from_millis(500), Duration::from_millis(1_200))).await;
    let readers = stage.readers.clone();
    let opened = stage.watch.opened(&readers);
    let fault = Fault { kind: kind.name().into(), detail: String::new() };
    let begun = clock_us();
    stage.recorder.record(begun, What::FaultStart(fault.clone()));
    let complaints = strike::strike(kind, stage, rng).await?;
    stage.recorder.record(clock_us(), What::FaultStop(fault));
    let live_after = stage.all_live(LIVE_WITHIN).await?;
    let reconnects = stage.watch.opened(&readers) - opened;
    Ok(Cycle { kind, begun_us: begun, live_after, reconnects, complaints })
}

/// The faults in the order in which they strike: rounds of all quick ones, each in another order, and the slow ones
/// spread among them.
fn schedule(options: &Options, rng: &mut Rng) -> Vec<Kind> {
    use clap::ValueEnum as _;
    let wanted = |kind: &Kind| {
        let fits = if options.brokers {
            kind.is_of_brokers() || BESIDE_BROKERS.contains(kind)
        } else {
            !kind.is_of_brokers()
        };
        fits && (options.only.is_empty() || options.only.contains(kind)) && !options.skip.contains(kind)
    };
    if options.short {
        let short: &[Kind] = if options.brokers { &SHORT_OF_BROKERS } else { &SHORT };
        return short.iter().copied().filter(wanted).collect();
    }
    let kinds: Vec<Kind> = Kind::value_variants().iter().copied().filter(wanted).collect();
    let (slow, quick): (Vec<Kind>, Vec<Kind>) = kinds.into_iter().partition(|kind| kind.pace() == Pace::Slow);
    if quick.is_empty() {
        return slow.iter().copied().cycle().take(if slow.is_empty() { 0 } else { options.cycles }).collect();
    }
    let mut rare: Vec<Kind> = slow.repeat(options.cycles / CYCLES_PER_SLOW);
    let mut faults = Vec::with_capacity(options.cycles);
    while faults.len() + rare.len() < options.cycles {
        let mut round = quick.clone();
        while !round.is_empty() && faults.len() + rare.len() < options.cycles {
            faults.push(round.swap_remove(rng.below(round.len() as u64) as usize));
        }
    }
    while let Some(kind) = rare.pop() {
        faults.insert(rng.below(faults.len() as u64 + 1) as usize, kind);
    }
    faults
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    fn options(cycles: usize) -> Options {
        Options {
            cycles,
            only: vec![],
            skip: vec![],
            short: false,
            brokers: false,
            old_gateway: None,
            seed: 1,
            out: PathBuf::new(),
        }
    }

    #[test]
    fn a_whole_run_strikes_with_every_fault() {
        let faults = schedule(&options(100), &mut Rng::new(1, "chaos"));
        assert_eq!(faults.len(), 100);
        for kind in Kind::value_variants().iter().filter(|kind| !kind.is_of_brokers()) {
            let times = faults.iter().filter(|fault| *fault == kind).count();
            let wanted = if kind.pace() == Pace::Slow { 2..3 } else { 5..7 };
            assert!(wanted.contains(&times), "{} {times} times", kind.name());
        }
    }

    #[test]
    fn chosen_faults_are_the_only_ones() {
        let only = Options { only: vec![Kind::KillHub, Kind::Duel], ..options(7) };
        let faults = schedule(&only, &mut Rng::new(1, "chaos"));
        assert_eq!(faults.len(), 7);
        assert!(faults.iter().all(|kind| only.only.contains(kind)), "{faults:?}");
        let none = Options { only: vec![Kind::Duel], skip: vec![Kind::Duel], ..options(7) };
        assert!(schedule(&none, &mut Rng::new(1, "chaos")).is_empty());
    }
}
