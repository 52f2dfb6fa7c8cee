//! The command line of `cargo xtask`: which commands there are and what each is for.
//!
//! Parsed by `main`, and read by `documents`, which checks the README against it. `commands` runs what was asked for.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::{bench, chaos, crashes, fuzz, interop, long, mutants, planted, threads};

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = false)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Everything continuous integration runs, in order; stops at the first failure and says what to do.
    Test {
        /// Only this step (repeatable); see --list.
        #[arg(long, value_name = "STEP")]
        only: Vec<String>,
        /// List the steps and end.
        #[arg(long)]
        list: bool,
    },
    /// What one checks before every commit: format, tidy, clippy, unit tests. Nothing but Rust is needed.
    Check,
    /// Install what the other commands need into target/tools (they call this by themselves).
    Tools,
    /// Check the habits of the code that neither rustc nor clippy knows.
    Tidy,
    /// Check that what the commands of the README name exists.
    Docs,
    /// Write real webhook payloads as CloudEvents, one JSON object a line, ready for `galaxy-push publish --file`.
    Webhooks {
        /// Where to write; `-` is standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Run the simulation: `cargo xtask sim --seed 7`, or any other arguments of the simulator.
    Sim {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run hours of simulated time and write docs/simulation.md. A run that was interrupted goes on where it stopped.
    SimLong(long::Long),
    /// Look at what the disk store finds after a crash: 100,000 states of a simulated disk, unless told otherwise.
    CrashLong(crashes::Crashes),
    /// Kill a hub with a disk store under load, let its system calls fail, fill its disk; and judge what every life of it has.
    KillLong(crashes::Kills),
    /// Fuzz what takes bytes from strangers, target by target, and write docs/fuzz.md. A run that was interrupted goes on where it stopped.
    Fuzz(fuzz::Fuzz),
    /// Measure the disk store beside a bare loop of write and sync, and the store on NATS beside the server's own client, in rounds,
    /// and print the tables of ADR 0017 and 0018. On a quiet machine.
    BenchStore(bench::StoreBench),
    /// Measure what users cost one process: idle, for each delivery, and when all come back; and print the table of docs/scaling.md. On a
    /// quiet machine.
    BenchUsers(bench::UsersBench),
    /// Send real webhooks through real processes, kill the hub on the way, and judge what every user received.
    EndToEnd,
    /// Kill, stop, cut off, squeeze and drain real processes, cycle after cycle, and judge what every reader received.
    Chaos(chaos::Chaos),
    /// Kill and stop brokers, hubs and gateways of a log on three NATS brokers, cycle after cycle, and judge what every reader received.
    Failover(chaos::Failover),
    /// Send 1,000 clients away at once, and then kill their hub: all are live again within 15 s, and nothing is lost.
    Storm(chaos::Storm),
    /// Send both listeners what no honest peer sends, in masses: they cut it off, or it costs them nothing.
    Floods,
    /// Prove that the checker is not blind: plant each bug of sim/planted and count the seeds until it is found.
    Planted {
        /// Only these: `57`, or `57-84`; the rows of the others stay as they are in docs/planted.md.
        #[arg(value_name = "NUMBERS")]
        numbers: Vec<planted::Numbers>,
        /// Only check that every bug still applies, and that what it makes of the code parses.
        #[arg(long)]
        check_apply: bool,
        /// Only bugs whose file name contains this.
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
        /// Run so many seeds of each bug in any case, and count those that show it.
        #[arg(long, value_name = "SEEDS")]
        rate: Option<u64>,
    },
    /// Look for changes of the code that no test notices, for an hour, and write docs/mutants.md. The next run goes on.
    Mutants(mutants::Mutants),
    /// Run the models of the places where threads meet under schedules that shuttle chooses, and write docs/threads.md.
    Threads(threads::Threads),
    /// Run three NATS brokers that are one cluster on this machine, to try hubs over them; Ctrl-C ends them.
    Brokers,
    /// Try the completion scripts in bash, zsh and fish.
    Completions,
    /// Have the metrics of every role judged by promtool, and by a strict parser of OpenMetrics.
    Metrics,
    /// Run peers written in other languages against the real binary: the scenes of interop/SCENES.md.
    Interop {
        #[command(subcommand)]
        peer: interop::Peer,
    },
    /// Drive the try-it page in Chromium.
    Page,
    /// Drive the try-it page and write docs/tryit.png.
    Screenshot,
    /// Regenerate the committed code of the contract.
    Codegen,
}
