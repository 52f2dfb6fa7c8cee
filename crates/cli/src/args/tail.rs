//! The flags of `tail`.

use clap::Args;

use super::PeerArgs;
use super::values::{count, hub_url, pattern, start};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  galaxy-push tail
  galaxy-push tail --from oldest --to user:42 --to 'topic:game.*'
  galaxy-push tail --from oldest | jq -r .event.type

Ctrl-C ends it. To continue after the last line printed, give its cursor to --from.")]
pub(crate) struct TailArgs {
    /// The hub, or several separated by commas: the next one is tried when one fails.
    #[arg(long, env = "GALAXY_PUSH_HUB", value_name = "URL", value_delimiter = ',', value_parser = hub_url)]
    #[arg(default_value = "http://127.0.0.1:7400")]
    pub(crate) hub: Vec<String>,
    /// Where to start: now, oldest (all that is held), or after a cursor.
    #[arg(long, value_name = "now|oldest|CURSOR", default_value = "now", value_parser = start)]
    pub(crate) from: String,
    /// Only events for this recipient; a trailing * matches a beginning. May be given several times.
    #[arg(long, value_name = "RECIPIENT", value_parser = pattern)]
    pub(crate) to: Vec<String>,
    /// Print what is said about the stream as well: welcome, standing, caughtUp, progress, fellBehind, goodbye.
    #[arg(long)]
    pub(crate) all_frames: bool,
    /// End after this many events.
    #[arg(long, value_name = "COUNT", value_parser = count, allow_hyphen_values = true)]
    pub(crate) count: Option<u64>,
    #[command(flatten)]
    pub(crate) peer: PeerArgs,
}
