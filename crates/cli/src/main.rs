//! The binary `galaxy-push`: parses the command line and maps the result to an exit code. Nothing else happens here.
//!
//! 0: done; 1: it could not be done, and stderr says why and what to do; 2: a flag or setting was not understood; 66: what
//! `store` should read cannot be read. A hub whose disk fails ends by itself, with 74.

mod args;
mod commands;
mod config;
mod hangups;
mod logs;
mod peer;
mod roles;
mod traces;

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::FromArgMatches as _;

use args::{Cli, Command};
use galaxy_push_client::Tracing;
use traces::Traces;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A flag, a variable or a key of the file that cannot be what it says. Whatever else was asked for was not begun.
#[derive(Debug)]
struct Usage(String);

/// A [`Usage`] of which everything has been said.
#[derive(Debug)]
struct Told;

/// What should be read cannot be read (`EX_NOINPUT`): not even whether it is damaged is known.
#[derive(Debug)]
struct NoInput(String);

/// The exit code of [`NoInput`].
const NO_INPUT: u8 = 66;

fn main() -> ExitCode {
    let Err(error) = run() else { return ExitCode::SUCCESS };
    if is_broken_pipe(&error) {
        // Whoever read our stdout has enough: `galaxy-push tail | head` is no failure.
        return ExitCode::SUCCESS;
    }
    if !error.is::<Told>() {
        let _ = writeln!(std::io::stderr(), "error: {error:#}");
    }
    if error.is::<NoInput>() {
        return ExitCode::from(NO_INPUT);
    }
    if error.is::<Told>() || error.is::<Usage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

fn run() -> anyhow::Result<()> {
    let line: Vec<_> = std::env::args_os().collect();
    hangups::outlive(&line).context("cannot listen for SIGHUP")?;
    let matches = config::parse(&line)?;
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if let Command::Completions { shell } = cli.command {
        return commands::completions::run(shell);
    }
    logs::start(&cli.logs, &matches, if cli.command.is_role() { "info" } else { logs::OF_COMMANDS })?;
    let otlp = cli.logs.otlp_endpoint.as_deref();
    match cli.command {
        Command::Token(args) => commands::token::run(&args),
        Command::Cursor(command) => commands::cursor::run(&command),
        Command::Completions { shell } => commands::completions::run(shell),
        Command::Serve(args) => traced(otlp, "serve", async |tracing| roles::serve(args, tracing).await),
        Command::Hub(args) => traced(otlp, "hub", async |tracing| roles::hub(args, tracing).await),
        Command::Gateway(args) => {
            traced(otlp, "gateway", async |tracing| roles::gateway(args, tracing).await)
        }
        Command::Publish(args) => {
            traced(otlp, "publish", async |tracing| commands::publish::run(args, tracing).await)
        }
        Command::Revoke(args) => runtime()?.block_on(commands::records::revoke(args)),
        Command::Member(command) => runtime()?.block_on(commands::records::member(command)),
        Command::Store(command) => commands::store::run(&command),
        Command::Tail(args) => runtime()?.block_on(commands::tail::run(args)),
    }
}

/// Runs a command whose events are traced, and sends the last spans when it ends, however that is.
fn traced(
    endpoint: Option<&str>,
    role: &str,
    command: impl AsyncFnOnce(Tracing) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let traces = Traces::start(endpoint, role)?;
        let outcome = command(traces.tracing()).await;
        traces.end().await;
        outcome
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// A file's text without the byte order mark that some editors put before it.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

impl fmt::Display for NoInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoInput {}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a setting was not understood")
    }
}

impl std::error::Error for Told {}
