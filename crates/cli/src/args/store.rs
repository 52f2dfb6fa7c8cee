//! What `store` takes.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::values::{pattern, start};

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Say what is in a log on the disk, and what of it is damaged.
    ///
    /// Changes nothing and takes no lock: DIR may be a copy, or the --data-dir of a hub that runs.
    #[command(after_help = "\
Examples:
  galaxy-push store check data
  galaxy-push store check --json data | jq .damage

Exit codes: 0 sound (also where one of two copies is WORN, by which nothing is lost), 1 damaged,
66 it cannot be read (no log, another version, no permission), 2 a flag was not understood.")]
    Check {
        /// The folder of a log: what --data-dir was.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Print one JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Print what is in a log on the disk as JSON lines, as `tail` prints it.
    ///
    /// The standing records that hold, then events and records in their order, and a gap where something is damaged.
    /// Changes nothing and takes no lock, as `store check`.
    #[command(after_help = "\
Examples:
  galaxy-push store dump data | jq -r .event.type
  galaxy-push store dump data --to user:42 --to 'topic:game.*'
  galaxy-push store dump data --from 2.q83vEjRWeJCrze8SNFZ4kA.b42

Exit codes: 0 sound, 1 damaged (gaps say where), 66 it cannot be read, 2 a flag was not understood.")]
    Dump(DumpArgs),
}

#[derive(Args, Debug)]
pub(crate) struct DumpArgs {
    /// The folder of a log: what --data-dir was.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Where to start: oldest (all that is there), or after a cursor.
    #[arg(long, value_name = "oldest|CURSOR", default_value = "oldest", value_parser = place)]
    pub(crate) from: String,
    /// Only events for this recipient; a trailing * matches a beginning. May be given several times.
    #[arg(long, value_name = "RECIPIENT", value_parser = pattern)]
    pub(crate) to: Vec<String>,
}

/// A log on the disk has no "now".
fn place(text: &str) -> Result<String, String> {
    match start(text) {
        Ok(from) if !from.is_empty() => Ok(from),
        _ => Err("write oldest, or a cursor exactly as it was printed".into()),
    }
}
