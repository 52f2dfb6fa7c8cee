//! How much of what a stream handed to HTTP/2 its connection has written.
//!
//! HTTP/2 asks for more while it still buffers what it has, also where the peer's window is closed. So "asked for more"
//! does not mean "sent". A drain needs to know: it lets a stream end once nothing is pending, and says of one that it cut
//! off what is surely written.
//!
//! ```text
//! piece 1 (up to slot 5)  handed over, written      written() = 5
//! piece 2 (up to slot 9)  handed over, buffered     is_pending: 9 was handed over
//! ```

use bytes::Bytes;
use galaxy_push_core::window::Slot;
use galaxy_push_listener::{Outflow, WriteTracker};

/// What one stream has handed over, and how much of it is written.
#[derive(Debug, Default)]
pub(super) struct SendProgress {
    pieces: WriteTracker,
    /// Everything before this slot was handed over.
    upto: Slot,
}

impl SendProgress {
    pub(super) fn new(outflow: Outflow, from: Slot) -> Self {
        Self { pieces: WriteTracker::new(outflow, number(from)), upto: from }
    }

    /// For the drain, which asks how much is written while the stream itself is not asked for more.
    pub(super) fn pieces(&self) -> WriteTracker {
        self.pieces.clone()
    }

    /// Wraps a piece to hand over. With it everything before `upto` is handed over; `None`: another piece belongs to it.
    pub(super) fn track(&mut self, data: Bytes, upto: Option<Slot>) -> Bytes {
        self.upto = upto.unwrap_or(self.upto);
        self.pieces.track(data, number(self.upto))
    }

    /// Whether the connection has not written all of it.
    pub(super) fn is_pending(&self) -> bool {
        self.pieces.written() < number(self.upto)
    }
}

/// A slot as pieces are numbered.
fn number(slot: Slot) -> u64 {
    slot.since(Slot::default())
}
