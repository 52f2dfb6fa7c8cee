//! What a reader's step means for the user: control frames, and the bytes of the entries that are handed out.
//!
//! Called by `connection` under the window's lock. Decides nothing: the reader has.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use galaxy_push_core::frame::PREFIX_BYTES;
use galaxy_push_core::reader::{Reader, Step};
use galaxy_push_core::window::{Slot, Window};

use super::Outgoing;
use crate::state::delivery::Visit;
use crate::state::routes::Mailed;

/// What came of a step.
pub(super) enum Found {
    Something,
    /// Scanned in vain, not yet at the end: others may go first.
    NothingYet,
    End(Duration),
}

/// Does what a step says, under the window's lock.
pub(super) fn found(
    step: Step,
    window: &Window,
    visit: &Visit<'_>,
    out: &mut Vec<Outgoing>,
    budget: &mut usize,
) -> Found {
    match step {
        Step::Control(control) => out.push(Outgoing::Control(control)),
        Step::Send(slots) => {
            visit.hand(window, slots.clone());
            send(window, slots, out, budget);
        }
        Step::Again => return Found::NothingYet,
        Step::WaitUntil(until) => return Found::End(until),
    }
    Found::Something
}

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

/// Drops what was dealt with, and what is lost without anybody being told. Returns what is to be looked at next.
pub(super) fn drop_past(inbox: &mut VecDeque<Mailed>, reader: &Reader, window: &Window) -> Option<Slot> {
    let is_past =
        |mailed: &Mailed| reader.next() > mailed.slot || mailed.ephemeral && mailed.slot < window.oldest();
    while inbox.front().is_some_and(is_past) {
        inbox.pop_front();
    }
    inbox.front().map(|mailed| mailed.slot)
}
