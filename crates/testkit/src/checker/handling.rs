//! What readers' processes did with their items, over all their lives.
//!
//! Walked twice: by the promise **handled once**, which takes what is wrong, and by `seen`, which takes what happened.

use std::collections::{HashMap, HashSet, VecDeque};

use super::entitlement::Entitlement;
use super::index::{Index, Pos};
use super::sight::Sight;
use crate::history::{self, Cursor, Form, GapReason, Open, What};

/// What the walk notes.
pub(super) enum Noted {
    Wrong { lines: [usize; 2], text: String },
    Seen(Sight),
}

/// Which call of a handler finished something: its number, or the line of the record where calls have none.
type Call = (Option<u64>, usize);

/// A reader's process, over all its lives.
#[derive(Default)]
struct Reader {
    life: u64,
    crashed: bool,
    form: Form,
    /// D of the present life.
    repeats: u64,
    /// The form and D of lives before, and whether their store failed when they ended.
    before: HashMap<u64, Ended>,
    now: Life,
    /// Who finished a position last, as far as something is promised of repeats.
    finished: HashMap<Pos, (u64, Call, usize)>,
    /// What any life finished: a cursor that an earlier one saved may turn up when a later one could not read it.
    settled: HashSet<Pos>,
    /// Over all lives: the last item finished, or the highest one in the stream form.
    last: Option<(Pos, usize)>,
    stored: Option<Cursor>,
}

#[derive(Clone, Copy)]
struct Ended {
    repeats: u64,
    store_failed: bool,
}

/// One life of a reader's handler.
#[derive(Default)]
struct Life {
    /// The last item finished, or the highest one in the stream form.
    last: Option<(Pos, usize)>,
    /// Delivered, not finished, in the order of arrival; when, by the harness's clock.
    waiting: VecDeque<(Pos, usize)>,
    /// A gap led back since the last item, so the next may be earlier.
    may_go_back: bool,
    /// Since the last save that succeeded, one failed.
    store_failed: bool,
    opened: bool,
    /// What of each earlier life it repeated.
    repeated: HashMap<u64, HashSet<Call>>,
    /// What the life before was delivered and did not finish.
    lost: VecDeque<(Pos, usize)>,
    /// What the store held when it began.
    began_with: Option<Pos>,
    /// The last call, and whether it has finished several items.
    call: Option<(u64, bool)>,
}

/// Walks through the records of all handlers.
pub(super) fn walk<'h>(index: &Index<'h>, note: &mut dyn FnMut(Noted)) {
    let recording: HashSet<&str> =
        index.records.iter().filter_map(|record| reader_of(&record.what)).collect();
    let mut readers: HashMap<&str, Reader> = HashMap::new();
    let mut processes: HashMap<&str, HashSet<&str>> = HashMap::new();
    let mut healed_us = None;
    for (line, record) in index.records.iter().enumerate() {
        let name = match &record.what {
            What::Crash => {
                for name in processes.remove(&*record.process).unwrap_or_default() {
                    readers.entry(name).or_default().crashed = true;
                }
                continue;
            }
            What::Healed => {
                healed_us = Some(record.at_us);
                continue;
            }
            What::Open(open) => &*open.reader,
            What::Event(_) | What::Gap(_) => {
                let stream = record.what.stream().and_then(|stream| index.stream(stream));
                let Some(stream) = stream else { continue };
                &*stream.open.reader
            }
            what => match reader_of(what) {
                Some(reader) => reader,
                None => continue,
            },
        };
        let Some(&name) = recording.get(name) else { continue };
        let reader = readers.entry(name).or_insert_with(|| Reader { repeats: 1, ..Reader::default() });
        // What a process that has ended was writing may still get to its disk.
        let is_of_store = matches!(record.what, What::Stored(_) | What::StoreFailed(_));
        if !is_of_store {
            processes.entry(&record.process).or_default().insert(name);
            if reader.crashed {
                reader.begin(index);
            }
        }
        reader.take(index, name, line, note);
    }
    let mut waiting: Vec<_> = readers.iter().filter(|(_, reader)| !reader.crashed).collect();
    waiting.sort_by_key(|(name, _)| **name);
    for (name, reader) in waiting {
        reader.end(index, name, healed_us, note);
    }
}

fn reader_of(what: &What) -> Option<&str> {
    match what {
        What::Handled(handled) => Some(&handled.reader),
        What::Handler(handler) => Some(&handler.reader),
        What::Stored(stored) => Some(&stored.reader),
        What::StoreFailed(reader) => Some(reader),
        _ => None,
    }
}

impl Reader {
    /// Begins another life.
    fn begin(&mut self, index: &Index<'_>) {
        let store_failed = self.now.store_failed;
        self.before.insert(self.life, Ended { repeats: self.repeats, store_failed });
        self.life += 1;
        self.crashed = false;
        let began_with = self.stored.as_ref().and_then(|stored| index.at(stored));
        self.now = Life { lost: std::mem::take(&mut self.now.waiting), began_with, ..Life::default() };
    }

