//! One connection's mailbox: the slots of the entries that concern it, bounded, and its wake-up.
//!
//! The dispatcher pushes, the connection receives; whoever has the mailbox can close the connection. It holds at most
//! `limit` slots of 16 bytes. It never waits, and never makes the dispatcher wait.
//!
//! | mode | what a push does |
//! |---|---|
//! | `Live` | keeps the slot; a full mailbox is emptied instead, and turns to `Scanning` |
//! | `Scanning` | nothing: the connection reads the window itself, and the slot would only repeat that |
//!
//! The connection goes live again under the table's lock, when it has read all that is dispatched.

use std::collections::VecDeque;
use std::sync::PoisonError;

use galaxy_push_core::cursor::Cursor;
use galaxy_push_core::reader::Expected;
use galaxy_push_core::window::Slot;
use tokio::sync::Notify;

use crate::state::close::{CloseReason, PendingClose};
use crate::state::grants::Issued;
use crate::state::standing::Invalidation;
use crate::state::sync::{Mutex, MutexGuard};

/// What the dispatcher and one connection share.
#[derive(Debug)]
pub(crate) struct Mailbox {
    queue: Mutex<Queue>,
    wake: Notify,
}

/// An entry that concerns a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueuedSlot {
    pub(crate) slot: Slot,
    /// Nobody is told if it is lost.
    pub(crate) ephemeral: bool,
}

/// Where the scan of a connection may begin whose mailbox was full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScanFrom {
    /// Nothing before this concerns it.
    pub(crate) first: Slot,
    /// Nothing before this concerns it but what is ephemeral, of which nobody is told if the window has let go of it.
    pub(crate) lasting: Slot,
}

/// What is behind the mailbox's lock.
#[derive(Debug)]
struct Queue {
    slots: VecDeque<QueuedSlot>,
    mode: Mode,
    /// After an overflow, until the connection has heard of it: the first slot that was in the mailbox. Nothing before it
    /// concerns the connection, so its scan may begin there.
    scan_from: Option<ScanFrom>,
    /// What its reader came with from another gateway, as long as nothing lay behind that: events up to there are not kept. Were they,
    /// and were they gone before they are read, their reader would be told of a gap over what it has.
    expected: Option<Expected>,
    /// The last slot put in, so that an event for several recipients of one connection is put in once.
    newest: Option<Slot>,
    /// The last dispatch that woke this connection.
    batch: u64,
    /// The connection is asked to say its position.
    progress_requested: bool,
    close_reason: Option<CloseReason>,
    /// To close once everything is delivered.
    pending_close: Option<PendingClose>,
    /// The log has said that the connection is cut off.
    cut_off: bool,
    /// The session was invalidated, whatever else ends the connection.
    void: bool,
    issued: Issued,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// The connection reads the window itself; slots would only repeat that.
    Scanning,
    Live,
}

/// What became of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PushResult {
    /// Nobody need be woken for it.
    NoWake,
    /// The connection must be woken.
    Wake,
    /// There was no room: the connection must be woken, and will scan.
    Overflowed,
}

/// What a connection received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Nothing, for it must scan: from there on, if that is known, since nothing before concerns the connection.
    Overflowed(Option<ScanFrom>),
    /// The slots, in order.
    Slots {
        /// It is asked to say its position, even if nothing came.
        progress_requested: bool,
    },
}

impl Mailbox {
    pub(super) fn new(issued: Issued) -> Self {
        let queue = Queue {
            slots: VecDeque::new(),
            mode: Mode::Scanning,
            scan_from: None,
            expected: None,
            newest: None,
            batch: 0,
            progress_requested: false,
            close_reason: None,
            pending_close: None,
            cut_off: false,
            void: false,
            issued,
        };
        Self { queue: Mutex::new(queue), wake: Notify::new() }
    }

