//! What brokers have stored of a stream, all of them but those that lag.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

/// The streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// The log.
    Log,
    /// The bucket of the fence.
    Fence,
    /// The bucket of the standing records.
    Records,
}

/// All streams.
pub(super) const STREAMS: [Which; 3] = [Which::Log, Which::Fence, Which::Records];

/// A message.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) number: u64,
    pub(super) stamp_unix_ms: u64,
    /// Empty in the log.
    pub(super) key: Arc<str>,
    pub(super) payload: Bytes,
    /// When it was stored, in microseconds of the simulation.
    stored_us: u64,
    /// Which message has written over it, or came last before it was deleted.
    over: Option<u64>,
}

/// A stream. Of a key only the last message is kept; what was there before is kept aside, for brokers that lag.
#[derive(Debug, Default)]
pub(super) struct Stream {
    entries: VecDeque<Entry>,
    last: u64,
}

impl Stream {
    /// The number of the last message that it had.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// The number of the first message that it has, or will have.
    pub(super) fn first(&self) -> u64 {
        self.entries.front().map_or(self.last + 1, |first| first.number)
    }

    pub(super) fn push(&mut self, key: Arc<str>, payload: Bytes, stamp_unix_ms: u64, now_us: u64) -> &Entry {
        self.last += 1;
        let number = self.last;
        if !key.is_empty()
            && let Some(before) = self.entries.iter_mut().rev().find(|entry| entry.key == key)
        {
            before.over.get_or_insert(number);
        }
        self.entries.push_back(Entry { number, stamp_unix_ms, key, payload, stored_us: now_us, over: None });
        &self.entries[self.entries.len() - 1]
    }

    /// The messages from a number on that a broker has which has come to `upto`.
    pub(super) fn read(&self, from: u64, upto: u64) -> impl Iterator<Item = &Entry> {
        let start = self.entries.partition_point(|entry| entry.number < from);
        let entries = self.entries.range(start..).take_while(move |entry| entry.number <= upto);
        entries.filter(move |entry| entry.over.is_none_or(|over| over > upto))
    }

    /// The last value of a key, by a broker that has come to `upto`.
    pub(super) fn value(&self, key: &str, upto: u64) -> Option<&Entry> {
        let is_it = |entry: &&Entry| entry.number <= upto && &*entry.key == key;
        self.entries.iter().rev().find(is_it).filter(|entry| entry.over.is_none_or(|over| over > upto))
    }

    pub(super) fn delete(&mut self, number: u64) {
        let last = self.last;
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.number == number) {
            entry.over.get_or_insert(last);
        }
    }

    /// Lets go of what is too old, or too much.
    pub(super) fn prune(&mut self, before_us: u64, messages: usize) -> u64 {
        let mut gone = 0;
        while self.entries.len() > messages
            || self.entries.front().is_some_and(|first| first.stored_us < before_us)
        {
            self.entries.pop_front();
            gone += 1;
        }
        gone
    }

    pub(super) fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.payload.len() as u64).sum()
    }
}
