//! The key sets that identity providers publish.

use jsonwebtoken::jwk::Jwk;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, RsaKeySize};

use super::*;

/// A private key, and the public one as it stands in a set, without `alg`.
struct Pair {
    private: EncodingKey,
    public: Value,
}

fn pair(private: EncodingKey, algorithm: Algorithm, id: &str) -> Pair {
    let jwk = Jwk::from_encoding_key(&private, algorithm).unwrap();
    let public = with(without(serde_json::to_value(jwk).unwrap(), "alg"), "kid", json!(id));
    Pair { private, public }
}

fn rsa(id: &str) -> Pair {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    pair(EncodingKey::from_rsa_pem(key.serialize_pem().as_bytes()).unwrap(), Algorithm::RS256, id)
}

fn ec(algorithm: Algorithm, id: &str) -> Pair {
    let curve = if algorithm == Algorithm::ES256 { &PKCS_ECDSA_P256_SHA256 } else { &PKCS_ECDSA_P384_SHA384 };
    let key = KeyPair::generate_for(curve).unwrap();
    pair(EncodingKey::from_ec_der(key.serialized_der()), algorithm, id)
}

fn set(keys: &[&Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

fn token(private: &EncodingKey, algorithm: Algorithm, id: Option<&str>) -> String {
    let header = json!({"alg": format!("{algorithm:?}"), "typ": "JWT"});
    let header = id.map_or(header.clone(), |id| with(header, "kid", json!(id)));
    signed(&header, &good_claims().to_string(), private, algorithm)
}

fn takes(keys: &Keys, private: &EncodingKey, algorithm: Algorithm, id: Option<&str>) -> bool {
    identify(keys, &token(private, algorithm, id)).is_ok()
}

#[test]
fn every_algorithm_of_identity_providers_is_taken_from_its_own_kind_of_key_only() {
    const RSA: [Algorithm; 6] = [
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
    ];
    let (rsa_pair, forger) = (rsa("rsa"), rsa("rsa"));
    let (p256, p384) = (ec(Algorithm::ES256, "p256"), ec(Algorithm::ES384, "p384"));
    let (another_256, another_384) = (ec(Algorithm::ES256, "p256"), ec(Algorithm::ES384, "p384"));
    let certified = with(with(rsa_pair.public.clone(), "x5c", json!(["MIIB"])), "x5t", json!("abc"));
    let keys = Keys::from_jwks(&set(&[&certified, &p256.public, &p384.public])).unwrap();
    assert_eq!(keys.skipped(), []);
    for algorithm in RSA {
        assert!(takes(&keys, &rsa_pair.private, algorithm, Some("rsa")), "{algorithm:?}");
        assert!(takes(&keys, &rsa_pair.private, algorithm, None), "{algorithm:?} without a kid");
        assert!(!takes(&keys, &forger.private, algorithm, Some("rsa")), "{algorithm:?} of another key");
        assert!(!takes(&keys, &rsa_pair.private, algorithm, Some("p256")), "{algorithm:?} of another kind");
    }
    for (good, forger, algorithm, id) in
        [(&p256, &another_256, Algorithm::ES256, "p256"), (&p384, &another_384, Algorithm::ES384, "p384")]
    {
        assert!(takes(&keys, &good.private, algorithm, Some(id)), "{algorithm:?}");
        assert!(takes(&keys, &good.private, algorithm, None), "{algorithm:?} without a kid");
        assert!(!takes(&keys, &forger.private, algorithm, Some(id)), "{algorithm:?} of another key");
        assert!(!takes(&keys, &good.private, algorithm, Some("rsa")), "{algorithm:?} of another kind");
    }
    // What everybody knows is no secret, in whatever form.
    for public in [&certified, &p256.public] {
        let (id, text) = (public["kid"].as_str().unwrap(), public.to_string());
        let number =
            URL_SAFE_NO_PAD.decode(public.get("n").unwrap_or(&public["x"]).as_str().unwrap()).unwrap();
        for secret in [text.as_bytes(), &number] {
            assert!(!takes(&keys, &EncodingKey::from_secret(secret), Algorithm::HS256, Some(id)), "{id}");
            assert!(!takes(&keys, &EncodingKey::from_secret(secret), Algorithm::HS256, None), "{id}");
        }
    }
}

#[test]
fn a_key_that_names_its_algorithm_is_for_that_one_alone() {
    let rsa = rsa("rsa");
    let keys = Keys::from_jwks(&set(&[&with(rsa.public.clone(), "alg", json!("RS256"))])).unwrap();
    assert!(takes(&keys, &rsa.private, Algorithm::RS256, Some("rsa")));
    for other in [Algorithm::RS384, Algorithm::PS256] {
        assert!(!takes(&keys, &rsa.private, other, Some("rsa")), "{other:?}");
    }
}

#[test]
fn of_several_keys_the_named_one_counts_and_without_a_name_those_that_fit() {
    let (one, two) = (rsa("one"), rsa("two"));
    let keys = Keys::from_jwks(&set(&[&one.public, &two.public])).unwrap();
    for (pair, id, taken) in [
        (&one, Some("one"), true),
        (&two, Some("two"), true),
        (&two, Some("one"), false),
        (&two, Some("three"), false),
        (&one, None, true),
        (&two, None, true),
    ] {
        assert_eq!(takes(&keys, &pair.private, Algorithm::RS256, id), taken, "{id:?}");
    }
    // One name for keys of different kinds, as RFC 7517 (section 4.5) allows.
    let ec = ec(Algorithm::ES256, "one");
    let keys = Keys::from_jwks(&set(&[&one.public, &ec.public])).unwrap();
    assert!(takes(&keys, &one.private, Algorithm::RS256, Some("one")));
    assert!(takes(&keys, &ec.private, Algorithm::ES256, Some("one")));
}

/// The fault: one key for encryption beside the others, and the gateway did not start.
#[test]
fn keys_of_other_uses_and_kinds_are_skipped_and_said() {
    let rsa = rsa("rsa");
    let other = |name: &str, value: Value| with(rsa.public.clone(), name, value);
    for (key, why, is_fault) in [
        (other("use", json!("enc")), "`use` is `enc`", false),
        (other("alg", json!("RSA-OAEP")), "`alg` `RSA-OAEP`", false),
        (other("alg", json!("ES256")), "`alg` `ES256`", false),
        (other("key_ops", json!(["encrypt", "wrapKey"])), "`key_ops`", false),
        (json!({"kty": "AKP", "kid": "x", "alg": "ML-DSA-44", "pub": "AQAB"}), "`AKP`", false),
        (json!({"kty": "EC", "crv": "secp256k1", "x": "AQAB", "y": "AQAB"}), "`EC secp256k1`", false),
        (json!({"kty": "EC", "crv": "P-521", "x": "AQAB", "y": "AQAB"}), "`EC P-521`", false),
        (json!({"kty": "OKP", "crv": "X25519", "x": ED_PUBLIC}), "`OKP X25519`", false),
        (json!({"kty": "RSA", "kid": "x", "n": "AQAB"}), "not whole", false),
        (json!({"kid": "x"}), "kind", false),
        (json!("text"), "kind", false),
        (other("n", json!("!!!")), "base64url", true),
        (json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}), "2048 bits", true),
        (json!({"kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB"}), "length", true),
        (json!({"kty": "OKP", "crv": "Ed25519", "x": "AQAB"}), "32 bytes", true),
        (json!({"kty": "oct", "kid": "x", "k": "c2hvcnQ"}), "shorter than 32", true),
        (
            json!({"kty": "oct", "kid": "x", "k": URL_SAFE_NO_PAD.encode(SECRET), "alg": "HS512"}),
            "HS512",
            false,
        ),
    ] {
        let keys = Keys::from_jwks(&set(&[&key, &rsa.public])).unwrap();
        let [skipped] = &keys.skipped()[..] else { panic!("{key}: {:?}", keys.skipped()) };
        assert!(skipped.why.contains(why) && skipped.is_fault == is_fault, "{key}: {skipped:?}");
        assert!(takes(&keys, &rsa.private, Algorithm::RS256, Some("rsa")), "{key}: the other one is good");
        let alone = Keys::from_jwks(&set(&[&key])).unwrap();
        assert!(alone.ids().is_empty() && alone.skipped()[0].why.contains(why), "{key}: {alone:?}");
    }
    let named = Keys::from_jwks(&set(&[&json!({"kty": "new"}), &rsa.public])).unwrap().skipped();
    assert_eq!(named[0].key, "number 1");
    // One for verifying that says so is taken.
    let keys = Keys::from_jwks(&set(&[&with(other("use", json!("sig")), "key_ops", json!(["verify"]))]));
    assert_eq!(keys.unwrap().skipped(), []);
}

