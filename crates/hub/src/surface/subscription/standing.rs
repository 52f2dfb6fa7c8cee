//! The standing records that hold, sent to one reader: a page of the store's at a time, one frame for each.
//!
//! The stream keeps the key of the last record sent, never a list, so the set may be as large as it likes. The set may
//! change between two pages. A change lies behind the reader's position in the log, and reaches it there:
//!
//! ```text
//! the reader stands at 7 · frame 1: records a … m · record b is ended at 8 · frame 2: records n … z
//! the reader goes on at 8, and is told there that b is ended
//! ```

use bytes::Bytes;
use galaxy_push_core::frame::StandingFrame;
use galaxy_push_store::standing::Key;

use crate::app::shared::Shared;

/// The most bytes of one frame, if the peer takes as many: one is encoded at a time, while others wait for the store.
const FRAME_BYTES: usize = 64 << 10;

/// Which records a reader has yet to be sent.
#[derive(Debug)]
pub(super) struct StandingSnapshot {
    /// The cursor of the frame before, which each of these frames repeats: it is as safe to resume from.
    cursor: String,
    bytes_max: usize,
    after: Option<Key>,
}

impl StandingSnapshot {
    /// Everything that holds, in frames of at most `message_max` bytes.
    pub(super) fn new(cursor: String, message_max: usize) -> Self {
        let bytes_max = message_max.min(FRAME_BYTES).saturating_sub(StandingFrame::OVERHEAD_BYTES);
        Self { cursor, bytes_max, after: None }
    }

    /// The next frame, and whether it is the last. There is one even if no record holds, which tells the reader so.
    pub(super) fn next(&mut self, shared: &Shared) -> (Bytes, bool) {
        let now_unix_ms = shared.clock.ambient.unix_ms();
        let each = StandingFrame::RECORD_OVERHEAD_BYTES;
        let page = shared.store.standing(self.after.as_ref(), self.bytes_max, each, now_unix_ms);
        let mut frame = StandingFrame::default();
        for (kind, message) in &page.records {
            frame.push(*kind, message);
        }
        self.after = page.next;
        shared.metrics.standing_frames.inc();
        (frame.finish(&self.cursor, self.after.is_some()).into(), self.after.is_none())
    }
}
