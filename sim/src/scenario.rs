//! What a seed decides: who is there, how large the windows are, and which faults strike when.

mod clocks;
mod crowd;
mod handlers;
pub mod records;
mod stores;
mod time;
mod windows;

use std::time::Duration;

use galaxy_push_core::window::Bounds;

use crate::brokers;
use crate::rng::Rng;
use crate::users::Transport;
use crate::users::token::Stubborn;
pub use clocks::SKEW_MAX;
pub use crowd::Crowd;

pub use handlers::{Handlers, Store};

/// Faults strike from here on, when everything has started.
const FAULTS_FROM: Duration = Duration::from_secs(3);

/// A scenario, drawn from its seed alone.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The seed.
    pub seed: u64,
    /// How long the world runs.
    pub length: Duration,
    /// When the last fault is over. Publishing goes on for a while, then everything must reach the head.
    pub calm_from: Duration,
    /// The window of each hub.
    pub window: Bounds,
    /// The window of each gateway.
    pub edge_windows: Vec<Bounds>,
    /// The longest pause between two batches of a publisher.
    pub pause: Duration,
    /// How many gateways there are.
    pub gateways: usize,
    /// The users, by how they are connected.
    pub users: Vec<Transport>,
    /// Whether users and plain gateways stop reading now and then.
    pub slow_users: bool,
    /// Whether users present tokens, which live this long at least.
    pub token_life: Option<Duration>,
    /// Whether two instances fight over one gateway id.
    pub duel: bool,
    /// How much a socket takes before its writer has to wait.
    pub socket_segments: usize,
    /// How many events a gateway names to a connection before that one has to scan the window.
    pub mailbox_slots: usize,
    /// The hubs.
    pub hubs: Hubs,
    /// Whether the hub keeps its log on a disk.
    pub disk: bool,
    /// The brokers that keep the log, where hubs have it in a stream.
    pub brokers: Option<brokers::Plan>,
    /// Whether wall clocks are wrong, each in its own way.
    pub skewed: bool,
    /// How long a client with several hubs stays with its log while no door to it answers.
    pub leave_log_after: Duration,
    /// Whether the first gateway has doors of its own to the hubs, and is cut off alone.
    pub alone: bool,
    /// Whether hubs with a log each come and go quickly, so that a slow reader is led past a whole stay in another log.
    pub hasty: bool,
    /// How many bytes a second the first user takes until the calm, if it is slow but steady.
    pub steady: Option<u32>,
    /// Whether users belong to topics by several memberships, said often, and stay away now and then.
    pub regrants: bool,
    /// What publishers make of records, ids and surfaces.
    pub records: records::Records,
    /// Whether clocks are set often.
    pub steps_often: bool,
    /// What users do besides.
    pub crowd: Crowd,
    /// Whether a gateway reads that nothing is for, and one that takes little and pauses often.
    pub quiet: bool,
    /// How many gateways a second a hub that leaves sends away.
    pub return_rate: u32,
    /// The faults, by when they strike.
    pub faults: Vec<(Duration, Fault)>,
}

/// How many hubs there are, and what they have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hubs {
    /// One.
    One,
    /// Two with a log each, as two memory hubs behind `--hub A,B` are.
    Apart,
    /// Two doors to one log. The second lags.
    Shared,
}

/// A fault and when it is over.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// When it is over.
    pub until: Duration,
}