#[test]
fn new_keys_are_taken_by_all_clones_and_unusable_ones_by_none() {
    let (old, new) = (rsa("old"), rsa("new"));
    let keys = Keys::from_jwks(&set(&[&old.public])).unwrap().audience("push");
    let clone = keys.clone();
    let taken = |pair: &Pair| {
        let claims = with(good_claims(), "aud", json!("push")).to_string();
        let token = signed(&json!({"alg": "RS256"}), &claims, &pair.private, Algorithm::RS256);
        identify(&clone, &token).is_ok()
    };
    assert_eq!((taken(&old), taken(&new)), (true, false));
    for bad in [&b""[..], b"{ half", br#"{"key":[]}"#, br#"{"keys":null}"#] {
        assert!(keys.replace(bad).is_err());
        assert_eq!((taken(&old), taken(&new)), (true, false));
    }
    keys.replace(&set(&[&new.public])).unwrap();
    assert_eq!((taken(&old), taken(&new)), (false, true), "the audience counts on, too");
    assert_eq!(clone.ids(), [Some("new".to_owned())]);
}

/// The fault: the last signing key could not be withdrawn.
#[test]
fn a_set_without_keys_lets_nobody_in() {
    let rsa = rsa("rsa");
    for nothing in [&br#"{"keys":[]}"#[..], br#"{"keys":[{"kty":"new"}]}"#] {
        let keys = Keys::from_jwks(&set(&[&rsa.public])).unwrap();
        assert!(takes(&keys, &rsa.private, Algorithm::RS256, None));
        keys.replace(nothing).unwrap();
        assert!(!takes(&keys, &rsa.private, Algorithm::RS256, None));
        assert!(!takes(&Keys::from_jwks(nothing).unwrap(), &rsa.private, Algorithm::RS256, None));
    }
}

