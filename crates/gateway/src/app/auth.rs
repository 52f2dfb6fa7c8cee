//! Who may connect: JSON Web Tokens signed with a key of the local set, or names taken on trust in development.
//!
//! The algorithm is one that the key is for, never whatever the token says; a key comes from the local set (`keys.rs`), never
//! from where a token points.
//! The time is the gateway's own clock, so the library's checks of it are off and made here.

mod claims;
mod keys;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use galaxy_push_core::recipient::check_name;
use galaxy_push_proto::validate::CLOCK_SKEW;
use galaxy_push_proto::{Failure, Reason};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};
use serde_json::Value;
use tonic::Code;

pub use self::keys::{KeysError, Skipped};

use self::claims::Claims;
use self::keys::Set;
use crate::state::grants::{Grants, Identity, Issued};

/// The longest token, in bytes: people with many groups have long ones. The listener takes heads of twice that.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// How far a token's issuer may be ahead of this gateway's clock, in seconds.
const SKEW: f64 = CLOCK_SKEW.as_secs() as f64;

/// How users say who they are.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Access {
    /// Takes `user` and `session` on trust from whoever connects, and checks Host and Origin instead. For one
    /// developer's own machine, and not together with keys.
    pub development: Option<Development>,
    /// The keys that users' tokens are signed with.
    pub keys: Option<Keys>,
}

/// Who is let in where whoever connects is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Development {
    /// Whoever comes directly: a request with `Forwarded`, `X-Forwarded-*` or `Via` may be anybody's, and is refused.
    Direct,
    /// Whoever comes, through a proxy as well.
    Proxied,
}

/// The keys that users' tokens are signed with, and what the tokens must say. Cheap to clone; clones have the same keys, and
/// get new ones together.
#[derive(Clone)]
pub struct Keys {
    set: Arc<RwLock<Arc<Set>>>,
    audience: Option<String>,
    issuer: Option<String>,
}

impl Access {
    /// Development mode, for whoever comes directly: no keys.
    #[must_use]
    pub fn development() -> Self {
        Self { development: Some(Development::Direct), keys: None }
    }

    /// Tokens signed with one of these keys.
    #[must_use]
    pub fn keys(keys: Keys) -> Self {
        Self { development: None, keys: Some(keys) }
    }

    /// Who presents this token.
    ///
    /// # Errors
    ///
    /// The token is not valid, or there are no keys to check it with.
    pub(crate) fn token(&self, token: &str, unix_ms: u64) -> Result<Identity, Failure> {
        match &self.keys {
            Some(keys) => keys.identify(token, unix_ms),
            None => Err(invalid("this gateway has no keys to check a token with: leave the token out")),
        }
    }

    /// Who somebody without a token is.
    ///
    /// # Errors
    ///
    /// A token is needed, or a name is not valid.
    pub(crate) fn names(&self, user: &str, session: &str, unix_ms: u64) -> Result<Identity, Failure> {
        if self.development.is_none() {
            if user.is_empty() && session.is_empty() {
                let message = "a token is needed: send it as `Authorization: Bearer …`, or in the first WebSocket \
                               message";
                return Err(Failure::new(Reason::NotGranted, message).code(Code::Unauthenticated));
            }
            let message = "`user` and `session` stand in for a token in development mode only: send a token";
            return Err(Failure::new(Reason::RequestInvalid, message));
        }
        Ok(Identity {
            user: name("user", user)?,
            session: name("session", session)?,
            grants: Grants::everything(),
            issued: Issued::on_trust(unix_ms),
            expires_unix_ms: None,
        })
    }
}

impl Keys {
    /// Reads a JSON Web Key Set: `oct` for HS256, `RSA` for RS256-512 and PS256-512, `EC` with P-256 or P-384 for ES256 and
    /// ES384, `OKP` with Ed25519 for EdDSA; a key with `alg` for that one alone. Others are [skipped](Self::skipped). A set
    /// without any key of use lets nobody in.
    ///
    /// # Errors
    ///
    /// Not a key set.
    pub fn from_jwks(json: &[u8]) -> Result<Self, KeysError> {
        let set = Arc::new(RwLock::new(Arc::new(Set::read(json)?)));
        Ok(Self { set, audience: None, issuer: None })
    }

    /// Takes the keys of this set in place of those before, for all clones. A token of a key that is gone is refused from
    /// now on, also where none is left; connections that are open stay.
    ///
    /// # Errors
    ///
    /// As [`Keys::from_jwks`]; the keys before stay.
    pub fn replace(&self, json: &[u8]) -> Result<(), KeysError> {
        let set = Arc::new(Set::read(json)?);
        *self.set.write().unwrap_or_else(PoisonError::into_inner) = set;
        Ok(())
    }

    /// The keys of the set that no token is checked with, and why.
    #[must_use]
    pub fn skipped(&self) -> Vec<Skipped> {
        self.set().skipped.clone()
    }

    /// The ids of the keys, in the order of the set; `None`: a key without one.
    #[must_use]
    pub fn ids(&self) -> Vec<Option<String>> {
        self.set().keys.iter().map(|key| key.id.clone()).collect()
    }

    fn set(&self) -> Arc<Set> {
        self.set.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes tokens for this audience only: `aud` must name it. Without an audience, a token with `aud` is refused: it is
    /// meant for somebody, and nobody said for whom.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Takes tokens of this issuer only: `iss` must equal it.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    fn identify(&self, token: &str, unix_ms: u64) -> Result<Identity, Failure> {
        let claims = self.verify(token)?;
        self.accept(claims, unix_ms)
    }