/// The kinds of fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A process is killed, and started again when the fault is over.
    Kill(String),
    /// A server is told to leave in order. It comes back by itself.
    Leave(String),
    /// Two hosts drop what they send each other: connections are half open until somebody notices.
    Partition(String, String),
    /// The first host's messages to the second are dropped; the other way still works.
    OneWay(String, String),
    /// Messages between two hosts are held back, and arrive when the fault is over.
    Hold(String, String),
    /// Each message between two hosts takes this long.
    SlowLink(String, String, Duration),
    /// A hub cannot be reached by anybody, lives on with its log, and can be reached again when the fault is over.
    Unplug(String),
    /// The first gateway alone cannot reach a hub, until the fault is over.
    CutOff(String),
    /// Another gateway with the id of a plain one subscribes.
    Rival,
    /// The machine of a hub stops, and what its disk had not synced may be lost.
    PowerCut(String),
    /// The disk of a hub has no room.
    DiskFull(String),
    /// A sync of the hub's disk fails, and the hub ends.
    SyncFails(String),
    /// A hub is killed, and a byte of its log changes before it is started again.
    Damage(String),
    /// The broker that leads the stream steps down, and nobody leads for a while.
    StepDown,
    /// The broker that leads is cut off from the others, and some of the hubs with it.
    CutLeader,
    /// Brokers' acknowledgements are lost now and then.
    LoseAcks,
    /// A hub loses its connection to the brokers.
    Disconnect(String),
    /// A hub is handed nothing of the stream, or of its fence.
    StopConsumer(String),
}

impl Kind {
    /// What it is called in a history.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Kill(_) => "kill",
            Self::Leave(_) => "leave",
            Self::Partition(..) => "partition",
            Self::OneWay(..) => "one-way",
            Self::Hold(..) => "hold",
            Self::SlowLink(..) => "slow-link",
            Self::Unplug(_) => "unplug",
            Self::CutOff(_) => "cut-off",
            Self::Rival => "rival",
            Self::PowerCut(_) => "power-cut",
            Self::DiskFull(_) => "disk-full",
            Self::SyncFails(_) => "sync-fails",
            Self::Damage(_) => "damage",
            Self::StepDown => "step-down",
            Self::CutLeader => "cut-leader",
            Self::LoseAcks => "lose-acks",
            Self::Disconnect(_) => "disconnect",
            Self::StopConsumer(_) => "stop-consumer",
        }
    }
}

impl Scenario {
    /// Draws the scenario of a seed.
    #[must_use]
    pub fn draw(seed: u64, length: Duration) -> Self {
        let mut rng = Rng::new(seed, "scenario");
        // What came later is drawn apart, so that the seeds from before stay what they were.
        let mut further = Rng::new(seed, "further");
        let hubs = match further.below(100) {
            0..18 => Hubs::Apart,
            18..36 => Hubs::Shared,
            // Logs that return are rare enough among these.
            _ if Rng::new(seed, "apart").percent(12) => Hubs::Apart,
            _ => Hubs::One,
        };
        let skewed = further.percent(25);
        let steady = further.percent(15).then(|| *further.pick(&[2_500, 5_000, 10_000]));
        // A gateway may be half a minute without any door to its log before it leaves that for another.
        let length = if hubs == Hubs::Apart { length + Duration::from_secs(30) } else { length };
        let gateways = if rng.percent(30) { 1 } else { 2 };
        let users: Vec<_> = (0..2 + rng.below(4))
            .map(|_| *rng.pick(&[Transport::Sse, Transport::WsJson, Transport::WsProto]))
            .collect();
        let window = Bounds {
            age: *rng.pick(&[Duration::from_secs(4), Duration::from_secs(60), Duration::from_secs(600)]),
            events: *rng.pick(&[16, 64, 512, 1 << 20]),
            bytes: *rng.pick(&[256 << 10, 64 << 20]),
        };
        // After the last fault: up to 27 s for a user to notice silence, its reconnect, and what a gateway needs.
        let settling = Duration::from_secs(if hubs == Hubs::Apart { 65 } else { 35 });
        let calm_from = length.saturating_sub(settling).max(FAULTS_FROM);
        let mut scenario = Self {
            seed,
            length,
            calm_from,
            window,
            edge_windows: Vec::new(),
            pause: *rng.pick(&[
                Duration::from_millis(40),
                Duration::from_millis(200),
                Duration::from_millis(800),
            ]),
            gateways,
            slow_users: rng.percent(30),
            socket_segments: *rng.pick(&[32, 1 << 14]),
            mailbox_slots: *rng.pick(&[2, 256]),
            token_life: rng.percent(40).then(|| rng.between(Duration::from_secs(3), Duration::from_secs(20))),
            duel: rng.percent(12),
            hubs,
            disk: false,
            brokers: None,
            skewed,
            leave_log_after: further.between(Duration::from_secs(2), Duration::from_secs(4)),
            alone: hubs == Hubs::Apart && gateways == 2 && further.percent(50),
            hasty: false,
            steady,
            regrants: further.percent(25),
            records: records::Records::draw(seed),
            steps_often: false,
            crowd: Crowd::default(),
            quiet: false,
            return_rate: time::RETURN_RATE,
            faults: Vec::new(),
            users,
        };
        if scenario.alone && further.percent(75) {
            // A log that returns is mostly held still: what a small window has lost says nothing of returns.
            scenario.window = Bounds { age: Duration::from_secs(600), events: 1 << 20, bytes: 64 << 20 };
        }
        scenario.draw_haste();
        scenario.faults = scenario.draw_faults(&mut rng);
        scenario.draw_disk();
        scenario.draw_brokers();
        scenario.draw_clocks();
        scenario.draw_windows();
        scenario.draw_crowd();
        scenario.draw_crashes_of_the_app();
        scenario.draw_time();
        scenario
    }

