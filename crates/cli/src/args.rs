//! Every flag, its environment variable, its default and its help: the reference of the command line.
//!
//! Values from `galaxy-push.toml` become defaults before parsing (see `config`), so that flags beat the environment, the
//! environment beats the file, and the file beats what is written here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Push events to people over WebSocket, SSE and gRPC, and lose none of them silently.
#[derive(Debug, Parser)]
#[command(name = "galaxy-push", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Try it:
  galaxy-push serve
  curl -N 'http://127.0.0.1:8080/v1/stream?user=42'
  galaxy-push publish --to user:42 --type turn.ready '{\"turn\":7}'

Every flag can be set as GALAXY_PUSH_<FLAG> or in galaxy-push.toml; flags win over the environment, it wins over the file.
Durations are written 500ms, 30s, 5m; sizes 64KiB, 256MiB.")]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Read settings from this file; otherwise ./galaxy-push.toml, if there is one.
    #[arg(long, global = true, env = "GALAXY_PUSH_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) logs: LogArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run hub and gateway in one process: the quickest way to try everything.
    Serve(ServeArgs),
    /// Run the backend side: takes events from publishers, serves gateways.
    Hub(HubCommand),
    /// Run the edge: one stream from the hub, carried on to many users.
    Gateway(GatewayCommand),
    /// Publish one event from flags, or many from CloudEvents JSON lines.
    Publish(PublishArgs),
    /// Print the events and gaps of a hub as JSON lines.
    Tail(TailArgs),
    /// Sign a user token, or make the keys to sign with.
    Token(TokenArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

impl Command {
    /// Whether it serves until it is told to end.
    pub(crate) const fn is_role(&self) -> bool {
        matches!(self, Self::Serve(_) | Self::Hub(_) | Self::Gateway(_))
    }
}

#[derive(Args, Debug)]
pub(crate) struct LogArgs {
    /// What to log: a level (error, warn, info, debug, trace) or a tracing filter; RUST_LOG wins over it. Default: info
    /// for serve, hub and gateway, warn for the rest.
    #[arg(long, global = true, env = "GALAXY_PUSH_LOG_LEVEL", value_name = "FILTER", help_heading = "Logging")]
    pub(crate) log_level: Option<String>,
    /// How to log: text for people, json for machines; auto is text on a terminal.
    #[arg(long, global = true, env = "GALAXY_PUSH_LOG_FORMAT", value_enum, default_value_t = LogFormat::Auto)]
    #[arg(help_heading = "Logging")]
    pub(crate) log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Auto,
    Text,
    Json,
}

/// `serve`: all of it.
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
    #[command(flatten)]
    pub(crate) window: WindowArgs,
    #[command(flatten)]
    pub(crate) hub: HubArgs,
    #[command(flatten)]
    pub(crate) edge: EdgeArgs,
}

/// `hub`.
#[derive(Args, Debug)]
pub(crate) struct HubCommand {
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
    #[command(flatten)]
    pub(crate) window: WindowArgs,
    #[command(flatten)]
    pub(crate) hub: HubArgs,
}