#[test]
fn a_byte_order_mark_before_a_key_set_is_ignored() {
    let marked = [b"\xef\xbb\xbf", jwks().to_string().as_bytes()].concat();
    assert_eq!(Keys::from_jwks(&marked).unwrap().ids().len(), 2);
}

/// The fault: they were taken without a word, and with an Ed25519 key of small order anybody signed for everybody.
#[test]
fn broken_and_unsafe_keys_are_skipped_and_said() {
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let good = rsa("good").public;
    let n = URL_SAFE_NO_PAD.decode(good["n"].as_str().unwrap()).unwrap();
    let mut even = n.clone();
    *even.last_mut().unwrap() &= 0xfe;
    let with_n_and_e = |n: &[u8], e: &[u8]| json!({"kty": "RSA", "kid": "x", "n": b64(n), "e": b64(e)});
    let okp = |x: &[u8]| json!({"kty": "OKP", "crv": "Ed25519", "kid": "x", "x": b64(x)});
    let hex = |text: &str| {
        let bytes = (0..32).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap());
        bytes.collect::<Vec<_>>()
    };
    let mut bad = vec![
        (with_n_and_e(&n, &[1]), "exponent 3 at least"),
        (with_n_and_e(&n, &[0]), "exponent 3 at least"),
        (with_n_and_e(&n, &[1, 0, 0]), "must be odd"),
        (with_n_and_e(&n, &[0xff; 16]), "33 bits at most"),
        (with_n_and_e(&even, &[1, 0, 1]), "must be odd"),
        (okp(&hex(&format!("02{}", "0".repeat(62)))), "no point"),
        (okp(&[0xff; 32]), "no point"),
    ];
    for (curve, bytes) in [("P-256", 32), ("P-384", 48)] {
        let (x, y) = (b64(&vec![1; bytes]), b64(&vec![2; bytes]));
        bad.push((json!({"kty": "EC", "crv": curve, "kid": "x", "x": x, "y": y}), "no point of its curve"));
    }
    // The eight points of small order, and how else they are written ("Taming the Many EdDSAs", table 6).
    for (x, why) in [
        ("0100000000000000000000000000000000000000000000000000000000000000", "small order"),
        ("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", "small order"),
        ("0000000000000000000000000000000000000000000000000000000000000000", "small order"),
        ("0000000000000000000000000000000000000000000000000000000000000080", "small order"),
        ("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", "small order"),
        ("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa", "small order"),
        ("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", "small order"),
        ("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85", "small order"),
        ("0100000000000000000000000000000000000000000000000000000000000080", "no point"),
        ("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", "no point"),
        ("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", "no point"),
        ("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", "no point"),
        ("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", "no point"),
        ("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", "no point"),
    ] {
        bad.push((okp(&hex(x)), why));
    }
    for (key, why) in bad {
        let keys = Keys::from_jwks(&set(&[&key, &good])).unwrap();
        assert_eq!(keys.ids(), [Some("good".to_owned())], "{key}");
        let skipped = keys.skipped();
        assert!(skipped[0].is_fault && skipped[0].why.contains(why), "{key}: {skipped:?}");
    }
}

/// The fault: the key was taken, and all of its tokens refused.
#[test]
fn a_modulus_with_a_zero_before_it_is_the_same_number() {
    let mut pair = rsa("r");
    let zeroed = |number: &str| {
        let number = URL_SAFE_NO_PAD.decode(number).unwrap();
        json!(URL_SAFE_NO_PAD.encode([&[0], &number[..]].concat()))
    };
    for member in ["n", "e"] {
        pair.public[member] = zeroed(pair.public[member].as_str().unwrap());
    }
    let keys = Keys::from_jwks(&set(&[&pair.public])).unwrap();
    assert!(takes(&keys, &pair.private, Algorithm::RS256, Some("r")));
}
