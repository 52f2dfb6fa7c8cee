//! `cursor show`: what a cursor means, for people. Programs send cursors back and look into none.

use std::io::Write as _;

use anyhow::bail;
use galaxy_push_core::cursor::{CURSOR_TEXT_MAX, Cursor, Epoch, Seq, StartFrom, VERSION};

use crate::Usage;
use crate::args::CursorCommand;

pub(crate) fn run(command: &CursorCommand) -> anyhow::Result<()> {
    let CursorCommand::Show { cursor } = command;
    let Some(text) = meaning(cursor) else {
        bail!(Usage(format!("not a cursor: {:?}; {}", shortened(cursor), fault(cursor))));
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

fn meaning(cursor: &str) -> Option<String> {
    Some(match StartFrom::parse(cursor).ok()? {
        StartFrom::Unreadable => return None,
        StartFrom::Head => "no position: reading begins with the next event that is published".to_owned(),
        StartFrom::Oldest => {
            "no position: reading begins with the oldest event that is still held".to_owned()
        }
        StartFrom::At(cursor) => format!(
            "version   {VERSION}\nepoch     {}   one life of a log; a new one begins when continuity cannot be proven\nposition  {}   \
             the last event passed; {}",
            cursor.epoch,
            cursor.seq.0,
            resumes(cursor)
        ),
        StartFrom::Foreign => format!(
            "version   {}   not known to this build, which reads version {VERSION}: a hub of this build takes it for another \
             epoch, tells a gap, and sends everything it holds",
            cursor.split('.').next().unwrap_or_default()
        ),
    })
}

/// Where whoever has passed this position goes on.
fn resumes(cursor: Cursor) -> String {
    if cursor.epoch.has_holes() {
        let message = cursor.message();
        return format!(
            "it lies in message {message} of the stream, and positions have holes: they count nothing"
        );
    }
    format!("reading resumes with {}", u128::from(cursor.seq.0) + 1)
}

/// What is wrong with a text that is no cursor.
fn fault(text: &str) -> String {
    let is_allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.len() > CURSOR_TEXT_MAX {
        return format!("it has {} bytes, and a cursor at most {CURSOR_TEXT_MAX}", text.len());
    }
    if let Some(other) = text.chars().find(|c| !is_allowed(c)) {
        return format!("it has {other:?} in it, and a cursor only letters, digits and any of . _ -");
    }
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return "a cursor begins with a digit, the number of its version".to_owned();
    }
    let fields: Vec<_> = text.split('.').collect();
    let [_, epoch, position] = fields[..] else {
        return format!("a cursor of version {VERSION} has three fields, as in {VERSION}.EPOCH.POSITION");
    };
    if epoch.parse::<Epoch>().is_err() {
        return format!("{epoch:?} is no epoch, which is 128 bits as 22 letters, digits and any of _ -");
    }
    let hint = match position.parse() {
        Ok(number) if number == 0 || !position.starts_with('0') => format!(": {} is {}", number, Seq(number)),
        _ => String::new(),
    };
    format!(
        "{position:?} is no position, which is a letter for its number of digits (a for one, b for two) and the digits{hint}"
    )
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
        says("2.packAAAAAAAAAAAAAAAAAA.f131071", "lies in message 1 of the stream");
        says("oldest", "the oldest event that is still held");
        says("", "the next event");
        says("1.AAAAAAAAAAAAAAAAAAAAAA.42", "version   1   not known");
        says("3.x", "version   3");
        assert_eq!(meaning("2.x"), None);
    }

    /// The fault: a text that began with a digit was told that a cursor begins with a digit.
    #[test]
    fn what_is_wrong_is_said() {
        let long = "2".repeat(129);
        for (text, said) in [
            ("2.AAAAAAAAAAAAAAAAAAAAAA.7", "\"7\" is no position"),
            ("2.AAAAAAAAAAAAAAAAAAAAAA.7", "the digits: 7 is a7"),
            ("2.AAAAAAAAAAAAAAAAAAAAAA.42", "42 is b42"),
            ("2.AAAAAAAAAAAAAAAAAAAAAA.07", "and the digits"),
            ("2.AAAAAAAAAAAAAAAAAAAAAA.b7", "\"b7\" is no position"),
            ("2.short.a7", "\"short\" is no epoch"),
            ("2.AAAAAAAAAAAAAAAAAAAAAA", "three fields"),
            ("2", "three fields"),
            ("-1", "begins with a digit"),
            ("Oldest", "begins with a digit"),
            ("2.a b", "' ' in it"),
            ("2.caf\u{e9}", "'\u{e9}' in it"),
            (&long, "129 bytes"),
        ] {
            assert_eq!(meaning(text), None, "{text}");
            assert!(fault(text).contains(said), "{text}: {}", fault(text));
        }
    }
}
