//! `token`: signs a user token with a key of a JWKS file, or makes such a file.
//!
//! For development and scripts. In production the backend that logs users in signs tokens with the same claims.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use galaxy_push_gateway::{Keys, TOKEN_BYTES_MAX};
use galaxy_push_proto::json::without_bom;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};

use crate::Usage;
use crate::args::TokenArgs;

/// The PKCS #8 wrapping of an Ed25519 private key (RFC 8410, section 7), in front of its 32 bytes.
const ED25519_PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

#[derive(Deserialize, Serialize)]
struct KeySet {
    keys: Vec<Key>,
}

/// A key of a JWKS file, as far as signing needs it. Others stay in the file and are skipped.
#[derive(Deserialize, Serialize)]
struct Key {
    #[serde(default)]
    kty: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    d: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    k: Option<String>,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    topics: &'a [String],
    iat: u64,
    exp: u64,
}

pub(crate) fn run(args: &TokenArgs) -> anyhow::Result<()> {
    if let Some(path) = &args.new_keys {
        return write_new_keys(path);
    }
    let Some(path) = &args.user_keys else {
        bail!(Usage(
            "--user-keys FILE is needed to sign with; `galaxy-push token --new-keys FILE` makes one".into()
        ))
    };
    let token = sign(args, path, args.user.as_deref().unwrap_or_default())?;
    writeln!(io::stdout(), "{token}")?;
    Ok(())
}

fn sign(args: &TokenArgs, path: &Path, user: &str) -> anyhow::Result<String> {
    let text = galaxy_push_listener::read_file(path).with_context(|| {
        format!(
            "cannot read --user-keys {}; `galaxy-push token --new-keys FILE` makes such a file",
            path.display()
        )
    })?;
    // What no gateway would take is not signed with either.
    let good = Keys::from_jwks(&text).with_context(|| format!("--user-keys {}", path.display()))?.ids();
    let set: KeySet = serde_json::from_slice(without_bom(&text))?;
    let wanted = |key: &&Key| (args.kid.is_none() || key.kid == args.kid) && good.contains(&key.kid);
    let (key, algorithm, secret) = set
        .keys
        .iter()
        .filter(wanted)
        .find_map(|key| key.secret().map(|(algorithm, secret)| (key, algorithm, secret)))
        .with_context(|| match &args.kid {
            Some(kid) => format!("no key `{kid}` that can sign in {}", path.display()),
            None => format!("no key that can sign (HS256, or EdDSA with `d`) in {}", path.display()),
        })?;
    let now = galaxy_push_listener::ambient().unix_ms() / 1_000;
    let claims = Claims {
        sub: user,
        sid: args.session.as_deref(),
        topics: &args.topic,
        iat: now,
        exp: now.saturating_add(args.ttl.as_secs()),
    };
    let mut header = Header::new(algorithm);
    header.kid.clone_from(&key.kid);
    let token = jsonwebtoken::encode(&header, &claims, &secret)?;
    if token.len() > TOKEN_BYTES_MAX {
        bail!(Usage(format!(
            "the token would be {} bytes long, and gateways take {TOKEN_BYTES_MAX}: give fewer --topic, or patterns with a \
             trailing *",
            token.len()
        )));
    }
    Ok(token)
}

impl Key {
    fn secret(&self) -> Option<(Algorithm, EncodingKey)> {
        let decode =
            |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_ref()?.trim_end_matches('=')).ok();
        match (self.kty.as_str(), self.alg.as_deref(), self.crv.as_deref()) {
            ("oct", None | Some("HS256"), _) => {
                Some((Algorithm::HS256, EncodingKey::from_secret(&decode(&self.k)?)))
            }
            ("OKP", None | Some("EdDSA"), Some("Ed25519")) => {
                let private = decode(&self.d).filter(|private| private.len() == 32)?;
                Some((Algorithm::EdDSA, EncodingKey::from_ed_der(&[&ED25519_PKCS8[..], &private].concat())))
            }
            _ => None,
        }
    }
}

fn write_new_keys(path: &Path) -> anyhow::Result<()> {
    let ambient = galaxy_push_listener::ambient();
    let random = || [ambient.random_128().to_le_bytes(), ambient.random_128().to_le_bytes()].concat();
    let shared = Key {
        kty: "oct".into(),
        kid: Some("hs256-1".into()),
        alg: Some("HS256".into()),
        crv: None,
        x: None,
        d: None,
        k: Some(URL_SAFE_NO_PAD.encode(random())),
    };
    let mut file = fs::OpenOptions::new();
    file.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut file, 0o600);
    let mut file = file.open(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            anyhow!("{} exists, and keys are never overwritten: name another file", path.display())
        }
        _ => anyhow!(error).context(format!("cannot write {}", path.display())),
    })?;
    serde_json::to_writer_pretty(&mut file, &KeySet { keys: vec![shared] })?;
    writeln!(file)?;
    let told = format!(
        "wrote {0}: keep it secret. Check tokens with `galaxy-push serve --user-keys {0}`, sign one with\n`galaxy-push token --user-keys {0} --user 42`\n",
        path.display()
    );
    io::stderr().write_all(told.as_bytes())?;
    Ok(())
}
