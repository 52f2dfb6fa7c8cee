//! Who belongs to which topics, and since when, counted in slots of the edge window.
//!
//! An event is granted if a membership held at its slot *and* one holds now; so what ended is remembered for as long as
//! the window holds anything from before its end. Where that is not known ([`UnknownRanges`]), who belongs to the event's
//! topic now is told that something may be missing.
//!
//! Bounded: as many memberships as the hub holds, [`ENDED_MAX`] intervals that ended, 64 unknown ranges.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use galaxy_push_core::reader::Entitled;
use galaxy_push_core::window::Slot;
use galaxy_push_proto::v1::Membership as Record;

use super::topics::{Evidence, Grant, Interval, Lookup, Topics};
use super::unix_ms;
use super::unknown::UnknownRanges;

/// The most ended intervals remembered, over all memberships. Beyond it the oldest is forgotten, and
/// all up to its end is unknown.
const ENDED_MAX: usize = 1 << 18;

/// An event that the hub stamped so much later than a membership's end was appended after it, whosever clock was wrong. The
/// number is ours: far above what clocks may be apart before somebody is warned.
const SURELY_OVER_MS: u64 = 60_000;

/// A record that ends a membership leaves this much time to hand what lies before it to connections that keep up.
const GRACE_MS: u64 = 1_000;

/// All memberships.
#[derive(Debug, Default)]
pub(crate) struct Memberships {
    /// Connections keep what they are granted by; it is copied once if it changes meanwhile.
    by_holder: BTreeMap<Box<str>, Arc<Topics>>,
    /// Those that hold and expire, the next one first.
    expiries: BTreeSet<(u64, Box<str>, Box<str>)>,
    /// Those that expired by this gateway's clock, while the log may not have come to their end; the next one first. At most
    /// [`ENDED_MAX`]: beyond it the first counts as over where the log is now.
    doubtful: BTreeSet<(u64, Box<str>, Box<str>)>,
    /// The intervals that ended, in their order.
    ended: VecDeque<(Slot, Box<str>, Box<str>)>,
    held: usize,
    /// Between `Standing` and `CaughtUp`.
    catching_up: bool,
    /// Since this slot it is unknown who belongs to what, until the log was read to its end.
    unknown_since: Option<Slot>,
    /// Where that was so, while the window holds it. Shared with the connections.
    unknown: Arc<UnknownRanges>,
}

/// A membership that began to hold, or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MembershipChange {
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
    unknown: Arc<UnknownRanges>,
    now_ms: u64,
    is_live: bool,
}

impl Memberships {
    /// Begins anew with a window that does, without anything known.
    pub(crate) fn clear(&mut self) -> Vec<MembershipChange> {
        let changes = self.current_keys().into_iter().map(|(holder, topic)| MembershipChange {
            holder,
            topic,
            holds: false,
        });
        let changes = changes.collect();
        *self = Self::default();
        changes
    }

    /// This gateway no longer knows where it is in the log: from `at`, the slot of the next entry, until the log was read to
    /// its end, who belongs to what is unknown, but for what is replayed.
    pub(crate) fn position_lost(&mut self, at: Slot) {
        self.unknown_since.get_or_insert(at);
    }

    /// Replaces all by what holds, as `Standing` said it; `at` is the slot of the next entry. What is replayed from now on
    /// is older.
    pub(crate) fn replace_all(&mut self, records: &[Record], at: Slot, now_ms: u64) -> Vec<MembershipChange> {
        let mut changes = Vec::new();
        let holds = |record: &&Record| record.member && expiry(record) > now_ms;
        let named: BTreeSet<(&str, &str)> =
            records.iter().filter(holds).map(|r| (&*r.recipient, &*r.topic)).collect();
        for (holder, topic) in self.current_keys() {
            if !named.contains(&(&*holder, &*topic)) {
                changes.extend(self.end(&holder, &topic, at));
            }
        }
        for record in records.iter().filter(holds) {
            // Also one that goes on: since when it holds is not said, and it may have ended and begun again. To the mailboxes that end
            // is no change.
            self.end(&record.recipient, &record.topic, at);
            changes.extend(self.begin(record, at, Evidence::Snapshot, now_ms));
        }
        self.catching_up = true;
        changes
    }

