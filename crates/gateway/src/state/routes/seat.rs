//! A connection's place in the table: what it receives, and its mailbox.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use galaxy_push_core::frame::EventView;
use galaxy_push_core::reader::{Entitled, Filter};
use galaxy_push_core::window::Slot;

use super::{ALL, Mailbox, Place, Routes};
use crate::state::grants::{Identity, Issued};
use crate::state::refusal::Refusal;
use crate::state::standing::{Granted, topic_of};

/// What one connection receives. Dropping it leaves the table.
#[derive(Debug)]
pub(crate) struct Seat {
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
pub(crate) enum Joined {
    /// From here: everything before it is known not to be for this connection.
    At(Place),
    /// From wherever the connection's reader stands: it must scan from there.
    Scanning,
}

impl Routes {
    /// Adds a connection, which has to scan the window first.
    ///
    /// # Errors
    ///
    /// Its session was invalidated.
    pub(crate) fn enter(
        self: &Arc<Self>,
        identity: &Identity,
        topics: impl IntoIterator<Item = String>,
        now_ms: u64,
    ) -> Result<Seat, Refusal> {
        let holders: Box<[Box<str>]> = identity.recipients().map(Box::from).collect();
        let asked = topics.into_iter().map(Box::from);
        let recipients: BTreeSet<Box<str>> =
            asked.chain(holders.iter().cloned()).chain([Box::from(ALL)]).collect();
        let mailbox = Arc::new(Mailbox::new(identity.issued));
        let mut table = self.write();
        table.governed.check(&holders, identity.issued, now_ms)?;
        let id = table.next_id;
        table.next_id += 1;
        table.everybody.insert(id, mailbox.clone());
        table.add(id, &mailbox, recipients.iter());
        table.join_topics(id, &mailbox, &holders);
        let version = self.version.load(Ordering::Acquire);
        let granted = table.governed.memberships.granted(holders.iter().map(|holder| &**holder), now_ms);
        drop(table);
        Ok(Seat { routes: self.clone(), id, mailbox, recipients, holders, granted, version })
    }

    /// Whether somebody's session still stands.
    ///
    /// # Errors
    ///
    /// It was invalidated.
    pub(crate) fn check(&self, identity: &Identity, now_ms: u64) -> Result<(), Refusal> {
        let holders: Box<[Box<str>]> = identity.recipients().map(Box::from).collect();
        self.read().governed.check(&holders, identity.issued, now_ms)
    }
}

impl Seat {
    /// A number that names this connection, in logs too.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// Looks up what has changed of the standing records; whether the connection may go on.
    ///
    /// Call it under the window's lock and before looking at entries: a record is known before any entry behind it is
    /// in the window, so that no event is judged by what was known before the record. `keeps_up`: what is looked at comes
    /// from the mailbox.
    pub(crate) fn renew(&mut self, now_ms: u64, keeps_up: bool) -> bool {
        let version = self.routes.version.load(Ordering::Acquire);
        if version == self.version {
            self.granted.at(now_ms, keeps_up);
            return true;
        }
        let table = self.routes.read();
        if self.mailbox.is_void() {
            return false; // and looks again if it is asked again
        }
        // A change that comes after this lock is one that comes after the look at the window, too.
        self.version = self.routes.version.load(Ordering::Acquire);
        self.granted =
            table.governed.memberships.granted(self.holders.iter().map(|holder| &**holder), now_ms);
        drop(table);
        self.granted.at(now_ms, keeps_up);
        true
    }

    /// Goes on with a token issued then.
    ///
    /// # Errors
    ///
    /// The session was invalidated for it, too.
    pub(crate) fn renew_token(&self, issued: Issued, now_ms: u64) -> Result<(), Refusal> {
        let table = self.routes.read();
        table.governed.check(&self.holders, issued, now_ms)?;
        self.mailbox.issued(issued);
        Ok(())
    }

    /// Ends scanning, if the reader has come to the end of what is dispatched: from then on the mailbox has everything.
    pub(crate) fn rejoin(&self, next: Slot) -> Option<Place> {
        // No dispatch can run meanwhile: it needs the table for itself.
        let table = self.routes.read();
        (next >= table.dispatched.slot).then(|| {
            self.mailbox.listen();
            table.dispatched
        })
    }

    /// Receives more. `idle` says that the connection has dealt with all it took from the mailbox.
    pub(crate) fn add(&mut self, recipients: impl IntoIterator<Item = String>, idle: bool) -> Joined {
        let added: Vec<Box<str>> = recipients.into_iter().map(Box::from).collect();
        let mut table = self.routes.write();
        table.add(self.id, &self.mailbox, added.iter());
        let joined = if idle && self.mailbox.is_idle() {
            Joined::At(table.dispatched)
        } else {
            self.mailbox.scan();
            Joined::Scanning
        };
        drop(table);
        self.recipients.extend(added);
        joined
    }

    /// Receives less. What already lies in the mailbox is filtered when it is read.
    pub(crate) fn remove(&mut self, recipients: impl IntoIterator<Item = String>) {
        let removed: Vec<Box<str>> = recipients.into_iter().map(Box::from).collect();
        self.routes.write().remove(self.id, removed.iter());
        for recipient in &removed {
            self.recipients.remove(recipient);
        }
    }
}

impl Filter for Seat {
    fn entitles(&self, event: EventView<'_>, slot: Slot) -> Entitled {
        if event.recipients().any(|recipient| self.recipients.contains(recipient)) {
            return Entitled::Yes;
        }
        self.granted.entitles(event.recipients().filter_map(topic_of), slot)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.routes.write();
        table.everybody.remove(&self.id);
        table.remove(self.id, self.recipients.iter());
        table.leave_topics(self.id, &self.holders);
    }
}
