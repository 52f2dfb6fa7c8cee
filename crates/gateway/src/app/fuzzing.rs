//! The door by which fuzzing comes to the check of tokens, which is private. Called by `fuzz/targets` alone.

use super::auth::{Access, Keys};

/// Whom a token was taken for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// The user.
    pub user: Option<String>,
    /// The session.
    pub session: Option<String>,
    /// When the token ends, in milliseconds since the Unix epoch.
    pub expires_unix_ms: Option<u64>,
}

/// Who presents this token at this time; `None`: it is refused.
#[must_use]
pub fn identify(keys: &Keys, token: &str, unix_ms: u64) -> Option<Identified> {
    let identity = Access::keys(keys.clone()).token(token, unix_ms).ok()?;
    Some(Identified {
        user: identity.user,
        session: identity.session,
        expires_unix_ms: identity.expires_unix_ms,
    })
}
