//! The flags by which whoever connects to a hub secures the way and says who it is: `gateway`, `publish`, `tail`.

use std::path::PathBuf;

use clap::Args;

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "The way to the hub (a token may also be in GALAXY_PUSH_HUB_TOKEN)")]
pub(crate) struct PeerArgs {
    /// Trust https:// hubs whose certificate an authority in this file has signed (PEM). Default: the authorities that the
    /// system trusts.
    #[arg(long, env = "GALAXY_PUSH_HUB_CA", value_name = "FILE")]
    pub(crate) hub_ca: Option<PathBuf>,
    /// Say who this is by the certificate in this file (PEM, the chain behind it). Read again for each connection.
    #[arg(long, env = "GALAXY_PUSH_HUB_CERT", value_name = "FILE")]
    pub(crate) hub_cert: Option<PathBuf>,
    /// The private key of that certificate (PEM).
    #[arg(long, env = "GALAXY_PUSH_HUB_KEY", value_name = "FILE")]
    pub(crate) hub_key: Option<PathBuf>,
    /// Say who this is by the token in this file.
    ///
    /// It is read for each connection, so a token that was replaced asks for no restart.
    #[arg(long, env = "GALAXY_PUSH_HUB_TOKEN_FILE", value_name = "FILE")]
    pub(crate) hub_token_file: Option<PathBuf>,
}
