//! Standing records: the session invalidations and memberships that hold now. They outlive the window, until they expire.
//!
//! Pure. A store keeps one [`Standing`] beside its log, asks it whether a batch fits before it gives out positions, and
//! applies what it has made durable. Readers are handed pages of it. It does not know positions or who reads.
//!
//! Of memberships the latest per recipient and topic holds; one that says "no longer" is the end of the record. An
//! invalidation holds beside others of its recipient unless another voids at least the same tokens for at least as long.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use galaxy_push_core::frame::LogKind;
use galaxy_push_proto::v1;
use prost::Message as _;
use prost_types::Timestamp;

/// The most records held unless a store is told otherwise. One costs 250 bytes and its texts, so some 50 MiB when full.
pub const RECORDS_MAX: usize = 100_000;

/// What a record is about. The order is that of the pages: invalidations first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(Subject);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Invalidation(Arc<str>, Moment),
    Membership(Arc<str>, Arc<str>),
}

/// Seconds since the Unix epoch, and nanoseconds.
type Moment = (i64, i32);

const BEFORE_ALL: Moment = (i64::MIN, i32::MIN);
const AFTER_ALL: Moment = (i64::MAX, i32::MAX);

/// What one record changes.
#[derive(Clone, Debug)]
pub struct Change {
    key: Key,
    effect: Effect,
}

#[derive(Clone, Debug)]
enum Effect {
    /// It holds until then, in milliseconds since the Unix epoch.
    Holds { until_ms: i64, message: Bytes },
    /// It holds no longer.
    Ends,
}

/// The records that hold.
#[derive(Debug)]
pub struct Standing {
    records_max: usize,
    held: BTreeMap<Key, Held>,
    /// The same, the next to expire first.
    expiries: BTreeSet<(i64, Key)>,
    invalidations: usize,
}

#[derive(Debug)]
struct Held {
    until_ms: i64,
    message: Bytes,
}

/// How many records hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Session invalidations.
    pub invalidations: usize,
    /// Memberships.
    pub memberships: usize,
}

/// Some of the records, in the order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The kind and the encoded message of each.
    pub records: Vec<(LogKind, Bytes)>,
    /// Where the next page begins: after this one. `None`: this was the last page.
    pub next: Option<Key>,
}

/// There is no room for more records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// The most records held.
    pub records_max: usize,
}

impl Change {
    /// What a validated invalidation changes, and its encoding.
    #[must_use]
    pub fn invalidation(record: &v1::SessionInvalidation) -> (Self, Bytes) {
        let message = Bytes::from(record.encode_to_vec());
        let voids = record.issued_before.as_ref().map_or(AFTER_ALL, |before| (before.seconds, before.nanos));
        let key = Key(Subject::Invalidation(record.recipient.as_str().into(), voids));
        let effect =
            Effect::Holds { until_ms: until_ms(record.expires_at.as_ref()), message: message.clone() };
        (Self { key, effect }, message)
    }

    /// What a validated membership changes, and its encoding.
    #[must_use]
    pub fn membership(record: &v1::Membership) -> (Self, Bytes) {
        let message = Bytes::from(record.encode_to_vec());
        let key = Key(Subject::Membership(record.recipient.as_str().into(), record.topic.as_str().into()));
        let effect = if record.member {
            Effect::Holds { until_ms: until_ms(record.expires_at.as_ref()), message: message.clone() }
        } else {
            Effect::Ends
        };
        (Self { key, effect }, message)
    }
}

impl Standing {
    /// Holds at most so many records.
    #[must_use]
    pub const fn new(records_max: usize) -> Self {
        Self { records_max, held: BTreeMap::new(), expiries: BTreeSet::new(), invalidations: 0 }
    }

