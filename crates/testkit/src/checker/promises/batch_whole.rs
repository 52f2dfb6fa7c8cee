//! **Batch whole**: a batch lies contiguously in the log, in order, or not at all; and no hub says progress inside one, but
//! to a reader that presented that very position.
//!
//! Only batches whose events were published once are judged: a retry may find some of them in the log already.

use std::collections::{BTreeMap, HashSet};

use crate::checker::index::{Index, Pos};
use crate::checker::publishes::{Answer, Call};
use crate::checker::report::{Findings, Promise};
use crate::history::{Hop, What};

pub(super) fn check<'h>(index: &Index<'h>, findings: &mut Findings<'_, 'h>) {
    if !index.rules.batches_contiguous {
        return;
    }
    let mut batches: BTreeMap<u64, Vec<&Call<'h>>> = BTreeMap::new();
    for call in &index.publishes.calls {
        if let Some(batch) = call.call.batch {
            batches.entry(batch).or_default().push(call);
        }
    }
    let mut inside = HashSet::new();
    for (batch, calls) in &batches {
        let Some(places) = places(index, calls) else { continue };
        if let Some(fault) = torn(index, &places) {
            let lines: Vec<_> = calls.iter().take(4).map(|call| call.line).collect();
            findings.at(Promise::BatchWhole, &lines, format!("batch {batch} {fault}"));
            continue;
        }
        inside.extend(places.iter().rev().skip(1).flatten().copied());
    }
    progress_inside(index, &inside, findings);
}

/// Where each accepted event of a batch lies; `None` if the batch cannot be judged.
fn places(index: &Index<'_>, calls: &[&Call<'_>]) -> Option<Vec<Option<Pos>>> {
    let mut places = Vec::with_capacity(calls.len());
    for call in calls {
        let repeated = matches!(call.answer, Answer::Acked(ack) if ack.duplicate);
        let attempts = index.publishes.of(&call.call.source, &call.call.id)?;
        if repeated || attempts.calls.len() > 1 || attempts.landed.len() > 1 {
            return None;
        }
        if !call.call.ephemeral && call.may_land() {
            places.push(attempts.landed.first().copied());
        }
    }
    Some(places)
}

fn torn(index: &Index<'_>, places: &[Option<Pos>]) -> Option<String> {
    let first = places.iter().flatten().next()?;
    if index
        .log(first.epoch)
        .is_some_and(|log| !log.is_whole_at(first.seq) || !log.is_whole_at(first.seq + places.len() as u64))
    {
        return None;
    }
    let nth = |number: u64| {
        // Where positions have holes, nothing else may lie between; an ephemeral event has a place there.
        let log = index.log(first.epoch).filter(|_| index.has_holes(first.epoch));
        let seq = log.map(|log| {
            let begins = log.index_after(first.seq.saturating_sub(1));
            log.entries.get(begins + number as usize).map_or(first.seq, |entry| entry.seq)
        });
        Pos { epoch: first.epoch, seq: seq.unwrap_or(first.seq + number) }
    };
    for (pos, number) in places.iter().zip(0..) {
        let wanted = nth(number);
        match pos {
            Some(pos) if *pos == wanted => {}
            Some(pos) => {
                return Some(format!("has {} where {} belongs", index.show(*pos), index.show(wanted)));
            }
            None => return Some(format!("is in the log only in part: its event {} is missing", number + 1)),
        }
    }
    None
}

fn progress_inside<'h>(index: &Index<'h>, inside: &HashSet<Pos>, findings: &mut Findings<'_, 'h>) {
    for (line, record) in index.records.iter().enumerate() {
        let What::Progress(mark) = &record.what else { continue };
        let Some(stream) = index.stream(mark.stream).filter(|stream| stream.open.hop == Hop::Gateway) else {
            continue;
        };
        // A reader that was cut inside one comes back there, and may be told so until it is further.
        let presented = index.at(&stream.open.presented);
        let told = index.at(&mark.cursor).filter(|pos| Some(*pos) != presented);
        if let Some(pos) = told.filter(|pos| inside.contains(pos)) {
            let text = format!("progress at {}, inside a batch", index.show(pos));
            findings.on_stream(Promise::BatchWhole, stream, line, text);
        }
    }
}
