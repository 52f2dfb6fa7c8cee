//! Which events and records were published before: by whom, with which source, id and content, bounded by age, count and
//! bytes.
//!
//! Pure. A store keeps one under its own lock and asks it before it gives out a position.
//!
//! A key belongs to its publisher: nobody learns of another's, and nobody's push another's out. The count and the bytes
//! are shared by those who published of late. Whoever has more than an equal part gives up its own oldest entries first;
//! whoever has no more than that keeps all of them for the whole age. Where nobody has an identity, all are one publisher.
//!
//! An entry costs about 200 bytes and the text of its source and id: with the default bounds at most 450 MiB together, and
//! some 250 MiB for a million ids of usual length.

#[cfg(test)]
mod tests;
mod values;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use sha2::{Digest as _, Sha256};

use values::Values;

/// What names an event or a request of records: its publisher, and the source and id that this one gave it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    publisher: Arc<str>,
    text: Arc<str>,
}

/// The content by which a repetition is told from another event under the same key: a fingerprint of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Content([u8; 16]);

/// How much is remembered: an entry while it is within the age **and** the count **and** the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The longest time since it was remembered.
    pub age: Duration,
    /// The most entries.
    pub ids: usize,
    /// The most bytes of sources and ids together.
    pub bytes: usize,
}

/// What is known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<V> {
    /// Nothing, inside the bounds.
    No,
    /// The same content was published with it, and this is its value.
    Same(V),
    /// Another content was.
    Other,
}

/// An entry, but for its publisher.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remembered<'a, V> {
    pub(crate) text: &'a str,
    pub(crate) content: Content,
    pub(crate) value: V,
    /// When it was remembered.
    pub(crate) at: Duration,
}

/// What was published recently, and a value for each: its position.
#[derive(Debug)]
pub struct Dedup<V> {
    bounds: Bounds,
    /// By publisher, for those who have entries.
    shares: BTreeMap<Arc<str>, Share<V>>,
    /// Entries of all shares.
    ids: usize,
    /// Bytes of all shares.
    bytes: usize,
    /// What is known of an earlier life: as [`Share::cut_at`], for all of them.
    cut_at: Option<Duration>,
}

/// One publisher's entries.
#[derive(Debug)]
struct Share<V> {
    values: Values<V>,
    order: VecDeque<(Arc<str>, Duration)>,
    /// How often a key is in `order` besides its last time there. Mostly empty, and no larger than that.
    renewed: HashMap<Arc<str>, usize, RandomState>,
    /// The keys remembered, in bytes.
    bytes: usize,
    /// When the youngest of those was remembered that had to go before their time.
    cut_at: Option<Duration>,
}

impl Key {
    /// None of the texts may hold control characters, which validated ones do not. `publisher` is the name of an identity;
    /// empty: nobody in particular.
    #[must_use]
    pub fn new(publisher: &Arc<str>, source: &str, id: &str) -> Self {
        // A control character between them, so that no two pairs make the same text.
        Self { publisher: publisher.clone(), text: [source, "\0", id].concat().into() }
    }
}

impl Key {
    /// A key by the text that [`Key::text`] gave.
    pub(crate) fn of_text(publisher: &Arc<str>, text: &str) -> Self {
        Self { publisher: publisher.clone(), text: text.into() }
    }

    pub(crate) const fn publisher(&self) -> &Arc<str> {
        &self.publisher
    }

    /// Source and id, as one text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

impl Content {
    /// As [`Content::to_bytes`] gave it.
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// For the disk.
    pub(crate) const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// The fingerprint of these parts, in this order: half of a SHA-256, for which nobody can make a second content.
    #[must_use]
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            // The length before each, so that the parts do not run into one another.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut half = [0; 16];
        half.copy_from_slice(&hash.finalize()[..16]);
        Self(half)
    }
}

impl Default for Bounds {
    /// 2 minutes, 1,000,000 ids, 256 MiB: a million ids of usual length are well below that.
    fn default() -> Self {
        Self { age: Duration::from_secs(120), ids: 1_000_000, bytes: 256 << 20 }
    }
}

