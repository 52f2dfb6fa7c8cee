//! From words to settings: the command line, the environment, and `galaxy-push.toml`, whose values become the defaults of
//! the flags of the same name.
//!
//! Clap parses and checks them exactly as flags, and its order of precedence (flags, environment, default) is ours with
//! the file in the place of the default. A key that no flag of any role bears is an error.

mod environment;
mod file;

use std::ffi::OsString;
use std::io::Write as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Command};

use crate::args;
use file::File;

/// Parses the command line. Asked for help, or given what it does not understand, it says so and ends the process.
pub(crate) fn parse(line: &[OsString]) -> anyhow::Result<ArgMatches> {
    let definition = args::definition();
    // Help must work also, and just then, when the file is broken.
    if let Err(answer) = definition.clone().try_get_matches_from(line)
        && !answer.use_stderr()
    {
        answer.exit();
    }
    if let Some(matches) = needs_no_settings(&definition, line) {
        return Ok(matches);
    }
    environment::check(&definition)?;
    let file = File::find(line)?;
    let definition = match &file {
        Some(file) => file.set_defaults(definition)?,
        None => definition,
    };
    definition.try_get_matches_from(line).map_err(|error| {
        let Some(origin) = origin(&error, file.as_ref()) else { error.exit() };
        let _ = error.print();
        let _ = writeln!(std::io::stderr(), "\n  tip: the value comes from {origin}");
        crate::Told.into()
    })
}

/// What was asked for, if it is a completion script: shells ask for that wherever they start, whatever is set there.
fn needs_no_settings(definition: &Command, line: &[OsString]) -> Option<ArgMatches> {
    let matches = args::without_environment(definition.clone()).try_get_matches_from(line).ok()?;
    matches.subcommand_matches("completions").is_some().then_some(matches)
}

/// Where a value that cannot be used was written, unless it was on the command line.
fn origin(error: &clap::Error, file: Option<&File>) -> Option<String> {
    if !matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation) {
        return None;
    }
    let (Some(ContextValue::String(arg)), Some(ContextValue::String(value))) =
        (error.get(ContextKind::InvalidArg), error.get(ContextKind::InvalidValue))
    else {
        return None;
    };
    let flag = arg.trim_start_matches('-').split([' ', '=']).next()?;
    let variable = format!("GALAXY_PUSH_{}", flag.replace('-', "_").to_uppercase());
    if std::env::var(&variable).is_ok_and(|set| set.contains(value)) {
        return Some(format!("{variable} in the environment"));
    }
    let file = file.filter(|file| file.says(flag, value))?;
    Some(format!("the key `{flag}` in {}", file.path()))
}
