//! Whom an event is for: `user:<id>`, `session:<id>`, `topic:<name>`, `all`; and patterns over recipients.
//!
//! Text is validated once, at the border; behind it a recipient is a plain `&str` compared byte by byte.

use std::fmt;

/// The longest id or topic name, in bytes.
pub const ID_BYTES_MAX: usize = 255;

/// The most recipients one event may name.
pub const RECIPIENTS_MAX: usize = 256;

/// One valid recipient, split into its kind and id.
///
/// ```
/// use galaxy_push_core::recipient::{InvalidRecipient, Recipient};
///
/// assert_eq!(Recipient::parse("user:42"), Ok(Recipient::User("42")));
/// assert_eq!(Recipient::parse("topic:owner/repo"), Ok(Recipient::Topic("owner/repo")));
/// assert_eq!(Recipient::parse("all"), Ok(Recipient::All));
/// assert_eq!(Recipient::parse("group:1"), Err(InvalidRecipient::UnknownKind));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Recipient<'a> {
    /// Every connection of this user.
    User(&'a str),
    /// One session of a user.
    Session(&'a str),
    /// Whoever listens to this topic.
    Topic(&'a str),
    /// Everybody.
    All,
}

/// Why a text names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidRecipient {
    /// Neither `user:`, `session:`, `topic:` nor `all`.
    UnknownKind,
    /// Nothing after the colon.
    EmptyId,
    /// The id is longer than [`ID_BYTES_MAX`] bytes.
    IdTooLong,
    /// The id holds a control or format character, a space or a comma.
    ForbiddenCharacter,
    /// The name of one user or session ends in `*`.
    ManyNames,
}

/// What a credential or a filter admits: one recipient exactly, or every recipient that starts with a prefix.
///
/// ```
/// use galaxy_push_core::recipient::Pattern;
///
/// let orders = Pattern::parse("topic:orders/*")?;
/// assert!(orders.admits("topic:orders/7") && !orders.admits("topic:users/7"));
/// assert!(Pattern::parse("*")?.covers(&orders), "everything that `orders` admits");
/// # Ok::<(), galaxy_push_core::recipient::InvalidRecipient>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    prefix: bool,
}

impl<'a> Recipient<'a> {
    /// Parses and validates one recipient.
    ///
    /// # Errors
    ///
    /// [`InvalidRecipient`] says which rule the text breaks.
    pub fn parse(text: &'a str) -> Result<Self, InvalidRecipient> {
        if text == "all" {
            return Ok(Self::All);
        }
        let (kind, id) = text.split_once(':').ok_or(InvalidRecipient::UnknownKind)?;
        let recipient = match kind {
            "user" => Self::User(id),
            "session" => Self::Session(id),
            "topic" => Self::Topic(id),
            _ => return Err(InvalidRecipient::UnknownKind),
        };
        check_id(id)?;
        Ok(recipient)
    }
}

/// Checks the id of a user or session, or the name of a topic.
///
/// # Errors
///
/// [`InvalidRecipient`] says which rule the id breaks.
pub fn check_id(id: &str) -> Result<(), InvalidRecipient> {
    if id.is_empty() {
        return Err(InvalidRecipient::EmptyId);
    }
    if id.len() > ID_BYTES_MAX {
        return Err(InvalidRecipient::IdTooLong);
    }
    // Commas separate recipients in the CloudEvents attribute `to`; spaces and controls break headers and logs; and what
    // nobody sees makes two ids that look like one.
    if id.chars().any(|c| c.is_control() || c.is_whitespace() || c == ',' || is_format(c)) {
        return Err(InvalidRecipient::ForbiddenCharacter);
    }
    Ok(())
}

/// Checks the name of one user or session: an id that does not end in `*`. Elsewhere that stands for many names, so such a
/// name could be granted, but never revoked.
///
/// # Errors
///
/// [`InvalidRecipient`] says which rule the name breaks.
pub fn check_name(name: &str) -> Result<(), InvalidRecipient> {
    if name.ends_with('*') { Err(InvalidRecipient::ManyNames) } else { check_id(name) }
}

/// Whether a character shows nothing and changes how others are shown: the format characters of Unicode (category Cf),
/// those for the direction of text among them, and the separators of lines and paragraphs.
#[must_use]
pub fn is_format(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
        | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}')
}

impl Pattern {
    /// Parses a recipient, or a beginning of one followed by a single trailing `*`. `*` alone admits everybody.
    ///
    /// # Errors
    ///
    /// [`InvalidRecipient`] when an exact text is no recipient, or a prefix could never match one.
    pub fn parse(text: &str) -> Result<Self, InvalidRecipient> {
        let Some(prefix) = text.strip_suffix('*') else {
            Recipient::parse(text)?;
            return Ok(Self { text: text.to_owned(), prefix: false });
        };
        let could_match = ["user:", "session:", "topic:", "all"].iter().any(|kind| kind.starts_with(prefix));
        if !could_match {
            let (kind, id) = prefix.split_once(':').ok_or(InvalidRecipient::UnknownKind)?;
            if !matches!(kind, "user" | "session" | "topic") {
                return Err(InvalidRecipient::UnknownKind);
            }
            if !id.is_empty() {
                check_id(id)?;
            }
        }
        Ok(Self { text: prefix.to_owned(), prefix: true })
    }

