//! The settings that say how to reach a hub, common to client and publisher.
//!
//! Filled by both builders, and made a [`Dialer`] once everything is checked. It opens nothing itself.

use std::sync::Arc;

use crate::hub_url::HubUrl;
use crate::token::Token;
use crate::transport::Dialer;
use crate::{BuildError, Connector, TcpConnector};

/// Where the hubs are, and how to speak to them.
pub(crate) struct DialConfig {
    hubs: Vec<Result<HubUrl, BuildError>>,
    connector: Arc<dyn Connector>,
    /// `None` inside: it cannot be sent.
    token: Option<Option<Token>>,
    #[cfg(feature = "tls")]
    tls: Option<crate::Tls>,
}

impl DialConfig {
    pub(crate) fn new() -> Self {
        Self {
            hubs: Vec::new(),
            connector: Arc::new(TcpConnector),
            token: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    pub(crate) fn hub(&mut self, urls: &str) {
        match HubUrl::parse_list(urls) {
            Ok(hubs) => self.hubs.extend(hubs.into_iter().map(Ok)),
            Err(error) => self.hubs.push(Err(error)),
        }
    }

    pub(crate) fn connector(&mut self, connector: impl Connector) {
        self.connector = Arc::new(connector);
    }

    pub(crate) fn token(&mut self, token: &str) {
        self.token = Some(Token::fixed(token));
    }

    pub(crate) fn token_from(&mut self, source: impl Fn() -> Option<String> + Send + Sync + 'static) {
        self.token = Some(Token::from(Box::new(source)));
    }

    #[cfg(feature = "tls")]
    pub(crate) fn tls(&mut self, tls: crate::Tls) {
        self.tls = Some(tls);
    }

    /// Checks it all, and makes the dialer.
    ///
    /// # Errors
    ///
    /// [`BuildError`]: no hub, a URL or a token that cannot be used, or no authorities for `https://`.
    pub(crate) fn dialer(self) -> Result<Dialer, BuildError> {
        let hubs = self.hubs.into_iter().collect::<Result<Vec<_>, _>>()?;
        if hubs.is_empty() {
            return Err(BuildError::NoHub);
        }
        let unsecured = hubs.iter().find(|hub| hub.secure && !self.connector.secures());
        #[cfg(feature = "tls")]
        let tls = match (self.tls, unsecured) {
            (None, Some(_)) => Some(crate::Tls::system()?),
            (tls, _) => tls,
        };
        #[cfg(not(feature = "tls"))]
        if let Some(hub) = unsecured {
            let why = "https:// needs the feature `tls`, or a connector that secures";
            return Err(BuildError::HubUrl { url: hub.origin.clone(), why });
        }
        let token = self.token.map(|token| token.ok_or(BuildError::Token)).transpose()?;
        Ok(Dialer {
            hubs,
            connector: self.connector,
            token,
            #[cfg(feature = "tls")]
            tls,
        })
    }
}

impl std::fmt::Debug for DialConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reach").field("hubs", &self.hubs).finish_non_exhaustive()
    }
}
