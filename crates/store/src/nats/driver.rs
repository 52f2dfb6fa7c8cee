//! What is done with a [`Door`] in which order, whatever brokers it is at.
//!
//! Pure. The I/O half drives a hub's door with it, and so does the simulation; each says by [`DriverIo`] what it works with. What was read
//! is in the sink before anybody is answered, and standing records are kept before they are in the sink. Nothing is handed on while it
//! is not known whom the other hubs have let in of late, nor while standing records may have been among messages that are lost.

use std::time::Duration;

use galaxy_push_core::cursor::Cursor;

use super::door::Door;
use super::pending::Sealed;
use super::state_machine::{Fatal, Message, Output, Read, Record};
use crate::{Appended, Error, Sink};

/// Without a sign of the leader for so long, the log may have gone on elsewhere.
pub const STALE_AFTER: Duration = Duration::from_secs(4);

/// What comes next of the stream.
#[derive(Clone, Debug)]
pub enum Next {
    /// Its next message.
    Message(Message),
    /// It has nothing behind what was read, its leader says.
    AtEnd,
    /// The messages up to this one are gone, its leader says, if they were not read: whether or not one comes behind them.
    Gone(u64),
}

/// What a [`Driver`] works with. `T` is to whom an answer goes.
pub trait DriverIo<T> {
    /// Who is told what was read.
    fn sink(&self) -> &dyn Sink;

    /// Whether the sink was told everything that was taken at other hubs until a moment ago.
    fn fence_is_known(&self) -> bool;

    /// Whether that was so within this time.
    fn fence_was_known_within(&self, time: Duration) -> bool;

    /// Keeps the records that were read in the log.
    fn keep(&mut self, records: &[Record]);

    /// Has all of the records read again from where they are kept. Returns what [`Driver::records_read`] is told once that is done.
    fn read_records_again(&mut self) -> u64;

    /// Whether what is sent now reaches a broker, as far as is known.
    fn is_connected(&self) -> bool;

    /// Sends a pack, behind those before it.
    ///
    /// # Errors
    ///
    /// It was surely not sent, and why.
    fn publish(&mut self, sealed: Sealed) -> Result<(), String>;

    /// Answers whoever waits.
    fn answer(&mut self, reply: T, answer: Result<Vec<Appended>, Error>);

    /// Up to this message everything was read, or is known to be lost.
    fn has_read(&mut self, message: u64);

    /// What a message turned out to be.
    fn has_judged(&mut self, _message: &Message, _read: &Read) {}

    /// Readers were told that everything up to here may be missing.
    fn has_lost(&mut self, _upto: Cursor) {}
}

/// A door, and what comes next. Every `now` is on the door's clock.
#[derive(Debug)]
pub struct Driver<T> {
    door: Door<T>,
    /// What was read and may not be handed on yet: the fence was not asked after it came, or is not known, or the standing records are
    /// read again.
    held: Option<Next>,
    /// Which reading of the standing records what is held waits for, and since when.
    waits_for: Option<(u64, Duration)>,
    /// The last message that there was in the stream when this hub began, until that was read.
    opening: Option<u64>,
    /// When there was a sign of the leader last.
    heard: Duration,
    told: Vec<Output>,
}

impl<T> Driver<T> {
    /// Begins to read a stream that ends with this message.
    #[must_use]
    pub const fn new(door: Door<T>, last: u64, now: Duration) -> Self {
        Self { door, held: None, waits_for: None, opening: Some(last), heard: now, told: Vec::new() }
    }

    /// The door.
    pub const fn door(&mut self) -> &mut Door<T> {
        &mut self.door
    }

    /// Whether what there was when this hub began is still being read.
    #[must_use]
    pub const fn is_opening(&self) -> bool {
        self.opening.is_some()
    }

    /// Whether something is held that was not handed on yet: take nothing more off the stream.
    #[must_use]
    pub const fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// Whether what is held waits for the records to be read again.
    #[must_use]
    pub const fn waits_for_records(&self) -> bool {
        self.waits_for.is_some()
    }

    /// A sign of the leader.
    pub const fn heard(&mut self, now: Duration) {
        self.heard = now;
    }

    /// Takes what comes next of the stream. If messages before it are lost, standing records may have been among them: these are read
    /// again from their bucket before anybody is told of the hole, and so is told what holds.
    pub fn hold(&mut self, next: Next, hands: &mut impl DriverIo<T>, now: Duration) {
        let has_lost = match &next {
            Next::Message(message) => message.number > self.door.last_read() + 1,
            Next::AtEnd => self.opening.is_some_and(|last| last > self.door.last_read()),
            Next::Gone(upto) => *upto > self.door.last_read(),
        };
        if has_lost {
            self.waits_for = Some((hands.read_records_again(), now));
        }
        self.held = Some(next);
    }

