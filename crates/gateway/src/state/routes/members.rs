//! Which connections belong to a topic without having asked for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Mailbox, Mailboxes};

/// Mailboxes by topic, and by the beginnings of topics. Each lies there under its connection and the one of its two
/// holders that belongs to the topic, so that one may leave while the other stays.
#[derive(Debug, Default)]
pub(super) struct Members {
    exact: ByTopic,
    by_beginning: ByTopic,
    /// How many beginnings there are of each length, in bytes.
    lengths: BTreeMap<usize, usize>,
}

type ByTopic = HashMap<Box<str>, Mailboxes, foldhash::quality::RandomState>;

impl Members {
    pub(super) fn add(&mut self, topic: &str, key: u64, mailbox: &Arc<Mailbox>) {
        let mailboxes = match topic.strip_suffix('*') {
            None => self.exact.entry(topic.into()).or_default(),
            Some(beginning) => {
                let mailboxes = self.by_beginning.entry(beginning.into()).or_default();
                if mailboxes.is_empty() {
                    *self.lengths.entry(beginning.len()).or_default() += 1;
                }
                mailboxes
            }
        };
        mailboxes.insert(key, mailbox.clone());
    }

    pub(super) fn remove(&mut self, topic: &str, key: u64) {
        let (name, topics) = match topic.strip_suffix('*') {
            None => (topic, &mut self.exact),
            Some(beginning) => (beginning, &mut self.by_beginning),
        };
        let Some(mailboxes) = topics.get_mut(name) else { return };
        mailboxes.remove(&key);
        if !mailboxes.is_empty() {
            return;
        }
        topics.remove(name);
        if topic.ends_with('*')
            && let Some(count) = self.lengths.get_mut(&name.len())
        {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&name.len());
            }
        }
    }

    /// The mailboxes of a topic's members; some may come more than once.
    pub(super) fn of<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = &'a Arc<Mailbox>> {
        let beginnings = self.lengths.keys().filter_map(|length| topic.get(..*length));
        let by_beginning = beginnings.filter_map(|beginning| self.by_beginning.get(beginning));
        self.exact.get(topic).into_iter().chain(by_beginning).flat_map(BTreeMap::values)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.by_beginning.is_empty() && self.lengths.is_empty()
    }
}
