//! Protobuf fields, read and written without decoding a message.
//!
//! [`frame`](crate::frame) and [`link`](crate::link) call it. Whoever forwards or routes an event needs three of its fields, not a
//! message with owned strings; everything else uses generated code.
//!
//! The encoding is <https://protobuf.dev/programming-guides/encoding/>.

use std::time::Duration;

/// A field as it lies in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: a string, bytes or a nested message.
    Bytes(&'a [u8]),
    /// Wire type 5.
    Fixed32(u32),
}

/// The bytes are not a protobuf message: truncated, an overlong varint, field number 0 or a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not a protobuf message")
    }
}

impl std::error::Error for Malformed {}

/// The fields of one message, in the order they lie. Ends after the first error.
///
/// Costs nothing but the look: it borrows the message, copies nothing, and stops as soon as its caller does.
///
/// ```
/// use galaxy_push_core::wire::{Fields, Value, put_bytes, put_fixed64};
///
/// let mut message = Vec::new();
/// put_bytes(&mut message, 1, b"user:42");
/// put_fixed64(&mut message, 9, 7);
/// let fields: Vec<_> = Fields::of(&message).collect();
/// assert_eq!(fields, [Ok((1, Value::Bytes(b"user:42"))), Ok((9, Value::Fixed64(7)))]);
/// ```
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Reads the fields of `message`.
    #[must_use]
    pub const fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// What has not been read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn read(&mut self) -> Result<(u32, Value<'a>), Malformed> {
        let tag = self.varint()?;
        let field = u32::try_from(tag >> 3).map_err(|_| Malformed)?;
        if field == 0 {
            return Err(Malformed);
        }
        let value = match tag & 0b111 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(Malformed),
        };
        Ok((field, value))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        // One byte is by far the most common case: tags below field 16 and lengths below 128.
        if let [byte @ 0..=0x7f, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u64::from(*byte));
        }
        let mut value = 0u64;
        for (i, byte) in self.rest.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if i == 9 && bits > 1 {
                return Err(Malformed);
            }
            value |= bits << (7 * i);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.rest = &[];
        }
        Some(read)
    }
}

/// A `google.protobuf.Duration`; `None` when it is malformed or negative.
pub(crate) fn read_duration(message: &[u8]) -> Option<Duration> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields::of(message) {
        match field.ok()? {
            (1, Value::Varint(value)) => seconds = value,
            (2, Value::Varint(value)) => nanos = value,
            _ => {}
        }
    }
    // Negative numbers are varints above i64::MAX.
    let seconds = i64::try_from(seconds).ok()?.unsigned_abs();
    let nanos = u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(seconds, nanos))
}

/// The text of a `string` field.
pub(crate) fn read_text(bytes: &[u8]) -> Result<String, Malformed> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Malformed)
}

/// Appends a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a field of wire type 2.
pub fn put_bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    put_varint(out, u64::from(field) << 3 | 2);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Appends a field of wire type 1.
pub fn put_fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    put_varint(out, u64::from(field) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fields_round_trip(fields in prop::collection::vec((1u32..1 << 29, prop::collection::vec(any::<u8>(), 0..300), any::<u64>()), 0..8)) {
            let mut bytes = Vec::new();
            for (field, text, number) in &fields {
                put_bytes(&mut bytes, *field, text);
                put_fixed64(&mut bytes, *field, *number);
            }
            let mut read = Fields::of(&bytes);
            for (field, text, number) in &fields {
                prop_assert_eq!(read.next(), Some(Ok((*field, Value::Bytes(text)))));
                prop_assert_eq!(read.next(), Some(Ok((*field, Value::Fixed64(*number)))));
            }
            prop_assert_eq!(read.next(), None);
        }

        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Fields::of(&bytes).count() <= bytes.len());
        }
    }

    #[test]
    fn refuses_what_is_no_message() {
        for bytes in [
            &[0x00, 0x01][..],                                                   // field number 0
            &[0x0a, 0x05, 1, 2],                                                 // shorter than its length
            &[0x0b],                                                             // a group
            &[0x09, 1, 2, 3],                                                    // half a fixed64
            &[0x80; 11],                                                         // a varint without end
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], // 65 bits
        ] {
            assert_eq!(Fields::of(bytes).last(), Some(Err(Malformed)), "{bytes:?}");
        }
    }
}
