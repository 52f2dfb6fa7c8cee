//! `cursor show`: what a cursor means, for people. Programs send cursors back and look into none.

use std::io::Write as _;

use anyhow::bail;
use galaxy_push_core::cursor::{Ask, VERSION};

use crate::Usage;
use crate::args::CursorCommand;

pub(crate) fn run(command: &CursorCommand) -> anyhow::Result<()> {
    let CursorCommand::Show { cursor } = command;
    let Some(text) = meaning(cursor) else {
        bail!(Usage(format!(
            "not a cursor: {:?}; a cursor is 1 to 128 letters, digits and any of . _ -, and begins with a digit",
            shortened(cursor)
        )));
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

fn meaning(cursor: &str) -> Option<String> {
    Some(match Ask::parse(cursor).ok()? {
        Ask::Unreadable => return None,
        Ask::Head => "no position: reading begins with the next event that is published".to_owned(),
        Ask::Oldest => "no position: reading begins with the oldest event that is still held".to_owned(),
        Ask::At(cursor) => format!(
            "version   {VERSION}\nepoch     {}   one life of a log; a new one begins when continuity cannot be proven\nposition  {}   \
             the last event passed; reading resumes with {}",
            cursor.epoch,
            cursor.seq.0,
            u128::from(cursor.seq.0) + 1
        ),
        Ask::Foreign => format!(
            "version   {}   not known to this build, which reads version {VERSION}: a hub of this build takes it for another \
             epoch, tells a gap, and sends everything it holds",
            cursor.split('.').next().unwrap_or_default()
        ),
    })
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_has_a_meaning() {
        let says = |cursor: &str, text: &str| {
            let meaning = meaning(cursor).unwrap_or_default();
            assert!(meaning.contains(text), "{cursor}: {meaning}");
        };
        says("2.AAAAAAAAAAAAAAAAAAAAAA.b42", "resumes with 43");
        says("2.AAAAAAAAAAAAAAAAAAAAAA.t18446744073709551615", "resumes with 18446744073709551616");
        says("oldest", "the oldest event that is still held");
        says("", "the next event");
        says("1.AAAAAAAAAAAAAAAAAAAAAA.42", "version   1   not known");
        says("3.x", "version   3");
        assert_eq!(meaning("2.x"), None);
    }
}
