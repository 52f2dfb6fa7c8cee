//! Who belongs to which topics, and since when, counted in slots of the edge window.
//!
//! An event is granted if a membership held at its slot *and* one holds now; so what ended is remembered for as long as
//! the window holds anything from before its end. Where that is not known, the event is in doubt ([`Doubts`]): who belongs
//! to its topic now is told that something may be missing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use galaxy_push_core::reader::Entitled;
use galaxy_push_core::window::Slot;
use galaxy_push_proto::v1::Membership as Record;

use super::doubts::Doubts;
use super::topics::{Grant, Ground, Look, Spell, Topics};
use super::unix_ms;

/// The most ended spells remembered, over all memberships. Beyond it the oldest is forgotten, and all up to its end in doubt.
const ENDED_MAX: usize = 1 << 18;

/// A record that ends a membership leaves this much time to hand what lies before it to connections that keep up.
const LINGER_MS: u64 = 1_000;

/// All memberships.
#[derive(Debug, Default)]
pub(crate) struct Memberships {
    /// Connections keep what they are granted by; it is copied once if it changes meanwhile.
    by_holder: BTreeMap<Box<str>, Arc<Topics>>,
    /// Those that hold and expire, the next one first.
    expiries: BTreeSet<(u64, Box<str>, Box<str>)>,
    /// The spells that ended, in their order.
    ended: VecDeque<(Slot, Box<str>, Box<str>)>,
    held: usize,
    /// Between `Standing` and `CaughtUp`.
    catching_up: bool,
    /// Since the place in the log was lost.
    lost_at: Option<Slot>,
    /// Where that was, while the window holds it. Connections keep it, too.
    doubts: Arc<Doubts>,
}

/// A membership that began to hold, or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    /// `user:ID` or `session:ID`.
    pub(crate) holder: Box<str>,
    /// A topic's name, or the beginning of names with a trailing `*`.
    pub(crate) topic: Box<str>,
    pub(crate) holds: bool,
}

/// What the memberships of one connection grant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Granted {
    holders: Vec<Arc<Topics>>,
    doubts: Arc<Doubts>,
    now_ms: u64,
    keeps_up: bool,
}

impl Memberships {
    /// Begins anew with a window that does, without anything known.
    pub(crate) fn clear(&mut self) -> Vec<Moved> {
        let moved = self.open_keys().into_iter().map(|(holder, topic)| Moved { holder, topic, holds: false });
        let moved = moved.collect();
        *self = Self::default();
        moved
    }

    /// The place in the log is lost: who belongs where is not known from `at`, the slot of the next entry, until it is caught
    /// up with, but for what is replayed.
    pub(crate) fn lose(&mut self, at: Slot) {
        self.lost_at.get_or_insert(at);
    }

    /// Replaces all by what holds, as `Standing` said it; `at` is the slot of the next entry. What is replayed from now on
    /// is older.
    pub(crate) fn replace(&mut self, records: &[Record], at: Slot, now_ms: u64) -> Vec<Moved> {
        let mut moved = Vec::new();
        let holds = |record: &&Record| record.member && expiry(record) > now_ms;
        let named: BTreeSet<(&str, &str)> =
            records.iter().filter(holds).map(|r| (&*r.recipient, &*r.topic)).collect();
        for (holder, topic) in self.open_keys() {
            if !named.contains(&(&*holder, &*topic)) {
                moved.extend(self.end(&holder, &topic, at));
            }
        }
        for record in records.iter().filter(holds) {
            self.end(&record.recipient, &record.topic, at);
            moved.extend(self.begin(record, at, Ground::Standing, now_ms));
        }
        self.catching_up = true;
        moved
    }

    /// Applies a record of the log; `at` is the slot of the next entry.
    pub(crate) fn set(&mut self, record: &Record, at: Slot, now_ms: u64) -> Option<Moved> {
        if !record.member {
            if let Some(topics) = self.by_holder.get_mut(&*record.recipient) {
                Arc::make_mut(topics).end_lapse(&record.topic);
            }
            let moved = self.end(&record.recipient, &record.topic, at)?;
            if let Some(topics) = self.by_holder.get_mut(&moved.holder).filter(|_| !self.catching_up) {
                Arc::make_mut(topics).leave(&moved.topic, at, now_ms.saturating_add(LINGER_MS));
            }
            return Some(moved);
        }
        let ground = if self.catching_up { Ground::Replay } else { Ground::Log };
        self.begin(record, at, ground, now_ms)
    }

    /// The log was read to its end: what holds now is known, and what is to come; `at` is the slot of the next entry.
    pub(crate) fn caught_up(&mut self, at: Slot) {
        self.catching_up = false;
        if let Some(lost_at) = self.lost_at.take() {
            Arc::make_mut(&mut self.doubts).add(lost_at..at);
        }
        for topics in self.by_holder.values_mut().filter(|topics| !topics.are_settled()) {
            Arc::make_mut(topics).settle();
        }
    }

    /// Ends what has expired; `at` is the slot of the next entry.
    pub(crate) fn expire(&mut self, at: Slot, now_ms: u64) -> Vec<Moved> {
        let mut moved = Vec::new();
        while self.expiries.first().is_some_and(|(until_ms, ..)| *until_ms <= now_ms)
            && let Some((_, holder, topic)) = self.expiries.pop_first()
        {
            moved.extend(self.end(&holder, &topic, at));
            self.lapse(&holder, &topic, at);
        }
        moved
    }

