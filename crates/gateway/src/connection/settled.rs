//! How much of what a connection was handed its user has surely taken, and what is left for one that is cut off.
//!
//! The transport says what is taken ([`Connection::settle`]); it alone can know.

use galaxy_push_core::cursor::Cursor;

use super::Connection;

/// How far a connection was handed things out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(super) position: Cursor,
    pub(super) handed: u64,
}

impl Connection {
    /// How far it was handed things out.
    pub(crate) fn mark(&self) -> Mark {
        Mark { position: self.reader.position(), handed: self.handed }
    }

    /// Everything up to this mark is taken.
    pub(crate) fn settle(&mut self, taken: Mark) {
        self.settled = taken;
    }

    /// Its user took nothing for too long, and is given up. One that a shutdown waits for is then cut off by it.
    pub(crate) fn gave_up(&self) {
        if self.seat.mailbox().leaving().is_some() {
            self.cut_off();
        }
    }

    /// Says once that the user has not taken everything, and what is left.
    pub(super) fn cut_off(&self) {
        let unread = match self.seat.mailbox().waiting() {
            Some(mail) if !self.scanning => (mail + self.inbox.len()) as u64,
            _ => self.edge.end().since(self.reader.next()),
        };
        let left = self.handed - self.settled.handed + unread;
        if left > 0 && self.seat.mailbox().cut_off() {
            self.edge.metrics.cut_off(&self.name(), self.settled.position, left);
        }
    }
}
