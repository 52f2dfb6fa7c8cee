//! Records by their matter: what several of them are about together, so that a store can keep it in one place, as one value.
//!
//! Of a membership there is one record at most. Of the invalidations of a recipient there may be some, which end, cover and
//! become one another: they are one matter.

use std::sync::Arc;

use bytes::Bytes;
use galaxy_push_core::frame::LogKind;

use super::{Change, Key, Standing, Subject};

/// What records are about that are kept together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Matter {
    /// Which tokens of this recipient are void.
    Tokens(Arc<str>),
    /// Whether this recipient is in this topic.
    Membership(Arc<str>, Arc<str>),
}

/// A record that holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holding<'a> {
    pub(crate) message: &'a Bytes,
    /// In whose share of the room it lies.
    pub(crate) share: Option<&'a Arc<str>>,
    pub(crate) until_ms: i64,
}

impl Matter {
    /// The kind of its records.
    #[must_use]
    pub const fn kind(&self) -> LogKind {
        match self {
            Self::Tokens(_) => LogKind::SessionInvalidation,
            Self::Membership(..) => LogKind::Membership,
        }
    }

    fn keys(&self) -> std::ops::RangeInclusive<Key> {
        match self {
            Self::Tokens(recipient) => Key::invalidations(recipient),
            Self::Membership(recipient, topic) => {
                let key = Key(Subject::Membership(recipient.clone(), topic.clone()));
                key.clone()..=key
            }
        }
    }
}

impl Change {
    /// What it is about.
    #[must_use]
    pub fn matter(&self) -> Matter {
        match &self.key.0 {
            Subject::Invalidation(recipient, _) => Matter::Tokens(recipient.clone()),
            Subject::Membership(recipient, topic) => Matter::Membership(recipient.clone(), topic.clone()),
        }
    }

    /// Whether it only takes away: voids tokens, or ends a membership.
    #[must_use]
    pub const fn takes_away(&self) -> bool {
        matches!((&self.key.0, &self.effect), (Subject::Invalidation(..), _) | (_, super::Effect::Ends))
    }
}

impl Standing {
    /// The records of a matter, as they were left: some may have expired.
    pub(crate) fn of(&self, matter: &Matter) -> impl Iterator<Item = Holding<'_>> {
        self.held.range(matter.keys()).map(|(_, held)| Holding {
            message: &held.message,
            share: held.publisher.as_ref(),
            until_ms: held.until_ms,
        })
    }

    /// Nothing of this matter holds any more.
    pub(crate) fn drop_matter(&mut self, matter: &Matter) {
        let keys: Vec<_> = self.held.range(matter.keys()).map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| self.remove(key));
    }
}
