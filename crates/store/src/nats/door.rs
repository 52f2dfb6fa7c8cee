//! One hub's way to the log: what it reads, what it writes, and the answers. What the I/O half drives.

#[cfg(test)]
mod tests;

use std::time::Duration;

use galaxy_push_core::cursor::{Cursor, Epoch};

use super::claims::Bounds as ClaimBounds;
use super::pack::HubId;
use super::pending::{Limits, Pending, Sealed};
use super::state_machine::{Fatal, Message, Output, Read, StateMachine};
use crate::batch::Batch;
use crate::dedup::{Bounds as DedupBounds, Known};
use crate::{Appended, Error, Refused};

/// How a door is opened.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The log's: from the stream's metadata. Positions in it have holes ([`Epoch::with_holes`]).
    pub epoch: Epoch,
    /// Random, and never used before.
    pub hub: HubId,
    /// The number of the first message that the stream still has, or of the first that it will have. 1: none was ever there
    /// before it.
    pub first: u64,
    /// How long, and of how many keys, this hub knows what was published.
    pub dedup: DedupBounds,
    /// By what packs are judged. All hubs of a log have the same.
    pub claims: ClaimBounds,
    /// How much may wait and be under way.
    pub limits: Limits,
}

/// One hub's way to the log. Each reply `T` that is offered comes back with exactly one answer, from
/// [`Door::take_answers`].
///
/// Every `now` is on one monotonic clock of the caller, and never goes back.
#[derive(Debug)]
pub struct Door<T> {
    machine: StateMachine,
    hub: HubId,
    pending: Pending<T>,
    is_caught_up: bool,
    ended: Option<String>,
}

impl<T> Door<T> {
    /// Opens it. Nothing is read yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let Settings { epoch, hub, first, dedup, claims, limits } = settings;
        Self {
            machine: StateMachine::new(epoch, first, dedup, claims),
            hub,
            pending: Pending::new(hub, limits),
            is_caught_up: false,
            ended: None,
        }
    }

    /// Takes a batch to append. Batches are sent in the order in which they are offered. Refused at once is what is larger than a
    /// message may be, and everything before [`Door::caught_up`] or once too much waits. Whether there is room for standing records,
    /// [`Records`](super::standing::Records) knows.
    pub fn offer(&mut self, batch: Batch, reply: T, now: Duration) {
        let refused = if let Some(why) = &self.ended {
            Refused::Unavailable(why.clone())
        } else if !self.is_caught_up {
            Refused::Unavailable("this hub is reading what the log holds".to_owned())
        } else {
            return self.pending.push(batch, reply, now);
        };
        self.pending.refuse(reply, refused);
    }

    /// Answers a batch at once: there is no room for it.
    pub fn refuse(&mut self, reply: T, refused: Refused) {
        self.pending.refuse(reply, refused);
    }

    /// Whether something was published with the key that the records of this batch have together: it is answered without anything
    /// being appended.
    pub fn knows(&mut self, batch: &Batch, now: Duration) -> bool {
        let index = self.machine.index(now);
        batch.key.as_ref().is_some_and(|(key, content)| index.look_up(key, *content) != Known::No)
    }

    /// The next pack to publish; `None`: nothing waits, or enough is under way. Publish packs in the order in which they come from
    /// here, on one connection.
    pub fn seal(&mut self, now: Duration) -> Option<Sealed> {
        let (epoch, read) = (self.machine.epoch(), self.machine.last());
        self.pending.seal(epoch, read, self.machine.index(now))
    }

    /// The next message of the stream. Adds what readers are handed to `told`, and answers what came back with it.
    ///
    /// # Errors
    ///
    /// [`Fatal`]: this hub cannot go on. [`Door::end`] it.
    pub fn read(&mut self, message: &Message, now: Duration, told: &mut Vec<Output>) -> Result<Read, Fatal> {
        let read = self.machine.read(message, now, told)?;
        if let Read::Pack(judged) = &read
            && judged.hub == self.hub
        {
            self.pending.judged(judged.number, &judged.outcomes, self.machine.whole_from());
        }
        Ok(read)
    }

    /// Says that the messages up to this one are gone from the stream, if they were not read. A hole before a message that is
    /// read is noticed without it.
    pub fn lost(&mut self, upto: u64, told: &mut Vec<Output>) {
        self.machine.lost(upto, told);
    }

    /// What was in the stream when this hub began has been read: what comes is new, and batches are taken. After it
    /// [`Output::Begin`] has been told, if not before.
    pub fn caught_up(&mut self, told: &mut Vec<Output>) {
        self.is_caught_up = true;
        self.machine.caught_up(told);
    }

    /// A broker has stored this pack of the hub: another may be sent before it is read back.
    pub fn stored(&mut self, number: u64) {
        self.pending.stored(number);
    }

    /// This pack of the hub surely never comes: it was not sent, or no broker took it. Where that is not sure, say nothing:
    /// it is answered *unknown* in time, or as it should be if it comes.
    pub fn refused(&mut self, number: u64, why: &str) {
        self.pending.refused(number, why);
    }

    /// Answers whoever has waited for [`ANSWER_WITHIN`](super::ANSWER_WITHIN).
    pub fn expire(&mut self, now: Duration) {
        self.pending.expire(now);
    }

    /// When [`Door::expire`] has something to do. `None`: nobody waits.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Duration> {
        self.pending.next_expiry()
    }

    /// Takes nothing any more, and answers everybody.
    pub fn end(&mut self, why: &str) {
        self.pending.end(why);
        self.ended.get_or_insert_with(|| why.to_owned());
    }

    /// The answers that are due, each with its reply. Give them after what was told before is in the sink.
    pub fn take_answers(&mut self) -> Vec<(T, Result<Vec<Appended>, Error>)> {
        self.pending.take_answers()
    }

    /// The last message read, or known to be lost.
    #[must_use]
    pub const fn last_read(&self) -> u64 {
        self.machine.last()
    }

    /// The last position of a message: of the last one in the stream, the head of the log.
    #[must_use]
    pub fn end_of(&self, message: u64) -> Cursor {
        Cursor::end_of_message(self.machine.epoch(), message)
    }

    /// How many batches wait or are in flight.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.pending.len()
    }

    /// How far back this hub knows what was published.
    pub fn dedup_horizon(&mut self, now: Duration) -> Duration {
        self.machine.dedup_horizon(now)
    }

    /// Lets go of what is too old to matter.
    pub fn trim(&mut self, now: Duration) {
        self.machine.trim(now);
    }
}
