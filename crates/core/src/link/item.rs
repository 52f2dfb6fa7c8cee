//! What a handler is given: items.
//!
//! Built by [`Link`](super::Link) alone. Nothing is decoded here that a gateway would only pass on: a frame stays the
//! bytes that arrived.

use std::time::Duration;

use bytes::Bytes;

use super::control::{FellBehind, Goodbye, Welcome};
use super::frame::{Frame, put_others};
use crate::cursor::{CURSOR_TEXT_MAX, Cursor, OLDEST};
use crate::frame::{self, Kind, PREFIX_BYTES};
use crate::window::GapReason;
use crate::wire::{Fields, Malformed, Value, put_bytes, put_varint, read_duration, read_text};

/// One thing a handler is given, in stream order.
///
/// Data is [`Event`](Self::Event), [`SessionInvalidation`](Self::SessionInvalidation), [`Membership`](Self::Membership) and
/// [`Standing`](Self::Standing). A [`Gap`](Self::Gap) says that data is missing. The others say where the stream stands; a handler that keeps
/// no copy of the log returns `Ok(())` for them.
///
/// ```
/// use galaxy_push_core::link::Item;
///
/// /// What to do about an item, in one word.
/// fn advice(item: &Item) -> &'static str {
///     match item {
///         Item::Event(_) => "apply it",
///         Item::SessionInvalidation(_) | Item::Membership(_) | Item::Standing(_) => "apply the record",
///         Item::Gap(gap) if gap.is_local() => "the cursor was unreadable: fetch everything anew",
///         Item::Gap(_) => "fetch the state anew",
///         item if item.matters() => "look at it",
///         _ => "return Ok",
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item {
    /// A stream began. Its cursor is the presented one, or where a fresh reader starts.
    Welcome(Box<Welcome>),
    /// Standing records that hold now.
    Standing(Frame),
    /// An event.
    Event(Frame),
    /// Tokens were voided.
    SessionInvalidation(Frame),
    /// A topic was joined or left.
    Membership(Frame),
    /// Something was missed: refetch what depends on it.
    Gap(Box<Gap>),
    /// Everything up to its cursor was delivered.
    Progress(Frame),
    /// What follows is live.
    CaughtUp(Frame),
    /// The stream lags by a quarter of the window or more.
    FellBehind(Box<FellBehind>),
    /// The hub ends the stream and says why. The client comes back by itself.
    Goodbye(Box<Goodbye>),
}

impl Item {
    /// The frame, whatever the kind.
    #[must_use]
    pub fn frame(&self) -> &Frame {
        match self {
            Self::Standing(frame)
            | Self::Event(frame)
            | Self::SessionInvalidation(frame)
            | Self::Membership(frame)
            | Self::Progress(frame)
            | Self::CaughtUp(frame) => frame,
            Self::Welcome(welcome) => &welcome.frame,
            Self::FellBehind(behind) => &behind.frame,
            Self::Goodbye(goodbye) => &goodbye.frame,
            Self::Gap(gap) => &gap.frame,
        }
    }

    /// The cursor to resume from once this item is dealt with; empty on an ephemeral event, which leaves it alone.
    #[must_use]
    pub fn cursor(&self) -> &str {
        self.frame().cursor()
    }

    /// Whether something is lost when nobody deals with this item: data, or a gap. The others only say where the
    /// stream stands.
    #[must_use]
    pub fn matters(&self) -> bool {
        !matches!(
            self,
            Self::Welcome(_) | Self::Progress(_) | Self::CaughtUp(_) | Self::FellBehind(_) | Self::Goodbye(_)
        )
    }

    /// The cursor that is safe to resume from once this item is dealt with, if that moves at all.
    pub(super) fn commits(&self) -> Option<&str> {
        Some(self.cursor()).filter(|cursor| self.frame().commits && !cursor.is_empty())
    }

    /// The item of a frame of this kind; `None` for kinds that no handler is given.
    pub(super) fn of(kind: Kind, frame: Frame) -> Option<Result<Self, Malformed>> {
        Some(Ok(match kind {
            Kind::Welcome => {
                return Some(Welcome::read(frame).map(|welcome| Self::Welcome(Box::new(welcome))));
            }
            Kind::Standing => Self::Standing(frame),
            Kind::Event => Self::Event(frame),
            Kind::SessionInvalidation => Self::SessionInvalidation(frame),
            Kind::Membership => Self::Membership(frame),
            Kind::Gap => return Some(Gap::read(frame).map(|gap| Self::Gap(Box::new(gap)))),
            Kind::Progress => Self::Progress(frame),
            Kind::CaughtUp => Self::CaughtUp(frame),
            Kind::FellBehind => {
                return Some(FellBehind::read(frame).map(|behind| Self::FellBehind(Box::new(behind))));
            }
            Kind::Goodbye => {
                return Some(Goodbye::read(frame).map(|goodbye| Self::Goodbye(Box::new(goodbye))));
            }
            _ => return None,
        }))
    }
}

