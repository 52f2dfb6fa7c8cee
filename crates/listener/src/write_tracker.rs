//! The pieces of one response, and which of them the connection has written.
//!
//! HTTP asks for the next piece while it still holds what it has: over HTTP/2 whatever the window of the stream lets
//! through, over HTTP/1 as much as its buffer takes. But it drops a piece once all of it is written, and that drop is what
//! is counted here.
//!
//! ```text
//! track(piece, 5) · track(piece, 9)     written() = 0
//! HTTP drops the first piece            written() = 5
//! ```

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
    written: AtomicU64,
}

/// A piece that HTTP holds.
struct TrackedBytes {
    bytes: Bytes,
    number: u64,
    of: WriteTracker,
}

impl WriteTracker {
    /// Tracks a response on this connection. Everything up to this number counts as written.
    #[must_use]
    pub fn new(outflow: Outflow, written: u64) -> Self {
        Self(Arc::new(State { outflow, released: AtomicU64::new(written), written: AtomicU64::new(written) }))
    }

    /// The piece to hand to HTTP for these bytes: everything up to `number` is written once it is dropped. Numbers never fall
    /// from one piece to the next.
    #[must_use]
    pub fn track(&self, bytes: Bytes, number: u64) -> Bytes {
        Bytes::from_owner(TrackedBytes { bytes, number, of: self.clone() })
    }

    /// The number up to which the connection surely has written everything.
    #[must_use]
    pub fn written(&self) -> u64 {
        let State { outflow, released, written } = &*self.0;
        let released = released.load(Ordering::Relaxed);
        // While the socket takes nothing, what HTTP dropped last may lie in a buffer of its own, or in that of TLS.
        if outflow.is_blocked() {
            return written.load(Ordering::Relaxed);
        }
        written.fetch_max(released, Ordering::Relaxed).max(released)
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
        assert_eq!((&first[..], &second[..], pieces.written()), (&b"first"[..], &b"second"[..], 4));
        let end = first.split_off(2);
        drop(first);
        assert_eq!(pieces.written(), 4);
        drop(end);
        assert_eq!(pieces.written(), 5);
        drop(second);
        assert_eq!(pieces.written(), 7);
    }
}
