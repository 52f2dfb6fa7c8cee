//! **Ordered**: inside a stream positions strictly rise; the epoch changes only across a Gap (EPOCH_CHANGED).

use crate::checker::index::Pos;
use crate::checker::report::{Findings, Promise};
use crate::checker::stream::{Step, Stretch};
use crate::history::{Cursor, Gap, GapReason, What};

pub(super) fn check<'h>(step: &Step<'_, 'h>, findings: &mut Findings<'_, 'h>) {
    let fault = match step.what {
        What::Event(_) => step.event().and_then(|pos| event(step, pos)),
        What::Gap(gap) => gap_order(step, gap),
        What::Progress(mark) | What::CaughtUp(mark) | What::FellBehind(mark) => {
            mark_epoch(step, &mark.cursor)
        }
        What::Goodbye(goodbye) => mark_epoch(step, &goodbye.cursor),
        What::Subscribed(subscribed) => mark_epoch(step, &subscribed.cursor),
        _ => None,
    };
    if let Some(fault) = fault {
        findings.on_stream(Promise::Ordered, step.stream, step.line, fault);
    }
}

fn event(step: &Step<'_, '_>, pos: Pos) -> Option<String> {
    let stretch = step.state.stretch.as_ref()?;
    let here = step.index.show(pos);
    if pos.epoch != stretch.epoch {
        return Some(changed(step, stretch, &here));
    }
    if stretch.has(pos.seq) {
        return None; // judged as not unique
    }
    match (stretch.delivered.last(), stretch.gap) {
        (Some(&last), _) if pos.seq < last => Some(format!("{here} came after {last}: positions must rise")),
        (_, Some(gap)) if pos.seq <= gap => {
            Some(format!("{here} came after a gap that tells everything up to {gap} as missing"))
        }
        _ => None,
    }
}

fn gap_order(step: &Step<'_, '_>, gap: &Gap) -> Option<String> {
    let to = step.index.at(&gap.to)?;
    let held = match &step.state.stretch {
        Some(stretch) => Some(stretch.passed()),
        None => step.index.at(&gap.from),
    }?;
    let shown = step.index.show(to);
    if to.epoch != held.epoch {
        let wrong = gap.reason != GapReason::EpochChanged;
        return wrong.then(|| format!("the gap to {shown} enters another epoch, but says {:?}", gap.reason));
    }
    // A reader that is led past a stay in another log, or waited in one for its own, is told of it by a gap inside its own.
    if gap.reason == GapReason::EpochChanged && step.state.stretch.is_some() && !step.was_entered(held) {
        return Some(format!("the gap to {shown} says EPOCH_CHANGED, but the epoch is the same"));
    }
    let back = to.seq < held.seq && gap.reason != GapReason::Ahead;
    back.then(|| format!("the gap to {shown} leads back: the reader stood at {}", held.seq))
}

fn mark_epoch(step: &Step<'_, '_>, cursor: &Cursor) -> Option<String> {
    let (stretch, pos) = (step.state.stretch.as_ref()?, step.index.at(cursor)?);
    (pos.epoch != stretch.epoch).then(|| changed(step, stretch, &step.index.show(pos)))
}

fn changed(step: &Step<'_, '_>, stretch: &Stretch, here: &str) -> String {
    format!(
        "{here} is of another epoch than {}, and no gap told the change",
        step.index.show(stretch.passed())
    )
}
