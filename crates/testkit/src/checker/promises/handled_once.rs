//! **Handled once**: within one life of a reader's process its handler finishes each item once, in order, and none that
//! was delivered is passed over.
//!
//! Judged only for readers that record `handled`. A crash of the process begins a new life, which may finish again what
//! an earlier one had, but begins after nothing that none of them had: a stored cursor never runs ahead of the handler.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::checker::entitlement::Entitlement;
use crate::checker::index::{Index, Pos};
use crate::checker::report::{Findings, Promise};
use crate::history::{GapReason, Open, What};

/// One life of a reader's handler.
#[derive(Default)]
struct Handler {
    /// The last item finished.
    last: Option<(Pos, usize)>,
    /// Delivered, not finished, in the order of arrival.
    waiting: VecDeque<(Pos, usize)>,
    /// A gap led back since the last item, so the next may be earlier.
    may_go_back: bool,
}

pub(super) fn check<'h>(index: &Index<'h>, findings: &mut Findings<'_, 'h>) {
    let handled = |what: &'h What| match what {
        What::Handled { reader, .. } => Some(&**reader),
        _ => None,
    };
    let recording: HashSet<&str> = index.records.iter().filter_map(|record| handled(&record.what)).collect();
    let mut handlers: HashMap<&str, Handler> = HashMap::new();
    let mut lives: HashMap<&str, HashSet<&str>> = HashMap::new();
    // Over all lives: the last item finished.
    let mut finished: HashMap<&str, (Pos, usize)> = HashMap::new();
    for (line, record) in index.records.iter().enumerate() {
        let reader = match &record.what {
            What::Crash => {
                for reader in lives.remove(&*record.process).unwrap_or_default() {
                    handlers.remove(reader);
                }
                continue;
            }
            What::Handled { reader, position } => {
                finished.insert(reader, (index.pos(position), line));
                reader
            }
            What::Open(open) => {
                if let Some(&last) = finished.get(&*open.reader)
                    && let Some(fault) = ran_ahead(index, open, last.0, record.at_us)
                {
                    findings.at(Promise::HandledOnce, &[last.1, line], fault);
                }
                continue;
            }
            What::Event(_) | What::Gap(_) => {
                let stream = record.what.stream().and_then(|stream| index.stream(stream));
                let Some(stream) = stream.filter(|stream| recording.contains(&*stream.open.reader)) else {
                    continue;
                };
                &stream.open.reader
            }
            _ => continue,
        };
        lives.entry(&record.process).or_default().insert(reader);
        let handler = handlers.entry(reader).or_default();
        match &record.what {
            What::Event(event) => {
                if let Some(position) = &event.position {
                    handler.arrived(index.pos(position), line);
                }
            }
            What::Gap(gap) => handler.may_go_back |= gap.reason == GapReason::Ahead,
            What::Handled { position, .. } => {
                if let Some((before, fault)) = handler.finished(index, index.pos(position), line) {
                    findings.at(
                        Promise::HandledOnce,
                        &[before, line],
                        format!("handler of {reader}: {fault}"),
                    );
                }
            }
            _ => {}
        }
    }
}

/// A reader that comes back with a cursor beyond what its handler finished.
fn ran_ahead(index: &Index<'_>, open: &Open, last: Pos, at_us: u64) -> Option<String> {
    let presented = index.at(&open.presented).filter(|presented| presented.epoch == last.epoch)?;
    let entitlement = Entitlement::new(index, open);
    let skipped = entitlement.owed(index, last, presented.seq, at_us).next()?;
    let (reader, seq, id) = (&open.reader, skipped.seq, &skipped.line.id);
    Some(format!(
        "{reader} comes back with {}, but its handler finished {} last: {seq} ({id:?}) is skipped",
        presented.seq, last.seq
    ))
}

impl Handler {
    fn arrived(&mut self, pos: Pos, line: usize) {
        let known = |other: Pos| other.epoch == pos.epoch && other.seq >= pos.seq;
        let finished = self.last.is_some_and(|(last, _)| known(last)) && !self.may_go_back;
        if !finished && !self.waiting.back().is_some_and(|&(last, _)| known(last)) {
            self.waiting.push_back((pos, line));
        }
    }

    fn finished(&mut self, index: &Index<'_>, pos: Pos, line: usize) -> Option<(usize, String)> {
        let again =
            self.last.filter(|(last, _)| last.epoch == pos.epoch && last.seq >= pos.seq && !self.may_go_back);
        if let Some((last, before)) = again {
            return Some((before, format!("{} finished after {}", index.show(pos), last.seq)));
        }
        self.may_go_back = false;
        self.last = Some((pos, line));
        let mut skipped = None;
        let before = |other: Pos| other.epoch == pos.epoch && other.seq < pos.seq;
        let has_it = self.waiting.iter().any(|&(other, _)| other == pos);
        while let Some(&(other, arrived)) = self.waiting.front() {
            if other != pos && !before(other) && !has_it {
                break;
            }
            self.waiting.pop_front();
            if other == pos {
                break;
            }
            skipped.get_or_insert((arrived, other));
        }
        let (arrived, other) = skipped?;
        Some((
            arrived,
            format!("{} finished, but {} was delivered and is not", index.show(pos), index.show(other)),
        ))
    }
}
