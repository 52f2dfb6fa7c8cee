//! **Prompt**: what is appended comes within a moment to every reader that has everything before it, and that nothing befalls.
//! Nobody waits for the next `Progress` to find what a wake-up was lost for.
//!
//! What lies before it comes first, and a handler takes its time over each item.
//!
//! Judged where the rules say how long the harness's network takes, at each frame and at the end of a stream: what was
//! due by then was there, or it is late.

use crate::checker::index::Pos;
use crate::checker::report::{Findings, Promise};
use crate::checker::sight::Sight;
use crate::checker::stream::Step;
use crate::history::{Hop, TimingRule, What};

/// Of a replay that a gateway hands on to who has been there all the time, a thousand frames a second come at least.
const FRAME_US: u64 = 1_000;

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
    if due_us.saturating_sub(ahead_us(step, rule, appended_us)) < appended_us
        || !step.is_calm(appended_us)
        || !step.is_fed(stretch.epoch, appended_us)
    {
        return;
    }
    let (seq, id, after_us) = (late.seq, &late.line.id, step.at_us - appended_us);
    let text =
        format!("{seq} ({id:?}) was not there {after_us} us after its append, and nothing was in its way");
    findings.on_stream(Promise::Prompt, step.stream, step.line, text);
}

/// How long whatever came to the reader since this moment may have held up what is behind it. A handler was busy with what it
/// was given last by then, too.
fn ahead_us(step: &Step<'_, '_>, rule: &TimingRule, since_us: u64) -> u64 {
    let lines = &step.stream.lines;
    let lines = &lines[..lines.partition_point(|line| *line < step.line)];
    let at_us = |line: &usize| step.index.records[*line].at_us;
    let since = lines.partition_point(|line| at_us(line) <= since_us);
    if !step.index.calm.has_handler(&step.stream.open.reader) {
        return (lines.len() - since) as u64 * FRAME_US;
    }
    let last_us = since.checked_sub(1).map_or(since_us, |last| at_us(&lines[last]));
    (lines.len() - lines.partition_point(|line| at_us(line) < last_us)) as u64 * rule.handle_us
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
