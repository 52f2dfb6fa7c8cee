//! **Fenced**: per gateway id generations rise, and nothing appended after a newer generation's welcome reaches the
//! older stream.
//!
//! A welcome's `head` is where the log stood at the takeover, so positions are compared and messages still in flight
//! need no clock. A hub whose log outlives it counts generations anew in each of its lives. That the older stream ends at all is judged by `live`. Of peers that name their instance two things
//! more: no attempt is welcomed after a higher one of its own instance, whoever had the id in between; and instances that
//! keep taking one id from each other are held off, two processes with one instance id among them.

use std::collections::HashMap;

use crate::checker::index::{Index, Stream};
use crate::checker::report::{Findings, Promise};
use crate::history::{Claim, Hop, Welcome, What};

/// After so many returns within [`DUEL_US`] a newcomer is held off; the product counts to five, and in a minute.
const RETURNS_MAX: usize = 7;
const DUEL_US: u64 = 55_000_000;

/// For so long after an attempt was welcomed a lower one of its instance is known to be late; the product remembers it for a
/// minute from when the instance lost the id, and of more instances.
const REMEMBERED_US: u64 = 50_000_000;
const INSTANCES_MAX: usize = 8;

/// An epoch, and in which life of its hub.
type Life = (u32, usize);

/// One welcomed subscription of a gateway id.
struct Term<'a, 'h> {
    /// The log, and the life of its hub.
    life: Life,
    stream: &'a Stream<'h>,
    welcome: &'h Welcome,
    line: usize,
    claim: Option<&'h Claim>,
}

/// Where a takeover left the older streams.
#[derive(Clone, Copy)]
struct Limit {
    generation: u64,
    head: u64,
    line: usize,
}

pub(super) fn check<'h>(index: &Index<'h>, findings: &mut Findings<'_, 'h>) {
    let mut terms: Vec<(&str, Vec<Term<'_, 'h>>)> = Vec::new();
    let mut readers = HashMap::new();
    for stream in index.streams.iter().filter(|stream| stream.open.hop == Hop::Gateway) {
        let Some((line, welcome)) = welcome_of(index, stream) else { continue };
        let reader = *readers.entry(&*stream.open.reader).or_insert_with(|| {
            terms.push((&stream.open.reader, Vec::new()));
            terms.len() - 1
        });
        let claim = stream.lines.iter().find_map(|&line| match &index.records[line].what {
            What::Claim(claim) => Some(claim),
            _ => None,
        });
        let epoch = index.pos(&welcome.head).epoch;
        let life = (epoch, index.life_of_hub(epoch, line));
        terms[reader].1.push(Term { life, stream, welcome, line, claim });
    }
    for (reader, terms) in &mut terms {
        rising(reader, terms, findings);
        stale_attempts(index, terms, findings);
        duels(index, reader, terms, findings);
        overtaken(index, terms, findings);
    }
}

/// An attempt was welcomed after a higher one of its own instance.
fn stale_attempts<'h>(index: &Index<'h>, terms: &[Term<'_, 'h>], findings: &mut Findings<'_, 'h>) {
    for claims in claims_of(terms).values() {
        // By instance, the latest to have the id last: its highest attempt, and when that was welcomed.
        let mut seen: Vec<(&str, u64, u64)> = Vec::new();
        for (_, term, claim) in claims {
            let at_us = index.records[term.line].at_us;
            let known = seen.iter().rposition(|(instance, ..)| *instance == &*claim.instance);
            let before = known.map(|known| (seen.len() - known, seen.remove(known)));
            let (highest, since_us) = match before {
                Some((ago, (_, highest, since_us))) if claim.attempt < highest => {
                    if ago <= INSTANCES_MAX && at_us.saturating_sub(since_us) <= REMEMBERED_US {
                        let text = format!(
                            "attempt {} of {} was welcomed after its attempt {highest}",
                            claim.attempt, claim.instance
                        );
                        findings.on_stream(Promise::Fenced, term.stream, term.line, text);
                    }
                    (highest, since_us)
                }
                _ => (claim.attempt, at_us),
            };
            seen.push((&claim.instance, highest, since_us));
        }
    }
}

type Claims<'a, 'h> = HashMap<Life, Vec<(u64, &'a Term<'a, 'h>, &'h Claim)>>;

/// By epoch, in the order of their generations.
fn claims_of<'a, 'h>(terms: &'a [Term<'a, 'h>]) -> Claims<'a, 'h> {
    let mut claims = Claims::new();
    for term in terms {
        let Some(claim) = term.claim else { continue };
        claims.entry(term.life).or_default().push((term.welcome.generation, term, claim));
    }
    claims.values_mut().for_each(|claims| claims.sort_by_key(|(generation, ..)| *generation));
    claims
}