    /// Whether the pattern admits this recipient.
    ///
    /// `recipient` is a recipient that was parsed before: this only compares bytes.
    #[must_use]
    pub fn admits(&self, recipient: &str) -> bool {
        if self.prefix { recipient.starts_with(&self.text) } else { recipient == self.text }
    }

    /// Whether the pattern admits everything that `other` does.
    ///
    /// Asked when a credential limits what its holder may ask for: each asked pattern must be covered by a granted one.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.admits(&other.text) && (self.prefix || !other.prefix)
    }
}

impl fmt::Display for Recipient<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::Session(id) => write!(f, "session:{id}"),
            Self::Topic(name) => write!(f, "topic:{name}"),
            Self::All => f.write_str("all"),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.prefix { "*" } else { "" })
    }
}

impl fmt::Display for InvalidRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownKind => "must be user:<id>, session:<id>, topic:<name> or all",
            Self::EmptyId => "the id after the colon is empty",
            Self::IdTooLong => "the id is longer than 255 bytes",
            Self::ForbiddenCharacter => "the id holds a space, a comma, or a control or format character",
            Self::ManyNames => {
                "it ends in `*`, which stands for many names elsewhere: name one user or session"
            }
        })
    }
}

impl std::error::Error for InvalidRecipient {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients() {
        assert_eq!(Recipient::parse("user:42"), Ok(Recipient::User("42")));
        assert_eq!(Recipient::parse("session:a:b"), Ok(Recipient::Session("a:b")));
        assert_eq!(Recipient::parse("topic:owner/repo"), Ok(Recipient::Topic("owner/repo")));
        assert_eq!(Recipient::parse("all"), Ok(Recipient::All));
        assert_eq!(Recipient::parse("all:x"), Err(InvalidRecipient::UnknownKind));
        assert_eq!(Recipient::parse("group:1"), Err(InvalidRecipient::UnknownKind));
        assert_eq!(Recipient::parse("user:"), Err(InvalidRecipient::EmptyId));
        assert_eq!(Recipient::parse("user:a b"), Err(InvalidRecipient::ForbiddenCharacter));
        assert_eq!(Recipient::parse("user:a,b"), Err(InvalidRecipient::ForbiddenCharacter));
        assert_eq!(Recipient::parse("user:a\u{7f}"), Err(InvalidRecipient::ForbiddenCharacter));
        for unseen in [
            '\u{a0}',
            '\u{ad}',
            '\u{200b}',
            '\u{200d}',
            '\u{202e}',
            '\u{2028}',
            '\u{2066}',
            '\u{3000}',
            '\u{feff}',
            '\u{e0041}',
        ] {
            for id in [format!("{unseen}ann"), format!("a{unseen}nn"), format!("ann{unseen}")] {
                assert_eq!(check_id(&id), Err(InvalidRecipient::ForbiddenCharacter), "{id:?}");
                assert!(Pattern::parse(&format!("user:{id}*")).is_err(), "{id:?}");
            }
        }
        for seen in ["ann", "Änne", "安", "😀", "a\u{301}", "سارا"] {
            assert_eq!(check_id(seen), Ok(()), "{seen}");
        }
        let longest = format!("user:{}", "x".repeat(ID_BYTES_MAX));
        assert!(Recipient::parse(&longest).is_ok());
        assert_eq!(Recipient::parse(&format!("{longest}x")), Err(InvalidRecipient::IdTooLong));
    }

    #[test]
    fn a_name_is_of_one_user_or_session() {
        assert_eq!(check_name("ann"), Ok(()));
        assert_eq!(check_name("a*nn"), Ok(()));
        for many in ["*", "ann*"] {
            assert_eq!(check_name(many), Err(InvalidRecipient::ManyNames), "{many}");
        }
        assert_eq!(check_name(""), Err(InvalidRecipient::EmptyId));
    }

    #[test]
    fn patterns() {
        for (pattern, admitted, refused) in [
            ("user:42", "user:42", "user:421"),
            ("user:4*", "user:421", "user:5"),
            ("topic:*", "topic:x", "user:x"),
            ("*", "all", "\u{0}"),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            assert!(parsed.admits(admitted), "{pattern}");
            assert_eq!(parsed.admits(refused), pattern == "*", "{pattern}");
            assert_eq!(parsed.to_string(), pattern);
        }
        for (wide, narrow) in
            [("topic:*", "topic:a*"), ("topic:*", "topic:a"), ("*", "user:*"), ("user:1", "user:1")]
        {
            let (wide, narrow) = (Pattern::parse(wide).unwrap(), Pattern::parse(narrow).unwrap());
            assert!(wide.covers(&narrow), "{wide} {narrow}");
            assert_eq!(narrow.covers(&wide), narrow == wide, "{narrow} {wide}");
        }
        for pattern in ["", "group:*", "user:a b*", "x*", "user:*x"] {
            let exact_star = pattern == "user:*x";
            assert_eq!(Pattern::parse(pattern).is_err(), !exact_star, "{pattern:?}");
        }
    }
}
