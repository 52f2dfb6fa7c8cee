//! A `Gap` read lazily: what is asked of one that is only handed on.
//!
//! The reader of a window asks from where its own reader was told; a gateway counts reasons.

use crate::cursor::Cursor;
use crate::wire::{Fields, Value};

/// Field numbers of `push.v1.Gap`.
mod field {
    pub(super) const REASON: u32 = 1;
    pub(super) const FROM: u32 = 2;
    pub(super) const COUNT: u32 = 4;
}

/// Why a reader missed something.
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

    /// How many positions were missed, where that was told.
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
