//! The faults, each done to real processes: from the blow until it is healed.
//!
//! What must hold while a fault is on is said here, as a complaint when it does not; what must hold after it, by the
//! checker and by the run.

use std::time::Duration;

use clap::ValueEnum;
use tokio::time::{Instant, sleep};

use super::network::Harm;
use super::stage::{LEAVES_WITHIN, Stage};
use super::{descriptors, doors, duels};
use crate::measure;
use crate::rng::Rng;

/// A short stop: nobody may take it for a death.
const PAUSE: Duration = Duration::from_secs(5);

/// A long stop: everybody takes it for a death, and rightly.
const FREEZE: Duration = Duration::from_secs(60);

/// TCP gets over this by sending again.
const SHORT_CUT: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(4));

/// Longer than the 15 s after which a gateway takes its hub for dead.
pub(super) const LONG_CUT: (Duration, Duration) = (Duration::from_secs(17), Duration::from_secs(19));

/// A peer that is silent is taken for dead within this.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);

/// Memory that a narrow link may cost the hub, beside the window.
const NARROW_BYTES_MAX: u64 = 64 << 20;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
#[expect(missing_docs, reason = "`what` describes each")]
pub enum Kind {
    KillHub,
    KillGateway,
    KillClient,
    PauseHub,
    PauseGateway,
    FreezeHub,
    FreezeGateway,
    CutHub,
    CutHubLong,
    CutEdge,
    OneWayToHub,
    OneWayFromHub,
    Loss,
    Narrow,
    Duel,
    GatewayDuel,
    HubDescriptors,
    EdgeDescriptors,
    DrainHub,
    DrainGateway,
    KillBroker,
    PauseBroker,
    CutBroker,
    KillDoor,
    CutDoor,
    DoorDuel,
    Roll,
}

/// How often a kind is drawn in a whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Once in each round.
    Quick,
    /// Takes a minute: twice in a run.
    Slow,
}

impl Kind {
    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What it does.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::KillHub => "`kill -9` of the hub, started again after up to 1 s",
            Self::KillGateway => "`kill -9` of a gateway, started again after up to 1 s",
            Self::KillClient => "`kill -9` of a `PushClient` process between handler and cursor store",
            Self::PauseHub => "SIGSTOP of the hub for 5 s",
            Self::PauseGateway => "SIGSTOP of a gateway for 5 s",
            Self::FreezeHub => "SIGSTOP of the hub for 60 s",
            Self::FreezeGateway => "SIGSTOP of a gateway for 60 s",
            Self::CutHub => "all packets from and to the hub dropped for 2 to 4 s",
            Self::CutHubLong => "all packets from and to the hub dropped for 17 to 19 s",
            Self::CutEdge => "all packets from and to a gateway's users dropped for 2 to 4 s",
            Self::OneWayToHub => "packets to the hub dropped for 17 to 19 s, those from it not",
            Self::OneWayFromHub => "packets from the hub dropped for 17 to 19 s, those to it not",
            Self::Loss => "30 % of the packets from and to the hub lost for 6 s",
            Self::Narrow => "what the hub sends held back to 1 Mbit/s for 8 s, events of 16 KiB",
            Self::Duel => "two `PushClient` processes with one gateway id",
            Self::GatewayDuel => "two gateway processes with one gateway id",
            Self::HubDescriptors => "the hub has no file descriptors left, 200 connections wait",
            Self::EdgeDescriptors => "a gateway has no file descriptors left, 200 connections wait",
            Self::DrainHub => "SIGTERM of the hub, started again when it has ended",
            Self::DrainGateway => "SIGTERM of a gateway, started again when it has ended",
            Self::KillBroker => {
                "`kill -9` of one of three brokers, started again once everybody has what was published without it"
            }
            Self::PauseBroker => "SIGSTOP of one of three brokers for 12 s",
            Self::CutBroker => "all packets from and to one of three brokers dropped for 17 to 19 s",
            Self::KillDoor => {
                "`kill -9` of the hub that most gateways follow, of two, started again once everybody has what was published without it"
            }
            Self::CutDoor => {
                "all packets between one of two hubs and the brokers dropped until everybody has what was published meanwhile"
            }
            Self::DoorDuel => {
                "two `PushClient` processes with one gateway id, each with a hub of its own of two"
            }
            Self::Roll => "SIGTERM of each broker, hub and gateway in turn, started again when it has ended",
        }
    }

    pub(super) const fn pace(self) -> Pace {
        match self {
            Self::FreezeHub | Self::FreezeGateway | Self::GatewayDuel | Self::Roll => Pace::Slow,
            _ => Pace::Quick,
        }
    }

    /// Whether it is a fault of a log that brokers keep, and two hubs have.
    pub(super) const fn is_of_brokers(self) -> bool {
        matches!(
            self,
            Self::KillBroker
                | Self::PauseBroker
                | Self::CutBroker
                | Self::KillDoor
                | Self::CutDoor
                | Self::DoorDuel
                | Self::Roll
        )
    }

    /// Whether it needs a network of its own.
    pub(super) const fn harms_network(self) -> bool {
        matches!(
            self,
            Self::CutHub
                | Self::CutHubLong
                | Self::CutEdge
                | Self::OneWayToHub
                | Self::OneWayFromHub
                | Self::Loss
                | Self::Narrow
                | Self::CutBroker
                | Self::CutDoor
        )
    }
}

