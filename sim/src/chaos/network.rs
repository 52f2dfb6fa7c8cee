//! Faults of the network between processes: packets of one port dropped or held back, by the kernel.
//!
//! Called by the faults. Works only inside a network namespace of its own, where loopback is nobody else's and everything
//! set here is gone when the last process ends, however it ends.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

/// The table of all rules.
const NAME: &str = "galaxy_push_chaos";

/// What happens to the packets of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Harm {
    /// None gets through, in either direction.
    Cut,
    /// None gets through to the port.
    CutTo,
    /// None gets through from the port.
    CutFrom,
    /// So many of a hundred are lost, in either direction.
    Lose(u8),
    /// What comes from the port gets through at 1 Mbit/s, what is beyond waits.
    Narrow,
}

/// A harm that lasts until it is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Harmed(Harm);

/// Whether this process is in a network namespace that has nothing but a loopback interface. Brings that up.
///
/// # Errors
///
/// When the tools are missing.
pub(super) fn is_isolated() -> anyhow::Result<bool> {
    let interfaces = std::fs::read_to_string("/proc/net/dev").context("cannot read /proc/net/dev")?;
    let mut names = interfaces.lines().skip(2).filter_map(|line| line.split(':').next());
    let alone = names.all(|name| name.trim() == "lo");
    if !alone {
        return Ok(false);
    }
    run("ip", &["link", "set", "lo", "up"])?;
    Ok(true)
}

impl Harm {
    /// Begins to harm the packets of these ports; [`Harm::Narrow`] of the first alone.
    ///
    /// # Errors
    ///
    /// When the rules cannot be set: not root, or nftables or tc are missing.
    pub(super) fn strike(self, ports: &[u16]) -> anyhow::Result<Harmed> {
        let harmed = Harmed(self);
        let first = *ports.first().context("no port to harm")?;
        let port = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        let port = format!("{{ {port} }}");
        match self {
            Self::Cut => rules(&format!("tcp dport {port} counter drop\ntcp sport {port} counter drop"))?,
            Self::CutTo => rules(&format!("tcp dport {port} counter drop"))?,
            Self::CutFrom => rules(&format!("tcp sport {port} counter drop"))?,
            Self::Lose(percent) => rules(&format!(
                "tcp dport {port} numgen random mod 100 < {percent} counter drop\n\
                 tcp sport {port} numgen random mod 100 < {percent} counter drop"
            ))?,
            Self::Narrow => narrow(first)?,
        }
        Ok(harmed)
    }
}

impl Harmed {
    /// Ends the harm, and says how many packets it struck.
    ///
    /// # Errors
    ///
    /// When it struck none: then nothing was tested.
    pub(super) fn heal(self) -> anyhow::Result<u64> {
        let struck = match self.0 {
            Harm::Narrow => {
                let shown = run("tc", &["-s", "class", "show", "dev", "lo", "classid", "1:20"])?;
                number_after(&shown, "overlimits ")
            }
            _ => number_after(&run("nft", &["list", "table", "inet", NAME])?, "counter packets "),
        };
        ensure!(struck > 0, "{:?} struck no packet", self.0);
        Ok(struck)
    }
}

/// The sum of the numbers that follow these words.
fn number_after(text: &str, words: &str) -> u64 {
    let after = text.split(words).skip(1);
    let digits =
        after.map(|rest| rest.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or_default());
    digits.filter_map(|digits| digits.parse::<u64>().ok()).sum()
}

impl Drop for Harmed {
    fn drop(&mut self) {
        // What cannot be undone here goes with the namespace.
        let _ = match self.0 {
            Harm::Narrow => run("tc", &["qdisc", "del", "dev", "lo", "root"]).map(drop),
            _ => nft(&format!("delete table inet {NAME}")),
        };
    }
}

/// Drops on the way in, so that the sender sees a loss and no error.
fn rules(rules: &str) -> anyhow::Result<()> {
    nft(&format!(
        "table inet {NAME} {{\nchain input {{\ntype filter hook input priority 0; policy accept;\n{rules}\n}}\n}}\n"
    ))
}

fn nft(script: &str) -> anyhow::Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start nft: install nftables")?;
    child.stdin.take().context("no stdin")?.write_all(script.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("nft refused the rules: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Two classes: everything in one, what comes from the port in the other.
fn narrow(port: u16) -> anyhow::Result<()> {
    run("tc", &["qdisc", "add", "dev", "lo", "root", "handle", "1:", "htb", "default", "10"])?;
    let class = |name: &str, rate: &str| {
        run("tc", &["class", "add", "dev", "lo", "parent", "1:", "classid", name, "htb", "rate", rate])
            .map(drop)
    };
    class("1:10", "10gbit")?;
    class("1:20", "1mbit")?;
    let port = port.to_string();
    let filter = ["filter", "add", "dev", "lo", "parent", "1:", "protocol", "ip", "u32"];
    let matching = ["match", "ip", "sport", &port, "0xffff", "flowid", "1:20"];
    run("tc", &[&filter[..], &matching[..]].concat()).map(drop)
}

/// Runs a program to its end and returns what it wrote.
fn run(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {program}: install iproute2 and nftables"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
