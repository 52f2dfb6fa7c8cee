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
    let missing = log.records.values().flat_map(|records| holding(step, records, from));
    let missing = missing.filter(|record| record.hash.is_some_and(|hash| !told(&hash)));
    let missing = missing.min_by_key(|record| record.seq())?;
    let (says, seq) = (&missing.said.says, missing.seq());
    Some(format!("{says:?} holds since {seq}, and was not told before reading goes on at {}", from.seq))
}

/// Records of one second void the same tokens, for they begin with it: the one that lasts longest stands for all.
const SAME_TOKENS_US: u64 = 1_000_000;

/// The records that hold for certain: nothing else about the same can have been told instead.
fn holding<'a, 'h>(
    step: &Step<'_, '_>,
    records: &'a [Record<'h>],
    from: Pos,
) -> impl Iterator<Item = &'a Record<'h>> {
    let (at_us, slack_us) = (step.at_us, ROUNDING_US + step.index.rules.clock_skew_us);
    records
        .iter()
        .enumerate()
        .filter(move |(number, record)| {
            let ended = record.said.until_us.is_some_and(|until| until <= at_us.saturating_add(slack_us));
            let mut newer =
                records[number + 1..].iter().filter(|newer| newer.seq() <= from.seq || newer.at_us <= at_us);
            let replaced = newer.any(|newer| !record.is_beside() || newer.outlasts(record));
            let covered = record.is_beside()
                && records[..*number].iter().any(|older| {
                    let same_tokens = !older.is_explicit()
                        && !record.is_explicit()
                        && record.at_us.saturating_sub(older.at_us) < SAME_TOKENS_US;
                    (same_tokens && older.lasts_as_long_as(record)) || older.outlasts(record)
                });
            record.holds() && record.seq() <= from.seq && !ended && !replaced && !covered
        })
        .map(|(_, record)| record)
}

/// Whether a record of this fingerprint may be told to a reader that goes on from here.
fn may_hold(log: &EpochLog<'_>, hash: Hash, from: Pos) -> bool {
    let Some(records) = log.about.get(&hash).and_then(|about| log.records.get(about)) else { return false };
    let later = records.partition_point(|record| record.seq() <= from.seq);
    let present = later.saturating_sub(1);
    let mut held =
        records.iter().enumerate().filter(|(_, record)| record.holds() && record.hash == Some(hash));
    held.any(|(number, record)| record.is_beside() || number >= present)
}
