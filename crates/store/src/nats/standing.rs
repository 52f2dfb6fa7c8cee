//! The standing records of a log that several hubs share: what holds by the log, and what of it stands in the bucket beside it.
//!
//! Pure. The log keeps records for minutes, and they hold for days. So whoever reads one sees to it that a bucket has it: a value
//! for each [`Matter`], which says what holds of it and up to where in the log. Of two that say whether somebody is in a topic the
//! one from further on is right, whichever hub wrote it; what another log has left holds until this one says something of the same
//! matter. Tokens that any of them voids are void. A hub that starts reads the bucket, and then what the log still has of later.
//!
//! It does not read or write the bucket: [`Records::step`] says what is to be written, and is told what was found there.

mod in_flight;
#[cfg(test)]
mod tests;
mod value;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use galaxy_push_core::cursor::{Cursor, Epoch, Seq};
use galaxy_push_core::frame::LogKind;

use super::Record;
use crate::Refused;
use crate::batch::Batch;
use crate::standing::{Count, Fill, Key, Matter, Page, Standing, is_over};

pub use in_flight::Ticket;
pub use value::{Kept, Value, key};

/// For how long it is kept that a membership has ended, in milliseconds: so that what a hub writes late does not begin it again.
/// The log itself has forgotten by then.
const ENDED_FOR_MS: u64 = 3_600_000;

/// The records of a log.
#[derive(Debug)]
pub struct Records {
    epoch: Epoch,
    records_max: usize,
    standing: Standing,
    known: BTreeMap<Matter, Known>,
    /// The matters of which something holds, by when they are over.
    over: BTreeSet<(i64, Matter)>,
    /// The memberships that have ended, by when that may be forgotten. As many at most as there may be records.
    ended: BTreeSet<(i64, Matter)>,
    in_flight: in_flight::InFlight,
}

/// What is known of a matter.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// Up to where in the log.
    at: Cursor,
    until_ms: i64,
    is_ended: bool,
    /// What was last seen of it in the bucket.
    stood: Option<Stood>,
}

/// What is in the bucket under a key.
#[derive(Clone, Copy, Debug)]
struct Stood {
    /// Which change of the bucket wrote it. 0: nothing is there.
    revision: u64,
    /// Up to where in the log it says what holds. `None`: it lacks something, or is no value of a hub.
    at: Option<Cursor>,
}

/// What is to be done so that something stands in the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it stands there, or nobody needs it any more.
    Stands,
    /// This value is to be written, if the last one still has this revision; 0: there is none.
    Write {
        /// The revision.
        revision: u64,
        /// What it says.
        value: Value,
    },
}

impl Records {
    /// For the log of this epoch: at most so many records of each kind.
    #[must_use]
    pub fn new(epoch: Epoch, records_max: usize) -> Self {
        Self {
            epoch,
            records_max,
            standing: Standing::new(records_max),
            known: BTreeMap::new(),
            over: BTreeSet::new(),
            ended: BTreeSet::new(),
            in_flight: in_flight::InFlight::default(),
        }
    }

    /// Takes the room for the records of a batch that is to be appended. `is_known`: they were published before, and have theirs.
    ///
    /// # Errors
    ///
    /// [`Refused`]: there is none. Append nothing of it.
    pub fn begin(&mut self, batch: &Batch, is_known: bool) -> Result<Ticket, Refused> {
        if !self.in_flight.has_room(batch) {
            let why = "as many standing records are on their way to the brokers as may be";
            return Err(Refused::Unavailable(why.to_owned()));
        }
        let changes = batch.items.iter().filter_map(|item| item.change.as_ref());
        let (share, wall_unix_ms) = (batch.publisher.as_ref(), batch.now.unix_ms);
        if !is_known {
            self.standing.check_behind(self.in_flight.changes(), changes, share, wall_unix_ms)?;
        }
        Ok(self.in_flight.begin(batch))
    }

    /// The records of a batch were read back, or it is known that they never are.
    pub fn read_back(&mut self, ticket: &Ticket) {
        self.in_flight.read_back(ticket);
    }

    /// Nobody waits for the batch any more.
    pub fn answered(&mut self, ticket: &Ticket) {
        self.in_flight.answered(ticket);
    }

    /// Applies what a record of the log changes. False: it changes nothing, because the bucket had what came behind it. What has expired
    /// is judged by the moment in which a hub took the record, so that all hubs come to the same; but not by a clock ahead of this one.
    pub fn apply(&mut self, record: &Record, now_unix_ms: u64) -> bool {
        let matter = record.change.matter();
        let is_superseded = |known: &Known| known.at.epoch == self.epoch && known.at.seq >= record.cursor.seq;
        if self.known.get(&matter).is_some_and(is_superseded) {
            return self.join_superseded(&matter, record, now_unix_ms);
        }
        if record.is_doubtful && !record.change.takes_away() {
            return false; // nobody is let into a topic by what may not count
        }
        let taken_ms = record.wall_unix_ms.min(now_unix_ms);
        self.standing.apply(&record.change, record.share.as_ref(), taken_ms);
        let known = self.known.get(&matter).copied();
        let stood = known.and_then(|known| known.stood);
        let until_ms = i64::try_from(taken_ms.saturating_add(ENDED_FOR_MS)).unwrap_or(i64::MAX);
        if !record.is_doubtful {
            self.keep(matter, record.cursor, stood, until_ms);
        } else if matches!(matter, Matter::Tokens(_)) {
            // What is believed is written, for the log lets go of it; but not that everything up to its place is known.
            let at = known.map_or(Cursor { epoch: self.epoch, seq: Seq(0) }, |known| known.at);
            self.keep(matter, at, stood.map(|stood| Stood { at: None, ..stood }), until_ms);
        }
        true
    }

