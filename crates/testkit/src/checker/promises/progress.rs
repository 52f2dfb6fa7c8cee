//! **Progress**: at p everything up to p was delivered here before it and nothing up to p follows; it never goes back.

use crate::checker::index::Pos;
use crate::checker::report::{Findings, Promise};
use crate::checker::stream::Step;
use crate::history::What;

pub(super) fn check<'h>(step: &Step<'_, 'h>, findings: &mut Findings<'_, 'h>) {
    let fault = match step.what {
        What::Progress(mark) => step.index.at(&mark.cursor).and_then(|pos| progress(step, pos)),
        What::Event(_) => step.event().and_then(|pos| late(step, pos)),
        _ => None,
    };
    if let Some(fault) = fault {
        findings.on_stream(Promise::Progress, step.stream, step.line, fault);
    }
}

fn progress(step: &Step<'_, '_>, pos: Pos) -> Option<String> {
    let stretch = step.stretch_of(pos)?;
    let here = step.index.show(pos);
    if pos.seq < stretch.passed {
        return Some(format!("progress at {here} goes back: the reader stands at {}", stretch.passed));
    }
    let missing = step.owed(stretch, pos.seq).next()?;
    Some(format!(
        "progress at {here}, but {} ({:?}) was not delivered before it",
        missing.seq, missing.line.id
    ))
}

fn late(step: &Step<'_, '_>, pos: Pos) -> Option<String> {
    let stretch = step.stretch_of(pos)?;
    let progress = stretch.progress.filter(|&progress| pos.seq <= progress)?;
    let late = !stretch.has(pos.seq) && pos.seq > stretch.start;
    late.then(|| format!("{} came after progress at {progress}", step.index.show(pos)))
}
