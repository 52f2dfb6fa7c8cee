//! One frame, as bytes: the encoder that runs once per event, the lazy view, and the splitter of a byte stream.
//!
//! A *framed* message is gRPC's length-prefixed form: a zero byte, the length in four big-endian bytes, then the
//! `PushEvent`. It holds nothing of a particular stream, so the same bytes serve every reader
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
//!
//! Control frames are built with the generated types in the `proto` crate; only reading them by kind is done here.
//!
//! ```text
//!  one framed message, as it lies in a window and goes over the wire
//! ┌───┬───────────────┬──────────────────────────────────────────────────────────┐
//! │ 0 │ length, 4 B   │ PushEvent                                                │
//! │   │ big-endian    │ ┌────────┬───────────────────────────┬─────────────────┐ │
//! │   │               │ │ cursor │ the kind: event, gap, …   │ appended_unix_ms│ │
//! └───┴───────────────┴─┴────────┴───────────────────────────┴─────────────────┴─┘
//!  prefix, 5 bytes      written once, by the hub that appended the event
//! ```
//!
//! Three ways to look at it, each reading no more than it must: [`Deframer`] sees prefixes only; [`FrameView`] reads the top level of one
//! message; [`EventView`] and [`GapView`] read single fields of what lies inside.

use crate::cursor::Cursor;
use crate::wire::{Fields, Malformed, Value, put_bytes, put_fixed64};

mod deframer;
mod gap;
mod standing;
#[cfg(test)]
mod tests;

pub use deframer::{DeframeError, Deframer};
pub use gap::{GapReason, GapView};
pub use standing::StandingFrame;

/// The length of gRPC's message prefix.
pub const PREFIX_BYTES: usize = 5;

/// What [`put_log_frame`] puts around a message at most, in bytes: prefix, cursor, time, and the tags and lengths of each.
pub const LOG_FRAME_OVERHEAD_BYTES: usize = 96;

/// Field numbers of `push.v1.PushEvent`.
mod push_event {
    pub(super) const CURSOR: u32 = 1;
    pub(super) const EVENT: u32 = 2;
    pub(super) const SESSION_INVALIDATION: u32 = 3;
    pub(super) const MEMBERSHIP: u32 = 4;
    pub(super) const STANDING: u32 = 16;
    pub(super) const APPENDED_UNIX_MS: u32 = 9;
}

/// Field numbers of `push.v1.Event`.
mod event {
    pub(super) const TO: u32 = 1;
    pub(super) const ID: u32 = 2;
    pub(super) const TYPE: u32 = 3;
    pub(super) const DATA: u32 = 4;
    pub(super) const DATA_CONTENT_TYPE: u32 = 5;
    pub(super) const TIME: u32 = 6;
    pub(super) const SOURCE: u32 = 7;
    pub(super) const SUBJECT: u32 = 8;
    pub(super) const COLLAPSE_KEY: u32 = 9;
    pub(super) const TTL: u32 = 10;
    pub(super) const ATTRIBUTES: u32 = 11;
    pub(super) const EPHEMERAL: u32 = 12;
}

/// What a frame is. Kinds of a newer contract read as [`Kind::Unknown`]: skip and count them.
///
/// ```
/// use galaxy_push_core::frame::{FrameView, Kind};
///
/// let newer = FrameView::read(b"\x9a\x06\x00")?; // field 99, which this build does not know
/// assert_eq!(newer.kind(), Kind::Unknown);
/// # Ok::<(), galaxy_push_core::wire::Malformed>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names are the contract's")]
pub enum Kind {
    Event,
    SessionInvalidation,
    Membership,
    Welcome,
    Progress,
    Gap,
    CaughtUp,
    FellBehind,
    Goodbye,
    Standing,
    Subscribed,
    Unknown,
}

/// The kinds of frame that have a place in a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogKind {
    /// What publishers send.
    #[default]
    Event,
    /// A standing record: tokens are void.
    SessionInvalidation,
    /// A standing record: whose topic a user or session has.
    Membership,
}

impl LogKind {
    const fn field(self) -> u32 {
        match self {
            Self::Event => push_event::EVENT,
            Self::SessionInvalidation => push_event::SESSION_INVALIDATION,
            Self::Membership => push_event::MEMBERSHIP,
        }
    }
}

impl Kind {
    fn of_field(field: u32) -> Option<Self> {
        Some(match field {
            push_event::CURSOR | push_event::APPENDED_UNIX_MS => return None,
            push_event::EVENT => Self::Event,
            push_event::SESSION_INVALIDATION => Self::SessionInvalidation,
            push_event::MEMBERSHIP => Self::Membership,
            10 => Self::Welcome,
            11 => Self::Progress,
            12 => Self::Gap,
            13 => Self::CaughtUp,
            14 => Self::FellBehind,
            15 => Self::Goodbye,
            push_event::STANDING => Self::Standing,
            17 => Self::Subscribed,
            _ => Self::Unknown,
        })
    }
}

