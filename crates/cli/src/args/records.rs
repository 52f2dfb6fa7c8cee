//! The flags of `revoke` and `member`: standing records.

use std::time::{Duration, SystemTime};

use clap::{ArgGroup, Args, Subcommand};

use super::PeerArgs;
use super::values::{duration, holder, hub_url, instant, topic, voided, wait};

/// How a record reaches a hub.
#[derive(Args, Debug)]
pub(crate) struct SayArgs {
    /// The hub, or several separated by commas: the next one is tried when one does not answer.
    #[arg(long, env = "GALAXY_PUSH_HUB", value_name = "URL", value_delimiter = ',', value_parser = hub_url)]
    #[arg(default_value = "http://127.0.0.1:7400")]
    pub(crate) hub: Vec<String>,
    /// Give up when the hub has not acknowledged for this long.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = wait, allow_hyphen_values = true)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) peer: PeerArgs,
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("whom").required(true).args(["session", "user"]))]
#[command(after_help = "\
Examples:
  galaxy-push revoke --session 8d1f --reason 'signed out'
  galaxy-push revoke --user 42
  galaxy-push revoke --user 42 --before 2026-11-24T10:00:00Z --expires 30d

Prints the record's position and the moment before which tokens are void. Connections with such a token end at every
gateway, and it opens no new one. After a theft end the --session: then every token of it is void, also one whose issuer's
clock is up to 30 s ahead, and whoever signs in anew has another session. --user is for \"log out everywhere\": a token
issued in the same second or later is good. Saying it twice does no harm.

A hub with --store memory forgets records when it restarts: a token that has not expired is good again.
Give tokens a short life, or say it again after a restart.")]
pub(crate) struct RevokeArgs {
    /// End this session: the tokens whose `sid` it is.
    #[arg(long, value_name = "ID", value_parser = voided)]
    pub(crate) session: Option<String>,
    /// End every session of this user: the tokens whose `sub` it is.
    #[arg(long, value_name = "ID", value_parser = voided)]
    pub(crate) user: Option<String>,
    /// Void only tokens issued before this moment, such as 2026-11-24T10:00:00Z, at most 30 s ahead. Default: the beginning of
    /// the present second, by the hub's clock.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub(crate) before: Option<SystemTime>,
    /// Keep the record for this long: no shorter than your longest-lived token. Default: the hub's, 24h.
    #[arg(long, value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) expires: Option<Duration>,
    /// Why. Gateways and `tail` are told it, and users of a WebSocket when it is closed; over server-sent events users are told
    /// only that the session has ended.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) say: SayArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// Let a user or session receive a topic without asking for it.
    ///
    /// It counts from the record's position on, at every gateway, whether the user is connected or comes later.
    #[command(after_help = "\
Examples:
  galaxy-push member add user:42 game.7
  galaxy-push member add session:8d1f 'game.*' --expires 2h

Prints the record's position. Saying it twice does no harm. A hub with --store memory forgets
memberships when it restarts: say them again then.")]
    Add {
        #[command(flatten)]
        whom: MemberArgs,
        /// End the membership after this long. Default: the hub's --membership-life, or when it is removed.
        #[arg(long, value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
        expires: Option<Duration>,
    },
    /// End a membership that was added with the same recipient and topic.
    #[command(after_help = "\
Examples:
  galaxy-push member remove user:42 game.7

Prints the record's position. Saying it twice does no harm.")]
    Remove {
        #[command(flatten)]
        whom: MemberArgs,
    },
}

#[derive(Args, Debug)]
pub(crate) struct MemberArgs {
    /// Who: user:<id> or session:<id>.
    #[arg(value_name = "RECIPIENT", value_parser = holder)]
    pub(crate) recipient: String,
    /// The topic, without `topic:`; a trailing * stands for all that begin so.
    #[arg(value_name = "TOPIC", value_parser = topic)]
    pub(crate) topic: String,
    #[command(flatten)]
    pub(crate) say: SayArgs,
}