    /// A record of the log that lies before what is known of its matter. Of a membership it says nothing new. A void of tokens is
    /// joined, for whoever wrote the value may have lost the record in a hole:
    ///
    /// - the log has a void of `user:1` at 1 and another at 2;
    /// - a hub that missed 1 writes what holds at 2 to the bucket, which has the second alone;
    /// - whoever reads that value first, and the log from 1 on then, applies both and writes both.
    ///
    /// What has expired by now is not begun again.
    fn join_superseded(&mut self, matter: &Matter, record: &Record, now_unix_ms: u64) -> bool {
        let Some(known) = self.known.get(matter).copied() else { return false };
        if !matches!(matter, Matter::Tokens(_)) {
            return false;
        }
        let before: Vec<Bytes> = self.standing.of(matter).map(|holding| holding.message.clone()).collect();
        self.standing.apply(&record.change, record.share.as_ref(), now_unix_ms);
        if self.standing.of(matter).all(|holding| before.contains(holding.message)) {
            return false; // another covers it, or it has expired
        }
        // The value lacks it now, though it is from further on.
        let stood = known.stood.map(|stood| Stood { at: None, ..stood });
        self.keep(matter.clone(), known.at, stood, known.until_ms);
        true
    }

    /// Takes what lies in the bucket under the key of its matter.
    pub fn found(&mut self, revision: u64, value: Value, wall_unix_ms: u64) {
        let Value { matter, at, until_ms, records } = value;
        let known = self.known.get(&matter).copied();
        let is_newer =
            known.is_none_or(|known| match (at.epoch == self.epoch, known.at.epoch == self.epoch) {
                (true, true) => at.seq > known.at.seq,
                (true, false) => true,
                (false, true) => false,
                (false, false) => known.stood.is_none_or(|stood| stood.revision < revision),
            });
        // Tokens that are void stay so, whoever has said it and missed what others say. Of a membership the last word counts.
        let is_tokens = matches!(matter, Matter::Tokens(_));
        if is_newer && !is_tokens {
            self.standing.drop_matter(&matter);
        }
        if is_newer || is_tokens {
            let changes =
                records.iter().filter_map(|kept| Some((kept.change(&matter)?, kept.share.as_ref())));
            changes.for_each(|(change, share)| self.standing.apply(&change, share, wall_unix_ms));
        }
        let is_there = |message: &Bytes| records.iter().any(|kept| kept.message == *message);
        let is_whole = !is_tokens || self.standing.of(&matter).all(|holding| is_there(holding.message));
        let (at_now, until_now) =
            known.filter(|_| !is_newer).map_or((at, until_ms), |known| (known.at, known.until_ms));
        self.keep(matter, at_now, Some(Stood { revision, at: is_whole.then_some(at) }), until_now);
    }

    /// Under the key of this matter lies nothing (revision 0), or what no hub wrote.
    pub fn missing(&mut self, matter: &Matter, revision: u64) {
        if let Some(known) = self.known.get_mut(matter) {
            // Where nothing is, the membership has ended as well.
            let at = (known.is_ended && revision == 0).then_some(known.at);
            known.stood = Some(Stood { revision, at });
        }
    }

    /// This hub has written a value.
    pub fn wrote(&mut self, matter: &Matter, revision: u64, at: Cursor) {
        if let Some(known) = self.known.get_mut(matter)
            && known.stood.is_none_or(|stood| stood.revision < revision)
        {
            known.stood = Some(Stood { revision, at: Some(at) });
        }
    }

    /// What is to be done so that what the log says of a matter up to here stands in the bucket.
    #[must_use]
    pub fn step(&self, matter: &Matter, upto: Cursor) -> Step {
        let Some(known) = self.known.get(matter) else { return Step::Stands };
        let holding: Vec<_> = self.standing.of(matter).collect();
        if holding.is_empty() && matches!(matter, Matter::Tokens(_)) {
            return Step::Stands; // they have expired
        }
        let covers = |stood: Cursor, at: Cursor| stood.epoch == at.epoch && stood.seq >= at.seq;
        let stood = known.stood.and_then(|stood| stood.at);
        if stood.is_some_and(|stood| covers(stood, upto) || covers(stood, known.at)) {
            return Step::Stands;
        }
        let records =
            holding.iter().map(|each| Kept { message: each.message.clone(), share: each.share.cloned() });
        let value = Value {
            matter: matter.clone(),
            at: known.at,
            until_ms: known.until_ms,
            records: records.collect(),
        };
        Step::Write { revision: known.stood.map_or(0, |stood| stood.revision), value }
    }

