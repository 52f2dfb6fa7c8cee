//! One world: every process of a scenario on a simulated network, its faults, and the history of what everybody saw.
//!
//! Deterministic: the same seed gives the same history, record by record.

mod duels;
mod faults;
mod publishers;
mod records;
mod time;

use std::collections::BTreeMap;
use std::time::Duration;

use galaxy_push_core::window::Bounds;
use galaxy_push_testkit::history::{Name, Record, Rules, What, WindowRule};
use galaxy_push_testkit::{Recorder, Report, check};

use crate::brokers::Brokers;
use crate::disk::HubDisk;
use crate::met::Met;
use crate::rng::{Counter, Rng, now_us, skewed};
use crate::scenario::{Hubs, Kind, SKEW_MAX, Scenario, gateway_name, user_name};
use crate::unknown::Unknown;
use crate::users::token;
use crate::{app, net, plain, processes, publisher, steady, users};
use duels::{add_duel, add_rival};
use faults::{Faults, Reach};
use publishers::{add_publishers, large_bytes};

/// How far the second door to a shared log is behind at most.
const LAG_MAX: Duration = Duration::from_secs(2);

/// Where somebody reads slowly but steadily, what gateways send travels in segments of this size.
const SEGMENT_BYTES: usize = 512;

/// One step of simulated time: fine enough for every deadline of the system, the shortest being 200 ms.
const TICK: Duration = Duration::from_millis(10);

/// How long a message is on its way.
const LATENCY_MIN: Duration = Duration::from_millis(1);
const LATENCY_MAX: Duration = Duration::from_millis(30);

/// A history that is longer than this tells that something publishes or prints without end.
const RECORDS_MAX: usize = 2_000_000;

/// How long a plain gateway pauses at most.
const PAUSE_MAX: Duration = Duration::from_secs(4);

/// Users notice silence after this; gateways say something every 5 s here.
const USER_SILENCE: Duration = Duration::from_secs(12);

/// What a hub has sent to brokers is stored within this time, or never counts.
const UNDER_WAY_MAX: Duration = Duration::from_secs(20);

/// What a run gave.
#[derive(Debug)]
pub struct Outcome {
    /// Everything that was seen.
    pub history: Vec<Record>,
    /// What the checker says.
    pub report: Report,
    /// What brokers met, if the world has any, and how often.
    pub met: BTreeMap<&'static str, u64>,
    /// What publishers did, and how often.
    pub did: BTreeMap<&'static str, u64>,
}

/// Runs a scenario to its end and judges it.
///
/// # Errors
///
/// When a process of the world fails in a way no fault explains; the message names it.
pub fn run(scenario: &Scenario) -> anyhow::Result<Outcome> {
    let recorder = Recorder::new(RECORDS_MAX);
    let is_shared = scenario.hubs == Hubs::Shared || scenario.brokers.is_some();
    recorder.record(
        0,
        What::Rules(Rules {
            live_within_us: if scenario.hubs == Hubs::Apart { 60_000_000 } else { 30_000_000 },
            window: window_rule(scenario, scenario.window),
            edge_windows: edge_windows(scenario),
            fence_grace_us: if is_shared { 1_000_000 } else { 0 },
            clock_skew_us: if scenario.skewed { SKEW_MAX.as_micros() as u64 } else { 0 },
            // Of a log that hubs share, one that leaves may not have all yet.
            durable: scenario.disk,
            edges: true,
            keeps_little: keeps_little(scenario),
            // What hubs and gateways spread repairs over unless they are told otherwise.
            repair_spread_us: 30_000_000,
            transit_us: slowest_link(scenario).as_micros() as u64,
            drain_us: if is_shared { 0 } else { processes::LEAVE_WITHIN.as_micros() as u64 },
            dedup_events: dedup_events(scenario),
            timing: Some(time::rule(scenario)),
            ..Rules::default()
        }),
    );
    let met = Met::default();
    let (mut world, reach) = build(scenario, &recorder, &met)?;
    let brokers = reach.brokers.clone();
    let mut faults = Faults::new(scenario, reach);
    while world.elapsed() < scenario.length {
        faults.advance(&mut world, scenario, &recorder)?;
        brokers.iter().for_each(|brokers| brokers.advance(world.elapsed()));
        world.step().map_err(|error| anyhow::anyhow!("seed {}: {error}", scenario.seed))?;
    }
    recorder.record(scenario.length.as_micros() as u64, What::End);
    let history = recorder.finish()?;
    let report = check(&history);
    let did = met.all();
    let met = brokers.map(|brokers| brokers.met()).unwrap_or_default();
    Ok(Outcome { history, report, met, did })
}