/// Instances took an id from each other more often than anybody may within a minute.
fn duels<'h>(index: &Index<'h>, reader: &str, terms: &[Term<'_, 'h>], findings: &mut Findings<'_, 'h>) {
    for claims in claims_of(terms).values() {
        let is_return = |window: &&[(u64, &Term<'_, 'h>, &Claim)]| {
            let [(_, _, one), (_, _, two), (_, _, three)] = window else { return false };
            one.instance == three.instance && one.instance != two.instance
        };
        // An instance came again, and the stream that it had was alive: it heard that it was ended.
        let is_own_return = |pair: &&[(u64, &Term<'_, 'h>, &Claim)]| {
            let [(older, term, one), (newer, _, two)] = pair else { return false };
            let mut whats = term.stream.lines.iter().map(|&line| &index.records[line].what);
            let heard =
                whats.any(|what| matches!(what, What::Close(close) if close.code.contains("STALE_ATTEMPT")));
            older + 1 == *newer && one.instance == two.instance && one.attempt < two.attempt && heard
        };
        let returns = claims.windows(3).filter(is_return).map(|window| window[2].1);
        let own_returns = claims.windows(2).filter(is_own_return).map(|pair| pair[1].1);
        let mut returns: Vec<_> = returns.chain(own_returns).collect();
        returns.sort_by_key(|term| index.records[term.line].at_us);
        let late = returns.windows(RETURNS_MAX + 1).find(|returns| {
            let (first, last) = (returns[0].line, returns[RETURNS_MAX].line);
            index.records[last].at_us.saturating_sub(index.records[first].at_us) <= DUEL_US
        });
        if let Some(last) = late.and_then(|returns| returns.last()) {
            let text = format!(
                "{reader} was taken back from living streams {RETURNS_MAX} times, and nobody was held off"
            );
            findings.on_stream(Promise::Fenced, last.stream, last.line, text);
        }
    }
}

fn welcome_of<'h>(index: &Index<'h>, stream: &Stream<'h>) -> Option<(usize, &'h Welcome)> {
    stream.lines.iter().find_map(|&line| match &index.records[line].what {
        What::Welcome(welcome) => Some((line, welcome)),
        _ => None,
    })
}

/// A stream opened after a welcome was received has a higher generation, within one life of the log.
fn rising<'h>(reader: &str, terms: &mut [Term<'_, 'h>], findings: &mut Findings<'_, 'h>) {
    terms.sort_by_key(|term| term.line);
    let mut highest: HashMap<Life, Vec<(usize, u64)>> = HashMap::new();
    for term in terms.iter() {
        let generation = term.welcome.generation;
        let before = highest.entry(term.life).or_default();
        let known = before.partition_point(|&(line, _)| line < term.stream.open_line);
        if let Some(&(_, older)) = known.checked_sub(1).and_then(|last| before.get(last))
            && generation <= older
        {
            let text = format!("generation {generation} of {reader} after {older}: it must rise");
            findings.on_stream(Promise::Fenced, term.stream, term.line, text);
        }
        let highest = before.last().map_or(generation, |&(_, highest)| highest.max(generation));
        before.push((term.line, highest));
    }
}

/// Events on an older stream that were appended after a newer one was welcomed.
fn overtaken<'h>(index: &Index<'h>, terms: &[Term<'_, 'h>], findings: &mut Findings<'_, 'h>) {
    let limits = limits(index, terms);
    for term in terms {
        for &line in &term.stream.lines {
            let record = &index.records[line];
            let What::Event(event) = &record.what else { continue };
            let Some(pos) = event.position.as_ref().map(|position| index.pos(position)) else { continue };
            let life = (pos.epoch, term.life.1);
            let Some(limit) = limit_of(&limits, life, term.welcome.generation) else { continue };
            let grace = index.rules.fence_grace_us;
            // Of several hubs one may not know of the takeover yet, but not for longer than the grace.
            let appended_us = index.entry(pos).map_or(record.at_us, |entry| entry.at_us);
            let late = grace == 0 || appended_us > index.records[limit.line].at_us.saturating_add(grace);
            if pos.seq > limit.head && late {
                let text = format!(
                    "{} reached generation {}, but generation {} had taken over at {}",
                    index.show(pos),
                    term.welcome.generation,
                    limit.generation,
                    limit.head
                );
                findings.on_stream(Promise::Fenced, term.stream, line, text);
            }
        }
    }
}

/// Per epoch, by rising generation: the lowest head of this and all newer generations.
fn limits(index: &Index<'_>, terms: &[Term<'_, '_>]) -> HashMap<Life, Vec<Limit>> {
    let mut limits: HashMap<Life, Vec<Limit>> = HashMap::new();
    for term in terms {
        let head = index.pos(&term.welcome.head);
        let limit = Limit { generation: term.welcome.generation, head: head.seq, line: term.line };
        limits.entry(term.life).or_default().push(limit);
    }
    for limits in limits.values_mut() {
        limits.sort_by_key(|limit| limit.generation);
        for older in (1..limits.len()).rev().map(|newer| newer - 1) {
            if limits[older + 1].head < limits[older].head {
                let generation = limits[older].generation;
                limits[older] = Limit { generation, ..limits[older + 1] };
            }
        }
    }
    limits
}

fn limit_of(limits: &HashMap<Life, Vec<Limit>>, life: Life, generation: u64) -> Option<Limit> {
    let limits = limits.get(&life)?;
    limits.get(limits.partition_point(|limit| limit.generation <= generation)).copied()
}