    /// All of the bucket was read, and these are its values: what is known of others there is forgotten. Returns what the log says
    /// and the bucket does not have.
    pub fn read_anew(&mut self, values: Vec<(u64, Value)>, wall_unix_ms: u64) -> Vec<Matter> {
        self.known.values_mut().for_each(|known| known.stood = None);
        for (revision, value) in values {
            self.found(revision, value, wall_unix_ms);
        }
        let mut lacking = Vec::new();
        for (matter, known) in &mut self.known {
            match known.stood {
                None if known.is_ended => known.stood = Some(Stood { revision: 0, at: Some(known.at) }),
                Some(stood) if stood.at == Some(known.at) => {}
                _ => lacking.push(matter.clone()),
            }
        }
        lacking
    }

    /// As [`Records::read_anew`], of the bucket that was read before, because messages of the log are lost. A membership that stood there
    /// and is gone has ended in one of them, and whoever knew that has let go of it since: it is not to be written again.
    /// `unreadable`: keys with values that say nothing to this hub; nobody has let go of these.
    pub fn read_behind_a_hole(
        &mut self,
        values: Vec<(u64, Value)>,
        unreadable: &BTreeSet<String>,
        wall_unix_ms: u64,
    ) -> Vec<Matter> {
        let there: BTreeSet<&Matter> = values.iter().map(|(_, value)| &value.matter).collect();
        // What this hub has read since in the log stands nowhere yet.
        let stood =
            |known: &Known| known.stood.is_some_and(|stood| stood.revision > 0 && stood.at == Some(known.at));
        let ended = self.known.iter().filter(|(matter, known)| {
            matches!(matter, Matter::Membership(..))
                && stood(known)
                && !there.contains(matter)
                && !unreadable.contains(&key(matter))
        });
        let ended: Vec<_> = ended.map(|(matter, _)| matter.clone()).collect();
        for matter in ended {
            self.standing.drop_matter(&matter);
            self.forget(&matter);
        }
        self.read_anew(values, wall_unix_ms)
    }

    /// Lets go of what nobody needs any more. Returns the revisions of its values in the bucket, which may be deleted there.
    pub fn let_go(&mut self, now_unix_ms: u64) -> Vec<u64> {
        let mut gone = Vec::new();
        let over = |first: Option<&(i64, Matter)>| {
            first.is_some_and(|(until_ms, _)| is_over(*until_ms, now_unix_ms))
        };
        while over(self.over.first()) {
            gone.extend(self.over.pop_first());
        }
        while over(self.ended.first()) || self.ended.len() > self.records_max {
            gone.extend(self.ended.pop_first());
        }
        let known = gone.iter().filter_map(|(_, matter)| self.known.remove(matter));
        known
            .filter_map(|known| known.stood)
            .map(|stood| stood.revision)
            .filter(|revision| *revision > 0)
            .collect()
    }

    /// Where this hub knows a matter to be. `None`: nowhere.
    #[must_use]
    pub fn at(&self, matter: &Matter) -> Option<Cursor> {
        self.known.get(matter).map(|known| known.at)
    }

    /// How many values the bucket should have at least.
    #[must_use]
    pub fn values(&self) -> usize {
        self.over.len()
    }

    /// As [`Store::standing`](crate::Store::standing).
    pub fn page(
        &mut self,
        after: Option<&Key>,
        bytes_max: usize,
        bytes_each: usize,
        now_unix_ms: u64,
    ) -> Page {
        self.standing.page(after, bytes_max, bytes_each, now_unix_ms)
    }

    /// How many hold now.
    pub fn count(&mut self, now_unix_ms: u64) -> Count {
        self.standing.count(now_unix_ms)
    }

    /// How full it is.
    pub fn fill(&mut self, kind: LogKind, publisher: Option<&str>, now_unix_ms: u64) -> Fill {
        self.standing.fill(kind, publisher, now_unix_ms)
    }

    /// Notes where a matter is. `until_ms`: until when that is needed, if nothing holds of it.
    fn keep(&mut self, matter: Matter, at: Cursor, stood: Option<Stood>, until_ms: i64) {
        self.forget(&matter);
        let holds_until = self.standing.of(&matter).map(|holding| holding.until_ms).max();
        let is_ended = holds_until.is_none() && matches!(matter, Matter::Membership(..));
        let until_ms = holds_until.unwrap_or(until_ms);
        let those = if is_ended { &mut self.ended } else { &mut self.over };
        those.insert((until_ms, matter.clone()));
        self.known.insert(matter, Known { at, until_ms, is_ended, stood });
    }

    fn forget(&mut self, matter: &Matter) {
        if let Some(before) = self.known.remove(matter) {
            let entry = (before.until_ms, matter.clone());
            self.over.remove(&entry);
            self.ended.remove(&entry);
        }
    }
}