    /// Nothing inside the token is looked at before its signature, but for the header that names the key.
    fn verify(&self, token: &str) -> Result<Claims, Failure> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(invalid(&format!("the token is longer than {TOKEN_BYTES_MAX} bytes")));
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| invalid(&header_fault(token)))?;
        if header.crit.is_some() {
            return Err(invalid("the token requires an extension that this gateway does not know"));
        }
        if header.typ.as_deref().is_some_and(|typ| !is_jwt(typ)) {
            return Err(invalid("the token is of another type than JWT"));
        }
        let set = self.set();
        let mut fitting = set.fitting(header.kid.as_deref(), header.alg).peekable();
        if fitting.peek().is_none() {
            return Err(invalid(&set.misfit(header.alg)));
        }
        let mut validation = Validation::new(header.alg);
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
        for key in fitting {
            match jsonwebtoken::decode(token, &key.key, &validation) {
                Ok(token) => return Ok(token.claims),
                // The signature is good: it is looked at first.
                Err(error) if matches!(error.kind(), ErrorKind::Json(_)) => {
                    let claims = jsonwebtoken::decode(token, &key.key, &validation);
                    let claims = claims.map_or(Value::Null, |token| token.claims);
                    return Err(invalid(&claims::fault(&claims)));
                }
                Err(_) => {}
            }
        }
        Err(invalid("the token's signature is not valid: it is of another key"))
    }

    fn accept(&self, claims: Claims, unix_ms: u64) -> Result<Identity, Failure> {
        let now = unix_ms as f64 / 1_000.0;
        let exp = claims.exp.ok_or_else(|| invalid("the token has no expiry: `exp` is required"))?;
        // To be let in and to stay are one, also by the millisecond: whoever is cut off at the end is not let in again behind it.
        let expires_unix_ms = (exp * 1_000.0) as u64;
        if unix_ms >= expires_unix_ms {
            return Err(invalid("the token has expired: get a new one"));
        }
        if claims.nbf.is_some_and(|nbf| nbf > now + SKEW) || claims.iat.is_some_and(|iat| iat > now + SKEW) {
            return Err(invalid("the token is not valid yet: check the clocks"));
        }
        if self.issuer.is_some() && self.issuer != claims.iss {
            return Err(invalid("the token is of another issuer"));
        }
        match (&self.audience, &claims.aud) {
            (Some(_), None) => {
                let message = "the token is for no audience: `aud` is required, and must name the --user-audience of this gateway";
                return Err(invalid(message));
            }
            (Some(wanted), aud) if !aud.as_ref().is_some_and(|aud| aud.names(wanted)) => {
                return Err(invalid("the token is for another audience"));
            }
            // Who issued it meant somebody, and nobody has said that this is who (RFC 7519, section 4.1.3).
            (None, Some(_)) => {
                let message = "the token is for an audience (`aud`), and this gateway does not know that it is the one: \
                               start it with --user-audience, or leave `aud` out";
                return Err(invalid(message));
            }
            _ => {}
        }
        let Some(user) = claims.sub else {
            return Err(invalid("the token names no user: `sub` is required"));
        };
        check_name(&user).map_err(|why| invalid(&format!("the token's user, `sub`, is not valid: {why}")))?;
        claims
            .sid
            .as_deref()
            .map_or(Ok(()), check_name)
            .map_err(|why| invalid(&format!("the token's session, `sid`, is not valid: {why}")))?;
        let grants = Grants::of_names(&claims.topics.unwrap_or_default()).ok_or_else(|| {
            invalid("the token's `topics` are not valid: names, or beginnings with one trailing `*`")
        })?;
        Ok(Identity {
            user: Some(user),
            session: claims.sid,
            grants,
            // One that does not say is older than any invalidation; none is of later than now, whatever its issuer's clock
            // says, or it would outlive an invalidation that is soon to come.
            issued: claims
                .iat
                .map_or(Issued::default(), |iat| Issued::by_token((iat.min(now) * 1_000.0) as u64)),
            expires_unix_ms: Some(expires_unix_ms),
        })
    }
}

/// Whether a token of this `typ` says who somebody is (RFC 7519, section 5.1; RFC 9068, section 2.1).
fn is_jwt(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}

/// What is wrong with the header of a token that the library does not read: mostly an `alg` that it does not know.
fn header_fault(token: &str) -> String {
    let header = token.split('.').next().and_then(|header| URL_SAFE_NO_PAD.decode(header).ok());
    let header: Option<Value> = header.and_then(|header| serde_json::from_slice(&header).ok());
    let alg = header.as_ref().and_then(|header| header.get("alg")?.as_str());
    // What looks like no algorithm is not said again.
    let is_fit = |alg: &&str| alg.len() <= 16 && alg.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match alg.filter(is_fit) {
        Some(alg) if alg.parse::<Algorithm>().is_err() => format!(
            "the token's `alg` is {alg}, which is not taken: sign with RS256-512, PS256-512, ES256, ES384, EdDSA or HS256"
        ),
        _ => "this is no token: it must be a JWT".to_owned(),
    }
}

fn invalid(message: &str) -> Failure {
    Failure::new(Reason::NotGranted, message).code(Code::Unauthenticated)
}

fn name(field: &str, id: &str) -> Result<Option<String>, Failure> {
    if id.is_empty() {
        return Ok(None);
    }
    check_name(id).map_err(|why| {
        Failure::new(Reason::RecipientInvalid, format!("`{field}` is not valid: {why}")).field(field)
    })?;
    Ok(Some(id.to_owned()))
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("ids", &self.ids())
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}
