//! **Drained**: a hub that leaves in order hands over what it has as long as its drain may take, and no stream of a gateway
//! that was behind is sent away before.
//!
//! Judged where the harness says how long a drain may take. A goodbye that arrived by then was sent by then, and what is
//! missing before it could still have been taken.

use crate::checker::report::{Findings, Promise};
use crate::checker::stream::Step;
use crate::history::{Goodbye, GoodbyeReason, Hop, Record, What};

pub(super) fn check<'h>(step: &Step<'_, 'h>, findings: &mut Findings<'_, 'h>) {
    let What::Goodbye(goodbye) = step.what else { return };
    if let Some(fault) = sent_away(step, goodbye) {
        findings.on_stream(Promise::Drained, step.stream, step.line, fault);
    }
}

fn sent_away(step: &Step<'_, '_>, goodbye: &Goodbye) -> Option<String> {
    let open = step.stream.open;
    let hub = open.at.as_deref().filter(|_| open.hop == Hop::Gateway)?;
    let may_take_us = step.index.rules.drain_us;
    if goodbye.reason != GoodbyeReason::Draining || may_take_us == 0 {
        return None;
    }
    let records = &step.index.records[step.stream.open_line..step.line];
    let starts = |record: &Record| record.what == What::Start && *record.process == *hub;
    if records.iter().any(starts) {
        return None; // this may have been on its way since the hub's last life
    }
    let life = step.index.records[..step.line].iter().rev().take_while(|record| !starts(record));
    let left = |what: &What| matches!(what, What::FaultStart(fault) if &*fault.kind == "leave" && *fault.detail == *hub);
    // The first of its life: whoever is told to leave once more goes on with the drain that it is in.
    let began_us = life.filter(|record| left(&record.what)).last()?.at_us;
    if step.at_us - began_us >= may_take_us {
        return None;
    }
    let taken = step.index.at(&goodbye.cursor)?;
    let missing = step.owed_after(taken, u64::MAX).find(|entry| entry.told_us < began_us)?;
    let (seq, id, took_us) = (missing.seq, &missing.line.id, step.at_us - began_us);
    Some(format!(
        "sent away at {} after {took_us} us of a drain that may take {may_take_us} us: {seq} ({id:?}) was not handed over",
        step.index.show(taken)
    ))
}
