//! **Live**: a while after the last fault healed, every reader has a stream, and it has reached the head.
//!
//! Judged at the end of a history that says `healed` and `end` and leaves enough time between (and after the last
//! publish). Readers that left on purpose or whose process is down are not expected. A stream opened only just now is
//! given its time, if one before it was at the head: whoever does nothing but connect again is not live.

use std::collections::BTreeMap;

use crate::checker::index::{Index, Stream};
use crate::checker::report::{Findings, Promise};
use crate::checker::stream::State;
use crate::history::Hop;

/// Answers whether the history could be judged.
pub(in crate::checker) fn check<'h>(
    index: &Index<'h>,
    last: &[State<'h>],
    findings: &mut Findings<'_, 'h>,
) -> bool {
    let (Some(healed), Some((end, end_line))) = (index.run.healed_us, index.run.end) else { return false };
    let settled = healed.max(index.run.last_publish_us);
    let Some(due) = end.checked_sub(index.rules.live_within_us).filter(|due| *due >= settled) else {
        return false;
    };
    let mut readers: BTreeMap<(bool, &str), Vec<usize>> = BTreeMap::new();
    for (number, stream) in index.streams.iter().enumerate() {
        readers.entry((stream.open.hop == Hop::User, &stream.open.reader)).or_default().push(number);
    }
    let judged = Judged { index, last, settled, due, end };
    for ((_, reader), streams) in &readers {
        let Some(newest) = streams.last().map(|&number| &index.streams[number]) else { continue };
        let left = index.run.left.get(reader).is_some_and(|&line| line > newest.open_line);
        if left || index.run.down.contains(&**newest.process) {
            continue;
        }
        let mut open: Vec<usize> =
            streams.iter().copied().filter(|&number| !index.streams[number].ended).collect();
        let generation = |number: usize| last[number].welcome.map_or(u64::MAX, |welcome| welcome.generation);
        open.sort_by_key(|&number| (generation(number), number));
        let Some(current) = open.pop() else {
            if let Some(text) = judged.without_stream(reader, streams) {
                let line = newest.lines.last().copied().unwrap_or(newest.open_line);
                findings.at(Promise::Live, &[newest.open_line, line, end_line], text);
            }
            continue;
        };
        if newest.open.hop == Hop::Gateway
            && last[current].welcome.is_some()
            && last[current].welcome_us <= due
        {
            for older in open {
                let text = "taken over long ago, but never ended".to_owned();
                findings.on_stream(Promise::Fenced, &index.streams[older], end_line, text);
            }
        }
        let stream = &index.streams[current];
        let fault = if judged.opened_us(current) <= due {
            stuck(index, stream, &last[current], end)
        } else {
            judged.restless(reader, streams).map(|text| (Promise::Live, text))
        };
        if let Some((promise, fault)) = fault {
            findings.on_stream(promise, stream, end_line, fault);
        }
    }
    true
}

/// What the readers of a history are judged by.
struct Judged<'a, 'h> {
    index: &'a Index<'h>,
    last: &'a [State<'h>],
    /// Since when nothing changed any more.
    settled: u64,
    /// Whatever began later is given its time.
    due: u64,
    end: u64,
}

impl Judged<'_, '_> {
    fn opened_us(&self, stream: usize) -> u64 {
        self.index.records[self.index.streams[stream].open_line].at_us
    }

    fn last_us(&self, stream: usize) -> u64 {
        self.index.streams[stream].lines.last().map_or(0, |&line| self.index.records[line].at_us)
    }

    fn without_stream(&self, reader: &str, streams: &[usize]) -> Option<String> {
        let long_ago = streams.last().is_none_or(|&newest| self.last_us(newest) <= self.due);
        if long_ago {
            return Some(format!("{reader} has no stream at the end, and did not leave"));
        }
        self.restless(reader, streams)
    }

    /// A reader whose stream is new, and none before it was at the head since all healed.
    fn restless(&self, reader: &str, streams: &[usize]) -> Option<String> {
        let was_live = |&number: &usize| {
            let stuck = stuck(self.index, &self.index.streams[number], &self.last[number], self.end);
            self.last_us(number) >= self.settled && stuck.is_none()
        };
        let long_there = streams.first().is_some_and(|&first| self.opened_us(first) <= self.due);
        (long_there && !streams.iter().any(was_live)).then(|| {
            format!("{reader} connects again and again, and never reached the head since all healed")
        })
    }
}

fn stuck(
    index: &Index<'_>,
    stream: &Stream<'_>,
    state: &State<'_>,
    end_us: u64,
) -> Option<(Promise, String)> {
    if state.said_goodbye && !state.closed {
        return None; // it is about to end, and its reader to come back
    }
    let Some(stretch) = state.welcome.and(state.stretch.as_ref()) else {
        return Some((Promise::Live, "it knows no position at the end".into()));
    };
    if !state.caught_up {
        return Some((Promise::Progress, "no CaughtUp ever came after its replay".into()));
    }
    if state.behind {
        return Some((Promise::Live, "it fell behind, and no CaughtUp came since".into()));
    }
    let head = index.run.head?;
    let held = index.show(stretch.passed());
    let elsewhere = stretch.epoch != head.epoch && !index.has_several_logs();
    if elsewhere || index.is_over(stretch.epoch, end_us) {
        return Some((Promise::Live, format!("it stands at {held}, but the log is at {}", index.show(head))));
    }
    let missing = state.entitlement.owed(index, stretch.passed(), u64::MAX, end_us).next()?;
    let (seq, id, reader) = (missing.seq, &missing.line.id, &stream.open.reader);
    Some((Promise::Live, format!("it stands at {held}; {seq} ({id:?}) never reached {reader}")))
}
