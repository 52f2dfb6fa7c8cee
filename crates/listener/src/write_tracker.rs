//! The pieces of one response, and which of them the connection has taken.
//!
//! HTTP asks for the next piece while it still holds what it has: over HTTP/2 whatever the window of the stream lets
//! through, over HTTP/1 as much as its buffer takes. But it lets go of a piece once all of it is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::stall_guard::Outflow;

/// The pieces of one response. Cheap to clone; clones are the same response's.
#[derive(Clone, Debug, Default)]
pub struct WriteTracker(Arc<State>);

#[derive(Debug, Default)]
struct State {
    outflow: Outflow,
    released: AtomicU64,
    taken: AtomicU64,
}

/// A piece that HTTP holds.
struct TrackedBytes {
    bytes: Bytes,
    number: u64,
    of: WriteTracker,
}

impl WriteTracker {
    /// Those of a response on this connection. Everything up to this number counts as taken.
    #[must_use]
    pub fn new(outflow: Outflow, taken: u64) -> Self {
        Self(Arc::new(State { outflow, released: AtomicU64::new(taken), taken: AtomicU64::new(taken) }))
    }

    /// The piece to hand to HTTP for these bytes. Numbers never fall from one piece to the next.
    #[must_use]
    pub fn track(&self, bytes: Bytes, number: u64) -> Bytes {
        Bytes::from_owner(TrackedBytes { bytes, number, of: self.clone() })
    }

    /// The number up to which the connection surely has taken everything.
    #[must_use]
    pub fn taken(&self) -> u64 {
        let State { outflow, released, taken } = &*self.0;
        let released = released.load(Ordering::Relaxed);
        // While the socket takes nothing, what HTTP let go of last may lie in a buffer of its own, or in that of TLS.
        if outflow.is_blocked() {
            return taken.load(Ordering::Relaxed);
        }
        taken.fetch_max(released, Ordering::Relaxed).max(released)
    }
}

impl AsRef<[u8]> for TrackedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for TrackedBytes {
    fn drop(&mut self) {
        self.of.0.released.fetch_max(self.number, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_taken_when_nobody_holds_any_of_it() {
        let pieces = WriteTracker::new(Outflow::default(), 4);
        let (mut first, second) = (pieces.track("first".into(), 5), pieces.track("second".into(), 7));
        assert_eq!((&first[..], &second[..], pieces.taken()), (&b"first"[..], &b"second"[..], 4));
        let end = first.split_off(2);
        drop(first);
        assert_eq!(pieces.taken(), 4);
        drop(end);
        assert_eq!(pieces.taken(), 5);
        drop(second);
        assert_eq!(pieces.taken(), 7);
    }
}
