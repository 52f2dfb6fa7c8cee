//! What lies between a pack and the last message that its writer had read: all that a reader must remember to judge it.
//!
//! Pure. The [`StateMachine`](super::StateMachine) keeps one. A pack claims that up to a message R none of its keys was published of late. Its
//! readers look only at what was appended behind R, so that where they began to read makes no difference.
//!
//! A claim is dead, for everybody alike, once a message behind R is [`Bounds::age`] older than the pack by the brokers'
//! stamps, or more than [`Bounds::items`] items lie between. So memory is bounded: a message is forgotten once every claim
//! that could still look at it is dead. What was not read, from before the first message or in a hole, cannot be looked at:
//! a claim that would need it, and is not dead by what is known, is in doubt. An item takes some 200 bytes, whatever its key:
//! with the default bounds 55 MiB at most.

use std::collections::{BTreeMap, HashMap, VecDeque};

use foldhash::fast::RandomState;
use galaxy_push_core::cursor::Seq;

use super::pack::HubId;
use crate::dedup::{Content, Key};

/// How long a claim is heeded, and so how much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// A claim is dead once something behind what its writer had read is so much older than the pack, in milliseconds.
    pub age_ms: u64,
    /// By how much the clocks of brokers may differ, in milliseconds.
    pub skew_ms: u64,
    /// A claim is dead once more items lie behind what its writer had read. A message counts as one at least.
    pub items: u64,
}

impl Default for Bounds {
    /// 10 s, 10 s, 262,144 items.
    fn default() -> Self {
        Self { age_ms: 10_000, skew_ms: 10_000, items: 262_144 }
    }
}

/// What a claim is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// All that lies between is known.
    Heeded,
    /// Nobody heeds it.
    Dead,
    /// It may be heeded by others, and what lies between is not known here.
    Doubtful,
}

/// What was appended with a key, behind some message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PriorUse {
    /// This content, at this position; an ephemeral event has none.
    Appended(Content, Option<Seq>),
    /// Perhaps something: it could not be judged.
    Doubtful,
}

/// A fingerprint of a key, so that a long one costs no more than a short one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Mark([u8; 16]);

/// What was read of late.
#[derive(Debug)]
pub(super) struct Claims {
    bounds: Bounds,
    /// Messages that a claim may still look at, in order, the last one read at the end.
    messages: VecDeque<ReadMessage>,
    /// Numbers and stamps of those that are older than all behind them, so both rise.
    lows: VecDeque<(u64, u64)>,
    /// Looked up only, never iterated. The keys are publishers', hence a seeded hash.
    kept: HashMap<Mark, Kept, RandomState>,
    /// Every message from this one on was read and is remembered.
    whole_from: u64,
    /// Items of everything read.
    items: u64,
    /// The last pack of each hub that wrote one of late, and the message it came in.
    hubs: BTreeMap<HubId, (u64, u64)>,
}

#[derive(Debug)]
struct ReadMessage {
    number: u64,
    /// Items of everything read before it.
    before: u64,
    keys: Vec<Mark>,
    /// Of which hub it was the last pack, when it was read.
    hub: Option<HubId>,
}

/// What came with a key, in order: mostly once.
#[derive(Debug)]
struct Kept {
    first: (u64, PriorUse),
    more: VecDeque<(u64, PriorUse)>,
}

impl Mark {
    pub(super) fn of(key: &Key) -> Self {
        Self(Content::of([key.publisher().as_bytes(), key.text().as_bytes()]).to_bytes())
    }
}

impl Claims {
    /// Reads from this message on.
    pub(super) fn new(bounds: Bounds, first: u64) -> Self {
        Self {
            bounds,
            messages: VecDeque::new(),
            lows: VecDeque::new(),
            kept: HashMap::default(),
            whole_from: first,
            items: 0,
            hubs: BTreeMap::new(),
        }
    }

