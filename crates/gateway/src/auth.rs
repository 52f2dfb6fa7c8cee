//! Who may connect: JSON Web Tokens signed with a key of the local set, or names taken on trust in development.
//!
//! The algorithm belongs to the key, never to the token; a key comes from the local set, never from where a token points.
//! The time is the gateway's own clock, so the library's checks of it are off and made here.

use std::collections::BTreeMap;
use std::fmt;

use galaxy_push_core::recipient::check_id;
use galaxy_push_proto::validate::CLOCK_SKEW;
use galaxy_push_proto::{Failure, Reason};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use tonic::Code;

use crate::grants::{Grants, Identity, Issued};

#[cfg(test)]
mod tests;

/// The longest token, in bytes.
const TOKEN_BYTES_MAX: usize = 4 * 1024;

/// How far the clocks of a token's issuer and of this gateway may differ, in seconds.
const SKEW: f64 = CLOCK_SKEW.as_secs() as f64;

/// The shortest secret for HS256, in bytes: as long as the hash (RFC 7518, section 3.2).
const SECRET_BYTES_MIN: usize = 32;

/// An Ed25519 public key, in bytes.
const ED25519_BYTES: usize = 32;

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

/// The keys that users' tokens are signed with, and what the tokens must say.
#[derive(Clone)]
pub struct Keys {
    by_id: BTreeMap<String, Key>,
    /// A key without an id, for tokens that name none.
    anonymous: Option<Key>,
    audience: Option<String>,
    issuer: Option<String>,
}

#[derive(Clone)]
struct Key {
    algorithm: Algorithm,
    key: DecodingKey,
}

/// Why a key set cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The text is no JSON Web Key Set.
    #[error("not a JSON Web Key Set: expected {{\"keys\": [...]}} (RFC 7517)")]
    NotASet(#[source] serde_json::Error),
    /// There is nothing to check tokens with.
    #[error("the key set is empty: add a key of type `oct` for HS256 or `OKP` with Ed25519 for EdDSA")]
    Empty,
    /// One of the keys cannot be used.
    #[error("key {name}: {why}")]
    Key {
        /// Its `kid`, or its place in the set.
        name: String,
        /// What is wrong, and what to do.
        why: &'static str,
    },
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
    /// Reads a JSON Web Key Set.
    ///
    /// # Errors
    ///
    /// Not a key set, no key in it, or a key that is not one of the two kinds or is unsafe. One bad key refuses all, so
    /// that nobody finds out from a user.
    pub fn from_jwks(json: &[u8]) -> Result<Self, KeysError> {
        let set: JwkSet = serde_json::from_slice(json).map_err(KeysError::NotASet)?;
        let mut keys = Self { by_id: BTreeMap::new(), anonymous: None, audience: None, issuer: None };
        for (at, jwk) in set.keys.iter().enumerate() {
            let id = jwk.common.key_id.clone();
            let name = || id.clone().unwrap_or_else(|| format!("number {}", at + 1));
            let bad = |why| KeysError::Key { name: name(), why };
            let key = Key::read(jwk).map_err(bad)?;
            let replaced = match &id {
                Some(id) => keys.by_id.insert(id.clone(), key),
                None => keys.anonymous.replace(key),
            };
            if replaced.is_some() {
                return Err(bad(
                    "there is another key with the same `kid`, or without one: give each key its own",
                ));
            }
        }
        if keys.by_id.is_empty() && keys.anonymous.is_none() {
            return Err(KeysError::Empty);
        }
        Ok(keys)
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
        self.accept(claims, unix_ms as f64 / 1_000.0)
    }

    /// Nothing inside the token is looked at before its signature, but for the header that names the key.
    fn verify(&self, token: &str) -> Result<Claims, Failure> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(invalid("the token is longer than 4096 bytes"));
        }
        let header =
            jsonwebtoken::decode_header(token).map_err(|_| invalid("this is no token: it must be a JWT"))?;
        if header.crit.is_some() {
            return Err(invalid("the token requires an extension that this gateway does not know"));
        }
        if header
            .typ
            .is_some_and(|typ| !typ.eq_ignore_ascii_case("jwt") && !typ.eq_ignore_ascii_case("at+jwt"))
        {
            return Err(invalid("the token is of another type than JWT"));
        }
        let key = match &header.kid {
            Some(id) => self.by_id.get(id),
            // A token that names no key is taken only where there is no choice.
            None => self
                .anonymous
                .as_ref()
                .or_else(|| self.by_id.values().next().filter(|_| self.by_id.len() == 1)),
        };
        let key = key.ok_or_else(|| invalid("the token names no key of this gateway"))?;
        let mut validation = Validation::new(key.algorithm);
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
        jsonwebtoken::decode(token, &key.key, &validation)
            .map(|token| token.claims)
            .map_err(|_| invalid("the token's signature or claims are not valid"))
    }

    fn accept(&self, claims: Claims, now: f64) -> Result<Identity, Failure> {
        let exp = claims.exp.ok_or_else(|| invalid("the token has no expiry: `exp` is required"))?;
        if now >= exp + SKEW {
            return Err(invalid("the token has expired: get a new one"));
        }
        if claims.nbf.is_some_and(|nbf| nbf > now + SKEW) || claims.iat.is_some_and(|iat| iat > now + SKEW) {
            return Err(invalid("the token is not valid yet: check the clocks"));
        }
        if self.issuer.is_some() && self.issuer != claims.iss {
            return Err(invalid("the token is of another issuer"));
        }
        match (&self.audience, &claims.aud) {
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
        let Some(user) = claims.sub.filter(|sub| check_id(sub).is_ok()) else {
            return Err(invalid("the token names no valid user: `sub` is required"));
        };
        if claims.sid.as_ref().is_some_and(|sid| check_id(sid).is_err()) {
            return Err(invalid("the token's session is not valid: check `sid`"));
        }
        let grants = Grants::of_names(&claims.topics.unwrap_or_default()).ok_or_else(|| {
            invalid("the token's `topics` are not valid: names, or beginnings with one trailing `*`")
        })?;
        // One that was taken within the skew gets the skew.
        let ends = if now < exp { exp } else { exp + SKEW };
        Ok(Identity {
            user: Some(user),
            session: claims.sid,
            grants,
            // One that does not say is older than any invalidation; none is of later than now, whatever its issuer's clock
            // says, or it would outlive an invalidation that is soon to come.
            issued: claims
                .iat
                .map_or(Issued::default(), |iat| Issued::by_token((iat.min(now) * 1_000.0) as u64)),
            expires_unix_ms: Some((ends * 1_000.0) as u64),
        })
    }
}