/// `gateway`.
#[derive(Args, Debug)]
pub(crate) struct GatewayCommand {
    /// The hub, or several separated by commas: the gateway turns to the next one when one fails.
    #[arg(long, env = "GALAXY_PUSH_HUB", value_name = "URL", value_delimiter = ',', required = true)]
    pub(crate) hub: Vec<String>,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
    #[command(flatten)]
    pub(crate) window: WindowArgs,
    #[command(flatten)]
    pub(crate) edge: EdgeArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ProcessArgs {
    /// Where the admin listener is bound: metrics and probes.
    #[arg(long, env = "GALAXY_PUSH_ADMIN_ADDR", value_name = "ADDR", default_value = "127.0.0.1:7401")]
    pub(crate) admin_addr: SocketAddr,
    /// Print one JSON line with the URLs once everything listens, and nothing else, on stdout.
    #[arg(long, env = "GALAXY_PUSH_READY_JSON")]
    pub(crate) ready_json: bool,
    /// How long a drain may take after SIGTERM before what is left is dropped.
    #[arg(long, env = "GALAXY_PUSH_DRAIN_TIMEOUT", value_name = "TIME", default_value = "20s", value_parser = duration)]
    pub(crate) drain_timeout: Duration,
    /// Allow listeners without TLS on addresses other than loopback.
    #[arg(long, env = "GALAXY_PUSH_PLAINTEXT")]
    pub(crate) plaintext: bool,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Window (an event is held while within all three bounds)")]
pub(crate) struct WindowArgs {
    /// Hold events for this long.
    #[arg(long, env = "GALAXY_PUSH_WINDOW_AGE", value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub(crate) window_age: Duration,
    /// Hold at most this many events.
    #[arg(long, env = "GALAXY_PUSH_WINDOW_EVENTS", value_name = "COUNT", default_value_t = 1_048_576)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) window_events: u64,
    /// Hold at most this many bytes of events.
    #[arg(long, env = "GALAXY_PUSH_WINDOW_BYTES", value_name = "SIZE", default_value = "256MiB", value_parser = size)]
    pub(crate) window_bytes: u64,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Hub")]
pub(crate) struct HubArgs {
    /// Where the hub listener is bound: gateways and publishers, gRPC and HTTP.
    #[arg(long, env = "GALAXY_PUSH_HUB_ADDR", value_name = "ADDR", default_value = "127.0.0.1:7400")]
    pub(crate) hub_addr: SocketAddr,
    /// Where the log is kept. memory: an accepted event is held in this process's window.
    #[arg(long, env = "GALAXY_PUSH_STORE", value_enum, default_value_t = Store::Memory)]
    pub(crate) store: Store,
    /// The largest data of one event; 1MiB at most.
    #[arg(long, env = "GALAXY_PUSH_MAX_EVENT_BYTES", value_name = "SIZE", default_value = "64KiB", value_parser = size)]
    pub(crate) max_event_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Store {
    /// In this process; a restart begins a new epoch, and readers are told.
    Memory,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Edge")]
pub(crate) struct EdgeArgs {
    /// Where the public listener for users is bound.
    #[arg(long, env = "GALAXY_PUSH_EDGE_ADDR", value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) edge_addr: SocketAddr,
    /// The id under which this gateway subscribes; a second gateway with the same id replaces it. Default: random.
    #[arg(long, env = "GALAXY_PUSH_GATEWAY_ID", value_name = "ID")]
    pub(crate) gateway_id: Option<String>,
    /// Verify user tokens with the keys of this JWKS file (HS256, EdDSA). Without it: development mode, on loopback.
    #[arg(long, env = "GALAXY_PUSH_USER_KEYS", value_name = "FILE")]
    pub(crate) user_keys: Option<PathBuf>,
    /// Development mode on any address: users are named in the URL and not verified. Never where others can connect.
    #[arg(long, env = "GALAXY_PUSH_DEV")]
    pub(crate) dev: bool,
    /// Origins whose pages may connect, exactly as browsers send them, separated by commas.
    #[arg(long, env = "GALAXY_PUSH_ALLOWED_ORIGINS", value_name = "ORIGIN", value_delimiter = ',')]
    pub(crate) allowed_origins: Vec<String>,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  galaxy-push publish --to user:42 --type turn.ready '{\"turn\":7}'
  galaxy-push publish --to topic:news --to all --type news.posted --data-file post.json
  galaxy-push publish --file events.ndjson --checkpoint events.pos
  generate | galaxy-push publish

Each line of a file is one CloudEvent in JSON with the extension attribute `to`. Publishing a line again with the same
id and source within two minutes is answered as a duplicate, so an interrupted run can simply be repeated.")]
pub(crate) struct PublishArgs {
    /// The data of one event: JSON, or any text with --content-type. Without it, lines are read from stdin.
    #[arg(value_name = "DATA")]
    pub(crate) data: Option<String>,
    /// The hub.
    #[arg(long, env = "GALAXY_PUSH_HUB", value_name = "URL", default_value = "http://127.0.0.1:7400")]
    pub(crate) hub: String,
    #[command(flatten)]
    pub(crate) event: EventArgs,
    /// Publish the CloudEvents of this file, one JSON object per line; - is stdin.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "to", "type", "data_file"])]
    pub(crate) file: Option<PathBuf>,
    /// Remember in this file how far --file was acknowledged, and continue from there.
    #[arg(long, value_name = "FILE", requires = "file")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Give up when the hub has not acknowledged for this long.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "The event")]
pub(crate) struct EventArgs {
    /// Whom it is for: user:<id>, session:<id>, topic:<name> or all. May be given several times.
    #[arg(long, value_name = "RECIPIENT")]
    pub(crate) to: Vec<String>,
    /// Its type, such as turn.ready.
    #[arg(long, value_name = "TYPE")]
    pub(crate) r#type: Option<String>,
    /// Its id; with the source it makes publishing idempotent. Default: random.
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// Who publishes it.
    #[arg(long, value_name = "SOURCE", default_value = "galaxy-push/publish")]
    pub(crate) source: String,
    /// What it is about.
    #[arg(long, value_name = "SUBJECT")]
    pub(crate) subject: Option<String>,
    /// Take the data from this file.
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub(crate) data_file: Option<PathBuf>,
    /// The media type of the data. JSON is checked, everything else is passed on as it is.
    #[arg(long, value_name = "TYPE", default_value = "application/json")]
    pub(crate) content_type: String,
    /// Do not deliver it later than this after it was taken.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) ttl: Option<Duration>,
    /// For readers that lag: only the newest event with this key matters.
    #[arg(long, value_name = "KEY")]
    pub(crate) collapse_key: Option<String>,
    /// Deliver it to live readers only; it is never replayed.
    #[arg(long)]
    pub(crate) ephemeral: bool,
    /// A CloudEvents extension attribute. May be given several times.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) attribute: Vec<String>,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  galaxy-push tail
  galaxy-push tail --from oldest --to user:42
  galaxy-push tail --from 1.Zm9v….17 --all-frames

Ctrl-C ends it. The last line's cursor, given to --from, continues after it.")]
pub(crate) struct TailArgs {
    /// The hub, or several separated by commas.
    #[arg(long, env = "GALAXY_PUSH_HUB", value_name = "URL", default_value = "http://127.0.0.1:7400")]
    #[arg(value_delimiter = ',')]
    pub(crate) hub: Vec<String>,
    /// Where to start: now, oldest, or after a cursor.
    #[arg(long, value_name = "now|oldest|CURSOR", default_value = "now")]
    pub(crate) from: String,
    /// Only events for this recipient; a trailing * matches a beginning. May be given several times.
    #[arg(long, value_name = "RECIPIENT")]
    pub(crate) to: Vec<String>,
    /// Print every frame, not just events and gaps.
    #[arg(long)]
    pub(crate) all_frames: bool,
    /// End after this many events.
    #[arg(long, value_name = "COUNT")]
    pub(crate) count: Option<u64>,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  galaxy-push token --new-keys keys.json
  galaxy-push serve --user-keys keys.json
  galaxy-push token --user-keys keys.json --user 42 --topic 'game.*'")]
pub(crate) struct TokenArgs {
    /// Write a new JWKS file with one new HS256 key, and end.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["user_keys", "user", "session", "topic"])]
    pub(crate) new_keys: Option<PathBuf>,
    /// Sign with a key of this JWKS file.
    #[arg(long, env = "GALAXY_PUSH_USER_KEYS", value_name = "FILE", required_unless_present = "new_keys")]
    pub(crate) user_keys: Option<PathBuf>,
    /// Which key; default: the first that can sign.
    #[arg(long, value_name = "KID")]
    pub(crate) kid: Option<String>,
    /// The user: becomes `sub`.
    #[arg(long, value_name = "ID", required_unless_present = "new_keys")]
    pub(crate) user: Option<String>,
    /// The session: becomes `sid`.
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// A topic the user may ask for; a trailing * matches a beginning. May be given several times.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) topic: Vec<String>,
    /// How long the token is valid.
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = duration)]
    pub(crate) ttl: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed =
        humantime::parse_duration(text).map_err(|error| format!("{error}; write 500ms, 30s, 5m or 1h"))?;
    if parsed.is_zero() { Err("must be longer than nothing".into()) } else { Ok(parsed) }
}

fn size(text: &str) -> Result<u64, String> {
    match text.parse::<ByteSize>() {
        Ok(ByteSize(0)) => Err("must be more than nothing".into()),
        Ok(size) => Ok(size.0),
        Err(_) => Err("write a size such as 64KiB, 256MiB or 1GiB".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_and_sizes_have_units() {
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert!(duration("5").is_err_and(|error| error.contains("5m")));
        assert!(duration("0s").is_err());
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert!(size("much").is_err_and(|error| error.contains("256MiB")));
        assert!(size("0").is_err());
    }
}
