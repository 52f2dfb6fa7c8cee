//! **Standing**: whoever begins without a place, or has lost it, is told every standing record that holds, and none that
//! does not.
//!
//! What holds is known from the log: of the records about one thing the last one up to where reading goes on. One
//! appended later may be told already, and then comes again in its place.

use crate::checker::index::Pos;
use crate::checker::log::{EpochLog, Record};
use crate::checker::report::{Findings, Promise};
use crate::checker::stream::Step;
use crate::history::{Hash, Standing, What};

/// Around the end of a record it may be told or not.
const ROUNDING_US: u64 = 1_000_000;

pub(super) fn check<'h>(step: &Step<'_, 'h>, findings: &mut Findings<'_, 'h>) {
    let What::Standing(frame) = step.what else { return };
    if let Some(fault) = fault(step, frame) {
        findings.on_stream(Promise::Standing, step.stream, step.line, fault);
    }
}

fn fault(step: &Step<'_, '_>, frame: &Standing) -> Option<String> {
    let listing = step.state.listing.as_ref()?;
    let from = listing.from?;
    let log = step.index.log(from.epoch)?;
    if let Some(stale) = frame.records.iter().find(|record| !may_hold(log, **record, from)) {
        return Some(format!("record {stale} does not hold at {}", step.index.show(from)));
    }
    if frame.more {
        return None;
    }
    let told = |hash: &Hash| listing.records.contains(hash) || frame.records.contains(hash);
    let missing = log.records.values().filter_map(|records| holds(records, from, step.at_us));
    let missing = missing.filter(|record| record.hash.is_some_and(|hash| !told(&hash)));
    let missing = missing.min_by_key(|record| record.said.position.seq)?;
    let (about, seq) = (&missing.said.about, missing.said.position.seq);
    Some(format!("{about:?} holds since {seq}, and was not told before reading goes on at {}", from.seq))
}

/// The record that holds for certain, if one does: nothing newer about it can have been told instead.
fn holds<'a, 'h>(records: &'a [Record<'h>], from: Pos, at_us: u64) -> Option<&'a Record<'h>> {
    let later = records.partition_point(|record| record.said.position.seq <= from.seq);
    let record = &records[later.checked_sub(1)?];
    let replaced = records.get(later).is_some_and(|newer| newer.at_us <= at_us);
    let ended = record.said.until_us.is_some_and(|until| until <= at_us.saturating_add(ROUNDING_US));
    (record.said.holds && !replaced && !ended).then_some(record)
}

/// Whether a record of this fingerprint may be told to a reader that goes on from here.
fn may_hold(log: &EpochLog<'_>, hash: Hash, from: Pos) -> bool {
    let Some(records) = log.about.get(&hash).and_then(|about| log.records.get(about)) else { return false };
    let later = records.partition_point(|record| record.said.position.seq <= from.seq);
    let present = later.saturating_sub(1);
    records[present..].iter().any(|record| record.said.holds && record.hash == Some(hash))
}
