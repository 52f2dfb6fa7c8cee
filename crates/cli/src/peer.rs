//! How a command reaches a hub and says who it is, from its flags: for `gateway`, `publish`, `tail` and whatever else
//! connects.
//!
//! Everything is read and checked before anything is connected. A token is never shown, whatever is wrong with it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use galaxy_push_client::{Builder, PublisherBuilder, Tls};
use galaxy_push_listener::{LogLimiter, read_text, warn_of_readers};

use crate::args::PeerArgs;
use crate::{Usage, without_mark};

pub(crate) const TOKEN_VARIABLE: &str = "GALAXY_PUSH_HUB_TOKEN";

/// The longest token, in bytes: half of the head of a request that a hub takes.
const TOKEN_BYTES_MAX: usize = 8 << 10;

/// The secured way to hubs.
#[derive(Clone, Default)]
pub(crate) struct Peer {
    pub(crate) tls: Option<Tls>,
    /// The token as it was read at the start.
    pub(crate) token: Option<String>,
    /// The file that it is in, where it is read again for each connection.
    token_file: Option<PathBuf>,
}

impl Peer {
    /// What the flags say, for these hubs.
    pub(crate) fn of(args: &PeerArgs, hubs: &[String]) -> anyhow::Result<Self> {
        let secure = |hub: &&String| hub.starts_with("https:");
        let tls = match (&args.hub_ca, hubs.iter().find(secure)) {
            (None, Some(_)) => {
                if let Some(hub) = hubs.iter().find(|hub| !secure(hub)) {
                    bail!(Usage(format!(
                        "some hubs are https:// and {hub} is none, and nothing on the way to it is secret: write https:// there"
                    )));
                }
                Some(tls(Tls::system().context("give --hub-ca FILE")?, args)?)
            }
            (None, None) => {
                if let Some((flag, _)) =
                    given(&[("--hub-cert", &args.hub_cert), ("--hub-key", &args.hub_key)])
                {
                    bail!(Usage(format!("{flag} is for https:// hubs: give such a --hub")));
                }
                None
            }
            (Some(authority), _) => {
                if let Some(hub) = hubs.iter().find(|hub| !secure(hub)) {
                    bail!(Usage(format!(
                        "--hub-ca is for https:// hubs, and {hub} is none: write https:// there"
                    )));
                }
                Some(tls(Tls::trusting(authority).context("--hub-ca")?, args)?)
            }
        };
        Ok(Self { tls, token: token(args)?, token_file: args.hub_token_file.clone() })
    }

    pub(crate) fn client(self, builder: Builder) -> Builder {
        let builder = self.tls.into_iter().fold(builder, Builder::tls);
        match (self.token_file, self.token) {
            (Some(path), _) => builder.token_from(token_anew(path)),
            (None, Some(token)) => builder.token(token),
            (None, None) => builder,
        }
    }

    /// The token at present, where it is in a file.
    pub(crate) fn token_source(&self) -> Option<impl Fn() -> Option<String> + Send + Sync + use<>> {
        self.token_file.clone().map(token_anew)
    }

    pub(crate) fn publisher(self, builder: PublisherBuilder) -> PublisherBuilder {
        let builder = self.tls.into_iter().fold(builder, PublisherBuilder::tls);
        match (self.token_file, self.token) {
            (Some(path), _) => builder.token_from(token_anew(path)),
            (None, Some(token)) => builder.token(token),
            (None, None) => builder,
        }
    }
}

fn given<'a, T>(flags: &[(&'a str, &Option<T>)]) -> Option<(&'a str, usize)> {
    let at = flags.iter().position(|(_, value)| value.is_some())?;
    Some((flags[at].0, at))
}

fn tls(tls: Tls, args: &PeerArgs) -> anyhow::Result<Tls> {
    match (&args.hub_cert, &args.hub_key) {
        (None, None) => Ok(tls),
        (Some(certificate), Some(key)) => {
            warn_of_readers(key);
            tls.presenting(certificate, key).context("--hub-cert and --hub-key")
        }
        (Some(_), None) => bail!(Usage("--hub-cert needs --hub-key FILE, its private key".into())),
        (None, Some(_)) => {
            bail!(Usage("--hub-key needs --hub-cert FILE, the certificate it belongs to".into()))
        }
    }
}

fn token(args: &PeerArgs) -> anyhow::Result<Option<String>> {
    let (token, origin) = match (&args.hub_token_file, std::env::var_os(TOKEN_VARIABLE)) {
        (Some(path), _) => (read_token(path)?, format!("--hub-token-file {}", path.display())),
        (None, Some(text)) if !text.is_empty() => {
            let text = text.into_string().map_err(|_| anyhow!("{TOKEN_VARIABLE} is not text"))?;
            (text.trim_end().to_owned(), TOKEN_VARIABLE.to_owned())
        }
        (None, _) => return Ok(None),
    };
    check_token(&token).map_err(|why| anyhow!("{origin}: {why}"))?;
    Ok(Some(token))
}

/// Reads the token in a file for each connection, so that one that was replaced is taken without a restart.
fn token_anew(path: PathBuf) -> impl Fn() -> Option<String> + Send + Sync {
    let told = LogLimiter::default();
    move || {
        let read = token_in(&path).and_then(|token| match check_token(&token) {
            Ok(()) => Ok(token),
            Err(why) => Err(anyhow!("--hub-token-file {}: {why}", path.display())),
        });
        read.inspect_err(|error| {
            if let Some(left_out) = told.count("") {
                let error = format!("{error:#}");
                tracing::warn!(error, left_out, "the token cannot be read anew; the one before is used on");
            }
        })
        .ok()
    }
}

/// The token in a file, without the line end that editors put behind it.
pub(crate) fn read_token(path: &Path) -> anyhow::Result<String> {
    let token = token_in(path)?;
    warn_of_readers(path);
    Ok(token)
}

fn token_in(path: &Path) -> anyhow::Result<String> {
    let text = read_text(path);
    let text = text.with_context(|| format!("cannot read the token in {}", path.display()))?;
    Ok(without_mark(&text).trim_end().to_owned())
}

/// Whether a token can stand in a header and cannot be guessed by trying.
pub(crate) fn check_token(token: &str) -> Result<(), &'static str> {
    if token.len() < 16 {
        return Err("a token has 16 characters at least: `openssl rand -hex 32` makes one");
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err("a token has 8,192 characters at most: hubs take no longer heads of requests");
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a token is one word of ASCII: `openssl rand -hex 32` makes one");
    }
    Ok(())
}
