//! Which cursors may be resumed from while standing records are on their way.
//!
//! Whoever resumes is sent no `Standing`: the hub takes it to have every record up to its cursor. Right after a `Welcome`
//! that is not RESUMED, and right after a `Gap` within a stream, that is not so yet. A stream that breaks there must not
//! be resumed from the cursor of that frame, nor from one that repeats it, or the records would be missed for good.
//!
//! ```text
//! Welcome TRIMMED a9   Standing(more)   Standing   Gap to a20   a21
//! cursor moves to      –                a9         a20          a21
//! broken after the first Standing: the next stream resumes from the cursor before this one, and gets all of it again
//! ```

use super::Link;
use crate::cursor::Cursor;
use crate::frame::{FrameView, GapView, Kind};
use crate::window::GapReason;
use crate::wire::{Fields, Value};

/// What of the standing records is still to come on the present stream.
#[derive(Debug, Default)]
pub(super) struct PendingStanding {
    /// Until the last `Standing` is there: what had been received before the frame that announced it.
    due: Option<Option<Cursor>>,
    /// The gap that belongs to the outcome, which no `Standing` of its own follows, is still to come.
    opening_gap: bool,
}

impl Link {
    /// Whether this frame's cursor may be resumed from. `before` is what had been received before it.
    pub(super) fn may_resume_from(&mut self, frame: &FrameView<'_>, before: Option<Cursor>) -> bool {
        /// `OUTCOME_RESUMED` and `OUTCOME_FRESH`.
        const RESUMED: Option<u64> = Some(1);
        const FRESH: Option<u64> = Some(2);

        if !self.config.standing {
            return true;
        }
        let standing = &mut self.stream.standing;
        match frame.kind() {
            Kind::Welcome => {
                let outcome = number(frame.body(), 1);
                standing.opening_gap = outcome != RESUMED && outcome != FRESH;
                standing.due = (outcome != RESUMED).then_some(before);
            }
            Kind::Gap if std::mem::take(&mut standing.opening_gap) => standing.due = None,
            Kind::Gap if frame.gap().and_then(GapView::reason) != Some(GapReason::TooLarge) => {
                standing.due.get_or_insert(before);
            }
            Kind::Standing if number(frame.body(), 3).is_some_and(|more| more != 0) => {
                standing.due.get_or_insert(before);
            }
            // They may come at any moment and repeat a cursor.
            Kind::Goodbye | Kind::Subscribed | Kind::Unknown => {}
            // The last `Standing`, or a frame that shows that this hub sends none.
            _ => standing.due = None,
        }
        standing.due.is_none()
    }

    /// A stream that broke before its standing records were whole did not get anywhere: what the next one brings is
    /// compared with what had been received before.
    pub(super) fn forget_position_without_standing(&mut self) {
        if let Some(before) = self.stream.standing.due.take() {
            self.received = before;
        }
    }
}

/// The number in a field of a message.
fn number(message: &[u8], field: u32) -> Option<u64> {
    let numbers = Fields::of(message).map_while(Result::ok).filter_map(|found| match found {
        (number, Value::Varint(value)) if number == field => Some(value),
        _ => None,
    });
    numbers.last()
}
