//! Who belongs to which topics, and since when, counted in slots of the edge window.
//!
//! An event is granted by a membership that held at its slot *and* holds now; so what ended is remembered for as long as
//! the window holds anything from before its end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use galaxy_push_core::window::Slot;
use galaxy_push_proto::v1::Membership as Record;

use super::unix_ms;

/// The most ended spells remembered, over all memberships. Beyond it the oldest is forgotten, and what it granted denied.
const ENDED_MAX: usize = 1 << 18;

/// All memberships.
#[derive(Debug, Default)]
pub(crate) struct Memberships {
    by_holder: BTreeMap<Box<str>, BTreeMap<Box<str>, Membership>>,
    /// Those that hold and expire, the next one first.
    expiries: BTreeSet<(u64, Box<str>, Box<str>)>,
    /// The spells that ended, in their order.
    ended: VecDeque<(Slot, Box<str>, Box<str>)>,
    held: usize,
    /// Between `Standing` and `CaughtUp`.
    catching_up: bool,
}

/// One holder's membership of one topic, or of all that begin alike.
#[derive(Clone, Debug, Default)]
struct Membership {
    past: Vec<Range<Slot>>,
    now: Option<Spell>,
}

/// A time in which a membership holds.
#[derive(Clone, Copy, Debug)]
struct Spell {
    since: Slot,
    until_ms: u64,
    ground: Ground,
}

/// What a spell rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ground {
    /// The log.
    Log,
    /// `Standing`, which does not say since when; a record replayed after it may.
    Standing,
    /// A replayed record that `Standing` does not bear out: it does not count before `CaughtUp`.
    Replay,
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
    grants: Vec<Grant>,
    /// From then on it has to be looked up anew, in milliseconds since the Unix epoch.
    pub(crate) stale_ms: u64,
}

#[derive(Clone, Debug)]
struct Grant {
    topic: Box<str>,
    spells: Vec<Range<Slot>>,
    since: Slot,
}

impl Memberships {
    /// Begins anew with a window that does, without anything known.
    pub(crate) fn clear(&mut self) -> Vec<Moved> {
        let moved = self.open_keys().into_iter().map(|(holder, topic)| Moved { holder, topic, holds: false });
        let moved = moved.collect();
        *self = Self::default();
        moved
    }

    /// Replaces all by what holds, as `Standing` said it; `at` is the slot of the next entry. What is replayed from now on
    /// is older.
    pub(crate) fn replace(&mut self, records: &[Record], at: Slot, now_ms: u64) -> Vec<Moved> {
        let mut moved = Vec::new();
        let named: BTreeSet<(&str, &str)> = records.iter().map(|r| (&*r.recipient, &*r.topic)).collect();
        for (holder, topic) in self.open_keys() {
            if !named.contains(&(&*holder, &*topic)) {
                moved.extend(self.end(&holder, &topic, at));
            }
        }
        for record in records {
            self.end(&record.recipient, &record.topic, at);
            moved.extend(self.begin(record, at, Ground::Standing, now_ms));
        }
        self.catching_up = true;
        moved
    }

    /// Applies a record of the log; `at` is the slot of the next entry.
    pub(crate) fn set(&mut self, record: &Record, at: Slot, now_ms: u64) -> Option<Moved> {
        if !record.member {
            return self.end(&record.recipient, &record.topic, at);
        }
        let ground = if self.catching_up { Ground::Replay } else { Ground::Log };
        self.begin(record, at, ground, now_ms)
    }

    /// The log was read to its end: what holds now is known.
    pub(crate) fn caught_up(&mut self) {
        self.catching_up = false;
        let all = self.by_holder.values_mut().flat_map(BTreeMap::values_mut);
        all.filter_map(|membership| membership.now.as_mut()).for_each(|spell| spell.ground = Ground::Log);
    }

    /// Ends what has expired; `at` is the slot of the next entry.
    pub(crate) fn expire(&mut self, at: Slot, now_ms: u64) -> Vec<Moved> {
        let mut moved = Vec::new();
        while let Some((until_ms, holder, topic)) = self.expiries.first().cloned() {
            if until_ms > now_ms {
                break;
            }
            moved.extend(self.end(&holder, &topic, at));
        }
        moved
    }

