//! **No phantom**: whatever is in the log or delivered was published. **One payload**: a position never names another
//! one, in any stream or dump.

use std::collections::HashMap;

use crate::checker::index::{Index, Pos};
use crate::checker::log::Entry;
use crate::checker::report::{Findings, Promise};
use crate::history::{Event, Hash, Name, What};

/// Every entry of the log was published as it lies there.
pub(super) fn in_log<'h>(index: &Index<'h>, findings: &mut Findings<'_, 'h>) {
    for log in &index.logs {
        for &(one, other) in &log.conflicts {
            let text = "two dumps of the log disagree about one position".to_owned();
            findings.at(Promise::OnePayload, &[one, other], text);
        }
        if index.publishes.calls.is_empty() {
            continue; // nobody watched the publishers
        }
        for entry in log.entries.iter().filter(|entry| !entry.line.standing) {
            if let Some((line, fault)) = unpublished(index, entry) {
                findings.at(Promise::NoPhantom, &[line, entry.record], fault);
            }
        }
    }
}

fn unpublished(index: &Index<'_>, entry: &Entry<'_>) -> Option<(usize, String)> {
    let logged = entry.line;
    let (seq, id) = (entry.seq, &logged.id);
    let Some(attempts) = index.publishes.of(&logged.source, id) else {
        return Some((entry.record, format!("{seq} ({id:?}) is in the log, but nobody published it")));
    };
    let mut calls = attempts.calls.iter().map(|&number| &index.publishes.calls[number]);
    let first = calls.clone().next()?;
    let published = calls.any(|call| call.call.hash == logged.hash && same(&call.call.to, &logged.to));
    (!published)
        .then(|| (first.line, format!("{seq} ({id:?}) is in the log otherwise than it was published")))
}

fn same(one: &[Name], other: &[Name]) -> bool {
    one == other || (one.iter().all(|to| other.contains(to)) && other.iter().all(|to| one.contains(to)))
}

/// Every event delivered is the one the log has there.
pub(super) fn in_streams<'h>(index: &Index<'h>, findings: &mut Findings<'_, 'h>) {
    let mut beyond = HashMap::new();
    for (line, record) in index.records.iter().enumerate() {
        let What::Event(event) = &record.what else { continue };
        let Some(stream) = index.stream(event.stream) else { continue };
        let fault = match event.position.as_ref().map(|position| index.pos(position)) {
            Some(pos) => positioned(index, event, pos, &mut beyond),
            None => invented(index, event),
        };
        if let Some((promise, fault)) = fault {
            findings.on_stream(promise, stream, line, fault);
        }
    }
}

/// `beyond` remembers what was delivered where the dump has nothing to say.
fn positioned<'h>(
    index: &Index<'h>,
    event: &'h Event,
    pos: Pos,
    beyond: &mut HashMap<Pos, (&'h Name, Hash)>,
) -> Option<(Promise, String)> {
    let here = index.show(pos);
    let other = |id: &Name| {
        let text = format!("{here} is {:?} here, but {id:?} with another payload or id elsewhere", event.id);
        Some((Promise::OnePayload, text))
    };
    if let Some(entry) = index.entry(pos) {
        let same = entry.line.id == event.id && entry.line.hash == event.hash;
        return if same { None } else { other(&entry.line.id) };
    }
    if index.log(pos.epoch).is_none_or(|log| log.is_whole_at(pos.seq)) {
        return Some((
            Promise::NoPhantom,
            format!("{here} ({:?}) was delivered, but is not in the log", event.id),
        ));
    }
    let (id, hash) = *beyond.entry(pos).or_insert((&event.id, event.hash));
    if *id != event.id || hash != event.hash {
        return other(id);
    }
    invented(index, event)
}

fn invented(index: &Index<'_>, event: &Event) -> Option<(Promise, String)> {
    let mut calls = index.publishes.of_payload(&event.id, event.hash).peekable();
    if calls.peek().is_none() {
        let watched = !index.publishes.calls.is_empty();
        let text = format!("{:?} was delivered, but nobody published it", event.id);
        return watched.then_some((Promise::NoPhantom, text));
    }
    let refused = !calls.any(super::super::publishes::Call::may_land);
    refused.then(|| (Promise::NackedNever, format!("{:?} was refused every time, but delivered", event.id)))
}