    /// Applies a record of the log; `at` is the slot of the next entry.
    pub(crate) fn apply_record(
        &mut self,
        record: &Record,
        at: Slot,
        now_ms: u64,
    ) -> Option<MembershipChange> {
        if !record.member {
            // It may have expired before: how far it reached is unknown up to here.
            self.settle_expiry(&record.recipient, &record.topic, at);
            let changes = self.end(&record.recipient, &record.topic, at)?;
            if let Some(topics) = self.by_holder.get_mut(&changes.holder).filter(|_| !self.catching_up) {
                Arc::make_mut(topics).note_departure(&changes.topic, at, now_ms.saturating_add(GRACE_MS));
            }
            return Some(changes);
        }
        let evidence = if self.catching_up { Evidence::Replay } else { Evidence::Log };
        self.begin(record, at, evidence, now_ms)
    }

    /// The log was read to its end: what holds now is known, and what is to come; `at` is the slot of the next entry.
    pub(crate) fn caught_up(&mut self, at: Slot) {
        self.catching_up = false;
        if let Some(unknown_since) = self.unknown_since.take() {
            Arc::make_mut(&mut self.unknown).add(unknown_since..at);
        }
        for topics in self.by_holder.values_mut().filter(|topics| !topics.are_confirmed()) {
            Arc::make_mut(topics).confirm();
        }
    }

    /// Ends what has expired; `at` is the slot of the next entry.
    pub(crate) fn expire(&mut self, at: Slot, now_ms: u64) -> Vec<MembershipChange> {
        let mut changes = Vec::new();
        while self.expiries.first().is_some_and(|(until_ms, ..)| *until_ms <= now_ms)
            && let Some((until_ms, holder, topic)) = self.expiries.pop_first()
        {
            changes.extend(self.end(&holder, &topic, at));
            self.mark_expired(&holder, &topic, at, until_ms);
        }
        changes
    }

    /// Whether it is unknown of some that have expired how far they reached.
    pub(crate) fn are_doubtful(&self) -> bool {
        !self.doubtful.is_empty()
    }

    /// Whether the log coming to this time of the hub, in milliseconds since the Unix epoch, settles how far some membership
    /// reached.
    pub(crate) fn is_settled_by(&self, log_ms: u64) -> bool {
        let over = |(until_ms, ..): &(u64, _, _)| until_ms.saturating_add(SURELY_OVER_MS) <= log_ms;
        self.doubtful.first().is_some_and(over) || self.doubtful.len() > ENDED_MAX
    }

    /// The log has come to this time of the hub: what expired well before it grants nothing from `at` on, the slot of the next
    /// entry.
    pub(crate) fn log_reached(&mut self, log_ms: u64, at: Slot) {
        while self.is_settled_by(log_ms)
            && let Some((_, holder, topic)) = self.doubtful.pop_first()
        {
            self.settle_expiry(&holder, &topic, at);
        }
    }