impl Key {
    fn read(jwk: &Jwk) -> Result<Self, &'static str> {
        let key = DecodingKey::from_jwk(jwk).map_err(|_| "cannot be read: its values must be base64url")?;
        let bytes = key.try_get_as_bytes().map_or(0, <[u8]>::len);
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::OctetKey(_) if bytes < SECRET_BYTES_MIN => {
                return Err("the secret is shorter than 32 bytes: make one with `openssl rand 32`");
            }
            AlgorithmParameters::OctetKey(_) => Algorithm::HS256,
            AlgorithmParameters::OctetKeyPair(pair)
                if pair.curve != EllipticCurve::Ed25519 || bytes != ED25519_BYTES =>
            {
                return Err("not an Ed25519 key of 32 bytes");
            }
            AlgorithmParameters::OctetKeyPair(_) => Algorithm::EdDSA,
            _ => return Err("only `oct` (HS256) and `OKP` with Ed25519 (EdDSA) are taken"),
        };
        let named = jwk.common.key_algorithm.map(|named| Algorithm::try_from(named).ok());
        if named.is_some_and(|named| named != Some(algorithm)) {
            return Err("its `alg` does not fit: HS256 for `oct`, EdDSA for `OKP`");
        }
        if jwk.common.public_key_use.as_ref().is_some_and(|meant| *meant != PublicKeyUse::Signature) {
            return Err("its `use` is not `sig`: take a key that is meant for signatures");
        }
        Ok(Self { algorithm, key })
    }
}

/// What a token says. A claim that is there twice, or of another type, makes the token invalid.
#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    sid: Option<String>,
    topics: Option<Vec<String>>,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
    iss: Option<String>,
    aud: Option<Audience>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn names(&self, wanted: &str) -> bool {
        match self {
            Self::One(one) => one == wanted,
            Self::Many(many) => many.iter().any(|one| one == wanted),
        }
    }
}

fn invalid(message: &str) -> Failure {
    Failure::new(Reason::NotGranted, message).code(Code::Unauthenticated)
}

fn name(field: &str, id: &str) -> Result<Option<String>, Failure> {
    if id.is_empty() {
        return Ok(None);
    }
    check_id(id).map_err(|why| {
        Failure::new(Reason::RecipientInvalid, format!("`{field}` is not valid: {why}")).field(field)
    })?;
    Ok(Some(id.to_owned()))
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.by_id.keys().collect();
        f.debug_struct("Keys").field("ids", &names).field("audience", &self.audience).finish_non_exhaustive()
    }
}
