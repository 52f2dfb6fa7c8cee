//! The gateway's settings, with the defaults of the design.

use std::sync::Arc;
use std::time::Duration;

use galaxy_push_core::FOR_EVER;
use galaxy_push_core::trace::Tracing;
use galaxy_push_core::window::Bounds;
use galaxy_push_listener::Proxies;

use super::auth::{Access, TOKEN_BYTES_MAX};
use crate::state::quotas::UserLimits;

/// A secret that hubs know this gateway by. Never shown.
#[derive(Clone)]
pub struct HubToken(pub(crate) String);

impl HubToken {
    /// This text, exactly.
    #[must_use]
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }
}

/// Says the token at present; `None`: the one before is used on. Cheap to clone; clones are the same.
#[derive(Clone)]
pub struct HubTokenSource(pub(crate) Arc<dyn Fn() -> Option<String> + Send + Sync>);

impl HubTokenSource {
    /// May wait, such as for a file.
    #[must_use]
    pub fn new(source: impl Fn() -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(source))
    }
}

impl std::fmt::Debug for HubTokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HubTokenSource")
    }
}

impl std::fmt::Debug for HubToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HubToken")
    }
}

/// Settings of a gateway. Every default runs; only the hub's address and the gateway's id must be given.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The hubs, `http://host:port`, with commas between; `https://` where the connector secures. They are tried in turn.
    pub hubs: String,
    /// With several hubs: how long one is waited for that holds the log that this gateway follows, while some hub does not
    /// answer and those that do hold another log.
    pub leave_log_after: Duration,
    /// Proves to the hubs who this gateway is. Default: it does not say.
    pub hub_token: Option<HubToken>,
    /// For a token that may be replaced: asked for each connection to a hub, in place of the other, which then counts only for
    /// what development mode passes on. Default: it is not replaced.
    pub hub_token_source: Option<HubTokenSource>,
    /// The gateway's stable name: a hub lets one stream per name live at a time.
    pub gateway_id: String,
    /// What the edge window holds. The same as the hub's, so that it can resume whom the hub could.
    pub window: Bounds,
    /// How users say who they are. Default: nobody can connect.
    pub access: Access,
    /// The origins whose pages may connect, exactly as browsers send them: `https://app.example`.
    pub allowed_origins: Vec<String>,
    /// Names in the query of users' URLs that are passed over, such as what a proxy adds; others that are not known are
    /// refused. Default: none, but `_` always is.
    pub ignored_query: Vec<String>,
    /// What users may have. Default: no limits.
    pub limits: UserLimits,
    /// The proxies that are believed whom they speak for, where limits count by address. Default: nobody.
    pub trusted_proxies: Proxies,
    /// The extension attributes of events that users may see. Default: none.
    pub shown_attributes: Vec<String>,
    /// The most data of one event, in bytes: said in `Welcome`, enforced by the hub.
    pub event_bytes: u32,
    /// The most topics that one connection asks for.
    pub topics: usize,
    /// The most entries a connection's mailbox names before it goes back to scanning the window: 16 bytes each.
    pub mailbox_slots: usize,
    /// A user to whom nothing was sent for this long is sent `Progress`; sooner if the window's age is short. A WebSocket is
    /// pinged as often; sooner if it would be dead before it could answer.
    pub progress_interval: Duration,
    /// A WebSocket from which nothing was heard for this long is dead.
    pub dead_after: Duration,
    /// How long a WebSocket may take for its `connect` frame.
    pub greeting: Duration,
    /// A user that takes nothing for this long is too slow.
    pub write_stall: Duration,
    /// So many frames of a user's WebSocket are read in a second, and twice as many at once. What comes faster waits.
    pub client_frames_per_second: u32,
    /// How long a browser waits before it reconnects by itself.
    pub retry: Duration,
    /// Users that are told of a gap are told to fetch their state anew some time in this long.
    pub repair_spread: Duration,
    /// How many connections a drain ends per second.
    pub return_slots: u32,
    /// How often the hub is told how far this gateway is, while something changes; `None`: never. It takes a second connection.
    pub report_every: Option<Duration>,
    /// Where spans of events that carry a trace go. Default: nowhere.
    pub tracing: Tracing,
    /// The hub's URL as publishers on this machine use it, for the commands that the try-it page shows. Default: not shown.
    pub shown_hub: Option<String>,
}

/// The largest message a user may send over a WebSocket, in bytes. The largest `connect` has the longest token, 128 topics of 255 bytes in
/// quotes and behind commas, and 4 KiB for the rest.
pub(crate) const CLIENT_MESSAGE_BYTES: usize = 52 << 10;
const _: () = assert!(CLIENT_MESSAGE_BYTES >= TOKEN_BYTES_MAX + 128 * (255 + 3) + 3 * 1_024);

impl Config {
    /// The same, but that nothing is waited for longer than can be reckoned with.
    pub(crate) fn reckonable(mut self) -> Self {
        let waits = [
            &mut self.progress_interval,
            &mut self.dead_after,
            &mut self.greeting,
            &mut self.write_stall,
            &mut self.retry,
            &mut self.repair_spread,
        ];
        waits.into_iter().for_each(|wait| *wait = FOR_EVER.min(*wait));
        // Without a pause between two of them there would be nothing but progress.
        self.progress_interval = self.progress_interval.max(Duration::from_millis(1));
        self
    }

    /// The defaults, for this hub and name.
    #[must_use]
    pub fn new(hubs: impl Into<String>, gateway_id: impl Into<String>) -> Self {
        Self {
            hubs: hubs.into(),
            leave_log_after: Duration::from_secs(30),
            hub_token: None,
            hub_token_source: None,
            gateway_id: gateway_id.into(),
            window: Bounds::default(),
            access: Access::default(),
            allowed_origins: Vec::new(),
            ignored_query: Vec::new(),
            limits: UserLimits::default(),
            trusted_proxies: Proxies::default(),
            shown_attributes: Vec::new(),
            event_bytes: 64 << 10,
            topics: 128,
            mailbox_slots: 256,
            progress_interval: Duration::from_secs(25),
            dead_after: Duration::from_secs(60),
            greeting: Duration::from_secs(5),
            write_stall: Duration::from_secs(5),
            client_frames_per_second: 10,
            retry: Duration::from_secs(1),
            repair_spread: Duration::from_secs(30),
            return_slots: 1_000,
            report_every: Some(Duration::from_secs(5)),
            tracing: Tracing::default(),
            shown_hub: None,
        }
    }
}
