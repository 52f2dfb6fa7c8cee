//! The entries of a request, framed: all of them in one piece of memory.

use bytes::Bytes;
use galaxy_push_core::cursor::Cursor;
use galaxy_push_core::frame::{LOG_FRAME_OVERHEAD_BYTES, put_log_frame};
use galaxy_push_core::window::Traits;

use crate::Committed;
use crate::batch::Item;

/// Entries that gather.
pub(super) struct Entries {
    frames: Vec<u8>,
    entries: Vec<(Committed, usize)>,
    /// The last position before what comes next; `None`: readers are handed nothing.
    before: Option<Cursor>,
}

impl Entries {
    pub(super) fn with_capacity(items: &[Item], before: Option<Cursor>) -> Self {
        let items = if before.is_some() { items } else { &[] };
        let bytes = items.iter().map(|item| item.event.len() + LOG_FRAME_OVERHEAD_BYTES).sum();
        let count = items.len();
        Self { frames: Vec::with_capacity(bytes), entries: Vec::with_capacity(count), before }
    }

    /// Adds an item at this position; an ephemeral one has none.
    pub(super) fn put(&mut self, item: &Item, cursor: Option<Cursor>, appended_unix_ms: u64) {
        let Some(before) = &mut self.before else { return };
        *before = cursor.unwrap_or(*before);
        let (kind, traits, start) = (item.kind, item.traits, self.frames.len());
        put_log_frame(&mut self.frames, kind, cursor, &item.event, appended_unix_ms);
        let frame = Bytes::new(); // cut off the others in the end
        let committed = Committed { kind, cursor: *before, traits, frame, appended_unix_ms };
        self.entries.push((committed, self.frames.len() - start));
    }

    /// All of them, each but the last with more of the same behind it.
    pub(super) fn finish(self) -> Vec<Committed> {
        let (mut frames, count) = (Bytes::from(self.frames), self.entries.len());
        let entries = self.entries.into_iter().enumerate().map(|(index, (mut entry, length))| {
            entry.frame = frames.split_to(length);
            if index + 1 < count {
                entry.traits = entry.traits.with(Traits::CONTINUES);
            }
            entry
        });
        entries.collect()
    }
}