    /// Forgets the spells from before the oldest entry that the window holds.
    pub(crate) fn forget_before(&mut self, oldest: Slot) {
        while self.ended.front().is_some_and(|(end, ..)| *end <= oldest) || self.ended.len() > ENDED_MAX {
            let Some((end, holder, topic)) = self.ended.pop_front() else { break };
            let Some(topics) = self.by_holder.get_mut(&holder) else { continue };
            let Some(membership) = topics.get_mut(&topic) else { continue };
            membership.past.retain(|spell| spell.end > end);
            if membership.past.is_empty() && membership.now.is_none() {
                topics.remove(&topic);
                if topics.is_empty() {
                    self.by_holder.remove(&holder);
                }
            }
        }
    }

    /// The topics, or beginnings of them, that a holder belongs to.
    pub(crate) fn topics<'a>(&'a self, holder: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let topics = self.by_holder.get(holder).into_iter().flatten();
        topics.filter(|(_, membership)| membership.now.is_some()).map(|(topic, _)| &**topic)
    }

    /// What these holders are granted together.
    pub(crate) fn granted<'a>(&self, holders: impl Iterator<Item = &'a str>, now_ms: u64) -> Granted {
        let mut granted = Granted { grants: Vec::new(), stale_ms: u64::MAX };
        for (topic, membership) in holders.filter_map(|holder| self.by_holder.get(holder)).flatten() {
            let counts = |spell: &Spell| spell.ground != Ground::Replay && spell.until_ms > now_ms;
            let Some(now) = membership.now.filter(counts) else { continue };
            granted.stale_ms = granted.stale_ms.min(now.until_ms);
            let (topic, spells) = (topic.clone(), membership.past.clone());
            granted.grants.push(Grant { topic, spells, since: now.since });
        }
        granted
    }

    /// How many hold.
    pub(crate) const fn len(&self) -> usize {
        self.held
    }

    fn begin(&mut self, record: &Record, at: Slot, ground: Ground, now_ms: u64) -> Option<Moved> {
        let (holder, topic) = (record.recipient.as_str(), record.topic.as_str());
        let until_ms = record.expires_at.as_ref().map_or(u64::MAX, unix_ms);
        if until_ms <= now_ms {
            return self.end(holder, topic, at);
        }
        let membership = self.by_holder.entry(holder.into()).or_default().entry(topic.into()).or_default();
        let before = membership.now.replace(Spell { since: at, until_ms, ground });
        if let (Some(spell), Some(before)) = (&mut membership.now, before) {
            // Renewed. A spell that `Standing` named begins with the first record of it that is replayed.
            spell.since = if before.ground == Ground::Standing { at } else { before.since };
            spell.ground = if before.ground == Ground::Standing { Ground::Log } else { before.ground };
            self.expiries.remove(&(before.until_ms, holder.into(), topic.into()));
        }
        if until_ms != u64::MAX {
            self.expiries.insert((until_ms, holder.into(), topic.into()));
        }
        self.held += usize::from(before.is_none());
        before.is_none().then(|| Moved { holder: holder.into(), topic: topic.into(), holds: true })
    }

    fn end(&mut self, holder: &str, topic: &str, at: Slot) -> Option<Moved> {
        let membership = self.by_holder.get_mut(holder)?.get_mut(topic)?;
        let spell = membership.now.take()?;
        // Whether one that only `Standing` named held all the while is not known.
        if spell.since < at && spell.ground != Ground::Standing {
            membership.past.push(spell.since..at);
        }
        // One without an entry in it is queued too, so that the membership itself is forgotten.
        self.ended.push_back((at, holder.into(), topic.into()));
        self.expiries.remove(&(spell.until_ms, holder.into(), topic.into()));
        self.held -= 1;
        Some(Moved { holder: holder.into(), topic: topic.into(), holds: false })
    }

    fn open_keys(&self) -> Vec<(Box<str>, Box<str>)> {
        let mut open = Vec::new();
        for (holder, topics) in &self.by_holder {
            let topics = topics.iter().filter(|(_, membership)| membership.now.is_some());
            open.extend(topics.map(|(topic, _)| (holder.clone(), topic.clone())));
        }
        open
    }
}

impl Granted {
    /// Whether an event for this topic, which lies at this slot, is granted.
    pub(crate) fn admits(&self, topic: &str, slot: Slot) -> bool {
        let named = |grant: &&Grant| match grant.topic.strip_suffix('*') {
            Some(beginning) => topic.starts_with(beginning),
            None => *grant.topic == *topic,
        };
        let held =
            |grant: &Grant| grant.since <= slot || grant.spells.iter().any(|spell| spell.contains(&slot));
        self.grants.iter().filter(named).any(held)
    }
}
