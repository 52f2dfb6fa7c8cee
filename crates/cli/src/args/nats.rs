//! The flags of `--store nats`: where the brokers are, and how the log lies there.

use std::path::PathBuf;

use clap::Args;

use super::values::{not_empty, replicas, stream_prefix};

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Hub, with --store nats")]
pub(crate) struct NatsArgs {
    /// The brokers, as nats://HOST:PORT or tls://HOST:PORT, separated by commas: NATS servers with JetStream, 2.10 at least. One of a
    /// cluster is enough to find the others. A user or a token is written before the host (nats://USER:PASSWORD@HOST).
    #[arg(long, env = "GALAXY_PUSH_NATS_URL", value_name = "URL", value_delimiter = ',', value_parser = not_empty)]
    pub(crate) nats_url: Vec<String>,
    /// Say who this hub is by the credentials in this file, as nsc makes them (.creds).
    #[arg(long, env = "GALAXY_PUSH_NATS_CREDS", value_name = "FILE")]
    pub(crate) nats_creds: Option<PathBuf>,
    /// Trust brokers whose certificate an authority in this file has signed (PEM). Default: those that the system trusts.
    #[arg(long, env = "GALAXY_PUSH_NATS_CA", value_name = "FILE")]
    pub(crate) nats_ca: Option<PathBuf>,
    /// Keep the log on this many brokers, 1 to 5: with 3 it outlives any one of them. A log that is there must have as many.
    #[arg(long, env = "GALAXY_PUSH_NATS_REPLICAS", value_name = "COUNT", default_value_t = 1)]
    #[arg(value_parser = replicas, allow_hyphen_values = true)]
    pub(crate) nats_replicas: u64,
    /// Name the stream NAME-default and its subject NAME.default.log: products that share brokers have a NAME each. Hubs with
    /// the same NAME are doors to one log.
    #[arg(long, env = "GALAXY_PUSH_NATS_PREFIX", value_name = "NAME", default_value = "galaxy-push")]
    #[arg(value_parser = stream_prefix)]
    pub(crate) nats_prefix: String,
}
