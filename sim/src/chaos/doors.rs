//! Faults of a log that brokers keep, and that two hubs are doors to: with one of them away, everything goes on.
//!
//! Called by the faults. Whoever is struck stays away until everybody has an event that was published without it.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Instant, sleep};

use super::faults::{Kind, LONG_CUT};
use super::network::Harm;
use super::old::OLD;
use super::stage::{LEAVES_WITHIN, Stage};
use crate::measure;
use crate::rng::Rng;

/// With one process fewer, what is published reaches everybody within this.
const GOES_ON_WITHIN: Duration = Duration::from_secs(10);

/// Longer than hubs and brokers take to give up a broker that is silent.
const PAUSED_FOR: Duration = Duration::from_secs(12);

/// A hub says after 4 s that it is stale; whoever follows it leaves it 10 to 15 s later, and has to come in elsewhere.
const LEFT_WITHIN: Duration = Duration::from_secs(25);

/// After a process was told to leave, and started again.
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// Does it, and heals it; returns what should not have happened meanwhile.
///
/// # Errors
///
/// When it cannot be done or cannot be healed.
pub(super) async fn strike(kind: Kind, stage: &mut Stage, rng: &mut Rng) -> anyhow::Result<Vec<String>> {
    let broker = rng.below(3) as usize;
    let without = match kind {
        Kind::KillBroker => {
            stage.brokers()?.servers[broker].kill();
            let without = stage.all_live(GOES_ON_WITHIN).await;
            stage.brokers()?.servers[broker].restart()?;
            without
        }
        Kind::PauseBroker => {
            stage.brokers()?.servers[broker].pause()?;
            let struck = Instant::now();
            let without = stage.all_live(GOES_ON_WITHIN).await;
            sleep(PAUSED_FOR.saturating_sub(struck.elapsed())).await;
            stage.brokers()?.servers[broker].resume()?;
            without
        }
        Kind::CutBroker => {
            let harmed = Harm::Cut.strike(&stage.brokers()?.ports_of(broker))?;
            let struck = Instant::now();
            let without = stage.all_live(GOES_ON_WITHIN).await;
            sleep(rng.between(LONG_CUT.0, LONG_CUT.1).saturating_sub(struck.elapsed())).await;
            harmed.heal()?;
            without
        }
        Kind::CutDoor => {
            let harmed = Harm::Cut.strike(&stage.way_ports())?;
            // The old gateway does not know that a hub can be stale.
            let readers: Vec<_> = stage.readers.iter().filter(|reader| &***reader != OLD).cloned().collect();
            let without = stage.reached(&readers, LEFT_WITHIN).await.map(|()| LEFT_WITHIN);
            harmed.heal()?;
            without
        }
        Kind::Roll => return roll(stage).await,
        _ => {
            let door = followed(stage).await?;
            stage.door(door)?.kill()?;
            let without = stage.all_live(GOES_ON_WITHIN).await;
            stage.restart_door(door)?;
            without
        }
    };
    Ok(without.err().map(|error| format!("it did not go on without it: {error:#}")).into_iter().collect())
}

/// The hub that most gateways follow: whoever followed the one that was struck last follows the other now.
async fn followed(stage: &mut Stage) -> anyhow::Result<usize> {
    let mut streams = [0.0; 2];
    for (door, streams) in streams.iter_mut().enumerate() {
        *streams = measure::metric(&stage.door(door)?.urls.admin, "push_streams").await?;
    }
    Ok(usize::from(streams[1] > streams[0]))
}

/// One after the other, as by an operator who waits after each until all is well.
async fn roll(stage: &mut Stage) -> anyhow::Result<Vec<String>> {
    for broker in 0..3 {
        stage.brokers()?.servers[broker].stop().context("a broker")?;
        stage.all_live(BACK_WITHIN).await?;
        stage.brokers()?.servers[broker].restart()?;
        stage.all_live(BACK_WITHIN).await?;
    }
    let mut complaints = Vec::new();
    for door in 0..2 {
        stage.door(door)?.signal("TERM")?;
        if !stage.door(door)?.ended(LEAVES_WITHIN).await? {
            complaints.push("a hub drained, but did not end with success".to_owned());
        }
        stage.restart_door(door)?;
        stage.all_live(BACK_WITHIN).await?;
    }
    for gateway in 0..2 {
        stage.gateways[gateway].signal("TERM")?;
        if !stage.gateways[gateway].ended(LEAVES_WITHIN).await? {
            complaints.push("a gateway drained, but did not end with success".to_owned());
        }
        stage.restart_gateway(gateway)?;
        stage.all_live(BACK_WITHIN).await?;
    }
    Ok(complaints)
}
