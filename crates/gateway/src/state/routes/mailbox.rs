//! One connection's mailbox: the numbers of the entries that concern it, bounded, and its wake-up.

use std::collections::VecDeque;
use std::sync::PoisonError;

use galaxy_push_core::window::Slot;
use tokio::sync::Notify;

use crate::state::close::{CloseReason, PendingClose};
use crate::state::grants::Issued;
use crate::state::standing::Invalidation;
use crate::state::sync::{Mutex, MutexGuard};

/// What the dispatcher and one connection share.
#[derive(Debug)]
pub(crate) struct Mailbox {
    mail: Mutex<Mail>,
    wake: Notify,
}

/// An entry that concerns a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mailed {
    pub(crate) slot: Slot,
    /// Nobody is told if it is lost.
    pub(crate) ephemeral: bool,
}

#[derive(Debug)]
struct Mail {
    slots: VecDeque<Mailed>,
    mode: Mode,
    /// The first slot that there was no room to keep: nothing before it concerns the connection. While scanning.
    first: Option<Slot>,
    /// The last slot put in, so that an event for several recipients of one connection is put in once.
    newest: Option<Slot>,
    /// The last dispatch that woke this connection.
    batch: u64,
    /// The connection has to say where it stands.
    swept: bool,
    close_reason: Option<CloseReason>,
    /// To close once everything is delivered.
    pending_close: Option<PendingClose>,
    /// It was said that the connection is cut off.
    cut_off: bool,
    /// The session was invalidated, whatever else ends the connection.
    void: bool,
    issued: Issued,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// The connection reads the window itself; mail would only repeat that.
    Scanning,
    Listening,
}

/// What became of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// Nobody need be woken for it.
    Quietly,
    /// The connection must be woken.
    Wake,
    /// There was no room: the connection must be woken, and will scan.
    Overflown,
}

/// What a connection found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It must scan: from this slot on, if that is known, for nothing before it concerns the connection.
    Overflown(Option<Slot>),
    /// It has its mail.
    Mail {
        /// It must say where it stands even if nothing came.
        swept: bool,
    },
}

impl Mailbox {
    pub(super) fn new(issued: Issued) -> Self {
        let mail = Mail {
            slots: VecDeque::new(),
            mode: Mode::Scanning,
            first: None,
            newest: None,
            batch: 0,
            swept: false,
            close_reason: None,
            pending_close: None,
            cut_off: false,
            void: false,
            issued,
        };
        Self { mail: Mutex::new(mail), wake: Notify::new() }
    }

    pub(super) fn push(&self, mailed: Mailed, limit: usize, batch: u64) -> Pushed {
        let slot = mailed.slot;
        let mut mail = self.lock();
        if mail.mode == Mode::Scanning || mail.newest == Some(slot) {
            return Pushed::Quietly;
        }
        if mail.slots.len() >= limit {
            mail.first = Some(mail.slots.front().map_or(slot, |first| first.slot));
            mail.slots = VecDeque::new();
            mail.mode = Mode::Scanning;
            return Pushed::Overflown;
        }
        mail.slots.push_back(mailed);
        mail.newest = Some(slot);
        if std::mem::replace(&mut mail.batch, batch) == batch { Pushed::Quietly } else { Pushed::Wake }
    }

    /// Asks the connection to say where it stands; whether it needs to be asked.
    pub(super) fn sweep(&self) -> bool {
        let mut mail = self.lock();
        // A scanning reader says so by itself.
        mail.swept = mail.mode == Mode::Listening;
        mail.swept
    }

    /// Moves the mail into `inbox`, which must be empty.
    pub(crate) fn take(&self, inbox: &mut VecDeque<Mailed>) -> Taken {
        let mut mail = self.lock();
        if mail.mode == Mode::Scanning {
            return Taken::Overflown(mail.first.take());
        }
        std::mem::swap(&mut mail.slots, inbox);
        Taken::Mail { swept: std::mem::take(&mut mail.swept) }
    }

    pub(super) fn listen(&self) {
        let mut mail = self.lock();
        (mail.mode, mail.first, mail.newest, mail.swept) = (Mode::Listening, None, None, false);
    }

    pub(super) fn scan(&self) {
        let mut mail = self.lock();
        (mail.mode, mail.first, mail.slots) = (Mode::Scanning, None, VecDeque::new());
    }

    /// How many entries wait in it.
    pub(super) fn len(&self) -> usize {
        self.lock().slots.len()
    }

    /// Whether the connection has taken everything that was for it.
    pub(super) fn is_idle(&self) -> bool {
        let mail = self.lock();
        mail.mode == Mode::Listening && mail.slots.is_empty()
    }

    /// Closes the connection now. The first reason counts; whether this one is it.
    pub(crate) fn close(&self, reason: CloseReason) -> bool {
        let mut mail = self.lock();
        let first = mail.close_reason.is_none();
        mail.close_reason.get_or_insert(reason);
        drop(mail);
        self.wake();
        first
    }

    /// Closes the connection once everything is delivered. The first call counts; whether this one is it.
    pub(crate) fn close_when_delivered(&self, pending: PendingClose) -> bool {
        let mut mail = self.lock();
        let first = mail.pending_close.is_none();
        mail.pending_close.get_or_insert(pending);
        drop(mail);
        self.wake();
        first
    }

    /// Whether the connection is to close once everything is delivered.
    pub(crate) fn pending_close(&self) -> Option<PendingClose> {
        self.lock().pending_close.clone()
    }

    /// Says that the connection is cut off; whether it is the first to say so.
    pub(crate) fn cut_off(&self) -> bool {
        !std::mem::replace(&mut self.lock().cut_off, true)
    }

    /// How many entries wait for the connection here, if that is all that it has yet to be handed.
    pub(crate) fn waiting(&self) -> Option<usize> {
        let mail = self.lock();
        (mail.mode == Mode::Listening).then_some(mail.slots.len())
    }

    /// Whether the connection is to close now, and why.
    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        self.lock().close_reason.clone()
    }

    /// Ends the connection if the record voids its token; whether it does.
    pub(super) fn invalidate(&self, record: &Invalidation) -> bool {
        let mut mail = self.lock();
        if mail.issued.for_holder_of_open(&record.holder) >= record.issued_before_ms {
            return false;
        }
        mail.void = true;
        drop(mail);
        self.close(CloseReason::SessionInvalidated(record.reason.clone()))
    }

    /// Whether the session was invalidated.
    pub(super) fn is_void(&self) -> bool {
        self.lock().void
    }

    /// The token was replaced by one issued then.
    pub(super) fn issued(&self, issued: Issued) {
        self.lock().issued = issued;
    }

    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits for a wake-up; one that came while nobody waited counts. Cancel safe.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
