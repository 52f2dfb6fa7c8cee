//! Which events were published before: id and source of the recent ones, bounded by age and by count.
//!
//! Pure. A store keeps one under its own lock and asks it before it gives out a position.
//!
//! An entry costs about 60 bytes and the text of its key, so the default million is some 100 MiB when full.

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

/// How much is remembered: an entry while it is within the age **and** the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The longest time since it was remembered.
    pub age: Duration,
    /// The most entries.
    pub ids: usize,
}

impl Default for Bounds {
    /// 2 minutes, 1,000,000 ids.
    fn default() -> Self {
        Self { age: Duration::from_secs(120), ids: 1_000_000 }
    }
}

/// What was published recently, and a value for each: its position.
#[derive(Debug)]
pub struct Dedup<V> {
    bounds: Bounds,
    /// Looked up only, never iterated, so its order reaches nobody. The keys are a publisher's, hence a seeded hash.
    values: HashMap<Key, V, RandomState>,
    order: VecDeque<(Key, Duration)>,
}

impl<V: Copy> Dedup<V> {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, values: HashMap::default(), order: VecDeque::new() }
    }

    /// The value of this key if it was remembered inside the bounds. `now` never goes back.
    pub fn get(&mut self, key: &Key, now: Duration) -> Option<V> {
        self.forget(now);
        self.values.get(key).copied()
    }

    /// Remembers a key that [`Dedup::get`] did not find.
    pub fn remember(&mut self, key: Key, value: V, now: Duration) {
        self.values.insert(key.clone(), value);
        self.order.push_back((key, now));
        self.forget(now);
    }

    /// How far back a duplicate is recognised: the age bound, or less once the count bound has cut.
    #[must_use]
    pub fn horizon(&self, now: Duration) -> Duration {
        match self.order.front() {
            Some((_, oldest)) if self.order.len() >= self.bounds.ids => {
                now.saturating_sub(*oldest).min(self.bounds.age)
            }
            _ => self.bounds.age,
        }
    }

    fn forget(&mut self, now: Duration) {
        while let Some((key, at)) = self.order.front() {
            if self.order.len() <= self.bounds.ids && now.saturating_sub(*at) <= self.bounds.age {
                break;
            }
            self.values.remove(key);
            self.order.pop_front();
        }
    }
}
