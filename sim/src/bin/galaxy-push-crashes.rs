//! The disk store's proofs from outside; `cargo xtask kill-long` runs it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use galaxy_push_sim::command::{tell, uninterrupted};
use galaxy_push_sim::crashes::{full, inject, kills};

#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// Where the table of what happened goes.
    #[arg(long, global = true)]
    table: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Kill a hub under load, again and again on the same folder.
    Kills(KillsArgs),
    /// Let system calls of a hub fail, one after the other.
    Inject(InjectArgs),
    /// Fill the disk of a hub. Mounts a file system: run it in a mount namespace of its own.
    Full(FullArgs),
}

#[derive(Debug, clap::Args)]
struct InjectArgs {
    /// The first and the last call that fails.
    #[arg(long, num_args = 2, default_values_t = [1, 50])]
    nth: Vec<u32>,
    /// Only every so many of them.
    #[arg(long, default_value_t = 1)]
    step: u32,
    /// Where the logs go. Emptied first.
    #[arg(long, default_value = "target/crashes/inject")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
struct FullArgs {
    /// How often it is filled.
    #[arg(long, default_value_t = 10)]
    rounds: u32,
    /// Where the file system is mounted. Emptied first.
    #[arg(long, default_value = "target/crashes/full")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
struct KillsArgs {
    /// How often.
    #[arg(long, default_value_t = 100)]
    kills: usize,
    /// Decides what is published, and when it is killed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the log and the processes' logs go. Emptied first.
    #[arg(long, default_value = "target/crashes/kills")]
    out: PathBuf,
}

#[expect(clippy::print_stderr, reason = "a command line tool")]
fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(act(Args::parse()))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn act(args: Args) -> anyhow::Result<()> {
    let table = match args.command {
        Command::Kills(KillsArgs { kills, seed, out }) => {
            uninterrupted(kills::run(&kills::Options { kills, seed, out }, tell)).await?
        }
        Command::Inject(InjectArgs { nth, step, out }) => {
            let nth = (nth[0], nth[1]);
            uninterrupted(inject::run(&inject::Options { nth, step, out }, tell)).await?
        }
        Command::Full(FullArgs { rounds, out }) => {
            uninterrupted(full::run(&full::Options { rounds, out }, tell)).await?
        }
    };
    tell(&format!("\n{table}"));
    if let Some(path) = args.table {
        std::fs::write(path, table)?;
    }
    Ok(())
}
