//! SIGHUP asks a server to read its files anew, and never ends it: not even in its first moments, before anything can be
//! read anew. So nothing is done before, not even the definition of the command line is made.

use std::ffi::OsString;
use std::io;

use tokio::signal::unix::{SignalKind, signal};

use crate::args;

/// From now on SIGHUP does not end this process, if the command line asks for a server.
pub(crate) fn outlive(line: &[OsString]) -> io::Result<()> {
    if !asks_for_a_role(line) {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _inside = runtime.enter();
    // The system's handler stays for as long as the process lives, whoever listens.
    signal(SignalKind::hangup()).map(drop)
}

/// By the first word that is a command: the line may yet turn out to be wrong.
fn asks_for_a_role(line: &[OsString]) -> bool {
    let command = line.iter().skip(1).find(|word| args::COMMANDS.iter().any(|command| *word == *command));
    command.is_some_and(|word| args::ROLES.iter().any(|role| *word == *role))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_known_without_the_definition() {
        let definition = args::definition();
        let defined: Vec<_> = definition.get_subcommands().map(|command| command.get_name()).collect();
        assert_eq!(defined, args::COMMANDS);
        assert!(args::ROLES.iter().all(|role| args::COMMANDS.contains(role)));
    }

    #[test]
    fn servers_outlive_hangups_and_others_do_not() {
        for (line, is_role) in [
            ("x serve", true),
            ("x --log-level debug hub --open", true),
            ("x gateway --hub http://a", true),
            ("x publish --to user:hub --type t serve", false),
            ("x tail", false),
            ("x", false),
        ] {
            let words: Vec<_> = line.split(' ').map(OsString::from).collect();
            assert_eq!(asks_for_a_role(&words), is_role, "{line}");
        }
    }
}
