//! What `cursor` takes.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum CursorCommand {
    /// Say what a cursor means. Asks no hub.
    #[command(after_help = "\
Examples:
  galaxy-push cursor show 2.q83vEjRWeJCrze8SNFZ4kA.b42
  galaxy-push cursor show oldest")]
    Show {
        /// The cursor, exactly as it was received.
        #[arg(allow_hyphen_values = true)]
        cursor: String,
    },
}
