//! Records about publishes and about the log itself.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{CallId, Name, Position};

/// A fingerprint of what must arrive unchanged. In a file: 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub u64);

/// A publish of one event begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PubCall {
    /// This call. A retry gets a new one.
    pub call: CallId,
    /// The event's source.
    pub source: Name,
    /// The event's id, the same in every retry.
    pub id: Name,
    /// Its recipients.
    pub to: Vec<Name>,
    /// Its payload's fingerprint.
    pub hash: Hash,
    /// Calls with the same number were sent as one batch, in the order of their records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<u64>,
    /// Live readers only; never in the log.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ephemeral: bool,
}

/// A publish was accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PubAck {
    /// The call.
    pub call: CallId,
    /// Where the event lies. Absent for an ephemeral one.
    pub position: Option<Position>,
    /// Whether the hub had it already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
}

/// One entry of the log, dumped from the store.
///
/// The dump is of everything ever appended (acked or not), also of what the window has trimmed since and of epochs
/// that a crash ended: tap the append, or dump at the crash. What the harness cannot know it says in [`LogKnown`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLine {
    /// Where it lies.
    pub position: Position,
    /// The event's source. Empty for a standing record.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub source: Name,
    /// The event's id, or whatever the harness calls a standing record in `event` records.
    pub id: Name,
    /// Its recipients. Empty for a standing record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<Name>,
    /// Its payload's fingerprint.
    pub hash: Hash,
    /// A session invalidation or a membership: for every gateway that takes them, for no user.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub standing: bool,
    /// Readers that opted in to collapsing need only the newest per key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collapse_key: Option<Name>,
    /// From this time of the harness's clock, in microseconds, it need not be sent any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_us: Option<u64>,
    /// When it was appended, if this line was not written then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appended_us: Option<u64>,
    /// What a window counts for it, in bytes, if the harness knows.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes: u64,
}

/// What the standing record at a position says, besides its `log` line. Needed to judge what `standing` frames list and
/// what it does to users.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogRecord {
    /// Where it lies.
    pub position: Position,
    /// What.
    pub says: Says,
    /// Until then it holds, in microseconds of the harness's clock. `None`: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_us: Option<u64>,
    /// When it was appended, if this was not written then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appended_us: Option<u64>,
}

/// A standing record that lies among the messages of a log that hubs share, and does not count: it came behind a later one of its
/// hub, or too late, or was said before. A hub that lacks what it would be judged by believes it where it takes something away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uncounted {
    /// Its fingerprint.
    pub hash: Hash,
    /// What it says, and where it would lie.
    pub record: LogRecord,
}

/// The kinds of standing record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Says {
    /// Of several about one holder and recipient the last one holds.
    Member {
        /// Who: `user:ID` or `session:ID`.
        holder: Name,
        /// What the holder gets besides its own: `topic:NAME`, or a pattern with one trailing `*`.
        recipient: Name,
        /// Whether it does from here on, or no longer.
        member: bool,
    },
    /// Tokens issued before the record was appended are void.
    Void {
        /// Whose: `user:ID` or `session:ID`.
        holder: Name,
        /// Tokens issued before this are void, and not those issued before the record was appended, in microseconds of the harness's
        /// clock.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before_us: Option<u64>,
    },
}

/// How much of something there is, and how much there may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Of what.
    pub what: Name,
    /// So much there is.
    pub is: u64,
    /// So much there may be.
    pub most: u64,
}

/// The `log` lines of `epoch` are whole in `(after, through]`; elsewhere some may be missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogKnown {
    /// The epoch.
    pub epoch: Name,
    /// Whole after this place.
    pub after: u64,
    /// Whole up to this place. `None`: to its end.
    pub through: Option<u64>,
}

/// These stretches of `epoch` can be read from the disk: of each, what lies behind its first position, up to its second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The epoch.
    pub epoch: Name,
    /// In their order.
    pub stretches: Vec<(u64, u64)>,
}

/// `(after, through]` of `epoch` cannot be read from here on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Damaged {
    /// The epoch.
    pub epoch: Name,
    /// Damaged after this place.
    pub after: u64,
    /// Damaged up to this place.
    pub through: u64,
}

impl Hash {
    /// The fingerprint of `parts`, each with its length, so that moving a byte between two parts changes it. FNV-1a:
    /// short enough to be written again in any language that records histories.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut state = 0xcbf2_9ce4_8422_2325_u64;
        let mut eat = |byte: u8| state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        for part in parts {
            (part.len() as u64).to_le_bytes().into_iter().for_each(&mut eat);
            part.iter().copied().for_each(&mut eat);
        }
        Self(state)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map(Self).map_err(D::Error::custom)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_empty(name: &Name) -> bool {
    name.is_empty()
}