/// A `PushEvent` read lazily: its few top-level fields, the kind's own message still bytes.
///
/// Borrows the message. A gateway reads cursor, kind and recipients of each event through it, and forwards the bytes untouched.
///
/// ```
/// use galaxy_push_core::cursor::{Cursor, Epoch};
/// use galaxy_push_core::frame::{FrameView, Kind, LogKind, message, put_log_frame};
///
/// let (mut framed, cursor) = (Vec::new(), Cursor::start(Epoch(1)).next());
/// put_log_frame(&mut framed, LogKind::Event, Some(cursor), b"\x0a\x07user:42", 1_700_000_000_000);
/// let view = FrameView::read(message(&framed))?;
/// assert_eq!((view.kind(), view.appended_unix_ms()), (Kind::Event, 1_700_000_000_000));
/// assert_eq!(view.cursor(), cursor.to_string());
/// assert_eq!(view.event().unwrap().recipients().collect::<Vec<_>>(), ["user:42"]);
/// assert!(view.gap().is_none() && !view.body().is_empty());
/// # Ok::<(), galaxy_push_core::wire::Malformed>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FrameView<'a> {
    cursor: &'a str,
    kind: Kind,
    body: &'a [u8],
    appended_unix_ms: u64,
}

impl<'a> FrameView<'a> {
    /// Reads the message of a framed `PushEvent`, without its prefix.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when the top level is not a protobuf message or the cursor is not UTF-8. The kind's own message
    /// is not looked at.
    pub fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut view = Self { cursor: "", kind: Kind::Unknown, body: &[], appended_unix_ms: 0 };
        for field in Fields::of(message) {
            match field? {
                (push_event::CURSOR, Value::Bytes(text)) => {
                    view.cursor = std::str::from_utf8(text).map_err(|_| Malformed)?;
                }
                (push_event::APPENDED_UNIX_MS, Value::Fixed64(at)) => view.appended_unix_ms = at,
                (number, Value::Bytes(body)) => {
                    // A field this build does not know may stand beside the kind, and must not hide it.
                    if let Some(kind) = Kind::of_field(number)
                        && (kind != Kind::Unknown || view.kind == Kind::Unknown)
                    {
                        (view.kind, view.body) = (kind, body);
                    }
                }
                _ => {}
            }
        }
        Ok(view)
    }

    /// The cursor text; empty on an ephemeral event.
    #[must_use]
    pub const fn cursor(&self) -> &'a str {
        self.cursor
    }

    /// What the frame is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The bytes of the kind's own message.
    #[must_use]
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }

    /// When the hub took the event, in milliseconds since the Unix epoch; 0 when not said.
    #[must_use]
    pub const fn appended_unix_ms(&self) -> u64 {
        self.appended_unix_ms
    }

    /// The event, if this frame is one.
    #[must_use]
    pub fn event(&self) -> Option<EventView<'a>> {
        (self.kind == Kind::Event).then_some(EventView { body: self.body })
    }

    /// The gap, if this frame is one.
    #[must_use]
    pub fn gap(&self) -> Option<GapView<'a>> {
        (self.kind == Kind::Gap).then_some(GapView::of(self.body))
    }
}

/// An `Event` read lazily. Each accessor scans from the front: take what you need once.
///
/// A field that the event does not have, or that is malformed, reads as its default: empty text, no bytes, `None`. The hub has validated
/// what it appended, so this matters only for bytes from elsewhere.
///
/// ```
/// use galaxy_push_core::frame::EventView;
/// use galaxy_push_core::wire::put_bytes;
///
/// let mut event = Vec::new();
/// for (field, text) in [(1, "user:42"), (2, "order-7"), (3, "order.shipped"), (4, "{}"), (7, "/orders"), (8, "42")] {
///     put_bytes(&mut event, field, text.as_bytes());
/// }
/// let view = EventView::of(&event);
/// assert_eq!(view.recipients().collect::<Vec<_>>(), ["user:42"]);
/// assert_eq!((view.id(), view.event_type(), view.source(), view.subject()), ("order-7", "order.shipped", "/orders", "42"));
/// assert_eq!((view.data(), view.content_type()), (&b"{}"[..], ""));
/// assert_eq!((view.collapse_key(), view.time_unix_ns(), view.ttl_ms(), view.ephemeral()), ("", None, None, false));
/// assert_eq!((view.attribute("traceparent"), view.attributes().count()), (None, 0));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct EventView<'a> {
    body: &'a [u8],
}

impl<'a> EventView<'a> {
    /// Reads the bytes of an `Event` message.
    #[must_use]
    pub const fn of(body: &'a [u8]) -> Self {
        Self { body }
    }

    /// Whom the event is for. Stops at the first other field: the contract puts `to` first.
    pub fn recipients(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        Fields::of(self.body).map_while(|field| match field {
            Ok((event::TO, Value::Bytes(text))) => std::str::from_utf8(text).ok(),
            _ => None,
        })
    }

