//! `galaxy-push.toml`: its values become the defaults of the flags of the same name.
//!
//! Clap then parses and checks them exactly as flags, and its order of precedence (flags, environment, default) is ours
//! with the file in the place of the default. A key that no flag of any role bears is an error.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Command;

const DEFAULT_FILE: &str = "galaxy-push.toml";

/// The roles whose flags the file may set; other commands only take what they share with them.
const ROLES: [&str; 3] = ["serve", "hub", "gateway"];

/// Flags about the file or the very first moments, which the file itself cannot set.
const NOT_IN_FILE: [&str; 3] = ["config", "help", "version"];

/// Gives `command` the defaults from the file that `args` or the environment name, or from the default file.
pub(crate) fn with_file(command: Command, args: &[OsString]) -> anyhow::Result<Command> {
    let named = named_file(args).or_else(|| std::env::var_os("GALAXY_PUSH_CONFIG").map(PathBuf::from));
    let path = match &named {
        Some(path) => path.as_path(),
        None if Path::new(DEFAULT_FILE).exists() => Path::new(DEFAULT_FILE),
        None => return Ok(command),
    };
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    apply(command, &text).with_context(|| format!("in {}", path.display()))
}

fn apply(command: Command, text: &str) -> anyhow::Result<Command> {
    let table: toml::Table = text.parse()?;
    let mut values = BTreeMap::new();
    for (key, value) in table {
        values.insert(key.clone(), flag_text(&value).with_context(|| format!("key `{key}`"))?);
    }
    let known = known_keys(&command);
    for key in values.keys() {
        if !known.contains(key) {
            bail!("unknown key `{key}`; known are: {}", known.join(", "));
        }
    }
    Ok(set_defaults(command, &values))
}

fn known_keys(command: &Command) -> Vec<String> {
    let roles = command.get_subcommands().filter(|sub| ROLES.contains(&sub.get_name()));
    let args = roles.flat_map(Command::get_arguments).chain(command.get_arguments());
    let mut keys: Vec<_> = args.filter_map(clap::Arg::get_long).map(str::to_owned).collect();
    keys.retain(|key| !NOT_IN_FILE.contains(&key.as_str()));
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn set_defaults(mut command: Command, values: &BTreeMap<String, Vec<String>>) -> Command {
    let names: Vec<_> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in names {
        command = command.mut_subcommand(name, |sub| set_defaults(sub, values));
    }
    command.mut_args(|arg| match arg.get_long().and_then(|long| values.get(long)) {
        Some(values) => {
            arg.default_values(values.iter().cloned().map(clap::builder::OsStr::from)).required(false)
        }
        None => arg,
    })
}

/// A value as it would be written behind the flag.
fn flag_text(value: &toml::Value) -> anyhow::Result<Vec<String>> {
    match value {
        toml::Value::String(text) => Ok(vec![text.clone()]),
        toml::Value::Integer(number) => Ok(vec![number.to_string()]),
        toml::Value::Boolean(flag) => Ok(vec![flag.to_string()]),
        toml::Value::Array(items) => {
            items.iter().map(flag_text).collect::<anyhow::Result<Vec<_>>>().map(|nested| nested.concat())
        }
        _ => bail!("must be a string, a whole number, true, false or a list of them"),
    }
}

/// The value of `--config`, before anything is parsed.
fn named_file(args: &[OsString]) -> Option<PathBuf> {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        match text.strip_prefix("--config") {
            Some("") => return args.next().map(PathBuf::from),
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

    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::*;
    use crate::args;

    fn parse(file: &str, line: &str) -> anyhow::Result<args::ServeArgs> {
        let command = apply(args::Cli::command(), file)?;
        let matches = command.try_get_matches_from(line.split_whitespace())?;
        match args::Cli::from_arg_matches(&matches)?.command {
            args::Command::Serve(serve) => Ok(serve),
            _ => bail!("not serve"),
        }
    }

    #[test]
    fn the_file_beats_defaults_and_flags_beat_the_file() {
        let file = "window-age = '5m'\nwindow-events = 500\ndev = true\nallowed-origins = ['https://a', 'https://b']";
        let from_file = parse(file, "galaxy-push serve").unwrap();
        assert_eq!(from_file.window.window_age, Duration::from_secs(300));
        assert_eq!(from_file.window.window_events, 500);
        assert!(from_file.edge.dev);
        assert_eq!(from_file.edge.allowed_origins, ["https://a", "https://b"]);
        let flagged = parse(file, "galaxy-push serve --window-events 7").unwrap();
        assert_eq!(flagged.window.window_events, 7);
    }

    #[test]
    fn what_the_file_may_not_say() {
        for (file, complaint) in [
            ("window-ages = '5m'", "unknown key `window-ages`"),
            ("config = 'x'", "unknown key `config`"),
            ("window-age = '5 parsecs'", "parsecs"),
            ("window-events = 0", "0 is not in 1.."),
            ("window-age = 1.5", "must be a string"),
            ("window-age = ", "expected"),
        ] {
            let error = format!("{:#}", parse(file, "galaxy-push serve").unwrap_err());
            assert!(error.contains(complaint), "{file}: {error}");
        }
    }

    #[test]
    fn a_named_file_is_found_before_parsing() {
        let named = |line: &str| named_file(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(named("x serve --config a.toml"), Some("a.toml".into()));
        assert_eq!(named("x --config=b.toml serve"), Some("b.toml".into()));
        assert_eq!(named("x publish -- --config=b.toml"), None);
    }
}
