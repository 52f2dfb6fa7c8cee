//! Who may do what at the hub: identities, their roles and the limits of each.
//!
//! Built by whoever starts the hub, asked by every surface before it does anything. An identity is recognised by the
//! name in its certificate or by a token of its own; the role, the recipients and the rate belong to the identity, never
//! to what a peer says of itself. With no identities at all, everybody may do everything: for loopback.

mod rate;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use galaxy_push_core::recipient::Pattern;
use galaxy_push_listener::PeerNames;
use galaxy_push_proto::{Failure, Reason, v1};
use http::{Extensions, HeaderMap, header};
use sha2::{Digest as _, Sha256};
use tonic::Code;

use rate::Rate;

/// The event attribute in which the hub writes who published it, when it knows. A publisher's own value is replaced.
pub const PUBLISHER_ATTRIBUTE: &str = "publisher";

/// What an identity is for. The roles are separate: a publisher cannot read, a gateway cannot publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Publishes events and standing records, and asks for the head.
    Publisher,
    /// Subscribes under its own name, replays, reports, and asks for the head.
    Gateway,
    /// Subscribes under any name: `tail` and other tools.
    Operator,
}

/// Somebody the hub knows.
#[derive(Clone, Debug)]
pub struct Identity {
    name: String,
    role: Role,
    recipients: Vec<Pattern>,
    events_per_second: Option<u32>,
}

/// Everybody the hub knows, and how it recognises them.
#[derive(Clone, Debug, Default)]
pub struct Access {
    by_name: BTreeMap<String, Vec<Arc<Known>>>,
    by_token: HashMap<[u8; 32], Arc<Known>>,
}

#[derive(Debug)]
struct Known {
    identity: Identity,
    rate: Option<Rate>,
}

/// Who makes a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller(Option<Arc<Known>>);

impl Identity {
    /// An identity of this name and role, for all recipients and without a limit of its rate.
    #[must_use]
    pub fn new(name: impl Into<String>, role: Role) -> Self {
        Self { name: name.into(), role, recipients: Vec::new(), events_per_second: None }
    }

    /// Limits it to recipients that one of these patterns admits.
    #[must_use]
    pub fn recipients(mut self, patterns: impl IntoIterator<Item = Pattern>) -> Self {
        self.recipients = patterns.into_iter().collect();
        self
    }

    /// Limits how many events it publishes per second; a second's worth may come at once.
    #[must_use]
    pub fn events_per_second(mut self, limit: u32) -> Self {
        self.events_per_second = Some(limit);
        self
    }

    fn admits(&self, recipient: &str) -> bool {
        self.recipients.is_empty() || self.recipients.iter().any(|pattern| pattern.admits(recipient))
    }
}

impl Access {
    /// Everybody may do everything.
    #[must_use]
    pub fn open() -> Self {
        Self::default()
    }

    /// Adds an identity that is recognised by the name in its certificate and, if there is one, by its token.
    #[must_use]
    pub fn with(mut self, identity: Identity, token: Option<&str>) -> Self {
        let rate = identity.events_per_second.map(Rate::new);
        let known = Arc::new(Known { identity, rate });
        if let Some(token) = token {
            self.by_token.insert(fingerprint(token), known.clone());
        }
        self.by_name.entry(known.identity.name.clone()).or_default().push(known);
        self
    }

    fn is_open(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Who makes a request, for the role that it needs.
    ///
    /// # Errors
    ///
    /// UNAUTHENTICATED when the peer is nobody known, PERMISSION_DENIED when it is known but not for this.
    pub(crate) fn identify(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        roles: &[Role],
    ) -> Result<Caller, Failure> {
        if self.is_open() {
            return Ok(Caller(None));
        }
        let candidates = match bearer(headers) {
            // Looking a fingerprint up takes no time that depends on how much of a token was guessed.
            Some(token) => self.by_token.get(&fingerprint(token)).into_iter().collect::<Vec<_>>(),
            None => {
                let names = extensions.get::<PeerNames>();
                let names = names.iter().flat_map(|names| names.0.iter());
                names.filter_map(|name| self.by_name.get(name)).flatten().collect()
            }
        };
        if candidates.is_empty() {
            let message = "who is this? present a certificate of this hub's authority, or a token in `authorization`";
            return Err(Failure::new(Reason::NotGranted, message).code(Code::Unauthenticated));
        }
        match candidates.iter().find(|known| roles.contains(&known.identity.role)) {
            Some(known) => Ok(Caller(Some(Arc::clone(known)))),
            None => Err(denied(format!("{} has no role for this", candidates[0].identity.name))),
        }
    }
}

impl Caller {
    /// Whether it may publish these events now, and in whose name they go in.
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED for a recipient outside its scope, RESOURCE_EXHAUSTED above its rate. Nothing is counted then.
    pub(crate) fn stamp(&self, events: &mut [v1::Event], now: Duration) -> Result<(), Failure> {
        let Some(known) = &self.0 else { return Ok(()) };
        for (number, event) in events.iter().enumerate() {
            if let Some(at) = event.to.iter().position(|to| !known.identity.admits(to)) {
                let failure = denied(format!("{} may not publish to {}", known.identity.name, event.to[at]));
                return Err(failure.field(format!("events[{number}].to[{at}]")));
            }
        }
        if let Some(rate) = &known.rate {
            rate.take(events.len() as u32, now).map_err(|wait| {
                Failure::new(Reason::Overloaded, format!("{} publishes faster than its limit", known.identity.name))
                    .code(Code::ResourceExhausted)
                    .http_status(429)
                    .retry_after(wait)
            })?;
        }
        for event in events {
            event.attributes.insert(PUBLISHER_ATTRIBUTE.to_owned(), known.identity.name.clone());
        }
        Ok(())
    }

    /// Whether it may subscribe under this gateway id, and to what: the asked patterns, or its scope when it asks for
    /// everything.
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED for another gateway's id, or for a pattern outside its scope.
    pub(crate) fn subscribe(&self, gateway_id: &str, asked: Vec<Pattern>) -> Result<Vec<Pattern>, Failure> {
        let Some(known) = &self.0 else { return Ok(asked) };
        let identity = &known.identity;
        if identity.role == Role::Gateway && identity.name != gateway_id {
            return Err(denied(format!("{} may not subscribe as {gateway_id}", identity.name)));
        }
        if identity.recipients.is_empty() {
            return Ok(asked);
        }
        if asked.is_empty() {
            return Ok(identity.recipients.clone());
        }
        match asked.iter().find(|pattern| !identity.recipients.iter().any(|scope| scope.covers(pattern))) {
            Some(pattern) => Err(denied(format!("{} may not ask for {pattern}", identity.name))),
            None => Ok(asked),
        }
    }

    /// The name for logs; empty for nobody in particular.
    pub(crate) fn name(&self) -> &str {
        self.0.as_ref().map_or("", |known| &known.identity.name)
    }
}

fn denied(message: String) -> Failure {
    Failure::new(Reason::NotGranted, message).code(Code::PermissionDenied)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn fingerprint(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publisher => "publisher",
            Self::Gateway => "gateway",
            Self::Operator => "operator",
        })
    }
}
