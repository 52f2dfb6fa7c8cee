//! What a real process costs and says of itself: memory, processor time, descriptors, metrics.
//!
//! Used by the tests that run real processes. Reads `/proc` and the admin listener; changes nothing.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::real::host_and_port;

/// Ticks a second of the times in `/proc`, on every Linux that is in use.
const TICKS: u64 = 100;

/// The memory a process has in RAM, in bytes.
///
/// # Errors
///
/// When there is no such process.
pub fn resident_bytes(process: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib << 10)
}

/// The processor time a process has used.
///
/// # Errors
///
/// When there is no such process.
pub fn processor_time(process: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field is the program's name, in parentheses; it may hold spaces.
    let (_, fields) = stat.rsplit_once(')').context("not a stat line")?;
    let ticks: Vec<u64> =
        fields.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(Duration::from_millis(ticks.iter().sum::<u64>() * 1_000 / TICKS))
}

/// How many descriptors a process has open.
///
/// # Errors
///
/// When there is no such process.
pub fn descriptors(process: u32) -> anyhow::Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{process}/fd"))?.count())
}

/// The sum of a counter over all its labels, from an admin listener.
///
/// # Errors
///
/// When the listener does not answer.
pub async fn metric(admin: &str, name: &str) -> anyhow::Result<f64> {
    let text = get(admin, "/metrics", Duration::from_secs(5)).await?;
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let rest = rest.strip_prefix("_total").unwrap_or(rest);
        matches!(rest.as_bytes().first(), Some(b' ' | b'{'))
            .then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
    });
    Ok(values.sum())
}

/// The answer to a plain GET, head and body.
///
/// # Errors
///
/// When there is none in time, or it is not 200.
pub async fn get(url: &str, path: &str, within: Duration) -> anyhow::Result<String> {
    let (host, port) = host_and_port(url)?;
    let asking = async {
        let mut stream = TcpStream::connect((host, port)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = timeout(within, asking).await.with_context(|| format!("no answer to {path}"))??;
    if !answer.starts_with("HTTP/1.1 200") {
        bail!("{path} was answered {}", answer.lines().next().unwrap_or_default());
    }
    Ok(answer)
}
