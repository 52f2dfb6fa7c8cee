//! The flags of `token`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::values::{duration, subject, topic};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  galaxy-push token --new-keys keys.json
  galaxy-push serve --user-keys keys.json
  TOKEN=$(galaxy-push token --user-keys keys.json --user 42 --topic 'game.*')
  curl -N -H \"Authorization: Bearer $TOKEN\" 'http://127.0.0.1:8080/v1/stream?topic=game.7'")]
pub(crate) struct TokenArgs {
    /// Write a new JWKS file with one new HS256 key, and end.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["user", "session", "topic", "kid"])]
    pub(crate) new_keys: Option<PathBuf>,
    /// Sign with a key of this JWKS file.
    #[arg(long, env = "GALAXY_PUSH_USER_KEYS", value_name = "FILE")]
    pub(crate) user_keys: Option<PathBuf>,
    /// Which key. Default: the first that can sign.
    #[arg(long, value_name = "KID")]
    pub(crate) kid: Option<String>,
    /// The user: becomes `sub`.
    #[arg(long, value_name = "ID", value_parser = subject, required_unless_present = "new_keys")]
    pub(crate) user: Option<String>,
    /// The session: becomes `sid`.
    #[arg(long, value_name = "ID", value_parser = subject)]
    pub(crate) session: Option<String>,
    /// A topic the user may ask for; a trailing * matches a beginning. May be given several times.
    #[arg(long, value_name = "PATTERN", value_parser = topic)]
    pub(crate) topic: Vec<String>,
    /// How long the token is valid.
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) ttl: Duration,
}
