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

/// What commands log that end by themselves: errors, and what becomes of the traces they were told to send.
pub(crate) const OF_COMMANDS: &str = "error,galaxy_push::traces=warn";

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Starts logging, by the first of: `--log-level`, `RUST_LOG`, `GALAXY_PUSH_LOG_LEVEL`, the file, `default`.
pub(crate) fn start(args: &LogArgs, matches: &ArgMatches, default: &str) -> anyhow::Result<()> {
    let flagged = matches.value_source("log_level") == Some(ValueSource::CommandLine);
    let rust_log = std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty() && !flagged);
    let wanted = rust_log.as_deref().or(args.log_level.as_deref()).unwrap_or(default);
    let origin = if rust_log.is_some() { " in RUST_LOG" } else { "" };
    let wrong = |why: &str| {
        anyhow!(Usage(format!(
            "log filter `{wanted}`{origin}: {why}; try info, or warn,galaxy_push_hub=debug"
        )))
    };
    let filter = with_levels(wanted).map_err(|why| wrong(&why))?;
    let filter = EnvFilter::builder().parse(filter).map_err(|error| wrong(&error.to_string()))?;
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

/// The filter, with the levels' right names. A word by itself that is no level would be taken for the name of a module, and
/// everything else would be silent.
fn with_levels(filter: &str) -> Result<String, String> {
    // In square brackets a comma may separate fields.
    if filter.contains('[') {
        return Ok(filter.to_owned());
    }
    let parts = filter.split(',').map(str::trim).filter(|part| !part.is_empty()).map(|part| {
        let (module, level) = part.rsplit_once('=').map_or(("", part), |(module, level)| (module, level));
        let level = if level.eq_ignore_ascii_case("warning") { "warn" } else { level };
        if part.contains('=') {
            return Ok(format!("{module}={level}"));
        }
        let is_level = LEVELS.iter().any(|known| level.eq_ignore_ascii_case(known));
        if is_level || level.contains("::") {
            Ok(level.to_owned())
        } else {
            Err(format!("`{part}` is no level: {}", LEVELS.join(", ")))
        }
    });
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    if parts.is_empty() { Err(format!("names no level: {}", LEVELS.join(", "))) } else { Ok(parts.join(",")) }
}

/// Whether a line can hold no frame, header or handshake. What the client library of NATS tells by the way, a hub tells once, in
/// its own words.
fn is_fit_to_print(metadata: &Metadata<'_>) -> bool {
    let level_max = match metadata.target() {
        target if target.starts_with("galaxy_push") => Level::TRACE,
        target if target.starts_with("async_nats") => Level::WARN,
        _ => Level::INFO,
    };
    *metadata.level() <= level_max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for good in [
            "info",
            "WARN",
            "off",
            "warn,galaxy_push_hub=debug",
            "h2::codec",
            "a[b{c=1,d=2}]=info",
            OF_COMMANDS,
        ] {
            assert_eq!(with_levels(good).as_deref(), Ok(good));
        }
        assert_eq!(with_levels("warning, hyper=Warning,").as_deref(), Ok("warn,hyper=warn"));
        for bad in ["inof", "eror", "verbose", "warn,inof", "galaxy_push_hub", "6"] {
            assert!(
                with_levels(bad).is_err_and(|why| why.contains("is no level: off, error, warn")),
                "{bad}"
            );
        }
        assert!(with_levels("").is_err() && with_levels(" , ").is_err());
    }
}
