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
    left: Option<Left>,
    /// It had expired by the clock when this slot was the next, and has not been said since. What came behind may have been
    /// appended before it had, and only been late.
    lapsed_at: Option<Slot>,
    /// Where that was so, until it was said again, in their order.
    lapses: VecDeque<Range<Slot>>,
}

/// The record that ended the last spell.
#[derive(Clone, Copy, Debug)]
struct Left {
    at: Slot,
    /// Until then, whoever keeps up is still handed what lies before it.
    until_ms: u64,
}

/// One look at an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) slot: Slot,
    pub(super) now_ms: u64,
    /// It is on its way to a connection that takes everything as it comes.
    pub(super) keeps_up: bool,
}

/// A time in which a membership holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spell {
    pub(super) since: Slot,
    pub(super) until_ms: u64,
    pub(super) ground: Ground,
}

/// What memberships say of one event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Grant {
    /// One held when the event was appended.
    pub(super) then: bool,
    /// One holds now, the same one or another.
    pub(super) now: bool,
    /// Nobody knows whether one held then.
    pub(super) in_doubt: bool,
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
                // It is known from the first record of it that is replayed; what lies before is in doubt.
                spell.ground = Ground::Log;
            } else {
                (spell.since, spell.ground) = (before.since, before.ground);
            }
        }
        if before.is_none()
            && let Some(lapsed_at) = membership.lapsed_at.take()
        {
            membership.lapses.push_back(lapsed_at..spell.since);
        }
        membership.now = Some(spell);
        before
    }

    /// Has a place for a topic that it may not belong to.
    pub(super) fn know(&mut self, topic: &str) {
        if let Some(beginning) = topic.strip_suffix('*') {
            self.beginnings.insert(beginning.into());
        }
        self.memberships.entry(topic.into()).or_default();
    }

    /// A spell has expired, or had when its record came.
    pub(super) fn lapse(&mut self, topic: &str, at: Slot) {
        if let Some(membership) = self.memberships.get_mut(topic) {
            membership.lapsed_at.get_or_insert(at);
        }
    }

    /// Whether a spell has expired, and none has begun since.
    pub(super) fn has_lapsed(&self, topic: &str) -> bool {
        self.memberships.get(topic).is_some_and(|membership| membership.lapsed_at.is_some())
    }

    /// A record says that it holds no longer: nothing is in doubt.
    pub(super) fn end_lapse(&mut self, topic: &str) {
        if let Some(membership) = self.memberships.get_mut(topic) {
            membership.lapsed_at = None;
        }
    }

    /// Ends the spell that holds.
    pub(super) fn end(&mut self, topic: &str, at: Slot) -> Option<Spell> {
        let membership = self.memberships.get_mut(topic)?;
        let spell = membership.now.take()?;
        // Whether one that only `Standing` named held all the while is not known: what lies there is in doubt.
        if spell.since < at && spell.ground != Ground::Standing {
            membership.past.push_back(spell.since..at);
        }
        Some(spell)
    }

    /// The spell that was just ended was ended by a record of the log.
    pub(super) fn leave(&mut self, topic: &str, at: Slot, until_ms: u64) {
        if let Some(membership) = self.memberships.get_mut(topic) {
            membership.left = Some(Left { at, until_ms });
        }
    }

    /// Forgets the spells of a topic that ended up to this slot.
    pub(super) fn forget_past(&mut self, topic: &str, end: Slot) {
        let Some(membership) = self.memberships.get_mut(topic) else { return };
        while membership.past.front().is_some_and(|spell| spell.end <= end) {
            membership.past.pop_front();
        }
        membership.lapses.retain(|lapse| lapse.end > end);
        if membership.past.is_empty() && membership.lapses.is_empty() && membership.now.is_none() {
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

    /// What the memberships of this topic, by its name or a beginning of it, say of an event.
    pub(super) fn grant(&self, topic: &str, look: Look) -> Grant {
        let grant_of = |name: &str| {
            self.memberships.get(name).map_or_else(Grant::default, |membership| membership.grant(look))
        };
        let mut grant = grant_of(topic);
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
            grant = grant.or(grant_of(&format!("{last}*")));
            let Some((shorter, _)) = last.char_indices().next_back() else { break };
            part = &part[..shorter];
        }
        grant
    }
}

impl Grant {
    /// What both say together.
    pub(super) const fn or(self, other: Self) -> Self {
        Self {
            then: self.then || other.then,
            now: self.now || other.now,
            in_doubt: self.in_doubt || other.in_doubt,
        }
    }
}

impl Membership {
    fn grant(&self, Look { slot, now_ms, keeps_up }: Look) -> Grant {
        let first = self.past.partition_point(|spell| spell.end <= slot);
        let past = self.past.get(first).is_some_and(|spell| spell.contains(&slot));
        let lingers = self.left.is_some_and(|left| keeps_up && slot < left.at && now_ms < left.until_ms);
        let in_doubt = self.lapses.iter().any(|lapse| lapse.contains(&slot));
        let Some(now) = self.now else { return Grant { then: past, now: lingers, in_doubt } };
        let holds = now.ground != Ground::Replay && now.until_ms > now_ms;
        Grant { then: past || now.since <= slot, now: holds || lingers, in_doubt }
    }
}

/// How many bytes two texts have in common from their beginning, in whole characters.
fn shared_bytes(one: &str, other: &str) -> usize {
    let alike = one.chars().zip(other.chars()).take_while(|(one, other)| one == other);
    alike.map(|(one, _)| one.len_utf8()).sum()
}
