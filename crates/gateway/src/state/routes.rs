//! Which connections an event is for: from recipients to mailboxes.
//!
//! ```text
//! upstream ─► dispatch ─► Mailbox (slots of entries, bounded) ─► one wake ─► the connection reads them in the window
//!                          └─ full ─► the connection scans the window from the first of these slots, then goes live again
//! ```
//!
//! The upstream handler alone dispatches; each connection holds a [`Registration`]. Nothing here holds an event: a mailbox is a
//! list of [`Slot`]s, and one that overflows is emptied, because its connection finds them again in the window.
//!
//! # Locks
//!
//! The table, then one mailbox at a time under it. A connection that empties its mailbox reads
//! [`Routes::dispatched`] just before, under the table's lock, then locks the mailbox alone. The window's
//! lock is never acquired while one of them is held; a connection that reads the window may lock the table.
//!
//! # Cost
//!
//! A dispatch costs one look-up for each recipient of an event, and one push for each connection found: it does not depend
//! on how many connections there are. Three things concern every connection: an event for `all` or a gap is pushed to each; each
//! time an eighth of a window bound has been dispatched, each is asked for progress; the first dispatch after a pause has each scan.
//!
//! It renders nothing and refuses by value ([`Refusal`](crate::state::refusal::Refusal)).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};

use galaxy_push_core::cursor::Cursor;
use galaxy_push_core::frame::EventView;
use galaxy_push_core::window::{Bounds, Slot};

use crate::state::counters::Counters;
use crate::state::standing::topic_of;
use crate::state::sync::{AtomicU64, RwLock, RwLockReadGuard, RwLockWriteGuard};

mod access;
mod mailbox;
mod members;
mod registration;
#[cfg(test)]
mod tests;
#[cfg(all(test, shuttle))]
mod threads;

pub(crate) use access::AccessChange;
use access::AccessState;
use mailbox::PushResult;
pub(crate) use mailbox::{Mailbox, QueuedSlot, Received};
use members::Members;
pub(crate) use registration::{Added, Registration};

/// The recipient that is everybody.
const ALL: &str = "all";

/// Each time an eighth of a window bound has been dispatched, all connections are asked to say their position: one for which
/// nothing comes must not fall out of the window without a word.
const PROGRESS_PARTS: u64 = 8;

/// How far the window has been dispatched: every entry before `slot` was pushed to the live connections that
/// it concerns. A connection that scans gets no slots: it reads the window itself, up to here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DispatchedUpTo {
    /// The first slot not dispatched.
    pub(crate) slot: Slot,
    /// The last position known to the window when that was so.
    pub(crate) cursor: Cursor,
}

/// One appended entry, as it is dispatched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dispatch<'a> {
    pub(crate) slot: Slot,
    pub(crate) cursor: Cursor,
    /// The length of its frame, in bytes.
    pub(crate) bytes: usize,
    /// The event that names its recipients; `None`: for everybody, as gaps are.
    pub(crate) event: Option<EventView<'a>>,
}

/// The table of all connections.
#[derive(Debug)]
pub(crate) struct Routes {
    table: RwLock<Table>,
    mailbox_slots: usize,
    progress_after: Volume,
    counters: Arc<Counters>,
    /// Rises with each change of the standing records, under the table's lock.
    version: AtomicU64,
}

/// Connections are numbered, and kept in that order, so that one run of events always wakes them alike.
type Mailboxes = BTreeMap<u64, Arc<Mailbox>>;

/// What is behind the table's lock.
#[derive(Debug)]
struct Table {
    /// Who receives what is for a user, a session, or a topic asked for.
    by_recipient: HashMap<Box<str>, Mailboxes, foldhash::quality::RandomState>,
    everybody: Mailboxes,
    /// Who receives what is for a topic by membership.
    members: Members,
    access: AccessState,
    dispatched: DispatchedUpTo,
    /// The number of the present dispatch, so that each mailbox is woken once in it.
    batch: u64,
    next_id: u64,
    /// What was dispatched since all connections were last asked for progress.
    since_progress: Volume,
}

/// So much of a log.
#[derive(Clone, Copy, Debug, Default)]
struct Volume {
    entries: u64,
    bytes: u64,
}

impl Routes {
    pub(crate) fn new(
        base: Cursor,
        bounds: Bounds,
        mailbox_slots: usize,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        let table = Table {
            by_recipient: HashMap::default(),
            everybody: Mailboxes::new(),
            members: Members::default(),
            access: AccessState::default(),
            dispatched: DispatchedUpTo { slot: Slot::default(), cursor: base },
            batch: 0,
            next_id: 0,
            since_progress: Volume::default(),
        };
        let progress_after =
            Volume { entries: bounds.events / PROGRESS_PARTS, bytes: bounds.bytes / PROGRESS_PARTS };
        let version = AtomicU64::new(0);
        Arc::new(Self { table: RwLock::new(table), mailbox_slots, progress_after, counters, version })
    }

    /// How far the window has been dispatched.
    pub(crate) fn dispatched(&self) -> DispatchedUpTo {
        self.read().dispatched
    }

    /// How many connections there are.
    pub(crate) fn len(&self) -> usize {
        self.read().everybody.len()
    }