    /// How quickly logs change, and what cannot be together with what was drawn.
    fn draw_haste(&mut self) {
        let mut later = Rng::new(self.seed, "later");
        let apart = self.hubs == Hubs::Apart && !self.alone;
        self.hasty = apart && later.percent(40);
        if self.hasty {
            self.leave_log_after = later.between(Duration::from_millis(300), Duration::from_millis(800));
        }
        if apart && later.percent(40) {
            self.steady.get_or_insert(*later.pick(&[2_500, 5_000, 10_000]));
        }
        if self.skewed {
            self.token_life = None; // tokens are judged by the wall clock, and would never be good
        }
        if self.steady.is_some() {
            self.socket_segments = 32;
        }
    }

    fn draw_faults(&self, rng: &mut Rng) -> Vec<(Duration, Fault)> {
        let mut faults = Vec::new();
        if self.alone {
            return self.draw_swings_alone(rng);
        }
        if self.hubs == Hubs::Apart && (rng.percent(60) || self.hasty) {
            return self.draw_swings(rng);
        }
        // Each seed has its own subset of kinds, so that rare combinations are met with nothing else in the way.
        let kinds: Vec<u64> = (0..7).filter(|_| rng.percent(50)).collect();
        let mut at = FAULTS_FROM;
        while !kinds.is_empty() {
            at += rng.between(Duration::from_millis(200), Duration::from_secs(7));
            if at >= self.calm_from {
                break;
            }
            let kind = self.draw_kind(*rng.pick(&kinds), rng);
            let lasts = match kind {
                Kind::Kill(_) if rng.percent(10) => {
                    rng.between(Duration::from_secs(10), Duration::from_secs(22))
                }
                Kind::Kill(_) => rng.between(Duration::from_millis(50), Duration::from_secs(3)),
                _ => rng.between(Duration::from_millis(200), Duration::from_secs(18)),
            };
            faults.push((at, Fault { kind, until: (at + lasts).min(self.calm_from) }));
        }
        faults
    }

    /// One hub after the other cannot be reached: who follows its log goes to that of the other, and comes back.
    fn draw_swings(&self, rng: &mut Rng) -> Vec<(Duration, Fault)> {
        let (mut faults, mut at) = (Vec::new(), FAULTS_FROM);
        let mut hubs = self.hub_names().iter().cycle();
        while let Some(hub) = hubs.next().filter(|_| at + Duration::from_secs(4) < self.calm_from) {
            let ms = Duration::from_millis;
            let (away, here) = match self.hasty {
                true => ((ms(1_200), ms(2_500)), (ms(300), ms(1_000))),
                false => ((ms(4_000), ms(7_000)), (ms(1_000), ms(3_000))),
            };
            let lasts = rng.between(away.0, away.1);
            let until = (at + lasts).min(self.calm_from);
            faults.push((at, Fault { kind: Kind::Unplug((*hub).to_owned()), until }));
            at = until + rng.between(here.0, here.1);
        }
        faults
    }

