//! The token a user presents where gateways ask for one: short of life, so that it has to be refreshed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use galaxy_push_gateway::{Access, Keys};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use tokio::time::Instant;

/// How long a stubborn user comes back with what is void, until it signs in anew.
const STUBBORN_FOR: Duration = Duration::from_secs(10);

/// What a user does who is told that its session has ended, instead of signing in anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stubborn {
    /// It comes back with the token it has, like a thief.
    Token,
    /// It gets a new token of the same session.
    Session,
}

/// A stubborn user between connections. Clones are the same user.
#[derive(Clone, Debug, Default)]
pub struct Stubbornness(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    token: Option<(String, u64)>,
    /// When it was told that its session has ended, since it signed in last.
    told: Option<Instant>,
}

impl Stubbornness {
    /// The token it has, and when that was issued.
    pub(crate) fn token(&self) -> Option<(String, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).token.clone()
    }

    pub(crate) fn keep(&self, token: &str, issued_us: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).token = Some((token.to_owned(), issued_us));
    }

    /// It is told that its session has ended; whether it gives in.
    pub(crate) fn told(&self) -> bool {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gives_in = kept.told.get_or_insert_with(Instant::now).elapsed() >= STUBBORN_FOR;
        if gives_in {
            *kept = Kept::default();
        }
        gives_in
    }
}

/// What users' tokens are signed with.
const SECRET: &[u8; 32] = b"only for the simulation, 32 byte";

/// What gateways know of it.
///
/// # Errors
///
/// When they do not take the key.
pub fn access() -> anyhow::Result<Access> {
    Ok(Access::keys(Keys::from_jwks(jwks().as_bytes())?))
}

/// The same as a file for `--user-keys`.
#[must_use]
pub fn jwks() -> String {
    let key = json!({"kty": "oct", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(SECRET)});
    json!({ "keys": [key] }).to_string()
}

/// A token for a user and a session, who may ask for every topic.
///
/// # Errors
///
/// When it cannot be signed.
pub fn issue(user: &str, session: &str, now_unix_ms: u64, life: Duration) -> anyhow::Result<String> {
    issue_for(user, session, None, now_unix_ms, life)
}

/// The same for one who may ask for these topics, if not for every one.
///
/// # Errors
///
/// When it cannot be signed.
pub fn issue_for(
    user: &str,
    session: &str,
    grants: Option<&[String]>,
    now_unix_ms: u64,
    life: Duration,
) -> anyhow::Result<String> {
    let expires = (now_unix_ms + life.as_millis() as u64) / 1_000;
    let mut claims = json!({"sub": user, "topics": grants.map_or_else(|| json!(["*"]), |grants| json!(grants)), "exp": expires, "iat": now_unix_ms / 1_000});
    if !session.is_empty() {
        claims["sid"] = session.into();
    }
    Ok(jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET))?)
}