/// How long each message takes over the slowest link.
fn slowest_link(scenario: &Scenario) -> Duration {
    let links = scenario.faults.iter().map(|(_, fault)| match fault.kind {
        Kind::SlowLink(_, _, latency) => latency,
        _ => Duration::ZERO,
    });
    links.max().unwrap_or_default()
}

/// What each hub's window holds. `None`: nobody knows, as it cannot read all of the log.
fn window_rule(scenario: &Scenario, window: Bounds) -> Option<WindowRule> {
    // What comes from brokers may have been on its way for long, and is as old as its hub says.
    let late = match scenario.brokers {
        _ if keeps_little(scenario) => return None,
        Some(_) => UNDER_WAY_MAX,
        None => Duration::ZERO,
    };
    Some(WindowRule {
        age_us: window.age.saturating_sub(late).as_micros() as u64,
        events: window.events,
        bytes: window.bytes,
        event_bytes_max: publisher::LARGE_BYTES.min(scenario.window.bytes / 2),
    })
}

fn edge_windows(scenario: &Scenario) -> BTreeMap<Name, WindowRule> {
    let windows = scenario.edge_windows.iter().enumerate();
    let rules = windows.filter_map(|(number, window)| {
        Some((Name::from(gateway_name(number)), window_rule(scenario, *window)?))
    });
    rules.collect()
}

/// After how many later events a repeat is not known any more: at once, where a hub that begins anew may find nothing of the first.
fn dedup_events(scenario: &Scenario) -> u64 {
    if keeps_little(scenario) { 0 } else { Rules::default().dedup_events }
}

fn build(
    scenario: &Scenario,
    recorder: &Recorder,
    met: &Met,
) -> anyhow::Result<(turmoil::Sim<'static>, Reach)> {
    let mut world = turmoil::Builder::new()
        .simulation_duration(scenario.length + Duration::from_secs(1))
        .tick_duration(TICK)
        .min_message_latency(LATENCY_MIN)
        .max_message_latency(LATENCY_MAX)
        .tcp_capacity(scenario.socket_segments)
        .rng_seed(scenario.seed)
        .build();
    let mut reach = Reach::default();
    add_hubs(&mut world, scenario, recorder, &mut reach);
    for number in 0..scenario.gateways {
        let name = gateway_name(number);
        let config = gateway_config(number, scenario)?;
        let surroundings = skewed(scenario.seed, &name, scenario.skew(&name));
        let (log, leave) =
            (recorder.process(name.as_str()), reach.leaves.entry(name.clone()).or_default().clone());
        let segment_bytes = if scenario.steady.is_some() { SEGMENT_BYTES } else { usize::MAX };
        world.host(name, move || {
            let (config, surroundings, log, leave) =
                (config.clone(), surroundings.clone(), log.clone(), leave.clone());
            async move { Ok(processes::gateway(config, surroundings, log, segment_bytes, leave).await?) }
        });
    }
    add_readers(&mut world, scenario, recorder);
    let numbers = add_publishers(&mut world, scenario, recorder);
    records::add(&mut world, scenario, recorder, &numbers, met);
    Ok((world, reach))
}

