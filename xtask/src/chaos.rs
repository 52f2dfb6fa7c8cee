//! `cargo xtask chaos`, `storm` and `floods`: the harnesses that hurt real processes, each in a network namespace of its own.
//!
//! In there loopback is nobody else's, and whatever was done to it is gone with the last process; so are the processes,
//! however the run ends. Called from `commands` and `test`. A whole run writes its section of the table it leaves.

use std::{fs, num::NonZero, path::PathBuf, process::Command, thread};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{interop, project::Project, shell, skips::Skips, tools::Tools, ui};

/// Where the results of whole runs are kept.
const TABLE: &str = "docs/chaos.md";

/// A run of fewer cycles is no whole run, and leaves the table as it is.
const WHOLE_CYCLES: usize = 100;

/// A storm of fewer clients is none, either.
const WHOLE_CLIENTS: usize = 1_000;

/// The faults that need a network of their own.
const OF_THE_NETWORK: [&str; 7] =
    ["cut-hub", "cut-hub-long", "cut-edge", "one-way-to-hub", "one-way-from-hub", "loss", "narrow"];

/// The same, of brokers and the hubs before them.
const OF_THE_BROKERS_NETWORK: [&str; 2] = ["cut-broker", "cut-door"];

/// How the harness is put into a namespace of its own.
const ALONE: [&str; 5] = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc"];

const NO_NAMESPACE: &str = "no network namespace can be made";

/// `cargo xtask chaos`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Chaos {
    /// How many faults strike.
    #[arg(long, default_value_t = WHOLE_CYCLES)]
    cycles: usize,
    /// Only this fault (repeatable); docs/chaos.md names them.
    #[arg(long, value_name = "FAULT")]
    only: Vec<String>,
    /// Not this fault (repeatable). `network` stands for all those that need a network namespace.
    #[arg(long, value_name = "FAULT")]
    skip: Vec<String>,
    /// Decides the order of the faults, and whom they strike.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the logs go, and the history of a run that failed: `galaxy-push-check check DIR` judges it again.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// `cargo xtask failover`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Failover {
    /// How many faults strike.
    #[arg(long, default_value_t = WHOLE_CYCLES)]
    cycles: usize,
    /// Only this fault (repeatable); docs/chaos.md names them.
    #[arg(long, value_name = "FAULT")]
    only: Vec<String>,
    /// Decides the order of the faults, and whom they strike.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// `cargo xtask storm`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Storm {
    /// How many clients.
    #[arg(long, default_value_t = WHOLE_CLIENTS)]
    clients: usize,
}

impl Default for Storm {
    fn default() -> Self {
        Self { clients: WHOLE_CLIENTS }
    }
}

/// Faults against real processes, cycle after cycle.
pub(crate) fn run(project: &Project, chaos: &Chaos) -> Result<()> {
    let harness = Harness::new(project, "chaos")?;
    let mut command = harness.command(needs_network(chaos))?;
    command.args(["run", "--cycles", &chaos.cycles.to_string(), "--seed", &chaos.seed.to_string()]);
    command.arg("--out").arg(chaos.out.clone().unwrap_or_else(|| project.output.join("chaos")));
    add_choice(&mut command, chaos);
    let result = harness.check(&mut command)?;
    let whole = chaos.cycles >= WHOLE_CYCLES && chaos.only.is_empty() && chaos.skip.is_empty();
    if whole {
        harness
            .keep(&format!("cargo xtask chaos --cycles {} --seed {}", chaos.cycles, chaos.seed), &result)?;
    }
    Ok(())
}

