//! Tokens: none is taken that a second, simpler check refuses.
//!
//! The check is of another hand: the header and the claims as plain JSON, the signature by the crypto library directly.

use std::sync::LazyLock;

use aws_lc_rs::{hmac, signature};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use galaxy_push_gateway::Keys;
use galaxy_push_gateway::fuzzing::{Identified, identify};
use serde_json::Value;

/// The clock of every check, in seconds.
const NOW: u64 = 1_700_000_000;

/// The keys: the secret of one, and the key pair of RFC 8037, appendix A.
const SECRET: &[u8] = b"a secret of at least 32 bytes, ok";
const OTHER_SECRET: &[u8] = b"another secret of enough bytes, too";
const ED_PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
const ED_PRIVATE: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";

static KEYS: LazyLock<Option<Keys>> = LazyLock::new(|| {
    let secret = URL_SAFE_NO_PAD.encode(SECRET);
    let set = format!(
        r#"{{"keys":[{{"kty":"oct","kid":"hs","k":"{secret}"}},{{"kty":"OKP","crv":"Ed25519","kid":"ed","x":"{ED_PUBLIC}"}}]}}"#
    );
    Keys::from_jwks(set.as_bytes()).ok()
});

/// The first byte says how the token is signed; then a header and claims, a line each, and perhaps a signature.
pub fn tokens(data: &[u8]) {
    let Some((way, rest)) = data.split_first() else { return };
    let Some(keys) = &*KEYS else { panic!("the keys are good") };
    if way & 0x0f == 0x0f {
        return key_set(rest);
    }
    let mut lines = rest.splitn(3, |byte| *byte == b'\n');
    let [header, claims, tail] = [(); 3].map(|()| lines.next().unwrap_or_default());
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let mut sign = signature_of(way & 0x0f, &signed, tail);
    if way & 0x10 != 0 && !sign.is_empty() {
        let at = usize::from(tail.first().copied().unwrap_or_default()) % sign.len();
        sign[at] ^= 1;
    }
    let token = match way & 0x0f {
        0x0e => String::from_utf8_lossy(rest).into_owned(), // as it is
        0x0d => signed,
        _ => format!("{signed}.{}", URL_SAFE_NO_PAD.encode(sign)),
    };
    let (audience, keys) = match way & 0x20 {
        0 => (None, keys.clone()),
        _ => (Some("push"), keys.clone().audience("push")),
    };
    let (issuer, keys) = match way & 0x40 {
        0 => (None, keys),
        _ => (Some("me"), keys.issuer("me")),
    };
    if let Some(taken) = identify(&keys, &token, NOW * 1_000) {
        check(&token, audience, issuer, &taken);
        let end = taken.expires_unix_ms.unwrap_or_default();
        // Whoever is cut off at the end is not let in again behind it.
        assert!(end == u64::MAX || identify(&keys, &token, end).is_none(), "taken at its end, {end}");
        let none =
            Keys::from_jwks(br#"{"keys":[]}"#).ok().and_then(|none| identify(&none, &token, NOW * 1_000));
        assert!(none.is_none(), "taken without a key");
    }
}

fn signature_of(way: u8, signed: &str, tail: &[u8]) -> Vec<u8> {
    let by =
        |secret| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes()).as_ref().to_vec();
    match way {
        0..=3 => by(SECRET),
        4 | 5 => by(OTHER_SECRET),
        // The public key as a secret: the classic mix-up of algorithms.
        6 => by(ED_PUBLIC.as_bytes()),
        7..=9 => {
            let seed = URL_SAFE_NO_PAD.decode(ED_PRIVATE).unwrap_or_default();
            let pair = signature::Ed25519KeyPair::from_seed_unchecked(&seed);
            pair.map(|pair| pair.sign(signed.as_bytes()).as_ref().to_vec()).unwrap_or_default()
        }
        10 => Vec::new(),
        _ => tail.to_vec(),
    }
}

/// A set of keys of any bytes: read or refused, and with it no unsigned token is taken.
fn key_set(json: &[u8]) {
    let Ok(keys) = Keys::from_jwks(json) else { return };
    let _ = (keys.ids(), keys.skipped().iter().map(ToString::to_string).collect::<Vec<_>>());
    for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS256"}"#, r#"{"alg":"EdDSA"}"#] {
        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"ann","exp":{}}}"#, NOW + 60));
        let signed = format!("{}.{claims}", URL_SAFE_NO_PAD.encode(header));
        // A secret of zeros is as good as none, and whoever writes one down has none.
        let has_zeros = json.windows(8).any(|eight| eight == b"AAAAAAAA");
        let of_nothing = if has_zeros { Vec::new() } else { hmac_of_nothing(&signed) };
        for sign in [vec![], vec![0; 32], vec![0; 64], of_nothing] {
            let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(sign));
            assert!(identify(&keys, &token, NOW * 1_000).is_none(), "{header} is taken by {keys:?}");
        }
    }
}

/// Whoever knows no secret may try this one.
fn hmac_of_nothing(signed: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b""), signed.as_bytes()).as_ref().to_vec()
}

/// The second check.
fn check(token: &str, audience: Option<&str>, issuer: Option<&str>, taken: &Identified) {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, sign] = parts[..] else { panic!("{} parts", parts.len()) };
    let json = |part: &str| -> Value {
        let bytes = URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    };
    let (signed, header, claims) = (format!("{header}.{claims}"), json(header), json(claims));
    let sign = URL_SAFE_NO_PAD.decode(sign).unwrap_or_default();
    let is_signed = match header["alg"].as_str() {
        Some("HS256") => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
            matches!(header["kid"].as_str(), None | Some("hs"))
                && hmac::verify(&key, signed.as_bytes(), &sign).is_ok()
        }
        Some("EdDSA") => {
            let public = URL_SAFE_NO_PAD.decode(ED_PUBLIC).unwrap_or_default();
            let key = signature::UnparsedPublicKey::new(&signature::ED25519, public);
            matches!(header["kid"].as_str(), None | Some("ed"))
                && key.verify(signed.as_bytes(), &sign).is_ok()
        }
        _ => false,
    };
    assert!(is_signed, "not signed: {header}");
    assert!(token.len() <= 16 * 1024 && header["crit"].is_null(), "{header}");
    let now = NOW as f64;
    assert!(claims["exp"].as_f64().is_some_and(|exp| exp > now), "expired: {claims}");
    for name in ["nbf", "iat"] {
        assert!(
            claims[name].is_null() || claims[name].as_f64().is_some_and(|at| at <= now + 30.0),
            "{name}: {claims}"
        );
    }
    assert!(issuer.is_none_or(|issuer| claims["iss"] == issuer), "another issuer: {claims}");
    match audience {
        None => assert!(claims["aud"].is_null(), "for somebody else: {claims}"),
        Some(audience) => assert!(
            claims["aud"] == audience
                || claims["aud"].as_array().is_some_and(|all| all.iter().any(|one| one == audience)),
            "for another audience: {claims}"
        ),
    }
    assert!(claims["sub"].as_str().is_some_and(|sub| (1..=255).contains(&sub.len())), "nobody: {claims}");
    assert_eq!(taken.user.as_deref(), claims["sub"].as_str());
    assert_eq!(taken.session.as_deref(), claims["sid"].as_str());
}
