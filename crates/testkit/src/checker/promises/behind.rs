//! **Fell behind**: whoever lags by more than a quarter of any bound of the window is told before anything else is handed to it,
//! and nobody is told without that.
//!
//! When something was handed to a reader is known only of one that has not read for a while: what had no room on the way to
//! it was handed to it after that. How far it lagged then is known from the log. Users are judged by the second half alone,
//! for how much a network holds for them nobody knows.

use crate::checker::index::{Index, Pos};
use crate::checker::log::Entry;
use crate::checker::report::{Findings, Promise};
use crate::checker::sight::Sight;
use crate::checker::stream::Step;
use crate::history::{Hop, What, WindowRule};

/// Clocks of the product count in milliseconds, and round.
const ROUNDING_US: u64 = 5_000;

/// What is no entry of the log takes places in a window as well: a gap or two.
const PLACES: u64 = 2;

/// Of two pauses that are closer than this the second is not judged.
const APART_US: u64 = 1_000_000;

/// An ephemeral event that is called may not be answered yet, or no more, for so long.
const CALL_US: u64 = 10_000_000;

pub(super) fn check<'h>(step: &Step<'_, 'h>, findings: &mut Findings<'_, 'h>) {
    let index = step.index;
    let (Some(_), Some(window)) = (&index.rules.timing, index.window_of(step.stream.open)) else { return };
    let fault = match step.what {
        What::FellBehind(mark) => index.at(&mark.cursor).filter(|pos| stays(step, *pos)).and_then(|pos| {
            findings.judged(Sight::BehindJudged);
            without_reason(index, window, pos, step.at_us)
        }),
        What::Event(_) => step.event().and_then(|pos| untold(step, window, pos, findings)),
        _ => None,
    };
    if let Some(fault) = fault {
        findings.on_stream(Promise::FellBehind, step.stream, step.line, fault);
    }
}

/// At a gateway that goes to another log the places of both count.
fn stays(step: &Step<'_, '_>, pos: Pos) -> bool {
    step.stream.open.hop == Hop::Gateway || step.follows(pos.epoch, step.at_us)
}

/// It cannot have lagged by so much: what lies behind the place that it was told.
fn without_reason(index: &Index<'_>, window: &WindowRule, pos: Pos, at_us: u64) -> Option<String> {
    let log = index.log(pos.epoch).filter(|log| log.is_whole_at(pos.seq + 1))?;
    let passed_us = index.entry(pos)?.at_us;
    let behind = &log.entries[log.index_after(pos.seq)..];
    let behind = &behind[..behind.partition_point(|entry| entry.at_us <= at_us)];
    let ephemerals = &index.ephemerals_us;
    let early = ephemerals.partition_point(|&us| us + CALL_US < passed_us);
    let ephemerals = (ephemerals.partition_point(|&us| us <= at_us) - early) as u64;
    let events = behind.len() as u64 + ephemerals + PLACES;
    // The product reckons with the average of its window, which is no more than the largest.
    let largest = log.entries.iter().map(|entry| entry.line.bytes).max()?;
    let since_us = if ephemerals > 0 { passed_us } else { behind.first().map_or(at_us, |entry| entry.at_us) };
    let lag_us = at_us.saturating_sub(since_us);
    // Of some logs nobody says how large their entries are.
    let is_unknown = behind.iter().any(|entry| entry.line.bytes == 0);
    let is_far = events > window.events / 4
        || is_unknown
        || events.saturating_mul(largest) > window.bytes / 4
        || lag_us + ROUNDING_US > window.age_us / 4;
    (!is_far).then(|| {
        format!(
            "told that it fell behind at {}, with {events} entries at most and {lag_us} us behind it",
            index.show(pos)
        )
    })
}

/// An event that was handed over after a pause, and before its reader was told how far it was behind by then.
fn untold<'h>(
    step: &Step<'_, 'h>,
    window: &WindowRule,
    pos: Pos,
    findings: &mut Findings<'_, 'h>,
) -> Option<String> {
    let (index, open) = (step.index, step.stream.open);
    let pause = index.calm.last_pause(open.stream, step.at_us).filter(|_| open.hop == Hop::Gateway)?;
    // Nobody knows when a door to a shared log has what was stored.
    let has_it_at_once = index.rules.timing.as_ref().is_some_and(|rule| rule.deliver_us > 0);
    let live = step.state.live_since_us.is_some_and(|since| since <= pause.from_us);
    // After a pause much is handed over at once, which may wait there when the next one begins.
    let apart_us = pause.from_us.saturating_sub(APART_US);
    let was_even = !index.calm.paused(open.stream, apart_us, pause.from_us.saturating_sub(1));
    if !has_it_at_once || !live || !was_even || step.state.since_pause_bytes <= pause.ahead_bytes? {
        return None;
    }
    let log = index.log(pos.epoch)?;
    let entry = index.entry(pos)?;
    // Of a batch that is handed over together the first counts, and it is older.
    let waiting =
        log.entries[log.index_after(pos.seq - 1)..].iter().take_while(|entry| is_in(entry, pause.until_us));
    let events = waiting.count() as u64;
    let lag_us = pause.until_us.saturating_sub(entry.at_us.max(entry.told_us));
    findings.judged(Sight::BehindAfterAPauseJudged);
    let told_late = events > (window.events / 4).max(1) || lag_us > window.age_us / 4 + ROUNDING_US;
    told_late.then(|| {
        let here = index.show(pos);
        format!("{here} was handed over with {events} entries waiting for {lag_us} us, and the reader was not told")
    })
}

fn is_in(entry: &Entry<'_>, at_us: u64) -> bool {
    entry.at_us.max(entry.told_us) <= at_us
}
