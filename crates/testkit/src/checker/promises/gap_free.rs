//! **Gap-free or told**: between two things a reader gets, nothing it is owed is missing, unless a Gap said so before.
//!
//! A hole right behind the presented cursor is a fault of resuming and named so. Holes before the cursors of control
//! frames are judged by `progress` and `cursor_safe`; what never came at all, by `live`.

use crate::checker::index::Pos;
use crate::checker::report::{Findings, Promise};
use crate::checker::stream::Step;
use crate::history::{Gap, GapReason, What};

pub(super) fn check<'h>(step: &Step<'_, 'h>, findings: &mut Findings<'_, 'h>) {
    let fault = match step.what {
        What::Event(_) => event(step).or_else(|| collapsed_untold(step)),
        What::Gap(gap) => before_gap(step, gap).or_else(|| too_little(step, gap)),
        _ => None,
    };
    if let Some((promise, fault)) = fault {
        findings.on_stream(promise, step.stream, step.line, fault);
    }
}

fn event(step: &Step<'_, '_>) -> Option<(Promise, String)> {
    let pos = step.event()?;
    let here = step.index.show(pos);
    if step.state.gap_due {
        let outcome = step.state.welcome?.outcome;
        return Some((
            Promise::GapFreeOrTold,
            format!("the outcome is {outcome:?}: a Gap must come before {here}"),
        ));
    }
    let stretch = step.stretch_of(pos)?;
    let missing = step.owed(stretch, pos.seq.saturating_sub(1)).next()?;
    let (seq, id) = (missing.seq, &missing.line.id);
    if stretch.is_untouched() {
        let text =
            format!("the first event after {} is {here}, but {seq} ({id:?}) comes before it", stretch.start);
        return Some((Promise::Resumable, text));
    }
    let held = stretch.passed;
    let text = format!("{here} follows {held}, but {seq} ({id:?}) lies between, and no gap covers it");
    Some((Promise::GapFreeOrTold, text))
}

/// Superseded events were left out, and nobody said so before their survivor.
fn collapsed_untold(step: &Step<'_, '_>) -> Option<(Promise, String)> {
    let pos = step.event().filter(|_| step.stream.open.collapses)?;
    let key = step.index.entry(pos)?.line.collapse_key.as_deref()?;
    let more = step.stretch_of(pos).map_or(0, |stretch| {
        let before = pos.seq.saturating_sub(1);
        let left_out = step.state.entitlement.superseded(step.index, stretch.passed(), before, step.at_us);
        left_out.filter(|entry| entry.line.collapse_key.as_deref() == Some(key)).count() as u64
    });
    let untold = step.state.collapsed.untold(key, more);
    let here = step.index.show(pos);
    let text = || {
        format!("{here} supersedes {untold} of key {key:?} that were left out, and no COLLAPSED gap said so")
    };
    (untold > 0).then(|| (Promise::GapFreeOrTold, text()))
}

/// The part between where the reader stands and where the gap begins is not covered by it.
fn before_gap(step: &Step<'_, '_>, gap: &Gap) -> Option<(Promise, String)> {
    let from = step.index.at(&gap.from)?;
    let stretch = step.stretch_of(from)?;
    let missing = step.owed(stretch, from.seq).next()?;
    let (seq, id, held) = (missing.seq, &missing.line.id, stretch.passed);
    let text =
        format!("the gap begins at {}, the reader stands at {held}: {seq} ({id:?}) is not covered", from.seq);
    Some((Promise::GapFreeOrTold, text))
}

/// A gap that says less than is missing.
fn too_little(step: &Step<'_, '_>, gap: &Gap) -> Option<(Promise, String)> {
    let (from, to) = (step.index.at(&gap.from)?, step.index.at(&gap.to)?);
    if from.epoch != to.epoch {
        return None;
    }
    let held = step.stretch_of(to).map_or(from.seq, |stretch| stretch.passed.max(from.seq));
    let mut owed = step.owed_after(Pos { epoch: to.epoch, seq: held }, to.seq);
    if gap.reason == GapReason::Collapsed {
        let hidden = owed.next()?;
        let (seq, id) = (hidden.seq, &hidden.line.id);
        let text = format!("a COLLAPSED gap hides {seq} ({id:?}), which nothing newer supersedes");
        return Some((Promise::GapFreeOrTold, text));
    }
    let count = gap.count?;
    let beyond = owed.nth(usize::try_from(count).ok()?)?;
    let text = format!("the gap says {count} are missing, but with {} they are more", beyond.seq);
    Some((Promise::GapFreeOrTold, text))
}
