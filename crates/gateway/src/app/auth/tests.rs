//! Tokens: the good ones, and a table of bad ones.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use super::*;

mod providers;

const NOW: u64 = 1_700_000_000;

/// Thirty-two bytes.
const SECRET: &[u8] = b"a secret of at least 32 bytes, ok";

/// The key pair of RFC 8037, appendix A.
const ED_PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
const ED_PRIVATE: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";

fn jwks() -> Value {
    json!({"keys": [
        {"kty": "oct", "kid": "hs", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(SECRET)},
        {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "sig", "x": ED_PUBLIC},
    ]})
}

fn keys() -> Keys {
    Keys::from_jwks(jwks().to_string().as_bytes()).unwrap()
}

fn ed_private() -> EncodingKey {
    // PKCS#8 of an Ed25519 seed (RFC 8410, section 7).
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend(URL_SAFE_NO_PAD.decode(ED_PRIVATE).unwrap());
    EncodingKey::from_ed_der(&der)
}

fn secret() -> EncodingKey {
    EncodingKey::from_secret(SECRET)
}

fn signed(header: &Value, claims: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

fn hs(header: &Value, claims: &Value) -> String {
    signed(header, &claims.to_string(), &secret(), Algorithm::HS256)
}

fn good_header() -> Value {
    json!({"alg": "HS256", "typ": "JWT", "kid": "hs"})
}

fn good_claims() -> Value {
    json!({"sub": "ann", "sid": "s1", "topics": ["news", "orders/*"], "exp": NOW + 60})
}

fn with(mut value: Value, member: &str, new: Value) -> Value {
    value[member] = new;
    value
}

fn without(mut value: Value, member: &str) -> Value {
    value.as_object_mut().unwrap().remove(member);
    value
}

fn identify(keys: &Keys, token: &str) -> Result<Identity, Failure> {
    Access::keys(keys.clone()).token(token, NOW * 1_000)
}

#[test]
fn good_tokens() {
    let ann = identify(&keys(), &hs(&good_header(), &good_claims())).unwrap();
    assert_eq!((ann.user.as_deref(), ann.session.as_deref()), (Some("ann"), Some("s1")));
    assert_eq!(ann.expires_unix_ms, Some((NOW + 60) * 1_000));
    assert!(ann.grants.admits("orders/7") && ann.grants.admits("news") && !ann.grants.admits("other"));

    let claims = json!({"sub": "bob", "exp": NOW + 60}).to_string();
    let bob = signed(&json!({"alg": "EdDSA", "kid": "ed"}), &claims, &ed_private(), Algorithm::EdDSA);
    let bob = identify(&keys(), &bob).unwrap();
    assert_eq!((bob.user.as_deref(), bob.session, bob.grants), (Some("bob"), None, Grants::default()));
}

#[test]
fn the_skew_is_for_beginnings_and_no_token_outlives_its_end() {
    for (claims, taken) in [
        // A token that an open connection would be cut off for opens none.
        (with(good_claims(), "exp", json!(NOW)), false),
        (with(good_claims(), "exp", json!(NOW + 1)), true),
        (with(good_claims(), "nbf", json!(NOW + 30)), true),
        (with(good_claims(), "nbf", json!(NOW + 31)), false),
        (with(good_claims(), "iat", json!(NOW + 30)), true),
        (with(good_claims(), "exp", json!(NOW as f64 + 0.5)), true),
        // Connections are cut off by the millisecond, so it ends with the last whole one.
        (with(good_claims(), "exp", json!(NOW as f64 + 0.0005)), false),
    ] {
        assert_eq!(identify(&keys(), &hs(&good_header(), &claims)).is_ok(), taken, "{claims}");
    }
}

/// The faults: each of these was refused with words that name nothing to change, or with "`sub` is required" for a name that ends in `*`.
#[test]
fn what_is_wrong_with_a_token_is_named() {
    let unsigned = |alg: &str| {
        let header = URL_SAFE_NO_PAD.encode(json!({ "alg": alg }).to_string());
        format!("{header}.{}.AAAA", URL_SAFE_NO_PAD.encode(good_claims().to_string()))
    };
    let claiming = |member: &str, value: Value| hs(&good_header(), &with(good_claims(), member, value));
    let lacking = |member: &str| hs(&good_header(), &without(good_claims(), member));
    let for_push = keys().audience("push");
    for (keys, token, expected) in [
        (&keys(), unsigned("ES512"), "`alg` is ES512, which is not taken: sign with RS256-512"),
        (&keys(), unsigned("none"), "`alg` is none, which is not taken"),
        (&keys(), unsigned("<script>"), "this is no token"),
        (&keys(), unsigned("RS256"), "`alg` is RS256, and the keys of this gateway are for EdDSA, HS256"),
        (&Keys::from_jwks(br#"{"keys":[]}"#).unwrap(), unsigned("RS256"), "has no key to check a token with"),
        (&for_push, hs(&good_header(), &good_claims()), "for no audience: `aud` is required"),
        (&for_push, claiming("aud", json!("other")), "for another audience"),
        (&keys(), claiming("topics", json!("news")), "`topics` must be a list of texts"),
        (&keys(), claiming("topics", json!([7])), "`topics` must be a list of texts"),
        (&keys(), claiming("exp", json!("1700000060")), "`exp` must be a number"),
        (&keys(), claiming("sub", json!(42)), "`sub` must be text"),
        (&keys(), claiming("aud", json!({})), "`aud` must be text or a list of texts"),
        (&keys(), claiming("sub", json!("a b")), "`sub`, is not valid: "),
        (&keys(), lacking("sub"), "names no user: `sub` is required"),
        (&keys(), claiming("sub", json!("ann*")), "`sub`, is not valid: it ends in `*`"),
        (&keys(), claiming("sub", json!("")), "`sub`, is not valid: "),
        (&keys(), claiming("sid", json!("s*")), "`sid`, is not valid: it ends in `*`"),
        (&keys(), claiming("sid", json!("a b")), "`sid`, is not valid: the id holds a space"),
        // A token for an audience is not for a gateway that was told none.
        (&keys(), claiming("aud", json!("push")), "--user-audience"),
        (&keys(), claiming("aud", json!("other")), "--user-audience"),
        (&keys(), claiming("aud", json!(["push"])), "--user-audience"),
        (&keys(), claiming("aud", json!([])), "--user-audience"),
        (&keys(), claiming("aud", json!("")), "--user-audience"),
    ] {
        let failure = identify(keys, &token).unwrap_err();
        assert_eq!(failure.problem().status, 401, "{expected}");
        assert!(failure.message.contains(expected), "{expected}: {}", failure.message);
    }
}

#[test]
fn audience_and_issuer_are_checked_when_set() {
    let keys = keys().audience("push").issuer("https://id.example");
    let claims = |aud: Value, iss: &str| with(with(good_claims(), "aud", aud), "iss", json!(iss));
    for (claims, taken) in [
        (claims(json!("push"), "https://id.example"), true),
        (claims(json!(["other", "push"]), "https://id.example"), true),
        (claims(json!("other"), "https://id.example"), false),
        (claims(json!([]), "https://id.example"), false),
        (claims(json!("push"), "https://evil.example"), false),
        (claims(json!("push"), "https://id.example/"), false),
        (good_claims(), false),
    ] {
        assert_eq!(identify(&keys, &hs(&good_header(), &claims)).is_ok(), taken, "{claims}");
    }
}

/// Texts that are no tokens, and tokens that were changed.
fn malformed() -> Vec<(&'static str, String)> {
    let good = hs(&good_header(), &good_claims());
    let parts: Vec<&str> = good.split('.').collect();
    let eve = URL_SAFE_NO_PAD.encode(with(good_claims(), "sub", json!("eve")).to_string());
    let header = URL_SAFE_NO_PAD.encode(with(good_header(), "typ", json!("jwt")).to_string());
    vec![
        ("nothing", String::new()),
        ("a word", "token".into()),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        ("four parts", format!("{good}.x")),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("a changed claim", format!("{}.{eve}.{}", parts[0], parts[2])),
        ("a changed header", format!("{header}.{}.{}", parts[1], parts[2])),
        ("padded base64", format!("{good}=")),
        ("a line break", format!("{good}\n")),
        ("longer than 16 KiB", hs(&good_header(), &with(good_claims(), "pad", json!("x".repeat(16_384))))),
        ("claims that are no object", signed(&good_header(), "[]", &secret(), Algorithm::HS256)),
        ("claims that are no JSON", signed(&good_header(), "sub=ann", &secret(), Algorithm::HS256)),
        ("a claim twice", {
            let claims = format!(r#"{{"sub":"ann","sub":"eve","exp":{}}}"#, NOW + 60);
            signed(&good_header(), &claims, &secret(), Algorithm::HS256)
        }),
    ]
}

/// Tokens that choose the algorithm or the key for themselves.
fn wrongly_signed() -> Vec<(&'static str, String)> {
    let claims = good_claims().to_string();
    let unsigned = |header: &str| {
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(good_claims().to_string()))
    };
    let other = EncodingKey::from_secret(b"another secret of at least 32 bytes");
    let public = EncodingKey::from_secret(&URL_SAFE_NO_PAD.decode(ED_PUBLIC).unwrap());
    let public_text = EncodingKey::from_secret(ED_PUBLIC.as_bytes());
    let hs512 = with(good_header(), "alg", json!("HS512"));
    let own_key = URL_SAFE_NO_PAD.encode("another secret of at least 32 bytes");
    let own_key = json!({"alg": "HS256", "jwk": {"kty": "oct", "k": own_key}});
    let elsewhere = json!({"alg": "HS256", "jku": "https://evil.example/jwks"});
    let ed_as_hs = json!({"alg": "HS256", "kid": "ed"});
    let hs_as_ed = json!({"alg": "EdDSA", "kid": "hs"});
    vec![
        ("another's signature", signed(&good_header(), &claims, &other, Algorithm::HS256)),
        ("alg none", unsigned(r#"{"alg":"none","kid":"hs"}"#)),
        ("alg None", unsigned(r#"{"alg":"None","kid":"hs"}"#)),
        ("alg missing", unsigned(r#"{"kid":"hs"}"#)),
        ("RS256", unsigned(r#"{"alg":"RS256","kid":"ed"}"#) + "AAAA"),
        ("HS512 for the HS256 key", signed(&hs512, &claims, &secret(), Algorithm::HS512)),
        ("the public key as a secret", signed(&ed_as_hs, &claims, &public, Algorithm::HS256)),
        ("the public key's text as a secret", signed(&ed_as_hs, &claims, &public_text, Algorithm::HS256)),
        ("EdDSA with the id of the secret", signed(&hs_as_ed, &claims, &ed_private(), Algorithm::EdDSA)),
        ("an unknown kid", hs(&with(good_header(), "kid", json!("other")), &good_claims())),
        ("a kid that is a path", hs(&with(good_header(), "kid", json!("../../dev/null")), &good_claims())),
        ("a key of its own", signed(&own_key, &claims, &other, Algorithm::HS256)),
        ("a key elsewhere", signed(&elsewhere, &claims, &other, Algorithm::HS256)),
        ("critical extensions", hs(&with(good_header(), "crit", json!(["exp"])), &good_claims())),
        ("another type", hs(&with(good_header(), "typ", json!("dpop+jwt")), &good_claims())),
    ]
}

/// Well signed, but of no use.
fn of_no_use() -> Vec<(&'static str, String)> {
    let claiming = |member: &str, value: Value| hs(&good_header(), &with(good_claims(), member, value));
    let lacking = |member: &str| hs(&good_header(), &without(good_claims(), member));
    vec![
        ("no exp", lacking("exp")),
        ("exp as text", claiming("exp", json!("9999999999"))),
        ("exp null", claiming("exp", Value::Null)),
        ("exp negative", claiming("exp", json!(-1))),
        ("expired", claiming("exp", json!(NOW))),
        ("not yet valid", claiming("nbf", json!(NOW + 31))),
        ("issued in the future", claiming("iat", json!(NOW + 3_600))),
        ("no sub", lacking("sub")),
        ("sub empty", claiming("sub", json!(""))),
        ("sub a number", claiming("sub", json!(42))),
        ("sub with a comma", claiming("sub", json!("ann,user:bob"))),
        ("sid with a space", claiming("sid", json!("a b"))),
        ("topics as text", claiming("topics", json!("news"))),
        ("topics with a space", claiming("topics", json!(["a b"]))),
    ]
}

/// Each of these is refused with 401, and the answer says nothing of what was in the token.
#[test]
fn bad_tokens() {
    let bad: Vec<_> = [malformed(), wrongly_signed(), of_no_use()].concat();
    assert!(bad.len() >= 40);
    for (what, token) in bad {
        let failure = identify(&keys(), &token).expect_err(what);
        assert_eq!(failure.problem().status, 401, "{what}");
        assert!(!failure.message.contains("ann") && !failure.message.contains("eve"), "{what}");
    }
}

#[test]
fn the_only_key_needs_no_name() {
    let set = json!({"keys": [{"kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET)}]});
    let keys = Keys::from_jwks(set.to_string().as_bytes()).unwrap();
    assert!(identify(&keys, &hs(&without(good_header(), "kid"), &good_claims())).is_ok());
    assert!(identify(&keys, &hs(&good_header(), &good_claims())).is_err(), "it has no such name");
}

#[test]
fn what_is_no_key_set_is_refused() {
    for text in ["", "{}", "[]", "not json", r#"{"keys": 1}"#] {
        assert!(matches!(Keys::from_jwks(text.as_bytes()), Err(KeysError::NotASet(_))), "{text}");
    }
    assert!(!format!("{:?}", keys()).contains("secret"));
}

/// The fault: tokens of people with many groups were refused.
#[test]
fn tokens_of_16_kib_are_taken() {
    let padded = |bytes: usize| hs(&good_header(), &with(good_claims(), "groups", json!("x".repeat(bytes))));
    let room = (16 * 1_024 - padded(0).len()) / 4 * 3;
    assert!((16 * 1_024 - 8..=16 * 1_024).contains(&padded(room).len()));
    assert!(identify(&keys(), &padded(room)).is_ok());
    assert!(identify(&keys(), &padded(room + 9)).is_err());
}

#[test]
fn names_are_for_development() {
    let development = Access::development();
    let nobody = development.names("", "", 5).unwrap();
    assert_eq!(nobody.recipients().count(), 0);
    let ann = development.names("ann", "s", 5).unwrap();
    assert_eq!(ann.recipients().collect::<Vec<_>>(), ["user:ann", "session:s"]);
    assert_eq!(development.names("a b", "", 5).unwrap_err().reason, Some(Reason::RecipientInvalid));
    assert_eq!(development.token("a.b.c", 0).unwrap_err().problem().status, 401);

    let production = Access::keys(keys());
    assert_eq!(production.names("", "", 5).unwrap_err().problem().status, 401);
    assert_eq!(production.names("ann", "", 5).unwrap_err().problem().status, 400);
}

#[test]
fn no_token_was_issued_later_than_now() {
    for (iat, issued) in [(NOW - 5, NOW - 5), (NOW + 29, NOW)] {
        let token = hs(&good_header(), &with(good_claims(), "iat", json!(iat)));
        assert_eq!(keys().identify(&token, NOW * 1_000).unwrap().issued, Issued::by_token(issued * 1_000));
    }
}
