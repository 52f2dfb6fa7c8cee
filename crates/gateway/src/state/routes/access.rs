//! Standing records at the table: a change of access takes effect on all connections that it concerns, under the table's lock.
//!
//! A change is applied before the entries behind it are in the window. Entries in front of it may be dispatched before or
//! after, but before one that takes a topic away; [`Granted`](crate::state::standing::Granted) tells them apart by their slots:
//!
//! ```text
//! log             event 4    "ann leaves t"    event 5
//! dispatched      4, since ann was a member when it was appended
//! applied         ann's mailbox no longer receives t; the removal lies at slot 5
//! appended        5, which ann is not sent: 5 is not before the removal
//! ```
//!
//! Called by `edge`. It decides nothing about records: `standing` does.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use galaxy_push_core::window::Slot;
use galaxy_push_proto::v1::Membership;

use super::{Mailbox, Routes, Table};
use crate::state::grants::Issued;
use crate::state::refusal::Refusal;
use crate::state::standing::{Invalidation, Invalidations, MembershipChange, Memberships};

/// A change of who may receive what, or of whether anybody receives anything. In the order of the log.
#[derive(Clone, Debug)]
pub(crate) enum AccessChange {
    /// The window begins anew, and nobody belongs to any topic. Invalidations stay.
    Reset,
    /// This gateway no longer knows where it is in the log: nothing is dispatched from here on.
    PauseDelivery,
    /// A stream from the hub begins: what comes before [`ResumeDelivery`](Self::ResumeDelivery) may be late.
    BeginReplay,
    /// The log was read to its end: everything is dispatched.
    ResumeDelivery,
    /// Tokens that were issued before a moment are void.
    Invalidation(Invalidation),
    /// Somebody joins or leaves a topic.
    Membership(Membership),
    /// All memberships that hold, as the hub's `Standing` said: others are over.
    AllMemberships(Vec<Membership>),
}

/// The standing records that hold, and whether delivery is paused until they are known again.
#[derive(Debug, Default)]
pub(super) struct AccessState {
    pub(super) invalidations: Invalidations,
    pub(super) memberships: Memberships,
    /// Nothing is dispatched until the log was read to its end.
    pub(super) paused: bool,
    /// What was appended while delivery was paused is to be read: the next dispatch has everybody scan.
    pub(super) resuming: bool,
    /// The stream from the hub has not come to the log's end since it began.
    replaying: bool,
}

impl AccessState {
    /// Whether tokens of these holders, issued then, are good.
    ///
    /// # Errors
    ///
    /// They are void.
    pub(super) fn check(&self, holders: &[Box<str>], issued: Issued, now_ms: u64) -> Result<(), Refusal> {
        match self.invalidations.voiding(holders.iter().map(|holder| &**holder), issued, now_ms) {
            Some(record) => Err(Refusal::SessionInvalidated(record.reason.clone())),
            None => Ok(()),
        }
    }
}

impl AccessState {
    /// Dispatches nothing from here on, until the log was read to its end.
    fn pause(&mut self) {
        if !std::mem::replace(&mut self.paused, true) {
            tracing::info!("users wait until this gateway has caught up with the hub's log");
        }
    }

    /// Pauses delivery if what a stream brings late may be for somebody whose membership has expired meanwhile: the record that goes
    /// on with it, and makes that a doubt, is still to come.
    ///
    /// ```text
    /// the hub's log        event 4 for t    "ann is in t", anew
    /// here, cut off        ann's membership expires; then the stream resumes
    /// event 4 comes        she is no member: to hand it on now would be to pass it over in silence
    /// the record comes     she is one: whether event 4 was hers nobody can tell, which she is told once delivery resumes
    /// ```
    fn hold_back_in_doubt(&mut self) {
        if self.replaying && self.memberships.are_doubtful() {
            self.pause();
        }
    }
}

