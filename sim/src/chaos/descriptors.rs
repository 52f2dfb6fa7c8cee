//! No file descriptors left: streams that are open live on, nobody runs in circles, and when there are descriptors again
//! connections are accepted again.

use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::faults::complaint;
use super::stage::Stage;
use crate::measure;

/// How many descriptors are left when the flood comes.
const LEFT: usize = 8;

/// How many connections come.
const FLOOD: usize = 200;

/// How long there is nothing left.
const DURING: Duration = Duration::from_secs(3);

/// More than this share of a core, beyond what it used before, is running in circles.
const SHARE_MAX: f64 = 0.5;

/// Takes the descriptors of the hub, or of a gateway.
pub(super) async fn exhaust(stage: &mut Stage, gateway: Option<usize>) -> anyhow::Result<Vec<String>> {
    let (process, port, url) = match gateway {
        None => (stage.hub.id(), stage.hub_port()?, stage.hub.urls.hub.clone()),
        Some(number) => {
            let gateway = &stage.gateways[number];
            (gateway.id(), stage.edge_port(number), gateway.urls.edge.clone())
        }
    };
    let readers = stage.readers.clone();
    let opened = stage.watch.opened(&readers);
    let usual = share(process, Duration::from_secs(1)).await?;
    let before = limit(process)?;
    set_limit(process, &(measure::descriptors(process)? + LEFT).to_string())?;
    let mut flood = JoinSet::new();
    for _ in 0..FLOOD {
        flood.spawn(TcpStream::connect(("127.0.0.1", port)));
    }
    sleep(Duration::from_secs(1)).await; // the last descriptors go
    let under_flood = share(process, DURING).await?;
    let lived = stage.all_live(Duration::from_secs(5)).await;
    let streams = stage.watch.opened(&readers) - opened;
    set_limit(process, &before)?;
    drop(flood.join_all().await);
    let accepted = measure::get(&url, "/livez", Duration::from_secs(5)).await;
    let circles = under_flood - usual > SHARE_MAX;
    Ok([
        complaint(lived.is_err(), "without descriptors, events no longer reached the open streams"),
        complaint(streams > 0, &format!("without descriptors, {streams} open streams ended")),
        complaint(circles, &format!("without descriptors, {:.0} % of a core", under_flood * 100.0)),
        complaint(accepted.is_err(), "with descriptors again, no connection is accepted"),
    ]
    .concat())
}

/// The share of a core that a process uses.
async fn share(process: u32, over: Duration) -> anyhow::Result<f64> {
    let (before, started) = (measure::processor_time(process)?, Instant::now());
    sleep(over).await;
    Ok((measure::processor_time(process)? - before).as_secs_f64() / started.elapsed().as_secs_f64())
}

fn limit(process: u32) -> anyhow::Result<String> {
    let arguments = ["--nofile", "--raw", "--noheadings", "--output", "SOFT", "--pid"];
    let output = Command::new("prlimit").args(arguments).arg(process.to_string()).output()?;
    ensure!(output.status.success(), "prlimit cannot read the limits of process {process}");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn set_limit(process: u32, soft: &str) -> anyhow::Result<()> {
    let limit = format!("--nofile={soft}:");
    let status = Command::new("prlimit").arg(limit).arg("--pid").arg(process.to_string()).status()?;
    ensure!(status.success(), "prlimit cannot set the limits of process {process}");
    Ok(())
}
