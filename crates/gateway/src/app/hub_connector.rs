//! How connections to the hubs are made: by the client that follows the log, and by the proxy of development mode.
//!
//! Built from the settings at the start. It makes connections and keeps none.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use galaxy_push_client::{Connecting, Connector, Io};
use http::Uri;
use http::uri::Authority;
use tokio::time::timeout;

use super::config::HubToken;

/// How long one hub may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Makes connections to the hubs. A cheap clone.
#[derive(Clone)]
pub(crate) struct HubConnector {
    connector: Arc<dyn Connector>,
    /// The hubs' hosts and ports, in the order of the settings.
    hubs: Vec<Authority>,
    /// What a connection is authenticated with, unless a source of tokens is set.
    pub(crate) token: Option<HubToken>,
}

/// A connector that several owners share.
struct SharedConnector(Arc<dyn Connector>);

impl HubConnector {
    /// To these hubs, with commas between their URLs. What is no URL is left out here; the client refuses it.
    pub(crate) fn new(connector: Arc<dyn Connector>, hubs: &str, token: Option<HubToken>) -> Self {
        let hubs = hubs.split(',').filter_map(|url| url.trim().parse::<Uri>().ok()?.into_parts().authority);
        Self { connector, hubs: hubs.collect(), token }
    }

    /// The same connector, for the client to own.
    pub(crate) fn to_client(&self) -> impl Connector + use<> {
        SharedConnector(self.connector.clone())
    }

    /// Connects to the first hub that accepts. `None`: none did.
    pub(crate) async fn connect(&self) -> Option<(Box<dyn Io>, &Authority)> {
        let default_port = if self.connector.secures() { 443 } else { 80 };
        for hub in &self.hubs {
            let host = hub.host().trim_start_matches('[').trim_end_matches(']');
            let connecting = self.connector.connect(host, hub.port_u16().unwrap_or(default_port));
            match timeout(CONNECT_WITHIN, connecting).await {
                Ok(Ok(io)) => return Some((io, hub)),
                Ok(Err(error)) => tracing::debug!(%hub, %error, "cannot pass a publish on"),
                Err(_) => tracing::debug!(%hub, "cannot pass a publish on: no connection in time"),
            }
        }
        None
    }
}

impl Connector for SharedConnector {
    fn connect(&self, host: &str, port: u16) -> Connecting {
        self.0.connect(host, port)
    }

    fn secures(&self) -> bool {
        self.0.secures()
    }
}

impl fmt::Debug for HubConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubConnector").field("hubs", &self.hubs).finish_non_exhaustive()
    }
}
