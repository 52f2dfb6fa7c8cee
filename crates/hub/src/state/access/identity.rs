//! Somebody the hub knows: a name, a role, a scope of recipients, and limits.
//!
//! Written down by whoever starts the hub, and kept by `access.rs`. It recognises nobody by itself and counts nothing.

use std::fmt;

use galaxy_push_core::recipient::Pattern;
use sha2::{Digest as _, Sha256};

/// What an identity is for. The roles are separate: a publisher cannot read, a gateway cannot publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Publishes events and standing records, and asks for the head.
    Publisher,
    /// Subscribes under its own name, replays, reports, and asks for the head.
    Gateway,
    /// Subscribes under any name, and asks for the head: `tail` and other tools.
    Operator,
}

/// Somebody the hub knows: a name, a role, and what it is limited to.
///
/// ```
/// use galaxy_push_core::recipient::Pattern;
/// use galaxy_push_hub::{Identity, Role};
///
/// // May publish to users and one topic, 100 events and 1 MiB of them per second.
/// let shop = Identity::new("shop", Role::Publisher)
///     .recipients(["user:*", "topic:offers"].iter().filter_map(|text| Pattern::parse(text).ok()))
///     .events_per_second(100)
///     .bytes_per_second(1 << 20);
/// assert_ne!(shop, Identity::new("shop", Role::Publisher));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: String,
    role: Role,
    recipients: Vec<Pattern>,
    events_per_second: Option<u32>,
    bytes_per_second: Option<u64>,
}

/// A token as the hub keeps it: its SHA-256, from which nobody gets the token back.
///
/// That holds for tokens that cannot be guessed, such as 32 random bytes; a password is not one.
///
/// ```
/// use galaxy_push_hub::Fingerprint;
///
/// // What `printf %s abc | sha256sum` prints is the fingerprint of the token `abc`.
/// let printed = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
/// assert!(Fingerprint::from_hex(printed) == Some(Fingerprint::of("abc")));
/// assert!(Fingerprint::from_hex("abc").is_none());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// Why an identity cannot be added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidIdentity {
    /// Its name can be no gateway id, nor stand in a log.
    #[error("its name must be 1 to 255 bytes without control characters, spaces or commas")]
    Name,
    /// There is one of this name and role.
    #[error("it is there twice as {role}: give each a name of its own")]
    Twice {
        /// The role.
        role: Role,
    },
    /// Its rate would let nothing through.
    #[error("its rate must be at least 1 event, and at least 1 byte, per second")]
    Rate,
    /// Its token would be taken for somebody else's.
    #[error("it has the token of {other}: give each a token of its own")]
    SameToken {
        /// Who has it.
        other: String,
    },
}

impl Identity {
    /// An identity of this name and role, for all recipients and without a limit of its rate.
    #[must_use]
    pub fn new(name: impl Into<String>, role: Role) -> Self {
        Self {
            name: name.into(),
            role,
            recipients: Vec::new(),
            events_per_second: None,
            bytes_per_second: None,
        }
    }

    /// Limits it to recipients that one of these patterns admits. None at all: no limit.
    #[must_use]
    pub fn recipients(mut self, patterns: impl IntoIterator<Item = Pattern>) -> Self {
        self.recipients = patterns.into_iter().collect();
        self
    }

    /// Limits how many events it publishes per second, at least 1; a second's worth may come at once.
    #[must_use]
    pub fn events_per_second(mut self, limit: u32) -> Self {
        self.events_per_second = Some(limit);
        self
    }

    /// Limits the bytes of events and standing records that it publishes per second, as they are encoded, at least 1; a
    /// second's worth may come at once, and one request of more once nothing is owed. So nobody alone can make the window
    /// forget what is for others.
    #[must_use]
    pub fn bytes_per_second(mut self, limit: u64) -> Self {
        self.bytes_per_second = Some(limit);
        self
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn role(&self) -> Role {
        self.role
    }

    /// Of events and of bytes, per second.
    pub(super) fn limits(&self) -> [Option<u64>; 2] {
        [self.events_per_second.map(u64::from), self.bytes_per_second]
    }

    /// The patterns of its scope; empty: everybody.
    pub(super) fn scope(&self) -> &[Pattern] {
        &self.recipients
    }

    /// Whether this recipient is in its scope.
    pub(super) fn admits(&self, recipient: &str) -> bool {
        self.recipients.is_empty() || self.recipients.iter().any(|pattern| pattern.admits(recipient))
    }

    /// Whether every recipient that this pattern admits is in its scope.
    pub(super) fn covers(&self, asked: &Pattern) -> bool {
        self.recipients.is_empty() || self.recipients.iter().any(|pattern| pattern.covers(asked))
    }
}

impl Fingerprint {
    /// That of this token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// That which these 64 hexadecimal digits are; `None`: they are not.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits: Vec<u8> =
            text.chars().map(|digit| digit.to_digit(16).map(|value| value as u8)).collect::<Option<_>>()?;
        let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        if digits.len().is_multiple_of(2) { bytes.try_into().ok().map(Self) } else { None }
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint")
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publisher => "publisher",
            Self::Gateway => "gateway",
            Self::Operator => "operator",
        })
    }
}

/// "publishers", "gateways and operators".
pub(super) fn plural(roles: &[Role]) -> String {
    match roles {
        [] => "nobody".to_owned(),
        [one] => format!("{one}s"),
        [first, rest @ ..] => {
            let rest: Vec<_> = rest.iter().map(|role| format!("{role}s")).collect();
            format!("{first}s and {}", rest.join(" and "))
        }
    }
}