    /// Keeps this slot, unless the mailbox has `limit` of them. `event`: the position of the event in it, if it is one. `batch`
    /// numbers the dispatch: one dispatch wakes a connection once.
    pub(super) fn push(
        &self,
        queued: QueuedSlot,
        event: Option<Cursor>,
        limit: usize,
        batch: u64,
    ) -> PushResult {
        let slot = queued.slot;
        let mut queue = self.lock();
        if queue.mode == Mode::Scanning || queue.newest == Some(slot) {
            return PushResult::NoWake;
        }
        if queue.expected.is_some_and(|expected| event.is_some_and(|event| expected.holds_back(event))) {
            return PushResult::NoWake;
        }
        queue.expected = None; // from here on the reader judges: a gap may lead back
        if queue.slots.len() >= limit {
            let first = queue.slots.front().map_or(slot, |first| first.slot);
            let lasting =
                queue.slots.iter().find(|queued| !queued.ephemeral).map_or(slot, |lasting| lasting.slot);
            queue.scan_from = Some(ScanFrom { first, lasting });
            // Not `clear`: a connection that scans needs no room for slots.
            queue.slots = VecDeque::new();
            queue.mode = Mode::Scanning;
            return PushResult::Overflowed;
        }
        queue.slots.push_back(queued);
        queue.newest = Some(slot);
        if std::mem::replace(&mut queue.batch, batch) == batch {
            PushResult::NoWake
        } else {
            PushResult::Wake
        }
    }

    /// Asks the connection to say its position. Whether it has to be asked: a scanning reader says so by itself.
    pub(super) fn request_progress(&self) -> bool {
        let mut queue = self.lock();
        queue.progress_requested = queue.mode == Mode::Live;
        queue.progress_requested
    }

    /// Moves all slots into `inbox`, which must be empty.
    pub(crate) fn receive(&self, inbox: &mut VecDeque<QueuedSlot>) -> Received {
        let mut queue = self.lock();
        if queue.mode == Mode::Scanning {
            return Received::Overflowed(queue.scan_from.take());
        }
        // Swapped, so that both lists keep their room and nothing is allocated under the lock.
        std::mem::swap(&mut queue.slots, inbox);
        Received::Slots { progress_requested: std::mem::take(&mut queue.progress_requested) }
    }

    /// Keeps slots from now on, but for those of events that the reader has. Call it under the table's lock, or what is dispatched
    /// meanwhile is missed.
    pub(super) fn go_live(&self, expected: Option<Expected>) {
        let mut queue = self.lock();
        queue.expected = expected;
        (queue.mode, queue.scan_from, queue.newest, queue.progress_requested) =
            (Mode::Live, None, None, false);
    }

    /// Forgets its slots: the connection reads the window itself.
    pub(super) fn start_scanning(&self) {
        let mut queue = self.lock();
        (queue.mode, queue.scan_from, queue.slots) = (Mode::Scanning, None, VecDeque::new());
    }

    /// How many entries wait in it.
    pub(super) fn len(&self) -> usize {
        self.lock().slots.len()
    }

    /// Whether the connection is live and has received everything.
    pub(super) fn is_idle(&self) -> bool {
        let queue = self.lock();
        queue.mode == Mode::Live && queue.slots.is_empty()
    }

    /// Closes the connection now. The first reason counts; whether this one is it.
    pub(crate) fn close(&self, reason: CloseReason) -> bool {
        let mut queue = self.lock();
        let first = queue.close_reason.is_none();
        queue.close_reason.get_or_insert(reason);
        // First: whom it wakes wants this lock.
        drop(queue);
        self.wake();
        first
    }

    /// Closes the connection once everything is delivered. The first call counts; whether this one is it.
    pub(crate) fn close_when_delivered(&self, pending: PendingClose) -> bool {
        let mut queue = self.lock();
        let first = queue.pending_close.is_none();
        queue.pending_close.get_or_insert(pending);
        drop(queue);
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
        let queue = self.lock();
        (queue.mode == Mode::Live).then_some(queue.slots.len())
    }

    /// Whether the connection is to close now, and why.
    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        self.lock().close_reason.clone()
    }

    /// Ends the connection if the record voids its token; whether it does.
    pub(super) fn invalidate(&self, record: &Invalidation) -> bool {
        let mut queue = self.lock();
        if queue.issued.for_holder_of_open(&record.holder) >= record.issued_before_ms {
            return false;
        }
        queue.void = true;
        drop(queue);
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

    /// Wakes the connection, now or when it next waits.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits for a wake-up; one that came while nobody waited counts. Cancel safe.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
