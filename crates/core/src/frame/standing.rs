//! A `Standing` frame put together from records that were encoded when they were appended.
//!
//! The hub builds one after another for a reader that has no place yet: many records, none of them encoded again.

use super::{LogKind, PREFIX_BYTES, push_event, put_prefix};
use crate::cursor::CURSOR_TEXT_MAX;
use crate::wire::put_bytes;

/// Field numbers of `push.v1.Standing`.
mod field {
    pub(super) const INVALIDATIONS: u32 = 1;
    pub(super) const MEMBERSHIPS: u32 = 2;
    pub(super) const MORE: u32 = 3;
}

/// A frame under construction.
#[derive(Clone, Debug, Default)]
pub struct StandingFrame {
    body: Vec<u8>,
}

impl StandingFrame {
    /// What a frame needs at most besides its records: the cursor, `more`, and the length of the whole, in bytes.
    pub const OVERHEAD_BYTES: usize = CURSOR_TEXT_MAX + 16;

    /// What a record needs at most besides its message, in bytes.
    pub const RECORD_OVERHEAD_BYTES: usize = 6;

    /// Adds an encoded record. An event is none and is left out.
    pub fn push(&mut self, kind: LogKind, message: &[u8]) {
        let number = match kind {
            LogKind::SessionInvalidation => field::INVALIDATIONS,
            LogKind::Membership => field::MEMBERSHIPS,
            LogKind::Event => return,
        };
        put_bytes(&mut self.body, number, message);
    }

    /// The framed message. `more`: another frame follows before anything else.
    #[must_use]
    pub fn finish(mut self, cursor: &str, more: bool) -> Vec<u8> {
        if more {
            self.body.extend_from_slice(&[(field::MORE << 3) as u8, 1]);
        }
        let mut framed = vec![0; PREFIX_BYTES];
        put_bytes(&mut framed, push_event::CURSOR, cursor.as_bytes());
        put_bytes(&mut framed, push_event::STANDING, &self.body);
        put_prefix(&mut framed, 0);
        framed
    }
}