/// What a reader has missed, why, and where it resumes. Missing is `(from, to]`.
///
/// ```text
/// the handler has a527, and the hub's window begins behind a600:
///   Gap { reason: Trimmed, from: "…a527", to: "…a600", count: Some(73), repair_after: Some(2.3 s) }
/// the handler waits 2.3 s, fetches its state anew, and returns Ok; the cursor is then a600, and a601 follows
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// The frame, to keep or pass on.
    pub frame: Frame,
    /// Why; `None` for a reason of a newer contract.
    pub reason: Option<GapReason>,
    /// The position held, exclusive.
    pub from: String,
    /// The last position missed, inclusive. Empty where the client itself tells that its cursor is unreadable.
    pub to: String,
    /// How many positions, an upper bound for a filtered reader; `None` when unknowable.
    pub count: Option<u64>,
    /// When to refetch, counted from now: spreads a herd.
    pub repair_after: Option<Duration>,
}

impl Gap {
    /// Whether the client made this gap itself because its cursor could not be read, here or by the hub. Its frame's cursor is
    /// `oldest`, which is no position: do not append it to a window.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.reason == Some(GapReason::CursorUnreadable) && self.to.is_empty()
    }

    fn read(frame: Frame) -> Result<Self, Malformed> {
        let mut gap = Self {
            frame,
            reason: None,
            from: String::new(),
            to: String::new(),
            count: None,
            repair_after: None,
        };
        for field in Fields::of(gap.frame.view().body()) {
            match field? {
                (1, Value::Varint(number)) => gap.reason = GapReason::of_number(number),
                (2, Value::Bytes(from)) => gap.from = read_text(from)?,
                (3, Value::Bytes(to)) => gap.to = read_text(to)?,
                (4, Value::Varint(count)) => gap.count = Some(count),
                (5, Value::Bytes(duration)) => gap.repair_after = read_duration(duration),
                _ => {}
            }
        }
        Ok(gap)
    }

    /// The gap a client tells its handler when nobody can read `cursor`. Its own cursor is `oldest`, so that "resume
    /// from the last non-empty cursor" holds here too.
    pub(super) fn cursor_unreadable(cursor: &str) -> Self {
        let cursor = beginning(cursor);
        let mut body = Vec::new();
        put_varint(&mut body, 1 << 3);
        put_varint(&mut body, CURSOR_UNREADABLE);
        put_bytes(&mut body, 2, cursor.as_bytes());
        Self {
            frame: Frame { framed: gap_frame(OLDEST, &body), commits: true },
            reason: Some(GapReason::CursorUnreadable),
            from: cursor.to_owned(),
            to: String::new(),
            count: None,
            repair_after: None,
        }
    }

    /// The same gap for a reader that goes on at `at`, because it has had what lies before. How many positions that are
    /// nobody knows.
    ///
    /// ```text
    /// the hub says     gap from b4 to a5, because it went from log b back to log a
    /// this client      had log a up to a9 before: gap to a9, and a6 … a9 are not handed over again
    /// ```
    #[must_use]
    pub fn leading_to(self, at: Cursor) -> Self {
        let to = at.to_string();
        if matches!(self.frame.cursor(), cursor if cursor.is_empty() || cursor == to) {
            return self;
        }
        let mut body = Vec::new();
        put_others(&mut body, self.frame.view().body(), &[3, 4]);
        put_bytes(&mut body, 3, to.as_bytes());
        let frame = Frame { framed: gap_frame(&to, &body), commits: self.frame.commits };
        Self { frame, to, count: None, ..self }
    }
}

/// A framed gap with this cursor.
fn gap_frame(cursor: &str, gap: &[u8]) -> Bytes {
    let mut framed = vec![0; PREFIX_BYTES];
    put_bytes(&mut framed, 1, cursor.as_bytes());
    put_bytes(&mut framed, 12, gap);
    frame::put_prefix(&mut framed, 0);
    framed.into()
}

/// As much of a text as a cursor can have. What is longer is none, and whoever looks into it wants to see how it begins.
fn beginning(text: &str) -> &str {
    let mut end = text.len().min(CURSOR_TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The number of `GAP_REASON_CURSOR_UNREADABLE`.
const CURSOR_UNREADABLE: u64 = 9;
