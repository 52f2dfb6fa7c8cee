//! The flags of `publish`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::PeerArgs;
use super::values::{attribute, duration, hub_url, recipient, wait};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  galaxy-push publish --to user:42 --type turn.ready '{\"turn\":7}'
  galaxy-push publish --to topic:news --to all --type news.posted --data-file post.json
  galaxy-push publish --to user:42 --type note --content-type text/plain 'Dinner is ready'
  generate-one | galaxy-push publish --to user:42 --type turn.ready -
  galaxy-push publish --file events.ndjson --checkpoint events.pos
  generate | galaxy-push publish

A line of a file:
  {\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"game\",\"type\":\"ready\",\"to\":\"user:42\",\"data\":{\"turn\":7}}

The same id and source within two minutes are recognised and answered with the first position: repeating is safe.")]
pub(crate) struct PublishArgs {
    /// The data of one event: JSON, or anything with --content-type; - is stdin, which is not read otherwise.
    #[arg(value_name = "DATA", requires_all = ["to", "type"])]
    pub(crate) data: Option<String>,
    /// The hub, or several separated by commas: the next one is tried when one does not answer.
    #[arg(long, env = "GALAXY_PUSH_HUB", value_name = "URL", value_delimiter = ',', value_parser = hub_url)]
    #[arg(default_value = "http://127.0.0.1:7400")]
    pub(crate) hub: Vec<String>,
    /// Give up when the hub has not acknowledged for this long.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = wait, allow_hyphen_values = true)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) event: EventArgs,
    /// Publish the CloudEvents of this file, one JSON object per line; - is stdin.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "to", "type", "data_file"])]
    #[arg(help_heading = "Many events")]
    pub(crate) file: Option<PathBuf>,
    /// Remember in this file which bytes of --file were acknowledged, and their hash, and continue there.
    #[arg(long, value_name = "FILE", requires = "file", help_heading = "Many events")]
    #[arg(conflicts_with_all = ["data", "to", "type", "data_file"])]
    pub(crate) checkpoint: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) peer: PeerArgs,
}

/// Each needs the recipient and the type: otherwise it would quietly not hold for the lines of a file.
#[derive(Args, Debug)]
#[command(next_help_heading = "One event")]
pub(crate) struct EventArgs {
    /// Whom it is for: user:<id>, session:<id>, topic:<name> or all. May be given several times.
    #[arg(long, value_name = "RECIPIENT", value_parser = recipient, requires = "type")]
    pub(crate) to: Vec<String>,
    /// Its type, such as turn.ready.
    #[arg(long, value_name = "TYPE", requires = "to")]
    pub(crate) r#type: Option<String>,
    /// Its id; with the source it makes publishing idempotent. Default: random.
    #[arg(long, value_name = "ID", requires_all = ["to", "type"])]
    pub(crate) id: Option<String>,
    /// Who publishes it.
    #[arg(long, value_name = "SOURCE", default_value = "galaxy-push/publish", requires_all = ["to", "type"])]
    pub(crate) source: String,
    /// What it is about.
    #[arg(long, value_name = "SUBJECT", requires_all = ["to", "type"])]
    pub(crate) subject: Option<String>,
    /// Take the data from this file, 1MiB at most; - is stdin.
    #[arg(long, value_name = "FILE", conflicts_with = "data", requires_all = ["to", "type"])]
    pub(crate) data_file: Option<PathBuf>,
    /// The media type of the data. JSON is checked, anything else is passed on as it is.
    #[arg(long, value_name = "TYPE", default_value = "application/json", requires_all = ["to", "type"])]
    pub(crate) content_type: String,
    /// Do not deliver it later than this after it was taken.
    #[arg(long, value_name = "TIME", value_parser = duration, allow_hyphen_values = true)]
    #[arg(requires_all = ["to", "type"])]
    pub(crate) ttl: Option<Duration>,
    /// For readers that lag: only the newest event with this key matters.
    #[arg(long, value_name = "KEY", requires_all = ["to", "type"])]
    pub(crate) collapse_key: Option<String>,
    /// Deliver it to those connected now; it has no position and is never replayed.
    #[arg(long, requires_all = ["to", "type"])]
    pub(crate) ephemeral: bool,
    /// A CloudEvents extension attribute. May be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = attribute, requires_all = ["to", "type"])]
    pub(crate) attribute: Vec<(String, String)>,
}
