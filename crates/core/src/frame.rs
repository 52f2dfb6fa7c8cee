//! One frame, as bytes: the encoder that runs once per event, the lazy view, and the splitter of a byte stream.
//!
//! A *framed* message is gRPC's length-prefixed form: a zero byte, the length in four big-endian bytes, then the
//! `PushEvent`. It holds nothing of a particular stream, so the same bytes serve every reader
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
//!
//! Control frames are built with the generated types in the `proto` crate; only reading them by kind is done here.

use bytes::{Buf, Bytes, BytesMut};

use crate::cursor::Cursor;
use crate::wire::{Fields, Malformed, Value, put_bytes, put_fixed64};

/// The length of gRPC's message prefix.
pub const PREFIX_BYTES: usize = 5;

/// Field numbers of `push.v1.PushEvent`.
mod push_event {
    pub(super) const CURSOR: u32 = 1;
    pub(super) const EVENT: u32 = 2;
    pub(super) const APPENDED_UNIX_MS: u32 = 9;
}

/// Field numbers of `push.v1.Event`.
mod event {
    pub(super) const TO: u32 = 1;
    pub(super) const ID: u32 = 2;
    pub(super) const TYPE: u32 = 3;
    pub(super) const DATA: u32 = 4;
    pub(super) const SOURCE: u32 = 7;
    pub(super) const TTL: u32 = 10;
    pub(super) const EPHEMERAL: u32 = 12;
}

/// What a frame is. Kinds of a newer contract read as [`Kind::Unknown`]: skip and count them.
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

impl Kind {
    fn of_field(field: u32) -> Option<Self> {
        Some(match field {
            push_event::CURSOR | push_event::APPENDED_UNIX_MS => return None,
            push_event::EVENT => Self::Event,
            3 => Self::SessionInvalidation,
            4 => Self::Membership,
            10 => Self::Welcome,
            11 => Self::Progress,
            12 => Self::Gap,
            13 => Self::CaughtUp,
            14 => Self::FellBehind,
            15 => Self::Goodbye,
            16 => Self::Standing,
            17 => Self::Subscribed,
            _ => Self::Unknown,
        })
    }
}

/// A `PushEvent` read lazily: its few top-level fields, the kind's own message still bytes.
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
                    if let Some(kind) = Kind::of_field(number) {
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
}

/// An `Event` read lazily. Each accessor scans from the front: take what you need once.
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

    /// Whether only live readers may see it.
    #[must_use]
    pub fn ephemeral(&self) -> bool {
        matches!(self.last(event::EPHEMERAL), Some(Value::Varint(1..)))
    }

    /// How long after its append the event may still be sent, in milliseconds, rounded down; `None`: for ever.
    #[must_use]
    pub fn ttl_ms(&self) -> Option<u64> {
        let Some(Value::Bytes(duration)) = self.last(event::TTL) else { return None };
        let (mut seconds, mut nanos) = (0, 0);
        for field in Fields::of(duration) {
            match field {
                Ok((1, Value::Varint(value))) => seconds = value,
                Ok((2, Value::Varint(value))) => nanos = value,
                _ => {}
            }
        }
        Some(seconds.saturating_mul(1_000).saturating_add(nanos / 1_000_000))
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

/// Appends the framed `PushEvent` of an event to `out`: the one encoding every reader is served from.
///
/// `event` is an encoded `Event` with `to` first. An ephemeral event has no cursor.
pub fn put_event_frame(out: &mut Vec<u8>, cursor: Option<Cursor>, event: &[u8], appended_unix_ms: u64) {
    use std::io::Write as _;

    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    if let Some(cursor) = cursor {
        // The text is shorter than 128 bytes, so its length is one byte, filled in behind it.
        out.extend_from_slice(&[(push_event::CURSOR << 3 | 2) as u8, 0]);
        let text = out.len();
        let _ = write!(out, "{cursor}"); // writing to a Vec cannot fail
        out[text - 1] = (out.len() - text) as u8;
    }
    put_bytes(out, push_event::EVENT, event);
    put_fixed64(out, push_event::APPENDED_UNIX_MS, appended_unix_ms);
    put_prefix(out, start);
}

/// Fills in the prefix that was left free at `start` for the message that follows it to the end of `out`.
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

/// Why a byte stream cannot be split any further. The stream is broken from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeframeError {
    /// The peer announced a message larger than this side takes, in bytes without the prefix.
    TooLarge {
        /// What was announced.
        length: usize,
        /// What is taken.
        limit: usize,
    },
    /// The message is flagged as compressed, which was not negotiated.
    Compressed,
}

