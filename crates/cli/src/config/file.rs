//! `galaxy-push.toml`: found, read, and made the defaults of the command line.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Command;
use clap::builder::OsStr;
use galaxy_push_listener::read_text;

use crate::{Usage, args, without_mark};

const DEFAULT_FILE: &str = "galaxy-push.toml";

/// Flags about the file or the very first moments, which the file itself cannot set.
const NOT_IN_FILE: [&str; 3] = ["config", "help", "version"];

/// A file of settings: by key, the values as they would be written behind the flag.
pub(super) struct File {
    path: PathBuf,
    values: BTreeMap<String, Vec<String>>,
}

impl File {
    /// The file that the command line or the environment names, or the default file if it exists.
    pub(super) fn find(line: &[OsString]) -> anyhow::Result<Option<Self>> {
        let variable = || std::env::var_os("GALAXY_PUSH_CONFIG").filter(|path| !path.is_empty());
        let path = match named(line).or_else(|| variable().map(PathBuf::from)) {
            Some(path) => path,
            None if Path::new(DEFAULT_FILE).exists() => PathBuf::from(DEFAULT_FILE),
            None => return Ok(None),
        };
        let text =
            read_text(&path).with_context(|| format!("cannot read the settings in {}", path.display()))?;
        Self::parse(path, without_mark(&text)).map(Some)
    }

    fn parse(path: PathBuf, text: &str) -> anyhow::Result<Self> {
        let wrong = |what: String| anyhow!(Usage(format!("{}: {what}", path.display())));
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(0, |span| text[..span.start].lines().count().max(1));
            wrong(format!("line {line}: {}", error.message()))
        })?;
        let mut values = BTreeMap::new();
        for (key, value) in table {
            let texts = flag_text(&value).ok_or_else(|| {
                wrong(format!("key `{key}`: must be a string, a whole number, true, false or a list of them"))
            })?;
            values.insert(key, texts);
        }
        Ok(Self { path, values })
    }

    pub(super) fn path(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    /// Whether this text is in the value of a key.
    pub(super) fn says(&self, key: &str, value: &str) -> bool {
        self.values.get(key).is_some_and(|texts| texts.iter().any(|text| text.contains(value)))
    }

    /// Gives the flags of every command the defaults written here.
    pub(super) fn set_defaults(&self, definition: Command) -> anyhow::Result<Command> {
        let wrong = |what: String| Err(anyhow!(Usage(format!("{}: {what}", self.path()))));
        let known = known_keys(&definition);
        for (key, texts) in &self.values {
            match known.get(key) {
                None => {
                    let known: Vec<_> = known.into_keys().collect();
                    return wrong(format!("unknown key `{key}`; known are {}", known.join(", ")));
                }
                Some(false) if texts.len() != 1 => return wrong(format!("key `{key}`: takes one value")),
                _ => {}
            }
        }
        Ok(self.defaults(definition))
    }

    fn defaults(&self, command: Command) -> Command {
        let names: Vec<_> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        let command = names
            .into_iter()
            .fold(command, |command, name| command.mut_subcommand(name, |sub| self.defaults(sub)));
        command.mut_args(|arg| match arg.get_long().and_then(|long| self.values.get(long)) {
            Some(texts) if !texts.is_empty() => {
                arg.default_values(texts.iter().cloned().map(OsStr::from)).required(false)
            }
            _ => arg,
        })
    }
}

/// The keys a file may have, and whether each takes a list.
fn known_keys(definition: &Command) -> BTreeMap<String, bool> {
    let roles = definition.get_subcommands().filter(|sub| args::ROLES.contains(&sub.get_name()));
    let args = roles.flat_map(Command::get_arguments).chain(definition.get_arguments());
    args.filter_map(|arg| Some((arg.get_long()?.to_owned(), arg.get_value_delimiter().is_some())))
        .filter(|(key, _)| !NOT_IN_FILE.contains(&key.as_str()))
        .collect()
}

