//! The topics of one holder (a user or a session), each with the intervals in which it belonged to it.
//!
//! Part of [`Memberships`](super::Memberships), and shared with the connections that are granted something by it.
//!
//! What a membership keeps, for a holder that belonged at slots 2 to 5, left, and belongs again since 9:
//!
//! ```text
//! past         [2..6]                      an event at 4 was granted then
//! now          since 9, evidence: Log      an event at 7 was not, at 12 it is
//! departure    at 6, for one second        a live connection that is behind still receives 4 and 5, as granted now
//! ```

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
    /// The intervals that are over, in their order.
    past: VecDeque<Range<Slot>>,
    /// The interval that holds.
    now: Option<Interval>,
    departure: Option<Departure>,
    /// It had expired by this gateway's clock, and no record has named it since.
    expired: Option<Expiry>,
    /// Where that was so, from an expiry to the record that named the membership again or to where the log had surely come to
    /// the expiry, in their order.
    unknown: VecDeque<Range<Slot>>,
}

/// An expiry by this gateway's clock. An event behind it may have been appended before, and only been late: so whether it was
/// granted is unknown.
#[derive(Clone, Copy, Debug)]
struct Expiry {
    /// The slot that was the next one then.
    at: Slot,
    /// When the membership ended, in milliseconds since the Unix epoch.
    until_ms: u64,
}

/// The record that ended the last interval.
#[derive(Clone, Copy, Debug)]
struct Departure {
    at: Slot,
    /// Until then, a live connection still receives what lies before it.
    until_ms: u64,
}

/// The question whether an event is granted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lookup {
    pub(super) slot: Slot,
    pub(super) now_ms: u64,
    /// The event comes from the mailbox of a connection that keeps up.
    pub(super) is_live: bool,
}

/// A time in which a membership holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    pub(super) since: Slot,
    pub(super) until_ms: u64,
    pub(super) evidence: Evidence,
}

/// What memberships say of one event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Grant {
    /// One held when the event was appended.
    pub(super) at_append: bool,
    /// One holds now, the same one or another.
    pub(super) now: bool,
    /// Nobody knows whether one held then.
    pub(super) unknown: bool,
}

/// What is known of the beginning of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// A record of the log, in its place: it began there.
    Log,
    /// `Standing`, which does not say since when. A record that is replayed after it turns it into [`Evidence::Log`].
    Snapshot,
    /// A replayed record that `Standing` does not confirm: it may have been taken back since, so it grants nothing before
    /// `CaughtUp`.
    Replay,
}

impl Topics {
    /// Begins an interval, or renews the one that holds, which is returned as it was.
    pub(super) fn begin(&mut self, topic: &str, mut interval: Interval) -> Option<Interval> {
        if let Some(beginning) = topic.strip_suffix('*') {
            self.beginnings.insert(beginning.into());
        }
        let membership = self.memberships.entry(topic.into()).or_default();
        let before = membership.now;
        if let Some(before) = before {
            if before.evidence == Evidence::Snapshot {
                // It is known from the first record of it that is replayed; before that it is unknown.
                interval.evidence = Evidence::Log;
            } else {
                (interval.since, interval.evidence) = (before.since, before.evidence);
            }
        }
        membership.now = Some(interval);
        before
    }

    /// Keeps a topic that the holder may not belong to.
    pub(super) fn track(&mut self, topic: &str) {
        if let Some(beginning) = topic.strip_suffix('*') {
            self.beginnings.insert(beginning.into());
        }
        self.memberships.entry(topic.into()).or_default();
    }

    /// An interval that ended at `until_ms` has expired, or had when its record came; `at` is the slot of the next entry.
    pub(super) fn mark_expired(&mut self, topic: &str, at: Slot, until_ms: u64) {
        if let Some(membership) = self.memberships.get_mut(topic) {
            let earlier = membership.expired.map_or((at, until_ms), |expiry| (expiry.at, expiry.until_ms));
            membership.expired = Some(Expiry { at: earlier.0, until_ms: earlier.1.max(until_ms) });
        }
    }

    /// When an interval expired of which nobody knows how far it reached: in milliseconds since the Unix epoch.
    pub(super) fn expired_ms(&self, topic: &str) -> Option<u64> {
        self.memberships.get(topic)?.expired.map(|expiry| expiry.until_ms)
    }

