//! What the rules see of a text: which files are whose, and lines of code without comments.
//!
//! Called by `rules`. Knows just enough of Rust to tell code from comments and tests from the rest.

use super::{Finding, Text};

impl Text {
    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs") && !self.is_generated()
    }

    /// Code written by people, in any language that the project uses.
    pub(super) fn is_code(&self) -> bool {
        let suffixes = [".rs", ".py", ".js", ".mjs", ".ts", ".css", ".html", ".sh"];
        suffixes.iter().any(|suffix| self.path.ends_with(suffix)) && !self.is_generated()
    }

    pub(super) fn is_generated(&self) -> bool {
        self.path.contains("/generated/")
    }

    /// A file of tests only: `tests.rs` beside the code, or anything under a `tests` folder.
    pub(super) fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    /// Whether the file belongs to the product: a library, the binary or the simulator; not these commands.
    pub(super) fn is_product(&self) -> bool {
        self.path.starts_with("crates/") || self.path.starts_with("sim/")
    }

    pub(super) fn is_under(&self, folder: &str) -> bool {
        self.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The lines of Rust code with their numbers, without comments, up to the inline tests. A `mod tests;` that is
    /// declared on top, before the code, hides nothing.
    pub(super) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = || self.content.lines().map(without_comment);
        let following = lines().skip(1).map(Some).chain([None]);
        let begins_inline_tests = |line: &str, next: Option<&str>| {
            line.trim().starts_with("#[cfg(test)]")
                && !next.is_some_and(|next| next.trim_end().ends_with(';'))
        };
        lines()
            .zip(following)
            .enumerate()
            .take_while(move |(_, (line, next))| !begins_inline_tests(line, *next))
            .map(|(index, (line, _))| (index + 1, line))
    }

    pub(super) fn finding(&self, line: usize, message: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, message: message.into() }
    }
}

/// A line of Rust without its comment; `//` inside a string is no comment.
pub(super) fn without_comment(line: &str) -> &str {
    let (mut in_string, mut escaped) = (false, false);
    for (at, letter) in line.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            '/' if !in_string && line[at..].starts_with("//") => return &line[..at],
            _ => {}
        }
    }
    line
}
