//! How much of what a stream handed to HTTP/2 its connection has taken.
//!
//! HTTP/2 asks for more while it still buffers what it has, also where the peer's window is closed.

use bytes::Bytes;
use galaxy_push_core::window::Slot;
use galaxy_push_listener::{Outflow, WriteTracker};

/// What one stream has handed over.
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

    /// For whoever asks how much is taken when the stream itself is not asked for more.
    pub(super) fn pieces(&self) -> WriteTracker {
        self.pieces.clone()
    }

    /// A piece to hand over. With it is everything before `upto`, unless another belongs to it.
    pub(super) fn track(&mut self, data: Bytes, upto: Option<Slot>) -> Bytes {
        self.upto = upto.unwrap_or(self.upto);
        self.pieces.track(data, number(self.upto))
    }

    /// Whether the connection has not taken all of it.
    pub(super) fn is_pending(&self) -> bool {
        self.pieces.taken() < number(self.upto)
    }
}

/// As pieces are numbered.
fn number(slot: Slot) -> u64 {
    slot.since(Slot::default())
}
