//! Who may do what at the hub: identities, their roles and the limits of each.
//!
//! Built by whoever starts the hub, asked by every surface before it does anything. An identity is recognised by the name
//! in its certificate or by a token of its own. The role, the recipients and the rate belong to the identity, never to what
//! a peer says of itself.
//!
//! | access | who is let in |
//! |---|---|
//! | [`Access::open`] | everybody, for everything: for loopback and tests |
//! | [`Access::closed`] | nobody, until identities are added |
//! | with identities | those, each for its role: a publisher cannot read, a gateway cannot publish |
//!
//! Which roles each method and path needs is in `surface/authorize.rs`, which also reads the credentials off a request.
//! The access may be replaced while the hub runs (`access/current.rs`).

pub(crate) mod current;
mod identity;
mod refused_cost;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use galaxy_push_core::rate::Rate;
use galaxy_push_core::recipient::{Pattern, check_id};
use galaxy_push_proto::{Code, Failure, Reason, v1};
use prost::Message as _;

pub(crate) use current::{Grant, LiveAccess};
pub use identity::{Fingerprint, Identity, InvalidIdentity, Role};

/// The event attribute in which the hub writes who published it, when it knows. A publisher's own value is replaced.
pub const PUBLISHER_ATTRIBUTE: &str = "publisher";

/// Everybody the hub knows, and how it recognises them.
///
/// ```
/// use galaxy_push_core::recipient::Pattern;
/// use galaxy_push_hub::{Access, Fingerprint, Identity, Role};
///
/// let shop = Identity::new("shop", Role::Publisher)
///     .recipients([Pattern::parse("user:*").unwrap()])
///     .events_per_second(500);
/// let access = Access::closed()
///     .with(shop, Some(Fingerprint::of("a token of 32 random bytes")))?
///     .with(Identity::new("gateway-1", Role::Gateway), None)?; // by its certificate alone
/// assert!(!access.is_open());
/// # Ok::<_, galaxy_push_hub::InvalidIdentity>(())
/// ```
#[derive(Clone, Default)]
pub struct Access {
    /// Nobody is admitted but those it names, even if it names nobody.
    is_closed: bool,
    by_name: BTreeMap<String, Vec<Arc<KnownIdentity>>>,
    /// Name and role of the identity with this token. Looked up only, never iterated: its order is not defined.
    by_token: HashMap<Fingerprint, (String, Role)>,
    publishers: usize,
    identities: usize,
}

/// The rate of events, and of the bytes of events; `None`: no limit.
type Rates = [Option<Rate>; 2];

/// An identity as the hub keeps it, with what it has left of its rate.
#[derive(Debug)]
pub(crate) struct KnownIdentity {
    identity: Identity,
    /// Its name once more, to be shared by what it publishes.
    name: Arc<str>,
    /// It is this process's own, whomever the hub knows.
    is_inside: bool,
    /// Shared with whom an older access knew by this name and role, if its limits were the same.
    rates: Arc<Mutex<Rates>>,
}

/// Who makes a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The identities it may be, the first of which counts unless another is asked for. None at all: the hub knows nobody, or
    /// it is the process itself.
    known: Vec<Arc<KnownIdentity>>,
    /// By which it was recognised, unless by a certificate.
    token: Option<Fingerprint>,
}

/// What a peer has shown to be recognised by, as the surface read it off a request.
#[derive(Clone, Debug)]
pub(crate) enum Credential {
    /// The request comes over no network.
    InProcess(InProcess),
    /// A token was presented; `None`: one that cannot be read. It must be good: nobody is let in by a certificate instead.
    Token(Option<Fingerprint>),
    /// No token: the names in the certificate, if there is one.
    Certificate(Option<Arc<[String]>>),
}

/// In the extensions of a request that comes over no network: who makes it, by construction.
#[derive(Clone, Debug)]
pub(crate) struct InProcess(Arc<KnownIdentity>);

impl Access {
    /// Everybody may do everything.
    #[must_use]
    pub fn open() -> Self {
        Self::default()
    }

    /// Nobody may do anything, until identities are added.
    #[must_use]
    pub fn closed() -> Self {
        Self { is_closed: true, ..Self::default() }
    }

