//! Faults against real processes, cycle after cycle; `cargo xtask chaos` runs it. Also the client process that it kills.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use galaxy_push_sim::chaos::client::{self, ClientArgs};
use galaxy_push_sim::chaos::faults::Kind;
use galaxy_push_sim::chaos::{self, Options};
use galaxy_push_sim::command::{tell, uninterrupted};
use galaxy_push_sim::{floods, storm};

#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Strike, heal, and judge.
    Run(RunArgs),
    /// Send many clients away at once, then kill their hub.
    Storm(StormArgs),
    /// Send both listeners what no honest peer sends.
    Floods(FloodsArgs),
    /// Be a client that is killed: one `PushClient` that says line by line what it is given.
    Client(ClientArgs),
}

#[derive(Debug, clap::Args)]
struct StormArgs {
    /// How many clients.
    #[arg(long, default_value_t = 1_000)]
    clients: usize,
    /// Also with a hub that is away for 20 s.
    #[arg(long)]
    long: bool,
    /// Where the hub's log goes.
    #[arg(long, default_value = "target/storm")]
    out: PathBuf,
    /// Where the table of what happened goes.
    #[arg(long)]
    table: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct FloodsArgs {
    /// Where the server's log goes.
    #[arg(long, default_value = "target/floods")]
    out: PathBuf,
    /// Where the table of what happened goes.
    #[arg(long)]
    table: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// How many faults strike.
    #[arg(long, default_value_t = 100)]
    cycles: usize,
    /// Only this fault (repeatable).
    #[arg(long, value_name = "FAULT")]
    only: Vec<Kind>,
    /// Not this fault (repeatable).
    #[arg(long, value_name = "FAULT")]
    skip: Vec<Kind>,
    /// One of each of the faults that take little time.
    #[arg(long)]
    short: bool,
    /// Over three NATS brokers with two hubs, and the faults of those.
    #[arg(long)]
    brokers: bool,
    /// The old gateway in Go, the program that interop/go is built to: one more reader.
    #[arg(long, value_name = "FILE")]
    old_gateway: Option<PathBuf>,
    /// Decides the order of the faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the logs go, and the history of a run that failed. Emptied first.
    #[arg(long, default_value = "target/chaos")]
    out: PathBuf,
    /// Where the table of what happened goes.
    #[arg(long)]
    table: Option<PathBuf>,
}

#[expect(clippy::print_stderr, reason = "a command line tool")]
fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(act(Args::parse().command)))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn act(command: Command) -> anyhow::Result<()> {
    let (table, kept) = match command {
        Command::Client(args) => return client::run(args).await,
        Command::Run(args) => {
            let options = Options {
                cycles: args.cycles,
                only: args.only,
                skip: args.skip,
                short: args.short,
                brokers: args.brokers,
                old_gateway: args.old_gateway,
                seed: args.seed,
                out: args.out,
            };
            (uninterrupted(chaos::run(&options, tell)).await?, args.table)
        }
        Command::Storm(args) => {
            let options = storm::Options { clients: args.clients, long: args.long, out: args.out };
            (uninterrupted(storm::run(&options, tell)).await?, args.table)
        }
        Command::Floods(args) => {
            let options = floods::Options { out: args.out };
            (uninterrupted(floods::run(&options, tell)).await?, args.table)
        }
    };
    tell(&format!("\n{table}"));
    if let Some(path) = kept {
        std::fs::write(path, table)?;
    }
    Ok(())
}
