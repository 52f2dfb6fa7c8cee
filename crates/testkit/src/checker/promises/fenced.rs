//! **Fenced**: per gateway id generations rise, and nothing appended after a newer generation's welcome reaches the
//! older stream.
//!
//! A welcome's `head` is where the log stood at the takeover, so positions are compared and messages still in flight
//! need no clock. A hub whose log outlives it counts generations anew in each of its lives. That the older stream ends at all is judged by `live`. Of peers that name their instance two things
//! more: no attempt is welcomed after a higher one of its own instance, whoever had the id in between; and instances that
//! keep taking one id from each other are held off, two processes with one instance id among them.
//!
//! Where several hubs serve one log, one that its store is cut off from lets the instance come back that took the id there, under a number
//! of its own behind the one that it knew: that is lower than what was given meanwhile at another hub.

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

/// Registers that hubs share rise by this much; what lies between is given by a hub that cannot reach them.
const REGISTER_STEP: u64 = 65_536;

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
        let head = index.pos(&welcome.head);
        // A welcome may be received when the hub that gave it has begun anew.
        let Some(life) = index.life_of_hub(head, (stream.open_line, line)) else { continue };
        let life = (head.epoch, life);
        terms[reader].1.push(Term { life, stream, welcome, line, claim });
    }
    for (reader, terms) in &mut terms {
        rising(index, reader, terms, findings);
        stale_attempts(index, terms, findings);
        duels(index, reader, terms, findings);
        overtaken(index, terms, findings);
    }
}

/// An attempt was welcomed after a higher one of its own instance. One that was welcomed before the higher one was made was not late,
/// whichever has the higher generation; that is judged by [`rising`].
fn stale_attempts<'h>(index: &Index<'h>, terms: &[Term<'_, 'h>], findings: &mut Findings<'_, 'h>) {
    for claims in claims_of(terms).values() {
        // The latest to have the id last.
        let mut instances: Vec<&str> = Vec::new();
        for (number, (_, term, claim)) in claims.iter().enumerate() {
            let known = instances.iter().rposition(|instance| *instance == &*claim.instance);
            let ago = known.map(|known| instances.len() - known);
            known.map(|known| instances.remove(known));
            instances.push(&claim.instance);
            let own = claims[..number].iter().filter(|(_, _, other)| other.instance == claim.instance);
            let before = own.filter(|(_, older, _)| older.stream.open_line < term.line);
            let Some((_, older, highest)) = before.max_by_key(|(_, _, other)| other.attempt) else {
                continue;
            };
            let at_us = |term: &Term<'_, 'h>| index.records[term.line].at_us;
            let is_remembered = at_us(term).saturating_sub(at_us(older)) <= REMEMBERED_US;
            if claim.attempt < highest.attempt && ago <= Some(INSTANCES_MAX) && is_remembered {
                let text = format!(
                    "attempt {} of {} was welcomed after its attempt {}",
                    claim.attempt, claim.instance, highest.attempt
                );
                findings.on_stream(Promise::Fenced, term.stream, term.line, text);
            }
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
        // It had lost the id, and takes it from a stream that is there: none of both had ended before the next one came.
        let is_return = |window: &&[(u64, &Term<'_, 'h>, &Claim)]| {
            let [(_, first, one), (_, second, two), (_, third, three)] = window else { return false };
            let left = ended_before(index, first, second) || ended_before(index, second, third);
            one.instance == three.instance && one.instance != two.instance && !left
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

/// Whether this stream had ended by itself before the next one was asked for: nobody took the id from it.
fn ended_before(index: &Index<'_>, term: &Term<'_, '_>, next: &Term<'_, '_>) -> bool {
    let before = term.stream.lines.iter().take_while(|line| **line < next.stream.open_line);
    before.into_iter().any(|&line| matches!(index.records[line].what, What::Close(_)))
}

fn welcome_of<'h>(index: &Index<'h>, stream: &Stream<'h>) -> Option<(usize, &'h Welcome)> {
    stream.lines.iter().find_map(|&line| match &index.records[line].what {
        What::Welcome(welcome) => Some((line, welcome)),
        _ => None,
    })
}

/// A stream opened after a welcome was received has a higher generation, within one life of the log.
fn rising<'h>(index: &Index<'h>, reader: &str, terms: &mut [Term<'_, 'h>], findings: &mut Findings<'_, 'h>) {
    terms.sort_by_key(|term| term.line);
    let mut highest: HashMap<Life, Vec<(usize, u64)>> = HashMap::new();
    for (number, term) in terms.iter().enumerate() {
        let generation = term.welcome.generation;
        let before = highest.entry(term.life).or_default();
        let known = before.partition_point(|&(line, _)| line < term.stream.open_line);
        if let Some(&(_, older)) = known.checked_sub(1).and_then(|last| before.get(last))
            && generation <= older
            && !came_back(index, &terms[..number], term)
        {
            let text = format!("generation {generation} of {reader} after {older}: it must rise");
            findings.on_stream(Promise::Fenced, term.stream, term.line, text);
        }
        let highest = before.last().map_or(generation, |&(_, highest)| highest.max(generation));
        before.push((term.line, highest));
    }
}

/// Whether it came back to a hub that was cut off from the store of its log: the latest to have the id there was the same instance, and
/// the hub told of nothing that was appended later than the grace after somebody took the id elsewhere.
fn came_back(index: &Index<'_>, before: &[Term<'_, '_>], term: &Term<'_, '_>) -> bool {
    let grace = index.rules.fence_grace_us;
    let generation = term.welcome.generation;
    if grace == 0 || term.stream.open.at.is_none() || generation.is_multiple_of(REGISTER_STEP) {
        return false;
    }
    let is_here = |other: &&Term<'_, '_>| {
        other.stream.open.at == term.stream.open.at && other.line < term.stream.open_line
    };
    let Some(former) = before.iter().rfind(is_here) else { return false };
    let is_same = former.claim.zip(term.claim).is_some_and(|(former, now)| former.instance == now.instance);
    if !is_same || former.life != term.life || former.welcome.generation >= generation {
        return false;
    }
    let newer =
        before.iter().filter(|other| other.life == term.life && other.welcome.generation >= generation);
    let taken_us = newer.map(|other| index.records[other.line].at_us).min().unwrap_or_default();
    let head = index.pos(&term.welcome.head);
    let known = index
        .log(head.epoch)
        .and_then(|log| log.entries[..log.entries.partition_point(|entry| entry.seq <= head.seq)].last());
    known.is_none_or(|entry| entry.at_us <= taken_us.saturating_add(grace))
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