fn add_hubs(world: &mut turmoil::Sim<'static>, scenario: &Scenario, recorder: &Recorder, reach: &mut Reach) {
    reach.disk = scenario.disk.then(|| HubDisk::new(scenario.seed, recorder.process("hub")));
    reach.brokers = scenario.brokers.map(|plan| Brokers::new(scenario.seed, plan, recorder.process("store")));
    let shared = (scenario.hubs == Hubs::Shared && scenario.brokers.is_none())
        .then(|| processes::shared_log(scenario.seed, recorder.process("store"), scenario.calm_from));
    for (number, &name) in scenario.hub_names().iter().enumerate() {
        let lag_max = if number == 0 { Duration::ZERO } else { LAG_MAX };
        let log = match (&shared, &reach.disk, &reach.brokers) {
            (Some(log), ..) => processes::Log::Shared(log.clone(), lag_max),
            (_, Some(disk), _) => processes::Log::Disk(disk.clone()),
            (.., Some(brokers)) => processes::Log::Brokers(brokers.clone(), name),
            (None, None, None) => processes::Log::Own,
        };
        let surroundings = skewed(scenario.seed, name, scenario.skew(name));
        let settings = (scenario.window, scenario.return_rate);
        let (told, has_side_door) = (recorder.process(name), scenario.alone);
        let leave = reach.leaves.entry(name.to_owned()).or_default().clone();
        let rng = Rng::new(scenario.seed, &format!("unknown {name}"));
        let unknown = Unknown::new(scenario.handlers().unknown_permille, scenario.calm_from, rng);
        world.host(name, move || {
            let (surroundings, told, log, leave, unknown) =
                (surroundings.clone(), told.clone(), log.clone(), leave.clone(), unknown.clone());
            async move {
                Ok(processes::hub(settings, surroundings, told, log, has_side_door, leave, unknown).await?)
            }
        });
    }
}

/// How long a user that drags takes over a frame.
const DRAGS: Duration = Duration::from_millis(300);

/// After how long a user is cut, if it is.
fn cut_after(scenario: &Scenario) -> (Duration, Duration) {
    let most = match scenario.crowd {
        _ if scenario.alone => 4,
        crowd if crowd.hops => 2,
        _ => 8,
    };
    (Duration::from_millis(300), Duration::from_secs(most))
}

/// How often, in percent of its connections, a user is cut.
fn cut_percent(scenario: &Scenario, number: usize) -> u64 {
    match scenario.steady {
        _ if scenario.alone => 85,
        // Whoever pauses mostly comes to the end of that.
        _ if scenario.crowd.pauses || scenario.crowd.drags => 25,
        _ if scenario.crowd.hops => 85,
        // Whoever is slow is mostly left alone: it takes a while until somebody takes that amiss.
        Some(_) if number == 0 => 20,
        _ => 60,
    }
}

fn add_readers(world: &mut turmoil::Sim<'static>, scenario: &Scenario, recorder: &Recorder) {
    let (seed, length) = (scenario.seed, scenario.length);
    let gateways: Vec<_> = (0..scenario.gateways).map(|number| (gateway_name(number), net::PORT)).collect();
    let (lost, crowd) = (users::Lost::default(), scenario.crowd);
    for (number, transport) in scenario.users.iter().enumerate() {
        let name = user_name(number);
        // Whoever is slow but steady takes bytes all the time, so it may not stop for seconds.
        let is_steady = scenario.steady.is_some() && number == 0;
        let mut rng = Rng::new(seed, &name);
        let plan = users::Plan {
            reader: name.clone(),
            user: number.to_string(),
            topics: if rng.percent(60) { vec!["news".into()] } else { Vec::new() },
            later_topic: rng.percent(40).then(|| "sport".to_owned()),
            transport: *transport,
            gateways: gateways.clone(),
            // Cursors of a log are carried to the gateway that does not follow it.
            roams: scenario.alone && number % 2 == 1 || crowd.hops,
            silence: USER_SILENCE,
            cuts_until: scenario.calm_from,
            cut_percent: cut_percent(scenario, number),
            cut_after: cut_after(scenario),
            pause_percent: if scenario.slow_users { 5 } else { 0 },
            away_percent: if scenario.hubs == Hubs::Apart || scenario.regrants { 30 } else { 0 },
            away: (Duration::from_secs(3), Duration::from_secs(if scenario.alone { 16 } else { 12 })),
            steady: scenario
                .steady
                .filter(|_| is_steady)
                .map(|bytes_per_second| steady::Pace { bytes_per_second, until: scenario.calm_from }),
            habits: users::Habits {
                session: if rng.percent(50) { format!("s{number}") } else { String::new() },
                receive_bytes_max: if rng.percent(30) { 4_096 } else { 0 },
                token_life: scenario.token_life,
                grants: scenario.grants(),
                stubborn: scenario.stubborn(&name).map(|how| (how, token::Stubbornness::default())),
                fickle_percent: if rng.percent(40) { 2 } else { 0 },
                strays_percent: if rng.percent(50) { 20 } else { 0 },
                lost: lost.clone(),
                eager: crowd.hops || crowd.eager,
                long_pauses: crowd.pauses && !is_steady,
                drags: if crowd.drags && number % 2 == 0 { DRAGS } else { Duration::ZERO },
                page: scenario.page(&name),
            },
        };
        let log = recorder.process(name.as_str());
        world
            .client(name, async move { Ok(users::run(plan, net::connect, log, now_us, rng, length).await?) });
    }
    add_plain(world, scenario, recorder);
    add_app(world, scenario, recorder);
    if scenario.quiet {
        time::add_quiet(world, scenario, recorder);
    }
    if scenario.duel {
        add_duel(world, scenario, recorder);
    }
    for (number, (at, fault)) in scenario.faults.iter().enumerate() {
        if fault.kind == Kind::Rival {
            add_rival(world, scenario, recorder, number, *at, fault.until);
        }
    }
}