impl Routes {
    /// Applies these changes, each at the slot of the entry that follows it. `oldest` is the oldest slot held. Called by one
    /// thread at a time, in the window's order, before the entries are in the window.
    pub(crate) fn apply_access<'a>(
        &self,
        changes: impl IntoIterator<Item = (&'a AccessChange, Slot)>,
        end: Slot,
        oldest: Slot,
        now_ms: u64,
    ) {
        let mut table = self.write();
        // First: what has expired by now did so before what these changes bring.
        let expired = table.access.memberships.expire(end, now_ms);
        let mut changed = !expired.is_empty();
        table.apply_memberships(expired);
        for (change, at) in changes {
            changed = true;
            self.apply_change(&mut table, change, at, now_ms);
        }
        table.access.hold_back_in_doubt();
        table.access.memberships.forget_before(oldest);
        if changed {
            // Last, and under the table's lock: whoever sees this version and locks the table finds the records of it.
            self.version.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The log was read up to this time of the hub; `at` is the slot that the next entry will have.
    pub(crate) fn log_reached(&self, log_ms: u64, at: Slot) {
        if self.read().access.memberships.is_settled_by(log_ms) {
            self.write().access.memberships.log_reached(log_ms, at);
            self.version.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Applies one change. `at`: the slot that the next entry will have.
    fn apply_change(&self, table: &mut Table, change: &AccessChange, at: Slot, now_ms: u64) {
        let memberships = &mut table.access.memberships;
        let changes = match change {
            AccessChange::Reset => memberships.clear(),
            AccessChange::PauseDelivery => {
                memberships.position_lost(at);
                return table.access.pause();
            }
            AccessChange::BeginReplay => {
                table.access.replaying = true;
                return;
            }
            AccessChange::ResumeDelivery => {
                memberships.caught_up(at);
                table.access.replaying = false;
                table.access.resuming |= std::mem::take(&mut table.access.paused);
                return;
            }
            AccessChange::Invalidation(record) => return self.invalidate(table, record, now_ms),
            AccessChange::Membership(record) => {
                let changes = memberships.apply_record(record, at, now_ms);
                changes.into_iter().collect()
            }
            AccessChange::AllMemberships(records) => {
                let changes = memberships.replace_all(records, at, now_ms);
                let (memberships, invalidations) = (memberships.len(), table.access.invalidations.len());
                tracing::info!(memberships, invalidations, "the standing records are complete");
                self.counters.standing("REPLACED", 1);
                return table.apply_memberships(changes);
            }
        };
        for change in &changes {
            self.counters.standing(if change.holds { "JOINED" } else { "LEFT" }, 1);
        }
        table.apply_memberships(changes);
    }

    /// Remembers the record, and closes the connections whose tokens it voids.
    fn invalidate(&self, table: &mut Table, record: &Invalidation, now_ms: u64) {
        if !table.access.invalidations.add(record, now_ms) {
            return;
        }
        let mailboxes = table.by_recipient.get(&record.holder).into_iter().flat_map(|all| all.values());
        let ended = mailboxes.filter(|mailbox| mailbox.invalidate(record)).count();
        self.counters.standing("INVALIDATED", 1);
        tracing::info!(ended, "sessions were invalidated; their connections end");
    }

    /// How many session invalidations and memberships hold, and whether users wait.
    pub(crate) fn standing(&self) -> (usize, usize, bool) {
        let table = self.read();
        let access = &table.access;
        (access.invalidations.len(), access.memberships.len(), access.paused)
    }
}

impl Table {
    /// Has what is for a topic put into the mailboxes of the holder's connections, or no longer.
    fn apply_memberships(&mut self, all: Vec<MembershipChange>) {
        for MembershipChange { holder, topic, holds } in all {
            let Some(mailboxes) = self.by_recipient.get(&holder) else { continue };
            for (id, mailbox) in mailboxes {
                if holds {
                    self.members.add(&topic, key(*id, &holder), mailbox);
                } else {
                    self.members.remove(&topic, key(*id, &holder));
                }
            }
        }
    }

    /// A connection of these holders comes: it receives the topics that they belong to.
    pub(super) fn add_memberships(&mut self, id: u64, mailbox: &Arc<Mailbox>, holders: &[Box<str>]) {
        for holder in holders {
            for topic in self.access.memberships.topics(holder) {
                self.members.add(topic, key(id, holder), mailbox);
            }
        }
    }

    /// A connection of these holders goes.
    pub(super) fn remove_memberships(&mut self, id: u64, holders: &[Box<str>]) {
        for holder in holders {
            for topic in self.access.memberships.topics(holder) {
                self.members.remove(topic, key(id, holder));
            }
        }
    }
}

/// Names a connection as one of its two holders.
fn key(id: u64, holder: &str) -> u64 {
    id << 1 | u64::from(holder.starts_with("session:"))
}
