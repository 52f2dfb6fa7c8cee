//! **Gap true**: what a gap tells is so. Something lies in its range; its count is exact for a reader of everything and
//! an upper bound for others; only what the harness damaged is told as damaged; whoever repairs is told when, within the time
//! over which repairs are spread; and a hub tells only of what its window had no more.
//!
//! The last is judged where the rules name the window. What it held when the gap was sent nobody knows, but no less than
//! when the gap was received. Users are judged in `gaps_of_users`, by what their gateway must have held.

use crate::checker::index::Pos;
use crate::checker::index::held::is_held;
use crate::checker::report::{Findings, Promise};
use crate::checker::stream::Step;
use crate::history::{Gap, GapReason, Hop, What};

pub(super) fn check<'h>(step: &Step<'_, 'h>, findings: &mut Findings<'_, 'h>) {
    let What::Gap(gap) = step.what else { return };
    if let Some(fault) = unspread(step, gap) {
        findings.on_stream(Promise::GapTrue, step.stream, step.line, fault);
    }
    let (Some(from), Some(to)) = (step.index.at(&gap.from), step.index.at(&gap.to)) else { return };
    let fault = needless(step, gap, to)
        .or_else(|| undamaged(step, gap, from, to))
        .or_else(|| if from.epoch == to.epoch { range(step, gap, from, to) } else { None });
    if let Some(fault) = fault {
        findings.on_stream(Promise::GapTrue, step.stream, step.line, fault);
    }
}

fn range(step: &Step<'_, '_>, gap: &Gap, from: Pos, to: Pos) -> Option<String> {
    if gap.reason == GapReason::Ahead {
        return None; // it leads back
    }
    let span = to.seq.saturating_sub(from.seq);
    // Where a log returns, what is missing lies in another one.
    if span == 0 && gap.reason != GapReason::EpochChanged {
        return Some(format!("nothing lies between {} and {}", from.seq, to.seq));
    }
    let count = gap.count.filter(|_| gap.reason != GapReason::Collapsed)?;
    let exact = step.stream.open.recipients.is_empty()
        && matches!(gap.reason, GapReason::Trimmed | GapReason::Lapped);
    (count > span || exact && count < span)
        .then(|| format!("it says {count}, but {span} positions lie in ({}, {}]", from.seq, to.seq))
}

fn needless(step: &Step<'_, '_>, gap: &Gap, to: Pos) -> Option<String> {
    let window = step.index.rules.window.as_ref()?;
    let judged = matches!(gap.reason, GapReason::Trimmed | GapReason::Lapped);
    if !judged || step.stream.open.hop == Hop::User || !is_held(step.index, window, to, step.at_us) {
        return None;
    }
    Some(format!("the window must have held {} still", step.index.show(to)))
}

/// The gap does not say when its reader should repair, or not within the time over which repairs are spread.
fn unspread(step: &Step<'_, '_>, gap: &Gap) -> Option<String> {
    let spread_us = step.index.rules.repair_spread_us;
    match gap.repair_after_us {
        _ if spread_us == 0 => None,
        None => Some("it does not say when to repair: a herd would at once".to_owned()),
        Some(us) if us >= spread_us => {
            Some(format!("repairs are spread over {spread_us} us, and it says {us}"))
        }
        Some(_) => None,
    }
}

/// What a gap tells as damaged was not, though the harness says what it damaged.
fn undamaged(step: &Step<'_, '_>, gap: &Gap, from: Pos, to: Pos) -> Option<String> {
    let index = step.index;
    if gap.reason != GapReason::Damaged || !index.rules.durable {
        return None;
    }
    let log = index.log(to.epoch)?;
    let known = log.entries[log.index_after(from.seq)..].iter().take_while(|entry| entry.seq <= to.seq);
    let mut places = known.map(|entry| Pos { epoch: to.epoch, seq: entry.seq });
    let sound = places.find(|pos| !index.is_damaged(*pos))?;
    Some(format!("{} is told as damaged, and is not", index.show(sound)))
}
