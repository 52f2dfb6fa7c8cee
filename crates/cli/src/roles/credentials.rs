//! The file behind `--hub-credentials`: who may do what at the hub.
//!
//! ```toml
//! [[identity]]
//! name = "backend"                  # the name in its certificate; in logs; on its events
//! role = "publisher"                # or "gateway", "operator"
//! token-file = "backend.token"      # beside this file; or token-sha256 = "…"; or neither: by certificate only
//! recipients = ["user:*", "topic:news"]
//! events-per-second = 500
//! bytes-per-second = "1MiB"         # or a number
//! ```
//!
//! Whatever is wrong is told by its line, and never by what a token is.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use galaxy_push_core::recipient::Pattern;
use galaxy_push_hub::{Access, Fingerprint, Identity, Role};
use galaxy_push_listener::read_text;
use serde::Deserialize;
use toml::Spanned;

use crate::args::size;
use crate::peer::{check_token, read_token};
use crate::{Usage, without_mark};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// `None`: there is no such key, so it may be half a file.
    identity: Option<Vec<Spanned<Entry>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    name: String,
    role: RoleName,
    token_file: Option<PathBuf>,
    token_sha256: Option<String>,
    recipients: Option<Vec<String>>,
    events_per_second: Option<u32>,
    bytes_per_second: Option<Bytes>,
}