    /// Whether these changes fit. Records that the same changes end make no room for them.
    ///
    /// # Errors
    ///
    /// [`Full`]: apply none of them.
    pub fn check<'a>(
        &mut self,
        changes: impl Iterator<Item = &'a Change>,
        now_unix_ms: u64,
    ) -> Result<(), Full> {
        self.forget(now_unix_ms);
        let new: BTreeSet<&Key> =
            changes.filter(|change| self.grows_by(change)).map(|change| &change.key).collect();
        if new.is_empty() || self.held.len() + new.len() <= self.records_max {
            return Ok(());
        }
        Err(Full { records_max: self.records_max })
    }

    /// Applies a change. A record that has expired already changes nothing.
    pub fn apply(&mut self, change: &Change, now_unix_ms: u64) {
        self.forget(now_unix_ms);
        match &change.effect {
            Effect::Ends => self.remove(&change.key),
            Effect::Holds { until_ms, .. } if is_over(*until_ms, now_unix_ms) => {}
            Effect::Holds { until_ms, message } => {
                if self.is_covered(&change.key, *until_ms) {
                    return;
                }
                self.covered_by(&change.key, *until_ms).iter().for_each(|key| self.remove(key));
                self.insert(change.key.clone(), *until_ms, message.clone());
            }
        }
    }

    /// The records after `after`, of at most `bytes_max` bytes together, but one at least. `bytes_each` is what a record
    /// costs besides its message.
    pub fn page(
        &mut self,
        after: Option<&Key>,
        bytes_max: usize,
        bytes_each: usize,
        now_unix_ms: u64,
    ) -> Page {
        self.forget(now_unix_ms);
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut page, mut bytes, mut last) = (Page::default(), 0, None);
        for (key, held) in self.held.range((start, Bound::Unbounded)) {
            bytes += held.message.len() + bytes_each;
            if bytes > bytes_max && last.is_some() {
                page.next = last;
                return page;
            }
            page.records.push((key.kind(), held.message.clone()));
            last = Some(key.clone());
        }
        page
    }

    /// How many hold now.
    pub fn count(&mut self, now_unix_ms: u64) -> Count {
        self.forget(now_unix_ms);
        Count { invalidations: self.invalidations, memberships: self.held.len() - self.invalidations }
    }

    fn forget(&mut self, now_unix_ms: u64) {
        while let Some((until_ms, key)) = self.expiries.first() {
            if !is_over(*until_ms, now_unix_ms) {
                break;
            }
            let key = key.clone();
            self.remove(&key);
        }
    }

    fn insert(&mut self, key: Key, until_ms: i64, message: Bytes) {
        self.remove(&key);
        self.invalidations += usize::from(key.kind() == LogKind::SessionInvalidation);
        self.expiries.insert((until_ms, key.clone()));
        self.held.insert(key, Held { until_ms, message });
    }

    fn remove(&mut self, key: &Key) {
        if let Some(held) = self.held.remove(key) {
            self.invalidations -= usize::from(key.kind() == LogKind::SessionInvalidation);
            self.expiries.remove(&(held.until_ms, key.clone()));
        }
    }

    fn grows_by(&self, change: &Change) -> bool {
        match &change.effect {
            Effect::Ends => false,
            Effect::Holds { until_ms, .. } => {
                !self.held.contains_key(&change.key)
                    && !self.is_covered(&change.key, *until_ms)
                    && self.covered_by(&change.key, *until_ms).is_empty()
            }
        }
    }

    /// Whether an invalidation held already voids the same tokens, and for at least as long.
    fn is_covered(&self, key: &Key, until_ms: i64) -> bool {
        let Subject::Invalidation(recipient, voids) = &key.0 else { return false };
        let later = Key::invalidation(recipient, *voids)..=Key::invalidation(recipient, AFTER_ALL);
        self.held.range(later).any(|(_, held)| held.until_ms >= until_ms)
    }

    /// The invalidations held that this one makes superfluous.
    fn covered_by(&self, key: &Key, until_ms: i64) -> Vec<Key> {
        let Subject::Invalidation(recipient, voids) = &key.0 else { return Vec::new() };
        let earlier = Key::invalidation(recipient, BEFORE_ALL)..=Key::invalidation(recipient, *voids);
        let covered = self.held.range(earlier).filter(|(_, held)| held.until_ms <= until_ms);
        covered.map(|(key, _)| key.clone()).collect()
    }
}

impl Key {
    fn invalidation(recipient: &Arc<str>, voids: Moment) -> Self {
        Self(Subject::Invalidation(recipient.clone(), voids))
    }

    const fn kind(&self) -> LogKind {
        match self.0 {
            Subject::Invalidation(..) => LogKind::SessionInvalidation,
            Subject::Membership(..) => LogKind::Membership,
        }
    }
}

/// Milliseconds since the Unix epoch; without a time, never.
fn until_ms(expires_at: Option<&Timestamp>) -> i64 {
    expires_at.map_or(i64::MAX, |at| {
        at.seconds.saturating_mul(1_000).saturating_add(i64::from(at.nanos) / 1_000_000)
    })
}

fn is_over(until_ms: i64, now_unix_ms: u64) -> bool {
    i64::try_from(now_unix_ms).unwrap_or(i64::MAX) >= until_ms && until_ms != i64::MAX
}