    /// Forgets the intervals from before the oldest entry that the window holds.
    pub(crate) fn forget_before(&mut self, oldest: Slot) {
        if self.unknown.any_before(oldest) {
            Arc::make_mut(&mut self.unknown).forget_before(oldest);
        }
        // `<=`: an interval ends before the slot `end`, so nothing that is held lies in it.
        while self.ended.front().is_some_and(|(end, ..)| *end <= oldest) || self.ended.len() > ENDED_MAX {
            let Some((end, holder, topic)) = self.ended.pop_front() else { break };
            if end > oldest {
                // Forgotten for lack of room and not of age: what it granted, nobody can tell any more.
                Arc::make_mut(&mut self.unknown).add_all_before(end);
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
        self.by_holder.get(holder).into_iter().flat_map(|topics| topics.current())
    }

    /// What these holders are granted together.
    pub(crate) fn granted<'a>(&self, holders: impl Iterator<Item = &'a str>, now_ms: u64) -> Granted {
        let holders = holders.filter_map(|holder| self.by_holder.get(holder)).cloned().collect();
        Granted { holders, unknown: self.unknown.clone(), now_ms, is_live: false }
    }

    /// How many hold.
    pub(crate) const fn len(&self) -> usize {
        self.held
    }

    /// Begins an interval, or renews the one that holds. `Some`: the membership did not hold before, or no longer does.
    fn begin(
        &mut self,
        record: &Record,
        at: Slot,
        evidence: Evidence,
        now_ms: u64,
    ) -> Option<MembershipChange> {
        let (holder, topic) = (record.recipient.as_str(), record.topic.as_str());
        let until_ms = expiry(record);
        if until_ms <= now_ms {
            let change = self.end(holder, topic, at);
            if evidence == Evidence::Log {
                // Late, and over by now: how far it reached is unknown, should it be said again.
                Arc::make_mut(self.by_holder.entry(holder.into()).or_default()).track(topic);
                self.mark_expired(holder, topic, at, until_ms);
            }
            return change;
        }
        self.settle_expiry(holder, topic, at);
        let topics = Arc::make_mut(self.by_holder.entry(holder.into()).or_default());
        let before = topics.begin(topic, Interval { since: at, until_ms, evidence });
        if let Some(before) = before {
            self.expiries.remove(&(before.until_ms, holder.into(), topic.into()));
        }
        if until_ms != u64::MAX {
            self.expiries.insert((until_ms, holder.into(), topic.into()));
        }
        self.held += usize::from(before.is_none());
        before.is_none().then(|| MembershipChange { holder: holder.into(), topic: topic.into(), holds: true })
    }

    /// Ends the interval that holds, if one does.
    fn end(&mut self, holder: &str, topic: &str, at: Slot) -> Option<MembershipChange> {
        let topics = self.by_holder.get_mut(holder).filter(|topics| topics.holds(topic))?;
        let interval = Arc::make_mut(topics).end(topic, at)?;
        // One without an entry in it is queued too, so that the membership itself is forgotten.
        self.ended.push_back((at, holder.into(), topic.into()));
        self.expiries.remove(&(interval.until_ms, holder.into(), topic.into()));
        self.held -= 1;
        Some(MembershipChange { holder: holder.into(), topic: topic.into(), holds: false })
    }

    fn mark_expired(&mut self, holder: &str, topic: &str, at: Slot, until_ms: u64) {
        let Some(topics) = self.by_holder.get_mut(holder) else { return };
        let topics = Arc::make_mut(topics);
        if let Some(before_ms) = topics.expired_ms(topic) {
            self.doubtful.remove(&(before_ms, holder.into(), topic.into()));
        }
        topics.mark_expired(topic, at, until_ms);
        self.doubtful
            .extend(topics.expired_ms(topic).map(|until_ms| (until_ms, holder.into(), topic.into())));
    }

    /// From `at` on it is known that what had expired grants nothing, or what grants anew.
    fn settle_expiry(&mut self, holder: &str, topic: &str, at: Slot) {
        let Some(topics) = self.by_holder.get_mut(holder) else { return };
        let Some(until_ms) = topics.expired_ms(topic) else { return };
        Arc::make_mut(topics).settle_expiry(topic, at);
        self.doubtful.remove(&(until_ms, holder.into(), topic.into()));
        // Forgotten with the entries for which it is unknown.
        self.ended.push_back((at, holder.into(), topic.into()));
    }

    fn current_keys(&self) -> Vec<(Box<str>, Box<str>)> {
        let mut open = Vec::new();
        for (holder, topics) in &self.by_holder {
            open.extend(topics.current().map(|topic| (holder.clone(), topic.into())));
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
    pub(crate) const fn at(&mut self, now_ms: u64, is_live: bool) {
        (self.now_ms, self.is_live) = (now_ms, is_live);
    }

    /// Whether an event for these topics, which lies at this slot, is granted. It looks at the memberships of these topics
    /// only, however many there are.
    pub(crate) fn entitles<'a>(&self, topics: impl Iterator<Item = &'a str>, slot: Slot) -> Entitled {
        let lookup = Lookup { slot, now_ms: self.now_ms, is_live: self.is_live };
        let mut grant = Grant::default();
        for topic in topics {
            for holder in &self.holders {
                grant = grant.or(holder.grant(topic, lookup));
            }
        }
        match grant {
            Grant { now: true, at_append: true, .. } => Entitled::Yes,
            Grant { now: true, unknown, .. } if unknown || self.unknown.contains(slot) => Entitled::Unknown,
            _ => Entitled::No,
        }
    }
}
