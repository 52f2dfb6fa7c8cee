//! Logs: one line per event on stderr, because stdout is for data.
//!
//! Libraries log what goes over the wire when they are asked for enough, tokens included; so whatever the filter says, of
//! them nothing is logged beyond `info`. Our own lines never hold a token.

use std::io::{IsTerminal as _, stderr};

use anyhow::anyhow;
use clap::ArgMatches;
use clap::parser::ValueSource;
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::Usage;
use crate::args::{LogArgs, LogFormat};

/// Starts logging, by the first of: `--log-level`, `RUST_LOG`, `GALAXY_PUSH_LOG_LEVEL`, the file, `default`.
pub(crate) fn start(args: &LogArgs, matches: &ArgMatches, default: &str) -> anyhow::Result<()> {
    let flagged = matches.value_source("log_level") == Some(ValueSource::CommandLine);
    let rust_log = std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty() && !flagged);
    let wanted = rust_log.as_deref().or(args.log_level.as_deref()).unwrap_or(default);
    let filter = EnvFilter::builder().parse(wanted).map_err(|error| {
        anyhow!(Usage(format!("log filter `{wanted}`: {error}; try info, or warn,galaxy_push_hub=debug")))
    })?;
    let terminal = stderr().is_terminal();
    let log = tracing_subscriber::registry().with(filter_fn(is_fit_to_print)).with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr);
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match args.log_format {
        LogFormat::Json => log.with(lines.json().flatten_event(true)).init(),
        LogFormat::Auto if !terminal => log.with(lines.json().flatten_event(true)).init(),
        LogFormat::Auto | LogFormat::Text => log.with(lines.with_ansi(colour).with_target(false)).init(),
    }
    Ok(())
}

/// Whether a line can hold no frame, header or handshake.
fn is_fit_to_print(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("galaxy_push") || *metadata.level() <= Level::INFO
}
