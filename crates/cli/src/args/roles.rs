//! The flags of `serve`, `hub` and `gateway`. All of them may be set in `galaxy-push.toml` as well.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use galaxy_push_listener::IpNet;

use super::values::{
    Store, address, count, duration, event_size, gateway_id, host_name, hub_url, network, progress_interval,
    request_size, size, store, switch, wait,
};
use super::{NatsArgs, PeerArgs};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  galaxy-push serve
  galaxy-push serve --user-keys keys.json --allowed-origins https://app.example
  galaxy-push serve --store disk --data-dir data
  galaxy-push serve --store nats --nats-url nats://127.0.0.1:4222
  galaxy-push serve --window-age 1h --window-bytes 1GiB")]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) hub: HubArgs,
    #[command(flatten)]
    pub(crate) edge: EdgeArgs,
    #[command(flatten)]
    pub(crate) window: WindowArgs,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  galaxy-push hub
  galaxy-push hub --hub-addr 10.0.0.5:7400 --hub-tls-cert hub.pem --hub-tls-key hub.key \\
    --hub-peer-ca ca.pem --hub-credentials credentials.toml
  galaxy-push hub --hub-addr 10.0.0.5:7400 --plaintext --open

A file of credentials:
  [[identity]]
  name = \"backend\"
  role = \"publisher\"          # or gateway, operator
  token-file = \"backend.token\"   # without one: by its certificate only
  recipients = [\"user:*\"]
  events-per-second = 500
  bytes-per-second = \"1MiB\"")]
