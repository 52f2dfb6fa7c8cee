//! One frame as it arrived on a stream, shared by everything that an item is made of.
//!
//! Built by [`Link`](super::Link) and its items. It keeps the bytes: a gateway forwards them, and reads only what it needs.

use bytes::Bytes;

use crate::cursor::Cursor;
use crate::frame::{self, EventView, FrameView, PREFIX_BYTES};
use crate::wire::{Fields, Malformed, Value, put_bytes, put_varint};

/// One `PushEvent` as it arrived.
///
/// A cheap clone: the bytes are shared.
///
/// ```
/// use galaxy_push_core::cursor::{Cursor, Epoch};
/// use galaxy_push_core::frame::{Kind, LogKind, put_log_frame};
/// use galaxy_push_core::link::Frame;
///
/// let (mut framed, cursor) = (Vec::new(), Cursor::start(Epoch(1)).next());
/// put_log_frame(&mut framed, LogKind::Event, Some(cursor), b"", 0);
/// let frame = Frame::read(framed.into())?;
/// assert_eq!((frame.view().kind(), frame.cursor()), (Kind::Event, cursor.to_string().as_str()));
/// assert!(frame.event().is_some() && frame.framed().len() == frame.message().len() + 5);
/// # Ok::<(), galaxy_push_core::wire::Malformed>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub(super) framed: Bytes,
    /// Whether handling this frame moves the point from which the client resumes.
    pub(super) commits: bool,
}

impl Frame {
    /// Takes one framed message, prefix included.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when the message is no `PushEvent`.
    pub fn read(framed: Bytes) -> Result<Self, Malformed> {
        FrameView::read(frame::message(&framed))?;
        Ok(Self::of_read(framed, true))
    }

    /// Takes what [`FrameView::read`] has accepted already.
    pub(super) fn of_read(framed: Bytes, commits: bool) -> Self {
        Self { framed, commits }
    }

    /// The same frame with another cursor.
    pub(super) fn at(&self, cursor: Cursor) -> Self {
        let mut framed = vec![0; PREFIX_BYTES];
        put_bytes(&mut framed, 1, cursor.to_string().as_bytes());
        put_others(&mut framed, self.message(), &[1]);
        frame::put_prefix(&mut framed, 0);
        Self { framed: framed.into(), commits: self.commits }
    }

    /// The bytes with gRPC's 5-byte prefix, as a window takes them.
    #[must_use]
    pub fn framed(&self) -> &Bytes {
        &self.framed
    }

    /// The encoded `PushEvent`, without the prefix: what generated code decodes.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        frame::message(&self.framed)
    }

    /// The frame's fields, read lazily.
    #[must_use]
    pub fn view(&self) -> FrameView<'_> {
        // The bytes are the ones `read` accepted, and nobody can change them.
        FrameView::read(self.message()).expect("a frame is read once before it is built")
    }

    /// The cursor text; empty on an ephemeral event.
    #[must_use]
    pub fn cursor(&self) -> &str {
        self.view().cursor()
    }

    /// The event, if this frame is one, read lazily.
    #[must_use]
    pub fn event(&self) -> Option<EventView<'_>> {
        self.view().event()
    }
}

/// Writes the fields of a message but these.
pub(super) fn put_others(into: &mut Vec<u8>, message: &[u8], but: &[u32]) {
    for field in Fields::of(message).map_while(Result::ok) {
        match field {
            (number, _) if but.contains(&number) => {}
            (number, Value::Varint(value)) => {
                put_varint(into, u64::from(number) << 3);
                put_varint(into, value);
            }
            (number, Value::Bytes(bytes)) => put_bytes(into, number, bytes),
            (number, Value::Fixed64(value)) => {
                put_varint(into, u64::from(number) << 3 | 1);
                into.extend(value.to_le_bytes());
            }
            (number, Value::Fixed32(value)) => {
                put_varint(into, u64::from(number) << 3 | 5);
                into.extend(value.to_le_bytes());
            }
        }
    }
}
