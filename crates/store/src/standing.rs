//! Standing records: the session invalidations and memberships that hold now. They outlive the window, until they expire.
//!
//! Pure. A store keeps one [`Standing`] beside its log, asks it whether a batch fits before it gives out positions, and
//! applies what it has made durable. Readers are handed pages of it. It does not know positions or who reads.
//!
//! Of memberships the latest per recipient and topic holds; one that says "no longer" is the end of the record. An
//! invalidation holds beside others of its recipient unless another voids at least the same tokens for at least as long.
//! Of one recipient a few hold at most: beyond that the two oldest become one that voids what both do, for as long as
//! either. It takes more than it was told to, for a time, and never less.
//!
//! Each kind has a bound of its own, so that memberships never stand in the way of an invalidation. Where several
//! publishers are told apart, none may hold more than it leaves free: whatever one of them does, there is room for
//! another.

mod full;
mod matter;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use galaxy_push_core::frame::LogKind;
use galaxy_push_proto::v1;
use galaxy_push_proto::validate::INVALIDATIONS_PER_HOLDER_MAX;
use prost::Message as _;
use prost_types::Timestamp;

pub use full::{Fill, Full};
pub use matter::Matter;

/// The most records of each kind held unless a store is told otherwise. One costs 300 bytes and its texts, so some 50 MiB
/// for each kind when full.
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
    invalidations: Tally,
    memberships: Tally,
    /// What is applied now is kept there: a store's own word. Where nothing says, all is in one place.
    place: u64,
    /// The texts of all that is held, in bytes.
    bytes: u64,
}

#[derive(Debug)]
struct Held {
    until_ms: i64,
    message: Bytes,
    publisher: Option<Arc<str>>,
    /// Where the store keeps it. What was made of two lies where the older one does.
    place: u64,
}

/// How many records of one kind are held.
#[derive(Debug, Default)]
struct Tally {
    held: usize,
    /// Of those whose publisher is known, by whose they are. None of them is 0.
    by_publisher: BTreeMap<Arc<str>, usize>,
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

    /// How long the message of what is to be held is.
    pub(crate) fn bytes(&self) -> usize {
        match &self.effect {
            Effect::Holds { message, .. } => message.len(),
            Effect::Ends => 0,
        }
    }
}

impl Standing {
    /// Holds at most so many records of each kind.
    #[must_use]
    pub fn new(records_max: usize) -> Self {
        let (held, expiries) = (BTreeMap::new(), BTreeSet::new());
        let (invalidations, memberships) = (Tally::default(), Tally::default());
        Self { records_max, held, expiries, invalidations, memberships, place: 0, bytes: 0 }
    }