    /// Forgets the spells from before the oldest entry that the window holds.
    pub(crate) fn forget_before(&mut self, oldest: Slot) {
        if self.doubts.reach_before(oldest) {
            Arc::make_mut(&mut self.doubts).forget_before(oldest);
        }
        while self.ended.front().is_some_and(|(end, ..)| *end <= oldest) || self.ended.len() > ENDED_MAX {
            let Some((end, holder, topic)) = self.ended.pop_front() else { break };
            if end > oldest {
                Arc::make_mut(&mut self.doubts).add_all_before(end);
            }
            let Some(topics) = self.by_holder.get_mut(&holder) else { continue };
            let topics = Arc::make_mut(topics);
            topics.forget_past(&topic, end);
            if topics.is_empty() {
                self.by_holder.remove(&holder);
            }
        }
    }

    /// The topics, or beginnings of them, that a holder belongs to.
    pub(crate) fn topics<'a>(&'a self, holder: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.by_holder.get(holder).into_iter().flat_map(|topics| topics.open())
    }

    /// What these holders are granted together.
    pub(crate) fn granted<'a>(&self, holders: impl Iterator<Item = &'a str>, now_ms: u64) -> Granted {
        let holders = holders.filter_map(|holder| self.by_holder.get(holder)).cloned().collect();
        Granted { holders, doubts: self.doubts.clone(), now_ms, keeps_up: false }
    }

    /// How many hold.
    pub(crate) const fn len(&self) -> usize {
        self.held
    }

    fn begin(&mut self, record: &Record, at: Slot, ground: Ground, now_ms: u64) -> Option<Moved> {
        let (holder, topic) = (record.recipient.as_str(), record.topic.as_str());
        let until_ms = expiry(record);
        if until_ms <= now_ms {
            let moved = self.end(holder, topic, at);
            if ground == Ground::Log {
                // Late, and over by now: how far it reached is in doubt, should it be said again.
                Arc::make_mut(self.by_holder.entry(holder.into()).or_default()).know(topic);
                self.ended.push_back((at, holder.into(), topic.into()));
                self.lapse(holder, topic, at);
            }
            return moved;
        }
        let topics = Arc::make_mut(self.by_holder.entry(holder.into()).or_default());
        if topics.has_lapsed(topic) {
            // Forgotten with the entries that were in doubt.
            self.ended.push_back((at, holder.into(), topic.into()));
        }
        let before = topics.begin(topic, Spell { since: at, until_ms, ground });
        if let Some(before) = before {
            self.expiries.remove(&(before.until_ms, holder.into(), topic.into()));
        }
        if until_ms != u64::MAX {
            self.expiries.insert((until_ms, holder.into(), topic.into()));
        }
        self.held += usize::from(before.is_none());
        before.is_none().then(|| Moved { holder: holder.into(), topic: topic.into(), holds: true })
    }

    fn end(&mut self, holder: &str, topic: &str, at: Slot) -> Option<Moved> {
        let topics = self.by_holder.get_mut(holder).filter(|topics| topics.holds(topic))?;
        let spell = Arc::make_mut(topics).end(topic, at)?;
        // One without an entry in it is queued too, so that the membership itself is forgotten.
        self.ended.push_back((at, holder.into(), topic.into()));
        self.expiries.remove(&(spell.until_ms, holder.into(), topic.into()));
        self.held -= 1;
        Some(Moved { holder: holder.into(), topic: topic.into(), holds: false })
    }

    fn lapse(&mut self, holder: &str, topic: &str, at: Slot) {
        if let Some(topics) = self.by_holder.get_mut(holder) {
            Arc::make_mut(topics).lapse(topic, at);
        }
    }

    fn open_keys(&self) -> Vec<(Box<str>, Box<str>)> {
        let mut open = Vec::new();
        for (holder, topics) in &self.by_holder {
            open.extend(topics.open().map(|topic| (holder.clone(), topic.into())));
        }
        open
    }
}

/// When a record ends, in milliseconds since the Unix epoch.
fn expiry(record: &Record) -> u64 {
    record.expires_at.as_ref().map_or(u64::MAX, unix_ms)
}

impl Granted {
    /// Goes by what holds at this time of the wall clock. Whoever keeps up is still handed for a moment what lies before a
    /// record that ends a membership: such a record takes effect in its place in the log.
    pub(crate) const fn at(&mut self, now_ms: u64, keeps_up: bool) {
        (self.now_ms, self.keeps_up) = (now_ms, keeps_up);
    }

    /// Whether an event for these topics, which lies at this slot, is granted. It looks at the memberships of these topics
    /// only, however many there are.
    pub(crate) fn entitles<'a>(&self, topics: impl Iterator<Item = &'a str>, slot: Slot) -> Entitled {
        let look = Look { slot, now_ms: self.now_ms, keeps_up: self.keeps_up };
        let mut grant = Grant::default();
        for topic in topics {
            for holder in &self.holders {
                grant = grant.or(holder.grant(topic, look));
            }
        }
        match grant {
            Grant { now: true, then: true, .. } => Entitled::Yes,
            Grant { now: true, in_doubt, .. } if in_doubt || self.doubts.contain(slot) => Entitled::Unknown,
            _ => Entitled::No,
        }
    }
}