    /// Adds an identity, which is recognised by its name among those in a peer's certificate and, where there is one, by
    /// its token. A name may be given twice, for two roles; a certificate may name several gateways.
    ///
    /// # Errors
    ///
    /// [`InvalidIdentity`]: it could not be told from another, or nobody could ever be it.
    pub fn with(mut self, identity: Identity, token: Option<Fingerprint>) -> Result<Self, InvalidIdentity> {
        check_id(identity.name()).map_err(|_| InvalidIdentity::Name)?;
        if self.named(identity.name(), identity.role()).is_some() {
            return Err(InvalidIdentity::Twice { role: identity.role() });
        }
        if identity.limits().contains(&Some(0)) {
            return Err(InvalidIdentity::Rate);
        }
        self.publishers += usize::from(identity.role() == Role::Publisher);
        self.identities += 1;
        let known = Arc::new(KnownIdentity::of(identity));
        if let Some(token) = token
            && let Some((other, _)) = self.by_token.insert(token, known.key())
        {
            return Err(InvalidIdentity::SameToken { other });
        }
        self.by_name.entry(known.identity.name().to_owned()).or_default().push(known);
        Ok(self)
    }

    /// Whether everybody may do everything.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.is_closed && self.by_name.is_empty()
    }

    /// Whether there are several publishers, so that one of them must leave room for the others.
    pub(crate) fn has_several_publishers(&self) -> bool {
        self.publishers > 1
    }

    /// Whom this caller must leave room for others as; `None`: there are no others, or it is no peer.
    pub(crate) fn quota_key(&self, caller: &Caller) -> Option<Arc<str>> {
        let known = caller.known.first().filter(|known| !known.is_inside && self.identities > 1)?;
        Some(known.name.clone())
    }

    /// The identity of this name and role. One name may have several roles, each an identity of its own.
    fn named(&self, name: &str, role: Role) -> Option<&Arc<KnownIdentity>> {
        self.by_name.get(name)?.iter().find(|known| known.identity.role() == role)
    }

    /// This access in place of an older one: an identity that is in both has no more left of its rate than before.
    pub(crate) fn following(mut self, older: &Self, now: Duration) -> Self {
        for known in self.by_name.values_mut().flatten() {
            if let Some(before) = older.named(known.identity.name(), known.identity.role()) {
                let rates = known.rates_after(before, now);
                *known = Arc::new(KnownIdentity { rates, ..KnownIdentity::of(known.identity.clone()) });
            }
        }
        self
    }

    /// Whether a caller that was let in earlier would be let in the same way now: each identity it acts as is unchanged, and
    /// its token, if it came by one, still names that identity.
    pub(crate) fn still_knows(&self, caller: &Caller) -> bool {
        caller.known.iter().all(|known| {
            let same = self.named(known.identity.name(), known.identity.role());
            let same_token = |token| self.by_token.get(token).is_some_and(|of| *of == known.key());
            known.is_inside
                || same.is_some_and(|same| same.identity == known.identity)
                    && caller.token.as_ref().is_none_or(same_token)
        })
    }

    /// Who makes a request, for one of the roles that it needs.
    ///
    /// # Errors
    ///
    /// UNAUTHENTICATED when the peer is nobody known, PERMISSION_DENIED when it is known but not for this.
    pub(crate) fn identify(&self, shown: &Credential, roles: &[Role]) -> Result<Caller, Failure> {
        if self.is_open() {
            return Ok(Caller::process());
        }
        let (candidates, token) = self.candidates(shown);
        let Some(first) = candidates.first() else {
            let message = "who is this? present a certificate or a token (`authorization: Bearer …`) of an identity that this hub \
                 knows";
            return Err(Failure::new(Reason::NotGranted, message).code(Code::Unauthenticated));
        };
        let why = format!(
            "{} is known here as {}, and this is for {}",
            first.identity.name(),
            first.identity.role(),
            identity::plural(roles)
        );
        let fit = |known: &Arc<KnownIdentity>| roles.contains(&known.identity.role());
        let fitting: Vec<_> = candidates.into_iter().filter(fit).collect();
        if fitting.is_empty() { Err(denied(why)) } else { Ok(Caller { known: fitting, token }) }
    }

    /// Who it may be, and by which token, if by one.
    fn candidates(&self, shown: &Credential) -> (Vec<Arc<KnownIdentity>>, Option<Fingerprint>) {
        match shown {
            Credential::InProcess(InProcess(known)) => (vec![known.clone()], None),
            Credential::Token(token) => {
                // Looking a fingerprint up takes no time that depends on how much of a token was guessed.
                let whose = token.as_ref().and_then(|token| self.by_token.get(token));
                let known = whose.and_then(|(name, role)| self.named(name, *role));
                (known.cloned().into_iter().collect(), *token)
            }
            Credential::Certificate(names) => {
                let names = names.iter().flat_map(|names| names.iter());
                (names.filter_map(|name| self.by_name.get(name)).flatten().cloned().collect(), None)
            }
        }
    }
}