    fn take(&mut self, index: &Index<'_>, name: &str, line: usize, note: &mut dyn FnMut(Noted)) {
        let wrong = |before, text| Noted::Wrong { lines: [before, line], text };
        let record = &index.records[line];
        match &record.what {
            What::Handler(handler) => (self.form, self.repeats) = (handler.form, handler.repeats),
            What::Open(open) => self.opened(index, open, line, note),
            What::Event(event) => {
                if let Some(position) = &event.position {
                    self.now.arrived(index.pos(position), line);
                }
            }
            What::Gap(gap) => {
                use GapReason::{Ahead, CursorUnreadable, EpochChanged};
                self.now.may_go_back |= gap.reason == Ahead;
                if matches!(gap.reason, Ahead | CursorUnreadable | EpochChanged) {
                    self.forget();
                }
                if gap.reason == Ahead {
                    self.settled.clear(); // other events may take these positions
                }
                if gap.reason == CursorUnreadable {
                    self.last = None; // whatever lies behind it is told
                }
                if let Some(pos) = index.at(&gap.cursor) {
                    // It may lead to where an event was: that of a log that comes back.
                    self.finished.remove(&pos);
                    self.now.arrived(pos, line);
                }
            }
            What::Stored(stored) => {
                self.now.store_failed = false;
                if let Some((arrived, skipped)) =
                    index.at(&stored.cursor).and_then(|pos| self.now.passed(pos))
                {
                    let text = format!(
                        "the store of {name} holds {}, but {} was delivered and has no outcome",
                        index.at(&stored.cursor).map_or_else(String::new, |pos| index.show(pos)),
                        index.show(skipped)
                    );
                    note(wrong(arrived, text));
                }
                self.stored = Some(stored.cursor.clone());
            }
            What::StoreFailed(_) if !self.crashed => {
                self.now.store_failed = true;
                note(Noted::Seen(Sight::StoreWriteFailed));
            }
            What::Handled(handled) => self.finished(index, handled, line, note),
            _ => {}
        }
    }

    /// Outside the window, after another log, or where nobody knows the place, nothing is promised of repeats.
    fn forget(&mut self) {
        let life = self.life;
        self.finished.retain(|_, (finished, ..)| *finished == life);
    }

    fn opened(&mut self, index: &Index<'_>, open: &Open, line: usize, note: &mut dyn FnMut(Noted)) {
        let first = !std::mem::replace(&mut self.now.opened, true);
        // In the stream form what is out is not asked for again.
        if (first || self.form != Form::Stream)
            && let Some(last) = self.last
            && let Some(text) = self.ran_ahead(index, open, last.0, (line, first))
        {
            note(Noted::Wrong { lines: [last.1, line], text });
        }
        if !first {
            return;
        }
        let presented = index.at(&open.presented);
        let lost = presented.and_then(|presented| {
            let passed = |pos: &Pos| pos.epoch == presented.epoch && pos.seq <= presented.seq;
            self.now.lost.iter().find(|(pos, _)| passed(pos) && !self.settled.contains(pos))
        });
        if let (Some(presented), Some(&(pos, arrived))) = (presented, lost) {
            let (reader, pos) = (&open.reader, index.show(pos));
            let text = format!("{reader} begins after {}, but never finished {pos}", index.show(presented));
            note(Noted::Wrong { lines: [arrived, line], text });
        }
        let is_asked_for = matches!(open.presented, Cursor::Oldest | Cursor::Empty);
        let stored_none = self.stored.as_ref().is_some_and(|stored| index.at(stored).is_none());
        if presented.is_none() && (stored_none || !is_asked_for) {
            self.forget();
            self.last = None;
        }
    }

    fn finished(
        &mut self,
        index: &Index<'_>,
        handled: &history::Handled,
        line: usize,
        note: &mut dyn FnMut(Noted),
    ) {
        let (name, pos) = (&handled.reader, index.pos(&handled.position));
        let earlier = self.finished.get(&pos).copied();
        let fault = if self.form == Form::Stream {
            let twice = earlier.filter(|(life, ..)| *life == self.life && !self.now.may_go_back);
            let twice = twice.map(|(_, _, before)| (before, format!("{} finished twice", index.show(pos))));
            let in_order = self.now.acked(pos, line);
            if !in_order {
                note(Noted::Seen(Sight::AckedOutOfOrder));
            }
            twice
        } else {
            self.now.finished(index, pos, line)
        };
        let mut wrong = |before, text: String| {
            note(Noted::Wrong { lines: [before, line], text: format!("handler of {name}: {text}") });
        };
        if let Some((before, text)) = fault {
            wrong(before, text);
        }
        if let Some((life, call, before)) = earlier.filter(|(life, ..)| *life < self.life) {
            self.repeats(index, pos, (life, call), before, &mut wrong);
            let ended = self.before.get(&life);
            if ended.is_some_and(|ended| !ended.store_failed) {
                note(Noted::Seen(Sight::RepeatedWithinD));
            }
        }
        let call = (handled.call, handled.call.map_or(line, |_| 0));
        self.finished.insert(pos, (self.life, call, line));
        self.settled.insert(pos);
        // Acks come in any order: what counts is how far it came.
        let came_further = |(last, _): (Pos, usize)| last.epoch == pos.epoch && last.seq > pos.seq;
        if self.form != Form::Stream || self.now.may_go_back || !self.last.is_some_and(came_further) {
            self.last = Some((pos, line));
        }
        if handled.how == history::How::DeadLetter {
            note(Noted::Seen(Sight::DeadLetter));
        }
        if let Some(call) = handled.call.filter(|_| self.form == Form::Batches) {
            let many = self.now.call.is_some_and(|(before, _)| before == call);
            if many && self.now.call == Some((call, false)) {
                note(Noted::Seen(Sight::BatchHandled));
            }
            self.now.call = Some((call, many));
        }
    }

