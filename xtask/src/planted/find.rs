//! Finds a piece of code in another by its words and signs: spaces, line ends, comments, and the comma that rustfmt puts behind
//! the last of a list that it breaks into lines do not count.
//!
//! Called by `plant`. Knows nothing of files.

use std::ops::Range;

/// A word or a sign, and where it lies.
type Word<'a> = (&'a str, Range<usize>);

/// Where `wanted` occurs in `text`: the bytes from its first word to its last.
pub(super) fn occurrences(text: &str, wanted: &str) -> Vec<Range<usize>> {
    let (there, wanted) = (words(text), words(wanted));
    if wanted.is_empty() {
        return Vec::new();
    }
    let found = (0..there.len()).filter_map(|from| {
        let to = matches(&there, from, &wanted)?;
        Some(there[from].1.start..there[to - 1].1.end)
    });
    found.collect()
}

/// The longest beginning of `wanted` that is somewhere in `text`, and where: what a reader of the error looks for.
pub(super) fn nearest(text: &str, wanted: &str) -> Option<Range<usize>> {
    let (there, wanted) = (words(text), words(wanted));
    (1..wanted.len()).rev().find_map(|count| {
        let from = (0..there.len()).find(|&from| matches(&there, from, &wanted[..count]).is_some())?;
        Some(there[from].1.clone())
    })
}

/// Where `wanted` ends, if it begins at `from`.
fn matches(there: &[Word<'_>], from: usize, wanted: &[Word<'_>]) -> Option<usize> {
    let mut at = from;
    let mut left = wanted.iter().map(|(word, _)| *word).peekable();
    while let Some(word) = left.next() {
        let present = |at: usize| there.get(at).map(|(word, _)| *word);
        if present(at) == Some(word) {
            at += 1;
        } else if at > from && closes(word) && present(at) == Some(",") && present(at + 1) == Some(word) {
            at += 2;
        } else if word == "," && left.peek().is_some_and(|next| closes(next) && present(at) == Some(next)) {
            // The comma is the text's to have or not.
        } else {
            return None;
        }
    }
    Some(at)
}

fn closes(word: &str) -> bool {
    matches!(word, ")" | "]" | "}")
}

/// Words, numbers, strings as a whole, and each sign by itself.
fn words(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let length = match first {
            _ if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            _ if is_word(first) => rest.find(|letter| !is_word(letter)).unwrap_or(rest.len()),
            '"' => quoted(rest, '"'),
            // A lifetime has no second quote.
            '\'' if rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'') => quoted(rest, '\''),
            _ => first.len_utf8(),
        };
        if !first.is_whitespace() && !rest.starts_with("//") {
            words.push((&rest[..length], at..at + length));
        }
        at += length;
    }
    words
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// How long a string or a character is, with its quotes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|&(_, letter)| {
        let ends = letter == quote && !escaped;
        escaped = letter == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'a>(text: &'a str, wanted: &str) -> Vec<&'a str> {
        occurrences(text, wanted).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn the_form_of_the_code_does_not_count() {
        let text = "{ self.give(\n        a, // why\n        b,\n    );\n    let x = 'a'; }";
        assert_eq!(found(text, "give( a, b )"), ["give(\n        a, // why\n        b,\n    )"]);
        assert_eq!(found("{ give(a, b) }", "give(\n a,\n b,\n)"), ["give(a, b)"]);
        assert_eq!(found("{ let x; }", "letx"), [""; 0]);
        assert_eq!(found("{ say(\"a  b\") }", "\"a b\""), [""; 0], "spaces in a string are the string");
    }

    #[test]
    fn each_occurrence_is_found() {
        assert_eq!(found("a.b(); a . b ( ); aa.b()", "a.b()"), ["a.b()", "a . b ( )"]);
        assert_eq!(found("fn x<'a>(y: &'a str) { '\"'; '\\''; b }", "b"), ["b"]);
        assert_eq!(found("a", ""), [""; 0]);
    }

    #[test]
    fn what_comes_nearest_is_where_it_begins_alike() {
        let text = "one(); two(three);";
        assert_eq!(nearest(text, "two(four)").map(|range| &text[range]), Some("two"));
        assert_eq!(nearest(text, "five()"), None);
    }
}