    /// Whether these changes fit. Records that the same changes end make no room for them. A publisher that is named may
    /// hold no more than is free behind it, what it takes over from others by saying it once more included.
    ///
    /// # Errors
    ///
    /// [`Full`]: apply none of them.
    pub fn check<'a>(
        &mut self,
        changes: impl Iterator<Item = &'a Change>,
        publisher: Option<&Arc<str>>,
        now_unix_ms: u64,
    ) -> Result<(), Full> {
        self.check_behind(std::iter::empty(), changes, publisher, now_unix_ms)
    }

    /// As [`Standing::check`], with others under way that will be applied before these, each in its publisher's share.
    pub(crate) fn check_behind<'a>(
        &mut self,
        in_flight: impl Iterator<Item = (&'a Change, Option<&'a Arc<str>>)>,
        changes: impl Iterator<Item = &'a Change>,
        publisher: Option<&Arc<str>>,
        now_unix_ms: u64,
    ) -> Result<(), Full> {
        self.forget(now_unix_ms);
        let (mut new, mut taken) = (BTreeSet::new(), BTreeSet::new());
        let (mut grows, mut grows_own) = (false, false);
        let these = changes.map(|change| (change, publisher, true));
        for (change, whose, is_new) in in_flight.map(|(change, whose)| (change, whose, false)).chain(these) {
            if self.grows_by(change) {
                grows |= new.insert(&change.key) && is_new;
            }
            let own = publisher.filter(|publisher| whose == Some(*publisher));
            if own.is_some_and(|publisher| self.grows_of(publisher, change)) {
                grows_own |= taken.insert(&change.key) && is_new;
            }
        }
        if !grows && !grows_own {
            return Ok(());
        }
        for kind in [LogKind::SessionInvalidation, LogKind::Membership] {
            let of_kind = |keys: &BTreeSet<&Key>| keys.iter().filter(|key| key.kind() == kind).count();
            let (more, more_own) = (of_kind(&new), of_kind(&taken));
            let (tally, records_max) = (self.tally(kind), self.records_max);
            if more == 0 && more_own == 0 {
                continue;
            }
            let Some(free) = records_max.checked_sub(tally.held + more) else {
                return Err(Full { kind, records_max, publisher: None });
            };
            let Some(publisher) = publisher.filter(|_| more_own > 0) else { continue };
            let own = tally.of(publisher);
            if own + more_own > free.max(1) {
                return Err(Full { kind, records_max, publisher: Some((publisher.clone(), own)) });
            }
        }
        Ok(())
    }

    /// Applies a change. A record that has expired already changes nothing.
    pub fn apply(&mut self, change: &Change, publisher: Option<&Arc<str>>, now_unix_ms: u64) {
        self.forget(now_unix_ms);
        match &change.effect {
            Effect::Ends => self.remove(&change.key),
            Effect::Holds { until_ms, .. } if is_over(*until_ms, now_unix_ms) => {}
            Effect::Holds { until_ms, message } => {
                if self.is_covered(&change.key, *until_ms) {
                    return;
                }
                self.covered_by(&change.key, *until_ms).iter().for_each(|key| self.remove(key));
                let (message, publisher, place) = (message.clone(), publisher.cloned(), self.place);
                self.insert(change.key.clone(), Held { until_ms: *until_ms, message, publisher, place });
                self.merge(&change.key);
            }
        }
    }

    /// Says where a store keeps what is applied from now on. Places rise.
    pub(crate) fn keep_at(&mut self, place: u64) {
        self.place = place;
    }

    /// What is kept at this place or before it: the kind, the message, and in whose share of the room it lies.
    pub(crate) fn kept_up_to(
        &self,
        place: u64,
    ) -> impl Iterator<Item = (LogKind, &Bytes, Option<&Arc<str>>)> {
        let there = self.held.iter().filter(move |(_, held)| held.place <= place);
        there.map(|(key, held)| (key.kind(), &held.message, held.publisher.as_ref()))
    }

    /// What was kept at this place or before it is kept at another now.
    pub(crate) fn moved_up_to(&mut self, place: u64, to: u64) {
        self.held.values_mut().filter(|held| held.place <= place).for_each(|held| held.place = to);
    }

    /// How many are held, those included that are over and were not forgotten yet, and how long their messages and the names of
    /// their publishers are together.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.held.len() as u64, self.bytes)
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
        Count { invalidations: self.invalidations.held, memberships: self.memberships.held }
    }

    /// How full it is of one kind: in all, or for one publisher, whose bound falls as others take room.
    pub fn fill(&mut self, kind: LogKind, publisher: Option<&str>, now_unix_ms: u64) -> Fill {
        self.forget(now_unix_ms);
        let tally = self.tally(kind);
        let Some(publisher) = publisher else { return Fill { held: tally.held, max: self.records_max } };
        let held = tally.of(publisher);
        let others = tally.held - held;
        Fill { held, max: (self.records_max.saturating_sub(others) / 2).max(1) }
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

    fn insert(&mut self, key: Key, held: Held) {
        self.remove(&key);
        self.bytes += held.bytes();
        self.tally_mut(key.kind()).add(held.publisher.as_ref());
        self.expiries.insert((held.until_ms, key.clone()));
        self.held.insert(key, held);
    }

    fn remove(&mut self, key: &Key) {
        if let Some(held) = self.held.remove(key) {
            self.bytes -= held.bytes();
            self.tally_mut(key.kind()).subtract(held.publisher.as_ref());
            self.expiries.remove(&(held.until_ms, key.clone()));
        }
    }

    const fn tally(&self, kind: LogKind) -> &Tally {
        match kind {
            LogKind::SessionInvalidation => &self.invalidations,
            LogKind::Membership | LogKind::Event => &self.memberships,
        }
    }

    const fn tally_mut(&mut self, kind: LogKind) -> &mut Tally {
        match kind {
            LogKind::SessionInvalidation => &mut self.invalidations,
            LogKind::Membership | LogKind::Event => &mut self.memberships,
        }
    }

    /// Whether the change adds to what is held. One invalidation too many of a recipient is merged with another.
    fn grows_by(&self, change: &Change) -> bool {
        match &change.effect {
            Effect::Ends => false,
            Effect::Holds { until_ms, .. } => {
                !self.held.contains_key(&change.key)
                    && !self.is_covered(&change.key, *until_ms)
                    && self.covered_by(&change.key, *until_ms).is_empty()
                    && self.invalidations_beside(&change.key) < INVALIDATIONS_PER_HOLDER_MAX
            }
        }
    }

    /// Whether the change adds to what this publisher holds: it is new, or another's is replaced by it.
    fn grows_of(&self, publisher: &Arc<str>, change: &Change) -> bool {
        let Effect::Holds { until_ms, .. } = &change.effect else { return false };
        let is_own =
            |key: &Key| self.held.get(key).is_some_and(|held| held.publisher.as_ref() == Some(publisher));
        !self.is_covered(&change.key, *until_ms)
            && !is_own(&change.key)
            && !self.covered_by(&change.key, *until_ms).iter().any(is_own)
    }

    fn invalidations_beside(&self, key: &Key) -> usize {
        let Subject::Invalidation(recipient, _) = &key.0 else { return 0 };
        self.held.range(Key::invalidations(recipient)).count()
    }

    /// Makes one of the two invalidations that void the least, if the recipient has one too many.
    fn merge(&mut self, key: &Key) {
        if self.invalidations_beside(key) <= INVALIDATIONS_PER_HOLDER_MAX {
            return;
        }
        let Subject::Invalidation(recipient, _) = &key.0 else { return };
        let mut both = self.held.range(Key::invalidations(recipient)).map(|(key, _)| key.clone());
        let (Some(less), Some(more)) = (both.next(), both.next()) else { return };
        let longer = self.held.get(&less).map(|held| (held.until_ms, held.message.clone(), held.place));
        self.remove(&less);
        let (Some((until_ms, message, place)), Some(held)) = (longer, self.held.get(&more)) else { return };
        let (message, place) = (lasting_as(&held.message, &message), place.min(held.place));
        let held = Held { until_ms, message, publisher: held.publisher.clone(), place };
        self.insert(more, held);
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

impl Held {
    fn bytes(&self) -> u64 {
        (self.message.len() + self.publisher.as_deref().map_or(0, str::len)) as u64
    }
}

impl Key {
    fn invalidation(recipient: &Arc<str>, voids: Moment) -> Self {
        Self(Subject::Invalidation(recipient.clone(), voids))
    }

    /// All of this recipient.
    fn invalidations(recipient: &Arc<str>) -> std::ops::RangeInclusive<Self> {
        Self::invalidation(recipient, BEFORE_ALL)..=Self::invalidation(recipient, AFTER_ALL)
    }

    const fn kind(&self) -> LogKind {
        match self.0 {
            Subject::Invalidation(..) => LogKind::SessionInvalidation,
            Subject::Membership(..) => LogKind::Membership,
        }
    }
}

impl Tally {
    fn of(&self, publisher: &str) -> usize {
        self.by_publisher.get(publisher).copied().unwrap_or_default()
    }

    fn add(&mut self, publisher: Option<&Arc<str>>) {
        self.held += 1;
        if let Some(publisher) = publisher {
            *self.by_publisher.entry(publisher.clone()).or_default() += 1;
        }
    }

    fn subtract(&mut self, publisher: Option<&Arc<str>>) {
        self.held -= 1;
        let Some(publisher) = publisher else { return };
        let Some(own) = self.by_publisher.get_mut(publisher) else { return };
        *own -= 1;
        if *own == 0 {
            self.by_publisher.remove(publisher);
        }
    }
}

/// The invalidation in the first message, with the end of the one in the second.
fn lasting_as(message: &Bytes, longer: &Bytes) -> Bytes {
    let decode = |message: &Bytes| v1::SessionInvalidation::decode(message.clone());
    // Both were encoded here, so both can be decoded.
    let (Ok(record), Ok(longer)) = (decode(message), decode(longer)) else { return message.clone() };
    v1::SessionInvalidation { expires_at: longer.expires_at, ..record }.encode_to_vec().into()
}

/// Milliseconds since the Unix epoch; without a time, never.
fn until_ms(expires_at: Option<&Timestamp>) -> i64 {
    expires_at.map_or(i64::MAX, |at| {
        at.seconds.saturating_mul(1_000).saturating_add(i64::from(at.nanos) / 1_000_000)
    })
}

pub(crate) fn is_over(until_ms: i64, now_unix_ms: u64) -> bool {
    i64::try_from(now_unix_ms).unwrap_or(i64::MAX) >= until_ms && until_ms != i64::MAX
}
