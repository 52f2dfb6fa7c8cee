//! How much of what a stream handed to HTTP/2 its connection has taken, as far as that shows.
//!
//! HTTP/2 asks for more while it still buffers what it has. Only a socket that has taken all it was offered, or as many
//! bytes as HTTP/2 holds at most, says that what came before them is gone.

use std::collections::VecDeque;

use galaxy_push_core::window::Slot;
use galaxy_push_listener::{Limits, Outflow};

use crate::gathered::TURN_BYTES;

/// Marks are so far apart, in bytes: some sixty are held.
const APART: u64 = 16 << 10;

/// What one stream has handed over.
#[derive(Debug, Default)]
pub(super) struct Handed {
    outflow: Outflow,
    bytes: u64,
    last: u64,
    upto: Slot,
    /// After so many bytes everything before this slot was handed over. Oldest first.
    marks: VecDeque<(u64, Slot)>,
}

impl Handed {
    pub(super) fn new(outflow: Outflow, from: Slot) -> Self {
        Self { outflow, upto: from, ..Self::default() }
    }

    /// So many bytes more, up to this slot.
    pub(super) fn over(&mut self, bytes: usize, upto: Slot) {
        self.last = bytes as u64;
        self.bytes += self.last;
        self.upto = upto;
        let before = self.marks.len().checked_sub(2).map_or(0, |before| self.marks[before].0);
        match self.marks.back_mut() {
            // The last one may still grow.
            Some(last) if self.bytes - before < APART => *last = (self.bytes, upto),
            _ => self.marks.push_back((self.bytes, upto)),
        }
    }

    /// Whether the connection has not taken all of it. Ask only when HTTP/2 asks for more.
    pub(super) fn waits(&self) -> bool {
        self.outflow.is_blocked()
    }

    /// Before which slot everything is taken, if that is known to be further than it was. Ask only when HTTP/2 asks for more.
    pub(super) fn taken(&mut self) -> Option<Slot> {
        if !self.waits() {
            self.marks.clear();
            return Some(self.upto);
        }
        // Its buffer, what it was given beyond that, and what it is writing.
        let held = Limits::hub().h2_send_buffer as u64 + 2 * self.last.max(TURN_BYTES as u64);
        let mut taken = None;
        while let Some((at, slot)) = self.marks.front().copied() {
            if at + held > self.bytes {
                break;
            }
            taken = Some(slot);
            self.marks.pop_front();
        }
        taken
    }
}
