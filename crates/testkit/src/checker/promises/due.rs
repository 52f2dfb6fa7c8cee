//! **Progress**, when it is due: after a silence, and where a filter has passed over an eighth of any bound of the window. So a
//! quiet reader never ages out: it is not told that the window overtook it, of a stretch in which nothing was for it.

use crate::checker::log::Entry;
use crate::checker::report::{Findings, Promise};
use crate::checker::sight::Sight;
use crate::checker::stream::{Step, Stretch};
use crate::history::{Gap, GapReason, Hop, TimingRule, What, WindowRule};

/// What a frame may take longer than the one before it: twice 30 ms of a link, ticks of 10 ms at each end, and a turn behind a
/// large event that goes by pieces.
const FRAME_US: u64 = 400_000;

/// So many entries may lie in one batch or behind each other in a turn, within which nothing is said.
const BATCH: u64 = 16;

/// And so many bytes.
const BATCH_BYTES: u64 = 32 << 10;

/// Clocks of the product count in milliseconds, and a batch is of one moment.
const ROUNDING_US: u64 = 20_000;

/// What is appended within this time may be there when a hub's reader looks again: ticks of 10 ms, and its turn behind others.
const AT_ONCE_US: u64 = 50_000;

/// An ephemeral event takes its place within this time of its request, or nobody is sure of it.
const EPHEMERAL_US: u64 = 500_000;

/// A user is told where it stands at least so often within the age of its gateway's window.
const TOLD_PER_AGE: u64 = 8;

pub(super) fn check<'h>(step: &Step<'_, 'h>, findings: &mut Findings<'_, 'h>) {
    let Some(rule) = &step.index.rules.timing else { return };
    let (Some(since_us), Some(stretch)) = (step.state.live_since_us, &step.state.stretch) else { return };
    if !step.what.is_frame() && !matches!(step.what, What::Close(_)) {
        return;
    }
    let fault = silence(step, rule, findings)
        .or_else(|| eighth(step, rule, stretch, findings))
        .or_else(|| aged_out(step, rule, stretch, since_us));
    if let Some(fault) = fault {
        findings.on_stream(Promise::Progress, step.stream, step.line, fault);
    }
}

fn silence<'h>(step: &Step<'_, 'h>, rule: &TimingRule, findings: &mut Findings<'_, 'h>) -> Option<String> {
    let due_us = match step.stream.open.hop {
        Hop::Gateway => rule.progress_us,
        // A gateway says so sooner if its window is short.
        Hop::User => step
            .index
            .window_of(step.stream.open)
            .map_or(rule.edge_progress_us, |window| rule.edge_progress_us.min(window.age_us / TOLD_PER_AGE)),
    };
    let silent_us = step.at_us.saturating_sub(step.state.heard_us);
    if due_us == 0 || silent_us + FRAME_US < due_us || !step.is_calm(step.state.heard_us) {
        return None;
    }
    findings.judged(Sight::SilenceJudged);
    (silent_us > due_us + FRAME_US)
        .then(|| format!("nothing came for {silent_us} us, and progress is due after {due_us} us"))
}

/// A filter has passed over more than the reader may be left untold of.
fn eighth<'h>(
    step: &Step<'_, 'h>,
    rule: &TimingRule,
    stretch: &Stretch,
    findings: &mut Findings<'_, 'h>,
) -> Option<String> {
    let window = step.index.rules.window.as_ref()?;
    let filters = step.stream.open.hop == Hop::Gateway && !step.stream.open.recipients.is_empty();
    if !filters || rule.deliver_us == 0 {
        return None;
    }
    let log = step.index.log(stretch.epoch)?;
    let (from_us, due_us) = (step.state.heard_us, step.at_us.checked_sub(rule.deliver_us)?);
    // What was appended since the last frame came had not been passed over when that was sent.
    let entries = &log.entries[log.index_after(stretch.passed)..];
    let entries = &entries[entries.partition_point(|entry| entry.at_us < from_us)..];
    let entries = &entries[..entries.partition_point(|entry| entry.at_us.max(entry.told_us) <= due_us)];
    let (first, last) = (entries.first()?, entries.last()?);
    let events = entries.len() as u64;
    let bytes: u64 = entries.iter().map(|entry| entry.line.bytes).sum();
    let age_us = last.at_us.saturating_sub(first.at_us);
    let passed = Passed { events, bytes, age_us };
    let near = passed.bounds(window, true);
    if near.is_empty() || !step.is_calm(from_us) {
        return None;
    }
    near.into_iter().for_each(|(_, sight)| findings.judged(sight));
    let (bound, _) = passed.bounds(window, false).into_iter().next()?;
    Some(format!(
        "{events} entries of {bytes} bytes in {age_us} us were passed over untold: an eighth of the window's {bound}"
    ))
}

