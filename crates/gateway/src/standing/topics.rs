//! The topics of one holder, each with the times in which it belonged to it.
//!
//! Part of [`Memberships`](super::Memberships), and shared with the connections that are granted something by it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{Bound, Range};

use galaxy_push_core::window::Slot;

/// One holder's memberships.
#[derive(Clone, Debug, Default)]
pub(super) struct Topics {
    /// By name; one that ends with `*` stands for all names that begin alike.
    memberships: BTreeMap<Box<str>, Membership>,
    /// The names that end with `*`, without it.
    beginnings: BTreeSet<Box<str>>,
}

/// A membership of one topic, or of all that begin alike.
#[derive(Clone, Debug, Default)]
struct Membership {
    /// The spells that are over, in their order.
    past: VecDeque<Range<Slot>>,
    now: Option<Spell>,
}

/// A time in which a membership holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spell {
    pub(super) since: Slot,
    pub(super) until_ms: u64,
    pub(super) ground: Ground,
}

/// What a spell rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    /// The log.
    Log,
    /// `Standing`, which does not say since when; a record replayed after it may.
    Standing,
    /// A replayed record that `Standing` does not bear out: it does not count before `CaughtUp`.
    Replay,
}

impl Topics {
    /// Begins a spell, or renews the one that holds, which is returned as it was.
    pub(super) fn begin(&mut self, topic: &str, mut spell: Spell) -> Option<Spell> {
        if let Some(beginning) = topic.strip_suffix('*') {
            self.beginnings.insert(beginning.into());
        }
        let membership = self.memberships.entry(topic.into()).or_default();
        let before = membership.now;
        if let Some(before) = before {
            if before.ground == Ground::Standing {
                // It begins with the first record of it that is replayed.
                spell.ground = Ground::Log;
            } else {
                (spell.since, spell.ground) = (before.since, before.ground);
            }
        }
        membership.now = Some(spell);
        before
    }

    /// Ends the spell that holds.
    pub(super) fn end(&mut self, topic: &str, at: Slot) -> Option<Spell> {
        let membership = self.memberships.get_mut(topic)?;
        let spell = membership.now.take()?;
        // Whether one that only `Standing` named held all the while is not known.
        if spell.since < at && spell.ground != Ground::Standing {
            membership.past.push_back(spell.since..at);
        }
        Some(spell)
    }

    /// Forgets the spells of a topic that ended up to this slot.
    pub(super) fn forget_past(&mut self, topic: &str, end: Slot) {
        let Some(membership) = self.memberships.get_mut(topic) else { return };
        while membership.past.front().is_some_and(|spell| spell.end <= end) {
            membership.past.pop_front();
        }
        if membership.past.is_empty() && membership.now.is_none() {
            self.memberships.remove(topic);
            if let Some(beginning) = topic.strip_suffix('*') {
                self.beginnings.remove(beginning);
            }
        }
    }

    /// Whether a membership of this very name holds.
    pub(super) fn holds(&self, topic: &str) -> bool {
        self.memberships.get(topic).is_some_and(|membership| membership.now.is_some())
    }

    /// The names of those that hold.
    pub(super) fn open(&self) -> impl Iterator<Item = &str> {
        self.memberships.iter().filter(|(_, membership)| membership.now.is_some()).map(|(topic, _)| &**topic)
    }

    /// Whether nothing is known of any topic.
    pub(super) fn is_empty(&self) -> bool {
        self.memberships.is_empty()
    }

    /// Whether all that holds rests on the log.
    pub(super) fn are_settled(&self) -> bool {
        self.memberships
            .values()
            .filter_map(|membership| membership.now)
            .all(|spell| spell.ground == Ground::Log)
    }

    /// Lets all that holds rest on the log.
    pub(super) fn settle(&mut self) {
        let spells = self.memberships.values_mut().filter_map(|membership| membership.now.as_mut());
        spells.for_each(|spell| spell.ground = Ground::Log);
    }

    /// Whether a membership of this topic, by its name or its beginning, held at this slot and holds now.
    pub(super) fn grant(&self, topic: &str, slot: Slot, now_ms: u64) -> bool {
        let grants =
            |name: &str| self.memberships.get(name).is_some_and(|membership| membership.grants(slot, now_ms));
        if grants(topic) {
            return true;
        }
        let mut part = topic;
        // Of all that do not sort behind a text, the last one shares the most with it: what shares more would come later.
        while let Some(last) =
            self.beginnings.range::<str, _>((Bound::Unbounded, Bound::Included(part))).next_back()
        {
            let shared = shared_bytes(last, part);
            if shared < last.len() {
                part = &part[..shared];
                continue;
            }
            if grants(&format!("{last}*")) {
                return true;
            }
            let Some((shorter, _)) = last.char_indices().next_back() else { return false };
            part = &part[..shorter];
        }
        false
    }
}

impl Membership {
    fn grants(&self, slot: Slot, now_ms: u64) -> bool {
        let counts = |spell: &Spell| spell.ground != Ground::Replay && spell.until_ms > now_ms;
        let Some(now) = self.now.filter(counts) else { return false };
        let first = self.past.partition_point(|spell| spell.end <= slot);
        now.since <= slot || self.past.get(first).is_some_and(|spell| spell.contains(&slot))
    }
}

/// How many bytes two texts have in common from their beginning, in whole characters.
fn shared_bytes(one: &str, other: &str) -> usize {
    let alike = one.chars().zip(other.chars()).take_while(|(one, other)| one == other);
    alike.map(|(one, _)| one.len_utf8()).sum()
}