/// A gateway that is no more than a stream.
fn add_plain(world: &mut turmoil::Sim<'static>, scenario: &Scenario, recorder: &Recorder) {
    let mut rng = Rng::new(scenario.seed, "plain");
    let plan = plain::Plan {
        gateway_id: "plain".into(),
        recipients: if rng.percent(50) { Vec::new() } else { vec!["topic:*".into(), "user:0".into()] },
        start: if rng.percent(50) { String::new() } else { "oldest".into() },
        cuts_until: scenario.calm_from,
        strays_percent: 8,
        pause_percent: if scenario.slow_users { 2 } else { 0 },
        hubs: scenario.hub_names(),
        ahead: plain::WINDOW_BYTES,
        large_bytes: large_bytes(scenario),
        pause_max: PAUSE_MAX,
        standing: rng.percent(60),
        receive_bytes_max: if rng.percent(40) { 2_048 } else { 0 },
        instance: String::new(),
        late: false,
        until: scenario.length,
    };
    let log = recorder.process("plain");
    world.client("plain", async move { Ok(plain::run(plan, log, rng).await?) });
}

/// The application around `PushClient`, in the form that the seed draws.
fn add_app(world: &mut turmoil::Sim<'static>, scenario: &Scenario, recorder: &Recorder) {
    let (log, disk, lives) = (recorder.process("app"), app::Disk::default(), Counter::default());
    let plan = app::Plan {
        name: "app".into(),
        hubs: scenario.hub_names(),
        leave_log_after: scenario.leave_log_after,
        calm_from: scenario.calm_from,
        handlers: scenario.handlers(),
    };
    let seed = scenario.seed;
    world.host("app", move || {
        let rng = Rng::new(seed, &format!("app {}", lives.next()));
        let (plan, disk, log) = (plan.clone(), disk.clone(), log.clone());
        async move { Ok(app::run(plan, disk, log, rng).await?) }
    });
}

/// Whether brokers keep the stream for so short a time that hubs meet holes, and begin late.
fn keeps_little(scenario: &Scenario) -> bool {
    scenario.brokers.as_ref().is_some_and(|plan| plan.age.is_some() || plan.messages.is_some())
}

/// The settings of a simulated gateway: those of the binary, with a shorter progress interval so that a minute holds several.
fn gateway_config(number: usize, scenario: &Scenario) -> anyhow::Result<galaxy_push_gateway::Config> {
    let port = if scenario.alone && number == 0 { net::SIDE_PORT } else { net::PORT };
    let hubs = net::urls_at(scenario.hub_names(), port);
    let mut config = galaxy_push_gateway::Config::new(hubs, gateway_name(number));
    config.window = scenario.edge_windows[number];
    config.leave_log_after = scenario.leave_log_after;
    config.mailbox_slots = scenario.mailbox_slots;
    config.access = match scenario.token_life {
        Some(_) => users::token::access()?,
        None => galaxy_push_gateway::Access::development(),
    };
    config.progress_interval = time::PROGRESS;
    config.dead_after = Duration::from_secs(12);
    Ok(config)
}
