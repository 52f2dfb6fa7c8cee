//! A connection's registration at the table: what it receives, and its mailbox.
//!
//! Each connection holds one, and is in the table for as long. It is also the filter of the connection's reader: whether an
//! event is for this user is asked again when it is read, since topics and memberships may have changed on the way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use galaxy_push_core::frame::EventView;
use galaxy_push_core::reader::{Entitled, Expected, Filter};
use galaxy_push_core::window::Slot;

use super::{ALL, DispatchedUpTo, Mailbox, Routes};
use crate::state::grants::{Identity, Issued};
use crate::state::refusal::Refusal;
use crate::state::standing::{Granted, topic_of};

/// What one connection receives. Dropping it leaves the table.
#[derive(Debug)]
pub(crate) struct Registration {
    routes: Arc<Routes>,
    id: u64,
    mailbox: Arc<Mailbox>,
    /// `all`, who it is, and the topics it asked for.
    recipients: BTreeSet<Box<str>>,
    /// Who it is: its user and its session.
    holders: Box<[Box<str>]>,
    /// The topics it belongs to without asking, as of `version` of the routes.
    granted: Granted,
    version: u64,
}

/// From where recipients that were just added count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// From here: everything before it is known not to be for this connection.
    At(DispatchedUpTo),
    /// From the reader's own position: it must scan from there.
    MustScan,
}

impl Routes {
    /// Adds a connection, which has to scan the window first.
    ///
    /// # Errors
    ///
    /// [`Refusal::SessionInvalidated`]. The check and the registration are one step under the table's lock: a record comes
    /// before both and refuses the connection, or after both and closes it.
    pub(crate) fn register(
        self: &Arc<Self>,
        identity: &Identity,
        topics: impl IntoIterator<Item = String>,
        now_ms: u64,
    ) -> Result<Registration, Refusal> {
        let holders: Box<[Box<str>]> = identity.recipients().map(Box::from).collect();
        let asked = topics.into_iter().map(Box::from);
        let recipients: BTreeSet<Box<str>> =
            asked.chain(holders.iter().cloned()).chain([Box::from(ALL)]).collect();
        let mailbox = Arc::new(Mailbox::new(identity.issued));
        let mut table = self.write();
        table.access.check(&holders, identity.issued, now_ms)?;
        let id = table.next_id;
        table.next_id += 1;
        table.everybody.insert(id, mailbox.clone());
        table.add(id, &mailbox, recipients.iter());
        table.add_memberships(id, &mailbox, &holders);
        let version = self.version.load(Ordering::Acquire);
        let granted = table.access.memberships.granted(holders.iter().map(|holder| &**holder), now_ms);
        drop(table);
        Ok(Registration { routes: self.clone(), id, mailbox, recipients, holders, granted, version })
    }

    /// Whether somebody's session still stands.
    ///
    /// # Errors
    ///
    /// It was invalidated.
    pub(crate) fn check(&self, identity: &Identity, now_ms: u64) -> Result<(), Refusal> {
        let holders: Box<[Box<str>]> = identity.recipients().map(Box::from).collect();
        self.read().access.check(&holders, identity.issued, now_ms)
    }
}

impl Registration {
    /// A number that names this connection, in logs too.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// Brings what the memberships grant up to date. Whether the connection may go on: not if its session is void.
    ///
    /// Call it under the window's lock and before reading entries. A record is applied before any entry behind it is in the
    /// window, so no event is judged by what was known before the record. `is_live`: the entries come from the mailbox.
    ///
    /// It costs one atomic read while no standing record has changed.
    pub(crate) fn refresh_access(&mut self, now_ms: u64, is_live: bool) -> bool {
        let version = self.routes.version.load(Ordering::Acquire);
        if version == self.version {
            self.granted.at(now_ms, is_live);
            return true;
        }
        let table = self.routes.read();
        if self.mailbox.is_void() {
            return false; // and asks the table again if it is called again
        }
        // Under the table's lock: a change that comes after it comes after this reading of the window, too.
        self.version = self.routes.version.load(Ordering::Acquire);
        self.granted = table.access.memberships.granted(self.holders.iter().map(|holder| &**holder), now_ms);
        drop(table);
        self.granted.at(now_ms, is_live);
        true
    }

    /// Goes on with a newer token, issued then.
    ///
    /// # Errors
    ///
    /// The session was invalidated for it, too.
    pub(crate) fn replace_token(&self, issued: Issued, now_ms: u64) -> Result<(), Refusal> {
        let table = self.routes.read();
        table.access.check(&self.holders, issued, now_ms)?;
        self.mailbox.issued(issued);
        Ok(())
    }

    /// Ends scanning, if the reader has come to the end of what is dispatched: from then on the mailbox has everything.
    ///
    /// The comparison and the change of mode happen under the table's lock. Without it, an entry would be in neither:
    ///
    /// ```text
    /// connection   read everything before 7
    /// dispatcher   7 for this connection: its mailbox still scans, so the slot is not kept
    /// connection   goes live: 7 is in no mailbox, and behind what was scanned
    /// ```
    pub(crate) fn go_live(&self, next: Slot, expected: Option<Expected>) -> Option<DispatchedUpTo> {
        // No dispatch can run meanwhile: it locks the table for itself.
        let table = self.routes.read();
        (next >= table.dispatched.slot).then(|| {
            self.mailbox.go_live(expected);
            table.dispatched
        })
    }

    /// Receives more. `idle`: the connection has read all that it received from the mailbox.
    ///
    /// Then everything before this moment is known not to be for it, and the new recipients count from here. Otherwise it is
    /// somewhere in the window, and they count from there: what its mailbox has not named since must be scanned for.
    pub(crate) fn add(&mut self, recipients: impl IntoIterator<Item = String>, idle: bool) -> Added {
        let added: Vec<Box<str>> = recipients.into_iter().map(Box::from).collect();
        let mut table = self.routes.write();
        table.add(self.id, &self.mailbox, added.iter());
        // Still under the table's lock: nothing is dispatched between this look and the position that is answered.
        let joined = if idle && self.mailbox.is_idle() {
            Added::At(table.dispatched)
        } else {
            self.mailbox.start_scanning();
            Added::MustScan
        };
        drop(table);
        self.recipients.extend(added);
        joined
    }

    /// Receives less. What is in the mailbox already is filtered when it is read.
    pub(crate) fn remove(&mut self, recipients: impl IntoIterator<Item = String>) {
        let removed: Vec<Box<str>> = recipients.into_iter().map(Box::from).collect();
        self.routes.write().remove(self.id, removed.iter());
        for recipient in &removed {
            self.recipients.remove(recipient);
        }
    }
}

impl Filter for Registration {
    fn entitles(&self, event: EventView<'_>, slot: Slot) -> Entitled {
        if event.recipients().any(|recipient| self.recipients.contains(recipient)) {
            return Entitled::Yes;
        }
        self.granted.entitles(event.recipients().filter_map(topic_of), slot)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut table = self.routes.write();
        table.everybody.remove(&self.id);
        table.remove(self.id, self.recipients.iter());
        table.remove_memberships(self.id, &self.holders);
    }
}
