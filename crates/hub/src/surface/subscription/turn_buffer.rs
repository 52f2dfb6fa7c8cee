//! How the frames of one turn become pieces for HTTP/2: few and large.
//!
//! One DATA frame per small event costs several times as much as the event, and many of them unread end a connection: the
//! h2 crate has a budget for small frames. So small frames are copied together, and what is large is handed on as it lies
//! in the window, without a copy.
//!
//! ```text
//! frames    100 B · 200 B · 40 KiB        pieces   300 B copied · 40 KiB shared with the window
//! ```
//!
//! A turn ends with the piece that fills it, so it may be larger than [`TURN_BYTES`]: 480 KiB at most, which is 224 KiB of small
//! pieces and one run of 256 KiB, or one larger frame in place of the run.

use bytes::Bytes;

/// The most bytes of one run of frames, unless a single frame is larger, and of the small pieces that are copied together:
/// large enough to make large DATA frames, small enough that other streams have their turn.
pub(crate) const TURN_BYTES: usize = 256 << 10;

/// Pieces from this size on are handed on as they lie, shared with the window; smaller ones are copied together.
const SHARE_BYTES: usize = 32 << 10;

/// The frames of one turn: small pieces copied together, and after them at most one large one as it lies.
#[derive(Debug, Default)]
pub(crate) struct TurnBuffer {
    /// Small pieces, copied together. They come first.
    joined: Vec<u8>,
    /// The large piece behind them.
    whole: Option<Bytes>,
}

impl TurnBuffer {
    /// Adds the next frames. A large piece ends the turn: nothing may follow it before it is handed on.
    pub(crate) fn push(&mut self, piece: Bytes) {
        if piece.len() < SHARE_BYTES {
            self.joined.extend_from_slice(&piece);
        } else {
            self.whole = Some(piece);
        }
    }

    /// Whether the turn is over.
    pub(crate) fn is_full(&self) -> bool {
        self.whole.is_some() || self.joined.len() > TURN_BYTES - SHARE_BYTES
    }

    /// Whether all of it was handed on.
    pub(crate) fn is_empty(&self) -> bool {
        self.joined.is_empty() && self.whole.is_none()
    }

    /// The next piece to hand on, in order.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        if self.joined.is_empty() {
            return self.whole.take();
        }
        Some(std::mem::take(&mut self.joined).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_are_joined_and_a_large_one_follows_as_it_lies() {
        let (small, large) = (Bytes::from(vec![1; 100]), Bytes::from(vec![2; SHARE_BYTES]));
        let mut turn_buffer = TurnBuffer::default();
        turn_buffer.push(small.clone());
        turn_buffer.push(small.clone());
        assert!(!turn_buffer.is_full());
        turn_buffer.push(large.clone());
        assert!(turn_buffer.is_full());
        assert_eq!(turn_buffer.pop(), Some([&small[..], &small].concat().into()));
        let shared = turn_buffer.pop().unwrap();
        assert_eq!((shared.as_ptr(), shared.len()), (large.as_ptr(), SHARE_BYTES), "not copied");
        assert_eq!(turn_buffer.pop(), None);
    }

    #[test]
    fn a_turn_of_small_pieces_stays_below_its_bound() {
        let mut turn_buffer = TurnBuffer::default();
        while !turn_buffer.is_full() {
            turn_buffer.push(Bytes::from(vec![1; SHARE_BYTES - 1]));
        }
        let turn = turn_buffer.pop().map_or(0, |turn| turn.len());
        assert!(turn > TURN_BYTES / 2 && turn <= TURN_BYTES, "{turn}");
    }
}
