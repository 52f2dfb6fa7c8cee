//! How much of what a connection produced its user has surely received, and what is left for one that is cut off.
//!
//! The transport says what its peer has taken ([`Connection::confirm`]); it alone can know. Nothing is decided by it: it is
//! said in the log when a shutdown cuts a user off.

use galaxy_push_core::cursor::Cursor;

use super::Connection;

/// How much a connection has produced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    /// The last position of it.
    pub(super) position: Cursor,
    /// How many entries and frames that were.
    pub(super) produced: u64,
}

impl Connection {
    /// How much it has produced so far.
    pub(crate) fn mark(&self) -> Mark {
        Mark { position: self.reader.position(), produced: self.produced }
    }

    /// The user has received everything up to this mark.
    pub(crate) fn confirm(&mut self, received: Mark) {
        self.confirmed = received;
    }

    /// Its user took nothing for too long, and is waited for no longer. If a shutdown waited for it, that cuts it off.
    pub(crate) fn give_up(&self) {
        if self.registration.mailbox().pending_close().is_some() {
            self.cut_off();
        }
    }

    /// Says once in the log that the user has not received everything, and how much is left at most.
    ///
    /// Left are what was produced and not confirmed, and what lies ahead: by its mailbox if it is live, else everything up to
    /// the end of the window, of which it need not be sent all.
    pub(super) fn cut_off(&self) {
        let ahead = match self.registration.mailbox().waiting() {
            Some(queued) if !self.scanning => (queued + self.inbox.len()) as u64,
            _ => self.edge.end().since(self.reader.next()),
        };
        let left = self.produced - self.confirmed.produced + ahead;
        if left > 0 && self.registration.mailbox().cut_off() {
            self.edge.counters.cut_off(&self.name(), self.confirmed.position, left);
        }
    }
}
