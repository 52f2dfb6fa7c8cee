//! Fields of bytes: what the forms on the disk and in a stream have in common. All numbers are little-endian.

use galaxy_push_core::frame::LogKind;

use crate::dedup::Content;

/// Takes fields off the front of bytes; `None` when there are too few, or they say what cannot be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Option<u128> {
        self.take(16)?.try_into().ok().map(u128::from_le_bytes)
    }

    /// Bytes behind their length in four bytes.
    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub(crate) fn content(&mut self) -> Option<Content> {
        self.take(16)?.try_into().ok().map(Content::from_bytes)
    }

    pub(crate) fn kind(&mut self) -> Option<LogKind> {
        match self.u8()? {
            0 => Some(LogKind::Event),
            1 => Some(LogKind::SessionInvalidation),
            2 => Some(LogKind::Membership),
            _ => None,
        }
    }
}

/// Puts bytes behind their length, as [`Fields::bytes`] takes them.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// What [`Fields::kind`] takes for this kind.
pub(crate) const fn kind_byte(kind: LogKind) -> u8 {
    match kind {
        LogKind::Event => 0,
        LogKind::SessionInvalidation => 1,
        LogKind::Membership => 2,
    }
}