/// 1048576 or "1MiB".
#[derive(Deserialize)]
#[serde(untagged)]
enum Bytes {
    Number(u64),
    Text(String),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RoleName {
    Publisher,
    Gateway,
    Operator,
}

/// Reads the file. `by_certificate`: peers may present certificates, so an identity needs no token.
pub(super) fn read(path: &Path, by_certificate: bool) -> anyhow::Result<Access> {
    let text =
        read_text(path).with_context(|| format!("cannot read --hub-credentials {}", path.display()))?;
    parse(without_mark(&text), path, by_certificate)
}

fn parse(text: &str, path: &Path, by_certificate: bool) -> anyhow::Result<Access> {
    let wrong = |at: usize, what: &str| {
        let line = text[..at].lines().count() + usize::from(at == 0 || text[..at].ends_with('\n'));
        anyhow!(Usage(format!("--hub-credentials {}: line {line}: {what}", path.display())))
    };
    let file: File = toml::from_str(text)
        .map_err(|error| wrong(error.span().map_or(0, |span| span.start), error.message()))?;
    let Some(identities) = file.identity else {
        let what = "names nobody, so nobody could connect: add an [[identity]], or write identity = [] if that is meant";
        return Err(wrong(0, what));
    };
    if identities.is_empty() {
        tracing::warn!(file = %path.display(), "--hub-credentials names nobody: nobody is let in");
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut access = Access::closed();
    for entry in identities {
        let at = entry.span().start;
        let entry = entry.into_inner();
        let name = entry.name.clone();
        let of = |what: String| wrong(at, &format!("{name}: {what}"));
        let token = token(&entry, folder).map_err(|error| of(format!("{error:#}")))?;
        if token.is_none() && !by_certificate {
            return Err(of(
                "nobody could be it: give it a token-file or a token-sha256, or let peers present \
                           certificates with --hub-peer-ca"
                    .to_owned(),
            ));
        }
        let identity = identity(&entry).map_err(of)?;
        access = access.with(identity, token).map_err(|error| of(error.to_string()))?;
    }
    Ok(access)
}

fn token(entry: &Entry, folder: &Path) -> anyhow::Result<Option<Fingerprint>> {
    match (&entry.token_file, &entry.token_sha256) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(anyhow!("token-file and token-sha256 are two tokens: give one of them")),
        (None, Some(hex)) => Fingerprint::from_hex(hex).map(Some).ok_or_else(|| {
            anyhow!("token-sha256 is 64 hexadecimal digits: `printf %s \"$TOKEN\" | sha256sum` prints them")
        }),
        (Some(path), None) => {
            let path = folder.join(path);
            let token = read_token(&path)?;
            check_token(&token).map_err(|why| anyhow!("{}: {why}", path.display()))?;
            Ok(Some(Fingerprint::of(&token)))
        }
    }
}

fn identity(entry: &Entry) -> Result<Identity, String> {
    let role = match entry.role {
        RoleName::Publisher => Role::Publisher,
        RoleName::Gateway => Role::Gateway,
        RoleName::Operator => Role::Operator,
    };
    let mut identity = Identity::new(&entry.name, role);
    if let Some(recipients) = &entry.recipients {
        if recipients.is_empty() {
            return Err("recipients = [] admits nobody: leave it out for everybody".to_owned());
        }
        let patterns = recipients
            .iter()
            .map(|text| Pattern::parse(text).map_err(|why| format!("recipients: {text:?} {why}")));
        identity = identity.recipients(patterns.collect::<Result<Vec<_>, _>>()?);
    }
    let limited = [
        ("events-per-second", entry.events_per_second.is_some()),
        ("bytes-per-second", entry.bytes_per_second.is_some()),
    ];
    if let Some((key, _)) = limited.iter().find(|(_, given)| *given && role != Role::Publisher) {
        return Err(format!("{key} is for publishers, and this is a {role}"));
    }
    if let Some(limit) = entry.events_per_second {
        identity = identity.events_per_second(limit);
    }
    if let Some(limit) = &entry.bytes_per_second {
        identity = identity.bytes_per_second(limit.read()?);
    } else if role == Role::Publisher && entry.recipients.is_some() {
        tracing::info!(
            publisher = entry.name,
            "its recipients are limited, but not how much it publishes: bytes-per-second keeps it from filling the window"
        );
    }
    Ok(identity)
}

impl Bytes {
    fn read(&self) -> Result<u64, String> {
        match self {
            Self::Number(bytes) => Ok(*bytes),
            Self::Text(text) => size(text).map_err(|why| format!("bytes-per-second: {text:?}: {why}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, by_certificate: bool) -> Result<Access, String> {
        super::parse(text, Path::new("credentials.toml"), by_certificate)
            .map_err(|error| format!("{error:#}"))
    }

    const SHA: &str = "token-sha256 = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'";

    #[test]
    fn identities_are_read() {
        let text = format!(
            "[[identity]]\nname = 'backend'\nrole = 'publisher'\n{SHA}\nrecipients = ['user:*']\nevents-per-second = 5\nbytes-per-second = '1MiB'\n\
             [[identity]]\nname = 'edge-1'\nrole = 'gateway'\n"
        );
        let access = parse(&text, true).unwrap();
        assert_eq!(format!("{access:?}"), "[(\"backend\", Publisher), (\"edge-1\", Gateway)]");
        let error = parse(&text, false).unwrap_err();
        assert!(error.contains("line 8: edge-1: nobody could be it"), "{error}");
        assert!(!parse("identity = []", false).unwrap().is_open());
    }

    #[test]
    fn what_is_wrong_is_told_by_its_line_and_never_shows_a_token() {
        let entry = |rest: &str| format!("# who\n[[identity]]\nname = 'a'\nrole = 'gateway'\n{rest}\n");
        let twice = entry(SHA) + &entry(SHA).replace("'a'", "'b'");
        for (text, complaint) in [
            (String::new(), "line 1: names nobody"),
            (entry("token = 'the-secret-itself'"), "line 5: unknown field `token`"),
            (entry("token-sha256 = 'the-secret-itself'"), "line 2: a: token-sha256 is 64 hexadecimal digits"),
            (entry(&format!("token-file = 't'\n{SHA}")), "line 2: a: token-file and token-sha256"),
            (entry("token-file = 'nowhere'"), "line 2: a: cannot read the token in nowhere"),
            (entry("recipients = []"), "line 2: a: recipients = [] admits nobody"),
            (entry("recipients = ['group:1']"), "line 2: a: recipients: \"group:1\""),
            (entry("events-per-second = 5"), "line 2: a: events-per-second is for publishers"),
            (entry("bytes-per-second = 5"), "line 2: a: bytes-per-second is for publishers"),
            (
                entry("bytes-per-second = 'much'").replace("'gateway'", "'publisher'"),
                "line 2: a: bytes-per-second: \"much\"",
            ),
            (
                entry("bytes-per-second = 0").replace("'gateway'", "'publisher'"),
                "line 2: a: its rate must be",
            ),
            (entry("").replace("'gateway'", "'king'"), "line 4: unknown variant `king`"),
            (entry("").replace("name = 'a'\n", ""), "line 2: missing field `name`"),
            (entry("").replace("'a'", "'a b'"), "line 2: a b: its name must be"),
            (twice, "line 7: b: it has the token of a"),
            ("[[identities]]\nname = 'a'".to_owned(), "line 1: unknown field `identities`"),
            ("[[identity]]\nname = ".to_owned(), "line 2: "),
        ] {
            let error = parse(&text, true).unwrap_err();
            assert!(error.contains(complaint), "{complaint}: {error}");
            assert!(
                error.starts_with("--hub-credentials credentials.toml: ") && !error.contains("secret-itself")
            );
        }
    }
}