/// Does it, and heals it; returns what should not have happened meanwhile.
///
/// # Errors
///
/// When it cannot be done or cannot be healed.
pub(super) async fn strike(kind: Kind, stage: &mut Stage, rng: &mut Rng) -> anyhow::Result<Vec<String>> {
    let gateway = rng.below(2) as usize;
    let outage = rng.between(Duration::ZERO, Duration::from_secs(1));
    match kind {
        Kind::KillBroker
        | Kind::PauseBroker
        | Kind::CutBroker
        | Kind::KillDoor
        | Kind::CutDoor
        | Kind::Roll => return doors::strike(kind, stage, rng).await,
        Kind::KillHub => {
            stage.hub.kill()?;
            sleep(outage).await;
            stage.restart_hub()?;
        }
        Kind::KillGateway => {
            stage.gateways[gateway].kill()?;
            sleep(outage).await;
            stage.restart_gateway(gateway)?;
        }
        Kind::KillClient => {
            stage.client.kill_after_item(Duration::from_secs(2)).await?;
            sleep(outage).await;
            stage.restart_client()?;
        }
        Kind::PauseHub | Kind::FreezeHub => return stop(kind, stage, None).await,
        Kind::PauseGateway | Kind::FreezeGateway => return stop(kind, stage, Some(gateway)).await,
        Kind::CutHub => cut(&[stage.hub_port()?], Harm::Cut, rng.between(SHORT_CUT.0, SHORT_CUT.1)).await?,
        Kind::CutHubLong => return long_cut(stage, Harm::Cut, rng).await,
        Kind::CutEdge => {
            cut(&[stage.edge_port(gateway)], Harm::Cut, rng.between(SHORT_CUT.0, SHORT_CUT.1)).await?
        }
        // The client still hears the hub; it is the hub that hears nothing, and sends it away.
        Kind::OneWayToHub => {
            cut(&[stage.hub_port()?], Harm::CutTo, rng.between(LONG_CUT.0, LONG_CUT.1)).await?
        }
        Kind::OneWayFromHub => return long_cut(stage, Harm::CutFrom, rng).await,
        Kind::Loss => cut(&[stage.hub_port()?], Harm::Lose(30), Duration::from_secs(6)).await?,
        Kind::Narrow => return narrow(stage).await,
        Kind::Duel => return duels::of_clients(stage).await,
        Kind::GatewayDuel => return duels::of_gateways(stage).await,
        Kind::DoorDuel => return duels::over_doors(stage).await,
        Kind::HubDescriptors => return descriptors::exhaust(stage, None).await,
        Kind::EdgeDescriptors => return descriptors::exhaust(stage, Some(gateway)).await,
        Kind::DrainHub => {
            stage.hub.signal("TERM")?;
            let orderly = stage.hub.ended(LEAVES_WITHIN).await?;
            stage.restart_hub()?;
            return Ok(complaint(!orderly, "the hub drained, but did not end with success"));
        }
        Kind::DrainGateway => {
            stage.gateways[gateway].signal("TERM")?;
            let orderly = stage.gateways[gateway].ended(LEAVES_WITHIN).await?;
            stage.restart_gateway(gateway)?;
            return Ok(complaint(!orderly, "the gateway drained, but did not end with success"));
        }
    }
    Ok(Vec::new())
}