    /// The same for the first gateway alone: others go on in the log that it left, and its users come from them. The hub it
    /// went to may begin anew meanwhile, which makes another log.
    fn draw_swings_alone(&self, rng: &mut Rng) -> Vec<(Duration, Fault)> {
        let (mut faults, mut at) = (Vec::new(), FAULTS_FROM);
        let [hub, other] = self.hub_names() else { return faults };
        let mut hubs = [(hub, other), (other, hub)].into_iter().cycle();
        while let Some((hub, other)) = hubs.next().filter(|_| at + Duration::from_secs(4) < self.calm_from) {
            let restarts = rng.percent(40) && at + Duration::from_secs(6) < self.calm_from;
            let lasts = rng.between(Duration::from_secs(4), Duration::from_secs(7));
            let lasts = if restarts { lasts + Duration::from_secs(5) } else { lasts };
            let until = (at + lasts).min(self.calm_from);
            faults.push((at, Fault { kind: Kind::CutOff((*hub).to_owned()), until }));
            if restarts {
                let killed = at + Duration::from_secs(5);
                let back = killed + rng.between(Duration::from_millis(50), Duration::from_millis(500));
                faults.push((killed, Fault { kind: Kind::Kill((*other).to_owned()), until: back }));
            }
            at = until + rng.between(Duration::from_secs(1), Duration::from_secs(3));
        }
        faults
    }

    fn draw_kind(&self, kind: u64, rng: &mut Rng) -> Kind {
        let gateway = gateway_name(rng.below(self.gateways as u64) as usize);
        let user = user_name(rng.below(self.users.len() as u64) as usize);
        // Often a gateway: while it lags, its users come with cursors of another one.
        let peers = [&*gateway, &*gateway, &*gateway, "plain", "app", "backend-0", "backend-1"];
        let of_hub = (*rng.pick(&peers)).to_owned();
        let hubs = self.hub_names();
        let hub = if hubs.len() == 1 { hubs[0] } else { *rng.pick(hubs) }.to_owned();
        match kind {
            0 => Kind::Kill(hub),
            1 if rng.percent(30) => Kind::Kill("app".to_owned()),
            1 => Kind::Kill(gateway),
            2 if rng.percent(50) => Kind::Partition(hub, of_hub),
            2 => Kind::Partition(gateway, user),
            3 if rng.percent(50) => Kind::OneWay(hub, of_hub),
            3 => Kind::OneWay(gateway, user),
            4 if rng.percent(50) => Kind::Hold(hub, of_hub),
            4 => Kind::Hold(gateway, user),
            5 => Kind::Leave(if rng.percent(50) { hub } else { gateway }),
            _ => Kind::Rival,
        }
    }
}

impl Scenario {
    /// The host names of the hubs.
    #[must_use]
    pub const fn hub_names(&self) -> &'static [&'static str] {
        match self.hubs {
            Hubs::One => &["hub"],
            Hubs::Apart | Hubs::Shared => &["hub", "hub-b"],
        }
    }

    /// What this user does about the end of its session, if it is stubborn.
    #[must_use]
    pub fn stubborn(&self, user: &str) -> Option<Stubborn> {
        let mut rng = Rng::new(self.seed, &format!("stubbornness of {user}"));
        self.token_life?;
        match rng.below(10) {
            0..2 => Some(Stubborn::Token),
            2..4 => Some(Stubborn::Session),
            _ => None,
        }
    }
}

/// The host name of a gateway.
#[must_use]
pub fn gateway_name(number: usize) -> String {
    format!("gateway-{number}")
}

/// The host name of a user.
#[must_use]
pub fn user_name(number: usize) -> String {
    format!("user-{number}")
}
