//! **Durable**: where the log outlives its hub, what is acknowledged or delivered is on the disk before and stays there, in the
//! same epoch.
//!
//! Judged where the rules say so. What is on the disk is read from it by the harness, not told by the store. What the window has
//! left may go, and what the harness damaged.

use crate::checker::index::held::is_held;
use crate::checker::index::{Index, Kept, Pos};
use crate::checker::publishes::Answer;
use crate::checker::report::{Findings, Promise};
use crate::history::What;

pub(super) fn check<'h>(index: &Index<'h>, findings: &mut Findings<'_, 'h>) {
    if !index.rules.durable {
        return;
    }
    acknowledged_early(index, findings);
    delivered_early(index, findings);
    begun_anew(index, findings);
    gone(index, findings);
}

fn acknowledged_early<'h>(index: &Index<'h>, findings: &mut Findings<'_, 'h>) {
    for call in &index.publishes.calls {
        let (Answer::Acked(ack), Some(line)) = (call.answer, call.answered) else { continue };
        let Some(pos) = ack.position.as_ref().map(|position| index.pos(position)) else { continue };
        let Some(entry) = index.entry(pos) else { continue }; // that it is nowhere breaks another promise
        let at_us = index.records[line].at_us;
        if at_us < entry.told_us {
            let (here, when) = (index.show(pos), entry.told_us);
            let text = format!("{here} was acknowledged at {at_us} us, and on the disk at {when} us");
            findings.at(Promise::Durable, &[call.line, line, entry.record], text);
        }
    }
}

fn delivered_early<'h>(index: &Index<'h>, findings: &mut Findings<'_, 'h>) {
    for (line, record) in index.records.iter().enumerate() {
        let What::Event(event) = &record.what else { continue };
        let Some(pos) = event.position.as_ref().map(|position| index.pos(position)) else { continue };
        let (Some(stream), Some(entry)) = (index.stream(event.stream), index.entry(pos)) else { continue };
        if record.at_us < entry.told_us {
            let (here, at_us, when) = (index.show(pos), record.at_us, entry.told_us);
            let text = format!("{here} was delivered at {at_us} us, and on the disk at {when} us");
            findings.on_stream(Promise::Durable, stream, line, text);
        }
    }
}

/// The log was there, and a hub began another one.
fn begun_anew<'h>(index: &Index<'h>, findings: &mut Findings<'_, 'h>) {
    let mut first = None;
    for (line, record) in index.records.iter().enumerate() {
        let What::Head(position) = &record.what else { continue };
        let epoch = index.pos(position).epoch;
        if *first.get_or_insert(epoch) != epoch {
            let text = format!("the log goes on at {position}: another epoch, and nothing says why");
            return findings.at(Promise::Durable, &[line], text);
        }
    }
}

/// What was on the disk, and the window must hold still, cannot be read any more when a hub begins.
fn gone<'h>(index: &Index<'h>, findings: &mut Findings<'_, 'h>) {
    let Some(window) = &index.rules.window else { return };
    for &Kept { line, epoch, stretches } in &index.kept {
        let Some(log) = index.log(epoch) else { continue };
        let at_us = index.records[line].at_us;
        let is_kept = |seq| stretches.iter().any(|(after, through)| *after < seq && seq <= *through);
        let told = log.entries.iter().filter(|entry| entry.record < line);
        let mut lost = told.map(|entry| (entry, Pos { epoch, seq: entry.seq })).filter(|(entry, pos)| {
            !is_kept(entry.seq) && !index.is_damaged(*pos) && is_held(index, window, *pos, at_us)
        });
        if let Some((entry, pos)) = lost.next() {
            let text = format!("{} was on the disk, and is there no more", index.show(pos));
            findings.at(Promise::Durable, &[entry.record, line], text);
        }
    }
}