/// Faults against two hubs over three brokers, cycle after cycle; `None`: two of them, for the test run.
pub(crate) fn failover(project: &Project, failover: Option<&Failover>) -> Result<()> {
    let harness = Harness::new(project, "failover")?;
    let harms_network = failover.is_some_and(|failover| {
        failover.only.is_empty()
            || failover.only.iter().any(|fault| OF_THE_BROKERS_NETWORK.contains(&fault.as_str()))
    });
    let mut command = harness.command(harms_network)?;
    command.args(["run", "--brokers"]).env("NATS_SERVER", Tools::nats_server(project)?);
    command.arg("--old-gateway").arg(interop::old_gateway(project)?);
    command.arg("--out").arg(project.output.join("failover"));
    let Some(Failover { cycles, only, seed }) = failover else {
        command.arg("--short");
        return harness.check(&mut command).map(drop);
    };
    command.args(["--cycles", &cycles.to_string(), "--seed", &seed.to_string()]);
    only.iter().for_each(|fault| {
        command.args(["--only", fault]);
    });
    let result = harness.check(&mut command)?;
    if *cycles >= WHOLE_CYCLES && only.is_empty() {
        harness.keep(&format!("cargo xtask failover --cycles {cycles} --seed {seed}"), &result)?;
    }
    Ok(())
}

/// One cycle of each of the faults that take little time, for the test run.
pub(crate) fn short(project: &Project, skips: &mut Skips) -> Result<()> {
    let harness = Harness::new(project, "chaos")?;
    let can_harm = way_into(&ALONE).is_some();
    if !can_harm {
        skips.leave_out("chaos", &format!("the faults {}", OF_THE_NETWORK.join(", ")), NO_NAMESPACE)?;
    }
    let mut command = harness.command(can_harm)?;
    command.args(["run", "--short", "--out"]).arg(project.output.join("chaos"));
    if !can_harm {
        OF_THE_NETWORK.iter().for_each(|fault| {
            command.args(["--skip", fault]);
        });
    }
    harness.check(&mut command).map(drop)
}

/// Many clients come back at once; with `whole`, also to a hub that was away for long.
pub(crate) fn storm(project: &Project, storm: &Storm, whole: bool) -> Result<()> {
    let harness = Harness::new(project, "storm")?;
    let mut command = harness.command(false)?;
    command.args(["storm", "--clients", &storm.clients.to_string()]);
    command.arg("--out").arg(project.output.join("storm"));
    if whole {
        command.arg("--long");
    }
    let result = harness.check(&mut command)?;
    if whole && storm.clients >= WHOLE_CLIENTS {
        harness.keep(&format!("cargo xtask storm --clients {}", storm.clients), &result)?;
    }
    Ok(())
}

/// Frames and requests that no honest peer sends, in masses.
pub(crate) fn floods(project: &Project, keep: bool) -> Result<()> {
    let harness = Harness::new(project, "floods")?;
    let mut command = harness.command(false)?;
    command.arg("floods").arg("--out").arg(project.output.join("floods"));
    let result = harness.check(&mut command)?;
    if keep {
        harness.keep("cargo xtask floods", &result)?;
    }
    Ok(())
}

/// The arguments by which `unshare` may make such namespaces here; none where it may not.
pub(crate) fn way_into(namespaces: &[&str]) -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&[], &["--user", "--map-root-user"]];
    ways.into_iter()
        .find(|way| shell::capture(Command::new("unshare").args(*way).args(namespaces).arg("true")).is_ok())
}

fn needs_network(chaos: &Chaos) -> bool {
    let is_skipped = |name: &&str| chaos.skip.iter().any(|skip| skip == name || skip == "network");
    let is_chosen = |name: &&str| chaos.only.is_empty() || chaos.only.iter().any(|only| only == name);
    OF_THE_NETWORK.iter().any(|name| is_chosen(name) && !is_skipped(name))
}

fn add_choice(command: &mut Command, chaos: &Chaos) {
    for fault in &chaos.only {
        command.args(["--only", fault]);
    }
    for fault in &chaos.skip {
        let named: &[&str] = if fault == "network" { &OF_THE_NETWORK } else { &[fault] };
        named.iter().for_each(|fault| {
            command.args(["--skip", fault]);
        });
    }
}

