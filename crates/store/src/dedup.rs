//! Which events were published before: id and source of the recent ones, bounded by age, count and bytes.
//!
//! Pure. A store keeps one under its own lock and asks it before it gives out a position.
//!
//! An entry costs about 100 bytes and the text of its key: with the default bounds at most 350 MiB together, and some
//! 150 MiB for a million ids of usual length.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

/// The identity of an event: its source and id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// Neither text may hold control characters, which validated ones do not.
    #[must_use]
    pub fn new(source: &str, id: &str) -> Self {
        // A control character between them, so that no two pairs make the same text.
        Self([source, "\0", id].concat().into())
    }
}

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

impl Default for Bounds {
    /// 2 minutes, 1,000,000 ids, 256 MiB: a million ids of usual length are well below that.
    fn default() -> Self {
        Self { age: Duration::from_secs(120), ids: 1_000_000, bytes: 256 << 20 }
    }
}

/// What was published recently, and a value for each: its position.
#[derive(Debug)]
pub struct Dedup<V> {
    bounds: Bounds,
    /// Looked up only, never iterated, so its order reaches nobody. The keys are a publisher's, hence a seeded hash.
    values: HashMap<Key, V, RandomState>,
    order: VecDeque<(Key, Duration)>,
    /// The keys remembered, in bytes.
    bytes: usize,
    /// When the youngest of those was remembered that had to go before their time.
    cut_at: Option<Duration>,
}

impl<V: Copy> Dedup<V> {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, values: HashMap::default(), order: VecDeque::new(), bytes: 0, cut_at: None }
    }

    /// The value of this key if it was remembered inside the bounds. `now` never goes back.
    pub fn get(&mut self, key: &Key, now: Duration) -> Option<V> {
        self.forget(now);
        self.values.get(key).copied()
    }

    /// Remembers a key that [`Dedup::get`] did not find.
    pub fn remember(&mut self, key: Key, value: V, now: Duration) {
        self.bytes += key.0.len();
        self.values.insert(key.clone(), value);
        self.order.push_back((key, now));
        self.forget(now);
    }

    /// Lets go of what is too old, and of its memory.
    pub fn trim(&mut self, now: Duration) {
        self.forget(now);
        if self.order.len() < self.order.capacity() / 4 {
            self.order.shrink_to_fit();
            self.values.shrink_to_fit();
        }
    }

    /// How far back a duplicate is recognised: the age bound, or less once another bound has cut.
    #[must_use]
    pub fn horizon(&self, now: Duration) -> Duration {
        self.cut_at.map_or(self.bounds.age, |cut| now.saturating_sub(cut).min(self.bounds.age))
    }

    fn forget(&mut self, now: Duration) {
        while let Some((key, at)) = self.order.front() {
            let too_old = now.saturating_sub(*at) > self.bounds.age;
            if !too_old && self.order.len() <= self.bounds.ids && self.bytes <= self.bounds.bytes {
                break;
            }
            if !too_old {
                self.cut_at = Some(*at);
            }
            self.bytes -= key.0.len();
            self.values.remove(key);
            self.order.pop_front();
        }
    }
}