    /// All records were read again, up to what was asked by then.
    pub fn records_read(&mut self, upto: u64) {
        self.waits_for.take_if(|(asked, _)| *asked <= upto);
    }

    /// Whether what was read may be handed on: somebody may have been let in at another hub that is to have it instead of a stream
    /// here. While this hub reads what was there before it, it has no streams.
    pub fn may_read(&self, hands: &impl DriverIo<T>) -> bool {
        self.waits_for.is_none() && (self.opening.is_some() || hands.fence_is_known())
    }

    /// A turn, whatever has happened: hands on what may be handed on, sends what waits, and gives the answers.
    ///
    /// # Errors
    ///
    /// This hub cannot go on. [`Driver::end`] it.
    pub fn turn(&mut self, hands: &mut impl DriverIo<T>, now: Duration) -> Result<(), Fatal> {
        // Asked now, and not before it came: the connection may have become another one since.
        if self.may_read(hands)
            && let Some(next) = self.held.take()
        {
            self.read(next, hands, now)?;
        }
        // Before more is sent, since what nobody waits for need not travel. Answers come last: what they tell of is in the sink by then.
        self.door.expire(now);
        self.publish(hands, now);
        self.answer(hands);
        Ok(())
    }

    /// Whether nothing can be acknowledged at present, as far as is known.
    pub fn is_stale(&self, hands: &impl DriverIo<T>, now: Duration) -> bool {
        let ago = |then: Duration| now.saturating_sub(then);
        self.opening.is_none() && !hands.fence_was_known_within(STALE_AFTER)
            || self.waits_for.is_some_and(|(_, since)| ago(since) >= STALE_AFTER)
            || ago(self.heard) >= STALE_AFTER
    }

    /// Takes nothing any more, and answers everybody.
    pub fn end(&mut self, why: &str, hands: &mut impl DriverIo<T>) {
        self.door.end(why);
        self.answer(hands);
    }

    fn read(&mut self, next: Next, hands: &mut impl DriverIo<T>, now: Duration) -> Result<(), Fatal> {
        match next {
            Next::Message(message) => {
                self.heard = now;
                let read = self.door.read(&message, now, &mut self.told)?;
                hands.has_read(message.number);
                self.tell(hands);
                hands.has_judged(&message, &read);
                if self.opening.is_some_and(|last| message.number >= last) {
                    self.opened(hands);
                }
            }
            Next::AtEnd => {
                if let Some(last) = self.opening {
                    // What it had then is gone by now.
                    self.door.lost(last, &mut self.told);
                    self.tell(hands);
                    self.opened(hands);
                }
            }
            Next::Gone(upto) => {
                self.door.lost(upto, &mut self.told);
                hands.has_read(self.door.last_read());
                self.tell(hands);
                if self.opening.is_some_and(|last| upto >= last) {
                    self.opened(hands);
                }
            }
        }
        Ok(())
    }

    /// Everything that was there at the start was read.
    fn opened(&mut self, hands: &mut impl DriverIo<T>) {
        self.opening = None;
        self.door.caught_up(&mut self.told);
        self.tell(hands);
        hands.has_read(self.door.last_read());
    }

    fn tell(&mut self, hands: &mut impl DriverIo<T>) {
        let is_new = self.opening.is_none();
        for told in self.told.drain(..) {
            // [`Store::standing`](crate::Store::standing) promises that a record is there no later than the sink has it.
            if let Output::Records(records) = &told {
                hands.keep(records);
            }
            told.tell(hands.sink(), is_new);
            if let Output::Gap { to, .. } = told {
                hands.has_lost(to);
            }
        }
    }

    /// Sends what there is, unless there is no connection: what was not sent can be refused.
    fn publish(&mut self, hands: &mut impl DriverIo<T>, now: Duration) {
        while hands.is_connected() {
            let Some(sealed) = self.door.seal(now) else { return };
            let number = sealed.number;
            if let Err(why) = hands.publish(sealed) {
                self.door.refused(number, &why);
            }
        }
    }

    fn answer(&mut self, hands: &mut impl DriverIo<T>) {
        for (reply, answer) in self.door.take_answers() {
            hands.answer(reply, answer);
        }
    }
}

#[cfg(test)]
mod tests;
