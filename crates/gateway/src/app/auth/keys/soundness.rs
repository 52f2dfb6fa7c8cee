//! Whether a public key is one, and whether only its owner can sign for it.
//!
//! The library that checks signatures looks at a key when it first uses it, and then calls every token of a broken one
//! badly signed. So keys are looked at here when they are read. Of Ed25519 it does not look at all: with a key of small order
//! anybody can make signatures that it takes ("Taming the Many EdDSAs", Chalkias et al., 2020, section 3).

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents,
};
use curve25519_dalek::edwards::CompressedEdwardsY;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve};
use jsonwebtoken::{DecodingKey, DecodingKeyKind};

/// The shortest secret for HS256, in bytes: as long as the hash (RFC 7518, section 3.2).
const SECRET_BYTES_MIN: usize = 32;

/// A point of P-256 and of P-384, uncompressed, in bytes.
const P256_BYTES: usize = 65;
const P384_BYTES: usize = 97;

/// An RSA modulus, in bytes: shorter ones are unsafe (RFC 7518, section 3.3), longer ones the library does not take.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1_024;

/// The key as signatures can be checked with it.
///
/// # Errors
///
/// It is broken or unsafe: what is wrong with it.
pub(super) fn check(kind: &AlgorithmParameters, key: DecodingKey) -> Result<DecodingKey, &'static str> {
    match (kind, key.kind()) {
        (_, DecodingKeyKind::RsaModulusExponent { n, e }) => {
            return rsa(without_zeros(n), without_zeros(e));
        }
        (AlgorithmParameters::OctetKey(_), DecodingKeyKind::SecretOrDer(secret)) => secret_of(secret)?,
        (AlgorithmParameters::EllipticCurve(params), DecodingKeyKind::SecretOrDer(point)) => {
            elliptic_curve(&params.curve, point)?;
        }
        (_, DecodingKeyKind::SecretOrDer(point)) => ed25519(point)?,
    }
    Ok(key)
}

fn secret_of(secret: &[u8]) -> Result<(), &'static str> {
    if secret.len() < SECRET_BYTES_MIN {
        return Err("the secret is shorter than 32 bytes: make one with `openssl rand 32`");
    }
    Ok(())
}

/// Some libraries write a zero before a number whose first bit is set, which the one for signatures does not take.
fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

fn rsa(n: &[u8], e: &[u8]) -> Result<DecodingKey, &'static str> {
    if !RSA_BYTES.contains(&n.len()) {
        return Err("its modulus is shorter than 2048 bits, which is unsafe, or longer than 8192");
    }
    let der = RsaPublicKeyComponents { n, e }.as_der();
    let parsed = der.map(|der| ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der.as_ref()));
    match parsed {
        Ok(Ok(_)) => Ok(DecodingKey::from_rsa_raw_components(n, e)),
        _ => Err(
            "it is no RSA key: its modulus and its exponent must be odd, and the exponent 3 at least and \
                  of 33 bits at most",
        ),
    }
}

fn elliptic_curve(curve: &EllipticCurve, point: &[u8]) -> Result<(), &'static str> {
    let (bytes, algorithm) = match curve {
        EllipticCurve::P256 => (P256_BYTES, &ECDSA_P256_SHA256_FIXED),
        _ => (P384_BYTES, &ECDSA_P384_SHA384_FIXED),
    };
    if point.len() != bytes {
        return Err("its `x` and `y` have not the length that its curve needs");
    }
    ParsedPublicKey::new(algorithm, point).map(drop).map_err(|_| "its `x` and `y` are no point of its curve")
}

fn ed25519(point: &[u8]) -> Result<(), &'static str> {
    let encoded = CompressedEdwardsY::from_slice(point).map_err(|_| "not an Ed25519 key of 32 bytes")?;
    match encoded.decompress() {
        // Several texts for one point are none of the signer's (RFC 8032, section 5.1.3).
        Some(point) if point.compress() != encoded => Err("its `x` is no point of Ed25519"),
        Some(point) if point.is_small_order() => {
            Err("it is of small order, so anybody can sign for it: make another one")
        }
        Some(_) => Ok(()),
        None => Err("its `x` is no point of Ed25519"),
    }
}
