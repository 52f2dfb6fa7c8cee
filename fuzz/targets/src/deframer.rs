//! The splitter of gRPC bodies: the same messages and the same end however the bytes arrive, and none beyond the limit.

use bytes::Bytes;
use galaxy_push_core::frame::{DeframeError, Deframer, PREFIX_BYTES};

/// A limit, a few lengths of pieces, which are taken in turn, and the stream.
pub fn deframer(data: &[u8]) {
    let Some((&[limit, pieces], rest)) = data.split_first_chunk::<2>() else { return };
    let (lengths, stream) = rest.split_at(usize::from(pieces % 16).min(rest.len()));
    let limit = usize::from(limit) * 4;
    let expected = by_hand(stream, limit);

    let whole = Bytes::copy_from_slice(stream);
    assert_eq!(split(std::iter::once(whole.clone()), limit), expected, "in one piece");
    let mut at = 0;
    let mut lengths = lengths.iter().cycle();
    let cut = std::iter::from_fn(|| {
        if at == whole.len() {
            return None;
        }
        // None of them: byte by byte.
        let length = lengths.next().map_or(1, |length| usize::from(*length)).max(1);
        let piece = whole.slice(at..(at + length).min(whole.len()));
        at += piece.len();
        Some(piece)
    });
    assert_eq!(split(cut, limit), expected, "in pieces");
}

/// The messages of a stream, how it ended, and whether it may end there.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    messages: Vec<Bytes>,
    error: Option<DeframeError>,
    is_at_boundary: bool,
}

fn split(pieces: impl Iterator<Item = Bytes>, limit: usize) -> Told {
    let mut deframer = Deframer::new(limit);
    let mut told = Told { messages: Vec::new(), error: None, is_at_boundary: true };
    for piece in pieces {
        deframer.push(piece);
        loop {
            match deframer.next_message() {
                Ok(Some(message)) => {
                    assert!(message.len() <= limit + PREFIX_BYTES, "{} bytes of {limit}", message.len());
                    told.messages.push(message);
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(deframer.next_message(), Err(error), "it is broken from here on");
                    told.error = Some(error);
                    told.is_at_boundary = false;
                    return told;
                }
            }
        }
    }
    told.is_at_boundary = deframer.is_at_boundary();
    told
}

/// The same, as simply as it can be said.
fn by_hand(mut stream: &[u8], limit: usize) -> Told {
    let mut told = Told { messages: Vec::new(), error: None, is_at_boundary: true };
    while stream.len() >= PREFIX_BYTES {
        let length = stream[1..PREFIX_BYTES].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        if stream[0] != 0 {
            told.error = Some(DeframeError::Compressed);
        } else if length > limit {
            told.error = Some(DeframeError::TooLarge { length, limit });
        } else if stream.len() >= PREFIX_BYTES + length {
            let (message, rest) = stream.split_at(PREFIX_BYTES + length);
            told.messages.push(Bytes::copy_from_slice(message));
            stream = rest;
            continue;
        }
        break;
    }
    told.is_at_boundary = stream.is_empty() && told.error.is_none();
    told
}
