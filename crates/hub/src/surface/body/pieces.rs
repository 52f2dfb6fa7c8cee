//! What has arrived of a body: pieces that never move, so that growing costs no second copy of what is there.
//!
//! A vector that grows holds twice its content while it moves. Peers decide how bodies grow, so that would be twice the
//! memory that the bound promises. Pieces grow from 1 KiB to 64 KiB; only [`Pieces::join`] copies, and frees what it copied
//! afterwards.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// The first piece has room for so much at least, and later ones for so much at most unless more comes at once.
const PIECE_BYTES_MIN: usize = 1 << 10;
const PIECE_BYTES_MAX: usize = 64 << 10;

/// The beginning of a body of limited size.
#[derive(Debug)]
pub(super) struct Pieces {
    /// The most bytes that may arrive.
    limit: usize,
    /// Pieces that are full, in order.
    full: VecDeque<Bytes>,
    /// The piece that is being filled.
    last: BytesMut,
    /// How many bytes have arrived.
    length: usize,
    /// How many bytes of memory that takes.
    held: usize,
}

impl Pieces {
    /// Nothing yet, of at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, full: VecDeque::new(), last: BytesMut::new(), length: 0, held: 0 }
    }

    /// How much more may come, in bytes.
    pub(super) fn remaining(&self) -> usize {
        self.limit - self.length
    }

    /// How much has arrived, in bytes.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// The beginning, at least of a prefix's length if so much is there.
    pub(super) fn start(&self) -> &[u8] {
        self.full.front().map_or(&self.last[..], |first| &first[..])
    }

    /// The memory that this takes, in bytes: never more than the limit.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Adds what came, which must fit. What comes whole is kept as it lies; a part is copied, because it may be a small
    /// slice of something large.
    pub(super) fn push(&mut self, data: Bytes, is_whole: bool) {
        debug_assert!(data.len() <= self.remaining(), "the caller has looked");
        if is_whole && self.length == 0 {
            (self.length, self.held) = (data.len(), data.len());
            self.full.push_back(data);
            return;
        }
        self.extend(&data);
    }

    /// Adds a copy of what came, which must fit.
    pub(super) fn extend(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.last.len() == self.last.capacity() {
                self.begin_piece(data.len());
            }
            let (fits, rest) = data.split_at((self.last.capacity() - self.last.len()).min(data.len()));
            self.last.extend_from_slice(fits);
            self.length += fits.len();
            data = rest;
        }
    }

    /// Begins another piece: as large as everything before it, within bounds, so that the number of pieces grows slowly.
    fn begin_piece(&mut self, coming: usize) {
        if !self.last.is_empty() {
            self.full.push_back(std::mem::take(&mut self.last).freeze());
        }
        let size = self.length.clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX).max(coming).min(self.remaining());
        self.last = BytesMut::with_capacity(size);
        self.held += self.last.capacity();
    }

    /// All of it in one piece. What was copied is given back at once.
    pub(super) fn join(mut self) -> Bytes {
        let mut pieces = self.take();
        if pieces.len() <= 1 {
            return pieces.pop_front().unwrap_or_default();
        }
        let mut joined = Vec::with_capacity(self.length);
        for piece in pieces {
            joined.extend_from_slice(&piece);
        }
        joined.into()
    }

    /// The pieces in order; nothing is left.
    pub(super) fn take(&mut self) -> VecDeque<Bytes> {
        if !self.last.is_empty() {
            self.full.push_back(std::mem::take(&mut self.last).freeze());
        }
        std::mem::take(&mut self.full)
    }
}
