//! The splitter: from the bytes of a gRPC body to framed messages.
//!
//! Whoever reads a stream by hand calls it. It looks at prefixes only.

use bytes::{Buf, Bytes, BytesMut};

use super::PREFIX_BYTES;

/// Why a byte stream cannot be split any further. The stream is broken from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeframeError {
    /// The peer announced a message larger than this side accepts, in bytes without the prefix.
    TooLarge {
        /// What was announced.
        length: usize,
        /// What this side accepts.
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
/// Holds at most one incomplete message and what was pushed and not yet returned.
///
/// ```
/// use bytes::Bytes;
/// use galaxy_push_core::frame::Deframer;
///
/// let mut deframer = Deframer::new(1_024);
/// deframer.push(Bytes::from_static(&[0, 0, 0, 0, 2, 8])); // a message of two bytes, one of which is still to come
/// assert_eq!(deframer.next_message(), Ok(None));
/// assert!(!deframer.is_at_boundary());
/// deframer.push(Bytes::from_static(&[1]));
/// assert_eq!(deframer.next_message().unwrap().unwrap()[..], [0, 0, 0, 0, 2, 8, 1]);
/// assert!(deframer.is_at_boundary());
/// ```
#[derive(Debug)]
pub struct Deframer {
    limit: usize,
    /// The beginning of a message whose end has not arrived.
    partial: BytesMut,
    rest: Bytes,
}

impl Deframer {
    /// Accepts messages of at most `limit` bytes, without the prefix.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, partial: BytesMut::new(), rest: Bytes::new() }
    }

    /// Hands over the next buffer. Read every message of the one before it first.
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