fn flag_text(value: &toml::Value) -> Option<Vec<String>> {
    match value {
        toml::Value::String(text) => Some(vec![text.clone()]),
        toml::Value::Integer(number) => Some(vec![number.to_string()]),
        toml::Value::Boolean(flag) => Some(vec![flag.to_string()]),
        toml::Value::Array(items) => {
            items.iter().map(flag_text).collect::<Option<Vec<_>>>().map(|nested| nested.concat())
        }
        _ => None,
    }
}

/// The value of `--config`, before anything is parsed.
fn named(line: &[OsString]) -> Option<PathBuf> {
    let mut words = line.iter();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        match text.strip_prefix("--config") {
            Some("") => return words.next().map(PathBuf::from),
            Some(rest) if rest.starts_with('=') => return Some(PathBuf::from(&rest[1..])),
            _ if text == "--" => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::bail;
    use clap::FromArgMatches as _;

    use super::*;

    fn parse(file: &str, line: &str) -> anyhow::Result<args::Command> {
        let file = File::parse("galaxy-push.toml".into(), file)?;
        let definition = file.set_defaults(args::definition())?;
        let matches = definition.try_get_matches_from(line.split_whitespace())?;
        Ok(args::Cli::from_arg_matches(&matches)?.command)
    }

    fn serve(file: &str, line: &str) -> anyhow::Result<args::ServeArgs> {
        match parse(file, line)? {
            args::Command::Serve(serve) => Ok(serve),
            _ => bail!("not serve"),
        }
    }

    #[test]
    fn the_file_beats_defaults_and_flags_beat_the_file() {
        let file = "window-age = '5m'\nwindow-events = 500\ndev = true\nallowed-origins = ['https://a', 'https://b']";
        let from_file = serve(file, "galaxy-push serve").unwrap();
        assert_eq!(from_file.window.window_age, Duration::from_secs(300));
        assert_eq!(from_file.window.window_events, 500);
        assert!(from_file.edge.dev);
        assert_eq!(from_file.edge.allowed_origins, ["https://a", "https://b"]);
        let flagged = serve(file, "galaxy-push serve --window-events 7").unwrap();
        assert_eq!(flagged.window.window_events, 7);
    }

    #[test]
    fn what_is_required_may_come_from_the_file() {
        let file = "hub = ['http://a:1', 'http://b:2']\nuser-keys = 'keys.json'";
        let Ok(args::Command::Gateway(gateway)) = parse(file, "galaxy-push gateway") else {
            panic!("gateway")
        };
        assert_eq!(gateway.hub, ["http://a:1", "http://b:2"]);
        let Ok(args::Command::Tail(tail)) = parse(file, "galaxy-push tail") else { panic!("tail") };
        assert_eq!(tail.hub, gateway.hub);
        let Ok(args::Command::Token(token)) = parse(file, "galaxy-push token --user 42") else {
            panic!("token")
        };
        assert_eq!(token.user_keys, Some("keys.json".into()));
        assert!(parse("hub = []", "galaxy-push gateway").is_err());
    }

    #[test]
    fn what_the_file_may_not_say() {
        for (file, complaint) in [
            ("window-ages = '5m'", "unknown key `window-ages`"),
            ("config = 'x'", "unknown key `config`"),
            ("window-age = '5 parsecs'", "5 parsecs"),
            ("window-events = 0", "1 at least"),
            ("window-age = 1.5", "key `window-age`: must be a string"),
            ("window-age = ['5m', '6m']", "key `window-age`: takes one value"),
            ("dev = false\nwindow-age = ", "line 2"),
            ("[hub]\naddr = 1", "key `hub`"),
        ] {
            let error = format!("{:#}", serve(file, "galaxy-push serve").unwrap_err());
            assert!(error.contains(complaint), "{file}: {error}");
        }
    }

    #[test]
    fn a_named_file_is_found_before_parsing() {
        let named = |line: &str| named(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(named("x serve --config a.toml"), Some("a.toml".into()));
        assert_eq!(named("x --config=b.toml serve"), Some("b.toml".into()));
        assert_eq!(named("x publish -- --config=b.toml"), None);
    }
}
