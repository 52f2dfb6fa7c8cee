//! Records about streams: how they were opened, each frame, and what their reader may see.

use serde::{Deserialize, Serialize};

use super::{Hash, Name, Position, StreamId};

/// Which hop a stream is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hop {
    /// Hub to gateway.
    Gateway,
    /// Gateway to user.
    User,
}

/// What a cursor text says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cursor {
    /// `""`.
    Empty,
    /// `"oldest"`.
    Oldest,
    /// A position of this system.
    At(Position),
    /// Well formed, of a version nobody here knows.
    Foreign,
    /// Not a cursor.
    Garbage,
    /// Not a cursor either, presented by a reader that could not act on a refusal.
    Unreadable,
}

impl Cursor {
    /// What is presented by a reader that cannot act on a refusal: one that knows no reasons, or a browser by itself.
    #[must_use]
    pub fn by_itself(self) -> Self {
        if self == Self::Garbage { Self::Unreadable } else { self }
    }
}

/// A stream was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// The stream.
    pub stream: StreamId,
    /// Its hop.
    pub hop: Hop,
    /// Whose it is: the gateway id, or a name for one connection chain of a user (one per tab, not per user).
    pub reader: Name,
    /// Whom the reader may read for, from the start: recipients, or patterns with one trailing `*`. Empty: everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<Name>,
    /// The cursor it presented.
    pub presented: Cursor,
    /// Whether this reader takes standing records (a gateway that listed the feature).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub standing: bool,
    /// Whether this reader opted in to collapsing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub collapses: bool,
    /// The process that it was opened at, if the harness knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Name>,
    /// Whether whoever reads takes this stream and the one before it for one: a client's handler, which does not choose
    /// what its client presents.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continues: bool,
    /// Whether its reader takes bytes all the time, however few.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub steady: bool,
}

/// A gateway follows another log than before, or the first one since it was started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Follows {
    /// How far it had come in the log that it left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Position>,
    /// Where it is now.
    pub position: Position,
}

/// A gateway was told of a gap by its hub: what lies between, its window may lack. Written when it is told, and again once it
/// has caught up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Missed {
    /// Where it stood before, if it stood anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Position>,
    /// Where it stood behind it, if it has come so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<Position>,
}

/// What became of the presented cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    /// Reading continues with the very next event.
    Resumed,
    /// No position was asked for.
    Fresh,
    /// The position has left the window.
    Trimmed,
    /// The position is of another life of the log.
    EpochChanged,
    /// The position lies beyond the authority's head.
    Ahead,
}

/// The first frame of a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Welcome {
    /// The stream.
    pub stream: StreamId,
    /// What became of the presented cursor.
    pub outcome: Outcome,
    /// The frame's cursor.
    pub cursor: Cursor,
    /// The last position of the log.
    pub head: Position,
    /// `Welcome.oldest`: the position just before the oldest held.
    pub oldest: Position,
    /// `Welcome.epoch`.
    pub epoch: Name,
    /// The generation; 0 where there is none (at users).
    #[serde(default)]
    pub generation: u64,
}

/// Standing records apart from the log: at the start of a stream, or after a gap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// The stream.
    pub stream: StreamId,
    /// The frame's cursor.
    pub cursor: Cursor,
    /// The fingerprints of the records in it, as in their `log` lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<Hash>,
    /// Whether it says that another frame of them follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// Who subscribes under a gateway id: written after the `open` of a peer that says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The stream.
    pub stream: StreamId,
    /// The instance.
    pub instance: Name,
    /// Its attempt.
    pub attempt: u64,
}

/// An event, or a standing record in its place in the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// The stream.
    pub stream: StreamId,
    /// Where it lies. Absent for an ephemeral event, whose frame has no cursor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// Its id.
    pub id: Name,
    /// Its payload's fingerprint.
    pub hash: Hash,
    /// Whether the event says it is ephemeral (at an edge that hides it: whether its frame has no cursor).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ephemeral: bool,
    /// The recipients that the frame itself names. At an edge: none, for recipients must not learn each other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shown_to: Vec<Name>,
}

/// Why something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum GapReason {
    /// The presented position had left the window.
    Trimmed,
    /// The log began a new life.
    EpochChanged,
    /// The presented position was beyond the head.
    Ahead,
    /// The window overtook the reader.
    Lapped,
    /// A gateway missed it too.
    Upstream,
    /// An event larger than the reader takes.
    TooLarge,
    /// Superseded events were left out.
    Collapsed,
    /// The store is damaged there.
    Damaged,
    /// The stored cursor could not be read.
    CursorUnreadable,
}

impl GapReason {
    /// Whether standing records may have been missed too, and are told after a gap of this reason.
    #[must_use]
    pub const fn loses_the_place(self) -> bool {
        !matches!(self, Self::TooLarge | Self::Collapsed)
    }
}

/// The reader was told of a hole: missing is `(from, to]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// The stream.
    pub stream: StreamId,
    /// Why.
    pub reason: GapReason,
    /// `Gap.from`.
    pub from: Cursor,
    /// `Gap.to`.
    pub to: Cursor,
    /// `Gap.count`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// `Gap.repair_after`, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair_after_us: Option<u64>,
    /// The frame's cursor.
    pub cursor: Cursor,
}

/// A control frame of which only the cursor is judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// The stream.
    pub stream: StreamId,
    /// The frame's cursor.
    pub cursor: Cursor,
}

/// Why a stream is ended by its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum GoodbyeReason {
    /// The server goes away.
    Draining,
    /// A newer stream took over.
    Replaced,
    /// The session ended.
    SessionEnded,
    /// The reader is too slow.
    Slow,
}

/// The last frame of a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goodbye {
    /// The stream.
    pub stream: StreamId,
    /// Why.
    pub reason: GoodbyeReason,
    /// `Goodbye.retry_after`, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_us: Option<u64>,
    /// The frame's cursor.
    pub cursor: Cursor,
}

/// A reader does not read for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// The stream.
    pub stream: StreamId,
    /// Until then, in microseconds of the harness's clock.
    pub until_us: u64,
    /// No more bytes than these can be on their way to it meanwhile, if the harness knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead_bytes: Option<u64>,
}

/// The stream ended, as its reader saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Close {
    /// The stream.
    pub stream: StreamId,
    /// The status or close code, with the reason of its details: `ABORTED REPLACED`, `1012`, `reset`, …
    pub code: Name,
}

/// A user presents a token: with `open`, or a newer one later. Without any, one counts as issued at the `welcome`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The stream.
    pub stream: StreamId,
    /// When it was issued, in microseconds of the harness's clock.
    pub issued_us: u64,
    /// When it ends by itself, if the harness knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_us: Option<u64>,
}

/// Topics were added by a `Subscribed` frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscribed {
    /// The stream.
    pub stream: StreamId,
    /// The frame's cursor: the new recipients count after it.
    pub cursor: Cursor,
    /// The new recipients, with their `topic:`.
    pub recipients: Vec<Name>,
}

/// A recipient was added without a frame: events after `after` are for the reader too, earlier ones are not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The stream.
    pub stream: StreamId,
    /// The recipient, or a pattern with one trailing `*`.
    pub recipient: Name,
    /// From where it counts.
    pub after: Position,
}

/// A recipient was taken away: events after `after` must not be shown for its sake, earlier ones need not be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ungrant {
    /// The stream.
    pub stream: StreamId,
    /// The recipient, exactly as it was granted.
    pub recipient: Name,
    /// From where it counts. `None` while the harness cannot know (an unsubscribe that is not answered yet): later events
    /// may or may not be shown. It may be said again when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Position>,
}
