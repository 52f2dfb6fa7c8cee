//! Whether a window held a position for certain. Called by promises that judge gaps, and by `edges`.

use super::{Index, Pos};
use crate::history::WindowRule;

/// What the clocks of log and window may differ by.
const ROUNDING_US: u64 = 5_000;

/// Whether the window held this position for certain at this time.
pub(in crate::checker) fn is_held(index: &Index<'_>, window: &WindowRule, pos: Pos, at_us: u64) -> bool {
    let Some((log, entry)) = index.log(pos.epoch).and_then(|log| Some((log, log.get(pos.seq)?))) else {
        return false;
    };
    let appended_us = entry.at_us;
    let later = &log.entries[log.index_after(pos.seq)..];
    let later = later.partition_point(|entry| entry.at_us <= at_us) as u64;
    let ephemerals = &index.ephemerals_us;
    // What is not answered yet may have been appended before: look a little further back.
    let early = ephemerals.partition_point(|&at_us| at_us + 10_000_000 < appended_us);
    let ephemerals = (ephemerals.partition_point(|&us| us <= at_us) - early) as u64;
    let held = later.saturating_add(ephemerals).saturating_add(1);
    let young = at_us.saturating_sub(appended_us).saturating_add(ROUNDING_US) < window.age_us;
    young && held <= window.events && held.saturating_mul(window.event_bytes_max) <= window.bytes
}