    /// How many entries wait in the fullest mailbox.
    pub(crate) fn fullest(&self) -> usize {
        self.read().everybody.values().map(|mailbox| mailbox.len()).max().unwrap_or_default()
    }

    /// Every connection's mailbox, in the order in which they came.
    pub(crate) fn mailboxes(&self) -> Vec<Arc<Mailbox>> {
        self.read().everybody.values().cloned().collect()
    }

    /// Puts each entry's slot into the mailboxes of its recipients, and wakes each of them once. `upto` is the end of the
    /// window behind these entries. Called by one thread at a time, in the window's order, once the entries are in the window.
    ///
    /// While delivery is paused nothing is dispatched, and [`Routes::dispatched`] stays where it is. What was appended
    /// meanwhile is in no mailbox, so the first dispatch afterwards has every connection scan:
    ///
    /// ```text
    /// pause        dispatched: 5                      connections read up to 5
    /// append 5, 6  dispatch returns at once           nobody is woken
    /// resume, append 7   dispatched: 8, all scan      each reads 5, 6 and 7 in the window
    /// ```
    pub(crate) fn dispatch<'a>(
        &self,
        dispatches: impl IntoIterator<Item = Dispatch<'a>>,
        upto: DispatchedUpTo,
    ) {
        let mut wakes = Wakes { woken: Vec::new(), batch: 0, limit: self.mailbox_slots, overflows: 0 };
        {
            let mut table = self.write();
            if table.access.paused {
                return;
            }
            table.batch += 1;
            wakes.batch = table.batch;
            for dispatch in dispatches {
                table.since_progress.entries += 1;
                table.since_progress.bytes += dispatch.bytes as u64;
                table.deliver(&dispatch, &mut wakes);
            }
            table.dispatched = upto;
            if std::mem::take(&mut table.access.resuming) {
                // What was appended while delivery was paused is in no mailbox.
                table.everybody.values().for_each(|mailbox| mailbox.start_scanning());
                wakes.woken.extend(table.everybody.values().cloned());
            }
            table.request_progress(self.progress_after, &mut wakes);
        }
        // Without the table's lock: a connection that is woken may want it.
        self.counters.mailbox_overflows.inc_by(wakes.overflows);
        for mailbox in wakes.woken {
            mailbox.wake();
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whom one dispatch has to wake.
struct Wakes {
    woken: Vec<Arc<Mailbox>>,
    batch: u64,
    limit: usize,
    overflows: u64,
}

impl Wakes {
    fn push(&mut self, mailbox: &Arc<Mailbox>, queued: QueuedSlot, event: Option<Cursor>) {
        match mailbox.push(queued, event, self.limit, self.batch) {
            PushResult::NoWake => return,
            PushResult::Overflowed => self.overflows += 1,
            PushResult::Wake => {}
        }
        self.woken.push(mailbox.clone());
    }
}

impl Table {
    /// Puts one entry's slot into the mailboxes of its recipients. A mailbox that is found twice keeps it once.
    fn deliver(&self, dispatch: &Dispatch<'_>, wakes: &mut Wakes) {
        let ephemeral = dispatch.event.is_some_and(|event| event.ephemeral());
        let queued = QueuedSlot { slot: dispatch.slot, ephemeral };
        let position = dispatch.event.map(|_| dispatch.cursor);
        let everybody = |wakes: &mut Wakes| {
            self.everybody.values().for_each(|mailbox| wakes.push(mailbox, queued, position));
        };
        let Some(event) = dispatch.event else { return everybody(wakes) };
        for recipient in event.recipients() {
            if recipient == ALL {
                everybody(wakes);
            } else if let Some(mailboxes) = self.by_recipient.get(recipient) {
                mailboxes.values().for_each(|mailbox| wakes.push(mailbox, queued, position));
            }
            if let Some(topic) = topic_of(recipient) {
                self.members.of(topic).for_each(|mailbox| wakes.push(mailbox, queued, position));
            }
        }
    }

    /// Asks all connections for progress, if enough was dispatched since. One for which nothing came would otherwise fall
    /// out of the window, and be told of a gap in which nothing was for it.
    fn request_progress(&mut self, after: Volume, wakes: &mut Wakes) {
        let since = self.since_progress;
        if since.entries <= after.entries && since.bytes <= after.bytes {
            return;
        }
        self.since_progress = Volume::default();
        wakes.woken.extend(self.everybody.values().filter(|mailbox| mailbox.request_progress()).cloned());
    }

    /// Has what is for these recipients put into the mailbox, too.
    fn add<'a>(&mut self, id: u64, mailbox: &Arc<Mailbox>, recipients: impl Iterator<Item = &'a Box<str>>) {
        for recipient in recipients.filter(|recipient| &***recipient != ALL) {
            self.by_recipient.entry(recipient.clone()).or_default().insert(id, mailbox.clone());
        }
    }

    /// Undoes [`Table::add`].
    fn remove<'a>(&mut self, id: u64, recipients: impl Iterator<Item = &'a Box<str>>) {
        for recipient in recipients {
            let Some(mailboxes) = self.by_recipient.get_mut(recipient) else { continue };
            mailboxes.remove(&id);
            if mailboxes.is_empty() {
                self.by_recipient.remove(recipient);
            }
        }
    }
}
