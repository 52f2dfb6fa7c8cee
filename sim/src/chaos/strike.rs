//! Does a fault to real processes: from the blow until it is healed.
//!
//! What must hold while a fault is on is said here, as a complaint when it does not; what must hold after it, by the
//! checker and by the run.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::faults::{Kind, LONG_CUT, complaint};
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

/// A peer that is silent is taken for dead within this.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);

/// Memory that a narrow link may cost the hub, beside the window.
const NARROW_BYTES_MAX: u64 = 64 << 20;

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
