//! **Prompt**: what is appended comes within a moment to every reader that has everything before it, and that nothing befalls.
//! Nobody waits for the next `Progress` to find what a wake-up was lost for.
//!
//! Judged where the rules say how long the harness's network takes, at each frame and at the end of a stream: what was
//! due by then was there, or it is late.

use crate::checker::index::Pos;
use crate::checker::report::{Findings, Promise};
use crate::checker::seen::Sight;
use crate::checker::stream::Step;
use crate::history::{Hop, What};

pub(super) fn check<'h>(step: &Step<'_, 'h>, findings: &mut Findings<'_, 'h>) {
    let Some(rule) = step.index.rules.timing.as_ref().filter(|rule| rule.deliver_us > 0) else { return };
    let (Some(since_us), Some(stretch)) = (step.state.live_since_us, &step.state.stretch) else { return };
    if !step.what.is_frame() && !matches!(step.what, What::Close(_)) {
        return;
    }
    if let Some(pos) = step.event() {
        count(step, pos, since_us, findings);
    }
    let due_us = step.at_us.saturating_sub(rule.deliver_us);
    let upto = step.index.head_at(stretch.epoch, due_us);
    if upto <= stretch.passed {
        return;
    }
    let late = step.owed(stretch, upto).find(|entry| entry.at_us >= since_us);
    let Some(late) = late.filter(|entry| entry.at_us.max(entry.told_us) <= due_us) else { return };
    let appended_us = late.at_us.max(late.told_us);
    if !step.is_calm(appended_us) || !step.is_fed(stretch.epoch, appended_us) {
        return;
    }
    let (seq, id, after_us) = (late.seq, &late.line.id, step.at_us - appended_us);
    let text =
        format!("{seq} ({id:?}) was not there {after_us} us after its append, and nothing was in its way");
    findings.on_stream(Promise::Prompt, step.stream, step.line, text);
}

/// Counts what could have been late.
fn count<'h>(step: &Step<'_, 'h>, pos: Pos, since_us: u64, findings: &mut Findings<'_, 'h>) {
    let Some(entry) = step.index.entry(pos) else { return };
    let appended_us = entry.at_us.max(entry.told_us);
    if entry.at_us >= since_us && step.is_calm(appended_us) && step.is_fed(pos.epoch, appended_us) {
        findings.judged(match step.stream.open.hop {
            Hop::Gateway => Sight::PromptJudged,
            Hop::User => Sight::PromptAtUserJudged,
        });
    }
}
