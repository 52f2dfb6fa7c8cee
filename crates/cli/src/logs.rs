//! Logs: one line per event on stderr, because stdout is for data.

use std::io::{IsTerminal as _, stderr};

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use crate::args::{LogArgs, LogFormat};

/// Starts logging. `RUST_LOG`, when set, wins over `--log-level`, and that over `default`.
pub(crate) fn start(args: &LogArgs, default: &str) -> anyhow::Result<()> {
    let flag = args.log_level.as_deref().unwrap_or(default);
    let wanted = std::env::var("RUST_LOG").unwrap_or_else(|_| flag.to_owned());
    let filter = EnvFilter::builder().parse(&wanted).with_context(|| {
        format!("cannot understand the log filter `{wanted}`; try info, or warn,galaxy_push_hub=debug")
    })?;
    let terminal = stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match args.log_format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Auto if !terminal => builder.json().flatten_event(true).init(),
        LogFormat::Auto | LogFormat::Text => builder.with_ansi(colour).with_target(false).init(),
    }
    Ok(())
}