/// What a filter has passed over.
struct Passed {
    events: u64,
    bytes: u64,
    age_us: u64,
}

impl Passed {
    /// Which bounds it exceeds an eighth of, and what is let pass; or, if `near`, half of that, so that somebody looked.
    fn bounds(&self, window: &WindowRule, near: bool) -> Vec<(&'static str, Sight)> {
        let exceeds = |passed: u64, bound: u64, slack: u64| match near {
            true => passed > bound / 16,
            false => passed > bound / 8 + slack,
        };
        let all = [
            (exceeds(self.events, window.events, BATCH), ("events", Sight::EighthOfEventsJudged)),
            (exceeds(self.bytes, window.bytes, BATCH_BYTES), ("bytes", Sight::EighthOfBytesJudged)),
            (exceeds(self.age_us, window.age_us, ROUNDING_US), ("age", Sight::EighthOfAgeJudged)),
        ];
        all.into_iter().filter(|(exceeds, _)| *exceeds).map(|(_, bound)| bound).collect()
    }
}

/// Whether more than the hub's window holds came at once: whoever reads there and is passed over by it had no time to look at
/// that, and a gateway hands on to everybody that it was. What comes to a gateway at once passes nobody by that it is not for,
/// unless one entry alone is more than its window.
fn overwhelms(step: &Step<'_, '_>, stretch: &Stretch, upto: u64) -> bool {
    let index = step.index;
    let (Some(hub), Some(log)) = (&index.rules.window, index.log(stretch.epoch)) else { return false };
    let entries = &log.entries[log.index_after(stretch.passed)..];
    let lost = entries.partition_point(|entry| entry.seq <= upto);
    let own = index.window_of(step.stream.open).unwrap_or(hub);
    (0..lost).any(|first| {
        let behind = &entries[first..];
        // A store hands on what it has stored together in one go, whenever each was appended.
        let came = |entry: &Entry<'_>| entry.at_us.max(entry.told_us);
        let until_us = came(&behind[0]) + AT_ONCE_US;
        let at_once = &behind[..behind.partition_point(|entry| came(entry) <= until_us)];
        // Ephemeral events take a place, too; each comes soon after it was asked for.
        let asked_from_us = behind[0].at_us.saturating_sub(EPHEMERAL_US);
        let asked_by = |us: u64| index.ephemerals_us.partition_point(|asked_us| *asked_us <= us);
        let ephemeral = asked_by(until_us).saturating_sub(asked_by(asked_from_us));
        let bytes: u64 = at_once.iter().map(|entry| entry.line.bytes).sum();
        (at_once.len() + ephemeral) as u64 > hub.events
            || bytes > hub.bytes
            || behind[0].line.bytes > own.bytes
    })
}

/// A stream that was live was told of a gap in which nothing was for its reader. A door that lags may be handed more than a window
/// holds at once, and nobody could have told.
fn aged_out(step: &Step<'_, '_>, rule: &TimingRule, stretch: &Stretch, since_us: u64) -> Option<String> {
    let What::Gap(Gap { reason: GapReason::Lapped | GapReason::Trimmed, to, .. }) = step.what else {
        return None;
    };
    let to = step.index.at(to).filter(|to| to.epoch == stretch.epoch)?;
    // A session that may have ended leaves open what was for it.
    let entitlement = &step.state.entitlement;
    let is_quiet = !step.stream.open.recipients.is_empty()
        && !entitlement.may_concern(step.index, stretch.passed(), to.seq, step.at_us);
    if rule.deliver_us == 0
        || !is_quiet
        || overwhelms(step, stretch, to.seq)
        || !step.is_calm(since_us)
        || !step.is_fed(stretch.epoch, since_us)
    {
        return None;
    }
    Some(format!(
        "nothing up to {} was for this reader, and it aged out on a live stream",
        step.index.show(to)
    ))
}
