//! The binary `galaxy-push`: parses the command line and maps the result to an exit code. Nothing else happens here.
//!
//! 0: done; 1: it could not be done, and stderr says why and what to do; 2: the command line was not understood.

mod args;
mod commands;
mod config;
mod logs;
mod roles;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use args::{Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our stdout has enough: `galaxy-push tail | head` is no failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let line: Vec<_> = std::env::args_os().collect();
    let matches = config::with_file(Cli::command(), &line)?.get_matches_from(line);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    logs::start(&cli.logs, if cli.command.is_role() { "info" } else { "warn" })?;
    match cli.command {
        Command::Token(args) => commands::token::run(&args),
        Command::Completions { shell } => commands::completions::run(shell),
        Command::Serve(args) => runtime()?.block_on(roles::serve(args)),
        Command::Hub(args) => runtime()?.block_on(roles::hub(args)),
        Command::Gateway(args) => runtime()?.block_on(roles::gateway(args)),
        Command::Publish(args) => runtime()?.block_on(commands::publish::run(args)),
        Command::Tail(args) => runtime()?.block_on(commands::tail::run(args)),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