impl KnownIdentity {
    fn of(identity: Identity) -> Self {
        let rates = Arc::new(Mutex::new(identity.limits().map(|limit| limit.map(Rate::new))));
        Self { name: identity.name().into(), identity, is_inside: false, rates }
    }

    /// By what a token names it: a replaced access may have another identity under the same name and role.
    fn key(&self) -> (String, Role) {
        (self.identity.name().to_owned(), self.identity.role())
    }

    /// Its rates in place of those that it had: the same ones where the limits are the same, else new ones with what was
    /// spent. So a replaced access gives nobody a second allowance.
    fn rates_after(&self, before: &Self, now: Duration) -> Arc<Mutex<Rates>> {
        let limits = self.identity.limits();
        if limits == before.identity.limits() {
            return before.rates.clone();
        }
        let taken = *before.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = |at: usize| {
            let limit = limits[at]?;
            Some(taken[at].map_or_else(|| Rate::new(limit), |rate| rate.changed_to(limit, now)))
        };
        Arc::new(Mutex::new([0, 1].map(changed)))
    }
}

impl InProcess {
    /// The identity that every request over an in-process router is made by.
    pub(crate) fn new(identity: Identity) -> Self {
        let known = KnownIdentity { is_inside: true, ..KnownIdentity::of(identity) };
        Self(Arc::new(known))
    }
}

impl Caller {
    /// The process itself, or anybody where everybody may do everything.
    pub(crate) const fn process() -> Self {
        Self { known: Vec::new(), token: None }
    }

    /// Whether another access could name it no more.
    pub(crate) fn is_revocable(&self) -> bool {
        self.known.iter().any(|known| !known.is_inside)
    }

    /// Whether it may publish these events now, and in whose name they go in.
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED for a recipient outside its scope, RESOURCE_EXHAUSTED above its rate. Nothing is counted then.
    pub(crate) fn stamp(&self, events: &mut [v1::Event], now: Duration) -> Result<(), Failure> {
        let Some(known) = self.known.first() else { return Ok(()) };
        for (number, event) in events.iter().enumerate() {
            if let Some(at) = event.to.iter().position(|to| !known.identity.admits(to)) {
                return Err(known.outside(&event.to[at], format!("events[{number}].to[{at}]")));
            }
        }
        known.charge(events.len(), events.iter().map(v1::Event::encoded_len), now)?;
        for event in events {
            event.attributes.insert(PUBLISHER_ATTRIBUTE.to_owned(), known.identity.name().to_owned());
        }
        Ok(())
    }

    /// Whether it may void this recipient's tokens. It counts as one event.
    ///
    /// # Errors
    ///
    /// As [`Caller::stamp`].
    pub(crate) fn may_invalidate(
        &self,
        record: &v1::SessionInvalidation,
        now: Duration,
    ) -> Result<(), Failure> {
        let Some(known) = self.known.first() else { return Ok(()) };
        if !known.identity.admits(&record.recipient) {
            return Err(known.outside(&record.recipient, "invalidation.recipient".to_owned()));
        }
        known.charge(1, [record.encoded_len()], now)
    }

    /// Whether it may make these recipients members of these topics, or end that: a member is sent what is for the
    /// topic, so both must be in its scope. Each record counts as one event.
    ///
    /// # Errors
    ///
    /// As [`Caller::stamp`].
    pub(crate) fn may_set(&self, records: &[v1::Membership], now: Duration) -> Result<(), Failure> {
        let Some(known) = self.known.first() else { return Ok(()) };
        for (number, record) in records.iter().enumerate() {
            let field = |name: &str| format!("memberships[{number}].{name}");
            if !known.identity.admits(&record.recipient) {
                return Err(known.outside(&record.recipient, field("recipient")));
            }
            // It may be a pattern itself, and then stands for all that it admits.
            let topic = format!("topic:{}", record.topic);
            if !Pattern::parse(&topic).is_ok_and(|topic| known.identity.covers(&topic)) {
                return Err(known.outside(&topic, field("topic")));
            }
        }
        known.charge(records.len(), records.iter().map(v1::Membership::encoded_len), now)
    }