    /// An item that an earlier life finished is finished again.
    fn repeats(
        &mut self,
        index: &Index<'_>,
        pos: Pos,
        (life, call): (u64, Call),
        before: usize,
        wrong: &mut dyn FnMut(usize, String),
    ) {
        if self.now.began_with.is_some_and(|held| held.epoch == pos.epoch && pos.seq <= held.seq) {
            let held = self.now.began_with.map_or_else(String::new, |held| index.show(held));
            wrong(before, format!("{} finished again, though {held} was stored", index.show(pos)));
        }
        let Some(ended) = self.before.get(&life).copied() else { return };
        let repeated = self.now.repeated.entry(life).or_default();
        if repeated.insert(call) && !ended.store_failed && repeated.len() as u64 == ended.repeats + 1 {
            let (most, pos) = (ended.repeats, index.show(pos));
            wrong(
                before,
                format!("{pos} is repeated after a crash, and {most} more before it: at most {most} may be"),
            );
        }
    }

    /// It comes back with a cursor beyond what its handler finished: in this life, or in whichever if it begins one.
    fn ran_ahead(
        &self,
        index: &Index<'_>,
        open: &Open,
        last: Pos,
        (line, first): (usize, bool),
    ) -> Option<String> {
        let presented = index.at(&open.presented).filter(|presented| presented.epoch == last.epoch)?;
        let entitlement = Entitlement::new(index, open);
        let mut owed = entitlement.owed(index, last, presented.seq, index.records[line].at_us);
        let settled = |seq| first && self.settled.contains(&Pos { seq, ..last });
        let skipped = owed.find(|entry| !settled(entry.seq))?;
        let (reader, seq, id) = (&open.reader, skipped.seq, &skipped.line.id);
        Some(format!(
            "{reader} comes back with {}, but its handler finished {} last: {seq} ({id:?}) is skipped",
            presented.seq, last.seq
        ))
    }

    /// Nothing may lie about without an outcome once there was time for one.
    fn end(&self, index: &Index<'_>, name: &str, healed_us: Option<u64>, note: &mut dyn FnMut(Noted)) {
        let (Some(healed), Some(end)) = (healed_us, index.records.last()) else { return };
        let within = index.rules.live_within_us;
        let late = |&&(_, line): &&(Pos, usize)| {
            index.records[line].at_us.max(healed).saturating_add(within) <= end.at_us
        };
        if let Some(&(pos, line)) = self.now.waiting.iter().find(late) {
            let text =
                format!("handler of {name}: {} was delivered and never has an outcome", index.show(pos));
            note(Noted::Wrong { lines: [line, index.records.len() - 1], text });
        }
    }
}

impl Life {
    fn arrived(&mut self, pos: Pos, line: usize) {
        let known = |other: Pos| other.epoch == pos.epoch && other.seq >= pos.seq;
        let finished = self.last.is_some_and(|(last, _)| known(last)) && !self.may_go_back;
        if !finished && !self.waiting.back().is_some_and(|&(last, _)| known(last)) {
            self.waiting.push_back((pos, line));
        }
    }

    /// What waits for its outcome although a cursor has passed it.
    fn passed(&self, cursor: Pos) -> Option<(usize, Pos)> {
        let passed = |(pos, _): &&(Pos, usize)| pos.epoch == cursor.epoch && pos.seq <= cursor.seq;
        self.waiting.iter().find(passed).map(|&(pos, line)| (line, pos))
    }

    /// In the stream form: whether nothing before it waits.
    fn acked(&mut self, pos: Pos, line: usize) -> bool {
        let higher = |(last, _): (Pos, usize)| last.epoch == pos.epoch && last.seq > pos.seq;
        if !self.last.is_some_and(higher) {
            self.last = Some((pos, line));
        }
        let place = self.waiting.iter().position(|&(other, _)| other == pos);
        place.is_none_or(|place| {
            self.waiting.remove(place);
            place == 0
        })
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
