//! Who is told of which event: from recipients to connections.
//!
//! ```text
//! upstream ─► dispatch ─► Mailbox (numbers of entries, bounded) ─► one wake ─► the connection reads them in the window
//!                          └─ full ─► the connection scans the window from its own place, then joins again
//! ```
//!
//! The upstream handler alone dispatches; each connection holds a [`Seat`]. Nothing here holds an event: a mailbox is a
//! list of [`Slot`]s, and one that overflows is emptied, because its connection still knows its place in the window.
//!
//! Locks: the table, then one mailbox at a time under it. A connection that only takes its mail locks its mailbox alone.
//! The window's lock is never taken while one of them is held; a connection that reads the window may take the table's.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};

use galaxy_push_core::cursor::Cursor;
use galaxy_push_core::frame::EventView;
use galaxy_push_core::window::{Bounds, Slot};

use crate::state::counters::Counters;
use crate::state::standing::topic_of;
use crate::state::sync::{AtomicU64, RwLock, RwLockReadGuard, RwLockWriteGuard};

mod governed;
mod mailbox;
mod members;
mod seat;
#[cfg(test)]
mod tests;
#[cfg(all(test, shuttle))]
mod threads;

use governed::Governed;
pub(crate) use governed::Rule;
use mailbox::Pushed;
pub(crate) use mailbox::{Mailbox, Mailed, Taken};
use members::Members;
pub(crate) use seat::{Joined, Seat};

/// The recipient that is everybody.
const ALL: &str = "all";

/// All connections are told where they stand when this part of a window bound has passed since they last were.
const SWEEP_EVERY: u64 = 8;

/// How far the window has been dispatched: every entry before `slot` is in the mailboxes it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The first slot not dispatched.
    pub(crate) slot: Slot,
    /// The position known at that moment.
    pub(crate) cursor: Cursor,
}

/// One appended entry, as the dispatcher needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Letter<'a> {
    pub(crate) slot: Slot,
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
    sweep_after: Sweep,
    counters: Arc<Counters>,
    /// Rises with each change of the standing records, under the table's lock.
    version: AtomicU64,
}

/// Connections are numbered, and kept in that order, so that one run of events always wakes them alike.
type Mailboxes = BTreeMap<u64, Arc<Mailbox>>;

#[derive(Debug)]
struct Table {
    by_recipient: HashMap<Box<str>, Mailboxes, foldhash::quality::RandomState>,
    everybody: Mailboxes,
    members: Members,
    governed: Governed,
    dispatched: Place,
    /// The number of the present dispatch, so that each mailbox is woken once in it.
    batch: u64,
    next_id: u64,
    since_sweep: Sweep,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sweep {
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
            governed: Governed::default(),
            dispatched: Place { slot: Slot::default(), cursor: base },
            batch: 0,
            next_id: 0,
            since_sweep: Sweep::default(),
        };
        let sweep_after = Sweep { entries: bounds.events / SWEEP_EVERY, bytes: bounds.bytes / SWEEP_EVERY };
        let version = AtomicU64::new(0);
        Arc::new(Self { table: RwLock::new(table), mailbox_slots, sweep_after, counters, version })
    }

    /// How far the window has been dispatched.
    pub(crate) fn dispatched(&self) -> Place {
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

    /// Puts each letter into the mailboxes of its recipients, and wakes each of them once, unless all is held back. `upto` is the end of the
    /// window after these letters; called by one thread at a time, in the window's order.
    pub(crate) fn dispatch<'a>(&self, letters: impl IntoIterator<Item = Letter<'a>>, upto: Place) {
        let mut wakes = Wakes { woken: Vec::new(), batch: 0, limit: self.mailbox_slots, overflows: 0 };
        {
            let mut table = self.write();
            if table.governed.held_back {
                return;
            }
            table.batch += 1;
            wakes.batch = table.batch;
            for letter in letters {
                table.since_sweep.entries += 1;
                table.since_sweep.bytes += letter.bytes as u64;
                table.deliver(&letter, &mut wakes);
            }
            table.dispatched = upto;
            if std::mem::take(&mut table.governed.let_go) {
                // What was held back is in no mailbox.
                table.everybody.values().for_each(|mailbox| mailbox.scan());
                wakes.woken.extend(table.everybody.values().cloned());
            }
            table.sweep(self.sweep_after, &mut wakes);
        }
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
    fn push(&mut self, mailbox: &Arc<Mailbox>, mailed: Mailed) {
        match mailbox.push(mailed, self.limit, self.batch) {
            Pushed::Quietly => return,
            Pushed::Overflown => self.overflows += 1,
            Pushed::Wake => {}
        }
        self.woken.push(mailbox.clone());
    }
}

impl Table {
    fn deliver(&self, letter: &Letter<'_>, wakes: &mut Wakes) {
        let ephemeral = letter.event.is_some_and(|event| event.ephemeral());
        let mailed = Mailed { slot: letter.slot, ephemeral };
        let everybody = |wakes: &mut Wakes| {
            self.everybody.values().for_each(|mailbox| wakes.push(mailbox, mailed));
        };
        let Some(event) = letter.event else { return everybody(wakes) };
        for recipient in event.recipients() {
            if recipient == ALL {
                everybody(wakes);
            } else if let Some(mailboxes) = self.by_recipient.get(recipient) {
                mailboxes.values().for_each(|mailbox| wakes.push(mailbox, mailed));
            }
            if let Some(topic) = topic_of(recipient) {
                self.members.of(topic).for_each(|mailbox| wakes.push(mailbox, mailed));
            }
        }
    }

    /// A connection for which nothing came must not age out untold.
    fn sweep(&mut self, after: Sweep, wakes: &mut Wakes) {
        let since = self.since_sweep;
        if since.entries <= after.entries && since.bytes <= after.bytes {
            return;
        }
        self.since_sweep = Sweep::default();
        wakes.woken.extend(self.everybody.values().filter(|mailbox| mailbox.sweep()).cloned());
    }

    fn add<'a>(&mut self, id: u64, mailbox: &Arc<Mailbox>, recipients: impl Iterator<Item = &'a Box<str>>) {
        for recipient in recipients.filter(|recipient| &***recipient != ALL) {
            self.by_recipient.entry(recipient.clone()).or_default().insert(id, mailbox.clone());
        }
    }

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
