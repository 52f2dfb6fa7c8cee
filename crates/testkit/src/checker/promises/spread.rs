//! That a herd is spread. **Gap true**: the readers of one server are not all told the same moment to repair. **Drained**: whoever
//! is sent away is told when to come back, and not all at once: gateways at their turn, users each at a moment of its own.
//!
//! One value is a moment in thirty thousand, so two readers that are told the same prove little; that nobody is told
//! anything else does, and so does a history in which that happens again and again.

use std::collections::{BTreeMap, BTreeSet};

use crate::checker::index::{Index, Stream};
use crate::checker::report::{Findings, Promise};
use crate::checker::sight::Sight;
use crate::history::{GapReason, Goodbye, GoodbyeReason, Hop, What};

/// Fewer values say nothing.
const SEVERAL: usize = 3;

/// So many readers of a history are told the moment of another one by chance once in a million histories.
const CHANCE: usize = 2;

/// Goodbyes of one drain are spread on their way by so much: 30 ms of a link, ticks of 10 ms at both ends, and a turn.
const ON_THEIR_WAY_US: u64 = 100_000;

/// Where one value was told: a server, and which of its lives.
type Life<'h> = (&'h str, usize);

/// One value that a reader was told.
struct Told<'h> {
    line: usize,
    reader: &'h str,
    us: u64,
}

pub(super) fn repairs<'h>(index: &Index<'h>, findings: &mut Findings<'_, 'h>) {
    if index.rules.repair_spread_us == 0 {
        return;
    }
    let mut by_life: BTreeMap<Life<'h>, Vec<Told<'h>>> = BTreeMap::new();
    let mut by_gap: BTreeMap<(Life<'h>, GapReason, String), Vec<Told<'h>>> = BTreeMap::new();
    for (stream, line) in lines(index) {
        let What::Gap(gap) = &index.records[line].what else { continue };
        let (Some(us), Some(life)) = (gap.repair_after_us, life(index, stream, line)) else { continue };
        let told = |us| Told { line, reader: &stream.open.reader, us };
        by_life.entry(life).or_default().push(told(us));
        by_gap.entry((life, gap.reason, format!("{:?}", gap.to))).or_default().push(told(us));
    }
    for ((server, _), told) in &by_life {
        if is_several(told) {
            findings.judged(Sight::RepairsJudged);
        }
        if is_several(told) && told.iter().all(|other| other.us == told[0].us) {
            let text = format!(
                "every reader of {server} was told to repair after {} us: a herd at once",
                told[0].us
            );
            findings.at(Promise::GapTrue, &shown(told), text);
        }
    }
    let same: Vec<_> = by_gap.values().flat_map(|told| told_alike(told)).collect();
    if same.len() >= CHANCE {
        let text = "readers of one gap were told the same moment to repair, more than once".to_owned();
        findings.at(Promise::GapTrue, &same[..CHANCE], text);
    }
}

pub(super) fn returns<'h>(index: &Index<'h>, findings: &mut Findings<'_, 'h>) {
    let Some(rule) = &index.rules.timing else { return };
    let mut of_users: BTreeMap<Life<'h>, Vec<Told<'h>>> = BTreeMap::new();
    let mut of_gateways: BTreeMap<Life<'h>, Vec<Told<'h>>> = BTreeMap::new();
    for (stream, line) in lines(index) {
        let record = &index.records[line];
        let What::Goodbye(Goodbye { reason: GoodbyeReason::Draining, retry_after_us, .. }) = &record.what
        else {
            continue;
        };
        let Some(us) = *retry_after_us else {
            let text = "sent away without being told when to come back".to_owned();
            findings.on_stream(Promise::Drained, stream, line, text);
            continue;
        };
        let Some(life) = life(index, stream, line) else { continue };
        let reader = &*stream.open.reader;
        match stream.open.hop {
            Hop::User => of_users.entry(life).or_default().push(Told { line, reader, us }),
            Hop::Gateway if is_prompt(index, stream, line) => {
                of_gateways.entry(life).or_default().push(Told { line, reader, us: record.at_us + us });
            }
            Hop::Gateway => {}
        }
    }
    for ((gateway, _), told) in &of_users {
        if !is_several(told) {
            continue;
        }
        findings.judged(Sight::UserReturnsJudged);
        if told.iter().all(|other| other.us == told[0].us) {
            let text = format!("all users of {gateway} were told to come back after {} us", told[0].us);
            findings.at(Promise::Drained, &shown(told), text);
        }
    }
    for ((hub, _), told) in of_gateways.iter().filter(|_| rule.returns_per_second > 0) {
        let times = || told.iter().map(|told| told.us);
        let (Some(first), Some(last)) = (times().min(), times().max()) else { continue };
        let due_us = (told.len() as u64 - 1) * 1_000_000 / rule.returns_per_second;
        if due_us <= ON_THEIR_WAY_US {
            continue;
        }
        findings.judged(Sight::ReturnsJudged);
        if last - first + ON_THEIR_WAY_US < due_us {
            let (count, rate) = (told.len(), rule.returns_per_second);
            let within_us = last - first;
            let text =
                format!("{hub} told {count} gateways to come back within {within_us} us, at {rate} a second");
            findings.at(Promise::Drained, &shown(told), text);
        }
    }
}

fn lines<'a, 'h>(index: &'a Index<'h>) -> impl Iterator<Item = (&'a Stream<'h>, usize)> {
    index.streams.iter().flat_map(|stream| stream.lines.iter().map(move |&line| (stream, line)))
}

/// Which life of its server told a record.
fn life<'h>(index: &Index<'h>, stream: &Stream<'h>, line: usize) -> Option<Life<'h>> {
    let server = match stream.open.hop {
        Hop::User => stream.open.at.as_deref(),
        Hop::Gateway => index.calm.hub_of(stream.open),
    }?;
    Some((server, index.calm.life(server, index.records[line].at_us)))
}

/// Whether a goodbye came at its turn: nothing kept its reader from taking what it had.
fn is_prompt(index: &Index<'_>, stream: &Stream<'_>, line: usize) -> bool {
    let (opened_us, at_us) = (index.records[stream.open_line].at_us, index.records[line].at_us);
    let lines =
        || stream.lines.iter().take_while(|other| **other < line).map(|&line| &index.records[line].what);
    let fell = lines().filter(|what| matches!(what, What::FellBehind(_))).count();
    let caught = lines().filter(|what| matches!(what, What::CaughtUp(_))).count();
    caught > fell
        && !index.calm.paused(stream.open.stream, at_us.saturating_sub(ON_THEIR_WAY_US), at_us)
        && index.calm.is_linked(stream.process, opened_us, at_us)
}

/// Enough values, of several readers.
fn is_several(told: &[Told<'_>]) -> bool {
    let readers: BTreeSet<_> = told.iter().map(|told| told.reader).collect();
    told.len() >= SEVERAL && readers.len() > 1
}

/// The records that told a reader what another one was told.
fn told_alike(told: &[Told<'_>]) -> Vec<usize> {
    let mut of: BTreeMap<u64, &str> = BTreeMap::new();
    let alike = told.iter().filter(|told| *of.entry(told.us).or_insert(told.reader) != told.reader);
    alike.map(|told| told.line).collect()
}

fn shown(told: &[Told<'_>]) -> Vec<usize> {
    told.iter().take(4).map(|told| told.line).collect()
}
