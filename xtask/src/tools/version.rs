//! Which version of a program the machine has, and whether it is new enough.
//!
//! Called by `tools`. Knows only how programs write versions, not what is done about an old one.

use std::process::Command;

use crate::shell;

/// The first two numbers of a version.
pub(super) type Version = (u32, u32);

/// What a program answers when it is asked for its version; none when it is not there or cannot say.
pub(super) fn of(program: &str, question: &str) -> Option<Version> {
    read(&shell::capture(Command::new(program).arg(question)).ok()?)
}

/// The first version in a text: `v20.20.2`, `go version go1.26.6 linux/amd64`, `Python 3.11.7`.
fn read(text: &str) -> Option<Version> {
    text.split_whitespace().find_map(|word| {
        let digits = word.trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
        let mut numbers = digits.split('.');
        let mut next = || {
            let number = numbers.next()?;
            let end = number.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(number.len());
            number[..end].parse().ok()
        };
        Some((next()?, next()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_or_go_that_is_too_old_is_told_from_one_that_is_new_enough() {
        assert_eq!(read("v18.20.4\n"), Some((18, 20)));
        assert_eq!(read("go version go1.19.8 linux/amd64\n"), Some((1, 19)));
        assert_eq!(read("go version go1.27rc1 linux/amd64\n"), Some((1, 27)));
        assert_eq!(read("Python 3.9.2\n"), Some((3, 9)));
        assert!(read("go version go1.19.8 linux/amd64") < read("go version go1.26.0 linux/amd64"));
        assert_eq!(read("no version here"), None);
    }
}
