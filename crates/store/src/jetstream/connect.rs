//! The connection to the brokers: made at a start, and made again by the client library for as long as the store lives.

use std::error::Error;
use std::fmt;
use std::future::ready;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::{self, context::ContextBuilder};
use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use percent_encoding::percent_decode_str;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::{Notice, OpenError, Options, PAYLOAD_BESIDES};
use crate::nats::ANSWER_WITHIN;

/// How long a start looks for a broker, and for a cluster that has a leader: brokers and hubs may be started together.
pub(super) const START_WITHIN: Duration = Duration::from_secs(30);

/// How long a start waits before it looks again.
pub(super) const START_AGAIN: Duration = Duration::from_millis(250);

/// How long one attempt may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// How long the leader may take to answer a question about the stream.
const REQUEST_WITHIN: Duration = Duration::from_secs(2);

/// A connection on which nothing comes is given up after three of these.
const PING_EVERY: Duration = Duration::from_secs(2);

/// The longest pause between two attempts to connect again.
const RECONNECT_MAX: Duration = Duration::from_secs(1);

/// What travels beside a payload, in bytes: which stream is meant.
const HEADER_BYTES: usize = 1 << 10;

/// Requests and packs that the client library has taken and not written yet, at most.
const UNWRITTEN_MAX: usize = 256;

/// A connection. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) client: Client,
    /// For questions.
    pub(super) context: jetstream::Context,
    /// For packs, whose acknowledgements are waited for longer.
    pub(super) publishing: jetstream::Context,
    /// Rings some time after a connection was made; see [`Link::made`].
    pub(super) bell: watch::Receiver<()>,
}

impl Link {
    pub(super) async fn connect(options: &Options) -> Result<Self, OpenError> {
        let servers = servers(options)?;
        let (ring, bell) = watch::channel(());
        let ring = Arc::new(ring);
        let give_up = Instant::now() + START_WITHIN;
        loop {
            let with = with(options, &servers, &ring).await?;
            match with.connect(&servers[..]).await {
                Ok(client) => {
                    let context = |within| ContextBuilder::new().timeout(within).build(client.clone());
                    let (context, publishing) = (context(REQUEST_WITHIN), context(ANSWER_WITHIN));
                    return Ok(Self { client, context, publishing, bell });
                }
                Err(error) if is_final(&error) || Instant::now() >= give_up => {
                    return Err(OpenError::Connect { servers: shown(&servers), source: error.into() });
                }
                Err(error) => options.notice(&Notice::Trouble(format!(
                    "no broker of {} is reached yet: {error}",
                    shown(&servers)
                ))),
            }
            sleep(START_AGAIN).await;
        }
    }

    /// How many connections were made. It has risen before anything is received by a new one, whose subscriptions are those of the
    /// one before: what they bring need not have been asked for by this one.
    pub(super) fn made(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    /// What is sent now reaches a broker, as far as is known.
    pub(super) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// How large the payload of a message may be.
    pub(super) fn payload_bytes(&self, options: &Options) -> Result<usize, OpenError> {
        let has = self.client.server_info().max_payload;
        let needs = options.event_bytes_max + PAYLOAD_BESIDES;
        if has < needs {
            return Err(OpenError::Setting(format!(
                "the brokers take messages of {has} bytes, and an event of --max-event-bytes {} needs {needs}: set \
                 max_payload: {needs} in the configuration of every broker, or lower --max-event-bytes",
                options.event_bytes_max
            )));
        }
        Ok(has - HEADER_BYTES)
    }
}

/// How it connects.
async fn with(
    options: &Options,
    servers: &[ServerAddr],
    ring: &Arc<watch::Sender<()>>,
) -> Result<ConnectOptions, OpenError> {
    let mut with = ConnectOptions::new()
        .name("galaxy-push hub")
        .connection_timeout(CONNECT_WITHIN)
        .request_timeout(Some(REQUEST_WITHIN))
        .ping_interval(PING_EVERY)
        .client_capacity(UNWRITTEN_MAX)
        .max_reconnects(None::<usize>)
        .reconnect_delay_callback(|attempts| {
            let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
            Duration::from_millis(50).saturating_mul(attempts).min(RECONNECT_MAX)
        });
    let (on_notice, ring) = (options.on_notice.clone(), ring.clone());
    with = with.event_callback(move |event| {
        if event == Event::Connected {
            ring.send_replace(());
        }
        let notice = match event {
            Event::Connected => Notice::Connected,
            Event::Disconnected => Notice::Disconnected,
            other => Notice::Trouble(other.to_string()),
        };
        if let Some(on_notice) = &on_notice {
            on_notice(&notice);
        }
        ready(())
    });
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    // One cluster knows each user at all of its brokers.
    with = match servers.iter().find_map(|server| Some((server.username()?, server.password()))) {
        Some((user, Some(password))) => with.user_and_password(decoded(user), decoded(password)),
        Some((token, None)) => with.token(decoded(token)),
        None => with,
    };
    if let Some(authorities) = &options.authorities {
        check_authorities(authorities).await?;
        with = with.add_root_certificates(authorities.clone());
    }
    if let Some(file) = &options.credentials {
        let unreadable = |error| {
            OpenError::Setting(format!("the credentials in {} cannot be used: {error}", file.display()))
        };
        with = with.credentials_file(file).await.map_err(unreadable)?;
    }
    Ok(with)
}

/// The client library takes a file without a certificate for one that trusts nobody, and does not name the file.
async fn check_authorities(file: &Path) -> Result<(), OpenError> {
    let unusable =
        |why: &dyn fmt::Display| OpenError::Setting(format!("the authorities in {}: {why}", file.display()));
    let text = tokio::fs::read(file).await.map_err(|error| unusable(&error))?;
    let begins = b"-----BEGIN CERTIFICATE-----";
    if text.windows(begins.len()).any(|part| part == begins) {
        Ok(())
    } else {
        Err(unusable(&"it holds no certificate (PEM)"))
    }
}

fn servers(options: &Options) -> Result<Vec<ServerAddr>, OpenError> {
    let parse = |text: &String| {
        let why = |error| OpenError::Setting(format!("the URL of a broker is none: {error}"));
        text.parse::<ServerAddr>().map_err(why)
    };
    let servers = options.servers.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    if servers.is_empty() {
        return Err(OpenError::Setting("no broker is named".to_owned()));
    }
    Ok(servers)
}

/// Without what is secret.
fn shown(servers: &[ServerAddr]) -> String {
    let each = servers.iter().map(|server| format!("{}:{}", server.host(), server.port()));
    each.collect::<Vec<_>>().join(", ")
}

/// Whether to look again is in vain.
fn is_final(error: &ConnectError) -> bool {
    match error.kind() {
        ConnectErrorKind::ServerParse
        | ConnectErrorKind::Authentication
        | ConnectErrorKind::AuthorizationViolation
        | ConnectErrorKind::Tls => true,
        // A certificate that is not believed, and whatever else is wrong with a handshake.
        ConnectErrorKind::Io => {
            let mut source = error.source();
            while let Some(error) = source {
                let error_of_io = error.downcast_ref::<io::Error>();
                if error_of_io.is_some_and(|error| error.kind() == io::ErrorKind::InvalidData) {
                    return true;
                }
                source = error.source();
            }
            false
        }
        _ => false,
    }
}