    /// A message was read. Messages are read in order; those between the last one and this are lost.
    pub(super) fn read(&mut self, number: u64, stamp_ms: u64, items: usize) {
        if self.messages.back().map_or(self.whole_from, |last| last.number + 1) < number {
            self.whole_from = number;
        }
        self.messages.push_back(ReadMessage { number, before: self.items, keys: Vec::new(), hub: None });
        self.items += items.max(1) as u64;
        // `>=`: of two with one stamp the later one answers for both, because it is remembered longer.
        while self.lows.back().is_some_and(|(_, low)| *low >= stamp_ms) {
            self.lows.pop_back();
        }
        self.lows.push_back((number, stamp_ms));
        while let Some(second) = self.messages.get(1).map(|second| second.number) {
            if !self.are_dead_before(second, stamp_ms) {
                break;
            }
            self.forget_first();
        }
    }

    /// What the claim of a pack in the last message is worth, whose writer had read up to `read`.
    pub(super) fn weigh(&self, read: u64, stamp_ms: u64) -> Claim {
        let from = read.saturating_add(1);
        // Whether it is dead comes first: that is so for everybody, also for a hub that lacks what lies between.
        if self.is_older_behind(from, self.bounds.age_ms, stamp_ms)
            || self.items_behind(from) > self.bounds.items
        {
            Claim::Dead
        } else if from < self.whole_from {
            Claim::Doubtful
        } else {
            Claim::Heeded
        }
    }

    /// Whether every claim from before `first` is dead that comes in this message or a later one, if brokers' clocks differ
    /// by no more than they may. `stamp_ms` is that of the last message.
    pub(super) fn are_dead_before(&self, first: u64, stamp_ms: u64) -> bool {
        let Bounds { age_ms, skew_ms, items } = self.bounds;
        self.is_older_behind(first, age_ms + skew_ms, stamp_ms) || self.items_behind(first) > items
    }

    /// Whether this pack of a hub, in the last message, comes behind all that were read of the same hub. If it does, the
    /// later ones must come behind it.
    pub(super) fn comes_in_order(&mut self, hub: HubId, pack: u64) -> bool {
        let Some(last) = self.messages.back_mut() else { return false };
        if self.hubs.get(&hub).is_some_and(|(before, _)| *before >= pack) {
            return false;
        }
        last.hub = Some(hub);
        self.hubs.insert(hub, (pack, last.number));
        true
    }

    /// What was first appended with this key behind message `read`.
    pub(super) fn find(&self, mark: Mark, read: u64) -> Option<PriorUse> {
        let kept = self.kept.get(&mark)?;
        let (number, prior) = kept.first;
        if number > read {
            return Some(prior);
        }
        kept.more.get(kept.more.partition_point(|(number, _)| *number <= read)).map(|(_, prior)| *prior)
    }

    /// Remembers what the last message has appended with this key.
    pub(super) fn keep(&mut self, mark: Mark, prior: PriorUse) {
        let Some(last) = self.messages.back_mut() else { return };
        last.keys.push(mark);
        let number = last.number;
        match self.kept.get_mut(&mark) {
            Some(kept) => kept.more.push_back((number, prior)),
            None => {
                self.kept.insert(mark, Kept { first: (number, prior), more: VecDeque::new() });
            }
        }
    }

    /// Whether any message from `from` on is so much older than this stamp.
    fn is_older_behind(&self, from: u64, age_ms: u64, stamp_ms: u64) -> bool {
        let first = self.lows.partition_point(|(number, _)| *number < from);
        self.lows.get(first).is_some_and(|(_, low)| low.saturating_add(age_ms) <= stamp_ms)
    }

    /// How many items are known to lie in messages from `from` on, before the last one.
    fn items_behind(&self, from: u64) -> u64 {
        let first = self.messages.partition_point(|message| message.number < from);
        match (self.messages.get(first), self.messages.back()) {
            (Some(first), Some(last)) => last.before - first.before,
            _ => 0,
        }
    }

    fn forget_first(&mut self) {
        let Some(first) = self.messages.pop_front() else { return };
        if self.lows.front().is_some_and(|(number, _)| *number <= first.number) {
            self.lows.pop_front();
        }
        for mark in first.keys {
            let Some(kept) = self.kept.get_mut(&mark) else { continue };
            match kept.more.pop_front() {
                Some(next) => kept.first = next,
                None => _ = self.kept.remove(&mark),
            }
        }
        if let Some(hub) = first.hub
            && self.hubs.get(&hub).is_some_and(|(_, number)| *number == first.number)
        {
            self.hubs.remove(&hub);
        }
        self.whole_from = self.whole_from.max(first.number + 1);
    }
}
