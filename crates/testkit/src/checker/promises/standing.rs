//! **Standing**: whoever begins without a place, or has lost it, is told every standing record that holds, and none that
//! does not.
//!
//! What holds is known from the log: of the records about one thing the last one up to where reading goes on. One
//! appended later may be told already, and then comes again in its place. What lies in the log and does not count may be believed by
//! a hub that cannot judge it: void tokens may be told, and what it ends or stands for may be left out.

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
    if let Some(stale) = frame.records.iter().find(|record| !may_hold(log, **record, from, step.at_us)) {
        return Some(format!("record {stale} does not hold at {}", step.index.show(from)));
    }
    if frame.more {
        return None;
    }
    let told = |hash: &Hash| listing.records.contains(hash) || frame.records.contains(hash);
    let missing = log.records.iter().flat_map(|(about, records)| {
        let doubts: Vec<_> = log.in_doubt(*about, step.at_us).collect();
        holding(step, records, from)
            .filter(move |record| !doubts.iter().any(|doubt| may_replace(doubt, record)))
    });
    let missing = missing.filter(|record| !step.index.rules.keeps_little || is_acked(step, log, record));
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
            let covered =
                record.is_beside() && records[..*number].iter().any(|older| stands_for(older, record));
            record.holds() && record.seq() <= from.seq && !ended && !replaced && !covered
        })
        .map(|(_, record)| record)
}

/// Whether an earlier record voids all that another one does.
fn stands_for(older: &Record<'_>, record: &Record<'_>) -> bool {
    let same_tokens = !older.is_explicit()
        && !record.is_explicit()
        && record.at_us.saturating_sub(older.at_us) < SAME_TOKENS_US;
    (same_tokens && older.lasts_as_long_as(record)) || older.outlasts(record)
}

/// Whether a hub that believes a record that does not count may leave this one out.
fn may_replace(doubt: &Record<'_>, record: &Record<'_>) -> bool {
    match record.is_beside() {
        true => doubt.outlasts(record) || stands_for(doubt, record),
        false => doubt.seq() > record.seq(),
    }
}

/// Whether its publisher was told by now that it holds.
fn is_acked(step: &Step<'_, '_>, log: &EpochLog<'_>, record: &Record<'_>) -> bool {
    let Some(entry) = log.get(record.seq()) else { return false };
    let mut acks = step.index.publishes.acks(&entry.line.source, &entry.line.id);
    acks.any(|line| step.index.records[line].at_us <= step.at_us)
}

/// Whether a record of this fingerprint may be told by now to a reader that goes on from here.
fn may_hold(log: &EpochLog<'_>, hash: Hash, from: Pos, at_us: u64) -> bool {
    let mut doubts = log.uncounted.values().flatten();
    if doubts.any(|doubt| doubt.holds() && doubt.hash == Some(hash) && doubt.at_us <= at_us) {
        return true;
    }
    let Some(records) = log.about.get(&hash).and_then(|about| log.records.get(about)) else { return false };
    let later = records.partition_point(|record| record.seq() <= from.seq);
    let present = later.saturating_sub(1);
    let mut held =
        records.iter().enumerate().filter(|(_, record)| record.holds() && record.hash == Some(hash));
    held.any(|(number, record)| record.is_beside() || number >= present)
}