pub(crate) struct HubCommand {
    #[command(flatten)]
    pub(crate) hub: HubArgs,
    #[command(flatten)]
    pub(crate) window: WindowArgs,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  galaxy-push gateway --hub http://127.0.0.1:7400
  galaxy-push gateway --hub http://a:7400,http://b:7400 --gateway-id edge-1 --user-keys keys.json")]
pub(crate) struct GatewayCommand {
    /// The hub, or several separated by commas, which must hold one log: the gateway turns to the next one when one fails.
    /// If they hold different logs, the gateway stays in its own, warns, and says so in /readyz?verbose and metrics.
    #[arg(long, env = "GALAXY_PUSH_HUB", value_name = "URL", value_delimiter = ',', required = true)]
    #[arg(value_parser = hub_url)]
    pub(crate) hub: Vec<String>,
    /// With several hubs: how long to wait for one that holds this gateway's log, while some hub does not answer, before
    /// going over to another log. Users are told of a gap then.
    #[arg(long, env = "GALAXY_PUSH_LEAVE_LOG_AFTER", value_name = "TIME", default_value = "30s")]
    #[arg(value_parser = wait, allow_hyphen_values = true)]
    pub(crate) leave_log_after: Duration,
    #[command(flatten)]
    pub(crate) peer: PeerArgs,
    #[command(flatten)]
    pub(crate) edge: EdgeArgs,
    #[command(flatten)]
    pub(crate) window: WindowArgs,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Hub")]
pub(crate) struct HubArgs {
    /// Where gateways and publishers connect: gRPC and HTTP. Port 0: any free one.
    #[arg(long, env = "GALAXY_PUSH_HUB_ADDR", value_name = "ADDR", default_value = "127.0.0.1:7400")]
    #[arg(value_parser = address)]
    pub(crate) hub_addr: SocketAddr,
    /// Where the log is kept. memory: in this process; a restart begins a new epoch, and readers are told, and forgets
    /// revocations and memberships. disk: in --data-dir; an event is acknowledged once it is on the disk, and a restart goes
    /// on where it ended. If the disk fails the process ends with code 74. nats: in a JetStream stream that several hubs share;
    /// an event is acknowledged once the brokers of --nats-url have stored it. If the stream is another one, or has lost what
    /// was read, the process ends with code 75.
    #[arg(long, env = "GALAXY_PUSH_STORE", value_name = "STORE", default_value = "memory", value_parser = store)]
    pub(crate) store: Store,
    /// The folder of --store disk, which no other hub may have: it is made if it is not there, and takes up to about twice
    /// --window-bytes, and what the standing records and the last 1,000,000 ids take.
    #[arg(long, env = "GALAXY_PUSH_DATA_DIR", value_name = "FOLDER")]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) nats: NatsArgs,
    /// The largest data of one event, 1MiB at most.
    #[arg(long, env = "GALAXY_PUSH_MAX_EVENT_BYTES", value_name = "SIZE", default_value = "64KiB")]
    #[arg(value_parser = event_size, allow_hyphen_values = true)]
    pub(crate) max_event_bytes: usize,
    /// Refuse publishes while this many are under way; the publishers are told when to come back.
    #[arg(long, env = "GALAXY_PUSH_MAX_PUBLISHES", value_name = "COUNT", default_value_t = 1_024)]
    #[arg(value_parser = count, allow_hyphen_values = true)]
    pub(crate) max_publishes: u64,
    /// Refuse publishes while they are this large together, 4MiB at least.
    #[arg(long, env = "GALAXY_PUSH_MAX_PUBLISH_BYTES", value_name = "SIZE", default_value = "64MiB")]
    #[arg(value_parser = request_size, allow_hyphen_values = true)]
    pub(crate) max_publish_bytes: u64,
    /// Hold at most this many session invalidations, and as many memberships; of several publishers none may hold more than it
    /// leaves free.
    #[arg(long, env = "GALAXY_PUSH_MAX_STANDING_RECORDS", value_name = "COUNT", default_value_t = 100_000)]
    #[arg(value_parser = count, allow_hyphen_values = true)]
    pub(crate) max_standing_records: u64,
    /// Keep an invalidation for this long if it does not say: the longest life of a user's token.
    #[arg(long, env = "GALAXY_PUSH_INVALIDATION_LIFE", value_name = "TIME", default_value = "24h")]
    #[arg(value_parser = duration, allow_hyphen_values = true)]
    pub(crate) invalidation_life: Duration,
    /// End a membership after this long if it does not say. Default: when it is removed.
    #[arg(long, env = "GALAXY_PUSH_MEMBERSHIP_LIFE", value_name = "TIME")]
    #[arg(value_parser = duration, allow_hyphen_values = true)]
    pub(crate) membership_life: Option<Duration>,
    /// Speak TLS with the certificate in this file (PEM, the chain behind it). Taken anew when it changes.
    #[arg(long, env = "GALAXY_PUSH_HUB_TLS_CERT", value_name = "FILE")]
    pub(crate) hub_tls_cert: Option<PathBuf>,
    /// The private key of that certificate (PEM).
    #[arg(long, env = "GALAXY_PUSH_HUB_TLS_KEY", value_name = "FILE")]
    pub(crate) hub_tls_key: Option<PathBuf>,
    /// Let peers say who they are by a certificate that an authority in this file has signed (PEM).
    #[arg(long, env = "GALAXY_PUSH_HUB_PEER_CA", value_name = "FILE")]
    pub(crate) hub_peer_ca: Option<PathBuf>,
    /// Let in whom this file names, each for its role and recipients, and nobody else; taken anew at SIGHUP. Without it
    /// everybody may do everything.
    #[arg(long, env = "GALAXY_PUSH_HUB_CREDENTIALS", value_name = "FILE")]
    pub(crate) hub_credentials: Option<PathBuf>,
    /// Let everybody publish anything and read everything on an address other than loopback, where there are no
    /// --hub-credentials.
    #[arg(long, env = "GALAXY_PUSH_OPEN", value_parser = switch)]
    pub(crate) open: bool,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Edge")]
pub(crate) struct EdgeArgs {
    /// Where users connect. Port 0: any free one.
    #[arg(long, env = "GALAXY_PUSH_EDGE_ADDR", value_name = "ADDR", default_value = "127.0.0.1:8080")]
    #[arg(value_parser = address)]
    pub(crate) edge_addr: SocketAddr,
    /// The name under which the gateway subscribes to the hub. Another gateway with the same name replaces it.
    /// Default: random.
    #[arg(long, env = "GALAXY_PUSH_GATEWAY_ID", value_name = "ID", value_parser = gateway_id)]
    pub(crate) gateway_id: Option<String>,
    /// Check user tokens with the keys of this JWKS file: an identity provider's, or one that `galaxy-push token --new-keys`
    /// makes (RS256-512, PS256-512, ES256, ES384, EdDSA, HS256). Taken anew when its content changes. Without it, on loopback:
    /// development mode.
    #[arg(long, env = "GALAXY_PUSH_USER_KEYS", value_name = "FILE")]
    pub(crate) user_keys: Option<PathBuf>,
    /// Take tokens of this issuer only: `iss` must equal it.
    #[arg(long, env = "GALAXY_PUSH_USER_ISSUER", value_name = "ISSUER", requires = "user_keys")]
    pub(crate) user_issuer: Option<String>,
    /// Take tokens for this audience only: `aud` must name it. Without it, a token that has an `aud` is refused.
    #[arg(long, env = "GALAXY_PUSH_USER_AUDIENCE", value_name = "AUDIENCE", requires = "user_keys")]
    pub(crate) user_audience: Option<String>,
    /// Development mode on any address, and for requests that come through a proxy: whoever connects is believed to be the
    /// user they say. Never where strangers can connect. Not together with --user-keys.
    #[arg(long, env = "GALAXY_PUSH_DEV", value_parser = switch)]
    pub(crate) dev: bool,
    /// The origins whose pages may connect, as browsers send them (https://app.example), separated by commas.
    #[arg(long, env = "GALAXY_PUSH_ALLOWED_ORIGINS", value_name = "ORIGIN", value_delimiter = ',')]
    pub(crate) allowed_origins: Vec<String>,
    /// Refuse users while this many are connected. Default: no limit of its own.
    #[arg(long, env = "GALAXY_PUSH_MAX_CONNECTIONS", value_name = "COUNT", value_parser = count)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) max_connections: Option<u64>,
    /// Let one user have this many connections. Default: any number.
    #[arg(long, env = "GALAXY_PUSH_MAX_USER_CONNECTIONS", value_name = "COUNT", value_parser = count)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) max_user_connections: Option<u64>,
    /// Let one address have this many connections of users; of IPv6, one /64. Behind a proxy, name it with
    /// --trusted-proxies. Default: any number.
    #[arg(long, env = "GALAXY_PUSH_MAX_ADDRESS_CONNECTIONS", value_name = "COUNT", value_parser = count)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) max_address_connections: Option<u64>,
    /// Let one user resume this many times a second, on any of their connections. Default: any number.
    #[arg(long, env = "GALAXY_PUSH_MAX_USER_RESUMES", value_name = "COUNT", value_parser = count)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) max_user_resumes: Option<u64>,
    /// Tell users where they stand, and ping WebSockets, after this long in which nothing was sent, 1s to 50s: at most half
    /// the shortest idle limit of the proxies in between.
    #[arg(long, env = "GALAXY_PUSH_PROGRESS_INTERVAL", value_name = "TIME", default_value = "25s")]
    #[arg(value_parser = progress_interval, allow_hyphen_values = true)]
    pub(crate) progress_interval: Duration,
    /// Read this many frames a second from one WebSocket, and twice as many at once. What comes faster waits, and nobody is
    /// closed for it.
    #[arg(long, env = "GALAXY_PUSH_MAX_CLIENT_FRAMES", value_name = "COUNT", default_value_t = 10)]
    #[arg(value_parser = count, allow_hyphen_values = true)]
    pub(crate) max_client_frames: u64,
    /// Pass over these parameters of users' URLs, separated by commas: what a proxy or a tracker adds (utm_source). Others
    /// that are not known are refused, so that a misspelt one is noticed.
    #[arg(long, env = "GALAXY_PUSH_IGNORED_QUERY", value_name = "NAME", value_delimiter = ',')]
    pub(crate) ignored_query: Vec<String>,
    /// Speak TLS with users, with the certificate in this file (PEM, the chain behind it). Taken anew when it changes.
    #[arg(long, env = "GALAXY_PUSH_EDGE_TLS_CERT", value_name = "FILE")]
    pub(crate) edge_tls_cert: Option<PathBuf>,
    /// The private key of that certificate (PEM).
    #[arg(long, env = "GALAXY_PUSH_EDGE_TLS_KEY", value_name = "FILE")]
    pub(crate) edge_tls_key: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Window (an event is held while within all three bounds)")]
pub(crate) struct WindowArgs {
    /// Hold events for this long.
    #[arg(long, env = "GALAXY_PUSH_WINDOW_AGE", value_name = "TIME", default_value = "10m")]
    #[arg(value_parser = duration, allow_hyphen_values = true)]
    pub(crate) window_age: Duration,
    /// Hold at most this many events.
    #[arg(long, env = "GALAXY_PUSH_WINDOW_EVENTS", value_name = "COUNT", default_value_t = 1_048_576)]
    #[arg(value_parser = count, allow_hyphen_values = true)]
    pub(crate) window_events: u64,
    /// Hold at most this many bytes of events. Memory grows only as it is used.
    #[arg(long, env = "GALAXY_PUSH_WINDOW_BYTES", value_name = "SIZE", default_value = "256MiB")]
    #[arg(value_parser = size, allow_hyphen_values = true)]
    pub(crate) window_bytes: u64,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Process")]
pub(crate) struct ProcessArgs {
    /// Where metrics (/metrics) and probes (/livez, /readyz?verbose) are served. Port 0: any free one.
    #[arg(long, env = "GALAXY_PUSH_ADMIN_ADDR", value_name = "ADDR", default_value = "127.0.0.1:7401")]
    #[arg(value_parser = address)]
    pub(crate) admin_addr: SocketAddr,
    /// Print nothing on stdout but one JSON line with the URLs, once everything serves: with
    /// --store disk or nats when the log is read.
    #[arg(long, env = "GALAXY_PUSH_READY_JSON", value_parser = switch)]
    pub(crate) ready_json: bool,
    /// How long readers have after SIGTERM or Ctrl-C to take what was acknowledged. Whoever has not is cut off, and a second
    /// later the process ends at the latest.
    #[arg(long, env = "GALAXY_PUSH_DRAIN_TIMEOUT", value_name = "TIME", default_value = "20s")]
    #[arg(value_parser = wait, allow_hyphen_values = true)]
    pub(crate) drain_timeout: Duration,
    /// Allow listeners without TLS on addresses other than loopback, although nothing on them is encrypted.
    /// The admin listener has no TLS.
    #[arg(long, env = "GALAXY_PUSH_PLAINTEXT", value_parser = switch)]
    pub(crate) plaintext: bool,
    /// Names under which a proxy on this machine asks for the hub or admin listener, separated by commas. On loopback
    /// others than localhost and addresses are refused, so that no web page gets there under a name of its own.
    #[arg(long, env = "GALAXY_PUSH_ALLOWED_HOSTS", value_name = "NAME", value_delimiter = ',')]
    #[arg(value_parser = host_name)]
    pub(crate) allowed_hosts: Vec<String>,
    /// The reverse proxies and load balancers before the listeners, as addresses or networks (10.0.0.0/8), separated by
    /// commas: whom they say they speak for in X-Forwarded-For or Forwarded is believed.
    #[arg(long, env = "GALAXY_PUSH_TRUSTED_PROXIES", value_name = "NETWORK", value_delimiter = ',')]
    #[arg(value_parser = network)]
    pub(crate) trusted_proxies: Vec<IpNet>,
}