async fn cut(ports: &[u16], harm: Harm, during: Duration) -> anyhow::Result<()> {
    let harmed = harm.strike(ports)?;
    sleep(during).await;
    harmed.heal()?;
    Ok(())
}

/// Cuts the hub off for so long that its peers take it for dead.
async fn long_cut(stage: &mut Stage, harm: Harm, rng: &mut Rng) -> anyhow::Result<Vec<String>> {
    let harmed = harm.strike(&[stage.hub_port()?])?;
    sleep(rng.between(LONG_CUT.0, LONG_CUT.1)).await;
    let unnoticed = stage.client.is_live();
    harmed.heal()?;
    Ok(complaint(unnoticed, "the client did not take a hub for dead that it had not heard for 17 s"))
}

/// Stops a process: the hub, or a gateway.
async fn stop(kind: Kind, stage: &mut Stage, gateway: Option<usize>) -> anyhow::Result<Vec<String>> {
    let readers = stage.readers.clone();
    let opened = stage.watch.opened(&readers);
    let subscribed = measure::metric(&stage.hub.urls.admin, "push_subscribes").await?;
    signal(stage, gateway, "STOP")?;
    let is_short = matches!(kind, Kind::PauseHub | Kind::PauseGateway);
    let mut complaints = Vec::new();
    if is_short {
        sleep(PAUSE).await;
    } else {
        let stopped = Instant::now();
        complaints.extend(complaint(!noticed(stage, gateway).await?, "nobody took it for dead within 20 s"));
        sleep(FREEZE.saturating_sub(stopped.elapsed())).await;
    }
    signal(stage, gateway, "CONT")?;
    if is_short {
        stage.all_live(Duration::from_secs(10)).await?;
        let streams = stage.watch.opened(&readers) - opened;
        complaints.extend(complaint(streams > 0, &format!("{streams} readers connected again after 5 s")));
        let subscribes = measure::metric(&stage.hub.urls.admin, "push_subscribes").await? - subscribed;
        complaints.extend(complaint(
            subscribes > 0.0,
            &format!("{subscribes} gateways subscribed again after 5 s"),
        ));
    }
    Ok(complaints)
}

/// Whether the client has given the hub up in time, or the hub a gateway.
async fn noticed(stage: &Stage, gateway: Option<usize>) -> anyhow::Result<bool> {
    let due = Instant::now() + NOTICED_WITHIN;
    loop {
        let noticed = match gateway {
            None => !stage.client.is_live(),
            Some(_) => measure::metric(&stage.hub.urls.admin, "push_streams").await? < Stage::HUB_STREAMS,
        };
        if noticed || Instant::now() >= due {
            return Ok(noticed);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

fn signal(stage: &Stage, gateway: Option<usize>, name: &str) -> anyhow::Result<()> {
    match gateway {
        None => stage.hub.signal(name),
        Some(number) => stage.gateways[number].signal(name),
    }
}

/// Events larger than the link takes: readers lag, and nobody pays with memory.
async fn narrow(stage: &mut Stage) -> anyhow::Result<Vec<String>> {
    let before = measure::resident_bytes(stage.hub.id())?;
    stage.publish_at(100, 16 << 10);
    let harmed = Harm::Narrow.strike(&[stage.hub_port()?])?;
    sleep(Duration::from_secs(8)).await;
    let grown = measure::resident_bytes(stage.hub.id())?.saturating_sub(before);
    harmed.heal()?;
    stage.publish_at(25, 0);
    Ok(complaint(grown > NARROW_BYTES_MAX, &format!("the hub grew by {} MiB", grown >> 20)))
}

/// A complaint, if there is reason for it.
pub(super) fn complaint(reason: bool, text: &str) -> Vec<String> {
    if reason { vec![text.to_owned()] } else { Vec::new() }
}
