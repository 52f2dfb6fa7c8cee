//! What a reader's step means for the user: control frames, and the bytes of the entries that are sent.
//!
//! Called by `connection` under the window's lock. Decides nothing: the reader has.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use galaxy_push_core::frame::PREFIX_BYTES;
use galaxy_push_core::reader::{Reader, Step};
use galaxy_push_core::window::{Slot, Window};

use super::Outgoing;
use crate::state::latency::DeliveryTimer;
use crate::state::routes::QueuedSlot;

/// What a step came to.
pub(super) enum StepResult {
    /// Something is in `out`.
    Produced,
    /// Nothing, and the end is not reached: others may go first.
    Nothing,
    /// Nothing, and the end is reached: the reader has nothing to say before this time of the edge's clock.
    AtEnd(Duration),
}

/// Does what a step says, under the window's lock.
pub(super) fn apply_step(
    step: Step,
    window: &Window,
    timer: &DeliveryTimer<'_>,
    out: &mut Vec<Outgoing>,
    budget: &mut usize,
) -> StepResult {
    match step {
        Step::Control(control) => out.push(Outgoing::Control(control)),
        Step::Send(slots) => {
            timer.record(window, slots.clone());
            send(window, slots, out, budget);
        }
        Step::Again => return StepResult::Nothing,
        Step::WaitUntil(until) => return StepResult::AtEnd(until),
    }
    StepResult::Produced
}

/// Cuts the bytes of these entries into frames, and counts them against the budget.
fn send(window: &Window, slots: Range<Slot>, out: &mut Vec<Outgoing>, budget: &mut usize) {
    let mut bytes = window.bytes(slots.clone());
    let mut slot = slots.start;
    while let Some(&[_, a, b, c, d]) = bytes.first_chunk::<PREFIX_BYTES>() {
        let length = (PREFIX_BYTES + u32::from_be_bytes([a, b, c, d]) as usize).min(bytes.len());
        *budget = budget.saturating_sub(length);
        out.push(Outgoing::Entry { slot, framed: bytes.split_to(length) });
        slot = slot.next();
    }
}

/// Drops from the inbox what was read, and ephemeral events that have left the window: nobody is told of those. Returns the
/// slot to read next.
pub(super) fn skip_read(inbox: &mut VecDeque<QueuedSlot>, reader: &Reader, window: &Window) -> Option<Slot> {
    let is_past = |queued: &QueuedSlot| {
        reader.next() > queued.slot || queued.ephemeral && queued.slot < window.oldest()
    };
    while inbox.front().is_some_and(is_past) {
        inbox.pop_front();
    }
    inbox.front().map(|queued| queued.slot)
}