/// A harness's binary, and where one of its commands leaves what it found.
pub(crate) struct Harness<'a> {
    project: &'a Project,
    pub(crate) binary: PathBuf,
    /// The page whose table it writes.
    page: &'static str,
    /// The section of the page, and the name of the file.
    section: &'static str,
}

impl<'a> Harness<'a> {
    fn new(project: &'a Project, section: &'static str) -> Result<Self> {
        Self::of(project, "galaxy-push-chaos", TABLE, section)
    }

    /// One of another binary, that writes into another page.
    pub(crate) fn of(
        project: &'a Project,
        binary: &str,
        page: &'static str,
        section: &'static str,
    ) -> Result<Self> {
        Ok(Self { project, binary: project.binary(binary)?, page, section })
    }

    /// The harness, alone with its processes and, if it harms the network, with a loopback of its own.
    fn command(&self, harms_network: bool) -> Result<Command> {
        if !harms_network {
            let mut command = Command::new(&self.binary);
            command.current_dir(&self.project.root);
            return Ok(command);
        }
        Tools::network()?;
        let Some(way) = way_into(&ALONE) else {
            bail!(
                "{NO_NAMESPACE}: run as root, or leave the faults of the network out with \
                 `cargo xtask chaos --skip network`"
            );
        };
        let mut command = Command::new("unshare");
        command.current_dir(&self.project.root).args(way).args(ALONE).arg(&self.binary);
        Ok(command)
    }

    /// Runs it and returns the table it leaves.
    pub(crate) fn check(&self, command: &mut Command) -> Result<String> {
        let table = self.project.output.join(format!("{}.md", self.section));
        fs::create_dir_all(&self.project.output)?;
        shell::check(command.arg("--table").arg(&table))?;
        fs::read_to_string(&table).with_context(|| format!("cannot read {}", table.display()))
    }

    /// Puts a result into its section of the table that is kept.
    pub(crate) fn keep(&self, typed: &str, result: &str) -> Result<()> {
        keep(self.project, self.page, self.section, typed, result)
    }
}

/// Puts what a command found into its section of a page.
pub(crate) fn keep(project: &Project, page: &str, section: &str, typed: &str, result: &str) -> Result<()> {
    let path = project.root.join(page);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let commit = shell::capture(Command::new("git").current_dir(&project.root).args([
        "rev-parse",
        "--short=10",
        "HEAD",
    ]))?;
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let told = format!(
        "`{typed}` at commit `{}`, {cores} cores, the build of the tests (optimised little).\n\n{}\n",
        commit.trim(),
        result.trim()
    );
    let text =
        with_section(&text, section, &told).with_context(|| format!("{page} has no section `{section}`"))?;
    fs::write(&path, text)?;
    ui::line(&format!("\nwritten to {page}"));
    Ok(())
}

/// The text with another body in one section, which stands between two comments that name it.
fn with_section(text: &str, section: &str, body: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- begin: {section} -->\n"), format!("<!-- end: {section} -->\n"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{body}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_section_changes() {
        let text = "a\n<!-- begin: x -->\nold\n<!-- end: x -->\nb\n";
        assert_eq!(
            with_section(text, "x", "new\n").as_deref(),
            Some("a\n<!-- begin: x -->\nnew\n<!-- end: x -->\nb\n")
        );
        assert_eq!(with_section(text, "y", "new\n"), None);
    }

    #[test]
    fn network_stands_for_all_faults_that_need_one() {
        let chaos = |only: &[&str], skip: &[&str]| Chaos {
            cycles: 1,
            only: only.iter().map(ToString::to_string).collect(),
            skip: skip.iter().map(ToString::to_string).collect(),
            seed: 1,
            out: None,
        };
        assert!(needs_network(&chaos(&[], &[])));
        assert!(!needs_network(&chaos(&["duel"], &[])));
        assert!(!needs_network(&chaos(&[], &["network"])));
        assert!(needs_network(&chaos(&["loss"], &["narrow"])));
    }
}