    /// Who it is under this gateway id: one certificate may name several gateways.
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED for another gateway's id.
    pub(crate) fn acting_as(&self, gateway_id: &str, to_do: &str) -> Result<Self, Failure> {
        let Some(first) = self.known.first() else { return Ok(Self::process()) };
        let may = |known: &&Arc<KnownIdentity>| {
            known.identity.role() == Role::Operator || known.identity.name() == gateway_id
        };
        match self.known.iter().find(may) {
            Some(known) => Ok(Self { known: vec![known.clone()], token: self.token }),
            None => {
                let message = format!(
                    "{} may not {to_do} as {gateway_id}: a gateway's id is the name of its identity",
                    first.identity.name()
                );
                Err(denied(message).field("gateway_client_id"))
            }
        }
    }

    /// To what it may subscribe: the asked patterns, or its scope when it asks for everything.
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED for a pattern outside its scope.
    pub(crate) fn subscribe(&self, asked: Vec<Pattern>) -> Result<Vec<Pattern>, Failure> {
        let Some(known) = self.known.first() else { return Ok(asked) };
        if asked.is_empty() {
            return Ok(known.identity.scope().to_vec());
        }
        match asked.iter().position(|pattern| !known.identity.covers(pattern)) {
            Some(at) => Err(known.outside(&asked[at].to_string(), format!("recipients[{at}]"))),
            None => Ok(asked),
        }
    }

    /// The identity it acts as; `None` for the process itself.
    fn first(&self) -> Option<&Arc<KnownIdentity>> {
        self.known.first()
    }

    /// Whose ids those of its events and records are. Empty for nobody in particular.
    pub(crate) fn publisher(&self) -> Arc<str> {
        self.known.first().map_or_else(Arc::default, |known| known.name.clone())
    }

    /// The name for logs; empty for nobody in particular.
    pub(crate) fn name(&self) -> &str {
        self.known.first().map_or("", |known| known.identity.name())
    }
}

impl KnownIdentity {
    /// The refusal of a recipient that is outside its scope.
    fn outside(&self, recipient: &str, field: String) -> Failure {
        denied(format!("{field}: {recipient} is outside the recipients of {}", self.identity.name()))
            .field(field)
    }

    /// Charges all of it to the rate, or refuses it and charges nothing.
    fn charge(
        &self,
        count: usize,
        bytes: impl IntoIterator<Item = usize>,
        now: Duration,
    ) -> Result<(), Failure> {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        // What nobody limits is not counted either.
        let bytes = if rates[1].is_some() { bytes.into_iter().sum() } else { 0 };
        let wanted = [count, bytes].map(|wanted| wanted as u64);
        self.within(&rates, wanted, now)?;
        spend(&mut rates, wanted, now);
        Ok(())
    }

    /// Whether it may publish so many events and bytes.
    fn check(&self, wanted: [u64; 2], now: Duration) -> Result<(), Failure> {
        self.within(&self.rates.lock().unwrap_or_else(PoisonError::into_inner), wanted, now)
    }

    /// Counts so many events and bytes, whether or not that is more than it may publish.
    fn count(&self, taken: [u64; 2], now: Duration) {
        spend(&mut self.rates.lock().unwrap_or_else(PoisonError::into_inner), taken, now);
    }

    /// Whether so many events and bytes are within its rates now.
    ///
    /// # Errors
    ///
    /// `OVERLOADED`, with the longer of the two waits.
    fn within(&self, rates: &[Option<Rate>; 2], wanted: [u64; 2], now: Duration) -> Result<(), Failure> {
        let waits = [0, 1].map(|at| rates[at].as_ref().and_then(|rate| rate.wait(wanted[at], now)));
        if let Some(at) = waits.iter().position(Option::is_some) {
            let limit = self.identity.limits()[at].unwrap_or_default();
            let message = format!(
                "{} publishes more than its {limit} {} per second: nothing was appended",
                self.identity.name(),
                ["events", "bytes of events"][at]
            );
            let wait = waits.into_iter().flatten().max().unwrap_or_default();
            return Err(Failure::new(Reason::Overloaded, message)
                .code(Code::ResourceExhausted)
                .retry_after(wait));
        }
        Ok(())
    }
}

/// Spends from both rates. They may go below zero: what is owed is waited for.
fn spend(rates: &mut [Option<Rate>; 2], taken: [u64; 2], now: Duration) {
    for (rate, taken) in rates.iter_mut().zip(taken) {
        rate.iter_mut().for_each(|rate| rate.acquire(taken, now));
    }
}

/// Somebody known, but not for this.
fn denied(message: String) -> Failure {
    Failure::new(Reason::NotGranted, message).code(Code::PermissionDenied)
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names =
            self.by_name.values().flatten().map(|known| (known.identity.name(), known.identity.role()));
        f.debug_list().entries(names).finish()
    }
}
