//! Standing records at the table: a record takes effect on all connections that it concerns, under the table's lock.
//!
//! A record is applied before the entries behind it are in the window. Those in front of it may be dispatched before or after,
//! but before one that takes a topic away; [`Granted`](crate::state::standing::Granted) tells them apart by their slots.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use galaxy_push_core::window::Slot;
use galaxy_push_proto::v1::Membership;

use super::{Mailbox, Routes, Table};
use crate::state::grants::Issued;
use crate::state::refusal::Refusal;
use crate::state::standing::{Invalidation, Invalidations, Memberships, Moved};

/// What upstream says about who may have what, in the order of the log.
#[derive(Clone, Debug)]
pub(crate) enum Rule {
    /// The window begins anew.
    Begin,
    /// The place in the log is lost: nothing is dispatched from here on.
    HoldBack,
    /// The log was read to its end: everything is dispatched.
    LetGo,
    /// Tokens are void.
    Invalidation(Invalidation),
    /// Somebody joins or leaves a topic.
    Membership(Membership),
    /// The memberships that hold: all of them.
    Standing(Vec<Membership>),
}

/// The records, and whether there is a hole in what is known of them.
#[derive(Debug, Default)]
pub(super) struct Governed {
    pub(super) invalidations: Invalidations,
    pub(super) memberships: Memberships,
    /// Nothing is dispatched until the place in the log is found again.
    pub(super) held_back: bool,
    /// What was held back is to be dispatched.
    pub(super) let_go: bool,
}

impl Governed {
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

impl Routes {
    /// Applies these rules, each at the slot of the entry that follows it. `oldest` is the oldest slot held. Called by one
    /// thread at a time, in the window's order, before the entries are in the window.
    pub(crate) fn govern<'a>(
        &self,
        rules: impl IntoIterator<Item = (&'a Rule, Slot)>,
        end: Slot,
        oldest: Slot,
        now_ms: u64,
    ) {
        let mut table = self.write();
        let expired = table.governed.memberships.expire(end, now_ms);
        let mut changed = !expired.is_empty();
        table.move_all(expired);
        for (rule, at) in rules {
            changed = true;
            self.apply(&mut table, rule, at, now_ms);
        }
        table.governed.memberships.forget_before(oldest);
        if changed {
            self.version.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn apply(&self, table: &mut Table, rule: &Rule, at: Slot, now_ms: u64) {
        let memberships = &mut table.governed.memberships;
        let moved = match rule {
            Rule::Begin => memberships.clear(),
            Rule::HoldBack => {
                if !std::mem::replace(&mut table.governed.held_back, true) {
                    tracing::info!("users wait until this gateway has caught up with the hub's log");
                }
                table.governed.memberships.lose(at);
                return;
            }
            Rule::LetGo => {
                memberships.caught_up(at);
                table.governed.let_go |= std::mem::take(&mut table.governed.held_back);
                return;
            }
            Rule::Invalidation(record) => return self.invalidate(table, record, now_ms),
            Rule::Membership(record) => {
                let moved = memberships.set(record, at, now_ms);
                moved.into_iter().collect()
            }
            Rule::Standing(records) => {
                let moved = memberships.replace(records, at, now_ms);
                let (memberships, invalidations) = (memberships.len(), table.governed.invalidations.len());
                tracing::info!(memberships, invalidations, "the standing records are complete");
                self.counters.standing("REPLACED", 1);
                return table.move_all(moved);
            }
        };
        for moved in &moved {
            self.counters.standing(if moved.holds { "JOINED" } else { "LEFT" }, 1);
        }
        table.move_all(moved);
    }

    fn invalidate(&self, table: &mut Table, record: &Invalidation, now_ms: u64) {
        if !table.governed.invalidations.add(record, now_ms) {
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
        let governed = &table.governed;
        (governed.invalidations.len(), governed.memberships.len(), governed.held_back)
    }
}

impl Table {
    fn move_all(&mut self, all: Vec<Moved>) {
        for Moved { holder, topic, holds } in all {
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

    pub(super) fn join_topics(&mut self, id: u64, mailbox: &Arc<Mailbox>, holders: &[Box<str>]) {
        for holder in holders {
            for topic in self.governed.memberships.topics(holder) {
                self.members.add(topic, key(id, holder), mailbox);
            }
        }
    }

    pub(super) fn leave_topics(&mut self, id: u64, holders: &[Box<str>]) {
        for holder in holders {
            for topic in self.governed.memberships.topics(holder) {
                self.members.remove(topic, key(id, holder));
            }
        }
    }
}

/// Names a connection as one of its two holders.
fn key(id: u64, holder: &str) -> u64 {
    id << 1 | u64::from(holder.starts_with("session:"))
}
