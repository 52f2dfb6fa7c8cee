//! What is known of each key of a publisher: a table in parts, each of which grows by itself.
//!
//! A table that grows moves all it holds, under the lock of the store: for a million keys that took a tenth of a second in which nobody
//! was answered. Here a part moves a few thousand of them at a time, and without a look at their text.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::Content;

/// So many keys lie in one part, until they are divided.
const UNDIVIDED_MAX: usize = 2_048;

/// Into so many parts: with a million keys some 4,000 lie in each.
const PARTS: usize = 256;

/// Looked up only, never iterated, so its order reaches nobody. The keys are a publisher's, hence a seeded hash.
#[derive(Debug)]
pub(super) struct Values<V> {
    hasher: RandomState,
    /// One, or [`PARTS`].
    parts: Vec<HashTable<Entry<V>>>,
}

#[derive(Debug)]
struct Entry<V> {
    hash: u64,
    text: Arc<str>,
    value: V,
    content: Content,
}

impl<V: Copy> Values<V> {
    pub(super) fn new() -> Self {
        Self { hasher: RandomState::default(), parts: vec![HashTable::new()] }
    }

    pub(super) fn get(&self, text: &str) -> Option<(V, Content)> {
        let hash = self.hasher.hash_one(text);
        let entry = self.parts[self.part(hash)].find(hash, |entry| *entry.text == *text)?;
        Some((entry.value, entry.content))
    }

    /// In place of what was known of this key, if anything was.
    pub(super) fn insert(&mut self, text: Arc<str>, value: V, content: Content) {
        let hash = self.hasher.hash_one(&*text);
        let part = self.part(hash);
        if let Some(known) = self.parts[part].find_mut(hash, |entry| entry.text == text) {
            (known.value, known.content) = (value, content);
            return;
        }
        self.parts[part].insert_unique(hash, Entry { hash, text, value, content }, |entry| entry.hash);
        if self.parts.len() == 1 && self.parts[0].len() > UNDIVIDED_MAX {
            self.lay_into(PARTS);
        }
    }

    pub(super) fn remove(&mut self, text: &str) {
        let hash = self.hasher.hash_one(text);
        let part = self.part(hash);
        if let Ok(entry) = self.parts[part].find_entry(hash, |entry| *entry.text == *text) {
            entry.remove();
        }
    }

    /// Gives back memory that is not needed any more.
    pub(super) fn shrink(&mut self) {
        if self.parts.iter().map(HashTable::len).sum::<usize>() <= UNDIVIDED_MAX / 2 {
            self.lay_into(1);
        }
        self.parts.iter_mut().for_each(|part| part.shrink_to_fit(|entry| entry.hash));
    }

    /// By bits of the hash that the table of a part does not go by: neither the lowest, nor the seven highest.
    const fn part(&self, hash: u64) -> usize {
        (hash >> 40) as usize & (self.parts.len() - 1)
    }

    fn lay_into(&mut self, parts: usize) {
        let all = std::mem::take(&mut self.parts);
        self.parts.resize_with(parts, HashTable::new);
        for entry in all.into_iter().flatten() {
            let part = self.part(entry.hash);
            self.parts[part].insert_unique(entry.hash, entry, |entry| entry.hash);
        }
    }
}

#[cfg(test)]
impl<V> Values<V> {
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(HashTable::len).sum()
    }

    /// For how many keys there is memory.
    pub(super) fn capacity(&self) -> usize {
        self.parts.iter().map(HashTable::capacity).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A part moves when it grows: as long as the largest stays small, nobody waits for more than that.
    #[test]
    fn no_part_holds_many_of_a_million_keys_and_each_key_is_found() {
        let text = |n: u32| Arc::<str>::from(format!("/bench\0{n:016x}"));
        let mut values = Values::new();
        for n in 0..1_000_000 {
            values.insert(text(n), n, Content([0; 16]));
        }
        let largest = values.parts.iter().map(HashTable::capacity).max().unwrap();
        assert!(largest <= 8_192, "{largest} places move at a time");
        for n in (0..1_000_000).step_by(97) {
            assert_eq!(values.get(&text(n)), Some((n, Content([0; 16]))));
            values.insert(text(n), n + 1, Content([1; 16]));
            assert_eq!(values.get(&text(n)), Some((n + 1, Content([1; 16]))));
            values.remove(&text(n));
            assert_eq!(values.get(&text(n)), None);
        }
    }
}