    /// The publisher's id of the event.
    #[must_use]
    pub fn id(&self) -> &'a str {
        self.text(event::ID)
    }

    /// The event type.
    #[must_use]
    pub fn event_type(&self) -> &'a str {
        self.text(event::TYPE)
    }

    /// Who published it.
    #[must_use]
    pub fn source(&self) -> &'a str {
        self.text(event::SOURCE)
    }

    /// The payload.
    #[must_use]
    pub fn data(&self) -> &'a [u8] {
        match self.last(event::DATA) {
            Some(Value::Bytes(data)) => data,
            _ => &[],
        }
    }

    /// The media type of the payload; empty: JSON.
    #[must_use]
    pub fn content_type(&self) -> &'a str {
        self.text(event::DATA_CONTENT_TYPE)
    }

    /// What it is about, in the words of its source; may be empty.
    #[must_use]
    pub fn subject(&self) -> &'a str {
        self.text(event::SUBJECT)
    }

    /// For readers that lag: of the events with this key only the newest matters. Empty: each does.
    #[must_use]
    pub fn collapse_key(&self) -> &'a str {
        self.text(event::COLLAPSE_KEY)
    }

    /// When it happened, in nanoseconds since the Unix epoch. `None` where its publisher gave no time that there is.
    #[must_use]
    pub fn time_unix_ns(&self) -> Option<i128> {
        let Some(Value::Bytes(timestamp)) = self.last(event::TIME) else { return None };
        let (seconds, nanos) = seconds_and_nanos(timestamp);
        let nanos = i128::from(nanos);
        // A negative number is a varint above i64::MAX.
        let seconds = i128::from(seconds.cast_signed());
        (nanos < 1_000_000_000).then_some(seconds * 1_000_000_000 + nanos)
    }

    /// Whether only live readers may see it.
    #[must_use]
    pub fn ephemeral(&self) -> bool {
        matches!(self.last(event::EPHEMERAL), Some(Value::Varint(1..)))
    }

    /// How long after its append the event may still be sent, in milliseconds, rounded down; `None`: for ever.
    #[must_use]
    pub fn ttl_ms(&self) -> Option<u64> {
        let Some(Value::Bytes(duration)) = self.last(event::TTL) else { return None };
        let (seconds, nanos) = seconds_and_nanos(duration);
        Some(seconds.saturating_mul(1_000).saturating_add(nanos / 1_000_000))
    }

    /// An extension attribute.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&'a str> {
        self.attributes().filter(|(key, _)| *key == name).last().map(|(_, value)| value)
    }

    /// The extension attributes, in no order.
    pub fn attributes(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).unwrap_or_default();
        let entries = Fields::of(self.body).map_while(Result::ok).filter_map(|field| match field {
            (event::ATTRIBUTES, Value::Bytes(entry)) => Some(entry),
            _ => None,
        });
        entries.map(move |entry| {
            Fields::of(entry).map_while(Result::ok).fold(("", ""), |(key, value), field| match field {
                (1, Value::Bytes(key)) => (text(key), value),
                (2, Value::Bytes(value)) => (key, text(value)),
                _ => (key, value),
            })
        })
    }

    fn text(&self, number: u32) -> &'a str {
        match self.last(number) {
            Some(Value::Bytes(text)) => std::str::from_utf8(text).unwrap_or_default(),
            _ => "",
        }
    }

    fn last(&self, number: u32) -> Option<Value<'a>> {
        Fields::of(self.body)
            .map_while(Result::ok)
            .filter(|(field, _)| *field == number)
            .map(|(_, v)| v)
            .last()
    }
}

/// The two fields that `google.protobuf.Duration` and `Timestamp` have alike.
fn seconds_and_nanos(message: &[u8]) -> (u64, u64) {
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields::of(message) {
        match field {
            Ok((1, Value::Varint(value))) => seconds = value,
            Ok((2, Value::Varint(value))) => nanos = value,
            _ => {}
        }
    }
    (seconds, nanos)
}

/// Appends the framed `PushEvent` of whatever has a place in a log: the one encoding every reader is served from. `message` is the encoded
/// message of that kind; an `Event` has `to` first. An ephemeral event has no cursor.
///
/// `out` may hold other frames already: this one is appended behind them, at most [`LOG_FRAME_OVERHEAD_BYTES`] longer than `message`.
pub fn put_log_frame(
    out: &mut Vec<u8>,
    kind: LogKind,
    cursor: Option<Cursor>,
    message: &[u8],
    appended_unix_ms: u64,
) {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    if let Some(cursor) = cursor {
        cursor.with_text(|text| put_bytes(out, push_event::CURSOR, text));
    }
    put_bytes(out, kind.field(), message);
    put_fixed64(out, push_event::APPENDED_UNIX_MS, appended_unix_ms);
    put_prefix(out, start);
}

/// Fills in the prefix that was left free at `start` for the message that follows it to the end of `out`.
///
/// # Panics
///
/// When fewer than [`PREFIX_BYTES`] bytes lie at `start`: whoever left the place free knows that they do.
pub fn put_prefix(out: &mut [u8], start: usize) {
    let length = (out.len() - start - PREFIX_BYTES) as u32;
    out[start] = 0;
    out[start + 1..start + PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
}

/// The message inside one framed message; empty when there is no whole prefix.
#[must_use]
pub fn message(framed: &[u8]) -> &[u8] {
    framed.get(PREFIX_BYTES..).unwrap_or_default()
}
