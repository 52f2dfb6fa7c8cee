//! The keys of a JSON Web Key Set (RFC 7517), as far as tokens can be checked with them.
//!
//! Identity providers publish more than that: keys for encryption, kinds that are new. Those are skipped, each with its
//! reason, and so is a key that is unsafe or broken: its tokens are refused, and the others stay good.

mod soundness;

use std::fmt;

use galaxy_push_proto::json::without_bom;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// What a key set holds. One without keys lets nobody in: that is how the last key is taken out.
#[derive(Debug, Default)]
pub(super) struct Set {
    pub(super) keys: Vec<Key>,
    pub(super) skipped: Vec<Skipped>,
}

/// A key that tokens are checked with.
pub(super) struct Key {
    pub(super) id: Option<String>,
    /// What it is for: its own kind's algorithms, or the one of them that it names.
    algorithms: Vec<Algorithm>,
    pub(super) key: DecodingKey,
}

/// A key of a set that no token is checked with, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skipped {
    /// Its `kid`, or its place in the set.
    pub key: String,
    /// Why, and what to do where something is wrong.
    pub why: String,
    /// Whether something is wrong with it. If not, it is there for somebody else.
    pub is_fault: bool,
}

/// Why a key set cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The text is no JSON Web Key Set.
    #[error("not a JSON Web Key Set: expected {{\"keys\": [...]}} (RFC 7517)")]
    NotASet(#[source] serde_json::Error),
}

#[derive(Deserialize)]
struct SetJson {
    keys: Vec<Value>,
}

/// Why a key is skipped.
enum Why {
    /// It is somebody else's.
    Elsewhere(String),
    Fault(&'static str),
}

impl Set {
    pub(super) fn read(json: &[u8]) -> Result<Self, KeysError> {
        let SetJson { keys } = serde_json::from_slice(without_bom(json)).map_err(KeysError::NotASet)?;
        let mut set = Self::default();
        for (at, jwk) in keys.iter().enumerate() {
            match Key::read(jwk) {
                Ok(key) => set.keys.push(key),
                Err(why) => set.skipped.push(why.of(jwk, at)),
            }
        }
        Ok(set)
    }

    /// The keys that a token of this algorithm may be signed with: that of its `kid`, or any where it has none.
    pub(super) fn fitting(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        let fits = move |key: &&Key| {
            (id.is_none() || key.id.as_deref() == id) && key.algorithms.contains(&algorithm)
        };
        self.keys.iter().filter(fits)
    }
}

impl Set {
    /// Why no key fits a token of this algorithm, for whoever presents it.
    pub(super) fn misfit(&self, algorithm: Algorithm) -> String {
        let mut known: Vec<_> = self.keys.iter().flat_map(|key| &key.algorithms).collect();
        if known.is_empty() {
            return "this gateway has no key to check a token with".to_owned();
        }
        if known.contains(&&algorithm) {
            return "no key of this gateway fits the token: its `kid` names none, or one that is not for its `alg`"
                .to_owned();
        }
        known.sort_by_key(|algorithm| format!("{algorithm:?}"));
        known.dedup();
        let known: Vec<_> = known.into_iter().map(|algorithm| format!("{algorithm:?}")).collect();
        format!(
            "the token's `alg` is {algorithm:?}, and the keys of this gateway are for {}",
            known.join(", ")
        )
    }
}

impl Key {
    fn read(jwk: &Value) -> Result<Self, Why> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        if let Some(meant) = text("use").filter(|meant| *meant != "sig") {
            return Err(Why::Elsewhere(format!("its `use` is `{meant}`, not `sig`")));
        }
        let operations = jwk.get("key_ops").and_then(Value::as_array);
        if operations.is_some_and(|operations| !operations.iter().any(|operation| operation == "verify")) {
            return Err(Why::Elsewhere("its `key_ops` do not name `verify`".to_owned()));
        }
        let kind = [text("kty"), text("crv")].into_iter().flatten().collect::<Vec<_>>().join(" ");
        let unknown = || {
            Why::Elsewhere(format!(
                "no token is checked with this kind of key (`{kind}`), or it is not whole"
            ))
        };
        let parsed = Jwk::deserialize(jwk).map_err(|_| unknown())?;
        let all = algorithms(&parsed.algorithm).ok_or_else(unknown)?;
        let algorithms = match text("alg") {
            None => all.to_vec(),
            Some(named) => match all.iter().find(|algorithm| format!("{algorithm:?}") == named) {
                Some(algorithm) => vec![*algorithm],
                None => {
                    let why = format!("its `alg` `{named}` is none that is taken with `{kind}`");
                    return Err(Why::Elsewhere(why));
                }
            },
        };
        let broken = Why::Fault("cannot be read: its values must be base64url without padding");
        let key = DecodingKey::from_jwk(&parsed).map_err(|_| broken)?;
        let key = soundness::check(&parsed.algorithm, key).map_err(Why::Fault)?;
        Ok(Self { id: parsed.common.key_id, algorithms, key })
    }
}

/// What keys of this kind are for. `None`: for nothing here.
fn algorithms(kind: &AlgorithmParameters) -> Option<&'static [Algorithm]> {
    match kind {
        AlgorithmParameters::OctetKey(_) => Some(&[Algorithm::HS256]),
        AlgorithmParameters::RSA(_) => Some(RSA),
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => Some(&[Algorithm::ES256]),
            EllipticCurve::P384 => Some(&[Algorithm::ES384]),
            _ => None,
        },
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            Some(&[Algorithm::EdDSA])
        }
        _ => None,
    }
}

impl Why {
    fn of(self, jwk: &Value, at: usize) -> Skipped {
        let id = jwk.get("kid").and_then(Value::as_str);
        let key = id.map_or_else(|| format!("number {}", at + 1), str::to_owned);
        match self {
            Self::Elsewhere(why) => Skipped { key, why, is_fault: false },
            Self::Fault(why) => Skipped { key, why: why.to_owned(), is_fault: true },
        }
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {}: {}", self.key.escape_debug(), self.why.escape_debug())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}
