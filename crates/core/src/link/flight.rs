//! What the application holds and has not judged yet, when it takes items from a stream and acks each by itself.
//!
//! Used by [`Link`](super::Link) only. Acks come in any order; what counts is the front: the cursor moves past an item
//! once it and everything before it is dealt with. An item stays here until then, so that one that was not handled can
//! be handed out again without the hub.
//!
//! ```text
//! out         a1  a2  a3  a4
//! acked           ok      ok       nothing moves: a1 is not dealt with
//! then        ok                   the cursor moves to a2; a3 is still out
//! then                failed       a3 waits, and goes out again after a while, without the hub
//! then                ok           the cursor moves to a4
//! ```

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{DeadLetter, Delivery, IN_FLIGHT_OVERHEAD, Item};

/// The items in flight.
#[derive(Debug)]
pub(super) struct Flight {
    bytes_max: usize,
    bytes: usize,
    /// The id of the first entry; the others follow without a hole.
    first: u64,
    entries: VecDeque<Entry>,
    /// The entries that wait, by when they have waited enough.
    due: BTreeSet<(Duration, u64)>,
    /// How many entries failed at least once and are not dealt with.
    troubled: usize,
}

/// An item from going out until everything before it is dealt with.
#[derive(Debug)]
struct Entry {
    item: Item,
    failures: u32,
    error: Arc<str>,
    state: State,
    /// The cursor of frames after this item that nobody is given.
    tail: Option<String>,
}

/// `Out`: the application has it. `Waiting`: it failed, and goes out again or is given up. `Handled` and `Dead`: dealt with, and only
/// waits for what is before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Out,
    Waiting,
    Handled,
    Dead,
}

/// What left at the front: how many items had each outcome, and the cursor behind the last of them.
#[derive(Debug, Default)]
pub(super) struct CommittedFront {
    pub(super) handled: usize,
    pub(super) dead: usize,
    pub(super) cursor: Option<String>,
}

impl Flight {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, first: 0, entries: VecDeque::new(), due: BTreeSet::new(), troubled: 0 }
    }

    /// The items in flight, those included that only wait for one before them.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether some item has failed and is not dealt with yet.
    pub(super) fn in_trouble(&self) -> bool {
        self.troubled > 0
    }

    /// Whether this item may go out now. One alone always may, or an item above the bound would wait for ever.
    pub(super) fn has_room(&self, item: &Item) -> bool {
        self.entries.is_empty() || self.bytes + cost(item) <= self.bytes_max
    }

    /// Puts an item in flight, and makes its delivery. Ids rise by one.
    pub(super) fn push(&mut self, item: Item) -> Delivery {
        let id = self.first + self.entries.len() as u64;
        self.bytes += cost(&item);
        let delivery = Delivery { id, item: item.clone(), failures: 0 };
        self.entries.push_back(Entry {
            item,
            failures: 0,
            error: Arc::default(),
            state: State::Out,
            tail: None,
        });
        delivery
    }

    /// Notes the cursor of a frame that nobody is given; gives it back when there is nothing before it.
    pub(super) fn note_tail(&mut self, cursor: String) -> Option<String> {
        match self.entries.back_mut() {
            Some(entry) => {
                entry.tail = Some(cursor);
                None
            }
            None => Some(cursor),
        }
    }

    /// The item is dealt with. Says nothing about one that is not out, which only a wrong driver could name.
    pub(super) fn handled(&mut self, id: u64) {
        self.finish(id, State::Out, State::Handled);
    }

    /// The item became a dead letter.
    pub(super) fn dead(&mut self, id: u64) {
        self.finish(id, State::Waiting, State::Dead);
    }

    fn finish(&mut self, id: u64, from: State, to: State) {
        if let Some(entry) = self.entry(id).filter(|entry| entry.state == from) {
            entry.state = to;
            if entry.failures > 0 {
                self.troubled -= 1;
            }
        }
    }

    /// The item was not dealt with; answers how often that was so. [`wait`](Self::wait) must follow.
    pub(super) fn failed(&mut self, id: u64, error: Arc<str>) -> Option<u32> {
        let entry = self.entry(id).filter(|entry| entry.state == State::Out)?;
        entry.failures = entry.failures.saturating_add(1);
        entry.error = error;
        entry.state = State::Waiting;
        let failures = entry.failures;
        if failures == 1 {
            self.troubled += 1;
        }
        Some(failures)
    }

    /// Nobody took the dead letter; answers how often it and its handler failed. [`wait`](Self::wait) must follow.
    pub(super) fn dead_letter_failed(&mut self, id: u64) -> u32 {
        self.entry(id).map_or(1, |entry| {
            entry.failures = entry.failures.saturating_add(1);
            entry.failures
        })
    }

    /// Lets the item wait.
    pub(super) fn wait(&mut self, id: u64, until: Duration) {
        self.due.insert((until, id));
    }

    /// When the next item has waited enough.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.due.first().map(|(until, _)| *until)
    }

    /// An item that has waited enough.
    pub(super) fn pop_due(&mut self, now: Duration) -> Option<u64> {
        let first = *self.due.first().filter(|(until, _)| *until <= now)?;
        self.due.remove(&first);
        Some(first.1)
    }

    /// The item once more.
    pub(super) fn redeliver(&mut self, id: u64) -> Option<Delivery> {
        let entry = self.entry(id)?;
        entry.state = State::Out;
        Some(Delivery { id, item: entry.item.clone(), failures: entry.failures })
    }

    pub(super) fn cursor(&self, id: u64) -> Option<String> {
        let entry = self.index(id).and_then(|index| self.entries.get(index))?;
        Some(entry.item.cursor().to_owned())
    }

    pub(super) fn failures(&self, id: u64) -> u32 {
        self.index(id).and_then(|index| self.entries.get(index)).map_or(0, |entry| entry.failures)
    }

    pub(super) fn dead_letter(&self, id: u64) -> Option<DeadLetter<'_>> {
        let entry = self.index(id).and_then(|index| self.entries.get(index))?;
        Some(DeadLetter { item: &entry.item, error: &entry.error, failures: entry.failures })
    }

    /// Removes what is dealt with at the front.
    pub(super) fn commit_front(&mut self) -> CommittedFront {
        let mut front = CommittedFront::default();
        while let Some(entry) = self.entries.front() {
            match entry.state {
                State::Out | State::Waiting => break,
                State::Handled => front.handled += 1,
                State::Dead => front.dead += 1,
            }
            let Some(entry) = self.entries.pop_front() else { break };
            self.first += 1;
            self.bytes -= cost(&entry.item);
            // The tail lies behind the item. Where an item commits nothing, what the ones before it have moved to stays.
            let cursor = entry.tail.or_else(|| entry.item.commits().map(str::to_owned));
            front.cursor = cursor.or(front.cursor);
        }
        front
    }

    fn entry(&mut self, id: u64) -> Option<&mut Entry> {
        let index = self.index(id)?;
        self.entries.get_mut(index)
    }

    fn index(&self, id: u64) -> Option<usize> {
        usize::try_from(id.checked_sub(self.first)?).ok()
    }
}

fn cost(item: &Item) -> usize {
    item.frame().framed().len() + IN_FLIGHT_OVERHEAD
}
