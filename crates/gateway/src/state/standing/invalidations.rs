//! Whose sessions have ended: tokens issued before a moment are void, until the record expires.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use galaxy_push_proto::v1::SessionInvalidation;
use galaxy_push_proto::validate::INVALIDATIONS_PER_HOLDER_MAX;

use super::unix_ms;
use crate::state::grants::Issued;

/// The most records held. The hub holds fewer; those of hubs before it expire. Beyond it the next to expire goes first.
const RECORDS_MAX: usize = 1 << 20;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invalidation {
    /// Whose tokens: `user:ID` or `session:ID`.
    pub(crate) holder: Box<str>,
    /// Tokens issued before this are void, in milliseconds since the Unix epoch.
    pub(crate) issued_before_ms: u64,
    until_ms: u64,
    /// Why, for people.
    pub(crate) reason: Arc<str>,
}

/// All that hold.
#[derive(Debug, Default)]
pub(crate) struct Invalidations {
    by_holder: BTreeMap<Box<str>, Vec<Invalidation>>,
    /// The next to expire first.
    expiries: BTreeSet<(u64, Box<str>, u64)>,
}

impl Invalidation {
    pub(crate) fn of(record: &SessionInvalidation) -> Self {
        // The hub fills in what is absent. Without it, the record voids every token, for ever: it takes rather than gives.
        let or_ever = |time: Option<&prost_types::Timestamp>| time.map_or(u64::MAX, unix_ms);
        Self {
            holder: record.recipient.as_str().into(),
            issued_before_ms: or_ever(record.issued_before.as_ref()),
            until_ms: or_ever(record.expires_at.as_ref()),
            reason: record.reason.as_str().into(),
        }
    }

    /// Whether it voids at least what the other one does.
    const fn covers(&self, other: &Self) -> bool {
        self.issued_before_ms >= other.issued_before_ms && self.until_ms >= other.until_ms
    }
}

impl Invalidations {
    /// Adds a record; whether it says anything new. Of one holder a few are kept: beyond that the two oldest become one that
    /// voids what both do, for as long as either.
    pub(crate) fn add(&mut self, record: &Invalidation, now_ms: u64) -> bool {
        self.forget(now_ms);
        let held = self.by_holder.entry(record.holder.clone()).or_default();
        if record.until_ms <= now_ms || held.iter().any(|other| other.covers(record)) {
            if held.is_empty() {
                self.by_holder.remove(&record.holder);
            }
            return false;
        }
        let expiry =
            |record: &Invalidation| (record.until_ms, record.holder.clone(), record.issued_before_ms);
        held.retain(|other| !record.covers(other) || !self.expiries.remove(&expiry(other)));
        held.push(record.clone());
        self.expiries.insert(expiry(record));
        if held.len() > INVALIDATIONS_PER_HOLDER_MAX {
            // None covers another, so whoever voids less lasts longer.
            held.sort_by_key(|record| record.issued_before_ms);
            let less = held.remove(0);
            self.expiries.remove(&expiry(&less));
            if let Some(more) = held.first_mut() {
                self.expiries.remove(&expiry(more));
                more.until_ms = less.until_ms;
                self.expiries.insert(expiry(more));
            }
        }
        if self.expiries.len() > RECORDS_MAX {
            tracing::error!(most = RECORDS_MAX, "too many session invalidations: one is forgotten too soon");
            self.forget_first();
        }
        true
    }

    /// The record that voids a token of these holders, issued then.
    pub(crate) fn voiding<'a>(
        &self,
        mut holders: impl Iterator<Item = &'a str>,
        issued: Issued,
        now_ms: u64,
    ) -> Option<&Invalidation> {
        holders.find_map(|holder| {
            let issued_ms = issued.for_holder(holder);
            let voids =
                |record: &&Invalidation| issued_ms < record.issued_before_ms && now_ms < record.until_ms;
            self.by_holder.get(holder)?.iter().find(voids)
        })
    }

    /// How many hold.
    pub(crate) fn len(&self) -> usize {
        self.expiries.len()
    }

    fn forget(&mut self, now_ms: u64) {
        while self.expiries.first().is_some_and(|(until_ms, ..)| *until_ms <= now_ms) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let Some((_, holder, issued_before_ms)) = self.expiries.pop_first() else { return };
        let Some(held) = self.by_holder.get_mut(&holder) else { return };
        held.retain(|record| record.issued_before_ms != issued_before_ms);
        if held.is_empty() {
            self.by_holder.remove(&holder);
        }
    }
}
