//! A `Gap` read lazily: the few fields that are read of one that is only forwarded.
//!
//! A [`Reader`](crate::reader::Reader) asks where a gap in its window begins; a gateway counts reasons. Writing a gap is the `proto`
//! crate's business.

use crate::cursor::Cursor;
use crate::wire::{Fields, Value};

/// Field numbers of `push.v1.Gap`.
mod field {
    pub(super) const REASON: u32 = 1;
    pub(super) const FROM: u32 = 2;
    pub(super) const COUNT: u32 = 4;
}

/// Why a reader missed something.
///
/// | reason | who tells it, and when |
/// |---|---|
/// | `Trimmed` | the presented position has left the window |
/// | `EpochChanged` | the log is another one than that of the presented position, or turns into another one on the stream |
/// | `Ahead` | the presented position lies beyond the log |
/// | `Lapped` | the reader was too slow, and the window left it behind on the stream |
/// | `Upstream` | the server itself missed something, or cannot tell whether it was for this reader |
/// | `TooLarge` | an event is larger than this reader accepts |
/// | `Collapsed` | newer events with the same key took the place of these |
/// | `Damaged` | the store lost the events |
/// | `CursorUnreadable` | what was presented is no cursor |
///
/// ```
/// use galaxy_push_core::frame::GapReason;
///
/// assert_eq!(GapReason::of_number(8), Some(GapReason::Damaged));
/// assert_eq!(GapReason::of_number(99), None, "a reason of a newer contract");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the contract's")]
pub enum GapReason {
    Trimmed,
    EpochChanged,
    Ahead,
    Lapped,
    Upstream,
    TooLarge,
    Collapsed,
    Damaged,
    CursorUnreadable,
}

impl GapReason {
    /// By its number in the contract; `None` for those of a newer one.
    #[must_use]
    pub const fn of_number(number: u64) -> Option<Self> {
        Some(match number {
            1 => Self::Trimmed,
            2 => Self::EpochChanged,
            3 => Self::Ahead,
            4 => Self::Lapped,
            5 => Self::Upstream,
            6 => Self::TooLarge,
            7 => Self::Collapsed,
            8 => Self::Damaged,
            9 => Self::CursorUnreadable,
            _ => return None,
        })
    }
}

/// The bytes of a `Gap` message. Each accessor scans from the front.
#[derive(Clone, Copy, Debug)]
pub struct GapView<'a> {
    body: &'a [u8],
}

impl<'a> GapView<'a> {
    /// Reads the bytes of a `Gap` message.
    #[must_use]
    pub const fn of(body: &'a [u8]) -> Self {
        Self { body }
    }

    /// Why. `None`: not said, or a reason of a newer contract.
    #[must_use]
    pub fn reason(self) -> Option<GapReason> {
        match self.last(field::REASON) {
            Some(Value::Varint(number)) => GapReason::of_number(number),
            _ => None,
        }
    }

    /// The position that its reader held, if that is one.
    #[must_use]
    pub fn from(self) -> Option<Cursor> {
        match self.last(field::FROM) {
            Some(Value::Bytes(text)) => {
                std::str::from_utf8(text).ok().and_then(|text| Cursor::parse(text).ok())
            }
            _ => None,
        }
    }

    /// How many positions were missed, where the gap says so.
    #[must_use]
    pub fn count(self) -> Option<u64> {
        match self.last(field::COUNT) {
            Some(Value::Varint(count)) => Some(count),
            _ => None,
        }
    }

    fn last(self, number: u32) -> Option<Value<'a>> {
        Fields::of(self.body)
            .map_while(Result::ok)
            .filter(|(field, _)| *field == number)
            .map(|(_, value)| value)
            .last()
    }
}
