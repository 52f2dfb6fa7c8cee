//! SIGHUP asks a server to read its files anew, and never ends it: not even in its first moments, before anything can be
//! read anew.

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

/// Whether this process was started so that SIGHUP does nothing, as `nohup` does: to listen to it would undo that. Known on
/// Linux only.
pub(crate) fn are_ignored() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangups(&status))
}

fn ignores_hangups(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // SIGHUP is signal 1, which has the lowest bit.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// By the first word that is a command: the line may yet turn out to be wrong.
fn asks_for_a_role(line: &[OsString]) -> bool {
    let definition = args::definition();
    let command = line.iter().skip(1).find(|word| definition.find_subcommand(word).is_some());
    command.is_some_and(|word| args::ROLES.iter().any(|role| *word == *role))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        assert!(ignores_hangups("Name:\tx\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangups("SigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n"));
        assert!(!ignores_hangups(""));
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
