//! What an answer to a publish means: **acked** once in the log, **nacked** never, **unknown** at most once; and what
//! was acknowledged before a publish began lies before it.

use crate::checker::index::{Index, Pos};
use crate::checker::publishes::{Answer, Attempts, Call};
use crate::checker::report::{Findings, Promise};

pub(super) fn once<'h>(index: &Index<'h>, findings: &mut Findings<'_, 'h>) {
    for call in &index.publishes.calls {
        if let Some(fault) = lost(index, call) {
            findings.at(Promise::AckedOnce, &[call.line, call.answered.unwrap_or(call.line)], fault);
        }
    }
    for attempts in &index.publishes.attempts {
        never(index, attempts, findings);
        repeated(index, attempts, findings);
    }
}

/// An acknowledged event that is not where the acknowledgement says.
fn lost(index: &Index<'_>, call: &Call<'_>) -> Option<String> {
    let Answer::Acked(ack) = call.answer else { return None };
    if call.call.ephemeral {
        return None;
    }
    let id = &call.call.id;
    let Some(position) = &ack.position else {
        return Some(format!("{id:?} was acknowledged without a position"));
    };
    let pos = index.pos(position);
    match index.entry(pos) {
        Some(entry) if entry.line.id == *id && entry.line.source == call.call.source => {
            let another = entry.line.hash != call.call.hash;
            another.then(|| {
                format!("{id:?} was acknowledged at {position}, where another content of that id lies")
            })
        }
        Some(entry) => Some(format!("{id:?} was acknowledged at {position}, where {:?} lies", entry.line.id)),
        None => {
            let known = index.log(pos.epoch).is_some_and(|log| log.is_whole_at(pos.seq));
            known.then(|| format!("{id:?} was acknowledged at {position}, where the log has nothing"))
        }
    }
}

fn never<'h>(index: &Index<'h>, attempts: &Attempts, findings: &mut Findings<'_, 'h>) {
    let mut calls = attempts.calls.iter().map(|&number| &index.publishes.calls[number]);
    if attempts.landed.is_empty() || calls.clone().any(Call::may_land) {
        return;
    }
    let Some(call) = calls.next() else { return };
    let lines = [landing(index, attempts.landed[0]), call.line, call.answered.unwrap_or(call.line)];
    let text = format!("{:?} was refused every time, but the log has it", call.call.id);
    findings.at(Promise::NackedNever, &lines, text);
}

/// Twice in one life of the log, though the first one must still have been recognised.
fn repeated<'h>(index: &Index<'h>, attempts: &Attempts, findings: &mut Findings<'_, 'h>) {
    let call = |number: &usize| &index.publishes.calls[*number];
    let (Some(first), Some(last)) = (attempts.calls.first().map(call), attempts.calls.last().map(call))
    else {
        return;
    };
    let forgotten = last.at_us.saturating_sub(first.at_us) > index.rules.dedup_us;
    let acked = attempts.calls.iter().any(|number| matches!(call(number).answer, Answer::Acked(_)));
    let promise = if acked { Promise::AckedOnce } else { Promise::UnknownAtMostOnce };
    for pair in attempts.landed.windows(2) {
        let (one, two) = (pair[0], pair[1]);
        let far = two.seq.saturating_sub(one.seq) >= index.rules.dedup_events;
        // With what is damaged it is forgotten that it was ever published.
        if one.epoch != two.epoch || far || forgotten || index.is_damaged(one) {
            continue;
        }
        let lines = [first.line, landing(index, one), landing(index, two)];
        let text = format!(
            "{:?} is in the log twice, at {} and {}",
            first.call.id,
            index.show(one),
            index.show(two)
        );
        findings.at(promise, &lines, text);
    }
}

/// Acknowledged before another publish began: it lies before it.
pub(super) fn order<'h>(index: &Index<'h>, findings: &mut Findings<'_, 'h>) {
    for attempts in &index.publishes.attempts {
        let Some(first) = attempts.calls.first().map(|&number| &index.publishes.calls[number]) else {
            continue;
        };
        let Some((before, ack)) = first.acked_before else { continue };
        for &pos in attempts.landed.iter().filter(|pos| pos.epoch == before.epoch && pos.seq <= before.seq) {
            let lines = [ack, landing(index, pos), first.line];
            let (id, here, there) = (&first.call.id, index.show(pos), index.show(before));
            let text =
                format!("{id:?} lies at {here}, but {there} was acknowledged before its publish began");
            findings.at(Promise::AckOrder, &lines, text);
        }
    }
}

/// The record that dumped an entry.
fn landing(index: &Index<'_>, pos: Pos) -> usize {
    index.entry(pos).map_or(0, |entry| entry.record)
}