impl std::fmt::Display for DeframeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge { length, limit } => {
                write!(f, "a message of {length} bytes is larger than the {limit} bytes this side takes")
            }
            Self::Compressed => f.write_str("a compressed message, which was not negotiated"),
        }
    }
}

impl std::error::Error for DeframeError {}

/// Splits the bytes of a gRPC body into framed messages, prefix included.
///
/// A message that lies whole inside one pushed buffer is a slice of it; only one that straddles buffers is copied.
/// Holds at most one incomplete message and what was pushed and not yet taken.
#[derive(Debug)]
pub struct Deframer {
    limit: usize,
    /// The beginning of a message whose end has not arrived.
    partial: BytesMut,
    rest: Bytes,
}

impl Deframer {
    /// Takes messages of at most `limit` bytes, without the prefix.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, partial: BytesMut::new(), rest: Bytes::new() }
    }

    /// Hands over the next buffer. Take every message of the one before first.
    pub fn push(&mut self, data: Bytes) {
        if self.rest.is_empty() {
            self.rest = data;
        } else {
            let mut joined = BytesMut::from(std::mem::take(&mut self.rest));
            joined.extend_from_slice(&data);
            self.rest = joined.freeze();
        }
    }

    /// Whether the stream may end here: no message has begun and not ended.
    #[must_use]
    pub fn is_at_boundary(&self) -> bool {
        self.partial.is_empty() && self.rest.is_empty()
    }

    /// The next whole framed message, or `None` until more is pushed.
    ///
    /// # Errors
    ///
    /// [`DeframeError`]; every later call returns it again.
    pub fn next_message(&mut self) -> Result<Option<Bytes>, DeframeError> {
        if !self.partial.is_empty() {
            return self.finish_partial();
        }
        match self.framed_length(&self.rest)? {
            Some(length) if length <= self.rest.len() => Ok(Some(self.rest.split_to(length))),
            _ => {
                self.partial.extend_from_slice(&self.rest);
                self.rest.clear();
                Ok(None)
            }
        }
    }

    fn finish_partial(&mut self) -> Result<Option<Bytes>, DeframeError> {
        self.fill_partial(PREFIX_BYTES);
        if let Some(length) = self.framed_length(&self.partial)? {
            self.partial.reserve(length.saturating_sub(self.partial.len()));
            self.fill_partial(length);
            if self.partial.len() == length {
                return Ok(Some(self.partial.split().freeze()));
            }
        }
        Ok(None)
    }

    fn fill_partial(&mut self, length: usize) {
        let wanted = length.saturating_sub(self.partial.len()).min(self.rest.len());
        self.partial.extend_from_slice(&self.rest[..wanted]);
        self.rest.advance(wanted);
    }

    fn framed_length(&self, bytes: &[u8]) -> Result<Option<usize>, DeframeError> {
        let Some((&[flag, a, b, c, d], _)) = bytes.split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if flag != 0 {
            return Err(DeframeError::Compressed);
        }
        if length > self.limit {
            return Err(DeframeError::TooLarge { length, limit: self.limit });
        }
        Ok(Some(PREFIX_BYTES + length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::{Epoch, Seq};
    use proptest::prelude::*;

    fn event(to: &[&str], id: &str, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        to.iter().for_each(|to| put_bytes(&mut out, event::TO, to.as_bytes()));
        put_bytes(&mut out, event::ID, id.as_bytes());
        put_bytes(&mut out, event::DATA, data);
        out
    }

    #[test]
    fn a_frame_reads_back() {
        let cursor = Cursor { epoch: Epoch(7), seq: Seq(300) };
        let mut out = Vec::new();
        put_event_frame(&mut out, Some(cursor), &event(&["user:42", "all"], "a", b"{}"), 1_700_000_000_000);
        assert_eq!(u32::from_be_bytes(out[1..5].try_into().unwrap()) as usize, out.len() - PREFIX_BYTES);
        let view = FrameView::read(message(&out)).unwrap();
        assert_eq!(view.cursor(), cursor.to_string());
        assert_eq!((view.kind(), view.appended_unix_ms()), (Kind::Event, 1_700_000_000_000));
        let event = view.event().unwrap();
        assert_eq!(event.recipients().collect::<Vec<_>>(), ["user:42", "all"]);
        assert_eq!(
            (event.id(), event.data(), event.ttl_ms(), event.ephemeral()),
            ("a", &b"{}"[..], None, false)
        );
    }

    #[test]
    fn an_ephemeral_frame_has_no_cursor() {
        let mut body = event(&["all"], "a", b"");
        body.extend_from_slice(&[12 << 3, 1]);
        let mut out = Vec::new();
        put_event_frame(&mut out, None, &body, 1);
        let view = FrameView::read(message(&out)).unwrap();
        assert_eq!(view.cursor(), "");
        assert!(view.event().unwrap().ephemeral());
    }

    #[test]
    fn a_kind_of_a_newer_contract_is_unknown_and_keeps_its_cursor() {
        let mut out = Vec::new();
        put_bytes(&mut out, 1, b"1.x");
        put_bytes(&mut out, 99, b"new");
        let view = FrameView::read(&out).unwrap();
        assert_eq!((view.kind(), view.cursor()), (Kind::Unknown, "1.x"));
    }

    #[test]
    fn a_ttl_reads_in_milliseconds() {
        let mut body = event(&["all"], "a", b"");
        put_bytes(&mut body, event::TTL, &[8, 2, 16, 0x80, 0xca, 0xb5, 0xee, 0x01]); // 2 s, 500,000,000 ns
        assert_eq!(EventView::of(&body).ttl_ms(), Some(2_500));
    }

    proptest! {
        #[test]
        fn splitting_does_not_depend_on_the_cuts(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12),
            cuts in prop::collection::vec(1usize..30, 1..40),
        ) {
            let mut stream = Vec::new();
            for message in &messages {
                let start = stream.len();
                stream.extend_from_slice(&[0; PREFIX_BYTES]);
                stream.extend_from_slice(message);
                put_prefix(&mut stream, start);
            }
            let (mut deframer, mut seen, mut rest) = (Deframer::new(40), Vec::new(), &stream[..]);
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                deframer.push(Bytes::copy_from_slice(now));
                while let Some(framed) = deframer.next_message().unwrap() {
                    seen.push(message(&framed).to_vec());
                }
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert!(deframer.is_at_boundary());
            prop_assert_eq!(seen, messages);
        }

        #[test]
        fn any_bytes_view_or_err(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(view) = FrameView::read(&bytes) {
                let event = EventView::of(view.body());
                let _ = (event.recipients().count(), event.id(), event.data(), event.ttl_ms(), event.ephemeral());
            }
        }
    }

    #[test]
    fn a_message_over_the_limit_is_refused_before_it_is_buffered() {
        let mut deframer = Deframer::new(10);
        deframer.push(Bytes::from_static(&[0, 0, 0, 0, 11]));
        assert_eq!(deframer.next_message(), Err(DeframeError::TooLarge { length: 11, limit: 10 }));
        deframer = Deframer::new(10);
        deframer.push(Bytes::from_static(&[1, 0, 0, 0, 1, 0]));
        assert_eq!(deframer.next_message(), Err(DeframeError::Compressed));
    }
}