impl<V: Copy> Dedup<V> {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, shares: BTreeMap::new(), ids: 0, bytes: 0, cut_at: None }
    }

    /// What is known of this key. `now` never goes back.
    pub fn look_up(&mut self, key: &Key, content: Content, now: Duration) -> Known<V> {
        match self.get(key, now) {
            None => Known::No,
            Some((same, value)) if same == content => Known::Same(value),
            Some(_) => Known::Other,
        }
    }

    /// The content and the value of this key, inside the bounds.
    pub(crate) fn get(&mut self, key: &Key, now: Duration) -> Option<(Content, V)> {
        let mut share = self.shares.get(&key.publisher)?;
        if share.is_due(now, self.bounds.age) {
            self.forget_old_of(&key.publisher, now);
            share = self.shares.get(&key.publisher)?;
        }
        let (value, content) = share.values.get(&key.text)?;
        Some((content, value))
    }

    /// Remembers a key of which [`Dedup::look_up`] knew nothing.
    pub fn remember(&mut self, key: Key, content: Content, value: V, now: Duration) {
        let Key { publisher, text } = key;
        self.insert(&publisher, text, content, value, now);
        if self.is_over() {
            self.make_room(&publisher, now);
        }
    }

    /// Remembers a key of which nothing was known, and of which it is not certain yet that it will be. Nothing goes for it: that
    /// is for [`Dedup::confirm`], so that what comes to nothing costs no other key.
    pub(crate) fn remember_for_now(&mut self, key: Key, content: Content, value: V, now: Duration) {
        let Key { publisher, text } = key;
        self.insert(&publisher, text, content, value, now);
    }

    /// Remembers a key anew that is known: with this content and value, and for the whole age from now on.
    pub(crate) fn renew(&mut self, key: Key, content: Content, value: V, now: Duration) {
        let share = self.shares.get_mut(&key.publisher);
        if let Some(share) = share.filter(|share| share.values.get(&key.text).is_some()) {
            *share.renewed.entry(key.text.clone()).or_default() += 1;
        }
        self.remember(key, content, value, now);
    }

    /// What was remembered of this publisher for now is certain.
    pub(crate) fn confirm(&mut self, publisher: &Arc<str>, now: Duration) {
        if self.is_over() {
            self.make_room(publisher, now);
        }
    }

    /// The last so many keys of this publisher, remembered for now, came to nothing.
    pub(crate) fn take_back(&mut self, publisher: &Arc<str>, keys: usize) {
        let Some(share) = self.shares.get_mut(publisher) else { return };
        for _ in 0..keys {
            let Some((text, _)) = share.order.pop_back() else { return };
            share.values.remove(&text);
            share.bytes -= text.len();
            (self.ids, self.bytes) = (self.ids - 1, self.bytes - text.len());
        }
    }

    fn insert(&mut self, publisher: &Arc<str>, text: Arc<str>, content: Content, value: V, now: Duration) {
        let share = match self.shares.get_mut(publisher) {
            Some(share) if !share.is_due(now, self.bounds.age) => share,
            known => {
                if known.is_some() {
                    self.forget_old_of(publisher, now);
                }
                self.shares.entry(publisher.clone()).or_insert_with(Share::new)
            }
        };
        share.bytes += text.len();
        (self.ids, self.bytes) = (self.ids + 1, self.bytes + text.len());
        share.values.insert(text.clone(), value, content);
        share.order.push_back((text, now));
    }

    /// How many are remembered, what is too old and was not let go of included.
    pub(crate) const fn len(&self) -> usize {
        self.ids
    }

    /// Lets go of what is too old, and of its memory.
    pub fn trim(&mut self, now: Duration) {
        self.forget_old(now);
        for share in self.shares.values_mut() {
            if share.order.len() < share.order.capacity() / 4 {
                share.order.shrink_to_fit();
                share.values.shrink();
            }
        }
    }

    /// What was remembered from one time to another, both included, publisher by publisher. `uncertain`: how many of a publisher,
    /// the last ones, were remembered for now, and are left out.
    pub(crate) fn between(
        &self,
        from: Duration,
        to: Duration,
        uncertain: impl Fn(&str) -> usize,
    ) -> impl Iterator<Item = (&Arc<str>, Remembered<'_, V>)> {
        self.shares.iter().flat_map(move |(publisher, share)| {
            let certain = share.order.len().saturating_sub(uncertain(publisher));
            let first = share.order.partition_point(|(_, at)| *at < from).min(certain);
            let those = share.order.range(first..certain).take_while(move |(_, at)| *at <= to);
            those.filter_map(move |(text, at)| {
                let (value, content) = share.values.get(text)?;
                Some((publisher, Remembered { text, content, value, at: *at }))
            })
        })
    }

    /// How far back a duplicate is recognised, of whoever fares worst: the age bound, or less once another bound has cut.
    #[must_use]
    pub fn horizon(&self, now: Duration) -> Duration {
        self.cut().map_or(self.bounds.age, |cut| now.saturating_sub(cut).min(self.bounds.age))
    }

    /// When the youngest key was remembered that had to go before its time, if one had to of late.
    pub(crate) fn cut(&self) -> Option<Duration> {
        self.shares.values().filter_map(|share| share.cut_at).chain(self.cut_at).max()
    }

    /// Keys that were remembered up to this time may be missing.
    pub(crate) fn was_cut(&mut self, at: Duration) {
        self.cut_at = self.cut_at.max(Some(at));
    }

    fn is_over(&self) -> bool {
        self.ids > self.bounds.ids || self.bytes > self.bounds.bytes
    }

    /// Whoever made it too much pays if it has more than its part; nobody else is looked at then. Else whoever has most.
    fn make_room(&mut self, newest: &Arc<str>, now: Duration) {
        while self.is_over() {
            let (by_ids, parts) = (self.ids > self.bounds.ids, self.shares.len());
            let part = if by_ids { self.bounds.ids } else { self.bounds.bytes } / parts;
            let weight = |share: &Share<V>| if by_ids { share.order.len() } else { share.bytes };
            if self.shares.get(newest).is_some_and(|share| weight(share) > part) {
                self.drop_oldest_of(newest, true);
                continue;
            }
            self.forget_old(now);
            let most = self.shares.iter().max_by_key(|(_, share)| weight(share));
            match most.map(|(publisher, _)| publisher.clone()) {
                Some(publisher) if self.is_over() => self.drop_oldest_of(&publisher, true),
                _ => return,
            }
        }
    }

    fn forget_old(&mut self, now: Duration) {
        let publishers: Vec<_> = self.shares.keys().cloned().collect();
        publishers.iter().for_each(|publisher| self.forget_old_of(publisher, now));
    }

    fn forget_old_of(&mut self, publisher: &Arc<str>, now: Duration) {
        let age = self.bounds.age;
        let is_old =
            |share: &Share<V>| share.order.front().is_some_and(|(_, at)| now.saturating_sub(*at) > age);
        while self.shares.get(publisher).is_some_and(is_old) {
            self.drop_oldest_of(publisher, false);
        }
        let is_over = |share: &Share<V>| {
            share.order.is_empty() && share.cut_at.is_none_or(|cut| now.saturating_sub(cut) > age)
        };
        if self.shares.get(publisher).is_some_and(is_over) {
            self.shares.remove(publisher);
        }
    }

    fn drop_oldest_of(&mut self, publisher: &Arc<str>, early: bool) {
        let Some(share) = self.shares.get_mut(publisher) else { return };
        if let Some((text, at)) = share.order.pop_front() {
            match share.renewed.get_mut(&text) {
                Some(1) => drop(share.renewed.remove(&text)),
                Some(times) => *times -= 1,
                None => share.values.remove(&text),
            }
            share.bytes -= text.len();
            (self.ids, self.bytes) = (self.ids - 1, self.bytes - text.len());
            if early {
                share.cut_at = Some(at);
            }
        }
    }
}

impl<V: Copy> Share<V> {
    /// Whether there is anything to forget: an entry, or the share itself.
    fn is_due(&self, now: Duration, age: Duration) -> bool {
        self.order.front().is_none_or(|(_, at)| now.saturating_sub(*at) > age)
    }

    fn new() -> Self {
        let (values, renewed) = (Values::new(), HashMap::default());
        Self { values, order: VecDeque::new(), renewed, bytes: 0, cut_at: None }
    }
}