    /// What lies at this slot or behind it was appended after the expiry for certain. `true`: there was one.
    pub(super) fn settle_expiry(&mut self, topic: &str, at: Slot) -> bool {
        self.memberships.get_mut(topic).is_some_and(|membership| membership.settle_expiry(at))
    }

    /// Ends the interval that holds.
    pub(super) fn end(&mut self, topic: &str, at: Slot) -> Option<Interval> {
        let membership = self.memberships.get_mut(topic)?;
        let interval = membership.now.take()?;
        // Whether one that only `Standing` named held all the while is unknown.
        if interval.since < at && interval.evidence != Evidence::Snapshot {
            membership.past.push_back(interval.since..at);
        }
        Some(interval)
    }

    /// The interval that was just ended was ended by a record of the log.
    pub(super) fn note_departure(&mut self, topic: &str, at: Slot, until_ms: u64) {
        if let Some(membership) = self.memberships.get_mut(topic) {
            membership.departure = Some(Departure { at, until_ms });
        }
    }

    /// Forgets the intervals of a topic that ended up to this slot.
    pub(super) fn forget_past(&mut self, topic: &str, end: Slot) {
        let Some(membership) = self.memberships.get_mut(topic) else { return };
        while membership.past.front().is_some_and(|interval| interval.end <= end) {
            membership.past.pop_front();
        }
        membership.unknown.retain(|range| range.end > end);
        // With an expiry it stays until that is settled: the membership may be named again before.
        let is_over = membership.now.is_none() && membership.expired.is_none();
        if is_over && membership.past.is_empty() && membership.unknown.is_empty() {
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
    pub(super) fn current(&self) -> impl Iterator<Item = &str> {
        self.memberships.iter().filter(|(_, membership)| membership.now.is_some()).map(|(topic, _)| &**topic)
    }

    /// Whether nothing is known of any topic.
    pub(super) fn is_empty(&self) -> bool {
        self.memberships.is_empty()
    }

    /// Whether all that holds rests on the log.
    pub(super) fn are_confirmed(&self) -> bool {
        self.memberships
            .values()
            .filter_map(|membership| membership.now)
            .all(|interval| interval.evidence == Evidence::Log)
    }

    /// Lets all that holds rest on the log.
    pub(super) fn confirm(&mut self) {
        let intervals = self.memberships.values_mut().filter_map(|membership| membership.now.as_mut());
        intervals.for_each(|interval| interval.evidence = Evidence::Log);
    }

    /// What the memberships of this topic, by its name or a beginning of it, say of an event.
    pub(super) fn grant(&self, topic: &str, lookup: Lookup) -> Grant {
        let grant_of = |name: &str| {
            self.memberships.get(name).map_or_else(Grant::default, |membership| membership.grant(lookup))
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
            at_append: self.at_append || other.at_append,
            now: self.now || other.now,
            unknown: self.unknown || other.unknown,
        }
    }
}

impl Membership {
    fn settle_expiry(&mut self, at: Slot) -> bool {
        let Some(expiry) = self.expired.take() else { return false };
        if expiry.at < at {
            self.unknown.push_back(expiry.at..at);
        }
        true
    }

    fn grant(&self, Lookup { slot, now_ms, is_live }: Lookup) -> Grant {
        let first = self.past.partition_point(|interval| interval.end <= slot);
        let past = self.past.get(first).is_some_and(|interval| interval.contains(&slot));
        let in_grace = self
            .departure
            .is_some_and(|departure| is_live && slot < departure.at && now_ms < departure.until_ms);
        // After an expiry that was seen late, too: whoever belongs to the topic by another membership may have been owed these.
        let unknown = self.unknown.iter().any(|range| range.contains(&slot))
            || self.expired.is_some_and(|expiry| expiry.at <= slot);
        let Some(now) = self.now else { return Grant { at_append: past, now: in_grace, unknown } };
        let holds = now.evidence != Evidence::Replay && now.until_ms > now_ms;
        Grant { at_append: past || now.since <= slot, now: holds || in_grace, unknown }
    }
}

/// How many bytes two texts have in common from their beginning, in whole characters.
fn shared_bytes(one: &str, other: &str) -> usize {
    let alike = one.chars().zip(other.chars()).take_while(|(one, other)| one == other);
    alike.map(|(one, _)| one.len_utf8()).sum()
}
