//! Two processes with one gateway id: the hub, or the hubs, find the duel and end it, and events flow steadily to whoever stays.

use std::time::Duration;

use anyhow::ensure;
use galaxy_push_testkit::history::{Name, What};
use tokio::time::{Instant, sleep};

use super::faults::complaint;
use super::stage::Stage;
use crate::measure;
use crate::real::{clock_us, host_and_port};
use crate::users::Transport;

/// The clients wait at most 0.8 s after each conflict, and the fifth return ends the duel.
const CLIENTS_WITHIN: Duration = Duration::from_secs(20);

/// Gateways wait 5 to 10 s after each conflict; returns count for 60 s.
const GATEWAYS_WITHIN: Duration = Duration::from_secs(100);

/// How many probes the one that stays must get, one after the other.
const STEADY_PROBES: usize = 8;

/// The pause between them.
const PROBE_EVERY: Duration = Duration::from_millis(250);

/// Two `PushClient` processes, which come back soon.
pub(super) async fn of_clients(stage: &mut Stage) -> anyhow::Result<Vec<String>> {
    let hub = stage.hub_url.clone();
    between(stage, [&hub, &hub]).await
}

/// The same, each with one hub of two that are doors to one log: neither hub sees both.
pub(super) async fn over_doors(stage: &mut Stage) -> anyhow::Result<Vec<String>> {
    let [first, second] = stage.door_urls()?;
    between(stage, [&first, &second]).await
}

async fn between(stage: &mut Stage, hubs: [&str; 2]) -> anyhow::Result<Vec<String>> {
    let id = format!("duel-{}", clock_us());
    let mut first = stage.more_client(hubs[0], &id, &format!("{id}-first"))?;
    let due = Instant::now() + CLIENTS_WITHIN;
    while !first.is_live() && Instant::now() < due {
        sleep(Duration::from_millis(10)).await;
    }
    let mut second = stage.more_client(hubs[1], &id, &format!("{id}-second"))?;
    let is_over = || {
        let pairs = [(&first, &second), (&second, &first)];
        pairs.iter().any(|(stays, leaves)| stays.is_live() && leaves.is_held_off())
    };
    while !is_over() && Instant::now() < due {
        sleep(Duration::from_millis(10)).await;
    }
    let mut complaints = complaint(!is_over(), "the duel of two clients was not ended");
    let reader = Name::from(id.as_str());
    if complaints.is_empty() {
        let opened = stage.watch.reader(&reader).opened;
        complaints.extend(complaint(opened < 6, &format!("the duel ended after only {opened} streams")));
        complaints.extend(steady(stage, std::slice::from_ref(&reader)).await?);
        let more = stage.watch.reader(&reader).opened - opened;
        complaints.extend(complaint(more > 0, &format!("{more} more streams after the duel had ended")));
    }
    first.kill()?;
    second.kill()?;
    Ok(complaints)
}

/// Two gateways, each with a user.
pub(super) async fn of_gateways(stage: &mut Stage) -> anyhow::Result<Vec<String>> {
    let id = format!("duel-{}", clock_us());
    let held_off = measure::metric(&stage.hub.urls.admin, "push_held_off").await?;
    let (first, second) = (stage.more_gateway(&id)?, stage.more_gateway(&id)?);
    let mut users = Vec::new();
    for (gateway, name) in [(&first, "first"), (&second, "second")] {
        let reader = format!("{id}-user-{name}");
        let edge = host_and_port(&gateway.urls.edge)?;
        let task = stage.add_user(&reader, &reader, Transport::WsJson, vec![edge]);
        users.push((Name::from(reader.as_str()), task));
    }
    let due = Instant::now() + GATEWAYS_WITHIN;
    let mut is_over = false;
    while !is_over && Instant::now() < due {
        sleep(Duration::from_millis(200)).await;
        is_over = measure::metric(&stage.hub.urls.admin, "push_held_off").await? > held_off;
    }
    let mut complaints = complaint(!is_over, "the duel of two gateways was not ended");
    if is_over {
        // One of them has the stream; its user gets everything, and the other one's waits.
        let probe = stage.probe().await?;
        let mut stays = None;
        let due = Instant::now() + Duration::from_secs(5);
        while stays.is_none() && Instant::now() < due {
            sleep(Duration::from_millis(10)).await;
            stays = users
                .iter()
                .map(|(reader, _)| reader)
                .find(|reader| stage.watch.reader(reader).probe >= probe);
        }
        match stays.cloned() {
            Some(reader) => complaints.extend(steady(stage, &[reader]).await?),
            None => complaints.push("after the duel neither gateway has events for its user".into()),
        }
    }
    drop((first, second));
    for (reader, task) in users {
        task.abort();
        stage.recorder.process(reader.clone()).record(clock_us(), What::Left(reader));
    }
    ensure!(stage.readers.len() > 1, "the others are still there");
    Ok(complaints)
}

/// Every probe reaches these readers at once.
async fn steady(stage: &mut Stage, readers: &[Name]) -> anyhow::Result<Vec<String>> {
    for number in 0..STEADY_PROBES {
        if stage.reached(readers, Duration::from_secs(2)).await.is_err() {
            return Ok(complaint(
                true,
                &format!("after the duel, probe {number} did not reach the one that stays"),
            ));
        }
        sleep(PROBE_EVERY).await;
    }
    Ok(Vec::new())
}
