//! The token a user presents where gateways ask for one: short of life, so that it has to be refreshed.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use galaxy_push_gateway::{Access, Keys};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

/// What users' tokens are signed with.
const SECRET: &[u8; 32] = b"only for the simulation, 32 byte";

/// What gateways know of it.
///
/// # Errors
///
/// When they do not take the key.
pub fn access() -> anyhow::Result<Access> {
    let key = json!({"kty": "oct", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(SECRET)});
    Ok(Access::keys(Keys::from_jwks(json!({ "keys": [key] }).to_string().as_bytes())?))
}

/// A token for a user and a session, who may ask for every topic.
///
/// # Errors
///
/// When it cannot be signed.
pub fn issue(user: &str, session: &str, now_unix_ms: u64, life: Duration) -> anyhow::Result<String> {
    let expires = (now_unix_ms + life.as_millis() as u64) / 1_000;
    let mut claims = json!({"sub": user, "topics": ["*"], "exp": expires, "iat": now_unix_ms / 1_000});
    if !session.is_empty() {
        claims["sid"] = session.into();
    }
    Ok(jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET))?)
}
