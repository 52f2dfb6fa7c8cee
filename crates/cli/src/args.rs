//! Every flag, its environment variable, its default and its help: the reference of the command line.
//!
//! `config` parses with it, after making the values of `galaxy-push.toml` its defaults: so flags beat the environment,
//! the environment beats the file, and the file beats what is written here. What a value may look like is in `values`.

mod cursor;
mod nats;
mod peer;
mod publish;
mod records;
mod roles;
mod store;
mod tail;
mod token;
mod values;

use std::path::PathBuf;

use clap::{Arg, Args, Command as Definition, CommandFactory as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub(crate) use cursor::CursorCommand;
pub(crate) use nats::NatsArgs;
pub(crate) use peer::PeerArgs;
pub(crate) use publish::{EventArgs, PublishArgs};
pub(crate) use records::{MemberArgs, MemberCommand, RevokeArgs, SayArgs};
pub(crate) use roles::{EdgeArgs, GatewayCommand, HubArgs, HubCommand, ProcessArgs, ServeArgs, WindowArgs};
pub(crate) use store::{DumpArgs, StoreCommand};
pub(crate) use tail::TailArgs;
pub(crate) use token::TokenArgs;
use values::not_empty;
pub(crate) use values::{Store, size};

/// The commands that serve until they are told to end.
pub(crate) const ROLES: [&str; 3] = ["serve", "hub", "gateway"];

/// All commands, for whoever must know before there is a definition of them.
pub(crate) const COMMANDS: [&str; 11] = [
    "serve",
    "hub",
    "gateway",
    "publish",
    "revoke",
    "member",
    "tail",
    "store",
    "token",
    "cursor",
    "completions",
];

/// Where the help lists what every command takes.
const EVERYWHERE: &str = "Every command";

/// Push events to people over WebSocket, SSE and gRPC, and lose none of them silently.
#[derive(Debug, Parser)]
#[command(name = "galaxy-push", bin_name = "galaxy-push", version, propagate_version = true)]
#[command(arg_required_else_help = true)]
#[command(after_help = "\
Try it, each line in a terminal of its own:
  galaxy-push serve
  curl -N 'http://127.0.0.1:8080/v1/stream?user=42'
  galaxy-push publish --to user:42 --type turn.ready '{\"turn\":7}'

Flags beat the environment (GALAXY_PUSH_HUB_ADDR=…), which beats galaxy-push.toml (hub-addr = \"…\").
A key or a variable that nothing reads is an error.
Durations are written 500ms, 30s, 5m, 1h, from 1ms to 100y; sizes 64KiB, 256MiB, 1GiB, up to 16TiB.
Exit codes: 0 done, 1 it could not be done, 2 a flag or setting was not understood;
66 what `store` should read cannot be read, 74 the disk of a hub has failed, 75 the brokers of a hub
have another log now, or one that lacks what was read: start it again.")]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Read settings from this file. Otherwise: galaxy-push.toml in this folder, if there is one.
    #[arg(long, global = true, env = "GALAXY_PUSH_CONFIG", value_name = "FILE", help_heading = EVERYWHERE)]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) logs: LogArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run hub and gateway in one process: the quickest way to try everything.
    ///
    /// Prints its URLs and a first command to try. Ends on Ctrl-C or SIGTERM: everybody connected is sent away with the
    /// cursor to resume from; a second signal ends it at once.
    Serve(ServeArgs),
    /// Run the backend side: takes events from publishers, serves gateways.
    ///
    /// Publishers use gRPC, POST /v1/events or `galaxy-push publish`; gateways connect with `galaxy-push gateway --hub`.
    Hub(HubCommand),
    /// Run the edge: one stream from the hub, carried on to many users.
    ///
    /// Users connect over SSE (/v1/stream) and WebSocket (/v1/ws). Run as many gateways as you like: a user may resume at
    /// any of them with the same cursor.
    Gateway(GatewayCommand),
    /// Publish one event from flags, or many from CloudEvents JSON lines.
    ///
    /// One event: --to, --type and DATA; its position is printed. Many: one CloudEvent in JSON on each line of --file or
    /// stdin, with the attribute `to` naming the recipients, separated by commas. Ends with 0 only if the hub acknowledged
    /// every one.
    Publish(PublishArgs),
    /// End a session, or every session of a user, at all gateways.
    ///
    /// Publishes a session invalidation: it is ordered like an event, reaches every gateway, and is kept until it expires,
    /// so that a gateway that starts later knows it too.
    Revoke(RevokeArgs),
    /// Make a user or session a member of a topic, or end that.
    ///
    /// Publishes a topic membership: members receive the topic's events without asking for it. It is ordered like an
    /// event, reaches every gateway, and holds until it expires or is removed.
    #[command(subcommand)]
    Member(MemberCommand),
    /// Print the events, records and gaps of a hub as JSON lines.
    ///
    /// Subscribes as a gateway does, under a random id, and disturbs nobody. Keeps trying while the hub cannot be
    /// reached, and says so on stderr. Ends where the hub refuses.
    Tail(TailArgs),
    /// Look at a log on the disk: check it, or print what is in it.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Sign a user token, or make the keys to sign with.
    ///
    /// For development and scripts: in production, the backend that logs users in signs tokens with the same claims (sub,
    /// sid, topics, exp).
    Token(TokenArgs),
    /// Explain a cursor.
    #[command(subcommand)]
    Cursor(CursorCommand),
    /// Print a completion script for a shell.
    #[command(after_help = "\
Examples:
  source <(galaxy-push completions bash)
  galaxy-push completions zsh > \"${fpath[1]}/_galaxy-push\"
  galaxy-push completions fish > ~/.config/fish/completions/galaxy-push.fish")]
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
#[command(next_help_heading = EVERYWHERE)]
pub(crate) struct LogArgs {
    /// What to log on stderr: error, warn, info, debug, trace, or a filter such as warn,galaxy_push_hub=debug.
    /// Default: info for serve, hub and gateway, error for the rest. RUST_LOG is understood too.
    #[arg(long, global = true, env = "GALAXY_PUSH_LOG_LEVEL", value_name = "FILTER")]
    pub(crate) log_level: Option<String>,
    /// How to log: text for people, json for machines; auto is text on a terminal.
    #[arg(long, global = true, env = "GALAXY_PUSH_LOG_FORMAT", value_name = "FORMAT")]
    #[arg(value_enum, default_value_t = LogFormat::Auto)]
    pub(crate) log_format: LogFormat,
    /// Send traces of events to this OpenTelemetry collector, over gRPC, https:// by the authorities that the system trusts:
    /// serve, hub, gateway, publish. The standard variables that docs/telemetry.md names hold too, such as
    /// OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME and OTEL_TRACES_SAMPLER. Default: no traces.
    #[arg(long, global = true, env = "GALAXY_PUSH_OTLP_ENDPOINT", value_name = "URL", value_parser = not_empty)]
    pub(crate) otlp_endpoint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Auto,
    Text,
    Json,
}

/// The definition of the whole command line.
pub(crate) fn definition() -> Definition {
    settled(Cli::command())
}

/// What holds for each flag of each command.
fn settled(command: Definition) -> Definition {
    let names: Vec<_> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    names
        .into_iter()
        .fold(command.mut_args(settled_arg), |command, name| command.mut_subcommand(name, settled))
}

/// Of the same flags, none is set by a variable.
pub(crate) fn without_environment(command: Definition) -> Definition {
    command.mut_args(|arg| arg.env(None::<&'static str>))
}

/// The help names a variable and keeps what it holds to itself; an empty one counts as not set.
fn settled_arg(arg: Arg) -> Arg {
    let empty = arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    let arg = arg.hide_env_values(true);
    if empty { arg.env(None::<&'static str>) } else { arg }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        definition().debug_assert();
    }

    #[test]
    fn variables_are_named_after_their_flags() {
        let definition = definition();
        let commands = definition.get_subcommands().chain([&definition]);
        for arg in commands.flat_map(Definition::get_arguments) {
            if let Some(name) = arg.get_env() {
                let flag = arg.get_long().unwrap_or_default();
                assert_eq!(name, format!("GALAXY_PUSH_{}", flag.replace('-', "_").to_uppercase()).as_str());
            }
        }
    }
}
