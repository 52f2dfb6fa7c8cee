//! What comes compressed: gzip (RFC 1952), inflated within the bound of what comes as it is.
//!
//! A body is inflated when all of it is there, in one go. So there are never more inflaters than threads, and none is kept
//! for a peer that pauses. The bound is on the result: a small body that inflates to gigabytes is refused as soon as it
//! passes the limit, whatever it says of itself.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::bufread::GzDecoder;
use galaxy_push_core::frame::PREFIX_BYTES;
use galaxy_push_proto::{Failure, Reason};
use tonic::Code;

use super::BodyError;
use super::pieces::Pieces;

/// So much is inflated at a time.
const STEP_BYTES: usize = 16 << 10;

/// What the first byte of a compressed message says.
pub(crate) const COMPRESSED: u8 = 1;

/// A file of gzip may be several, one behind another (RFC 1952, section 2.2). Each costs work, also where it holds nothing.
const MEMBERS_MAX: usize = 64;

/// How a request is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Encoding {
    #[default]
    Identity,
    Gzip,
}

impl Encoding {
    /// By the one name that is not `identity`, if there is any. `None`: another one, or several.
    pub(crate) fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut names = names.into_iter().map(str::trim);
        let mut next = || names.find(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"));
        match (next(), next()) {
            (None, _) => Some(Self::Identity),
            // `x-gzip` is an older name of it (RFC 9110, section 8.4.1.3).
            (Some(one), None) if ["gzip", "x-gzip"].iter().any(|name| one.eq_ignore_ascii_case(name)) => {
                Some(Self::Gzip)
            }
            _ => None,
        }
    }
}

/// A message says that it is compressed, and its request does not say how.
pub(crate) fn compressed_without_encoding() -> Failure {
    let message = "a message is flagged as compressed, and no grpc-encoding says how";
    Failure::new(Reason::RequestInvalid, message).code(Code::Internal)
}

/// Inflates these pieces, each of which is freed once it was read, to at most `limit` bytes. `hold` is told what the result takes.
pub(super) fn inflate(
    packed: VecDeque<Bytes>,
    limit: usize,
    mut hold: impl FnMut(usize) -> Result<(), Failure>,
) -> Result<Pieces, BodyError> {
    let mut packed = Packed(packed);
    let (mut inflated, mut step) = (Pieces::new(limit), vec![0; STEP_BYTES]);
    for _ in 0..MEMBERS_MAX {
        let mut member = GzDecoder::new(&mut packed);
        loop {
            match member.read(&mut step) {
                Ok(0) => break,
                Ok(read) if read > inflated.remaining() => return Err(BodyError::TooLarge),
                Ok(read) => inflated.extend(&step[..read]),
                Err(error) => return Err(BodyError::NotGzip(error.to_string())),
            }
            hold(inflated.held()).map_err(BodyError::Overloaded)?;
        }
        if packed.fill_buf().is_ok_and(<[u8]>::is_empty) {
            return Ok(inflated);
        }
    }
    Err(BodyError::NotGzip(format!("more than {MEMBERS_MAX} members")))
}

/// Inflates a gRPC message, of whose prefix these are the pieces behind, and puts the prefix of a plain one before it.
pub(crate) fn message(
    packed: VecDeque<Bytes>,
    limit: usize,
    hold: impl FnMut(usize) -> Result<(), Failure>,
) -> Result<VecDeque<Bytes>, BodyError> {
    let mut inflated = inflate(packed, limit, hold)?;
    let mut prefix = BytesMut::with_capacity(PREFIX_BYTES);
    prefix.put_u8(0);
    prefix.put_u32(u32::try_from(inflated.len()).map_err(|_| BodyError::TooLarge)?);
    let mut pieces = inflated.take();
    pieces.push_front(prefix.freeze());
    Ok(pieces)
}

/// Pieces to read, each given back once it was.
struct Packed(VecDeque<Bytes>);

impl BufRead for Packed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.0.front().is_some_and(Bytes::is_empty) {
            self.0.pop_front();
        }
        Ok(self.0.front().map_or(&[], |piece| &piece[..]))
    }

    fn consume(&mut self, bytes: usize) {
        if let Some(piece) = self.0.front_mut() {
            piece.advance(bytes.min(piece.len()));
        }
    }
}

impl Read for Packed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}
